"""Compares a trained model with its packed file, image by image over a whole test set.

    python benchmarks/packed_against_torch.py RUN [--data-dir DATA] [--threads 1]

RUN is a run folder with model.safetensors and model.biper. Prints a Markdown table of the top-1 accuracy of both, and
every image on which they disagree, with the margin of each: the distance between the first and the second output. In
float32 a value within rounding of zero may become another bit in torch or in the packed program; for each such image,
the model in float64 shows which of the two is right.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch

from biper.data import load_dataset
from biper.data.batches import evaluation_batches
from biper.models.saved import load_model
from biper.nn import set_stage_
from biper.runtime import Model

ROUNDING = 1e-5
"""Outputs that differ by more than this share of the largest output have a flipped bit."""


def margins(logits: np.ndarray) -> np.ndarray:
    """The distance between the two largest outputs of each image."""
    ordered = np.sort(logits, 1)
    return ordered[:, -1] - ordered[:, -2]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, info = load_model(options.run / "model.safetensors")
    set_stage_(model, "binary")
    packed = Model.load(options.run / "model.biper", threads=options.threads)
    test = load_dataset(info.dataset, options.data_dir).split("test")
    exact = copy.deepcopy(model).double()
    both, all_labels = [], []
    with torch.inference_mode():
        for images, labels in evaluation_batches(test, info.mean, info.std):
            images = images.contiguous()
            all_labels.append(labels.numpy())
            logits, packed_logits = model(images).numpy(), packed(images.numpy())
            apart = np.flatnonzero(np.abs(logits - packed_logits).max(1) > ROUNDING * np.abs(logits).max())
            truth = np.full(logits.shape, np.nan)
            truth[apart] = exact(images[apart].double()).numpy()
            both.append((logits, packed_logits, truth))
    real, bits, truth = (np.concatenate(side) for side in zip(*both, strict=True))
    labels, scale = np.concatenate(all_labels), np.abs(real).max()
    flipped = ~np.isnan(truth[:, 0])
    print("| | torch | packed |\n| --- | --- | --- |")
    print(f"| right of {len(labels):,} | {(real.argmax(1) == labels).sum():,} | {(bits.argmax(1) == labels).sum():,} |")
    agree = [int((np.abs(side - truth)[flipped].max(1, initial=0) < ROUNDING * scale).sum()) for side in (real, bits)]
    print(f"| of the {flipped.sum()} images with a bit flipped by rounding: as in float64 | {agree[0]} | {agree[1]} |")
    print(f"\nAll other outputs differ by at most {np.abs(real - bits)[~flipped].max() / scale:.1e} of the largest.")
    for index in np.flatnonzero(real.argmax(1) != bits.argmax(1)):
        row = f"image {index}: label {labels[index]}"
        for name, side in (("torch", real), ("packed", bits), ("float64", truth)):
            row += f"; {name} {side[index].argmax()}, margin {margins(side[index : index + 1])[0]:.3f}"
        print(row)


if __name__ == "__main__":
    main()
