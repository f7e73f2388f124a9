"""Samples of a torch data set of the user's own, read by index, batch by batch.

Every random choice that a data set makes with the global generators of torch, NumPy or Python is a function of the
seed, the stage, the epoch and the index: the generators are seeded before each sample and put back after each part of a
batch.
Therefore augmentation resumes to the bit, and does not depend on the number of workers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from biper.data.stream import Chunk, Request, StreamedImages
from biper.data.transforms import seeded_generator
from biper.data.unreadable import UnreadableImages
from biper.errors import DataError
from biper.io.pictures import UNREADABLE, in_mode, upright

_GREY_MODES = ("1", "L", "LA", "La", "I", "F")


class Items:
    """A data set with ``__len__`` and ``__getitem__``, whose samples are checked to be alike.

    Args:
        source: gives a pair of a sample and a label for each index from 0 on. A sample is a picture of Pillow, pixels
            as uint8 ((C, H, W) as a tensor, (H, W, C) as an array, (H, W) for grey), or numbers, (C, H, W) or (C, L).
        what: what the samples are, for messages, such as ``"training"``.
        classes: how many classes there are; None does not check the labels.
        shape: the shape of every sample, (H, W, C) for pixels; None for that of the first sample.

    Raises:
        DataError: it is empty, or its first sample cannot be used.
    """

    def __init__(
        self, source: Any, what: str, classes: int | None = None, shape: tuple[int, ...] | None = None
    ) -> None:
        self.source, self.what, self.classes = source, what, classes
        self.count = len(source)
        if not self.count:
            raise DataError(f"the {what} set is empty")
        self.grey: bool | None = None
        with generators_kept():
            first, _ = self.read(0)
        self.dtype, self.shape = first.dtype, shape or tuple(first.shape)
        self._require_alike(0, first)

    def __len__(self) -> int:
        return self.count

    def name(self, number: int) -> str:
        return f"{self.what} sample {number}"

    def shuffled(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def sample(self, number: int) -> tuple[Tensor, int]:
        """A sample, like all others: pixels (H, W, C) uint8, or numbers (C, ...) float32; and its label.

        Raises:
            DataError: it cannot be read, or is another kind of sample than the first one.
        """
        sample, label = self.read(number)
        self._require_alike(number, sample)
        return sample, label

    def read(self, number: int) -> tuple[Tensor, int]:
        """A sample by itself; see `sample`."""
        try:
            item = self.source[number]
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{self.name(number)} cannot be read: {type(error).__name__}: {reason}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            kind = f"{len(item)} things" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
            raise DataError(f"{self.name(number)} is {kind}, expected a pair of a sample and a label")
        return self._tensor(item[0], number), self._label(item[1], number)

    def _tensor(self, value: Any, number: int) -> Tensor:
        if isinstance(value, Image.Image):
            if self.grey is None:
                self.grey = value.mode in _GREY_MODES or value.mode.startswith("I;")
            try:
                array = np.asarray(in_mode(upright(value), "L" if self.grey else "RGB"), np.uint8)
            except UNREADABLE as error:
                raise DataError(f"{self.name(number)} cannot be read: {error}") from error
            return torch.from_numpy(array.reshape(*array.shape[:2], -1).copy())
        if not isinstance(value, Tensor | np.ndarray):
            raise DataError(
                f"{self.name(number)} is a {type(value).__name__}, expected a tensor, an array or a picture of Pillow"
            )
        pixels = value.dtype in (torch.uint8, np.uint8)
        tensor = torch.as_tensor(value).detach().cpu()
        if pixels:
            if tensor.dim() == 2:
                return tensor[..., None]
            if tensor.dim() == 3:
                return tensor.permute(1, 2, 0).contiguous() if isinstance(value, Tensor) else tensor
        elif tensor.dim() in (2, 3) and not tensor.is_complex() and tensor.dtype != torch.bool:
            tensor = tensor.float()
            if not torch.isfinite(tensor).all():
                raise DataError(f"{self.name(number)} has values that are NaN or infinite")
            return tensor.contiguous()
        raise DataError(
            f"{self.name(number)} is {value.dtype} {tuple(value.shape)}, expected an image (C, H, W) or a signal (C, L)"
        )

    def _label(self, value: Any, number: int) -> int:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        if array.size != 1 or not np.issubdtype(array.dtype, np.integer):
            raise DataError(f"{self.name(number)} has the label {value!r}, expected an integer from 0 on"[:200])
        label = int(array.reshape(()))
        if label < 0 or (self.classes is not None and label >= self.classes):
            last = "on" if self.classes is None else f"to {self.classes - 1}"
            raise DataError(f"{self.name(number)} has the label {label}, expected one from 0 {last}")
        return label

    def _require_alike(self, number: int, sample: Tensor) -> None:
        if sample.dtype != self.dtype or tuple(sample.shape) != self.shape:
            raise DataError(
                f"{self.name(number)} is {_said(sample.dtype)} {tuple(sample.shape)}, others are {_said(self.dtype)} "
                f"{self.shape}: bring all samples to one size in your data set"
            )


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class ItemImages(StreamedImages):
    """A split whose samples are read from a data set of the user's own as they are needed.

    Args:
        items: the data set.
        workers: number of processes that read; 0 reads in this process.
    """

    def __init__(self, items: Items, *, workers: int = 0) -> None:
        self._begin(items, _ItemReader(items), workers, _NoneUnreadable())


class _NoneUnreadable(UnreadableImages):
    """Accepts no sample that cannot be read: unlike picture files, the user's own code can leave it out."""

    def add(self, name: str, reason: str) -> None:  # noqa: ARG002  the reason has it
        raise DataError(reason)


class _ItemReader(TorchDataset[Chunk]):
    """The data set of a worker process: it answers each request with samples."""

    def __init__(self, items: Items) -> None:
        self.items = items

    def __getitem__(self, request: Request) -> Chunk:
        samples = torch.empty((len(request.numbers), *self.items.shape), dtype=self.items.dtype)
        labels = torch.empty(len(request.numbers), dtype=torch.int64)
        with generators_kept():
            for place, number in enumerate(request.numbers):
                _seed_all(*request.key, number)
                try:
                    samples[place], labels[place] = self.items.sample(number)
                except DataError as error:  # as data: torch would write a worker's whole trace into the message
                    return Chunk(samples[:place], labels[:place], [(self.items.name(number), str(error))])
        return Chunk(samples, labels, [])


def _seed_all(*key: int) -> None:
    """Seed the global CPU generators of torch, NumPy and Python."""
    seed = seeded_generator(*key).initial_seed()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """A context after which the global CPU generators of torch, NumPy and Python are what they were."""
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
