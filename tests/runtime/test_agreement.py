"""Comparing results: real numbers to rounding, whole numbers by how many are others."""

from __future__ import annotations

import numpy as np

from biper.runtime.agreement import differences


def test_real_numbers_are_compared_to_rounding() -> None:
    expected = np.random.default_rng(0).standard_normal((3, 2000), np.float32)
    actual = expected.copy()
    actual[1, 5] += 0.5
    found = differences(actual, expected)
    assert found.within(1e-4).tolist() == [True, False, True]
    assert found.shares[1] == np.float32(np.abs(actual - expected)[1, 5]) / np.abs(expected).max()


def test_whole_numbers_may_be_others_on_a_thousandth_of_the_places() -> None:
    """The class of a pixel whose two likeliest classes are equal to rounding."""
    expected = np.random.default_rng(0).integers(0, 5, (3, 40, 50)).astype(np.float32)
    actual = expected.copy()
    actual[0, 0, :2] += 1
    actual[1, 0, :3] += 1
    assert differences(actual, expected).within(0).tolist() == [True, False, True]
    few = expected[:, 0]
    wrong = few.copy()
    wrong[2, 0] += 1
    assert differences(wrong, few).within(1e-4).tolist() == [True, True, False]
