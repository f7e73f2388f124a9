"""Operations on arrays in the native engine against the reference: random programs, each function, hostile numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.array_programs import PARAMETERS, array_operation, array_programs
from test_engine import SETS

from biper.runtime.engine import Engine
from biper.runtime.operations.arithmetic import BINARY, UNARY
from biper.runtime.operations.reductions import REDUCTIONS
from biper.runtime.program import Operation, Program, write_program
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference

Array = NDArray[np.float32]


def program_on(shape: tuple[int, int, int], operations: list[Operation], **rest: object) -> Program:
    ones = (1.0,) * shape[0]
    program = Program(shape, ones, ones, (), str(operations[-1].real), tuple(operations), **rest)
    return read_program(write_program(program))


@given(drawn=array_programs())
@settings(max_examples=300, deadline=None)
def test_random_programs(drawn: tuple[Program, Array, dict[str, Array]]) -> None:
    program, images, others = drawn
    values = run_reference(program, images, others)
    # Differences of nearly equal numbers make rounding errors larger: they are relative to the largest value.
    scale = max(1.0, *(float(np.abs(value).max()) for value in values.values()))
    outputs = program.outputs or {"": program.output}
    for name in SETS:
        results = Engine(program, name)(images, others)
        threads = Engine(program, name, threads=3)(images, others)
        results, threads = (given if isinstance(given, dict) else {"": given} for given in (results, threads))
        assert results.keys() == outputs.keys()
        for key, value in outputs.items():
            assert results[key].shape == values[value].shape
            np.testing.assert_array_equal(results[key], threads[key])
            np.testing.assert_allclose(results[key], values[value], rtol=1e-4, atol=1e-5 * scale, err_msg=name)
