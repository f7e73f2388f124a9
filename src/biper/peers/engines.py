"""A packed program timed beside the same network on other engines: each is checked first, then all take turns."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from biper.errors import ModelError, did_you_mean, optional_packages
from biper.peers.full_precision import full_precision, with_float_layers
from biper.peers.variant import MOST_IMAGES, ROUNDING_TOLERANCE, Array, Call, Job, Network, Variant
from biper.runtime.agreement import differences
from biper.runtime.bench import require_call
from biper.runtime.cpu import usable_processors
from biper.runtime.engine import Engine
from biper.runtime.program import Program
from biper.runtime.reference import run_reference
from biper.runtime.timing import interleaved

PEERS = {"torch": "train", "onnxruntime": "bench", "openvino": "bench"}
"""Engines to compare with, and the extra of biper that installs each."""

IMAGES = 8
"""On how many images the outputs of every engine are compared with the reference."""

SECONDS_TO_CHOOSE = 0.3
"""How long each variant of a row with several is timed, to find the fastest."""


@dataclass(frozen=True)
class PeerTime:
    """One row of the comparison: what was computed, how near it is to the reference, and how long a call takes.

    Attributes:
        name: the engine and its number format.
        form: how the network was given to the engine; of several variants, the fastest.
        network: which network was computed.
        images: on how many images the outputs were compared.
        equal_images: on how many of those they agree with `biper.runtime.reference` to float rounding.
        deviation: the largest difference, as a share of its image's largest output.
        same_top1: on how many images the largest output is at the same place.
        median_seconds, minimum_seconds: of one call; None where it was not timed.
        calls: how many calls were timed.
        ratio: the median of this row over the median of biper's.
        refused: why it was not timed; None where it was.
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
    """The rows that were measured in one run.

    Attributes:
        batch: images of one call.
        threads: how many threads shared the work of one call.
        processors: the numbers of the processors that the process may use.
        processor_share: how much processor time it got while it was timed; see `biper.runtime.timing.Times`.
        versions: of the packages of the engines, by name.
        rows: biper's own row first.
    """

    batch: int
    threads: int
    processors: tuple[int, ...]
    processor_share: float
    versions: dict[str, str]
    rows: tuple[PeerTime, ...]


def compare_engines(
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
        instruction_set: of biper's own engine, see `biper.runtime.engine.Engine`.
        seconds: about how long to measure each row.

    Returns:
        A row for biper and one for each engine and number format. An engine that fails, or whose outputs are wrong, has
        a row that says so and no times.

    Raises:
        ModelError: a peer is unknown, or the model has inputs beside the image, or see `biper.runtime.bench.bench`.
        MissingDependencyError: a peer's package is not installed.
    """
    if program.inputs:
        names = ", ".join(program.inputs)
        raise ModelError(f"engines are compared on models of one input; this one also takes {names}: time it alone")
    require_call(program, batch, threads)
    variants = [variant for name in peers for variant in load_variants(name)]
    images = np.zeros((batch, *program.input_shape), np.float32)
    networks = {Network.program: program, Network.full_precision: full_precision(program)}
    float_layers = with_float_layers(program)
    if not any("input_factor" in op.attributes for op in program.operations):  # no layer is in int8
        variants = [variant for variant in variants if variant.network != Network.program]
    if float_layers is program:
        variants = [_of_the_program(variant) for variant in variants]
    else:
        networks[Network.float_layers] = float_layers
    check = _OutputCheck(networks, images)
    engine = Engine(program, instruction_set, threads)
    ours = Variant(
        "biper",
        engine.instruction_set,
        Network.program,
        lambda _: lambda: engine.run(images, {})[0],
        least_share=MOST_IMAGES,
    )
    rows = {ours.row: check.row(ours, call := ours.build(Job(program, images, threads)))}
    checked = {ours.row: [(rows[ours.row], call)]}
    for variant in variants:
        try:
            call = variant.build(Job(networks[variant.network], images, threads))
            row = check.row(variant, call)
        except Exception as error:  # an engine may raise anything; the others are compared all the same
            reason = " ".join(str(error).split())[:300]
            rows.setdefault(variant.row, PeerTime(variant.row, variant.form, variant.network, refused=reason))
        else:
            checked.setdefault(variant.row, []).append((row, call))
            rows[variant.row] = row
    chosen = {name: _fastest(found) for name, found in checked.items()}
    measured = interleaved([call for _, call in chosen.values()], seconds * len(chosen))
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
        processors=usable_processors(),
        processor_share=measured.processor_share,
        versions={name: version(name) for name in peers},
        rows=tuple(rows.values()),
    )


def load_variants(peer: str) -> list[Variant]:
    """Import an engine's module; returns the ways in which it can run a network.

    Raises:
        ModelError: there is no such peer.
        MissingDependencyError: a package that it needs is not installed.
    """
    if peer not in PEERS:
        raise ModelError(f"no peer {peer!r}{did_you_mean(peer, PEERS)}")
    with optional_packages(PEERS[peer], f"comparing with {peer}"):
        return list(importlib.import_module(f"biper.peers.{peer}_peer").variants())


class _OutputCheck:
    """Compares outputs of engines with those of the reference, on the same random images.

    Args:
        networks: the programs that engines may compute.
        images: (batch, C, H, W) memory that every engine reads; each batch to be compared is copied into it.
    """

    def __init__(self, networks: Mapping[Network, Program], images: Array) -> None:
        self.images = images
        shape = (-(-IMAGES // len(images)), *images.shape)
        self.batches = np.random.Generator(np.random.PCG64(0)).standard_normal(shape, np.float32)
        compared = self.batches.reshape(-1, *images.shape[1:])[:IMAGES]
        self.expected = {
            network: run_reference(program, compared)[program.output].reshape(IMAGES, -1)
            for network, program in networks.items()
        }

    def row(self, variant: Variant, call: Call) -> PeerTime:
        """The row of a variant, without times.

        Raises:
            ModelError: its outputs are wrong.
        """
        expected, outputs = self.expected[variant.network], self._outputs(call)
        found = differences(outputs, expected, np.abs(expected).max(1))
        near, largest = int(found.within(variant.tolerance).sum()), float(found.shares.max())
        if not np.isfinite(outputs).all() or near < variant.least_share * IMAGES:
            raise ModelError(
                f"not timed, its results are wrong: {near} of {IMAGES} images within {variant.tolerance:g} of the "
                f"reference, the largest deviation {largest:.2g}"
            )
        return PeerTime(
            variant.row,
            variant.form,
            variant.network,
            images=IMAGES,
            equal_images=int(found.within(ROUNDING_TOLERANCE).sum()),
            deviation=largest,
            same_top1=int(found.same_top1.sum()),
        )

    def _outputs(self, call: Call) -> Array:
        outputs = []
        for batch in self.batches:
            np.copyto(self.images, batch)
            outputs.append(call().copy())
        return np.concatenate(outputs)[:IMAGES]


def _of_the_program(variant: Variant) -> Variant:
    """A variant for a program without int8 layers, which is the same as the program with float layers."""
    return replace(variant, network=Network.program) if variant.network == Network.float_layers else variant


def _fastest(checked: list[tuple[PeerTime, Call]]) -> tuple[PeerTime, Call]:
    """The variant of least median; they are timed in turns."""
    if len(checked) == 1:
        return checked[0]
    times = interleaved([call for _, call in checked], SECONDS_TO_CHOOSE * len(checked)).seconds
    return checked[min(range(len(checked)), key=lambda index: statistics.median(times[index]))]
