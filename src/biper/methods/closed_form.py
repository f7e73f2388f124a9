"""The quantization error of the sine of Laplace and of normal weights in closed form, and the frequency for an error.

The weights ``w`` have a Laplace distribution of diversity ``b``, with the density ``exp(-|w| / b) / 2b``, so that
``b = E|w|``. The signs of ``sin ωw`` are multiplied by their best scale γ. All quantities depend only on the product
``x = ωb``:

    γ      = E|sin ωw| = x / (1 + x²) coth(π / 2x)
    E sin² = 2x² / (1 + 4x²)
    QE     = E (sin ωw - γ sign(sin ωw))² = E sin² - γ²

For normal weights, the phase ``φ = ωw`` has the mean 0 and the standard deviation σ. It alone sets the same quantities:

    γ      = 2 / π - (4 / π) sum over k >= 1 of exp(-2k²σ²) / (4k² - 1)
    E sin² = (1 - exp(-2σ²)) / 2

The sum is the mean of the Fourier series of ``|sin φ|``, because ``E cos 2kφ = exp(-2k²σ²)``. For a small σ no phase
reaches π, and ``γ = E sin |φ| = (2 / √π) D(σ / √2)`` with Dawson's function D. A phase of Laplace weights has the
standard deviation ``√2 ωb``.

Source: Vargas et al., "BiPer: Binary Neural Networks using a Periodic Function", CVPR 2024, section 3; the form
for normal weights is of this project.
"""

from __future__ import annotations

import math

from biper.errors import ModelError

LARGEST_PRODUCT = 0.9549
"""The product ωb at which QE is largest. QE rises up to it and then falls to the limit ``1/2 - 4/π²`` (0.0947)."""

LARGEST_ERROR = 0.1028
"""The largest QE of any product ωb, rounded down."""


def laplace_scale(product: float) -> float:
    """Compute γ, the mean ``|sin ωw|`` and the best scale of the signs.

    Args:
        product: ωb, in radians; 0 if all weights are 0.

    Returns:
        γ, which rises with the product from 0 to ``2 / π``.

    Raises:
        ModelError: the product is negative or not finite.
    """
    if not 0 <= product < math.inf:
        raise ModelError(f"frequency times diversity must be a finite number from 0 on, got {product!r}")
    if product == 0:
        return 0.0
    return product / (1 + product**2) / math.tanh(math.pi / (2 * product))


def laplace_error(product: float) -> float:
    """Compute ``E|sin ωw - q(w)| = 1 - γ``, the mean distance of the sine from its signs.

    Args:
        product: ωb, in radians.

    Returns:
        The error, which falls with the product from 1 to ``1 - 2 / π``.

    Raises:
        ModelError: the product is negative or not finite.
    """
    return 1 - laplace_scale(product)


def laplace_scaled_error(product: float) -> float:
    """Compute QE, the mean squared distance of the sine from its signs with their best scale γ.

    Args:
        product: ωb, in radians.

    Returns:
        QE, which is 0 for a product of 0, reaches `LARGEST_ERROR` at `LARGEST_PRODUCT` and tends to ``1/2 - 4 / π²``.

    Raises:
        ModelError: the product is negative or not finite.
    """
    return 2 * product**2 / (1 + 4 * product**2) - laplace_scale(product) ** 2


def normal_scale(deviation: float) -> float:
    """Compute γ, the mean ``|sin φ|`` of normal phases and the best scale of the signs.

    Args:
        deviation: σ, the standard deviation of the phase in radians; 0 if all weights are 0.

    Returns:
        γ, which rises with σ from 0 to ``2 / π``, to about 15 digits.

    Raises:
        ModelError: the deviation is negative or not finite.
    """
    if not 0 <= deviation < math.inf:
        raise ModelError(f"the deviation of the phase must be a finite number from 0 on, got {deviation!r}")
    if deviation < _FEW_TERMS:
        x, total = deviation / math.sqrt(2), 0.0
        term = x
        for k in range(1, 12):  # D(x) = x - 2x³/3 + 4x⁵/15 - ...
            total += term
            term *= -2 * x * x / (2 * k + 1)
        return 2 / math.sqrt(math.pi) * total
    terms = (math.exp(-2 * (k * deviation) ** 2) / (4 * k * k - 1) for k in range(1, 16))
    return 2 / math.pi - 4 / math.pi * math.fsum(terms)


_FEW_TERMS = 0.3
"""The σ from which 15 terms of the Fourier series leave an error below 1e-18. Below it, the probability of a phase
beyond π is below 1e-24, and 11 terms of Dawson's function leave an error below 1e-18."""


def normal_error(deviation: float) -> float:
    """Compute ``E|sin φ - q(w)| = 1 - γ`` for normal phases, the mean distance of the sine from its signs.

    Args:
        deviation: σ, the standard deviation of the phase in radians.

    Returns:
        The error, which falls with σ from 1 to ``1 - 2 / π``.

    Raises:
        ModelError: the deviation is negative or not finite.
    """
    return 1 - normal_scale(deviation)


def normal_scaled_error(deviation: float) -> float:
    """Compute QE for normal phases, the mean squared distance of the sine from its signs with their best scale γ.

    Args:
        deviation: σ, the standard deviation of the phase in radians.

    Returns:
        QE, which is 0 for σ = 0 and tends to ``1/2 - 4 / π²``.

    Raises:
        ModelError: the deviation is negative or not finite.
    """
    return -math.expm1(-2 * deviation**2) / 2 - normal_scale(deviation) ** 2


def frequency_for_error(target: float, diversity: float) -> float:
    """Compute the smallest frequency at which Laplace weights have a given QE.

    Args:
        target: the wanted QE, above 0 and up to `LARGEST_ERROR`.
        diversity: the diversity b of the weights, positive.

    Returns:
        ω, in radians per unit of weight.

    Raises:
        ModelError: no frequency gives the weights that error.
    """
    if not 0 < target <= LARGEST_ERROR or not 0 < diversity < math.inf:
        raise ModelError(
            f"no frequency gives a quantization error of {target!r} to weights of diversity {diversity!r}: expected "
            f"an error above 0 and up to {LARGEST_ERROR}, and a positive diversity"
        )
    low, high = 0.0, LARGEST_PRODUCT
    for _ in range(60):  # 60 halvings exceed the precision of a float
        middle = (low + high) / 2
        low, high = (middle, high) if laplace_scaled_error(middle) < target else (low, middle)
    return high / diversity
