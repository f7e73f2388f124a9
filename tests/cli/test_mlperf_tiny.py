"""The example of MLPerf Tiny: its serial protocol on an emulated board, and the integers behind it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.boards import board

from biper.cli.paths import model_file
from biper.targets.c.fixed_reference import run_fixed
from biper.targets.c.to_fixed_point import to_fixed_point
from biper.targets.deploy import OpenedProgram, open_program, write_c

EXAMPLE = Path(__file__).parents[2] / "examples" / "mlperf_tiny"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mlperf_tiny", EXAMPLE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def opened() -> OpenedProgram:
    return open_program(model_file("cifar10-resnet20"))


@pytest.fixture(scope="module")
def device(example: ModuleType, opened: OpenedProgram, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    emulated = board("cortex-m4")
    build = tmp_path_factory.mktemp("device")
    write_c(opened, build / "model.c", integer_only=True)
    for name in ("harness.c", "submitter.c", "submitter.h"):
        shutil.copy(EXAMPLE / name, build)
    emulated.build([build / name for name in ("harness.c", "submitter.c", "model.c")], build / "device.elf", "-O2")
    made = example.Device(emulated, build / "device.elf")
    yield made
    made.end()


def test_the_device_says_what_it_is(device: Any) -> None:
    assert device.ask("name") == ["m-name-dut-[biper]"]
    assert device.ask("profile") == ["m-profile-[biper]", "m-model-[ic01]"]
    (first,), (second,) = device.ask("timestamp"), device.ask("timestamp")
    assert 0 < int(first.removeprefix("m-lap-us-")) <= int(second.removeprefix("m-lap-us-"))


def test_bytes_arrive_as_they_were_sent(device: Any) -> None:
    assert device.ask("db load 10") == ["m-[Expecting 10 bytes]"]
    assert device.ask("db 00ff80") == []
    assert device.ask("db 0102030405Ab0777") == ["m-load-done"]  # what is beyond the 10 bytes is left out
    assert device.ask("db print") == ["m-buffer-00-ff-80-01-02-03-04-05", "m-buffer-ab-07"]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("go", "Unknown command: go"),
        ("", "Unknown command: "),
        ("db", "db needs load, print or hexadecimal digits"),
        ("db load 0", "Expected 1 to 3072 bytes, got '0'"),
        ("db load 3073", "Expected 1 to 3072 bytes, got '3073'"),
        ("db load many", "Expected 1 to 3072 bytes, got 'many'"),
        ("infer 0", "infer needs a number of runs"),
        ("infer 1 -1", "infer needs a number of runs"),
    ],
)
def test_a_wrong_command_is_an_error_and_the_next_works(device: Any, command: str, error: str) -> None:
    with pytest.raises(RuntimeError, match="the device says e-") as raised:
        device.ask(command)
    assert error in str(raised.value)
    device.read()
    assert device.ask("name") == ["m-name-dut-[biper]"]


def test_half_a_byte_is_an_error(device: Any) -> None:
    device.ask("db load 4")
    for digits in ("0g", "012"):
        with pytest.raises(RuntimeError, match=r"e-\[Expected pairs of hexadecimal digits"):
            device.ask(f"db {digits}")
        device.read()


def test_an_inference_gives_the_integers_of_numpy(device: Any, opened: OpenedProgram) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    fixed = to_fixed_point(opened.program, opened.images)
    expected = run_fixed(fixed, pixels)[opened.program.output].reshape(2, -1) / 2.0**fixed.output_exponent
    for image, outputs in zip(pixels, expected, strict=True):
        device.load(image)
        found, took = device.infer(1, 0)
        assert np.array_equal(found, np.trunc(outputs * 1000) / 1000)
        assert 10_000 < took < 20_000  # thousands of instructions
