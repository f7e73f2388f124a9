"""What feeds each layer of a model: the operators of one forward pass, recorded while the model runs on an example.

`record` runs the model once and keeps, for each operator that torch executes, its name, the steps that made its inputs,
and the module that called it. It follows the data through whatever Python code the model has, also where torch.fx
cannot trace. The methods of `Flow` answer what `biper.binarize_` asks: in which order layers run, which activations
decide the sign of a layer's input, and which layers are gates or shortcuts.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from biper.errors import ModelError

NON_NEGATIVE = frozenset(
    [
        "relu",
        "relu6",
        "sigmoid",
        "hardsigmoid",
        "silu",
        "hardswish",
        "gelu",
        "mish",
        "softplus",
        "square",
        "abs",
        "exp",
        "softmax",
        "_softmax",
        "_safe_softmax",
        "threshold",
        "norm",
        "linalg_vector_norm",
        "var",
        "std",
        "sqrt",
        "rsqrt",
    ]
)
"""Operators whose result is never below zero, or hardly: that of silu, hardswish, gelu and mish stays above -0.38."""

SHARES = frozenset(["sigmoid", "hardsigmoid", "softmax", "_softmax", "_safe_softmax"])
"""Operators whose result is a share between 0 and 1: a product with it has the sign of the other factor."""

PASSING = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "flatten",
        "unflatten",
        "expand",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "clone",
        "contiguous",
        "alias",
        "detach",
        "slice",
        "select",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "narrow",
        "index",
        "roll",
        "flip",
        "lift_fresh_copy",
        "_to_copy",
        "as_strided",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "mean",
        "amax",
        "sum",
        "constant_pad_nd",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_linear1d",
        "upsample_bilinear2d",
        "_upsample_bilinear2d_aa",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "native_channel_shuffle",
        "native_dropout",
        "dropout",
        "im2col",
        "reflection_pad1d",
        "reflection_pad2d",
        "replication_pad1d",
        "replication_pad2d",
    ]
)
"""Operators that keep the sign of their input: the result is non-negative where the input is."""

MERGING = frozenset(["add", "mul", "div", "maximum", "minimum", "cat", "stack"])
"""Operators whose result is non-negative where all their inputs are."""

_STEP = "_biper_step"
"""The attribute of a tensor that holds the step that made it."""


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
    non_negative_values: int = 0
    values: int = 0
    multiply_accumulates: int = 0
    """For one sample, over all calls."""

    @property
    def positive_share(self) -> float:
        """The share of the input values that are at least 0, whose sign is +1."""
        return self.non_negative_values / self.values if self.values else 0.0


class Flow:
    """The recorded forward pass: its steps, and the candidate layers in order of execution.

    Attributes:
        steps: all steps in order of execution.
        uses: for each candidate layer that ran, how it was used, in order of the first call.
        single_step_modules: names of modules of which every call executed exactly one operator, such as activations.
    """

    def __init__(self, steps: list[Step], uses: dict[str, LayerUse], single_step_modules: frozenset[str]) -> None:
        self.steps, self.uses, self.single_step_modules = steps, uses, single_step_modules
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
        """Whether no other candidate layer runs before this one on the way from the model's input."""
        return not any(each.layer for call in self.uses[name].steps for each in self.ancestors(call))

    def is_last(self, name: str) -> bool:
        """Whether no other candidate layer runs behind this one on the way to the model's output."""
        return not any(each.layer for call in self.uses[name].steps for each in self.descendants(call))

    @functools.cached_property
    def gates(self) -> frozenset[str]:
        """Candidate layers whose only purpose is to weigh another value, as those of squeeze-and-excitation do."""
        found: set[str] = set()
        for product in self.steps:
            if product.operator not in ("mul", "mul_") or len(product.inputs) != 2:
                continue
            for gate, value in (product.inputs, product.inputs[::-1]):
                if not (_is_share(gate) or _is_one_pixel(gate, value)):
                    continue
                before_value = self.ancestors(value) | {value}
                ways = _reachable(gate, lambda each, stop=before_value: [s for s in each.inputs if s not in stop])
                ways = (ways | {gate}) - before_value
                found |= {each.layer for each in ways if each.layer}
        return frozenset(found)

    @functools.cached_property
    def shortcuts(self) -> frozenset[str]:
        """Candidate 1x1 convolutions that do nothing but bring a residual to another shape."""
        found: set[str] = set()
        for total in self.steps:
            if total.operator not in ("add", "add_") or len(total.inputs) != 2:
                continue
            for branch, other in (total.inputs, total.inputs[::-1]):
                call = _projection(branch)
                if call is None or not self._changes_shape(call.layer):
                    continue
                start = call.inputs[0]
                while start.operator in PASSING:
                    start = start.inputs[0]
                between = self.ancestors(other) | {other}
                if (
                    call not in between
                    and start in between
                    and any(each.layer for each in between & self.descendants(start))
                ):
                    found.add(call.layer)
        return frozenset(found)

    def _changes_shape(self, name: str) -> bool:
        use = self.uses[name]
        kernel = getattr(use.layer, "kernel_size", ())
        return all(size == 1 for size in kernel) and len(kernel) > 0 and use.input_shape != use.output_shape


