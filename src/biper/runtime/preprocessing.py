"""The entry ``preprocessing`` of a packed file, read strictly."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from biper.errors import ModelError, ModelFormatError
from biper.io.preprocessing import MAX_SIDE, Preprocessing
from biper.runtime.checks import Checker


def read_preprocessing(check: Checker, given: Any, shape: tuple[int, int, int]) -> Preprocessing:
    """Check and convert the entry.

    Args:
        check: raises the errors.
        given: the entry as it stands in the document.
        shape: (C, H, W), the shape of an image of the program.

    Raises:
        ModelFormatError: an entry is missing, unknown or wrong, or the result has another shape.
    """
    entry = dict(check.mapping(given, "preprocessing"))
    names = {field.name for field in fields(Preprocessing)}
    check.require(set(entry) == names, f"has preprocessing with {sorted(entry)}, expected {sorted(names)}")
    entry["size"] = tuple(check.integers(entry["size"], "a size of preprocessing", 2, 1, MAX_SIDE))
    if type(entry["resize"]) is not int:
        entry["resize"] = tuple(check.integers(entry["resize"], "resize of preprocessing", 2, 1, MAX_SIDE))
    for name in ("interpolation", "channels"):
        check.require(isinstance(entry[name], str), f"has {name} {str(entry[name])[:100]}, expected a name")
    entry["background"] = tuple(check.integers(entry["background"], "background", 3, 0, 255))
    if entry["white"] is not None:
        (entry["white"],) = check.numbers([entry["white"]], "white", 1)
    check.require(isinstance(entry["exif_orientation"], bool), "has exif_orientation that is neither true nor false")
    try:
        preprocessing = Preprocessing(**entry)
    except ModelError as error:
        raise ModelFormatError(f"{check.where} has preprocessing that cannot be done: {error}") from error
    check.require(preprocessing.shape == shape, f"has preprocessing to {preprocessing.shape} for images of {shape}")
    return preprocessing
