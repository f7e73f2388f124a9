"""What a model predicts whose output is a map: values for each place of a picture, for example its segmentation."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biper.errors import DataError
from biper.io.files import atomic_write

_MAX_CLASSES = 256


def is_map(shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape is a map: (C, H, W) with more than one place."""
    return len(shape) == 3 and math.prod(shape[1:]) > 1


@dataclass(frozen=True)
class PredictedMap:
    """The map that a model predicts for a picture. It has a size of its own, which the network decides.

    With several channels each place belongs to one of as many classes, and the channels are their logits. With one
    channel the value of a place is the logit of "yes".

    Attributes:
        values: the outputs of the model, (C, H, W) float32.
        classes: the names of the channels, or their numbers as text; one channel without a name is ``"positive"``.
    """

    values: NDArray[np.float32]
    classes: tuple[str, ...]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The softmax over the channels, or the sigmoid of one channel: (C, H, W) float32, 0 to 1."""
        if len(self.values) == 1:
            return sigmoid(self.values)
        weights = np.exp(self.values - self.values.max(0))
        return np.asarray(weights / weights.sum(0), np.float32)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The number of the class of each place, (H, W): the channel of the largest value, or 1 where one channel is at
        least 0, and else 0."""
        if len(self.values) == 1:
            return np.asarray(self.values[0] >= 0, np.int64)
        return np.asarray(self.values.argmax(0), np.int64)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the places that belong to each class, by its name, 0 to 1."""
        if len(self.values) == 1:
            return {self.classes[0]: float(self.labels.mean())}
        counts = np.bincount(self.labels.reshape(-1), minlength=len(self.classes))
        return {name: float(count) / self.labels.size for name, count in zip(self.classes, counts, strict=True)}

    def picture(self) -> Image.Image:
        """The map as a picture of the map's size.

        - Several channels: mode ``"P"``. A pixel is the number of its class, and a palette shows each class in a colour
          of its own; class 0 is black.
        - One channel: mode ``"L"``. A pixel is ``255 * probability``, rounded.

        Raises:
            DataError: the map has more than 256 classes.

        Source: the palette is that of M. Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010.
        """
        if len(self.values) == 1:
            return Image.fromarray(np.rint(255 * self.probabilities[0]).astype(np.uint8))
        if len(self.values) > _MAX_CLASSES:
            raise DataError(
                f"a picture shows up to {_MAX_CLASSES} classes, this map has {len(self.values)}: use labels"
            )
        image = Image.fromarray(self.labels.astype(np.uint8), "L")
        image.putpalette([part for number in range(_MAX_CLASSES) for part in class_colour(number)])
        return image

    def save(self, path: str | PathLike[str]) -> None:
        """Write `picture` to a PNG file; the folder is made if it does not exist.

        Raises:
            DataError: the name does not end with ``.png``, the map has too many classes, or the file cannot be written.
        """
        file = require_png(path)
        content = io.BytesIO()
        self.picture().save(content, "PNG")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, content.getvalue())
        except OSError as error:
            raise DataError(f"cannot write {file}: {error.strerror or error}") from error


def require_png(path: str | PathLike[str]) -> Path:
    """The file of a map.

    Raises:
        DataError: its name does not end with ``.png``.
    """
    file = Path(path)
    if file.suffix.lower() != ".png":
        raise DataError(f"a map is written as a PNG picture: expected a name that ends with .png, got {file}")
    return file


def sigmoid(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """``1 / (1 + exp(-logits))`` for logits of any size, as float32."""
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def class_colour(number: int) -> tuple[int, int, int]:
    """The (red, green, blue) of a class: the bits of its number, dealt to the three in turn, the lowest first."""
    parts = [0, 0, 0]
    for place in range(8):
        for part in range(3):
            parts[part] |= (number >> (3 * place + part) & 1) << (7 - place)
    return parts[0], parts[1], parts[2]
