"""The quantization error of a sine of Laplace weights, in closed form, and the frequency that gives a wanted one.

For weights of a Laplace distribution of diversity ``b`` (density ``exp(-|w| / b) / 2b``, so that ``b = E|w|``) and the
signs of ``sin ωw`` with their best scale γ, only the product ``x = ωb`` counts:

    γ      = E|sin ωw| = x / (1 + x²) coth(π / 2x)
    E sin² = 2x² / (1 + 4x²)
    QE     = E sin² - γ²
"""

from __future__ import annotations

import math

from biper.errors import ModelError

LARGEST_PRODUCT = 0.9549
"""Where QE is largest: up to here it rises with ωb, beyond it falls to its limit, ``1/2 - 4/π²`` (0.0947)."""

LARGEST_ERROR = 0.1028
"""The largest QE, rounded down."""


def laplace_scale(product: float) -> float:
    """γ for ``product = ωb``, in radians: rises from 0 (as ``ωb``; 0 where all weights are 0) to ``2 / π``.

    Raises:
        ModelError: the product is negative or not finite.
    """
    if not 0 <= product < math.inf:
        raise ModelError(f"frequency times diversity must be a finite number from 0 on, got {product!r}")
    if product == 0:
        return 0.0
    return product / (1 + product**2) / math.tanh(math.pi / (2 * product))


def laplace_error(product: float) -> float:
    """``E|sin ωw - q(w)| = 1 - γ``, from ``ωb`` as in `laplace_scale`: from 1 to ``1 - 2 / π``."""
    return 1 - laplace_scale(product)


def laplace_scaled_error(product: float) -> float:
    """QE, from ``ωb`` as in `laplace_scale`: from 0 over `LARGEST_ERROR` to ``1/2 - 4 / π²``.

    Source: Vargas et al., CVPR 2024, section 3.
    """
    return 2 * product**2 / (1 + 4 * product**2) - laplace_scale(product) ** 2


def frequency_for_error(target: float, diversity: float) -> float:
    """The smallest ω (radians per unit of weight) at which Laplace weights of this diversity have this QE.

    Raises:
        ModelError: no frequency gives that error.
    """
    if not 0 < target <= LARGEST_ERROR or not 0 < diversity < math.inf:
        raise ModelError(
            f"no frequency gives a quantization error of {target!r} to weights of diversity {diversity!r}: expected "
            f"an error above 0 and up to {LARGEST_ERROR}, and a positive diversity"
        )
    low, high = 0.0, LARGEST_PRODUCT
    for _ in range(60):  # halvings: more than a float's digits
        middle = (low + high) / 2
        low, high = (middle, high) if laplace_scaled_error(middle) < target else (low, middle)
    return high / diversity
