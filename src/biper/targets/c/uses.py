"""What the calls of a program use of the operators: compilers leave out the code of what is 0."""

from __future__ import annotations

from collections.abc import Sequence

from biper.targets.c.instructions import Call

OF_SIGNS, OF_VALUES = ("binary_convolution", "lookup_convolution"), ("pixel_convolution", "pool")
"""The operators that can finish 16 channels in one go: sums of signs, and other sums."""


def uses_text(calls: Sequence[Call]) -> str:
    """The constants of C that say it: ``HAS_CLIP`` and others, each 1 or 0."""
    steps = [call.step for call in calls]
    activations = {step.op.attributes.get("activation") for step in steps}
    kinds = {step.op.attributes.get("kind") for step in steps if step.op.operation == "pool"}
    uses = {
        "CLIP": "clip" in activations,
        "RELU": "relu" in activations,
        "PRELU": "prelu" in activations,
        "BEND": any(step.slope is not None or step.signs is not None for step in steps),
        "FAST_BEND": any(step.fast and step.slope is not None for step in steps),
        "FAST_STRAIGHT": any(step.fast and step.slope is None for step in steps),
        "BITS": any(step.op.bits is not None for step in steps),
        "THRESHOLD": any("threshold" in step.op.tensors for step in steps),
        "AFFINE": any(step.direct for step in steps),
        "MULTIPLIER": any(step.multiplier is not None and not step.direct for step in steps),
        "ROUNDED_COUNTS": any(step.direct and step.op.real is not None and not step.floor for step in steps),
        "SLOW_SIGNS": slow_signs(calls),
        "SLOW_VALUES": any(call.operator in OF_VALUES and not always_fast(call) for call in calls),
        "MAXIMUM": "max" in kinds,
        "AVERAGE": "average" in kinds,
        "REST": any(step.op.operation == "pool" and step.op.shape[0] % 4 for step in steps),
        "CUT": any(step.factors is not None for step in steps),
    }
    lines = [", ".join(f"HAS_{name} = {int(uses[name])}" for name in part) for part in (list(uses)[:8], list(uses)[8:])]
    return "enum {\n    " + ",\n    ".join(lines) + "\n};\n"


def slow_signs(calls: Sequence[Call]) -> bool:
    """Whether some sums of signs cannot be finished in the fast way."""
    return any(call.operator in OF_SIGNS and not always_fast(call) for call in calls)


def always_fast(call: Call) -> bool:
    """Whether all sums of a call are finished in the fast way; those of signs only if none can be odd."""
    if not call.step.direct:
        return call.step.fast
    return call.step.fast and call.step.op.shape[0] % 16 == 0 and call.inputs[0][0] % 2 == 0
