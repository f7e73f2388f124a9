"""Convolutions of bits, by table lookup or by tiles; calls ``native/training/{avx2,avx512,amx}``.

`convolution` is the forward pass; `weight_gradient` and one of `input_gradient` and `signs_input_gradient` are the
backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biper.fast.activations import address_of, is_bfloat16
from biper.fast.signs import Signs


@dataclass(frozen=True)
class Geometry:
    """Stride, padding and dilation, (y, x) each, of a convolution of one group."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, layer: torch.nn.Conv2d) -> Geometry:
        """The geometry of a layer, whose padding must be given in numbers."""
        assert not isinstance(layer.padding, str)
        pairs = [(pair[0], pair[1]) for pair in (layer.stride, layer.padding, layer.dilation)]
        return cls(*pairs)

    def is_dense(self, kernel: tuple[int, int]) -> bool:
        """Whether the strides are 1 and the padding does not reach further than the kernel (height, width)."""
        reach = [self.dilation[i] * (kernel[i] - 1) for i in range(2)]
        return self.stride == (1, 1) and all(self.padding[i] <= reach[i] for i in range(2))

    def out_size(self, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """The height and width of the result for an input of ``size`` and a kernel, each (height, width)."""
        height, width = (
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in range(2)
        )
        return height, width


def numbers_of(bits: Signs, weight: Tensor, geometry: Geometry) -> list[int]:
    """The 15 numbers that describe a convolution to the native code: sizes, kernel, stride, padding and dilation."""
    n, channels, height, width = bits.shape
    out_channels, _, *kernel = weight.shape
    out = geometry.out_size((height, width), (kernel[0], kernel[1]))
    numbers = [n, channels, height, width, out_channels, *out, *kernel]
    return [*numbers, *geometry.stride, *geometry.padding, *geometry.dilation]


def taps_last(weight: Tensor) -> Tensor:
    """Bring a weight (O, C, kh, kw) into the memory order of the native kernels: (O, kh, kw, C), or channels-last."""
    return weight.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def convolution(bits: Signs, weight: Tensor, scale: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """Compute ``scale * conv2d(bits, weight)``, where bits are -1 and +1.

    Args:
        bits: signs of the input (N, C, H, W).
        weight: (O, C, kh, kw) float32 in the order of `taps_last`, with O a multiple of 16.
        scale: (O,) float32.
        geometry: stride, padding and dilation.
        dtype: float32 or bfloat16, of the result. For bfloat16 sums of four weights are rounded to 15 bits.

    Returns:
        (N, O, H', W') in channels-last layout.
    """
    from biper import _native

    shape = numbers_of(bits, weight, geometry)
    n, out_channels, height, width = shape[0], *shape[4:7]
    out = torch.empty(n, out_channels, height, width, dtype=dtype, memory_format=torch.channels_last)
    _native.convolution_forward(
        is_bfloat16(out),
        shape,
        bits.address,
        weight.data_ptr(),
        scale.data_ptr(),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def weight_gradient(
    bits: Signs, grad: Tensor, weight: Tensor, scale: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of ``scale * conv2d(bits, weight)`` by the weight and by the scale.

    With ``G`` the weight gradient of the convolution without scale, they are ``scale G`` and, for each output channel,
    ``sum(weight G)``.

    Args:
        bits: signs of the input (N, C, H, W).
        grad: the gradient by the result, (N, O, H', W') in channels-last layout, float32 or bfloat16.
        weight: (O, C, kh, kw) float32 in the order of `taps_last`.
        scale: (O,) float32.
        geometry: stride, padding and dilation.

    Returns:
        The gradients (O, C, kh, kw) and (O,), float32.
    """
    from biper import _native

    out_channels, channels, height, width = weight.shape
    memory = torch.empty(out_channels, height, width, channels, dtype=torch.float32)
    by_scale = torch.empty(out_channels, dtype=torch.float32)
    threads = torch.get_num_threads()
    shape = numbers_of(bits, weight, geometry)
    _native.convolution_weight_gradient(
        is_bfloat16(grad), shape, bits.address, address_of(grad), memory.data_ptr(), threads
    )
    size = memory[0].numel()
    addresses = weight.data_ptr(), scale.data_ptr(), memory.data_ptr(), by_scale.data_ptr()
    _native.scale_gradient(out_channels, size, *addresses, threads)
    return memory.permute(0, 3, 1, 2), by_scale


def signs_input_gradient(bits: Signs, grad: Tensor, weight: Tensor, scale: Tensor, geometry: Geometry) -> Tensor:
    """Compute the gradient of ``scale * conv2d(x, sign(weight))`` by ``x``.

    Args:
        bits: signs of the input; only their shape (N, C, H, W) is used.
        grad: the gradient by the result, (N, O, H', W') in channels-last layout, float32 or bfloat16.
        weight: (O, C, kh, kw) float32 in the order of `taps_last`; only its signs are used.
        scale: (O,) float32.
        geometry: stride, padding and dilation, for which `Geometry.is_dense` must hold.

    Returns:
        (N, C, H, W) in channels-last layout, in the dtype of ``grad``.
    """
    from biper import _native

    out = torch.empty(bits.shape, dtype=grad.dtype, memory_format=torch.channels_last)
    addresses = address_of(grad), weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    shape = numbers_of(bits, weight, geometry)
    _native.lookup_input_gradient(is_bfloat16(grad), shape, *addresses, torch.get_num_threads())
    return out


def has_input_gradient(dtype: torch.dtype, geometry: Geometry, channels: int) -> bool:
    """Whether the kernels in use have an `input_gradient` that is faster than torch's convolution.

    With a stride most of its products are with zeros, so that it is slower where there are many output channels.

    Args:
        dtype: of the gradients.
        geometry: of the convolution.
        channels: how many output channels it has.
    """
    from biper import _native

    is_fast = geometry.stride == (1, 1) or channels < 64
    return dtype is torch.bfloat16 and is_fast and bool(_native.has_input_gradient())


def input_gradient(bits: Signs, grad: Tensor, weight: Tensor, scale: Tensor, geometry: Geometry) -> Tensor:
    """Compute the gradient of ``scale * conv2d(x, weight)`` by ``x``; ``scale * weight`` is rounded to bfloat16.

    Args:
        bits: signs of the input; only their shape (N, C, H, W) is used.
        grad: the gradient by the result, (N, O, H', W') bfloat16 in channels-last layout.
        weight: (O, C, kh, kw) float32 in the order of `taps_last`.
        scale: (O,) float32.
        geometry: stride, padding and dilation.

    Returns:
        (N, C, H, W) bfloat16 in channels-last layout.
    """
    from biper import _native

    out = torch.empty(bits.shape, dtype=grad.dtype, memory_format=torch.channels_last)
    addresses = address_of(grad), weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    _native.input_gradient(numbers_of(bits, weight, geometry), *addresses, torch.get_num_threads())
    return out
