"""Methods of binarization as data: which quantizers a network gets, with which options.

What each of them computes is said in `biper.quantizers`; `biper.methods.build` makes the quantizers of a method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from biper.errors import ModelError
from biper.methods.closed_form import LARGEST_ERROR
from biper.methods.fields import Positive, Settings


class _Method(Settings):
    learning_rate_factor: Positive = 1.0
    """The learning rate of latent weights, as a multiple of the stage's: what one method needs is not what another
    does (the gradient of a wave carries its frequency as a factor)."""

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that it trains, 1 (relaxed) and 2 (binary): most methods are binary from the start."""
        return (2,)


class BiperMethod(_Method):
    """The binary periodic function (Vargas et al., CVPR 2024), and what the paper leaves fixed."""

    name: Literal["biper"] = "biper"
    relaxed_stage: bool = True
    """Train with the wave itself first; without, with its signs from the start."""
    wave: Literal["sine", "triangle"] = "sine"
    """Of stage 1, and of the gradient of both."""
    learn_frequency: Literal["no", "layer", "channel"] = "no"
    """Learn one ω for each layer, or for each of its output channels; it starts at ``model.frequency``."""
    frequency_end: Positive | None = None
    """ω moves geometrically from ``model.frequency`` to this over stage 1."""
    target_error: Annotated[float, Field(gt=0, le=LARGEST_ERROR)] | None = None
    """Each layer's ω is chosen, in place of ``model.frequency``, so that its initial weights have this quantization
    error by the closed form for Laplace weights, `biper.methods.closed_form`."""
    sharpen_from: Annotated[float, Field(ge=0, lt=1)] | None = None
    """From this share of stage 1 on the wave turns by degrees into the square one."""

    @model_validator(mode="after")
    def _consistent(self) -> BiperMethod:
        if not self.relaxed_stage and (self.frequency_end is not None or self.sharpen_from is not None):
            raise ValueError("frequency_end and sharpen_from are about stage 1, which relaxed_stage = false leaves out")
        return self

    @property
    def stages(self) -> tuple[int, ...]:
        """Both, unless the relaxed one is left out."""
        return (1, 2) if self.relaxed_stage else (2,)

    @property
    def is_tuned(self) -> bool:
        """Whether it takes more than the published `PeriodicSign`."""
        return self.model_dump(exclude=_NOT_OF_THE_WAVE) != BiperMethod().model_dump(exclude=_NOT_OF_THE_WAVE)


_NOT_OF_THE_WAVE = {"learning_rate_factor", "relaxed_stage"}


class BnnMethod(_Method):
    """Signs with the clipped straight-through estimator (Hubara et al., NeurIPS 2016)."""

    name: Literal["bnn"] = "bnn"


class XnorNetMethod(_Method):
    """Signs times mean magnitudes (Rastegari et al., ECCV 2016)."""

    name: Literal["xnor-net"] = "xnor-net"


class DoReFaMethod(_Method):
    """One scale a layer, gradients straight through, inputs of 0 and 1 (Zhou et al., 2016)."""

    name: Literal["dorefa"] = "dorefa"


class BiRealMethod(_Method):
    """Magnitude-aware weights, ApproxSign inputs (Liu et al., ECCV 2018)."""

    name: Literal["bi-real"] = "bi-real"


class _ErrorDecay(_Method):
    t_start: Positive = 0.1
    """Steepness of the estimator's tanh at the start,"""
    t_end: Positive = 10.0
    """and at the end."""


class IrNetMethod(_ErrorDecay):
    """Balanced standardized weights, error-decay estimator (Qin et al., CVPR 2020)."""

    name: Literal["ir-net"] = "ir-net"


class ReCuMethod(_Method):
    """Standardized weights behind a rectified clamp (Xu et al., ICCV 2021)."""

    name: Literal["recu"] = "recu"
    tau_start: Annotated[float, Field(gt=0.5, lt=1)] = 0.85
    """The quantile that weights are clamped at, at the start,"""
    tau_end: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """and at the end."""


class ReSteMethod(_Method):
    """The power function as estimator (Wu et al., ICCV 2023)."""

    name: Literal["reste"] = "reste"
    order_end: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3.0
    """The power is one over this at the end; at the start it is 1."""
    window: Positive = 1.5
    """Beyond this no gradient passes."""
    flat: Positive = 0.1
    """Up to this the gradient is the slope of a chord."""


class AdaBinMethod(_ErrorDecay):
    """Binary sets that adapt, of weights and of inputs (Tu et al., ECCV 2022)."""

    name: Literal["adabin"] = "adabin"


class ReActNetMethod(_Method):
    """Magnitude-aware weights, learned thresholds (RSign) and activations (RPReLU) (Liu et al., ECCV 2020)."""

    name: Literal["reactnet"] = "reactnet"


Method = (
    BiperMethod
    | BnnMethod
    | XnorNetMethod
    | DoReFaMethod
    | BiRealMethod
    | IrNetMethod
    | ReCuMethod
    | ReSteMethod
    | AdaBinMethod
    | ReActNetMethod
)
AnyMethod = Annotated[Method, Field(discriminator="name")]

METHODS: dict[str, type[Method]] = {kind.model_fields["name"].default: kind for kind in Method.__args__}
"""Every method by its name."""


def read_method(value: Method | str | Mapping[str, Any] | None) -> Method:
    """A method given as such, by its name, or as a table of its name and options; None is `BiperMethod`.

    Raises:
        ModelError: there is no such method, or an option of it is wrong.
    """
    if isinstance(value, _Method):
        return value
    table = {} if value is None else {"name": value} if isinstance(value, str) else dict(value)
    try:
        return _ADAPTER.validate_python({"name": "biper"} | table)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in ("method", *problem["loc"][1:]))
        raise ModelError(
            f"{where}: {problem['msg']}, got {problem['input']!r}; methods: {', '.join(METHODS)}"
        ) from error


_ADAPTER: TypeAdapter[Method] = TypeAdapter(AnyMethod)
