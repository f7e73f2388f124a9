"""Picture files for tests, made by Pillow from seeds: they all differ, and are quick to make."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def ramp(width: int, height: int) -> Image.Image:
    """A picture whose red rises from 0 to 255 from left to right, and whose green does from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).round()
    pixels[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return Image.fromarray(pixels)


def picture(seed: int, width: int = 60, height: int = 40) -> Image.Image:
    """A picture of random colours, about as smooth as a photograph."""
    small = np.random.default_rng(seed).integers(256, size=(6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The content of the picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_folder(root: Path, classes: tuple[str, ...], count: int, seed: int = 0) -> Path:
    """Make class folders with ``count`` JPEG files each."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.JPEG").write_bytes(encoded(picture(seed + 1000 * place + number)))
    return root


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Make a tar file with these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
