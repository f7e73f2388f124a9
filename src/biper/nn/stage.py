"""The stage of a model: which of its inputs and weights are bits."""

from __future__ import annotations

from torch import nn

from biper.errors import ModelError
from biper.nn.kept_signs import set_frequency_to_keep_signs_
from biper.nn.latent import LatentWeightLayer
from biper.quantizers import PeriodicSign, Stage

_STAGES: dict[Stage | str | int, Stage | None] = {
    0: None,
    "inputs": None,
    1: Stage.RELAXED,
    "relaxed": Stage.RELAXED,
    2: Stage.BINARY,
    "binary": Stage.BINARY,
}


def set_stage_(model: nn.Module, stage: Stage | str | int) -> nn.Module:
    """Put the binary layers of a model into a stage, in place.

    | stage | inputs of a layer | its weights |
    | --- | --- | --- |
    | ``"inputs"`` (0) | bits | real: ``w / mean abs(w)`` of each output channel, whatever the weight quantizer is |
    | ``"relaxed"`` (1) | bits | ``sin(ω w)`` for a `PeriodicSign`, bits for other weight quantizers |
    | ``"binary"`` (2) | bits | bits |

    Stage ``"inputs"`` is for models that start from trained float weights: the model first learns to live with binary
    inputs. When a layer leaves this stage, ω of its periodic function is set such that the signs of its weights survive
    (`biper.keep_signs_`). It does not come back into this stage unless this function puts it there.

    Args:
        model: any module.
        stage: ``"inputs"`` (or 0), ``"relaxed"`` (or 1) or ``"binary"`` (or 2).

    Returns:
        The same model.

    Raises:
        ModelError: there is no such stage.
    """
    if stage not in _STAGES or isinstance(stage, bool):
        raise ModelError(f'stage must be "inputs" (0), "relaxed" (1) or "binary" (2), got {stage!r}')
    wave = _STAGES[stage]
    for module in model.modules():
        if isinstance(module, LatentWeightLayer):
            if module.real_weights and wave is not None:
                set_frequency_to_keep_signs_(module)
            module.real_weights = wave is None
        elif isinstance(module, PeriodicSign) and wave is not None:
            module.stage = wave
    return model
