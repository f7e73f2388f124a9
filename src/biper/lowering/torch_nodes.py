"""Reading the nodes of an exported torch program: operators, shapes, arguments, and the modules they come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from biper.errors import ExportError
from biper.lowering.graph import Shape
from biper.lowering.values import shape_in


def operator_name(node: torch.fx.Node) -> str:
    """The name of a node's operator without namespace and overload: ``"add"`` for ``aten.add.Tensor``."""
    target: Any = getattr(node.target, "overloadpacket", node.target)
    return str(target.__name__)


def sizes_of(node: torch.fx.Node) -> Shape:
    """The shape of a node's result, or of the first of several."""
    meta = node.meta["val"]
    meta = meta[0] if isinstance(meta, list | tuple) else meta
    if not isinstance(meta, Tensor) or not all(isinstance(size, int) for size in meta.shape):
        raise ExportError(
            f"{source_of(node)}: {node.target} gives no tensor whose shape follows from the shape of the input"
        )
    return tuple(meta.shape)


def image_shape(node: torch.fx.Node) -> Shape:
    """(C, H, W) of a node's result for one image; (F, 1, 1) for a vector of features, (C, 1, L) for a signal.

    Raises:
        ExportError: the result is none of them.
    """
    sizes = sizes_of(node)
    shape = shape_in("image", sizes)
    if shape is None:
        raise ExportError(
            f"{source_of(node)}: {node.target} gives shape {sizes}, expected (1, C, H, W), (1, C, L) or (1, features)"
        )
    return shape


def source_of(node: torch.fx.Node) -> str:
    """The qualified name of the module that a torch node came from, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(entry[0]) for entry in stack.values()]
    name = names[-1] if names else ""
    return name.removeprefix(WRAPPED).removeprefix(".") or "the model itself"


WRAPPED = "wrapped_model"
"""The name of the model inside the module that names its results (`biper.lowering.trace`)."""


def along_length(value: Any) -> list[int]:
    """A stride, padding or dilation of a signal, which torch writes as one number or as a list of one, as a list."""
    return [value] if isinstance(value, int) else list(value)


def pair(value: Any) -> list[int]:
    """Two numbers, of one number or a sequence of one or two."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def keywords_of(node: torch.fx.Node) -> dict[str, Any]:
    """The arguments of a torch node by the names that the operator's schema has for them; only those that are given."""
    target: Any = node.target
    names = (argument.name for argument in target._schema.arguments)
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def arguments_of(node: torch.fx.Node, *defaults: Any) -> list[Any]:
    """The positional arguments of a torch node; those that are not given have their ``defaults``.

    Keyword arguments that torch's operator lists in the same order are not looked for here.
    """
    given = list(node.args)
    return given + list(defaults[len(given) :])
