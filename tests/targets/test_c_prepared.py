"""Programs made ready for C in integers: they compute what they computed before."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.programs import PADDED, operation, program_of
from support.small_programs import affine, random_pixels, shifted_operations, small_programs

from biper.runtime.model import Model
from biper.runtime.program import Program
from biper.runtime.reference import run_reference
from biper.targets.c.balanced import END, MARGIN, balanced
from biper.targets.c.fixed_point import SIGN_OFFSET
from biper.targets.c.prepared import with_joined_signs, with_plain_thresholds
from biper.targets.c.to_fixed_point import to_fixed_point


def shifted(seed: int, channels: int = 16) -> Program:
    random = np.random.default_rng(seed)
    return program_of((3, 6, 7), shifted_operations(random, channels), "y")


def values_of(program: Program) -> dict[str, NDArray]:
    return run_reference(program, Model(program).normalized(random_pixels(program.input_shape)))


def largest(values: dict[str, NDArray]) -> dict[str, NDArray]:
    real = {name: each for name, each in values.items() if each.dtype != bool and "sum" not in name}
    return {name: np.abs(each).max((0, 2, 3)) for name, each in real.items()}


@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 16, 20]))
def test_balanced_channels_have_equal_ranges_and_the_same_signs(seed: int, channels: int) -> None:
    program = shifted(seed, channels)
    before = values_of(program)
    made, most = balanced(program, largest(before))
    after = values_of(made)
    for name, value in before.items():
        if value.dtype == bool:
            assert (value != after[name]).mean() <= 1e-3  # where a float32 number was within its rounding of 0
    # The clip fixes the whole chain of residuals but the part before a value without one.
    assert np.array_equal(np.abs(after["v4"]).max(), np.abs(before["v4"]).max())
    assert set(most) == {name for name in largest(before) if name in before}


def test_what_is_balanced_reaches_its_end_and_what_a_clip_reads_stays() -> None:
    random = np.random.default_rng(3)
    operations = shifted_operations(random, 16)
    free = program_of(
        (3, 6, 7), [*operations[:8], operation("pool", "v3", affine(random, 16), real="y", attributes=POOL)], "y"
    )
    before = values_of(free)
    made, most = balanced(free, largest(before))
    after = values_of(made)
    reached = np.max([np.abs(after[name]).max((0, 2, 3)) for name in ("v0", "v1", "v2", "v3")], 0)
    np.testing.assert_allclose(reached, END / MARGIN, rtol=2e-3)
    np.testing.assert_allclose(after["y"], before["y"], rtol=1e-4, atol=1e-5)
    assert max(most[name] for name in ("v0", "v1", "v2", "v3")) <= END / 2
    clipped = shifted(3)
    fixed, _ = balanced(clipped, largest(values_of(clipped)))
    assert all(np.array_equal(values_of(fixed)[name], values_of(clipped)[name]) for name in ("v0", "v3", "v4"))


POOL = {
    "kind": "average",
    "kernel": [6, 7],
    "stride": [6, 7],
    "padding": [0, 0],
    "size": [1, 1],
    "count_padding": False,
}


def test_all_small_programs_compute_the_same_when_balanced() -> None:
    for name, program in small_programs().items():
        before = values_of(program)
        made, _ = balanced(program, largest(before))
        np.testing.assert_allclose(
            values_of(made)[program.output], before[program.output], rtol=1e-4, atol=1e-4, err_msg=name
        )


@given(st.integers(0, 2**32 - 1))
def test_thresholds_without_multipliers_give_the_same_signs(seed: int) -> None:
    program = shifted(seed)
    plain = with_plain_thresholds(program)
    before, after = values_of(program), values_of(plain)
    assert np.array_equal(before["b0"], after["b0"])
    by_bits = {op.bits: op for op in plain.operations}
    assert "multiplier" not in by_bits["b0"].tensors  # all were positive
    assert set(np.unique(by_bits["b2"].tensors["multiplier"])) == {-1, 1}


def test_convolutions_emit_the_signs_that_an_operation_made() -> None:
    joined = with_joined_signs(with_plain_thresholds(shifted(0)))
    makers = {op.bits: op.operation for op in joined.operations if op.bits is not None}
    assert makers == {
        "b0": "convolution",
        "b1": "binary_convolution",
        "b2": "elementwise",  # its multipliers have both signs
        "b3": "binary_convolution",
        "b4": "binary_convolution",
    }
    assert sum(SIGN_OFFSET in op.tensors for op in joined.operations) == 4
    fixed = to_fixed_point(shifted(0))
    assert sum(step.signs is not None for step in fixed.operations) == 4


def test_a_clip_with_a_threshold_of_its_own_is_not_finished_the_fast_way() -> None:
    for step in to_fixed_point(shifted(0)).operations:
        kind = step.op.attributes.get("activation")
        assert not step.fast or kind == "prelu" or (kind is None and step.signs is None)


def test_a_network_of_residual_blocks_has_fast_steps() -> None:
    program = shifted(1)
    images = Model(program).normalized(random_pixels(program.input_shape))
    kinds = {step.op.real: step.fast for step in to_fixed_point(program, images).operations if step.op.real}
    assert kinds["v1"]
    assert PADDED["padding"] == [1, 1, 1, 1]
