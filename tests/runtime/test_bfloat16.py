"""Numbers in bfloat16 are those of torch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from biper.runtime.bfloat16 import are_finite, from_bfloat16, round_to_bfloat16, to_bfloat16


@given(st.lists(st.floats(width=32), min_size=1), st.integers(0, 2**32 - 1))
def test_rounding_is_that_of_torch(numbers: list[float], bits: int) -> None:
    values = np.array([*numbers, 0.0], np.float32)
    values[-1:] = np.array([bits], np.uint32).view(np.float32)  # any pattern, so that halves are met
    np.testing.assert_array_equal(round_to_bfloat16(values), torch.from_numpy(values).bfloat16().float().numpy())


def test_halves_go_to_the_even_number() -> None:
    halves = np.arange(0x3F80, 0x4080, dtype=np.uint32) * 0x10000 + 0x8000
    values = halves.view(np.float32)
    np.testing.assert_array_equal(round_to_bfloat16(values), torch.from_numpy(values).bfloat16().float().numpy())
    assert (to_bfloat16(values) % 2 == 0).all()


def test_every_number_comes_back() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = from_bfloat16(bits)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(to_bfloat16(values[finite]), bits[finite])
    assert are_finite(bits[finite])
    assert not any(are_finite(bits[~finite][i : i + 1]) for i in range((~finite).sum()))
