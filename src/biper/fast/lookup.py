"""Convolutions of bits by table lookup; calls ``native/training/lookup_{forward,gradient,input}.cc``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from biper.fast.activations import address_of, is_bfloat16
from biper.fast.signs import Signs


@dataclass(frozen=True)
class Geometry:
    """Stride, padding and dilation, (y, x) each, of an ungrouped convolution."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, layer: torch.nn.Conv2d) -> Geometry:
        """That of a layer whose padding is given in numbers."""
        assert not isinstance(layer.padding, str)
        pairs = [(pair[0], pair[1]) for pair in (layer.stride, layer.padding, layer.dilation)]
        return cls(*pairs)

    def is_dense(self, kernel: tuple[int, int]) -> bool:
        """Whether strides are 1 and the padding reaches no further than the kernel."""
        reach = [self.dilation[i] * (kernel[i] - 1) for i in range(2)]
        return self.stride == (1, 1) and all(self.padding[i] <= reach[i] for i in range(2))

    def out_size(self, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the result."""
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
    """A weight (O, C, kh, kw) in the order of the kernels, which is that of the channels-last layout."""
    return weight.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def lookup_convolution(bits: Signs, weight: Tensor, scale: Tensor, geometry: Geometry, dtype: torch.dtype) -> Tensor:
    """``scale * conv2d(bits, weight)`` in a dtype; weight (O, C, kh, kw) float32 `taps_last`, O a multiple of 16."""
    from biper import _native

    shape = numbers_of(bits, weight, geometry)
    n, out_channels, height, width = shape[0], *shape[4:7]
    out = torch.empty(n, out_channels, height, width, dtype=dtype, memory_format=torch.channels_last)
    _native.lookup_forward(
        is_bfloat16(out),
        shape,
        bits.address,
        weight.data_ptr(),
        scale.data_ptr(),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def lookup_weight_gradient(
    bits: Signs, grad: Tensor, weight: Tensor, scale: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Gradients of ``scale * conv2d(bits, weight)`` by the weight, (O, C, kh, kw), and by the scale, (O,).

    With ``G`` the weight gradient of the unscaled convolution: ``scale G`` and ``sum(weight G)``.
    """
    from biper import _native

    out_channels, channels, height, width = weight.shape
    memory = torch.empty(out_channels, height, width, channels, dtype=torch.float32)
    by_scale = torch.empty(out_channels, dtype=torch.float32)
    threads = torch.get_num_threads()
    shape = numbers_of(bits, weight, geometry)
    _native.lookup_weight_gradient(is_bfloat16(grad), shape, bits.address, address_of(grad), memory.data_ptr(), threads)
    size = memory[0].numel()
    addresses = weight.data_ptr(), scale.data_ptr(), memory.data_ptr(), by_scale.data_ptr()
    _native.scale_gradient(out_channels, size, *addresses, threads)
    return memory.permute(0, 3, 1, 2), by_scale


def lookup_input_gradient(bits: Signs, grad: Tensor, weight: Tensor, scale: Tensor, geometry: Geometry) -> Tensor:
    """The gradient of ``scale * conv2d(x, weight)`` by ``x``, of the shape of ``bits``, in the dtype of ``grad``.

    Weights are the signs of ``weight``, (O, C, kh, kw) float32 `taps_last`; see `Geometry.is_dense`.
    """
    from biper import _native

    out = torch.empty(bits.shape, dtype=grad.dtype, memory_format=torch.channels_last)
    addresses = address_of(grad), weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    shape = numbers_of(bits, weight, geometry)
    _native.lookup_input_gradient(is_bfloat16(grad), shape, *addresses, torch.get_num_threads())
    return out
