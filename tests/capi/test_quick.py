"""libbiper against the Python runtime, with the portable kernels: the same bits, the same refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from attacks.containers import Container
from attacks.gallery import Attack
from attacks.packed_budgets import BUDGETS, MAX_MEMORY, MAX_WORK
from attacks.packed_headers import HEADERS
from attacks.packed_operations import OPERATIONS
from numpy.typing import NDArray
from support.array_programs import array_programs, movement_program, other_inputs
from support.capi import BAD_ARGUMENT, BAD_DATA, BAD_FORMAT, OVER_LIMIT, QUICK, UNREADABLE, CModel, Failure, build, library
from support.small_programs import small_programs

from biper.errors import ModelFormatError
from biper.runtime.model import Model
from biper.runtime.program import Program, write_program

RELEASED = Path(__file__).parents[1] / "data/released/0.1/finished/model.biper"
PRETRAINED = Path(__file__).parents[2] / "src/biper/runtime/pretrained/cifar10-resnet20.biper"


@pytest.fixture(scope="session")
def shared():
    """The shared library with portable kernels."""
    return library(build(*QUICK, target="biper_shared") / "libbiper.so")


def programs() -> Mapping[str, Program]:
    return {**small_programs(), **array_programs(), "movement": movement_program()}


def same_bits(found: NDArray, expected: NDArray) -> bool:
    return found.shape == expected.shape and found.tobytes() == np.ascontiguousarray(expected, np.float32).tobytes()


def results_of(model: Model, images: NDArray, others: Mapping[str, NDArray] | None = None) -> list[NDArray]:
    made = model(images, others)
    return list(made.values()) if isinstance(made, dict) else [made]


def test_every_operation_gives_the_bits_of_python(shared, monkeypatch) -> None:
    monkeypatch.setenv("BIPER_ISA", "scalar")
    random = np.random.Generator(np.random.PCG64(3))
    for name, program in programs().items():
        blob = write_program(program)
        model, packed = Model.load(blob), CModel(shared, blob, threads=2)
        images = random.standard_normal((3, *program.input_shape), np.float32)
        others = other_inputs(program, 3)
        for found, expected in zip(packed(images, others), results_of(model, images, others), strict=True):
            assert same_bits(found, expected), name
        assert [array.name.decode() for array in packed.outputs] == list(program.results)
        assert [array.shape for array in packed.inputs] == [program.input_shape, *program.inputs.values()]
        assert packed.classes == list(model.classes)
        assert shared.biper_arena_bytes(packed.handle) == model._engine.arena_bytes


@pytest.mark.parametrize("path", [RELEASED, PRETRAINED])
def test_networks_give_the_bits_of_python(path: Path, shared, monkeypatch) -> None:
    monkeypatch.setenv("BIPER_ISA", "scalar")
    model, packed = Model.load(path), CModel(shared, path)
    channels, height, width = model.program.input_shape
    pixels = np.random.Generator(np.random.PCG64(4)).integers(0, 256, (2, height, width, channels), np.uint8)
    assert same_bits(packed(pixels)[0], model(pixels))
    assert packed.classes == list(model.classes)
    found, expected = packed.preprocessing, model.preprocessing
    assert (found.height, found.width) == expected.size
    assert found.channels.decode() == expected.channels
    assert found.interpolation.decode() == expected.interpolation


def code_of(loaded, source: bytes | Path, **options) -> int:
    try:
        CModel(loaded, source, **options)
    except Failure as failure:
        assert failure.text
        assert failure.text.isprintable()
        assert len(failure.text) <= 500
        return failure.code
    return 0


def test_every_hostile_file_is_refused(shared, tmp_path: Path) -> None:
    for parameters in (*HEADERS.parameters(), *OPERATIONS.parameters(), *BUDGETS.parameters()):
        (attack,) = parameters.values
        assert isinstance(attack, Attack)
        made = attack.make()
        blob = made.sealed() if isinstance(made, Container) else made
        limits = {"max_memory": MAX_MEMORY, "max_work": MAX_WORK}
        expected = OVER_LIMIT if "max_memory=" in attack.error or "max_work=" in attack.error else BAD_FORMAT
        assert code_of(shared, blob, **limits) == expected, parameters.id
        assert code_of(shared, blob, verify=0, **limits) == expected, parameters.id
