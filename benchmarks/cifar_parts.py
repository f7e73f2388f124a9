"""CIFAR-10 in two small files, without loss, for a machine that has no network and takes only small files.

    python benchmarks/cifar_parts.py pack DATA_DIR PARTS         # PARTS/cifar10-1.zip and PARTS/cifar10-2.zip
    python benchmarks/cifar_parts.py unpack DATA_DIR PARTS/cifar10-1.zip PARTS/cifar10-2.zip

DATA_DIR holds the folder ``cifar-10-batches-bin``, or is that folder; `unpack` makes the folder there. Each part can be
unpacked alone, with the batches that it holds. The pixels of 400 images at a time are one column of 32 pixels' width,
which Pillow writes as lossless WebP. `pack` reads everything back before it ends. A part has the SHA-256 of each of
its files, and `unpack` writes no file that has another.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, features

FOLDER = "cifar-10-batches-bin"
RECORD = 1 + 3 * 32 * 32
"""Bytes of a label and the red, green and blue planes of an image."""

TOGETHER = 400
"""Images in one picture: a column of 12,800 pixels, below the 16,383 of WebP."""

INDEX = "index.json"


def encode(batch: bytes) -> tuple[bytes, list[bytes]]:
    """The labels of a batch, and its images as WebP pictures of at most `TOGETHER` images."""
    records = np.frombuffer(batch, np.uint8).reshape(-1, RECORD)
    images = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    pictures = []
    for begin in range(0, len(images), TOGETHER):
        stream = io.BytesIO()
        column = images[begin : begin + TOGETHER].reshape(-1, 32, 3)
        Image.fromarray(column).save(stream, "WEBP", lossless=True, quality=50, method=4)
        pictures.append(stream.getvalue())
    return records[:, 0].tobytes(), pictures


def decode(labels: bytes, pictures: list[bytes]) -> bytes:
    """The batch that `encode` was given."""
    columns = [np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in pictures]
    planes = np.concatenate(columns).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([np.frombuffer(labels, np.uint8)[:, None], planes], axis=1).tobytes()


def pack(data_dir: Path, out: Path) -> list[Path]:
    """Write the two parts of a data set, and read them back.

    Raises:
        ValueError: the folder holds no batches, or a part does not give the same bytes.
    """
    folder = data_dir / FOLDER if (data_dir / FOLDER).is_dir() else data_dir
    batches = sorted(folder.glob("*.bin"))
    if not batches:
        raise ValueError(f"{data_dir} has no CIFAR-10 batches: expected {FOLDER}/data_batch_1.bin and others")
    half = (len(batches) + 1) // 2
    names = folder / "batches.meta.txt"
    parts = []
    out.mkdir(parents=True, exist_ok=True)
    for number, files in enumerate(([*batches[:half], names], batches[half:]), 1):
        parts.append(out / f"cifar10-{number}.zip")
        _pack_files([file for file in files if file.exists()], parts[-1])
        read(parts[-1])
    return parts


def _pack_files(files: list[Path], part: Path) -> None:
    index: dict[str, dict[str, str | int]] = {}
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            content = file.read_bytes()
            index[file.name] = {"sha256": hashlib.sha256(content).hexdigest(), "pictures": 0}
            if file.suffix != ".bin":
                archive.writestr(file.name, content)
                continue
            labels, pictures = encode(content)
            index[file.name]["pictures"] = len(pictures)
            archive.writestr(f"{file.name}.labels", labels)
            for number, picture in enumerate(pictures):
                archive.writestr(f"{file.name}.{number}.webp", picture)
        archive.writestr(INDEX, json.dumps(index, indent=1))


def read(part: Path) -> dict[str, bytes]:
    """The files of a part by their names.

    Raises:
        ValueError: a file does not have its SHA-256.
    """
    found = {}
    with zipfile.ZipFile(part) as archive:
        for name, entry in json.loads(archive.read(INDEX)).items():
            if entry["pictures"]:
                pictures = [archive.read(f"{name}.{number}.webp") for number in range(entry["pictures"])]
                found[name] = decode(archive.read(f"{name}.labels"), pictures)
            else:
                found[name] = archive.read(name)
            if Path(name).name != name or hashlib.sha256(found[name]).hexdigest() != entry["sha256"]:
                raise ValueError(f"{part} is corrupt: {name} does not have the SHA-256 that it was packed with")
    return found


def unpack(parts: list[Path], data_dir: Path) -> Path:
    """Write the files of some parts into the folder of the data set, and return this folder."""
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, content in read(part).items():
            (folder / name).write_bytes(content)
    return folder


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("data_dir", type=Path)
    packing.add_argument("out", type=Path)
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("data_dir", type=Path)
    unpacking.add_argument("parts", type=Path, nargs="+")
    options = parser.parse_args()
    if not features.check("webp"):
        sys.exit("this Pillow was built without WebP: install one from PyPI")
    try:
        if options.command == "pack":
            for part in pack(options.data_dir, options.out):
                print(f"{part}: {part.stat().st_size / 2**20:.1f} MiB")
        else:
            print(unpack(options.parts, options.data_dir))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
