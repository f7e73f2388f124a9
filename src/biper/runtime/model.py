"""The packed model for users: load it, call it on images, or let it predict classes or maps."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from biper.errors import BiperError, DataError, ModelError, ModelFormatError
from biper.io.files import read_regular
from biper.io.pictures import UNREADABLE
from biper.io.preprocessing import Preprocessing, squeezed
from biper.runtime.arguments import as_array, require_count, require_finite, thread_count
from biper.runtime.bench import OperationTime, profile
from biper.runtime.budget import MAX_MEMORY, MAX_WORK, UNLIMITED
from biper.runtime.engine import Engine, engine_is_built
from biper.runtime.maps import PredictedMap, is_map, sigmoid
from biper.runtime.program import Program, write_program
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference

BATCH = 64
"""The number of images that are computed at once. It limits the memory of a call on many images."""

Results = NDArray[np.float32] | dict[str, NDArray[np.float32]]
"""The result of a model, or its results by name if it has several."""


@dataclass(frozen=True)
class Prediction:
    """A class that a model predicts for an image: its name (or number), and its probability, 0 to 1.

    The probability is the softmax over the classes. For a model with one output it is the sigmoid of the output.
    """

    name: str
    probability: float


class Model:
    """A packed 1-bit model. `load` makes one from a file; using it needs neither torch nor a network connection.

    The model runs on the native engine, and many threads may call it at once. If this installation was built without
    the engine, the model runs in NumPy, which is slow.

    A model can be used after a fork, and it can be pickled: `multiprocessing` may pass it on.

    Args:
        program: a validated program.
        threads: the number of threads that share the work of one call, 1 to 1024. The first call starts them. At most
            as many work at once as there are processors for the process. With None the environment variable
            ``BIPER_THREADS`` decides, or else it is 1.
        max_memory: the most bytes of memory that the engine may take.

    Raises:
        ModelError: ``threads`` is no such number.
    """

    def __init__(self, program: Program, *, threads: int | None = None, max_memory: int = UNLIMITED) -> None:
        self.program, self.threads = program, thread_count(threads)
        self._engine = Engine(program, threads=self.threads, max_memory=max_memory) if engine_is_built() else None

    def __repr__(self) -> str:
        """The shape of the input, the number of classes, operations and bytes, and the threads."""
        shape = " x ".join(map(str, self.program.input_shape))
        operations, size = self.program.operations, sum(op.nbytes for op in self.program.operations)
        return (
            f"<biper.Model: {shape} -> {len(self.classes):,} classes, {len(operations)} operations, {size:,} bytes of "
            f"weights, {self.threads} thread(s)>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Models are pickled and copied by the content of their file."""
        return _unpickle, (type(self), write_program(self.program), self.threads)

    @classmethod
    def load(
        cls,
        source: str | PathLike[str] | bytes,
        *,
        verify: bool = True,
        threads: int | None = None,
        max_memory: int = MAX_MEMORY,
        max_work: int = MAX_WORK,
    ) -> Model:
        """Read a `.biper` file, or its bytes.

        Args:
            source: the path of the file, or its content.
            verify: compare the checksum. Everything else about the file is checked in any case.
            threads: the number of threads that share the work of one call; see `Model`.
            max_memory: the most bytes of memory that the file, the weights of the engine, and the values of one image
                may take; a file that needs more is refused before they are allocated. Each further thread may need as
                many for values again.
            max_work: the most elementary operations for one image, each about a multiply-accumulate; see
                `biper.runtime.budget`.

        Raises:
            ModelFormatError: the file cannot be read, is truncated, corrupt, or not a packed model, or needs more
                memory or work than it may.
            ModelError: ``threads`` is no number from 1 to 1024, or a limit is no positive integer.
        """
        max_memory = min(require_count("max_memory", max_memory), UNLIMITED)
        max_work = min(require_count("max_work", max_work), UNLIMITED)
        if not isinstance(source, str | PathLike | bytes):
            raise ModelFormatError(f"expected the path of a packed model, or its bytes, got {type(source).__name__}")
        limits = {"max_memory": max_memory, "max_work": max_work}
        if isinstance(source, bytes):
            return cls(read_program(source, verify=verify, **limits), threads=threads, max_memory=max_memory)
        try:
            program = read_program(Path(source), verify=verify, **limits)
            return cls(program, threads=threads, max_memory=max_memory)
        except ModelFormatError as error:
            raise ModelFormatError(f"{source}: {error}") from error

    def profile(self, rounds: int = 100) -> tuple[OperationTime, ...]:
        """The time that each operation takes on one image, as the median of ``rounds`` runs, in the order of execution.

        Raises:
            BiperError: the native engine is not built.
            ModelError: ``rounds`` is no positive integer.
        """
        rounds = require_count("rounds", rounds)
        if self._engine is None:
            raise BiperError("profiling needs the native engine, which this installation was built without")
        return profile(self.program, self._engine, rounds)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs (of a map: of its channels), or their numbers as text if the model has no names.

        A single output without a name is ``"positive"``.
        """
        shape = self.program.output_shape
        count = shape[0] if is_map(shape) else math.prod(shape)
        return self.program.classes or (("positive",) if count == 1 else tuple(map(str, range(count))))

    def __call__(
        self, images: NDArray[Any], others: Mapping[str, NDArray[Any]] | None = None, /, **inputs: NDArray[Any]
    ) -> Results:
        """Compute the outputs for a batch of images that have the input size of the model.

        Args:
            images: pixels, uint8 (N, H, W, C); normalized images, floating point (N, C, H, W); for a model of signals,
                floating point (N, C, L); or, for a model of C numbers, floating point (N, C).
            others: the other inputs of the model by name, if it has any, each floating point (N, ...).
            inputs: the same as keyword arguments.

        Returns:
            (N, outputs) float32; or (N, ...) float32 if the result of the model is a map or another array. For a model
            with several named results these are the values of a dict.

        Raises:
            DataError: an input is missing, or has another shape or dtype, or values that are not finite.
            ModelError: the system refuses to start the threads of the model.
        """
        results = self._compute(images, {**(others or {}), **inputs})
        return results if self.program.outputs else results[""]

    def _compute(self, images: NDArray[Any], others: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """The results by name, batch by batch; the only result of a model that has no names for them is ``""``."""
        normalized = self.normalized(as_array(images))
        arrays = self._other_inputs(others, len(normalized))
        values = self.program.outputs or {"": self.program.output}
        shapes = {name: self.program.shapes[value] for name, value in values.items()}
        results = {name: np.empty((len(normalized), *shape), np.float32) for name, shape in shapes.items()}
        for start in range(0, len(normalized), BATCH):
            part = slice(start, start + BATCH)
            of_part = {name: array[part] for name, array in arrays.items()}
            if self._engine is not None:
                made = self._run(self._engine, normalized[part], of_part)
            else:
                made_values = run_reference(self.program, normalized[part], of_part)
                made = [made_values[value] for value in values.values()]
            for result, array in zip(results.values(), made, strict=True):
                result[part] = array
        flat = {name for name, shape in shapes.items() if len(shape) == 3 and shape[1:] == (1, 1)}
        return {name: array.reshape(array.shape[:2]) if name in flat else array for name, array in results.items()}

    def predict(
        self, images: Sequence[str | PathLike[str] | Image.Image] | NDArray[Any], top_k: int = 1
    ) -> list[list[Prediction]]:
        """Predict the ``top_k`` most probable classes of each image, the most probable first.

        Args:
            images: files or Pillow images of any format and size, which `prepare` turns into pixels; or an array as for
                `__call__`.
            top_k: the number of classes for each image. A model with one output gives one `Prediction` an image.

        Raises:
            DataError: an image cannot be read, there is none, or an array has another shape or dtype; or the result is
                NaN or infinite, or a map or another array, for which the message says what to call.
            ModelError: ``top_k`` is no positive integer.
        """
        top_k = require_count("top_k", top_k)
        shape = self.program.output_shape
        if len(shape) not in (1, 3) or is_map(shape):
            other = "predict_maps(images)" if is_map(shape) else "the model itself, model(images)"
            raise DataError(f"the model gives an array of shape {shape} for each image, not classes: call {other}")
        logits = self._outputs(images).astype(np.float64)
        logits = logits.reshape(len(logits), -1)
        require_finite(logits.max(1), "the outputs for image")  # a class may be excluded by minus infinity
        if logits.shape[1] == 1:
            return [[Prediction(self.classes[0], float(value))] for value in sigmoid(logits[:, 0])]
        weights = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = weights / weights.sum(1, keepdims=True)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
        return [
            [Prediction(self.classes[index], float(row[index])) for index in chosen]
            for row, chosen in zip(probabilities, best, strict=True)
        ]

    def predict_maps(self, images: Sequence[str | PathLike[str] | Image.Image] | NDArray[Any]) -> list[PredictedMap]:
        """Predict the map of each image, by a model whose result is (C', H', W') with more than one place.

        Args:
            images: as for `predict`.

        Raises:
            DataError: an image cannot be read, or an array has another shape or dtype; or the result of the model is no
                map.
        """
        shape = self.program.output_shape
        if not is_map(shape):
            raise DataError(f"the model gives an array of shape {shape} for each image, no map: call predict(images)")
        return [PredictedMap(values, self.classes) for values in self._outputs(images)]

    @property
    def preprocessing(self) -> Preprocessing:
        """What `prepare` does with a picture. A file that does not say has the whole picture squeezed to its size.

        Raises:
            DataError: the model has neither 1 nor 3 input channels, so it takes no pictures.
        """
        channels = self.program.input_shape[0]
        if channels not in (1, 3):
            raise DataError(f"the model takes {channels} channels, which is no picture; call it with an array")
        return self.program.preprocessing or squeezed(self.program.input_shape)

    def prepare(self, image: str | PathLike[str] | bytes | Image.Image) -> NDArray[np.uint8]:
        """Turn an image into the pixels that the model takes: uint8 (H, W, C), as `preprocessing` says.

        Args:
            image: the path of a file, the content of one, or a Pillow image.

        Raises:
            DataError: the image cannot be read, or the model has neither 1 nor 3 input channels.
        """
        if not isinstance(image, str | PathLike | bytes | Image.Image):
            raise DataError(f"expected the path of an image or a Pillow image, got {type(image).__name__}")
        preprocessing = self.preprocessing
        try:
            if isinstance(image, Image.Image):
                return preprocessing.pixels(image)
            return preprocessing.read(image if isinstance(image, bytes) else read_regular(image))
        except UNREADABLE as error:
            name = "the image" if isinstance(image, bytes) else f"the image {image}"
            raise DataError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error

    def _outputs(self, images: Sequence[str | PathLike[str] | Image.Image] | NDArray[Any]) -> NDArray[np.float32]:
        """The result, or the first of several, for images of any of the forms that `predict` takes."""
        if isinstance(images, str | PathLike | bytes | Image.Image):
            raise DataError(f"images=... expects a list of images, got one: write [{reprlib.repr(images)}]")
        if not isinstance(images, Sequence | np.ndarray):
            raise DataError(f"images=... expects a list of images or an array, got {type(images).__name__}")
        if (isinstance(images, np.ndarray) and images.ndim == 0) or len(images) == 0:
            raise DataError("images=... expects at least one image, got none")
        if isinstance(images, np.ndarray):
            return next(iter(self._compute(images, {}).values()))
        parts = []
        for start in range(0, len(images), BATCH):  # so that the pixels of all images are never in memory at once
            pixels = np.stack([self.prepare(image) for image in images[start : start + BATCH]])
            parts.append(next(iter(self._compute(pixels, {}).values())))
        return np.concatenate(parts)

    def _run(
        self, engine: Engine, images: NDArray[np.float32], others: Mapping[str, NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        try:
            return engine.run(images, others)
        except RuntimeError as error:
            raise ModelError(f"threads={self.threads}: {error}; ask for fewer") from error

    def normalized(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """The normalized numbers that the engine reads, ``(x / 255 - mean) / std`` of pixels ``x``.

        Args:
            images: uint8 (N, H, W, C), such as `prepare` gives; or numbers that are normalized already, floating point
                (N, C, H, W), or (N, C, L) of signals, which stay as they are.

        Returns:
            float32 (N, C, H, W); a signal has the height 1.

        Raises:
            DataError: they have another shape or type, or numbers are not finite.
        """
        channels, height, width = self.program.input_shape
        if images.dtype == np.uint8 and images.shape[1:] == (height, width, channels):
            mean = np.array(self.program.mean, np.float32)
            std = np.array(self.program.std, np.float32)
            pixels = images.astype(np.float32) * (1 / (255 * std)) - mean / std
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
        if height == 1 and images.shape[1:] == (channels, width):
            images = images[:, :, None]  # a signal is an image of height 1
        if height == width == 1 and images.shape[1:] == (channels,):
            images = images[:, :, None, None]
        if np.issubdtype(images.dtype, np.floating) and images.shape[1:] == (channels, height, width):
            with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused
                return require_finite(images.astype(np.float32, copy=False), "image")
        raise DataError(
            f"the model expects uint8 images (N, {height}, {width}, {channels}) or normalized floats "
            f"(N, {channels}, {height}, {width}), got {images.dtype} {images.shape}"
        )

    def _other_inputs(self, given: Mapping[str, NDArray[Any]], count: int) -> dict[str, NDArray[np.float32]]:
        """The inputs other than the images, checked, in float32."""
        expected = self.program.inputs
        if given.keys() != expected.keys():
            raise DataError(f"the model takes the inputs {list(expected)} beside its images, got {list(given)}")
        checked = {}
        for name, shape in expected.items():
            array = as_array(given[name])
            if array.shape != (count, *shape) or not np.issubdtype(array.dtype, np.floating):
                raise DataError(
                    f"the model expects floats {(count, *shape)} as its input {name!r}, got {array.dtype} {array.shape}"
                )
            with np.errstate(over="ignore"):
                checked[name] = require_finite(array.astype(np.float32, copy=False), f"{name} of image")
        return checked


def _unpickle(kind: type[Model], content: bytes, threads: int) -> Model:
    return kind(read_program(content, max_memory=UNLIMITED, max_work=UNLIMITED), threads=threads)
