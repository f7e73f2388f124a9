"""The walk over an exported torch program: `Tracer` asks a handler for the nodes of each operator.

The handlers are in `biper.lowering.operators`. Beside the `Tracer`, this module has what they read torch's nodes with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biper.errors import ExportError
from biper.lowering.graph import Graph, Node, Shape

Handler = Callable[["Tracer", torch.fx.Node], str]
"""Emits the nodes of one torch node and returns the name of the value that stands for its result."""


class Tracer:
    """Walks an exported program once, from its inputs to its output.

    Args:
        program: what `torch.export` made of a model.
        handlers: the handler of each torch operator, by the operator's name.

    Attributes:
        names: the value of our graph that stands for each torch node that is computed from the image.
        constants: the array of each torch node that is not.
        nodes: the nodes that were emitted so far.
    """

    def __init__(self, program: torch.export.ExportedProgram, handlers: Mapping[str, Handler]) -> None:
        self.program = program
        self.handlers = handlers
        self.names: dict[torch.fx.Node, str] = {}
        self.constants: dict[torch.fx.Node, NDArray[Any]] = {}
        self.nodes: list[Node] = []

    def run(self) -> Graph:
        """Lower every node of the program.

        Raises:
            ExportError: an operator is not supported, or the model returns several tensors.
        """
        signature = self.program.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        stored |= signature.inputs_to_lifted_tensor_constants
        tensors = {**self.program.state_dict, **self.program.constants}
        graph = Graph("image", (0, 0, 0), "", [])
        needed = self.needed()
        for node in self.program.graph.nodes:
            if node not in needed and node.op == "call_function":
                continue
            if node.op == "placeholder" and node.name in stored:
                self.constants[node] = tensors[stored[node.name]].detach().numpy()
            elif node.op == "placeholder":
                self.names[node] = graph.input
                graph.input_shape = shape_of(node)
            elif node.op == "call_function" and self.is_constant(node):
                self.constants[node] = self.evaluate(node)
            elif node.op == "call_function":
                self.names[node] = self.lower(node)
            elif node.op == "output":
                graph.output = self.output(node)
        graph.nodes = self.nodes
        return graph

    def needed(self) -> set[torch.fx.Node]:
        """The nodes that the result of the user depends on; others check something, or change an input in place."""
        seen = set(self.program.graph_signature.user_outputs)
        waiting = [node for node in self.program.graph.nodes if node.name in seen]
        found: set[torch.fx.Node] = set()
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(node.all_input_nodes)
        return found

    def output(self, node: torch.fx.Node) -> str:
        """The name of the one result that the user sees; torch also lists inputs that are changed in place."""
        seen = set(self.program.graph_signature.user_outputs)
        (results,) = arguments_of(node)
        results = [result for result in results if isinstance(result, torch.fx.Node) and result.name in seen]
        if len(results) != 1 or len(seen) != 1:
            raise ExportError(f"the model must return one tensor, got {len(seen)} results")
        return self.names[results[0]]

    def is_constant(self, node: torch.fx.Node) -> bool:
        """Whether a node computes something from constants alone, such as another shape of a parameter."""
        return bool(node.all_input_nodes) and all(argument in self.constants for argument in node.all_input_nodes)

    def evaluate(self, node: torch.fx.Node) -> NDArray[Any]:
        """Compute a node whose arguments are all constants."""

        def known(argument: torch.fx.Node) -> Tensor:
            return torch.from_numpy(self.constants[argument])

        target: Any = node.target
        arguments: Any = torch.fx.map_arg(node.args, known)
        keywords: Any = torch.fx.map_arg(node.kwargs, known)
        result: Tensor = target(*arguments, **keywords)
        return result.detach().numpy()

    def lower(self, node: torch.fx.Node) -> str:
        """Emit the nodes of a torch node; returns the name of its value.

        Raises:
            ExportError: no handler knows the operator; the text names it and its module.
        """
        handler = self.handlers.get(operator_name(node))
        if handler is None:
            raise ExportError(
                f"{source_of(node)}: operator {node.target} is not supported; write that module with convolution, "
                "linear, batch norm, add, multiplication by a constant, hardtanh, relu, prelu, pooling, channel "
                "padding, concatenation, flatten or nearest interpolation, or keep it out of the exported model"
            )
        return handler(self, node)

    def emit(self, node: torch.fx.Node, operation: str, inputs: list[str], **rest: Any) -> str:
        """Append a node whose result is real and has the shape of the torch node; returns the name of its value.

        Args:
            node: the torch node that it computes.
            operation: one that `biper.runtime.program` defines.
            inputs: names of the values that it reads.
            rest: further fields of `biper.lowering.graph.Node`.
        """
        self.nodes.append(Node(operation, inputs, shape_of(node), source_of(node), real=node.name, **rest))
        return node.name

    def value(self, argument: Any, node: torch.fx.Node) -> str:
        """The name of the value that a torch argument stands for.

        Raises:
            ExportError: the argument is a constant.
        """
        if argument in self.names:
            return self.names[argument]
        raise ExportError(f"{source_of(node)}: {node.target} of constants alone is not supported")

    def array(self, argument: Any) -> NDArray[np.float32] | None:
        """The constant that a torch argument stands for, or None if it is None or computed from the image."""
        if argument is None:
            return None
        if isinstance(argument, torch.fx.Node):
            constant = self.constants.get(argument)
            return None if constant is None else np.asarray(constant, np.float32)
        return np.asarray(argument, np.float32)


def operator_name(node: torch.fx.Node) -> str:
    """The name of a node's operator without namespace and overload: ``"add"`` for ``aten.add.Tensor``."""
    operator: Any = getattr(node.target, "overloadpacket", node.target)
    return str(operator.__name__)


def shape_of(node: torch.fx.Node) -> Shape:
    """(C, H, W) of a node's result for one image; (F, 1, 1) for a vector of features, (C, 1, L) for a signal."""
    sizes = tuple(int(size) for size in node.meta["val"].shape)
    if len(sizes) == 2:
        return sizes[1], 1, 1
    if len(sizes) == 3 and sizes[0] == 1:
        return sizes[1], 1, sizes[2]
    if len(sizes) != 4 or sizes[0] != 1:
        raise ExportError(
            f"{source_of(node)}: {node.target} gives shape {sizes}, expected (1, C, H, W), (1, C, L) or (1, features)"
        )
    return sizes[1], sizes[2], sizes[3]


def source_of(node: torch.fx.Node) -> str:
    """The qualified name of the module that a torch node came from, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(entry[0]) for entry in stack.values()]
    return (names[-1] if names else "") or "the model itself"


def along_length(value: Any) -> list[int]:
    """A stride, padding or dilation of a signal, which torch writes as one number or as a list of one, as a list."""
    return [value] if isinstance(value, int) else list(value)


def pair(value: Any) -> list[int]:
    """Two numbers, of one number or a sequence of one or two."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def arguments_of(node: torch.fx.Node, *defaults: Any) -> list[Any]:
    """The positional arguments of a torch node; those that are not given have their ``defaults``."""
    given = list(node.args)
    return given + list(defaults[len(given) :])
