"""libbiper against the Python runtime, with the portable kernels: the same bits, the same refusals."""

from __future__ import annotations

import ctypes
import os
import runpy
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
from support.capi import (
    BAD_ARGUMENT,
    BAD_DATA,
    BAD_FORMAT,
    OK,
    OVER_LIMIT,
    QUICK,
    UNREADABLE,
    Array,
    CModel,
    Failure,
    build,
    library,
)
from support.small_programs import small_programs

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
    """The code with which a model is refused, whose text is one line; 0 where it is loaded."""
    found = None
    try:
        CModel(loaded, source, **options)
    except Failure as failure:
        found = failure
    if found is None:
        return OK
    assert found.text.isprintable()
    assert 0 < len(found.text.encode()) <= 500
    return found.code


def test_every_hostile_file_is_refused(shared, tmp_path: Path) -> None:
    for parameters in (*HEADERS.parameters(), *OPERATIONS.parameters(), *BUDGETS.parameters()):
        (attack,) = parameters.values
        assert isinstance(attack, Attack)
        made = attack.make()
        blob = made.sealed() if isinstance(made, Container) else made
        limits = {"max_memory": MAX_MEMORY, "max_work": MAX_WORK}
        expected = OVER_LIMIT if "max_memory=" in attack.error or "max_work=" in attack.error else BAD_FORMAT
        assert code_of(shared, blob, **limits) == expected, parameters.id


def test_files_that_cannot_be_read_have_a_code_of_their_own(shared, tmp_path: Path) -> None:
    assert code_of(shared, tmp_path / "missing.biper") == UNREADABLE
    assert code_of(shared, tmp_path) == UNREADABLE
    os.mkfifo(tmp_path / "pipe")
    assert code_of(shared, tmp_path / "pipe") == UNREADABLE
    assert code_of(shared, RELEASED, max_memory=1_000) == OVER_LIMIT
    assert code_of(shared, RELEASED, max_work=1_000) == OVER_LIMIT
    content = bytearray(RELEASED.read_bytes())
    content[-1] ^= 1
    assert code_of(shared, bytes(content)) == BAD_FORMAT
    assert code_of(shared, bytes(content), verify=0) == OK


def test_wrong_arguments_are_named(shared) -> None:
    for options in ({"threads": 0}, {"threads": 1_025}, {"instruction_set": b"mmx"}, {"size": 8}):
        assert code_of(shared, RELEASED, **options) == BAD_ARGUMENT
    model = CModel(shared, RELEASED)
    assert shared.biper_input(model.handle, ctypes.c_size_t(1), ctypes.byref(Array())) == BAD_ARGUMENT
    assert shared.biper_run(model.handle, None, ctypes.c_int64(1), None) == BAD_ARGUMENT
    assert shared.biper_run_pixels(None, None, None, ctypes.c_int64(1), None) == BAD_ARGUMENT
    assert shared.biper_class_name(model.handle, ctypes.c_size_t(1 << 40)) is None
    shared.biper_free(None)


def test_inputs_that_are_not_finite_are_refused(shared) -> None:
    model = CModel(shared, RELEASED)
    images = np.zeros((2, *model.inputs[0].shape), np.float32)
    images[1, 0, 0, 0] = np.nan
    with pytest.raises(Failure, match="NaN or infinity in image 1 of 2") as caught:
        model(images)
    assert caught.value.code == BAD_DATA
    assert model(images[:0])[0].shape == (0, 10)


def test_threads_run_one_model_at_the_same_time(shared) -> None:
    model = CModel(shared, RELEASED, threads=2)
    images = np.random.Generator(np.random.PCG64(6)).standard_normal((9, *model.inputs[0].shape), np.float32)
    expected = model(images)[0]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: model(images)[0], range(24)):
            assert same_bits(found, expected)


def test_the_table_of_operations_is_that_of_python() -> None:
    """It is written by native/capi/make_table.py."""
    path = Path(__file__).parents[2] / "native/capi/make_table.py"
    assert path.with_name("operation_table.h").read_text() == runpy.run_path(str(path))["table"]()
