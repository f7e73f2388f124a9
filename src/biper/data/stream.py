"""Images that are decoded batch by batch, in worker processes, from class folders or tar shards.

The pixels depend on the seed, the stage, the epoch and the image alone: not on the number of workers, how they are
started, or which of them decodes an image.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from biper.data.dataset import Batch, Images, Split
from biper.data.settings import DataRecipe
from biper.data.share import ALL, Share
from biper.data.transforms import EVALUATION_CROP, decode_for_evaluation, decode_for_training, seeded_generator
from biper.data.unreadable import UnreadableImages
from biper.data.workers import one_line_worker_errors, worker_loader
from biper.errors import DataError
from biper.io.pictures import UNREADABLE

CHUNK = 32
"""Number of images that a worker decodes at a time: a part of a batch, so that all workers share each batch."""


class Numbered(Protocol):
    """Things by index. It is sent to each worker, so it is small and holds no open file."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """The name of a thing in messages."""

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """All indices in a random order, (N,) int64."""


class EncodedImages(Numbered, Protocol):
    """Picture files by index."""

    labels: NDArray[np.int64]

    def read(self, number: int) -> bytes:
        """The content of a picture's file.

        Raises:
            OSError: the file cannot be read.
        """


class Request(NamedTuple):
    """Some images of a batch, and how to read them."""

    numbers: list[int]
    settings: DataRecipe | None
    """The augmentation; None decodes for evaluation."""
    key: tuple[int, ...]
    """Seed, stage and epoch of training; empty for evaluation."""


class Chunk(NamedTuple):
    """The answer to a request: the images that can be read, and the names of the others with the reasons."""

    images: Tensor
    labels: Tensor
    unreadable: list[tuple[str, str]]


class _Decoder(TorchDataset[Chunk]):
    """The data set of a worker process: it answers each request with decoded images."""

    def __init__(self, source: EncodedImages, size: int, evaluation_crop: float) -> None:
        self.source, self.size, self.evaluation_crop = source, size, evaluation_crop

    def __getitem__(self, request: Request) -> Chunk:
        numbers = request.numbers
        pixels = np.empty((len(numbers), self.size, self.size, 3), np.uint8)
        kept: list[int] = []
        unreadable: list[tuple[str, str]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Pillow warns of unusual metadata, which is not used
            for place, number in enumerate(numbers):
                others = [] if request.settings is None else [*numbers[place + 1 :], *numbers[:place]]
                for candidate in (number, *others):  # in training another image replaces it, to keep the batch size
                    try:
                        pixels[len(kept)] = self._decode(candidate, request, number)
                    except UNREADABLE as error:
                        unreadable.append((self.source.name(candidate), str(error) or type(error).__name__))
                    else:
                        kept.append(candidate)
                        break
        images, labels = torch.from_numpy(pixels[: len(kept)]), torch.from_numpy(self.source.labels[kept])
        return Chunk(images, labels, unreadable)

    def _decode(self, number: int, request: Request, place: int) -> NDArray[np.uint8]:
        """Decode picture ``number`` with the random choices that belong to picture ``place``."""
        blob = self.source.read(number)
        if request.settings is None:
            return decode_for_evaluation(blob, self.size, self.evaluation_crop)
        return decode_for_training(blob, self.size, request.settings, seeded_generator(*request.key, place))


class _Requests:
    """The requests of a loader. They are replaced before each pass, so that the workers survive from pass to pass."""

    def __init__(self) -> None:
        self.pending: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.pending


class StreamedImages(Images):
    """A split whose images are decoded as they are needed.

    Args:
        source: the picture files.
        size: height and width to which they are resized, in pixels.
        workers: number of processes that decode; 0 decodes in this process.
        unreadable: counts the images that cannot be read.
        evaluation_crop: ``crop`` of `biper.data.transforms.decode_for_evaluation`.
        start_method: how worker processes are started, ``"fork"`` or ``"spawn"``; default that of the platform.

    Raises:
        DataError: (raised while batches are made) too many images cannot be read, or a worker process died.
    """

    evaluation_batch = 128

    def __init__(
        self,
        source: EncodedImages,
        *,
        size: int,
        workers: int,
        unreadable: UnreadableImages,
        evaluation_crop: float = EVALUATION_CROP,
        start_method: str | None = None,
    ) -> None:
        self._begin(source, _Decoder(source, size, evaluation_crop), workers, unreadable, start_method)

    def _begin(
        self,
        source: Numbered,
        reader: TorchDataset[Chunk],
        workers: int,
        unreadable: UnreadableImages,
        start_method: str | None = None,
    ) -> None:
        self.source, self.reader, self.workers, self.unreadable = source, reader, workers, unreadable
        self.start_method = start_method
        self.device = torch.device("cpu")
        self.chosen = torch.arange(len(source))
        self._loader: DataLoader[Chunk] | None = None
        self._requests = _Requests()

    def __len__(self) -> int:
        return len(self.chosen)

    def to(self, device: torch.device | str) -> StreamedImages:
        return self._changed(device=torch.device(device))

    def part(self, chosen: Tensor) -> StreamedImages:
        return self._changed(chosen=self.chosen[chosen])

    def training_batches(
        self, settings: DataRecipe, key: tuple[int, int, int], first_step: int = 0, share: Share = ALL
    ) -> Iterator[Batch]:
        order = self.source.shuffled(seeded_generator(*key))
        ours = torch.zeros(len(self.source), dtype=torch.bool)
        ours[self.chosen] = True
        order = order[ours[order]]
        size = settings.batch_size
        steps = range(first_step, len(order) // size)
        batches = [order[step * size : (step + 1) * size][share.of(size)] for step in steps]
        for images, labels in self._decoded(batches, settings, key):
            if not len(labels):
                raise DataError(f"no image of a batch of {size} can be read, such as {[*self.unreadable.names][-1]}")
            yield images, labels

    def in_order(self, batch_size: int | None = None) -> Iterator[Batch]:
        for images, labels in self._decoded(torch.split(self.chosen, batch_size or self.evaluation_batch), None, ()):
            if len(labels):
                yield images, labels

    def in_memory(self) -> Split:
        """Decode all images for evaluation and keep them in memory.

        Raises:
            DataError: none of the images can be read.
        """
        batches = list(self.in_order())
        if not batches:
            raise DataError(f"none of the {len(self)} images can be read; the first is {self.source.name(0)}")
        images, labels = zip(*batches, strict=True)
        return Split(torch.cat(images), torch.cat(labels))

    def _changed(self, **changes: Any) -> StreamedImages:
        other = copy.copy(self)
        other._loader, other._requests = None, _Requests()
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    def _decoded(self, batches: Sequence[Tensor], settings: DataRecipe | None, key: tuple[int, ...]) -> Iterator[Batch]:
        """A batch of decoded images for each batch of indices."""
        self._requests.pending = (
            Request(part.tolist(), settings, key) for batch in batches for part in torch.split(batch, CHUNK)
        )
        with one_line_worker_errors():
            chunks = iter(self._workers())
            for batch in batches:
                parts = [next(chunks) for _ in torch.split(batch, CHUNK)]
                for part in parts:
                    for name, reason in part.unreadable:
                        self.unreadable.add(name, reason)
                images, labels = (
                    torch.cat([tensor.to(self.device, non_blocking=True) for tensor in tensors])
                    for tensors in ([part.images for part in parts], [part.labels for part in parts])
                )
                yield images, labels

    def _workers(self) -> DataLoader[Chunk]:
        """The loader, which is made when it is first needed; its worker processes live as long as this object."""
        if self._loader is None:
            self._loader = worker_loader(
                self.reader,
                self._requests,
                self.workers,
                pin_memory=self.device.type == "cuda",
                start_method=self.start_method,
            )
        return self._loader
