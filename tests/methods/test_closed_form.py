"""The quantization error of Laplace weights in closed form, against numerical integrals."""

from __future__ import annotations

import math

import pytest
import torch

from biper.errors import ModelError
from biper.methods.closed_form import (
    LARGEST_ERROR,
    LARGEST_PRODUCT,
    frequency_for_error,
    laplace_error,
    laplace_scaled_error,
    normal_error,
    normal_scale,
    normal_scaled_error,
)
from biper.quantizers import sign


def test_the_closed_form_is_the_integral() -> None:
    """The integral is the mean of (sin - γ sign)² at the best γ over the density exp(-u), with u = |w| / b."""
    u = torch.linspace(0, 40, 4_000_001, dtype=torch.float64)
    density = torch.exp(-u)
    for product in (0.01, 0.1, 0.5, LARGEST_PRODUCT, 2.0, 10.0):
        sine = torch.sin(product * u)
        scale = torch.trapezoid(sine.abs() * density, u)
        error = torch.trapezoid((sine - scale * sign(sine)).square() * density, u).item()
        assert laplace_scaled_error(product) == pytest.approx(error, abs=1e-6)
        assert laplace_scaled_error(product) <= LARGEST_ERROR + 1e-4


def test_a_frequency_is_found_for_an_error() -> None:
    for target in (1e-4, 0.01, 0.05, LARGEST_ERROR):
        for diversity in (0.01, 0.05, 2.0):
            frequency = frequency_for_error(target, diversity)
            assert laplace_scaled_error(frequency * diversity) == pytest.approx(target, rel=1e-9)
            assert frequency * diversity <= LARGEST_PRODUCT
    for target, diversity in ((0.11, 1.0), (0.0, 1.0), (0.05, 0.0), (0.05, math.nan)):
        with pytest.raises(ModelError, match="no frequency gives a quantization error of"):
            frequency_for_error(target, diversity)


def test_the_closed_form_of_normal_weights_is_the_integral() -> None:
    """The integrals are over the density of a standard normal u, with the phase σ u; steps are far below a period."""
    u = torch.linspace(0, 12, 2_000_001, dtype=torch.float64)
    density = torch.exp(-u * u / 2) * math.sqrt(2 / math.pi)
    for deviation in (1e-6, 0.01, 0.1, 0.2999999, 0.3, 0.8, 1.5, 3.0, 20.0):
        sine = torch.sin(deviation * u)
        scale = torch.trapezoid(sine.abs() * density, u).item()
        error = torch.trapezoid((sine - scale * sign(sine)).square() * density, u).item()
        assert normal_scale(deviation) == pytest.approx(scale, rel=1e-7)
        assert normal_error(deviation) == pytest.approx(1 - scale, abs=1e-7)
        assert normal_scaled_error(deviation) == pytest.approx(error, rel=1e-5, abs=1e-20)


def test_both_formulas_for_normal_weights_agree_where_they_meet() -> None:
    below, at = normal_scale(math.nextafter(0.3, 0)), normal_scale(0.3)
    assert below == pytest.approx(at, rel=1e-14)
    assert normal_scale(0.0) == normal_scaled_error(0.0) == 0
    assert normal_error(50.0) == pytest.approx(1 - 2 / math.pi, rel=1e-14)
    assert normal_scaled_error(50.0) == pytest.approx(0.5 - 4 / math.pi**2, rel=1e-14)
    for wrong in (-0.1, math.nan, math.inf):
        for function in (normal_scale, normal_error, normal_scaled_error):
            with pytest.raises(ModelError, match="the deviation of the phase must be a finite number from 0 on"):
                function(wrong)


def test_samples_have_the_errors_of_both_closed_forms() -> None:
    """Quantiles of both distributions with a phase of the deviation σ; the diversity of Laplace weights is σ / √2."""
    middle = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    normal, laplace = torch.special.ndtri(middle), torch.sign(middle - 0.5) * -torch.log(1 - (2 * middle - 1).abs())
    for deviation in (0.4, 0.8, 1.5, 2.5):
        for phase, predicted in (
            (deviation * normal, normal_error(deviation)),
            (deviation / math.sqrt(2) * laplace, laplace_error(deviation / math.sqrt(2))),
        ):
            assert phase.std().item() == pytest.approx(deviation, rel=1e-3)
            assert (1 - torch.sin(phase).abs()).mean().item() == pytest.approx(predicted, abs=1e-4)
