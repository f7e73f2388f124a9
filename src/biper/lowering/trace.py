"""From a torch module to a `Graph`: `torch.export`, then one node for each operator that it found.

What becomes of each operator is said in `operators` (arithmetic) and `layout` (pooling, padding, shapes).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biper.errors import ExportError
from biper.lowering.graph import Graph, Node, Shape
from biper.lowering.stand_ins import with_exported_layers

Handler = Callable[["Tracer", torch.fx.Node], str]
_HANDLERS: dict[str, Handler] = {}


def trace(model: nn.Module, example_input: Tensor) -> Graph:
    """Lower a model to a graph with one node an operator, nothing fused.

    Args:
        model: any module that maps one batch of images (N, C, H, W) to one tensor (N, features) or (N, C, H, W).
        example_input: (N, C, H, W) floating point; fixes C, H and W.

    Raises:
        ExportError: the model cannot be traced, or uses an operator that is not supported (it is named with its
            module).
    """
    if example_input.dim() != 4:
        raise ExportError(f"example_input must be (N, C, H, W), got shape {tuple(example_input.shape)}")
    prepared = with_exported_layers(model).float()
    image = example_input[:1].detach().cpu().float()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own internals
            program = torch.export.export(prepared, (image,)).run_decompositions({})
    except ExportError:
        raise
    except Exception as error:  # torch.export raises many kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"torch.export cannot trace this model: {first}") from error
    from biper.lowering import arithmetic, layout  # noqa: F401  they register what they handle

    return Tracer(program).run()


class Tracer:
    """Walks an exported program; ``names`` maps its nodes to our values, ``constants`` to arrays."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.program = program
        self.names: dict[torch.fx.Node, str] = {}
        self.constants: dict[torch.fx.Node, NDArray[Any]] = {}
        self.nodes: list[Node] = []

    def run(self) -> Graph:
        signature = self.program.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        stored |= signature.inputs_to_lifted_tensor_constants
        tensors = {**self.program.state_dict, **self.program.constants}
        graph = Graph("image", (0, 0, 0), "", [])
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in stored:
                self.constants[node] = tensors[stored[node.name]].detach().numpy()
            elif node.op == "placeholder":
                self.names[node] = graph.input
                graph.input_shape = shape_of(node)
            elif node.op == "call_function" and operator_name(node) == "_assert_tensor_metadata":
                continue  # of a conversion to the dtype that there is: computes nothing
            elif node.op == "call_function" and self.is_constant(node):
                self.constants[node] = self.evaluate(node)
            elif node.op == "call_function":
                self.names[node] = self.lower(node)
            elif node.op == "output":
                graph.output = self.output(node)
        graph.nodes = self.nodes
        return graph

    def output(self, node: torch.fx.Node) -> str:
        """The value of the one result that the user sees (an input changed in place is a result too, for torch)."""
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
        """The value of a node that is constant."""

        def known(argument: torch.fx.Node) -> Tensor:
            return torch.from_numpy(self.constants[argument])

        target: Any = node.target
        arguments: Any = torch.fx.map_arg(node.args, known)
        keywords: Any = torch.fx.map_arg(node.kwargs, known)
        return target(*arguments, **keywords).detach().numpy()

    def lower(self, node: torch.fx.Node) -> str:
        """The value of a torch node; the module and the operator's name go into the error if it has no handler."""
        handler = _HANDLERS.get(operator_name(node))
        if handler is None:
            raise ExportError(
                f"{source_of(node)}: operator {node.target} is not supported; write that module with convolution, "
                "linear, batch norm, add, multiplication by a constant, hardtanh, relu, prelu, pooling, channel "
                "padding, concatenation, flatten or nearest interpolation, or keep it out of the exported model"
            )
        return handler(self, node)

    def emit(self, node: torch.fx.Node, operation: str, inputs: list[str], **rest: Any) -> str:
        self.nodes.append(Node(operation, inputs, shape_of(node), source_of(node), real=node.name, **rest))
        return node.name

    def value(self, argument: Any, node: torch.fx.Node) -> str:
        """The value that a torch argument stands for."""
        if argument in self.names:
            return self.names[argument]
        raise ExportError(f"{source_of(node)}: {node.target} of constants alone is not supported")

    def array(self, argument: Any) -> NDArray[np.float32] | None:
        """The constant that a torch argument stands for, or None if it stands for none."""
        if argument is None:
            return None
        if isinstance(argument, torch.fx.Node):
            constant = self.constants.get(argument)
            return None if constant is None else np.asarray(constant, np.float32)
        return np.asarray(argument, np.float32)


def operator_name(node: torch.fx.Node) -> str:
    """The name of a node's operator without namespace and overload: ``"add"`` for ``aten.add.Tensor``."""
    return str(getattr(node.target, "overloadpacket", node.target).__name__)  # type: ignore[union-attr]


def shape_of(node: torch.fx.Node) -> Shape:
    """(C, H, W) of a node's result for one image; (F, 1, 1) for a vector of features."""
    sizes = tuple(int(size) for size in node.meta["val"].shape)
    if len(sizes) == 2:
        return sizes[1], 1, 1
    if len(sizes) != 4 or sizes[0] != 1:
        raise ExportError(
            f"{source_of(node)}: {node.target} gives shape {sizes}, expected (1, C, H, W) or (1, features)"
        )
    return sizes[1], sizes[2], sizes[3]


def source_of(node: torch.fx.Node) -> str:
    """The qualified name of the module that a node came from, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(entry[0]) for entry in stack.values()]
    return (names[-1] if names else "") or "the model itself"


def pair(value: Any) -> list[int]:
    """One number or two, as two."""
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def arguments_of(node: torch.fx.Node, *defaults: Any) -> list[Any]:
    """The positional arguments, filled up with defaults."""
    given = list(node.args)
    return given + list(defaults[len(given) :])


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for torch operators by name."""

    def register(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register
