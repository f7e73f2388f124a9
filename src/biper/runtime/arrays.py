"""Operations on arrays for the native engine: each becomes a view, or one or a few native operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biper.runtime.operations.arithmetic import UNARY
from biper.runtime.program import Operation, Shape
from biper.runtime.views import View, dense_strides, image_strides, rounded, strides_like


class ArrayBuilder:
    """Adds operations on arrays to a native engine.

    Args:
        native: the engine of the native extension.
        view: its class of views.
    """

    def __init__(self, native: Any, view: Callable[..., Any]) -> None:
        self._native, self._view = native, view
        self._constants: set[int] = set()
        self._images: dict[View, int] = {}

    def add(self, op: Operation, inputs: list[View], *, for_images: bool) -> View:
        """Add an operation and return its result.

        Args:
            op: the operation.
            inputs: the values that it reads.
            for_images: whether operations on images read the result, which then has their layout where possible.
        """
        self._wants_image = for_images and len(op.shape) == 3
        return _ADDERS[op.operation](self, op, inputs)

    def constant(self, array: NDArray[Any]) -> View:
        """Add a constant."""
        value = int(self._native.add_constant(np.ascontiguousarray(array, np.float32).reshape(-1)))
        self._constants.add(value)
        return View(value, array.shape, dense_strides(array.shape))

    def remember_image(self, view: View) -> None:
        """Note that an operation on images made a value, whose id needs no further view."""
        self._images[_without_meaning(view)] = view.value

    def image(self, view: View) -> int:
        """The id under which operations on images read a view (C, H, W); it is copied if its layout is another."""
        key = _without_meaning(view)
        if key not in self._images:
            laid_out = view.is_image and view.value not in self._constants
            source = view if laid_out else self._copied(view, image_strides(view.shape))
            self._images[key] = int(self._native.add_image(source.value, source.offset, *source.shape))
        return self._images[key]

    def native(self, view: View) -> Any:
        """A view as an object of the native extension."""
        return self._view(view.value, view.shape, view.strides, view.offset)

    def result(self, shape: Shape, like: list[View]) -> View:
        """A new array, in the order of the operands or, if operations on images read it, in theirs."""
        strides = image_strides(shape) if self._wants_image else strides_like(like, shape)
        return View(-1, shape, strides)

    def call(self, method: str, *arguments: Any, result: View) -> View:
        """Add a native operation; ``result`` says where its elements are."""
        value = int(getattr(self._native, method)(*arguments, self.native(result)))
        return View(value, result.shape, result.strides)

    def copies(self, sources: list[View], targets: list[View], result: View, fill: float | None = None) -> View:
        """Copy views to parts of a new array, which is filled before where ``fill`` is a number."""
        lists = ([self.native(view) for view in views] for views in (sources, targets))
        return self.call("add_copies", *lists, fill is not None, fill or 0.0, result=result)

    def _copied(self, view: View, strides: Shape) -> View:
        result = View(-1, view.shape, strides)
        return self.copies([view], [result], result)

    def function(self, name: str, parameters: list[float], inputs: list[View], result: View) -> View:
        """A function of each element of one to three operands, which are broadcast to the result."""
        operands = [self.native(view.expand(result.shape)) for view in inputs]
        return self.call("add_function", name, parameters, operands, result=result)

    def unary(self, op: Operation, inputs: list[View]) -> View:
        name = op.attributes["function"]
        parameters = [float(op.attributes[key]) for key in UNARY[name][0]]
        if name == "power":
            name, parameters = ("square", []) if parameters == [2.0] else ("power_by", parameters)
        return self.function(name, parameters, inputs, self.result(op.shape, inputs))

    def elementwise(self, op: Operation, inputs: list[View]) -> View:
        whole = [view for view in inputs if view.shape == op.shape]
        return self.function(op.attributes.get("function", "select"), [], inputs, self.result(op.shape, whole))

    def reduce(self, op: Operation, inputs: list[View]) -> View:
        (view,), axes = inputs, op.attributes["axes"]
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(view.shape))
        self._wants_image &= op.attributes["keep"]
        result = self.result(kept, [view])
        made = self.call("add_reduction", op.attributes["function"], self.native(view), axes, result=result)
        reshaped = made.reshape(op.shape)
        assert reshaped is not None  # leaving out axes of size 1 changes no stride
        return reshaped

    def softmax(self, op: Operation, inputs: list[View]) -> View:
        axis, log = op.attributes["axis"], op.attributes["log"]
        result = self.result(op.shape, inputs)
        return self.call("add_softmax", self.native(inputs[0]), axis, log, result=result)

    def normalize(self, op: Operation, inputs: list[View]) -> View:
        axes, center, epsilon = (op.attributes[key] for key in ("axes", "center", "epsilon"))
        result = self.result(op.shape, inputs)
        return self.call("add_normalization", self.native(inputs[0]), axes, center, float(epsilon), result=result)

    def matmul(self, op: Operation, inputs: list[View]) -> View:
        left, right = (view.expand((*op.shape[:-2], *view.shape[-2:])) for view in inputs)
        rows, columns = op.shape[-2:]
        if left.shape[-1] == 1:
            self._wants_image = False
            return self.function("multiply", [], [left, right], View(-1, op.shape, dense_strides(op.shape)))
        swap = [*range(len(op.shape) - 2), len(op.shape) - 1, len(op.shape) - 2]
        # The kernels compute columns in whole blocks: the transposed product may have fewer of them.
        transposed = rounded(rows) * columns < rounded(columns) * rows
        if transposed:
            left, right = right.permute(swap), left.permute(swap)
        shape = (*left.shape[:-1], right.shape[-1])
        padded = dense_strides((*shape[:-1], rounded(shape[-1])))
        if left.strides[-1] != 1:
            left = self._copied(left, dense_strides(left.shape))
        pair = self.native(left), self.native(right)
        product = self.call("add_product", *pair, result=View(-1, shape, padded))
        return product.permute(swap) if transposed else product

    def reshape(self, op: Operation, inputs: list[View]) -> View:
        (view,), shape = inputs, op.shape
        reshaped = view.reshape(shape)
        if reshaped is not None:
            return reshaped
        result = self.result(shape, [])
        target = result.reshape(view.shape)  # where the elements in the old shape come to lie
        if target is None:
            result = View(-1, shape, dense_strides(shape))
            target = View(-1, view.shape, dense_strides(view.shape))
        return self.copies([view], [target], result)

    def join(self, op: Operation, inputs: list[View]) -> View:
        axis, result = op.attributes["axis"], self.result(op.shape, inputs)
        starts, targets = [0] * len(op.shape), []
        for view in inputs:
            targets.append(result.slice(starts, view.shape, [1] * len(starts)))
            starts[axis] += view.shape[axis]
        return self.copies(inputs, targets, result)

    def pad(self, op: Operation, inputs: list[View]) -> View:
        (view,), result = inputs, self.result(op.shape, inputs)
        lists = [op.attributes[key] for key in ("low", "high", "interior")]
        starts, sizes, places, steps = [], [], [], []
        for size, length, low, _high, interior in zip(view.shape, op.shape, *lists, strict=True):
            step = interior + 1  # element i comes to lie at low + i * step
            first = max(0, -(low // step))
            last = min(size - 1, (length - 1 - low) // step)
            starts.append(first)
            sizes.append(last - first + 1)
            places.append(low + first * step)
            steps.append(step)
        fill = float(op.attributes["value"])
        if min(sizes, default=1) < 1:  # all elements of the input are removed
            return self.constant(np.full(op.shape, fill, np.float32))
        source = view.slice(starts, sizes, [1] * len(sizes))
        return self.copies([source], [result.slice(places, sizes, steps)], result, fill)

    def sample(self, op: Operation, inputs: list[View]) -> View:
        axis, index = op.attributes["axis"], op.tensors["index"]
        weight = op.tensors.get("weight", np.empty(0, np.float32)).reshape(-1)
        maximum = op.attributes["function"] == "max"
        result = self.result(op.shape, inputs)
        places = np.ascontiguousarray(index.reshape(-1))
        return self.call("add_sample", self.native(inputs[0]), axis, places, weight, maximum, result=result)


def _without_meaning(view: View) -> View:
    """The view with the strides of axes of size 1 set to 0, so that equal views compare equal."""
    strides = tuple(stride if size > 1 else 0 for size, stride in zip(view.shape, view.strides, strict=True))
    return View(view.value, view.shape, strides, view.offset)


_ADDERS: Mapping[str, Callable[[ArrayBuilder, Operation, list[View]], View]] = {
    "binary": ArrayBuilder.elementwise,
    "constant": lambda builder, op, _inputs: builder.constant(op.tensors["value"]),
    "expand": lambda _builder, op, inputs: inputs[0].expand(op.shape),
    "join": ArrayBuilder.join,
    "matmul": ArrayBuilder.matmul,
    "normalize": ArrayBuilder.normalize,
    "pad": ArrayBuilder.pad,
    "permute": lambda _builder, op, inputs: inputs[0].permute(op.attributes["order"]),
    "reduce": ArrayBuilder.reduce,
    "reshape": ArrayBuilder.reshape,
    "sample": ArrayBuilder.sample,
    "select": ArrayBuilder.elementwise,
    "slice": lambda _builder, op, inputs: inputs[0].slice(
        *(op.attributes[key] for key in ("starts", "sizes", "steps"))
    ),
    "softmax": ArrayBuilder.softmax,
    "unary": ArrayBuilder.unary,
}
"""How each operation on arrays is added."""
