"""One row of each comparison. Times are in seconds; a number that was not measured is None."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]
Ratio = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A frozen model that refuses unknown fields, numbers that are not finite, and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EngineRow(Strict):
    """One engine on one network, out of one run in which all engines took turns (`biper bench --against`)."""

    network: str
    batch: Count
    engine: str
    """The engine and its number format; ``biper`` is ours."""
    median: Seconds
    ratio: Ratio
    """The median over that of biper."""


class PackedRow(Strict):
    """A packed network on biper's engine alone (`biper bench`)."""

    network: str
    instruction_set: str
    threads: Count
    batch: Count
    median: Seconds
    """Of a call on ``batch`` images."""
    images_per_second: float | None
    share_of_peak: float | None
    """What the binary operations reach of the peak of one core; None with several threads."""


class LayerRow(Strict):
    """A binary 3x3 layer on one engine (`benchmarks/binary_layers.py`)."""

    layer: str
    """Height, width and channels, such as ``56x56x64``."""
    engine: str
    out: str
    """``bits`` or ``sums``: what the layer writes."""
    median: Seconds | None
    """None where only the ratio is known."""
    ratio: Ratio | None
    """The median over that of the kernels of biper that the engine is compared with; None for biper's own rows."""
    share_of_peak: float | None


class OperationRow(Strict):
    """The operations of one kind in ResNet-18 at 224x224 (`biper bench --profile`)."""

    kind: str
    count: Count
    least: Seconds
    most: Seconds
    """The times of the fastest and of the slowest operation of this kind."""
    multiply_accumulates: int | None
    """Of one operation."""


class TrainingRow(Strict):
    """A training step of biper beside the same formulas in plain torch (`benchmarks/training.py`)."""

    network: str
    batch: Count
    stage: Annotated[int, Field(ge=1, le=2)]
    precision: str
    kernels: str
    plain: Seconds | None
    seconds: Seconds
    ratio: Ratio | None
    images_per_second: float | None
    share_of_ceiling: float | None
    evaluating: float | None
    """Images a second of an evaluation."""
    hours: float | None
    """Of the whole schedule of the recipe."""


class ScheduleRow(Strict):
    """The speed of training with a recipe on one core, and the length of its whole schedule at that speed."""

    network: str
    batch: Count
    precision: str
    images_per_second: float
    hours: float


class ThreadsRow(Strict):
    """A training step with one thread and with two."""

    network: str
    batch: Count
    precision: str
    one: Seconds
    two: Seconds
    ratio: Ratio


class MemoryRow(Strict):
    """The memory that training adds at its peak, in MB."""

    network: str
    batch: Count
    precision: str
    plain: float
    biper: float
    ratio: Ratio


class InputRow(Strict):
    """How many images a second are cropped, mirrored and normalized."""

    network: str
    batch: Count
    torch: float
    biper: float
    ratio: Ratio


class CRow(Strict):
    """The C of a packed network, or the engine's scalar kernels (`benchmarks/c_on_host.py`)."""

    network: str
    program: str
    fastest: Seconds
    median: Seconds | None
    ratio: Ratio | None
    """The median over that of the engine's scalar kernels."""


class CallRow(Strict):
    """One image through libbiper and through `Model` of Python (`benchmarks/capi/overhead.py`)."""

    network: str
    libbiper_fastest: Seconds
    libbiper_median: Seconds
    model_fastest: Seconds
    model_median: Seconds


class DecodingRow(Strict):
    """Images that one worker prepares in a second of processor time (`benchmarks/decoding.py`)."""

    size: Count
    plain: float
    worker: float
    worker_ratio: Ratio
    normalized: float
    normalized_ratio: Ratio


class WatchingRow(Strict):
    """The cost of measuring the layers while a network trains (`benchmarks/watching.py`)."""

    recipe: str
    steps: Count
    step: Seconds
    measuring: Seconds
    share: float
    """What measuring takes of a step."""
    once_an_epoch: float
    """What happens at the end of an epoch, as a share of measuring."""


class FormatRow(Strict):
    """A packed network in one of the forms that `biper export` writes."""

    network: str
    form: str
    fastest: Seconds
