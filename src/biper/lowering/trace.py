"""From a torch module to a `Graph`: `torch.export` lists the operators, and each becomes nodes of the graph."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions, decomposition_table
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from biper.errors import ExportError
from biper.lowering.exported_layers import with_exported_layers
from biper.lowering.graph import Graph
from biper.lowering.operators import HANDLERS
from biper.lowering.torch_nodes import WRAPPED, keywords_of, operator_name, source_of
from biper.lowering.tracer import LIKE, Tracer
from biper.lowering.views import undo_scattered_views_

Example = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""The inputs of a model: the image, or the image and further inputs in their order or by their names."""

ROUNDS = 6
"""How many times operators that have no handler are decomposed into others."""


def trace(model: nn.Module, example_input: Example) -> Graph:
    """Lower a model to a graph with nodes for each operator, nothing fused.

    Args:
        model: any module that maps one batch of images (N, C, H, W), of signals (N, C, L) or of vectors (N, F), and
            further tensors, to one tensor or to several in a tuple, a list, a dict, a named tuple or a dataclass.
        example_input: the inputs, floating point; they fix all sizes but N. A signal is an image of height 1.

    Raises:
        ExportError: the model cannot be traced, or uses an operator that is not supported (the text names the operator
            and its module).
    """
    prepared = with_exported_layers(model).float()
    tensors = input_tensors(model, example_input)
    first = {name: tensor[:1].detach().cpu().float() for name, tensor in tensors.items()}
    names = result_names(prepared, first)
    if names:
        prepared = Flattened(prepared)
    exported = _exported(prepared, first)
    undo_scattered_views_(exported.graph_module.graph)
    return Tracer(exported, HANDLERS, names, list(first)[1:]).run()


def input_tensors(model: nn.Module, example_input: Example) -> dict[str, Tensor]:
    """The inputs of a model by the names that its ``forward`` has for them, the image first.

    Raises:
        ExportError: an input is no tensor of floating point numbers, or ``forward`` has no argument for it.
    """
    if not isinstance(example_input, Tensor | Sequence | Mapping):
        given_type = type(example_input).__name__
        raise ExportError(f"example_input=... expects a torch.Tensor, or a sequence or dict of them, got {given_type}")
    if isinstance(example_input, Mapping):
        named = dict(example_input)
    else:
        given = [example_input] if isinstance(example_input, Tensor) else list(example_input)
        parameters = [
            name
            for name, parameter in inspect.signature(model.forward).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        if len(given) > max(len(parameters), 1):
            raise ExportError(f"example_input has {len(given)} inputs, and the model's forward takes {len(parameters)}")
        parameters += [f"input{number}" for number in range(len(parameters), len(given))]
        named = dict(zip(parameters, given, strict=False))
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.dim() < 1 or not len(tensor):
            raise ExportError(
                f"example_input: {name} must be a floating point tensor that begins with the batch, got "
                f"{getattr(tensor, 'dtype', type(tensor).__name__)} {tuple(getattr(tensor, 'shape', ()))}"
            )
    if not named:
        raise ExportError("example_input has no tensor")
    if next(iter(named.values())).dim() not in (2, 3, 4):
        shape = tuple(next(iter(named.values())).shape)
        raise ExportError(f"example_input must be (N, C, H, W), (N, C, L) or (N, features), got shape {shape}")
    return named


def named_results(result: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a result with their names: keys, fields or numbers, joined by dots where they are nested."""
    if isinstance(result, Tensor):
        yield prefix, result
        return
    items: Iterator[tuple[Any, Any]]
    if isinstance(result, Mapping):
        items = iter(result.items())
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        items = ((field.name, getattr(result, field.name)) for field in dataclasses.fields(result))
    elif isinstance(result, tuple) and hasattr(result, "_asdict"):
        items = iter(result._asdict().items())
    elif isinstance(result, tuple | list):
        items = iter(enumerate(result))
    else:
        if result is not None:
            raise ExportError(f"the model returns a {type(result).__name__} where a tensor is expected")
        return
    for key, value in items:
        yield from named_results(value, f"{prefix}.{key}" if prefix else str(key))


def result_names(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[str]:
    """The names of the results of a model that returns several tensors or names one; empty for a single tensor.

    Raises:
        ExportError: the model fails on its inputs, or returns something else than tensors.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = call(model, {name: tensor.clone() for name, tensor in inputs.items()})
        except ExportError:
            raise
        except Exception as error:  # a model of somebody else raises anything
            raise ExportError(
                f"the model fails on example_input: {type(error).__name__}: {first_line(error)}"
            ) from error
    if isinstance(result, Tensor):
        return []
    names = [name for name, _ in named_results(result)]
    if not names:
        raise ExportError("the model returns no tensor")
    return names


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """Run a model on inputs by name; the first is given by its position, because it may have another name."""
    (_, image), *others = inputs.items()
    return model(image, **dict(others))


class Flattened(nn.Module):
    """A model that returns the tensors of a nested result as one tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        setattr(self, WRAPPED, model)

    def forward(self, image: Tensor, **others: Tensor) -> tuple[Tensor, ...]:
        result = getattr(self, WRAPPED)(image, **others)
        return tuple(tensor for _, tensor in named_results(result))


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its type."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _exported(model: nn.Module, inputs: Mapping[str, Tensor]) -> torch.export.ExportedProgram:
    """The exported program of a model; operators that have no handler are decomposed where torch knows how."""
    (_, image), *others = inputs.items()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own internals
            program: torch.export.ExportedProgram = torch.export.export(model, (image,), dict(others))
            _require_own_results(program)
            program = program.run_decompositions({})
            known = {**decomposition_table, **core_aten_decompositions()}
            for _ in range(ROUNDS):
                missing = {
                    node.target: known[node.target]
                    for node in program.graph.nodes
                    if node.op == "call_function" and not _is_handled(node) and node.target in known
                }
                if not missing:
                    break
                program = program.run_decompositions(missing)
    except ExportError:
        raise
    except GuardOnDataDependentSymNode as error:
        raise ExportError(
            "torch.export cannot trace this model: a branch or a size depends on the values of its input; write it "
            f"with torch.where, or keep it out of the exported model ({first_line(error)})"
        ) from error
    except Exception as error:  # torch.export raises many kinds
        raise ExportError(f"torch.export cannot trace this model: {first_line(error)}") from error
    return program


def _require_own_results(program: torch.export.ExportedProgram) -> None:
    """Check that no operator makes complex numbers, and that none mixes the images of a batch.

    Raises:
        ExportError: one does; the text names it and its module.
    """
    computed: set[torch.fx.Node] = set()  # from the inputs of the user
    for node in program.graph.nodes:
        if node.name in program.graph_signature.user_inputs or not computed.isdisjoint(node.all_input_nodes):
            computed.add(node)
        made = node.meta.get("val")
        if isinstance(made, Tensor) and made.is_complex():
            raise ExportError(
                f"{source_of(node)}: {node.target} gives complex numbers, which are not supported; compute their real "
                "and imaginary parts"
            )
        mixes = node.op == "call_function" and operator_name(node) == "batch_norm" and keywords_of(node)["training"]
        if mixes and node in computed:
            raise ExportError(
                f"{source_of(node)}: a batch norm without running statistics normalizes by the other images of the "
                "batch; use track_running_stats=True, or an instance norm"
            )


def _is_handled(node: torch.fx.Node) -> bool:
    name = operator_name(node)
    return name in HANDLERS or name in LIKE or name == "getitem" or not node.all_input_nodes
