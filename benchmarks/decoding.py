"""How many training images one worker prepares in a second: biper against Pillow with transforms image by image.

Both read the same files and make the same random-resized crops and flips, in turns within one run and in one thread.
The median over the rounds is printed as a Markdown table. The time is processor time, so that other work on the machine
counts less.

    python benchmarks/decoding.py FOLDER --size 224 64 --rounds 15

*Plain* is the usual way: open, convert to RGB (which decodes every pixel), crop, resize, mirror, make a float tensor,
normalize, stack. *biper* decodes a JPEG at a lower resolution where the crop allows it, crops and resizes in one pass,
and returns bytes. The training process or the GPU normalizes whole batches; one column includes this time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, features
from PIL import __version__ as pillow_version
from records import tables
from records.rows import DecodingRow
from torch import Tensor

from biper.data.image_folder import FolderImages
from biper.data.settings import DataRecipe
from biper.data.specs import dataset_spec
from biper.data.stream import StreamedImages
from biper.data.transforms import normalize, random_box, seeded_generator
from biper.data.unreadable import UnreadableImages

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
MEAN, STD = dataset_spec("imagenet").mean, dataset_spec("imagenet").std


def plain(files: FolderImages, size: int, key: tuple[int, int, int]) -> Tensor:
    """Prepare all images once with Pillow and transforms image by image: (N, 3, size, size) float32, normalized."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    batch = []
    for number in files.shuffled(seeded_generator(*key)).tolist():
        numbers = torch.rand(44, generator=seeded_generator(*key, number), dtype=torch.float64).tolist()
        with open(files.name(number), "rb") as file:
            image = Image.open(file).convert("RGB")
        left, top, right, bottom = map(int, random_box(*image.size, SCALE, RATIO, numbers[4:]))
        image = image.crop((left, top, right, bottom)).resize((size, size), Image.Resampling.BILINEAR)
        if numbers[0] < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size, size, 3)
        batch.append(pixels.permute(2, 0, 1).contiguous().float().div(255).sub(mean).div(std))
    return torch.stack(batch)


def ours(files: FolderImages, size: int, key: tuple[int, int, int]) -> Tensor:
    """Prepare the same images with biper, as a worker returns them: (N, size, size, 3) uint8."""
    settings = DataRecipe(name="imagenet", batch_size=len(files), flip=True, crop_scale=SCALE, crop_ratio=RATIO)
    streamed = StreamedImages(files, size=size, workers=0, unreadable=UnreadableImages(0))
    return next(streamed.training_batches(settings, key))[0]


def ours_normalized(files: FolderImages, size: int, key: tuple[int, int, int]) -> Tensor:
    """Prepare the same images with biper, and normalize the whole batch: (N, 3, size, size) float32."""
    return normalize(ours(files, size, key), MEAN, STD)


WAYS: dict[str, Callable[[FolderImages, int, tuple[int, int, int]], Tensor]] = {
    "plain Pillow, image by image": plain,
    "biper, a worker's part": ours,
    "biper, normalized too": ours_normalized,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="class folders with pictures")
    parser.add_argument("--size", type=int, nargs="+", default=[224], help="pixels of the result, one table row each")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    files = FolderImages(options.folder)
    turbo = f"libjpeg-turbo {features.version('libjpeg_turbo')}" if features.check("libjpeg_turbo") else "libjpeg"
    print(
        f"`python {' '.join(sys.argv)}`: {len(files)} images, one thread, Pillow {pillow_version} ({turbo}), median of "
        f"{options.rounds} rounds in turns, images a second of processor time:\n"
    )
    print(tables.decoding([measure(files, size, options.rounds) for size in options.size]))


def measure(files: FolderImages, size: int, rounds: int) -> DecodingRow:
    """Measure how many images of ``size`` pixels each way prepares in a second; the ways take turns."""
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(-1, rounds):  # the first is thrown away: files come from the disk
        for name, way in WAYS.items():
            started = time.process_time()
            way(files, size, (0, 1, turn))
            if turn >= 0:
                rates[name].append(len(files) / (time.process_time() - started))
    of_plain, worker, normalized = (statistics.median(rates[name]) for name in WAYS)
    return DecodingRow(
        size=size,
        plain=of_plain,
        worker=worker,
        worker_ratio=worker / of_plain,
        normalized=normalized,
        normalized_ratio=normalized / of_plain,
    )


if __name__ == "__main__":
    main()
