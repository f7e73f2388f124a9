"""Handlers of elementwise arithmetic, comparisons and choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biper.errors import ExportError
from biper.lowering.graph import Shape
from biper.lowering.operators.shapes import expanded
from biper.lowering.torch_nodes import arguments_of, operator_name, sizes_of, source_of
from biper.lowering.tracer import Handler, Tracer
from biper.lowering.values import Value, shape_in

FORMS = ("image", "rows", "array")
"""The forms of a value, in the order in which they are preferred."""

ARITHMETIC = {"add": "add", "sub": "subtract", "rsub": "subtract", "mul": "multiply", "div": "divide"}
COMPARISONS = {
    "eq": "equal",
    "ge": "greater_equal",
    "gt": "greater",
    "le": "less_equal",
    "lt": "less",
    "ne": "not_equal",
}
OTHERS = {
    "maximum": "maximum", "fmax": "maximum", "clamp_min": "maximum", "minimum": "minimum", "fmin": "minimum",
    "clamp_max": "minimum", "logical_and": "multiply", "bitwise_and": "multiply", "logical_or": "maximum",
    "bitwise_or": "maximum", "logical_xor": "not_equal", "bitwise_xor": "not_equal",
}  # fmt: skip
"""Logical operators are arithmetic of 0 and 1: a conjunction is a product, a disjunction the larger."""


def _arithmetic(tracer: Tracer, node: torch.fx.Node) -> Value:
    """A sum, difference, product or quotient; with ``alpha``, the second operand is multiplied by it."""
    kind = operator_name(node)
    left, right = arguments_of(node)[:2]
    if kind == "rsub":
        left, right = right, left
    function = ARITHMETIC[kind]
    alpha: Any = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
    if alpha != 1:
        constant = tracer.constant(right)
        factor = np.float32(alpha)
        if constant is not None:
            right = Value.array(constant.shape, tracer.stored(constant * factor))
        else:
            right = binary(tracer, "multiply", right, factor, sizes_of(right))
    mode = node.kwargs.get("rounding_mode")
    if alpha == 1 and mode is None:
        fused = _as_affine(tracer, function, left, right, sizes_of(node))
        if fused is not None:
            return fused
    result = binary(tracer, function, left, right, sizes_of(node))
    if mode is None:
        return result
    return unary(tracer, result, "floor") if mode == "floor" else truncated(tracer, result)


def truncated(tracer: Tracer, value: Value) -> Value:
    """A value without what is behind the point: ``sign(x) * floor(|x|)``."""
    whole = unary(tracer, unary(tracer, value, "abs"), "floor")
    return binary(tracer, "multiply", unary(tracer, value, "sign"), whole, value.shape)


def _as_affine(tracer: Tracer, function: str, left: Any, right: Any, shape: Shape) -> Value | None:
    """Arithmetic with one number for each channel of an image as an affine, which other operations absorb."""
    constants = tracer.constant(left), tracer.constant(right)
    if (constants[0] is None) == (constants[1] is None):
        return None
    constant = constants[0] if constants[1] is None else constants[1]
    value = tracer.value(left if constants[0] is None else right)
    form = next((name for name in ("image", "rows") if name in value.names), None)
    numbers = None if form is None or value.shape != shape else per_channel(constant, form, shape)
    if numbers is None or (function == "divide" and (constants[1] is None or not numbers.all())):
        return None
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    match function:
        case "subtract" if constants[1] is None:
            multiplier, offset = -one, numbers
        case "add":
            multiplier, offset = one, numbers
        case "subtract":
            multiplier, offset = one, -numbers
        case "multiply":
            multiplier, offset = numbers, zero
        case _:
            multiplier, offset = one / numbers, zero
    assert form is not None
    return affine(tracer, value, form, multiplier, offset)


def affine(
    tracer: Tracer, value: Value, form: str, multiplier: NDArray[np.float32], offset: NDArray[np.float32]
) -> Value:
    """``multiplier * value + offset`` with one number for each channel of an image form or of a rows form."""
    shape = shape_in(form, value.shape)
    assert shape is not None
    tensors = {"multiplier": np.asarray(multiplier, np.float32), "offset": np.asarray(offset, np.float32)}
    name = tracer.emit("elementwise", [tracer.form(form, value)], shape, tensors=tensors)
    return Value(value.shape, {form: name})


def per_channel(constant: NDArray[Any] | None, form: str, shape: Shape) -> NDArray[np.float32] | None:
    """A constant that broadcasts over a tensor as one number for each channel of a form; None if it differs elsewhere.

    Args:
        constant: what stands beside the tensor.
        form: ``"image"``, whose channels are axis 1 of the tensor, or ``"rows"``, whose channels are its last axis.
        shape: of the tensor.
    """
    if constant is None or constant.ndim > len(shape):
        return None
    channel = 1 if form == "image" else len(shape) - 1
    sizes = (1,) * (len(shape) - constant.ndim) + constant.shape
    if any(size != 1 for axis, size in enumerate(sizes) if axis != channel):
        return None
    return np.array(np.broadcast_to(constant.reshape(-1), shape[channel]), np.float32)


def binary(tracer: Tracer, function: str, left: Any, right: Any, shape: Shape) -> Value:
    """A function of two operands, which are torch arguments, values, or numbers; returns its value.

    A sum of two values of one shape becomes an addition that the operation before it absorbs.
    """
    left, right = (
        side if isinstance(side, Value) else tracer.value(side) if isinstance(side, torch.fx.Node) else side
        for side in (left, right)
    )
    form = common_form([left, right], shape)
    names = [operand(tracer, side, form, len(shape)) for side in (left, right)]
    made = shape_in(form, shape)
    assert made is not None
    shapes = [side.shape if isinstance(side, Value) else None for side in (left, right)]
    if function == "add" and form != "array" and shapes == [shape, shape]:
        return Value(shape, {form: tracer.emit("elementwise", names[:1], made, residual=names[1])})
    return Value(shape, {form: tracer.emit("binary", names, made, attributes={"function": function})})


def common_form(operands: list[Any], shape: Shape) -> str:
    """The form in which an elementwise operation on these operands is computed.

    It is the form that a computed operand of the result's shape has already, if every other operand can be had in it.
    """
    values = [side for side in operands if isinstance(side, Value)]
    full = [value for value in values if value.shape == shape]
    for form in FORMS[:2]:
        if not any(form in value.names for value in full):
            continue
        if all(_broadcasts_in(form, value, shape) for value in values):
            return form
    return "array"


def _broadcasts_in(form: str, value: Value, shape: Shape) -> bool:
    """Whether a value that broadcasts to a shape does so in a form too."""
    if value.shape == shape:
        return True
    if form == "image":
        rank = len(shape)
        padded = (1,) * (rank - len(value.shape)) + value.shape
        return len(padded) == rank and padded[0] == 1
    return all(size == 1 for size in value.shape[:-1])


def operand(tracer: Tracer, side: Any, form: str, rank: int) -> str:
    """The name of an operand in a form, for an operation whose result has ``rank`` dimensions in torch."""
    if not isinstance(side, Value):
        return tracer.stored(np.array(side, np.float32))
    if form == "array":
        return tracer.array(side)
    padded = (1,) * (rank - len(side.shape)) + side.shape
    if padded == side.shape:
        return tracer.form(form, side)
    shape = shape_in(form, padded)
    assert shape is not None
    return tracer.emit("reshape", [tracer.array(side)], shape, attributes={"shape": list(shape)})


def along_axis(tracer: Tracer, numbers: Any, behind: int) -> Value:
    """Numbers along one axis, as a constant that broadcasts over a value with so many axes behind that one."""
    array = np.array(numbers, np.float32).reshape(-1, *[1] * behind)
    return Value.array(array.shape, tracer.stored(array))


def unary(tracer: Tracer, argument: Any, function: str, **parameters: float) -> Value:
    """A function of each element of a value, in the form that it has; returns its value."""
    value = argument if isinstance(argument, Value) else tracer.value(argument)
    form = next(name for name in FORMS if name in value.names)
    shape = shape_in(form, value.shape)
    assert shape is not None
    attributes = {"function": function, **{name: float(number) for name, number in parameters.items()}}
    return Value(value.shape, {form: tracer.emit("unary", [value.names[form]], shape, attributes=attributes)})


def _binary(tracer: Tracer, node: torch.fx.Node) -> Value:
    left, right = arguments_of(node)[:2]
    kind = operator_name(node)
    return binary(tracer, {**COMPARISONS, **OTHERS}[kind], left, right, sizes_of(node))


def _negate(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``-x`` is a multiplication by -1, which the operation before it absorbs."""
    value = tracer.value(node.args[0])
    form = next((name for name in ("image", "rows") if name in value.names), None)
    if form is None:
        return unary(tracer, value, "negative")
    shape = shape_in(form, value.shape)
    assert shape is not None
    return affine(tracer, value, form, np.full(shape[0], -1, np.float32), np.zeros(shape[0], np.float32))


