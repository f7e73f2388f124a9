"""A packed model as a user meets it: load it, call it on images, ask it for classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biper.errors import BiperError, DataError, ModelFormatError
from biper.io.pictures import UNREADABLE, in_mode
from biper.runtime.bench import OperationTime, profile
from biper.runtime.engine import Engine, engine_is_built
from biper.runtime.program import Program
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference

BATCH = 64
"""Images that are computed at once; bounds the memory of a call on many."""


@dataclass(frozen=True)
class Prediction:
    """One class of one image: its name (or number), and its softmax probability, 0 to 1."""

    name: str
    probability: float


class Model:
    """A packed 1-bit model. Make one with `load`; calling it needs neither torch nor the network.

    Runs on the native engine, from any number of threads at once; where that is not built, in NumPy.
    """

    def __init__(self, program: Program, *, threads: int = 1) -> None:
        self.program = program
        self._engine = Engine(program, threads=threads) if engine_is_built() else None

    @classmethod
    def load(cls, source: str | PathLike[str] | bytes, *, verify: bool = True, threads: int = 1) -> Model:
        """Read a `.biper` file, or its bytes.

        Args:
            source: path, or the content.
            verify: compare the checksum; everything else about the file is checked in any case.
            threads: how many share the work of one call.

        Raises:
            ModelFormatError: the file cannot be read, is truncated, corrupt, or not a packed model.
        """
        if isinstance(source, bytes):
            return cls(read_program(source, verify=verify), threads=threads)
        try:
            return cls(read_program(Path(source), verify=verify), threads=threads)
        except ModelFormatError as error:
            raise ModelFormatError(f"{source}: {error}") from error

    def profile(self, rounds: int = 100) -> tuple[OperationTime, ...]:
        """How long each operation takes on one image: medians of ``rounds`` runs, in the order in which they run.

        Raises:
            BiperError: the native engine is not built.
        """
        if self._engine is None:
            raise BiperError("profiling needs the native engine, which this installation was built without")
        return profile(self.program, self._engine, rounds)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs; their numbers where the model has none."""
        return self.program.classes or tuple(map(str, range(int(np.prod(self.program.output_shape)))))

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs for a batch of images of the model's size.

        Args:
            images: uint8 (N, H, W, C), as pixels; or floating point (N, C, H, W), already normalized.

        Returns:
            (N, outputs) float32, or (N, C', H', W') for a model whose result is a map.

        Raises:
            DataError: another shape or type.
        """
        normalized = self._normalized(np.asarray(images))
        shape = self.program.output_shape
        result = np.empty((len(normalized), *shape), np.float32)
        for start in range(0, len(normalized), BATCH):
            part = slice(start, start + BATCH)
            if self._engine is not None:
                result[part] = self._engine(normalized[part])
            else:
                result[part] = run_reference(self.program, normalized[part])[self.program.output]
        return result.reshape(len(normalized), shape[0]) if shape[1:] == (1, 1) else result

    def predict(
        self, images: Sequence[str | PathLike[str] | Image.Image] | NDArray[Any], top_k: int = 1
    ) -> list[list[Prediction]]:
        """The ``top_k`` likeliest classes of each image, best first.

        Args:
            images: files or Pillow images of any format and size (resized to the model's), or an array as for a call.
            top_k: how many classes of each.

        Raises:
            DataError: an image cannot be read, or an array has another shape or type.
        """
        array = images if isinstance(images, np.ndarray) else np.stack([self.prepare(image) for image in images])
        logits = self(array).reshape(len(array), -1).astype(np.float64)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = weights / weights.sum(1, keepdims=True)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
        return [
            [Prediction(self.classes[index], float(row[index])) for index in chosen]
            for row, chosen in zip(probabilities, best, strict=True)
        ]

    def prepare(self, image: str | PathLike[str] | Image.Image) -> NDArray[np.uint8]:
        """One image as the pixels that the model takes: uint8 (H, W, C), in its colours, resized if it must be."""
        channels, height, width = self.program.input_shape
        if channels not in (1, 3):
            raise DataError(f"the model takes {channels} channels, which is no picture; call it with an array")
        try:
            opened = image if isinstance(image, Image.Image) else Image.open(image)
            picture = in_mode(opened, "L" if channels == 1 else "RGB")
        except UNREADABLE as error:
            raise DataError(f"cannot read the image {image}: {error}") from error
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(height, width, channels)

    def _normalized(self, images: NDArray[Any]) -> NDArray[np.float32]:
        channels, height, width = self.program.input_shape
        if images.dtype == np.uint8 and images.shape[1:] == (height, width, channels):
            mean = np.array(self.program.mean, np.float32)
            std = np.array(self.program.std, np.float32)
            pixels = images.astype(np.float32) * (1 / (255 * std)) - mean / std
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
        if np.issubdtype(images.dtype, np.floating) and images.shape[1:] == (channels, height, width):
            return images.astype(np.float32, copy=False)
        raise DataError(
            f"the model expects uint8 images (N, {height}, {width}, {channels}) or normalized floats "
            f"(N, {channels}, {height}, {width}), got {images.dtype} {images.shape}"
        )
