"""What feeds each layer of a model: the operators of one forward pass, recorded while the model runs on an example.

`biper.binarize.record` runs the model once and keeps, for each operator that torch executes, its name, the steps that
made its inputs, and the module that called it. It follows the data through whatever Python code the model has, also
where torch.fx cannot trace. The methods of `Flow` answer what `biper.binarize_` asks: in which order layers run,
which activations decide the sign of a layer's input, and which layers are gates or shortcuts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from biper.binarize.operators import MERGING, PASSING, SHARES, base_name


@dataclass(eq=False)
class Step:
    """One operator that was executed, or one call of a candidate layer, or the input of the model."""

    number: int
    operator: str
    inputs: tuple[Step, ...]
    module: str
    """The qualified name of the innermost module that called it; empty for the model itself."""
    shape: tuple[int, ...]
    non_negative: bool
    layer: str = ""
    """The qualified name of the candidate layer whose call this step is; empty for other steps."""


@dataclass(eq=False)
class LayerUse:
    """How one candidate layer was used in the forward pass, over all its calls."""

    name: str
    layer: nn.Module
    steps: list[Step] = field(default_factory=list)
    """One step for each call."""
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    multiply_accumulates: int = 0
    """For one sample, over all calls."""

    def add_call(self, step: Step, x: Tensor, result: Tensor) -> None:
        """Note a call of the layer on ``x``, with its result."""
        weight: Any = self.layer.weight
        self.steps.append(step)
        self.input_shape, self.output_shape = tuple(x.shape), tuple(result.shape)
        self.multiply_accumulates += result.numel() // len(weight) * weight.numel() // max(len(result), 1)


class Flow:
    """The recorded forward pass: its steps, and the candidate layers in order of execution.

    Attributes:
        steps: all steps in order of execution.
        uses: for each candidate layer that ran, how it was used, in order of the first call.
        single_step_modules: names of modules of which every call executed exactly one operator, such as activations.
        other_layers: names of modules that multiply with weights and are no candidates, such as `torch.nn.LSTM`.
    """

    def __init__(
        self,
        steps: list[Step],
        uses: dict[str, LayerUse],
        single_step_modules: frozenset[str],
        other_layers: frozenset[str],
    ) -> None:
        self.steps, self.uses = steps, uses
        self.single_step_modules, self.other_layers = single_step_modules, other_layers
        self._readers: dict[Step, list[Step]] = {step: [] for step in steps}
        for step in steps:
            for source in step.inputs:
                self._readers[source].append(step)

    def ancestors(self, step: Step) -> set[Step]:
        """All steps that the result of ``step`` depends on, without itself."""
        return _reachable(step, lambda each: each.inputs)

    def descendants(self, step: Step) -> set[Step]:
        """All steps whose results depend on ``step``, without itself."""
        return _reachable(step, lambda each: self._readers[each])

    def culprits(self, name: str) -> list[Step]:
        """The steps that keep the input of a candidate layer, or a part of its channels, from being negative."""
        found = [each for call in self.uses[name].steps for source in call.inputs for each in _culprits(source)]
        return list(dict.fromkeys(found))

    def is_first(self, name: str) -> bool:
        """Whether no other layer runs before this one on the way from the model's input."""
        return not any(self._is_layer(each) for call in self.uses[name].steps for each in self.ancestors(call))

    def is_last(self, name: str) -> bool:
        """Whether no other layer runs behind this one on the way to the model's output."""
        return not any(self._is_layer(each) for call in self.uses[name].steps for each in self.descendants(call))

    def _is_layer(self, step: Step) -> bool:
        return bool(step.layer) or step.module in self.other_layers

    @functools.cached_property
    def gates(self) -> frozenset[str]:
        """Candidate layers whose only purpose is to weigh another value, as those of squeeze-and-excitation do."""
        found: set[str] = set()
        for product in self.steps:
            if base_name(product.operator) != "mul" or len(product.inputs) != 2:
                continue
            for gate, value in (product.inputs, product.inputs[::-1]):
                if not (_is_share(gate) or _is_one_pixel(gate, value)):
                    continue
                behind_value = self.ancestors(value) | {value}
                way = {gate, *self.ancestors(gate)} - behind_value
                found |= {each.layer for each in way if each.layer}
        return frozenset(found)

    @functools.cached_property
    def shortcuts(self) -> frozenset[str]:
        """Candidate 1x1 convolutions that do nothing but bring a residual to another shape."""
        found: set[str] = set()
        for total in self.steps:
            if base_name(total.operator) != "add" or len(total.inputs) != 2:
                continue
            for branch, other in (total.inputs, total.inputs[::-1]):
                call = _projection(branch)
                if call is None or not self._changes_shape(call.layer):
                    continue
                if not call.inputs:  # its input was made in the forward pass and does not depend on the model's input
                    continue
                start = call.inputs[0]
                while base_name(start.operator) in PASSING:
                    start = start.inputs[0]
                residual = self.ancestors(other) | {other}
                beside = residual & self.descendants(start)
                if call not in residual and start in residual and any(each.layer for each in beside):
                    found.add(call.layer)
        return frozenset(found)

    def _changes_shape(self, name: str) -> bool:
        use = self.uses[name]
        kernel = getattr(use.layer, "kernel_size", ())
        return all(size == 1 for size in kernel) and len(kernel) > 0 and use.input_shape != use.output_shape


def _reachable(step: Step, neighbours: Callable[[Step], Iterable[Step]]) -> set[Step]:
    """All steps that can be reached from ``step`` by going to neighbours, without itself."""
    found: set[Step] = set()
    waiting = list(neighbours(step))
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting.extend(neighbours(each))
    return found


def _culprits(start: Step) -> Iterator[Step]:
    """The steps behind a value that keep it, or some of its channels, from being negative."""
    seen: set[Step] = set()
    waiting = [start]
    while waiting:
        step = waiting.pop()
        if step in seen or step.layer:
            continue
        seen.add(step)
        name = base_name(step.operator)
        if name in PASSING:
            waiting.append(step.inputs[0])
        elif name in ("cat", "stack"):  # a part of the channels without a sign is reason enough
            waiting.extend(step.inputs)
        elif step.non_negative and name in MERGING:
            factors = [part for part in step.inputs if not (name in ("mul", "div") and _is_share(part))]
            waiting.extend(factors or step.inputs)
        elif step.non_negative:
            yield step


def _is_share(step: Step) -> bool:
    """Whether a value is between 0 and 1, but for a constant factor."""
    while base_name(step.operator) in PASSING or (
        base_name(step.operator) in ("mul", "div") and len(step.inputs) == 1 and step.non_negative
    ):
        step = step.inputs[0]
    return base_name(step.operator) in SHARES


def _is_one_pixel(step: Step, beside: Step) -> bool:
    """Whether a factor is one number a channel beside a map."""
    return len(step.shape) == 4 and step.shape[2:] == (1, 1) and len(beside.shape) == 4 and beside.shape[2:] != (1, 1)


def _projection(step: Step) -> Step | None:
    """The candidate layer's call that a value comes from, through norms and reshapes alone."""
    while not step.layer:
        if not step.inputs or not (base_name(step.operator) in PASSING or "norm" in step.operator):
            return None
        step = step.inputs[0]
    return step
