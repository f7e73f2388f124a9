"""What a peer offers: ways to run a program's network on its engine, each built when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from biper.runtime.program import Program

Array = NDArray[Any]
Run = Callable[[], Array]
"""One call of an engine on a job's images: returns the results, (batch, ...) float32."""

EQUAL = 1e-3
"""Largest deviation of results that are equal up to float rounding, as a share of the image's largest result."""

NEAR = 0.25
"""The same for int8, of most images: a wrong graph is off by 1 and more on all."""

MOST = 0.5
"""A share of images; see `Plan.least`."""


class Network(StrEnum):
    """What is computed: the program; that with float32 for its int8 layers; or its float twin (`biper.peers.twin`)."""

    program = "program"
    float_layers = "float layers"
    float_twin = "float twin"


@dataclass(frozen=True)
class Job:
    """What an engine is given.

    Attributes:
        program: the network, of the kind that the plan says.
        images: (batch, C, H, W) float32, contiguous: every run reads this very memory, as it is then, so the job has
            to outlive its runs.
        threads: how many share the work of one call.
    """

    program: Program
    images: Array
    threads: int


@dataclass(frozen=True)
class Plan:
    """One way to run the network.

    Attributes:
        row: what it is; of the plans with the same, the fastest is timed.
        form: how this one differs from those.
        network: which it runs.
        build: makes it ready to run.
        tolerance: largest deviation allowed, as a share of the image's largest result.
        least: the share of images that must be within it. A bit whose value is within rounding of zero may differ
            between engines, and with it all that follows: then an image or two are off, where a wrong graph is off on
            every one.
    """

    row: str
    form: str
    network: Network
    build: Callable[[Job], Run]
    tolerance: float = EQUAL
    least: float = 1.0
