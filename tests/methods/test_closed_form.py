"""The quantization error of Laplace weights in closed form, against numerical integrals."""

from __future__ import annotations

import math

import pytest
import torch

from biper.errors import ModelError
from biper.methods.closed_form import LARGEST_ERROR, LARGEST_PRODUCT, frequency_for_error, laplace_scaled_error
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
