"""A variant is one way to run a program's network on another engine; each peer offers a list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from biper.runtime.program import Program

Array = NDArray[Any]

Call = Callable[[], Array]
"""One call of an engine on the images of a job: returns the outputs, (batch, ...) float32."""

ROUNDING_TOLERANCE = 1e-3
"""The deviation that counts as float rounding, as a share of the image's largest output."""

INT8_TOLERANCE = 0.25
"""The deviation that int8 may have on most images; a wrong graph deviates by 1 and more on all of them."""

MOST_IMAGES = 0.5
"""The share of images that must be within the tolerance where bits may flip; see `Variant.least_share`."""


class Network(StrEnum):
    """Which network an engine computes; the values are what `biper bench` prints.

    Attributes:
        program: the program itself.
        float_layers: the program with float32 layers in place of its int8 layers.
        full_precision: the program's layers with float32 weights and inputs; see `biper.peers.full_precision`.
    """

    program = "program"
    float_layers = "float layers"
    full_precision = "float twin"


@dataclass(frozen=True)
class Job:
    """What an engine is given to compute.

    Attributes:
        program: the network, of the kind that the variant names.
        images: (batch, C, H, W) float32, contiguous. Every call reads this memory as it is at that time, so the job
            has to outlive its calls.
        threads: how many threads share the work of one call.
    """

    program: Program
    images: Array
    threads: int


@dataclass(frozen=True)
class Variant:
    """One way to run a network on an engine.

    Attributes:
        row: name of the row in the table; of the variants with the same name, the fastest is timed.
        form: how this variant differs from the others of its row.
        network: which network it computes.
        build: makes a call that is ready to be timed.
        tolerance: the largest deviation that is allowed, as a share of the image's largest output.
        least_share: the share of images that must be within the tolerance. A value within rounding of zero may become
            another bit on another engine, which changes all values after it: then one or two images deviate, where a
            wrong graph deviates on every one.
    """

    row: str
    form: str
    network: Network
    build: Callable[[Job], Call]
    tolerance: float = ROUNDING_TOLERANCE
    least_share: float = 1.0
