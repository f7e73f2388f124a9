"""Signs of activations as bits, and the gradient of a sign; calls ``native/training/signs.cc``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biper.fast.activations import address_of, is_bfloat16, shape_of


@dataclass(frozen=True)
class Signs:
    """The signs of activations as bits.

    ``memory`` has a plane of bytes (H W) for every eight channels of each sample, and some bytes before and behind that
    the kernels may read. ``statistics`` are (N, 2) float32, the mean and 1 / deviation of each sample, or None.
    ``shape`` is that of the activations, (N, C, H, W).
    """

    memory: Tensor
    statistics: Tensor | None
    shape: torch.Size

    @property
    def address(self) -> int:
        """The address of the first byte of the first plane."""
        from biper import _native

        return self.memory.data_ptr() + int(_native.SLACK)


def signs(x: Tensor, epsilon: float | None, threshold: Tensor | None = None) -> Signs:
    """Compute the signs of activations: a bit is 1 where ``x >= threshold``.

    Args:
        x: (N, C, H, W) in channels-last layout, float32 or bfloat16, with C a multiple of 16.
        epsilon: if given, also compute the mean and ``1 / sqrt(var + epsilon)`` of each sample, with the unbiased
            variance.
        threshold: (C,) float32; None stands for zeros.
    """
    from biper import _native

    memory = torch.empty(x.numel() // 8 + 2 * int(_native.SLACK), dtype=torch.uint8)
    statistics = None if epsilon is None else torch.empty(x.shape[0], 2, dtype=torch.float32)
    result = Signs(memory, statistics, x.shape)
    _native.sign_forward(
        is_bfloat16(x),
        shape_of(x),
        address_of(x),
        0 if threshold is None else threshold.data_ptr(),
        result.address,
        0 if statistics is None else statistics.data_ptr(),
        epsilon or 0.0,
        torch.get_num_threads(),
    )
    return result


def sign_backward_(x: Tensor, statistics: Tensor | None, box: bool, to_add: Tensor | None, grad: Tensor) -> Tensor:
    """Replace ``grad``, the gradient by the signs of ``x``, in place by the gradient by ``x``, and return it.

    The derivative of a sign is taken as ``max(0, 2 - 2|u|)``, or 1 for ``|u| <= 1`` and else 0; see `biper.quantizers`.

    Args:
        x: the activations, (N, C, H, W) in channels-last layout.
        statistics: those of `Signs`, with which ``u = x / deviation``; None for ``u = x``.
        box: whether the derivative is the second of the two.
        to_add: added to the gradient by ``x``, or None.
        grad: as ``x``.
    """
    from biper import _native

    _native.sign_backward(
        is_bfloat16(x),
        shape_of(x),
        address_of(x),
        0 if statistics is None else statistics.data_ptr(),
        box,
        0 if to_add is None else address_of(to_add, x),
        address_of(grad, x),
        torch.get_num_threads(),
    )
    return grad


def threshold_backward_(
    x: Tensor, threshold: Tensor, box: bool, to_add: Tensor | None, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace ``grad``, the gradient by the signs of ``x - threshold``, in place by the gradient by ``x``.

    Args:
        x: the activations, (N, C, H, W) in channels-last layout.
        threshold: (C,) float32.
        box, to_add, grad: see `sign_backward_`.

    Returns:
        ``grad``; and the gradient by the threshold, (C,) float32, without what was added.
    """
    from biper import _native

    sums = torch.empty(x.shape[1], dtype=torch.float64)
    _native.threshold_backward(
        is_bfloat16(x),
        shape_of(x),
        address_of(x),
        threshold.data_ptr(),
        box,
        0 if to_add is None else address_of(to_add, x),
        address_of(grad, x),
        sums.data_ptr(),
        torch.get_num_threads(),
    )
    return grad, -sums.float()
