"""Run a model once on an example and note each operator that torch executes; see `biper.binarize.dataflow`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from biper.binarize.dataflow import Flow, LayerUse, Step
from biper.binarize.operators import is_non_negative
from biper.binarize.run_once import input_of, run_once

OTHER_LAYERS = (nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Bilinear)
"""Types of modules that multiply with weights, beside the candidates that `record` is given."""

_STEP = "_biper_step"
"""The attribute of a tensor that holds the step that made it."""


def record(model: nn.Module, layers: Mapping[str, nn.Module], arguments: tuple[Any, ...]) -> Flow:
    """Run a model once, without gradients, and note what happens.

    The model runs in the mode (training or evaluation) that it is in. Its buffers, such as the running statistics of
    batch norms, and torch's random generators are put back afterwards.

    Args:
        model: any module.
        layers: the layers to treat as one step each, by qualified name.
        arguments: the positional arguments of the model.

    Raises:
        ModelError: the model does not run on the arguments.
    """
    recorder, watch = _Recorder(), _Watch()
    tensors = [value for value in tree_leaves(arguments) if isinstance(value, Tensor)]
    for tensor in tensors:
        recorder.add("input", (), tensor, tensor.is_floating_point() and bool((tensor >= 0).all()))
    try:
        with watch.hooks(model, layers, recorder), recorder:
            run_once(model, arguments)
    finally:
        for tensor in tensors:
            delattr(tensor, _STEP)
    others = frozenset(name for name, module in model.named_modules() if isinstance(module, OTHER_LAYERS))
    return Flow(recorder.steps, watch.uses, watch.modules_of_one_step(), others)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operator that runs outside of the layers.

    ``stack`` holds the names of the modules that are running, the innermost last.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.stack: list[str] = [""]
        self.inside_layer = 0

    def __torch_dispatch__(
        self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
        made_by: list[Step | None] = [getattr(tensor, _STEP, None) for tensor in tensors]
        inputs = tuple(step for step in made_by if step is not None)
        noted = bool(inputs) and not self.inside_layer
        name = str(function.overloadpacket.__name__)
        signs = [
            not tensor.is_complex() and bool((tensor >= 0).all()) if step is None else step.non_negative
            for tensor, step in zip(tensors, made_by, strict=True)
            if noted
        ]
        result = function(*arguments, **keywords)
        if noted:
            self.add(name, inputs, result, is_non_negative(name, arguments, keywords, signs))
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


class _Watch:
    """The hooks on a model's modules: which module is running, and what each layer is called on."""

    def __init__(self) -> None:
        self.uses: dict[str, LayerUse] = {}
        self._starts: list[int] = []
        self._step_counts: dict[str, set[int]] = {}

    def modules_of_one_step(self) -> frozenset[str]:
        """Names of modules of which every call executed exactly one operator, such as activations."""
        return frozenset(name for name, counts in self._step_counts.items() if counts == {1})

    @contextmanager
    def hooks(self, model: nn.Module, layers: Mapping[str, nn.Module], recorder: _Recorder) -> Iterator[None]:
        """Hooks on all modules, for as long as the context lasts."""
        handles = []
        for name, module in model.named_modules():
            if name in layers:
                before, after = self._around_layer(LayerUse(name, module), recorder)
            elif name and not isinstance(module, ScriptModule) and not any(name.startswith(f"{x}.") for x in layers):
                before, after = self._around_module(name, recorder)
            else:
                continue
            handles += [
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after, with_kwargs=True),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _around_module(self, name: str, recorder: _Recorder) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(_module: nn.Module, _arguments: Any, _keywords: Any) -> None:
            recorder.stack.append(name)
            self._starts.append(len(recorder.steps))

        def after(_module: nn.Module, _arguments: Any, _keywords: Any, _result: Any) -> None:
            recorder.stack.pop()
            self._step_counts.setdefault(name, set()).add(len(recorder.steps) - self._starts.pop())

        return before, after

    def _around_layer(self, use: LayerUse, recorder: _Recorder) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(_module: nn.Module, _arguments: Any, _keywords: Any) -> None:
            recorder.inside_layer += 1

        def after(_module: nn.Module, arguments: Any, keywords: Any, result: Tensor) -> None:
            x = input_of(arguments, keywords)
            source = getattr(x, _STEP, None)
            inputs = () if source is None else (source,)
            use.add_call(recorder.add("layer", inputs, result, False, use.name), x, result)
            recorder.inside_layer -= 1
            self.uses.setdefault(use.name, use)

        return before, after