def _reachable(step: Step, neighbours: Any) -> set[Step]:
    found: set[Step] = set()
    waiting = list(neighbours(step))
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting.extend(neighbours(each))
    return found


def _culprits(step: Step) -> Iterator[Step]:
    name = step.operator.rstrip("_")
    if step.layer:
        return
    if name in PASSING or step.operator in PASSING:
        yield from _culprits(step.inputs[0])
    elif name in ("cat", "stack"):  # a part of the channels without a sign is reason enough
        for part in step.inputs:
            yield from _culprits(part)
    elif step.non_negative and name in MERGING:
        factors = [part for part in step.inputs if not (name in ("mul", "div") and _is_share(part))]
        for part in factors or step.inputs:
            yield from _culprits(part)
    elif step.non_negative:
        yield step


def _is_share(step: Step) -> bool:
    while step.operator in PASSING:
        step = step.inputs[0]
    return step.operator.rstrip("_") in SHARES


def _is_one_pixel(step: Step, beside: Step) -> bool:
    """Whether a factor is one number a channel beside a map."""
    return len(step.shape) == 4 and step.shape[2:] == (1, 1) and len(beside.shape) == 4 and beside.shape[2:] != (1, 1)


def _projection(step: Step) -> Step | None:
    """The candidate layer's call that a value comes from, through norms and reshapes alone."""
    while not step.layer:
        if not step.inputs or not (step.operator in PASSING or "norm" in step.operator):
            return None
        step = step.inputs[0]
    return step


