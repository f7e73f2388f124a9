"""What an argument of ``biper predict`` stands for: pictures in files, folders, arrays and on standard input."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biper.errors import DataError
from biper.runtime.maps import require_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biper.runtime import Model
    from biper.runtime.maps import PredictedMap
    from biper.runtime.model import Prediction

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""The endings of the files of a folder that are taken for pictures."""

ARRAY = ".npy"

STANDARD_INPUT = "-"

_AT_ONCE = 64

_MOST_TO_CALIBRATE = 256


@dataclass(frozen=True)
class Answer:
    """What was found out about a picture.

    Attributes:
        name: the file, the file and the number of the image in an array, or ``-``.
        found: its most probable classes, or its map; no classes if it cannot be read.
        error: why it cannot be read; empty if it can.
    """

    name: str
    found: list[Prediction] | PredictedMap
    error: str = ""


def predict_all(model: Model, arguments: Iterable[str], top_k: int) -> Iterator[Answer]:
    """Predict the classes or the maps of all pictures, 64 at once, in order; those that cannot be read do not stop it.

    Args:
        model: the packed model.
        arguments: names of files and folders, patterns such as ``"*.png"``, ``.npy`` files, or ``-``.
        top_k: how many classes to name.

    Raises:
        DataError: the model gives neither classes nor maps, or it has further inputs.
    """
    from biper.runtime.maps import is_map

    shape, others = model.program.output_shape, list(model.program.inputs)
    if others or (len(shape) not in (1, 3) and not is_map(shape)):
        what = f"takes the inputs {others} beside images" if others else f"gives an array of shape {shape} for an image"
        raise DataError(f"the model {what}: call it from Python, biper.Model.load(file)(arrays)")
    waiting: list[tuple[str, Any]] = []
    for name, image in _pictures(model, arguments):
        waiting.append((name, image))
        if len(waiting) == _AT_ONCE or isinstance(image, DataError):
            yield from _answers(model, waiting, top_k)
            waiting = []
    yield from _answers(model, waiting, top_k)


def calibration_images(model: Model, arguments: Iterable[str]) -> NDArray[np.float32]:
    """Images on which the magnitudes of values are measured, normalized: the first 256 of those that are named.

    Args:
        model: the packed model.
        arguments: names of files and folders, patterns, or ``.npy`` files; see `predict_all`.

    Returns:
        float32 (N, C, H, W).

    Raises:
        DataError: one cannot be read, or there is none.
    """
    import numpy as np

    found = []
    for name, image in islice(_pictures(model, arguments), _MOST_TO_CALIBRATE):
        if isinstance(image, DataError):
            raise DataError(f"calibrate={name!r}: {image}")
        found.append(model.normalized(image[None]))
    if not found:
        raise DataError("calibrate=...: expected at least one image, found none")
    return np.concatenate(found)


def _answers(model: Model, waiting: Sequence[tuple[str, Any]], top_k: int) -> Iterator[Answer]:
    """The answers for a few pictures, which are computed together, or one by one if one of them is not valid."""
    try:
        found = iter(_found(model, [image for _, image in waiting if not isinstance(image, DataError)], top_k))
    except DataError as error:
        if len(waiting) == 1:
            yield Answer(waiting[0][0], [], str(error))
        else:
            for one in waiting:
                yield from _answers(model, [one], top_k)
        return
    for name, image in waiting:
        yield Answer(name, [], str(image)) if isinstance(image, DataError) else Answer(name, next(found))


def _found(model: Model, images: Sequence[Any], top_k: int) -> Sequence[list[Prediction] | PredictedMap]:
    import numpy as np

    from biper.runtime.maps import is_map

    if len({(image.shape, image.dtype) for image in images}) > 1:
        raise DataError("arrays of several forms")
    if not images:
        return []
    pixels = np.stack(images)
    return model.predict_maps(pixels) if is_map(model.program.output_shape) else model.predict(pixels, top_k)


def _pictures(model: Model, arguments: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The name of each picture, and its array as the model takes it, or the error."""
    for argument in arguments:
        path = Path(argument)
        if argument == STANDARD_INPUT:
            yield argument, _prepared(model, sys.stdin.buffer.read())
        elif path.suffix == ARRAY and path.is_file():
            yield from _array(model, path)
        elif path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
            if not found:
                yield argument, DataError(f"the folder holds no picture ({', '.join(ENDINGS)})")
            yield from ((str(file), _prepared(model, file)) for file in found)
        elif _is_pattern(argument):
            names = sorted(glob.glob(argument, recursive=True))
            if not names:
                yield argument, DataError("no file matches the pattern")
            yield from _pictures(model, names)
        else:
            yield argument, _prepared(model, path)


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not Path(argument).exists()


def _prepared(model: Model, source: Path | bytes) -> Any:
    try:
        return model.prepare(source)
    except DataError as error:
        return error


def _array(model: Model, path: Path) -> Iterator[tuple[str, Any]]:
    """The images of a ``.npy`` file, one or several, each of a form that the model takes."""
    import numpy as np

    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        if images.dtype.hasobject or images.ndim == 0:
            raise ValueError(f"it holds {images.dtype} {images.shape}")
    except (OSError, ValueError, EOFError) as error:
        yield str(path), DataError(f"no array of images: {error}")
        return
    for several in (images, images[None]):
        try:
            model(several[:0])  # checks the shape and the type, and computes nothing
        except DataError as error:
            problem = error
        else:
            for number, image in enumerate(several):
                yield f"{path}[{number}]", np.array(image)
            return
    yield str(path), problem


@dataclass
class MapFiles:
    """Where the maps of pictures are written.

    Args:
        out: the file for a single picture, the folder for several; None to write none.
        arguments: those of the command.

    Raises:
        DataError: ``out`` is a file, and its name does not end with ``.png``.
    """

    out: Path | None
    arguments: Sequence[str]
    _written: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.out is not None and not self._is_folder():
            require_png(self.out)

    def write(self, answer: Answer) -> Path | None:
        """Write a map as a picture.

        Returns:
            The file; None if no file is to be written.

        Raises:
            DataError: the file is the picture itself, or was written for another picture of the same name.
        """
        from biper.runtime.maps import PredictedMap

        assert isinstance(answer.found, PredictedMap)
        if self.out is None:
            return None
        file = self.out / f"{self._stem(answer.name)}.png" if self._is_folder() else self.out
        if file in self._written:
            raise DataError(f"{self._written[file]} and {answer.name} would have the same map in out=..., {file}")
        read = [path for path in (Path(answer.name), *map(Path, self.arguments)) if path.exists()]
        if file.exists() and any(map(file.samefile, read)):
            raise DataError(f"{file} is a picture that is read, and would be lost: name another place with out=...")
        answer.found.save(file)
        self._written[file] = answer.name
        return file

    def _is_folder(self) -> bool:
        only = self.arguments[0]
        return len(self.arguments) > 1 or Path(only).is_dir() or _is_pattern(only) or only.endswith(ARRAY)

    @staticmethod
    def _stem(name: str) -> str:
        return "input" if name == STANDARD_INPUT else Path(name.replace(f"{ARRAY}[", "[")).stem
