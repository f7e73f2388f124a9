"""Every comparison of `benchmarks/all.py`: what it runs, how long that takes, and what it needs.

The functions import the scripts of this folder only when they run, so that an engine or a package that is missing stops
the comparisons that need it and no others.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from records.rows import Strict

HERE = Path(__file__).resolve().parent


class Unavailable(Exception):
    """A comparison cannot run here; the message says why in one line."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        quick: few repetitions, to see that everything runs.
        images: class folders with photographs, for ``decoding``; None leaves it out.
        libbiper: the folder in which CMake has built libbiper, for ``calls``; None leaves it out.
    """

    quick: bool = False
    images: Path | None = None
    libbiper: Path | None = None

    def pick(self, whole: float, quick: float) -> float:
        """One of two numbers, by `quick`."""
        return quick if self.quick else whole


@dataclass(frozen=True)
class Found:
    """What a comparison measured: its rows, the versions of what it used, and what it left out and why."""

    rows: Sequence[Strict]
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A comparison of speed.

    Attributes:
        measure: runs it.
        seconds: about how long it takes as a whole on one core of an AMD EPYC, until a record says how long it took.
        quick_seconds: the same with few repetitions.
        processors: on how many processors it has to run; it is pinned to so many.
    """

    measure: Callable[[Settings], Found]
    seconds: float
    quick_seconds: float
    processors: int = 1


def _engines(settings: Settings) -> Found:
    script: Any = importlib.import_module("packed_speed")
    compared = script.COMPARED[:1] if settings.quick else script.COMPARED
    rows, left_out, versions = script.measure_engines(settings.pick(2.0, 0.1), compared)
    return Found(rows, versions, left_out)


def _packed(settings: Settings) -> Found:
    script: Any = importlib.import_module("packed_speed")
    rows, left_out = script.measure_packed(settings.pick(3.0, 0.05))
    return Found(rows, left_out=left_out)


def _operations(settings: Settings) -> Found:
    script: Any = importlib.import_module("packed_speed")
    return Found(script.measure_operations(settings.pick(3.0, 0.05)))


def _layers(settings: Settings) -> Found:
    script: Any = importlib.import_module("binary_layers")
    layers = script.LAYERS[-1:] if settings.quick else script.LAYERS
    rows = script.measure(settings.pick(12.0, 0.3), layers)
    if script.has_openvino():
        return Found(rows, {"openvino": version("openvino")})
    return Found(rows, left_out={"openvino": "it is not installed"})


RESNET20, RESNET18 = "cifar10-resnet20=256", "cifar10-resnet18=64"
SMALL = "digits=32"
"""What a quick run trains in place of the networks of CIFAR-10."""


def _precisions(script: Any) -> list[str]:
    """The precisions in which steps are timed: bfloat16 too where biper's kernels have it."""
    return ["bfloat16", "float32"] if script.Settings(precision="bfloat16").kernels != "off" else ["float32"]


def _training(settings: Settings) -> Found:
    script: Any = importlib.import_module("training")
    rows = []
    for precision in _precisions(script):
        for stage in (1, 2):
            for network, steps in ((RESNET20, 5), (RESNET18, 4)) if not settings.quick else ((SMALL, 2),):
                rows.append(script.measure(network, script.Settings(stage=stage, steps=steps, precision=precision)))
    return Found(rows, _versions())


def _schedules(settings: Settings) -> Found:
    script: Any = importlib.import_module("training")
    precision = _precisions(script)[0]
    networks = [RESNET18.replace("64", "256"), RESNET20, "cifar10-vgg-small=128"]
    networks += ["imagenet-resnet18=64", "imagenet-resnet34=64"]
    options = script.Settings(steps=int(settings.pick(3, 1)), precision=precision, fast_only=True)
    rows = [script.measure(name, options) for name in ([SMALL] if settings.quick else networks)]
    return Found([script.schedule(row) for row in rows], _versions())


def _threads(settings: Settings) -> Found:
    script: Any = importlib.import_module("training")
    precision, steps = _precisions(script)[0], int(settings.pick(5, 1))
    networks = [SMALL] if settings.quick else [RESNET20, RESNET18]
    return Found([script.measure_threads(name, precision, steps) for name in networks], _versions())


def _memory(settings: Settings) -> Found:
    script: Any = importlib.import_module("training")
    network = SMALL if settings.quick else RESNET18.replace("64", "256")
    return Found([script.memory(network, script.Settings(precision=each)) for each in _precisions(script)], _versions())


def _input(settings: Settings) -> Found:
    script: Any = importlib.import_module("training")
    return Found([script.input_speed(RESNET20, script.Settings(steps=int(settings.pick(30, 2))))], _versions())


def _c(settings: Settings) -> Found:
    script: Any = importlib.import_module("c_on_host")
    network = "digits-cnn" if settings.quick else "cifar10-resnet20"
    return Found(script.measure(network, settings.pick(20.0, 0.2)))


def _formats(settings: Settings) -> Found:
    script: Any = importlib.import_module("exported_forms")
    rows, left_out = script.measure("cifar10-resnet20", settings.pick(10.0, 0.2))
    versions = {name: version(name) for name in ("onnxruntime", "openvino") if find_spec(name) is not None}
    return Found(rows, versions, left_out)


def _calls(settings: Settings) -> Found:
    if settings.libbiper is None:
        raise Unavailable("it needs the folder of a built libbiper: --libbiper FOLDER")
    sys.path.append(str(HERE / "capi"))
    script: Any = importlib.import_module("overhead")
    from biper.cli.paths import model_file

    names = ("cifar10-resnet20", "digits-cnn")
    rounds = int(settings.pick(script.ROUNDS, 1))
    return Found([script.measure(settings.libbiper, name, model_file(name), rounds) for name in names])


def _decoding(settings: Settings) -> Found:
    if settings.images is None:
        raise Unavailable("it needs class folders with photographs: --images FOLDER")
    script: Any = importlib.import_module("decoding")
    files = script.FolderImages(settings.images)
    rounds = int(settings.pick(15, 1))
    sizes = (64,) if settings.quick else (224, 128, 64)
    turbo = script.features.version("libjpeg_turbo") or "no"
    versions = {"Pillow": script.pillow_version, "libjpeg-turbo": turbo}
    return Found([script.measure(files, size, rounds) for size in sizes], versions)


def _watching(settings: Settings) -> Found:
    script: Any = importlib.import_module("watching")
    script.torch.set_num_threads(1)
    recipes = ("digits",) if settings.quick else ("digits", "cifar10-resnet20")
    epochs, steps = (1, 20) if settings.quick else (2, 40)
    return Found([script.watched(name, epochs, steps) for name in recipes], _versions())


def _versions() -> dict[str, str]:
    """The version of torch."""
    return {"torch": version("torch")}


COMPARISONS: dict[str, Comparison] = {
    "engines": Comparison(_engines, 150, 15),
    "packed": Comparison(_packed, 45, 20, processors=2),
    "layers": Comparison(_layers, 60, 6),
    "operations": Comparison(_operations, 15, 10),
    "c": Comparison(_c, 30, 5),
    "formats": Comparison(_formats, 15, 5),
    "calls": Comparison(_calls, 10, 5),
    "input": Comparison(_input, 10, 6),
    "decoding": Comparison(_decoding, 50, 5),
    "training": Comparison(_training, 240, 10),
    "threads": Comparison(_threads, 60, 10, processors=2),
    "memory": Comparison(_memory, 120, 20),
    "watching": Comparison(_watching, 150, 10),
    "schedules": Comparison(_schedules, 400, 10),
}
"""The comparisons by the names of the record, in the order in which they run."""
