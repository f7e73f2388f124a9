"""Which layers of a model `biper.binarize_` makes binary, and the reason for each layer that stays real."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from biper.binarize.dataflow import Flow
from biper.methods.fields import Settings
from biper.methods.settings import Method, explain_method
from biper.nn import BINARY_LAYERS

FEW_CHANNELS = 8
"""A layer with fewer input channels stays real by default: so few bits carry little, and their sums cost as much."""

Kind = Literal["first", "last", "depthwise", "gates", "shortcuts", "few-channels"]

REASONS: dict[Kind, str] = {
    "first": "the first layer",
    "last": "the last layer",
    "depthwise": "depthwise: each sum would be of a few bits",
    "gates": "a gate: it weighs another value and decides its range",
    "shortcuts": "a 1x1 shortcut that changes the shape: it carries the residual",
    "few-channels": f"fewer than {FEW_CHANNELS} input channels",
}

REPLACEABLE = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""The layer types that have a binary form."""

UNTOUCHED: dict[type[nn.Module], str] = {
    nn.Conv3d: "there is no binary form of Conv3d",
    nn.ConvTranspose1d: "there is no binary form of a transposed convolution",
    nn.ConvTranspose2d: "there is no binary form of a transposed convolution",
    nn.ConvTranspose3d: "there is no binary form of a transposed convolution",
    nn.RNNBase: "there is no binary form of recurrent layers",
    nn.RNNCellBase: "there is no binary form of recurrent layers",
    nn.MultiheadAttention: "the projections of an attention are packed into one parameter",
    nn.Embedding: "an embedding is a table that is read, not multiplied",
    nn.EmbeddingBag: "an embedding is a table that is read, not multiplied",
    nn.Bilinear: "there is no binary form of Bilinear",
    torch.jit.ScriptModule: "it is compiled by torch.jit",
}
"""Layer types with weights that `biper.binarize_` knows and leaves alone, and why."""


class BinarizeConfig(Settings):
    """Which layers `biper.binarize_` changes, and into what.

    Without ``include``, every `torch.nn.Conv1d`, `Conv2d` and `Linear` becomes binary but the kinds in ``keep_real``.
    With ``include``, exactly those layers become binary whose qualified name matches one of its patterns (as in a
    shell: ``"features.*"``). ``exclude`` keeps matching layers real in either case.

    Raises:
        ModelError: there is no such setting, or a value is not of its kind.
    """

    model_config = ConfigDict(strict=False)

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    bits: Literal["W1A1", "W1A32"] = "W1A1"
    frequency: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """ω of the new layers, in radians per unit of weight."""
    pretrained: bool = False
    """Whether the weights are trained float weights that the binary model starts from. Then the scale of each output
    channel starts at ``mean |w|`` of the channel, and ω of each layer, in place of ``frequency``, is set from the
    spread of its weights such that the signs of 99.9 % of them survive (`biper.keep_signs_`); the report says how many
    do. Train such a model in three stages, of which the first is ``biper.set_stage_(model, "inputs")``."""
    method: Method = Method()
    """How weights and inputs become bits."""
    keep_real: tuple[Kind, ...] = ("first", "last", "depthwise", "gates", "shortcuts", "few-channels")
    """Kinds of layers that stay real. ``"first"`` and ``"last"`` are in order of execution; ``"gates"`` are the layers
    of squeeze-and-excitation and the like; ``"shortcuts"`` are 1x1 convolutions that bring a residual to another
    shape; ``"few-channels"`` have fewer than 8 input channels."""
    activation: Literal["method", "hardtanh", "rprelu", "prelu", "keep"] = "method"
    """What replaces an activation module that cannot be negative (relu, silu, gelu, sigmoid and the like) and feeds
    the sign of a binary layer. ``"method"`` is the activation of the method, and hardtanh where the method leaves the
    network's own; ``"rprelu"`` is the activation of ReActNet; ``"keep"`` replaces none."""
    one_signed: Literal["threshold", "norm", "real"] = "threshold"
    """What happens to a layer whose input still has one sign, because no activation module could be replaced: it gets
    a learned threshold for each channel in front of its sign, or a batch norm, or it stays real."""

    subclasses: Literal["real", "replace"] = "real"
    """What happens to a layer of a subclass of `Conv1d`, `Conv2d` or `Linear` with a forward pass of its own, such as a
    convolution that standardizes its weight: it stays real, or it becomes the binary form of its base, which computes
    from the weight alone what the base computes; what else its forward pass does is left out."""

    @classmethod
    def _explain(cls, problem: Any) -> str:
        if problem["loc"][:1] == ("method",):
            return explain_method({**problem, "loc": problem["loc"][1:]})
        return super()._explain(problem)

    @property
    def signed_activation(self) -> Literal["hardtanh", "rprelu", "prelu", "keep"]:
        """What ``activation`` says, with the activation of the method in place of ``"method"``."""
        if self.activation != "method":
            return self.activation
        of_method = self.method.activation.name
        return "hardtanh" if of_method == "network" else of_method


