"""How latent weights become bits, as data: the name of a weight quantizer, and its options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from biper.methods.closed_form import LARGEST_ERROR
from biper.methods.estimators import ErrorDecayOptions, PowerOptions
from biper.methods.fields import Positive, Settings


class BiperWeights(Settings):
    """BiPer: the binary periodic function, with options for what the paper leaves fixed (Vargas et al., CVPR 2024)."""

    name: Literal["biper"] = "biper"
    relaxed_stage: bool = True
    """Whether stage 1 trains with the wave itself. If false, training uses the signs of the wave from the start."""
    wave: Literal["sine", "triangle"] = "sine"
    """The wave of stage 1, and of the gradient in both stages."""
    learn_frequency: Literal["no", "layer", "channel"] = "no"
    """Whether to learn ω, one for each layer or one for each output channel. It starts at ``model.frequency``. With a
    ``phase_deviation``, σ is learned in the same way."""
    frequency_end: Positive | None = None
    """ω at the end of stage 1, in radians per unit of weight; ω moves to it geometrically from ``model.frequency``."""
    target_error: Annotated[float, Field(gt=0, le=LARGEST_ERROR)] | None = None
    """The quantization error that the initial weights of each layer are to have. It sets ω of the layer, in place of
    ``model.frequency``, by the closed form for Laplace weights (`biper.methods.closed_form`)."""
    sharpen_from: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The finished fraction of stage 1 at which the wave begins to change gradually into the square wave."""
    phase_deviation: Positive | None = None
    """σ, the standard deviation of the phase in radians: the phase is ``σ (w - mean) / std`` instead of ``ω w``, and
    ``model.frequency`` is not used. See `biper.quantizers.StandardizedPeriodicSign`."""
    phase_deviation_end: Positive | None = None
    """σ at the end of stage 1, in radians; σ moves to it geometrically from ``phase_deviation``."""
    phase_mean: Literal["removed", "kept"] = "removed"
    """Whether the mean is taken off the weights of a standardized phase, or kept: ``σ w / std``."""
    phase_group: Literal["channel", "layer"] = "channel"
    """Which weights a standardized phase has the mean and the deviation of: those of an output channel, or all."""

    @model_validator(mode="after")
    def _consistent(self) -> BiperWeights:
        if not self.relaxed_stage and (self.frequency_end is not None or self.sharpen_from is not None):
            raise ValueError("frequency_end and sharpen_from are about stage 1, which relaxed_stage = false leaves out")
        if not self.relaxed_stage and self.phase_deviation_end is not None:
            raise ValueError("phase_deviation_end is about stage 1, which relaxed_stage = false leaves out")
        if self.phase_deviation is None:
            standard = BiperWeights.model_fields
            for name in ("phase_deviation_end", "phase_mean", "phase_group"):
                if getattr(self, name) != standard[name].default:
                    raise ValueError(f"{name} is about a standardized phase: set phase_deviation too")
        elif self.frequency_end is not None:
            raise ValueError(
                "frequency_end is about a phase of fixed frequency, and phase_deviation standardizes it: set "
                "phase_deviation_end in its place"
            )
        elif self.target_error is not None:
            raise ValueError("target_error and phase_deviation both set the frequency of a layer: set one of them")
        return self

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that are trained: both, or stage 2 alone without a relaxed stage."""
        return (1, 2) if self.relaxed_stage else (2,)

    @property
    def is_tuned(self) -> bool:
        """Whether the options need a `TunedPeriodicSign` in place of the published `PeriodicSign`."""
        return self.model_dump(exclude={"relaxed_stage"}) != BiperWeights().model_dump(exclude={"relaxed_stage"})


class _BinaryWeights(Settings):
    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that are trained, of 1 (relaxed) and 2 (binary): these weights are binary from the start."""
        return (2,)


class SteWeights(_BinaryWeights):
    """BNN: signs with the clipped straight-through estimator (Hubara et al., NeurIPS 2016)."""

    name: Literal["ste"] = "ste"


class XnorNetWeights(_BinaryWeights):
    """XNOR-Net: signs times the mean magnitude of each output channel (Rastegari et al., ECCV 2016)."""

    name: Literal["xnor-net"] = "xnor-net"


class DoReFaWeights(_BinaryWeights):
    """DoReFa-Net with one bit: one scale for each layer, a gradient of 1 (Zhou et al., 2016)."""

    name: Literal["dorefa"] = "dorefa"


class BiRealWeights(_BinaryWeights):
    """Bi-Real Net and ReActNet: signs with a gradient that has the magnitude of the weights (Liu et al., ECCV 2018)."""

    name: Literal["bi-real"] = "bi-real"


class IrNetWeights(_BinaryWeights, ErrorDecayOptions):
    """IR-Net: balanced, standardized weights and the error-decay estimator (Qin et al., CVPR 2020)."""

    name: Literal["ir-net"] = "ir-net"


class ReCuWeights(_BinaryWeights):
    """ReCU: standardized weights with a rectified clamp (Xu et al., ICCV 2021)."""

    name: Literal["recu"] = "recu"
    tau_start: Annotated[float, Field(gt=0.5, lt=1)] = 0.85
    """The quantile at which weights are clamped at the start of training."""
    tau_end: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """The quantile at which weights are clamped at the end of training."""


class ReSteWeights(_BinaryWeights, PowerOptions):
    """ReSTE: a power function as the estimator (Wu et al., ICCV 2023)."""

    name: Literal["reste"] = "reste"


class AdaBinWeights(_BinaryWeights, ErrorDecayOptions):
    """AdaBin: two values that adapt to the weights of each output channel (Tu et al., ECCV 2022)."""

    name: Literal["adabin"] = "adabin"


Weights = (
    BiperWeights
    | SteWeights
    | XnorNetWeights
    | DoReFaWeights
    | BiRealWeights
    | IrNetWeights
    | ReCuWeights
    | ReSteWeights
    | AdaBinWeights
)
"""The settings of one weight quantizer."""

WEIGHTS: dict[str, type[Weights]] = {kind.model_fields["name"].default: kind for kind in Weights.__args__}
"""The settings class of each weight quantizer by its name in a recipe."""
