"""20,000 random programs on every instruction set of this processor against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import test_arrays
import test_engine
from conftest import SEED
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from support.random_programs import array_programs

EACH = 2500

TESTS: list[tuple[Any, dict[str, st.SearchStrategy[Any]]]] = [
    (test_engine.test_binary_sums_are_the_same_integers, {"data": st.data()}),
    (test_engine.test_thresholds_emit_the_same_bits, {"data": st.data()}),
    (test_engine.test_real_convolutions_with_every_epilogue, {"data": st.data()}),
    (test_engine.test_bfloat16_convolutions_round_their_inputs, {"data": st.data()}),
    (test_engine.test_int8_convolutions_are_the_same_integers, {"data": st.data()}),
    (test_engine.test_every_way_of_a_binary_convolution, {"data": st.data()}),
    (test_engine.test_every_way_of_a_real_convolution, {"data": st.data()}),
    (test_engine.test_pooling, {"data": st.data()}),
    (test_engine.test_signs_of_a_value_that_is_kept_are_made_with_it, {"data": st.data()}),
    (test_arrays.test_random_programs, {"drawn": array_programs()}),
]
"""The tests that run on every commit with 200 programs or so each, and what they draw."""


@pytest.mark.slow
@pytest.mark.parametrize(("test", "drawn"), TESTS, ids=[test.__name__ for test, _ in TESTS])
def test_many_random_programs(test: Any, drawn: dict[str, st.SearchStrategy[Any]]) -> None:
    def run(**values: Any) -> None:  # a new function, without the settings of the other test
        test.hypothesis.inner_test(**values)

    options = settings(
        max_examples=EACH,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    seed(SEED + 1)(options(given(**drawn)(run)))()
