"""A packed program against other engines, all in one run: each is checked first, then timed in turn."""

from __future__ import annotations

import importlib
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from biper.errors import ModelError, did_you_mean, optional_packages
from biper.peers.plan import EQUAL, MOST, Array, Job, Network, Plan, Run
from biper.peers.twin import float_twin, with_float_layers
from biper.runtime.engine import Engine
from biper.runtime.program import Program
from biper.runtime.reference import run_reference
from biper.runtime.timing import interleaved

PEERS = {"torch": "train", "onnxruntime": "bench", "openvino": "bench"}
"""Engines to compare with, and the extra of biper that installs each."""

IMAGES = 8
"""How many the results of every engine are compared on."""

CHOICE = 0.3
"""Seconds of timing each form where a row has several, to find the fastest."""


@dataclass(frozen=True)
class PeerTime:
    """One row: what was computed, how near it is to the reference, and how long a call takes.

    Attributes:
        name: the engine and its number format.
        form: how the network was given to it; where several forms were tried, the fastest.
        network: which was computed.
        images: on how many the results were compared.
        equal_images: of those, how many agree with `biper.runtime.reference` to float rounding.
        deviation: the largest difference, as a share of its image's largest result.
        same_top1: images whose largest result is at the same place.
        median_seconds, minimum_seconds: of one call; None where it was not timed.
        calls: how many were timed.
        ratio: its median over ours.
        refused: why it was not timed.
    """

    name: str
    form: str
    network: Network
    images: int = 0
    equal_images: int = 0
    deviation: float | None = None
    same_top1: int = 0
    median_seconds: float | None = None
    minimum_seconds: float | None = None
    calls: int = 0
    ratio: float | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Rows of one run, ours first.

    ``processors`` are the numbers of those that the process may use, ``processor_share`` how much it had of them while
    it was timed (see `biper.runtime.timing.Times`).
    """

    batch: int
    threads: int
    processors: tuple[int, ...]
    processor_share: float
    versions: dict[str, str]
    rows: tuple[PeerTime, ...]


def compare(
    program: Program,
    peers: Sequence[str],
    *,
    batch: int = 1,
    threads: int = 1,
    instruction_set: str | None = None,
    seconds: float = 2.0,
) -> Comparison:
    """Time a program beside the same network on other engines.

    Args:
        program: a validated program.
        peers: names out of `PEERS`.
        batch: images of one call.
        threads: how many share the work of one call, on every engine.
        instruction_set: of ours, see `biper.runtime.engine.Engine`.
        seconds: about how long to measure each row.

    Raises:
        ModelError: a peer is unknown.
        MissingDependencyError: a peer's package is not installed.
    """
    plans = [plan for name in peers for plan in load_plans(name)]
    images = np.zeros((batch, *program.input_shape), np.float32)
    networks = {Network.program: program, Network.float_twin: float_twin(program)}
    float_layers = with_float_layers(program)
    if float_layers is program:
        plans = [_without_int8(plan) for plan in plans if plan.network != Network.program]
    else:
        networks[Network.float_layers] = float_layers
    judge = _Judge(networks, images)
    engine = Engine(program, instruction_set, threads)
    ours = Plan("biper", engine.instruction_set, Network.program, lambda _: lambda: engine(images), least=MOST)
    rows = {ours.row: judge.check(ours, run := ours.build(Job(program, images, threads)))}
    forms = {ours.row: [(rows[ours.row], run)]}
    for plan in plans:
        try:
            run = plan.build(Job(networks[plan.network], images, threads))
            checked = judge.check(plan, run)
        except Exception as error:  # an engine may raise anything; the others are compared all the same
            reason = " ".join(str(error).split())[:300]
            rows.setdefault(plan.row, PeerTime(plan.row, plan.form, plan.network, refused=reason))
        else:
            forms.setdefault(plan.row, []).append((checked, run))
            rows[plan.row] = checked
    chosen = {name: _fastest(found) for name, found in forms.items()}
    measured = interleaved([run for _, run in chosen.values()], seconds * len(chosen))
    times = dict(zip(chosen, measured.seconds, strict=True))
    for name, spent in times.items():
        median = statistics.median(spent)
        ratio = median / statistics.median(times[ours.row])
        rows[name] = replace(
            chosen[name][0], median_seconds=median, minimum_seconds=min(spent), calls=len(spent), ratio=ratio
        )
    return Comparison(
        batch=batch,
        threads=threads,
        processors=tuple(sorted(os.sched_getaffinity(0))),
        processor_share=measured.processor_share,
        versions={name: version(name) for name in peers},
        rows=tuple(rows.values()),
    )


def load_plans(peer: str) -> list[Plan]:
    """What a peer offers.

    Raises:
        ModelError: there is no such peer.
        MissingDependencyError: a package that it needs is not installed.
    """
    if peer not in PEERS:
        raise ModelError(f"no peer {peer!r}{did_you_mean(peer, PEERS)}")
    with optional_packages(PEERS[peer], f"comparing with {peer}"):
        return list(importlib.import_module(f"biper.peers.{peer}_peer").plans())


class _Judge:
    """Compares results of engines with those of the reference, on the same images."""

    def __init__(self, networks: Mapping[Network, Program], images: Array) -> None:
        self.images = images
        shape = (-(-IMAGES // len(images)), *images.shape)
        self.batches = np.random.Generator(np.random.PCG64(0)).standard_normal(shape, np.float32)
        checked = self.batches.reshape(-1, *images.shape[1:])[:IMAGES]
        self.expected = {
            network: run_reference(program, checked)[program.output].reshape(IMAGES, -1)
            for network, program in networks.items()
        }

    def check(self, plan: Plan, run: Run) -> PeerTime:
        """The row of a plan, as far as the check fills it.

        Raises:
            ModelError: the results are another function's.
        """
        expected, results = self.expected[plan.network], self._results(run).reshape(IMAGES, -1)
        deviations = np.abs(results - expected).max(1) / np.abs(expected).max(1)
        near = int((deviations <= plan.tolerance).sum())
        if not np.isfinite(results).all() or near < plan.least * IMAGES:
            raise ModelError(
                f"not timed, its results are wrong: {near} of {IMAGES} images within {plan.tolerance:g} of the "
                f"reference, the largest deviation {deviations.max():.2g}"
            )
        return PeerTime(
            plan.row,
            plan.form,
            plan.network,
            images=IMAGES,
            equal_images=int((deviations <= EQUAL).sum()),
            deviation=float(deviations.max()),
            same_top1=int((results.argmax(1) == expected.argmax(1)).sum()),
        )

    def _results(self, run: Run) -> Array:
        found = []
        for batch in self.batches:
            np.copyto(self.images, batch)
            found.append(run().copy())
        return np.concatenate(found)[:IMAGES]


def _without_int8(plan: Plan) -> Plan:
    """A peer's plan for a program that has nothing in int8: its float layers are the program's."""
    return replace(plan, network=Network.program) if plan.network == Network.float_layers else plan


def _fastest(forms: list[tuple[PeerTime, Run]]) -> tuple[PeerTime, Run]:
    """The form of least median, timed one beside the other."""
    if len(forms) == 1:
        return forms[0]
    times = interleaved([run for _, run in forms], CHOICE * len(forms)).seconds
    return forms[min(range(len(forms)), key=lambda index: statistics.median(times[index]))]
