"""The values of a traced model: how one tensor of torch is held by the program, in up to three forms.

For a tensor of torch whose first axis is the batch of one image, the program may have

- the *image* form (C, H, W), for the shapes (1, C, H, W), (1, C, L) as (C, 1, L), and (1, F) as (F, 1, 1);
- the *rows* form (F, R, 1), for any shape (..., F) with R vectors of F features: each vector is a pixel;
- the *array* form, which is the shape of torch.

Operations on images read the image form, linear layers and normalizations of tokens the rows form, and everything else
the array form. A form that is missing is made from another by reshapes and permutations, once. The engine makes these
without copying: it holds an image pixel by pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from biper.lowering.graph import Shape

Emit = Callable[[str, str, Shape, dict[str, list[int]]], str]
"""Emits a node, given its operation, its input, the shape of its result and its attributes; returns the name."""


@dataclass(eq=False)
class Value:
    """A tensor of torch and the names of the values of the program that hold it.

    Attributes:
        shape: the shape in torch.
        names: the name of each form that there is: ``"image"``, ``"rows"`` or ``"array"``.
    """

    shape: Shape
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def image(cls, shape: Shape, name: str) -> Value:
        """A value that is held in its image form."""
        return cls(shape, {"image": name})

    @classmethod
    def rows(cls, shape: Shape, name: str) -> Value:
        """A value that is held in its rows form."""
        return cls(shape, {"rows": name})

    @classmethod
    def array(cls, shape: Shape, name: str) -> Value:
        """A value that is held in its array form."""
        return cls(shape, {"array": name})

    def get(self, form: str, emit: Emit) -> str | None:
        """The name of a form, which is made if it is missing; None if the shape has no such form."""
        if form not in self.names and shape_in(form, self.shape) is not None:
            self.names[form] = self._make(form, emit)
        return self.names.get(form)

    def _make(self, form: str, emit: Emit) -> str:
        shape = shape_in(form, self.shape)
        assert shape is not None
        if form == "array":
            if "image" in self.names:
                return emit("reshape", self.names["image"], shape, {"shape": list(shape)})
            features, rows, _ = shape_in("rows", self.shape) or (0, 0, 0)
            flat = emit("reshape", self.names["rows"], (features, rows), {"shape": [features, rows]})
            turned = emit("permute", flat, (rows, features), {"order": [1, 0]})
            return turned if shape == (rows, features) else emit("reshape", turned, shape, {"shape": list(shape)})
        array = self.get("array", emit)
        assert array is not None
        if form == "image":
            return emit("reshape", array, shape, {"shape": list(shape)})
        features, rows, _ = shape
        flat = array
        if self.shape != (rows, features):
            flat = emit("reshape", array, (rows, features), {"shape": [rows, features]})
        turned = emit("permute", flat, (features, rows), {"order": [1, 0]})
        return emit("reshape", turned, shape, {"shape": list(shape)})


def shape_in(form: str, shape: Shape) -> Shape | None:
    """The shape that a form of a tensor has; None if tensors of this shape have no such form."""
    if form == "array":
        return shape
    if form == "rows":
        return (shape[-1], math.prod(shape[:-1]), 1) if shape else None
    if not 2 <= len(shape) <= 4 or shape[0] != 1:
        return None
    return {2: (shape[-1], 1, 1), 3: (shape[1 % len(shape)], 1, shape[-1]), 4: shape[1:]}[len(shape)]