class _Recorder(TorchDispatchMode):
    """Notes each operator that runs outside of candidate layers; ``stack`` names the running modules, innermost last."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.stack: list[str] = [""]
        self.inside_layer = 0

    def __torch_dispatch__(
        self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
        inputs = tuple(step for tensor in tensors if (step := getattr(tensor, _STEP, None)) is not None)
        result = function(*arguments, **(keywords or {}))
        if inputs and not self.inside_layer:
            name = str(function.overloadpacket.__name__)
            self.add(name, inputs, result, _is_non_negative(name, inputs, tensors, arguments))
        return result

    def add(self, operator: str, inputs: tuple[Step, ...], result: Any, non_negative: bool, layer: str = "") -> Step:
        """Note a step, and mark the tensors that it made."""
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        shape = tuple(outputs[0].shape) if outputs else ()
        step = Step(len(self.steps), operator, inputs, self.stack[-1], shape, non_negative, layer)
        self.steps.append(step)
        for output in outputs:
            setattr(output, _STEP, step)
        return step


def _is_non_negative(
    operator: str, inputs: tuple[Step, ...], tensors: list[Tensor], arguments: tuple[Any, ...]
) -> bool:
    name = operator.rstrip("_")
    if name in NON_NEGATIVE:
        return True
    if name in ("hardtanh", "clamp", "clamp_min", "leaky_relu"):
        bound = arguments[1] if len(arguments) > 1 else None
        return name != "leaky_relu" and isinstance(bound, int | float) and bound >= 0
    if name == "pow":
        return isinstance(arguments[1], int | float) and arguments[1] % 2 == 0
    if name in PASSING or operator in PASSING:
        return inputs[0].non_negative
    if name in MERGING:
        numbers = [value for value in arguments if isinstance(value, int | float)]
        constants = [tensor for tensor in tensors if not hasattr(tensor, _STEP)]
        known = all(step.non_negative for step in inputs) and all(number >= 0 for number in numbers)
        return known and all(bool((constant >= 0).all()) for constant in constants)
    return False


def record(model: nn.Module, candidates: dict[str, nn.Module], example: Iterable[Any]) -> Flow:
    """Run a model once on an example, without gradients, and note what happens.

    The model runs in the mode (training or evaluation) that it is in; its buffers, such as the running statistics of
    batch norms, and torch's random generator are put back afterwards.

    Args:
        model: any module.
        candidates: the layers to treat as one step each, by qualified name.
        example: the positional arguments of the model.

    Raises:
        ModelError: the model does not run on the example.
    """
    example = tuple(example)
    recorder, uses = _Recorder(), {}
    operators_of_module: dict[str, set[int]] = {}
    handles = []

    def enter(name: str) -> Any:
        def hook(_module: nn.Module, _arguments: Any) -> None:
            recorder.stack.append(name)
            starts.append(len(recorder.steps))

        return hook

    def leave(name: str) -> Any:
        def hook(_module: nn.Module, _arguments: Any, _result: Any) -> None:
            recorder.stack.pop()
            operators_of_module.setdefault(name, set()).add(len(recorder.steps) - starts.pop())

        return hook

    starts: list[int] = []
    for name, module in model.named_modules():
        if name in candidates:
            use = LayerUse(name, module)
            handles.append(module.register_forward_pre_hook(_before_layer(recorder)))
            handles.append(module.register_forward_hook(_after_layer(recorder, use, uses)))
        elif name and not any(name.startswith(f"{layer}.") for layer in candidates):
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave(name)))
    try:
        with _as_it_was(model), torch.no_grad():
            for value in tree_leaves(example):
                if isinstance(value, Tensor):
                    step = recorder.add("input", (), (), value.is_floating_point() and bool((value >= 0).all()))
                    setattr(value, _STEP, step)
            with recorder:
                model(*example)
    except ModelError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the model does not run on `example`: {first}") from error
    finally:
        for handle in handles:
            handle.remove()
        for value in tree_leaves(example):
            if isinstance(value, Tensor) and hasattr(value, _STEP):
                delattr(value, _STEP)
    single = frozenset(name for name, counts in operators_of_module.items() if counts == {1})
    return Flow(recorder.steps, uses, single)


def _before_layer(recorder: _Recorder) -> Any:
    def hook(_module: nn.Module, _arguments: Any) -> None:
        recorder.inside_layer += 1

    return hook


def _after_layer(recorder: _Recorder, use: LayerUse, uses: dict[str, LayerUse]) -> Any:
    def hook(module: nn.Module, arguments: tuple[Any, ...], result: Tensor) -> None:
        (x,) = (value for value in arguments if isinstance(value, Tensor))
        source = getattr(x, _STEP, None)
        use.steps.append(recorder.add("layer", () if source is None else (source,), result, False, use.name))
        recorder.inside_layer -= 1
        use.input_shape, use.output_shape = tuple(x.shape), tuple(result.shape)
        use.non_negative_values += int((x >= 0).sum())
        use.values += x.numel()
        weight: Any = module.weight
        channels = len(weight)
        use.multiply_accumulates += result.numel() // channels * weight.numel() // max(len(result), 1)
        uses.setdefault(use.name, use)

    return hook


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Put back, afterwards, the model's buffers, torch's random generators and the fast path of transformers."""
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would not call the layers
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers and buffer.shape == buffers[name].shape:
                    buffer.copy_(buffers[name])
