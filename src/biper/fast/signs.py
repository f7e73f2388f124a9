"""Signs of activations as bits, and the gradient of a sign; calls ``native/training/signs.cc``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biper.fast.activations import address_of, is_bfloat16, shape_of


@dataclass(frozen=True)
class Signs:
    """Signs of activations as bits, a plane of bytes for eight channels, and each sample's mean and 1 / deviation."""

    memory: Tensor
    statistics: Tensor | None
    shape: torch.Size

    @property
    def address(self) -> int:
        from biper import _native

        return self.memory.data_ptr() + int(_native.SLACK)


def signs(x: Tensor, epsilon: float | None) -> Signs:
    """Which of the activations are at least 0; with ``epsilon``, also each sample's ``1 / sqrt(var + epsilon)``."""
    from biper import _native

    memory = torch.empty(x.numel() // 8 + 2 * int(_native.SLACK), dtype=torch.uint8)
    statistics = None if epsilon is None else torch.empty(x.shape[0], 2, dtype=torch.float32)
    result = Signs(memory, statistics, x.shape)
    where = 0 if statistics is None else statistics.data_ptr()
    _native.sign_forward(
        is_bfloat16(x), shape_of(x), address_of(x), result.address, where, epsilon or 0.0, torch.get_num_threads()
    )
    return result


def sign_backward_(x: Tensor, statistics: Tensor | None, box: bool, to_add: Tensor | None, grad: Tensor) -> Tensor:
    """Turn ``grad``, the gradient by the signs of ``x``, into that by ``x``, in place, plus ``to_add``.

    The window over ``x`` times ``1 / deviation`` is ``max(0, 2 - 2|u|)``, or a box; see `biper.quantizers`.
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