def reason_untouchable(layer: nn.Module, config: BinarizeConfig) -> str:
    """Why a convolution or linear layer cannot become binary, whichever layers are chosen; empty if it can."""
    if isinstance(layer, BINARY_LAYERS):
        return "already binary"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin) or isinstance(layer.weight, UninitializedParameter):
        return "a lazy layer: run the model once before"
    if parametrize.is_parametrized(layer):
        return f"its weight is computed: {', '.join(layer.parametrizations)} of it has a parametrization"  # type: ignore[arg-type]
    if "weight" not in layer._parameters:
        return "its weight is computed from other parameters, as by weight_norm or pruning"
    if isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "the projection of an attention, which uses its weight without calling it"
    if config.subclasses == "real" and not computes_as_base(type(layer)):
        kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
        return (
            f"a subclass of {base_of(type(layer)).__name__}, {kind}, whose forward pass may be another "
            '(subclasses="replace" takes it for its base)'
        )
    return ""


_HARMLESS = frozenset(("__init__", "reset_parameters", "extra_repr", "__annotate__", "__annotate_func__"))
"""What a subclass of a layer may define without computing something else."""


def base_of(kind: type[nn.Module]) -> type[nn.Conv1d | nn.Conv2d | nn.Linear]:
    """The torch layer that a type of layers is or is derived from."""
    return next(base for base in REPLACEABLE if issubclass(kind, base))


def computes_as_base(kind: type[nn.Module]) -> bool:
    """Whether a type is `torch.nn.Conv1d`, `Conv2d` or `Linear`, or a subclass that only sets up such a layer."""
    own = kind.__mro__[: kind.__mro__.index(base_of(kind))]
    names = {name for each in own for name, value in vars(each).items() if not name.startswith("__") or callable(value)}
    return names <= _HARMLESS


def reason_real(name: str, layer: Any, config: BinarizeConfig, flow: Flow | None, order: list[str]) -> str:
    """Why a layer that could become binary stays real by the configuration; empty if it does not.

    Args:
        name: the qualified name of the layer.
        layer: the layer.
        config: what the user chose.
        flow: the recorded data flow; None if the model could not be run.
        order: the qualified names of all candidate layers, in order of execution as far as it is known.
    """
    if any(fnmatchcase(name, pattern) for pattern in config.exclude):
        return "excluded"
    if config.include is not None:
        return "" if any(fnmatchcase(name, pattern) for pattern in config.include) else "not included"
    if flow is not None and name not in flow.uses:
        return "it did not run on the example"
    checks: dict[Kind, bool] = {
        "first": flow.is_first(name) if flow else name == order[0],
        "last": flow.is_last(name) if flow else name == order[-1],
        "depthwise": getattr(layer, "groups", 1) > 1 and layer.groups == layer.in_channels,
        "gates": flow is not None and name in flow.gates,
        "shortcuts": flow is not None and name in flow.shortcuts,
        "few-channels": input_channels(layer) < FEW_CHANNELS,
    }
    return next((REASONS[kind] for kind, is_so in checks.items() if is_so and kind in config.keep_real), "")


def input_channels(layer: nn.Module) -> int:
    """The number of channels, or of features, of a layer's input."""
    count = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    return int(count)  # type: ignore[arg-type]
