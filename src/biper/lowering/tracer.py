"""The walk over an exported torch program: `Tracer` asks a handler for the nodes of each operator.

The handlers are in `biper.lowering.operators`; `biper.lowering.torch_nodes` has what they read torch's nodes with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export.graph_signature import OutputKind

from biper.errors import ExportError
from biper.lowering.graph import Graph, Node, Shape
from biper.lowering.torch_nodes import arguments_of, operator_name, sizes_of, source_of
from biper.lowering.values import Value, shape_in

Result = Value | list[Value | None]
"""What a handler makes of a torch node: one value, or one for each result of an operator that has several."""

Handler = Callable[["Tracer", torch.fx.Node], Result]
"""Emits the nodes of one torch node and returns the value that stands for its result."""

LIKE = ("empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like")
"""Operators whose result depends on the shape of their input alone, so that it is a constant."""

RANDOM = ("bernoulli", "normal", "rand", "rand_like", "randint", "randn", "randn_like", "randperm", "multinomial")
"""Operators whose result is another in every call."""


class Tracer:
    """Walks an exported program once, from its inputs to its outputs.

    Args:
        program: what `torch.export` made of a model.
        handlers: the handler of each torch operator, by the operator's name.
        output_names: a name for each result, for a model with several; empty for one.
        input_names: the names of the inputs after the first.

    Attributes:
        values: what stands for each torch node that is computed from the image.
        constants: the result of each torch node that is not.
        nodes: the nodes that were emitted so far.
    """

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        handlers: Mapping[str, Handler],
        output_names: Sequence[str] = (),
        input_names: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.handlers = handlers
        self.output_names, self.input_names = output_names, list(input_names)
        self.values: dict[torch.fx.Node, Result] = {}
        self.constants: dict[torch.fx.Node, Any] = {}
        self.nodes: list[Node] = []
        self.node: torch.fx.Node  # the torch node that is being lowered
        self._stored_constants: dict[tuple[Any, ...], str] = {}
        self._constant_arrays: dict[str, NDArray[np.float32]] = {}

    def run(self) -> Graph:
        """Lower every node of the program.

        Raises:
            ExportError: an operator is not supported, or a result has no axis for the batch.
        """
        signature = self.program.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        stored |= signature.inputs_to_lifted_tensor_constants
        tensors = {**self.program.state_dict, **self.program.constants}
        graph = Graph("image", (0, 0, 0), "", [])
        needed = self.needed()
        for node in self.program.graph.nodes:
            self.node = node
            if node not in needed and node.op == "call_function":
                continue
            if node.op == "placeholder" and node.name in stored:
                self.constants[node] = tensors[stored[node.name]].detach()
            elif node.op == "placeholder":
                if node.name in signature.user_inputs:  # torch adds others, which order operators with effects
                    self.input(node, graph)
            elif node.op == "call_function" and self.is_constant(node):
                self.constants[node] = self.evaluate(node)
            elif node.op == "call_function":
                self.values[node] = self.lower(node)
            elif node.op == "output":
                self.outputs(node, graph)
        graph.nodes = self.nodes
        return graph

    def needed(self) -> set[torch.fx.Node]:
        """The nodes that the results of the user depend on; others check something, or change an input in place."""
        seen = set(self.program.graph_signature.user_outputs)
        waiting = [node for node in self.program.graph.nodes if node.name in seen]
        found: set[torch.fx.Node] = set()
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(node.all_input_nodes)
        return found

    def input(self, node: torch.fx.Node, graph: Graph) -> None:
        """Give an input of the user its value: the image first, then the others by name."""
        shape = sizes_of(node)
        image = shape_in("image", shape)
        if not graph.input_shape[0]:
            if image is None:
                raise ExportError(f"the example must be (N, C, H, W), (N, C, L) or (N, features), got {shape}")
            graph.input_shape = image
            self.values[node] = Value.image(shape, graph.input)
            return
        name = self.input_names.pop(0)
        if not shape or shape[0] != 1:
            raise ExportError(f"the example of the input {name} must begin with the batch, got shape {shape}")
        graph.inputs[name] = shape[1:]
        value = Value(shape)
        value.names["array"] = self._append(
            "reshape", [name], shape, f"{node.name}.batch", attributes={"shape": list(shape)}
        )
        self.values[node] = value

    def outputs(self, node: torch.fx.Node, graph: Graph) -> None:
        """Find the results that the user sees, by their places; torch also lists inputs that are changed in place.

        Names do not tell them, because a pass over the graph may have put another node in the place of a result.
        """
        (results,) = arguments_of(node)
        specs = self.program.graph_signature.output_specs
        results = [
            result
            for result, spec in zip(results, specs, strict=True)
            if isinstance(result, torch.fx.Node) and spec.kind is OutputKind.USER_OUTPUT
        ]
        if not results:
            raise ExportError("the model returns no tensor")
        values = [self.output(result) for result in results]
        graph.output = values[0]
        if self.output_names:
            graph.outputs = dict(zip(self.output_names, values, strict=True))

    def output(self, node: torch.fx.Node) -> str:
        """The name of a result without the axis of the batch."""
        value = self.value(node)
        if not value.shape or value.shape[0] != 1:
            raise ExportError(f"a result of the model has shape {value.shape}, whose first axis is not the batch")
        if "image" in value.names and len(value.shape) != 3:
            return value.names["image"]
        shape = value.shape[1:]
        return self._append("reshape", [self.array(node)], shape, self.fresh(), attributes={"shape": list(shape)})

    def is_constant(self, node: torch.fx.Node) -> bool:
        """Whether a node computes something from constants alone, such as another shape of a parameter."""
        name = operator_name(node)
        if name in RANDOM:
            raise ExportError(f"{source_of(node)}: {node.target} gives other numbers in every call; leave it out")
        return name in LIKE or all(argument in self.constants for argument in node.all_input_nodes)

    def evaluate(self, node: torch.fx.Node) -> Any:
        """Compute a node whose arguments are all constants, or of which only the shape counts."""

        def known(argument: torch.fx.Node) -> Any:
            if argument in self.constants:
                return self.constants[argument]
            meta = argument.meta["val"]
            return torch.empty(meta.shape, dtype=meta.dtype)

        target: Any = node.target
        arguments: Any = torch.fx.map_arg(node.args, known)
        keywords: Any = torch.fx.map_arg(node.kwargs, known)
        with torch.no_grad():
            return target(*arguments, **keywords)

    def lower(self, node: torch.fx.Node) -> Result:
        """Emit the nodes of a torch node; returns its value.

        Raises:
            ExportError: no handler knows the operator; the text names it and its module.
        """
        if node.target is operator.getitem:
            return self.value(node)
        handler = self.handlers.get(operator_name(node))
        if handler is None:
            raise ExportError(
                f"{source_of(node)}: operator {node.target} is not supported; write that module with operators that "
                "are (the documentation lists them under 'Operators by target'), or keep it out of the exported model"
            )
        return handler(self, node)

    def value(self, argument: Any) -> Value:
        """The value that a torch argument stands for; a constant becomes one.

        Raises:
            ExportError: the argument is neither, or a result of an operator that no packed file has.
        """
        if isinstance(argument, torch.fx.Node) and argument in self.values:
            result = self.values[argument]
            if isinstance(result, Value):
                return result
            return self._chosen(result, 0, argument)
        if isinstance(argument, torch.fx.Node) and argument.target is operator.getitem:
            source, index = argument.args
            assert isinstance(source, torch.fx.Node)
            assert isinstance(index, int)
            if source in self.values:
                result = self.values[source]
                return result if isinstance(result, Value) else self._chosen(result, index, argument)
        constant = self.constant(argument)
        if constant is None:
            raise ExportError(f"{source_of(self.node)}: {self.node.target} of {argument} is not supported")
        return Value.array(constant.shape, self.stored(constant))

    def _chosen(self, results: list[Value | None], index: int, node: torch.fx.Node) -> Value:
        value = results[index] if index < len(results) else None
        if value is None:
            origin = node.args[0] if isinstance(node.args[0], torch.fx.Node) else node
            raise ExportError(
                f"{source_of(origin)}: result {index} of {origin.target} is not supported, which holds indices or what "
                "training needs; use the first result alone"
            )
        return value

    def form(self, form: str, argument: Any) -> str:
        """The name of a form of a torch argument: ``"image"``, ``"rows"`` or ``"array"``; see `biper.lowering.values`.

        Raises:
            ExportError: a tensor of this shape has no such form.
        """
        value = argument if isinstance(argument, Value) else self.value(argument)
        name = value.get(form, self._convert)
        if name is None:
            raise ExportError(
                f"{source_of(self.node)}: {self.node.target} reads shape {value.shape}, expected (1, C, H, W), "
                "(1, C, L) or (1, features)"
            )
        return name

    def image(self, argument: Any) -> str:
        """The name of the image form (C, H, W) of a torch argument."""
        return self.form("image", argument)

    def array(self, argument: Any) -> str:
        """The name of the array form of a torch argument."""
        return self.form("array", argument)

    def constant(self, argument: Any) -> NDArray[np.float32] | None:
        """The constant that a torch argument stands for, or None if it is None or computed from the image."""
        raw = self.raw_constant(argument)
        return None if raw is None else np.array(raw, np.float32)

    def raw_constant(self, argument: Any) -> NDArray[Any] | None:
        """The constant that a torch argument stands for, of its own type; None as for `constant`."""
        if isinstance(argument, torch.fx.Node):
            argument = self.constants.get(argument)
        if isinstance(argument, Tensor):
            return np.asarray(argument.detach().cpu().float() if argument.is_floating_point() else argument.cpu())
        return None if argument is None or isinstance(argument, str) else np.asarray(argument)

    def stored(self, constant: NDArray[Any]) -> str:
        """The name of a value that is a constant, which is emitted once.

        Raises:
            ExportError: the constant has NaN, which no packed file has.
        """
        array = np.array(constant, np.float32)
        if np.isnan(array).any():
            raise ExportError(
                f"{source_of(self.node)}: {self.node.target} reads a constant that has NaN, which no packed file has; "
                "use torch.where with a finite number in its place"
            )
        key = (array.shape, array.tobytes())
        if key not in self._stored_constants:
            name = f"constant.{len(self._stored_constants)}"
            self._constant_arrays[name] = array
            self._stored_constants[key] = self._append("constant", [], array.shape, name, tensors={"value": array})
        return self._stored_constants[key]

    def emit(self, operation: str, inputs: list[str], shape: Shape, **rest: Any) -> str:
        """Append a node for the torch node that is being lowered; returns the name of its real value.

        Args:
            operation: one that `biper.runtime.program` defines.
            inputs: names of the values that it reads.
            shape: of its result.
            rest: further fields of `biper.lowering.graph.Node`.
        """
        return self._append(operation, inputs, shape, self.fresh(), **rest)

    def fresh(self) -> str:
        """A name that no value has."""
        return f"{self.node.name}.{len(self.nodes)}"

    def _append(self, operation: str, inputs: list[str], shape: Shape, name: str, **rest: Any) -> str:
        self.nodes.append(Node(operation, inputs, shape, source_of(self.node), real=name, **rest))
        return name

    def _convert(self, operation: str, source: str, shape: Shape, attributes: dict[str, list[int]]) -> str:
        if source in self._constant_arrays:
            array = self._constant_arrays[source]
            return self.stored(array.transpose(attributes["order"]) if operation == "permute" else array.reshape(shape))
        return self.emit(operation, [source], shape, attributes=attributes)
