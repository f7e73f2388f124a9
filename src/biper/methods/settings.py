"""Methods of binarization as data: the name of a method and its options, as they stand in a recipe.

`biper.methods.build` makes the quantizers of a method, and `biper.quantizers` documents what each of them computes.
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
    """The learning rate of latent weights as a multiple of the stage's learning rate. Methods need different ones: for
    example, the gradient of a wave has the frequency as a factor."""

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that the method trains, of 1 (relaxed) and 2 (binary). Most methods are binary from the start."""
        return (2,)


class BiperMethod(_Method):
    """BiPer: the binary periodic function, with options for what the paper leaves fixed (Vargas et al., CVPR 2024)."""

    name: Literal["biper"] = "biper"
    relaxed_stage: bool = True
    """Whether stage 1 trains with the wave itself. If false, training uses the signs of the wave from the start."""
    wave: Literal["sine", "triangle"] = "sine"
    """The wave of stage 1, and of the gradient in both stages."""
    learn_frequency: Literal["no", "layer", "channel"] = "no"
    """Whether to learn ω, one for each layer or one for each output channel. It starts at ``model.frequency``."""
    frequency_end: Positive | None = None
    """ω at the end of stage 1, in radians per unit of weight; ω moves to it geometrically from ``model.frequency``."""
    target_error: Annotated[float, Field(gt=0, le=LARGEST_ERROR)] | None = None
    """The quantization error that the initial weights of each layer are to have. It sets ω of the layer, in place of
    ``model.frequency``, by the closed form for Laplace weights (`biper.methods.closed_form`)."""
    sharpen_from: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The finished fraction of stage 1 at which the wave begins to change gradually into the square wave."""

    @model_validator(mode="after")
    def _consistent(self) -> BiperMethod:
        if not self.relaxed_stage and (self.frequency_end is not None or self.sharpen_from is not None):
            raise ValueError("frequency_end and sharpen_from are about stage 1, which relaxed_stage = false leaves out")
        return self

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that the method trains: both, or stage 2 alone without a relaxed stage."""
        return (1, 2) if self.relaxed_stage else (2,)

    @property
    def is_tuned(self) -> bool:
        """Whether the options need a `TunedPeriodicSign` in place of the published `PeriodicSign`."""
        return self.model_dump(exclude=_NOT_ABOUT_THE_WAVE) != BiperMethod().model_dump(exclude=_NOT_ABOUT_THE_WAVE)


_NOT_ABOUT_THE_WAVE = {"learning_rate_factor", "relaxed_stage"}


class BnnMethod(_Method):
    """BNN: signs with the clipped straight-through estimator (Hubara et al., NeurIPS 2016)."""

    name: Literal["bnn"] = "bnn"


class XnorNetMethod(_Method):
    """XNOR-Net: signs times the mean magnitude of each output channel (Rastegari et al., ECCV 2016)."""

    name: Literal["xnor-net"] = "xnor-net"


class DoReFaMethod(_Method):
    """DoReFa-Net with one bit: one scale for each layer, a gradient of 1, inputs of 0 and 1 (Zhou et al., 2016)."""

    name: Literal["dorefa"] = "dorefa"


class BiRealMethod(_Method):
    """Bi-Real Net: magnitude-aware weights and `ApproxSign` inputs (Liu et al., ECCV 2018)."""

    name: Literal["bi-real"] = "bi-real"


class _ErrorDecay(_Method):
    t_start: Positive = 0.1
    """The steepness of the estimator's tanh at the start of training."""
    t_end: Positive = 10.0
    """The steepness of the estimator's tanh at the end of training."""


class IrNetMethod(_ErrorDecay):
    """IR-Net: balanced, standardized weights and the error-decay estimator (Qin et al., CVPR 2020)."""

    name: Literal["ir-net"] = "ir-net"


class ReCuMethod(_Method):
    """ReCU: standardized weights with a rectified clamp (Xu et al., ICCV 2021)."""

    name: Literal["recu"] = "recu"
    tau_start: Annotated[float, Field(gt=0.5, lt=1)] = 0.85
    """The quantile at which weights are clamped at the start of training."""
    tau_end: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """The quantile at which weights are clamped at the end of training."""


class ReSteMethod(_Method):
    """ReSTE: a power function as the estimator (Wu et al., ICCV 2023)."""

    name: Literal["reste"] = "reste"
    order_end: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3.0
    """The order at the end of training. The power is one over the order, which is 1 at the start."""
    window: Positive = 1.5
    """The largest magnitude at which a gradient passes."""
    flat: Positive = 0.1
    """The magnitude up to which the gradient is the slope of the chord from zero."""


class AdaBinMethod(_ErrorDecay):
    """AdaBin: two values that adapt to the weights and to the inputs (Tu et al., ECCV 2022)."""

    name: Literal["adabin"] = "adabin"


class ReActNetMethod(_Method):
    """ReActNet: magnitude-aware weights, learned thresholds (`RSign`), learned activations (`RPReLU`) (Liu et al., ECCV
    2020)."""

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
"""The settings of one method."""

AnyMethod = Annotated[Method, Field(discriminator="name")]
"""The type of a field that holds a method; its key ``name`` selects the class."""

METHODS: dict[str, type[Method]] = {kind.model_fields["name"].default: kind for kind in Method.__args__}
"""The settings class of each method by the name of the method."""


def read_method(value: Method | str | Mapping[str, Any] | None) -> Method:
    """Convert a method that is given as settings, as a name or as a table.

    Args:
        value: the settings of a method, its name, or a table with its name (default ``"biper"``) and options; None
            gives `BiperMethod` with its defaults.

    Returns:
        The settings.

    Raises:
        ModelError: there is no such method, or an option is unknown or has a wrong value.
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