def _not(tracer: Tracer, node: torch.fx.Node) -> Value:
    return binary(tracer, "equal", node.args[0], 0.0, sizes_of(node))


def _where(tracer: Tracer, node: torch.fx.Node) -> Value:
    return choice(tracer, list(arguments_of(node)[:3]), sizes_of(node))


def _masked_fill(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, mask, fill = arguments_of(node)[:3]
    return choice(tracer, [mask, fill, x], sizes_of(node))


def choice(tracer: Tracer, operands: list[Any], shape: Shape) -> Value:
    """The second operand where the first is not 0, and the third elsewhere."""
    sides = [tracer.value(side) if isinstance(side, torch.fx.Node) else side for side in operands]
    form = common_form(sides, shape)
    made = shape_in(form, shape)
    assert made is not None
    names = [operand(tracer, side, form, len(shape)) for side in sides]
    return Value(shape, {form: tracer.emit("select", names, made)})


def _truncate(tracer: Tracer, node: torch.fx.Node) -> Value:
    return truncated(tracer, tracer.value(node.args[0]))


def _cast(tracer: Tracer, node: torch.fx.Node) -> Value:
    """A value in another type: integers lose what is behind the point, and truth is 1 where a number is not 0."""
    value = tracer.value(node.args[0])
    before, after = (each.meta["val"].dtype for each in (node.args[0], node) if isinstance(each, torch.fx.Node))
    if after == before or after in (torch.float32, torch.float64) or before == torch.bool:
        return value
    if after == torch.bool:
        return binary(tracer, "not_equal", value, 0.0, value.shape)
    if after.is_floating_point or after.is_complex or after == torch.uint8 or after.itemsize < 4:
        raise ExportError(
            f"{source_of(node)}: a conversion to {after} rounds numbers as no packed file does; use torch.float32 or "
            "torch.int32"
        )
    return truncated(tracer, value) if before.is_floating_point else value


def _round(tracer: Tracer, node: torch.fx.Node) -> Value:
    """The nearest whole number, or the nearest multiple of ``10^-decimals``."""
    decimals = node.kwargs.get("decimals", 0)
    assert isinstance(decimals, int)
    factor = 10.0**decimals
    value, shape = tracer.value(node.args[0]), sizes_of(node)
    if factor == 1:
        return unary(tracer, value, "round")
    whole = unary(tracer, binary(tracer, "multiply", value, factor, shape), "round")
    return binary(tracer, "divide", whole, factor, shape)


def _remainder(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``x - y * floor(x / y)``; ``fmod`` drops what is behind the point in place of the floor."""
    left, right = arguments_of(node)[:2]
    shape = sizes_of(node)
    quotient = binary(tracer, "divide", left, right, shape)
    whole = unary(tracer, quotient, "floor") if operator_name(node) == "remainder" else truncated(tracer, quotient)
    return binary(tracer, "subtract", left, binary(tracer, "multiply", whole, right, shape), shape)


def _copy(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``copy``: the second operand, broadcast to the shape of the first."""
    return expanded(tracer, tracer.value(node.args[1]), sizes_of(node))


def _power(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, exponent = arguments_of(node)[:2]
    if isinstance(x, torch.fx.Node) and isinstance(exponent, int | float):
        if exponent == 2:
            return binary(tracer, "multiply", x, x, sizes_of(node))
        return unary(tracer, x, "power", exponent=exponent)
    return binary(tracer, "power", x, exponent, sizes_of(node))


def _sign_of_another(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``copysign``: the magnitude of the first operand with the sign of the second; a negative zero counts as zero."""
    x, y = (tracer.value(argument) for argument in arguments_of(node)[:2])
    size, shape = unary(tracer, x, "abs"), sizes_of(node)
    return choice(tracer, [binary(tracer, "less", y, 0.0, y.shape), unary(tracer, size, "negative"), size], shape)


def _is_negative(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``signbit``; a negative zero counts as zero."""
    return binary(tracer, "less", node.args[0], 0.0, sizes_of(node))


def _hypotenuse(tracer: Tracer, node: torch.fx.Node) -> Value:
    x, y = (binary(tracer, "multiply", side, side, sizes_of(side)) for side in arguments_of(node)[:2])
    return unary(tracer, binary(tracer, "add", x, y, sizes_of(node)), "sqrt")


def _times_logarithm(tracer: Tracer, node: torch.fx.Node) -> Value:
    """``xlogy``: ``x log(y)``, and 0 where x is 0."""
    x, y = (tracer.value(argument) for argument in arguments_of(node)[:2])
    shape = sizes_of(node)
    product = binary(tracer, "multiply", x, unary(tracer, y, "log"), shape)
    return choice(tracer, [binary(tracer, "equal", x, 0.0, x.shape), 0.0, product], shape)


HANDLERS: Mapping[str, Handler] = {
    "neg": _negate,
    "copy": _copy,
    "copysign": _sign_of_another,
    "signbit": _is_negative,
    "hypot": _hypotenuse,
    "xlogy": _times_logarithm,
    **dict.fromkeys(("_to_copy", "to", "type_as", "convert_element_type"), _cast),
    "round": _round,
    "trunc": _truncate,
    "fix": _truncate,
    "remainder": _remainder,
    "fmod": _remainder,
    "logical_not": _not,
    "bitwise_not": _not,
    "where": _where,
    "masked_fill": _masked_fill,
    "pow": _power,
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys((*COMPARISONS, *OTHERS), _binary),
}
