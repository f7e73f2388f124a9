"""Hostile packed files are refused with a `ModelFormatError` of one line, whether their checksum is compared or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacks.containers import Container
from attacks.gallery import Attack
from attacks.mutations import attempt, bases
from attacks.packed_base import images, on, program
from attacks.packed_budgets import BUDGETS, MAX_MEMORY, MAX_WORK
from attacks.packed_headers import HEADERS
from attacks.packed_operations import OPERATIONS

from biper.errors import ModelFormatError
from biper.runtime.engine import Engine
from biper.runtime.model import Model
from biper.runtime.reader import read_program

GALLERY = [*HEADERS.parameters(), *OPERATIONS.parameters(), *BUDGETS.parameters()]
TYPES = (None, True, -1, 1 << 63, 0.5, float("nan"), "", "image", [], [0, 0], [[]], {"a": {}})
"""One value of each type, for the test of every key."""
LIMITS = {"max_memory": MAX_MEMORY, "max_work": MAX_WORK}


@pytest.mark.parametrize("attack", GALLERY)
def test_a_hostile_file_is_refused_at_once(attack: Attack, tmp_path: Path) -> None:
    made = attack.make()
    blob = made.sealed() if isinstance(made, Container) else made
    (tmp_path / "m.biper").write_bytes(blob)
    for source in (blob, tmp_path / "m.biper"):
        for verify in (True, False):
            start = time.process_time()
            with pytest.raises(ModelFormatError) as caught:
                Model.load(source, verify=verify, **LIMITS)
            assert time.process_time() - start < 2
            text = str(caught.value).removeprefix(f"{tmp_path / 'm.biper'}: ")
            if source != blob and len(blob) > LIMITS["max_memory"]:  # refused before it is read
                most = LIMITS["max_memory"]
                found = f"it has {len(blob):,} bytes, expected at most {most:,}"
                assert text == f"the model needs more than max_memory={most:,} allows: {found}"
            else:
                assert text.startswith(attack.error[:-1]) if attack.error.endswith("*") else text == attack.error
            assert text.isprintable()


def test_the_files_that_the_attacks_change_are_valid() -> None:
    assert attempt(images().sealed()) == "ran"
    assert attempt(program([3, 4, 4], on("unary", "image", function="abs")).sealed()) == "ran"


def test_the_limits_refuse_what_is_allowed_without_them() -> None:
    blob = images().sealed()
    program_read = read_program(blob)
    for limits, error in (
        ({"max_memory": 50_000}, r"bytes of memory with .*, more than max_memory=50,000 allows"),
        ({"max_work": 5_000}, r"operation 0 .* elementary operations, more than max_work=5,000 allows"),
    ):
        with pytest.raises(ModelFormatError, match=error):
            Model.load(blob, **limits)
    with pytest.raises(ModelFormatError, match="it needs more memory than max_memory=1000 allows"):
        Engine(program_read, max_memory=1000)
    arena = Engine(program_read).arena_bytes
    assert Engine(program_read, max_memory=arena + 20_000).arena_bytes == arena


def test_the_largest_number_of_operations_is_read_in_two_seconds() -> None:
    """Ten thousand values that are all needed at the end, and a hundred thousand inputs."""
    steps = [on("elementwise", "image", real=f"v{number}") for number in range(4_000)]
    many = [on("concatenate", *["image"] * 20_000, real=f"w{number}") for number in range(5)]
    blob = program([1, 1, 1], *steps, *many, on("concatenate", *(f"v{number}" for number in range(4_000)))).sealed()
    start = time.process_time()
    assert Model.load(blob)(np.ones((1, 1, 1, 1), np.float32)).shape == (1, 4_000)
    assert time.process_time() - start < 2


def _fields(container: Container) -> Iterator[tuple[dict, str]]:
    for entry in container.document["operations"]:
        for parent in (entry, entry["attributes"]):
            for key in list(parent):
                yield parent, key


def test_every_operation_with_a_key_missing_or_of_another_type_is_refused_or_computed() -> None:
    """Each key of each operation of each small file: left out, and as a value of each type."""
    seen = set()
    for container in bases()[:-1]:
        for parent, key in _fields(container):
            kept = parent[key]
            kind = (parent.get("operation") or sorted(parent), key)
            if str(kind) in seen:
                continue
            seen.add(str(kind))
            del parent[key]
            attempt(container.sealed())
            for value in TYPES:
                parent[key] = value
                attempt(container.sealed())
            parent[key] = kept
            for later in [name for name in parent if name != key]:  # the order of the keys as it was
                parent[later] = parent.pop(later)
    assert len(seen) > 150


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    for container in bases():
        for name in [name for name, entry in container.tensors.items() if entry.dtype in ("F32", "F16") and entry.data]:
            spoiled = container.copy()
            entry = spoiled.tensors[name]
            kind = np.float32 if entry.dtype == "F32" else np.float16
            array = np.frombuffer(entry.data, kind).copy()
            array[-1] = number
            entry.data = array.tobytes()
            if name.endswith(".value") and number == np.inf:  # the masks of attention
                read_program(spoiled.sealed())
                continue
            with pytest.raises(ModelFormatError, match=r"operation \d+ .* with values that are NaN or infinite"):
                read_program(spoiled.sealed())


def test_a_program_of_this_process_has_no_limits() -> None:
    """Limits are for files: a program that was made here is run as it is."""
    small = read_program(images().sealed())
    assert Model(replace(small, classes=())).classes == ("0", "1", "2", "3")
