"""The native kernels of training, on tensors: what surrounds a binary convolution, and the convolution of bits itself.

They are compiled for AVX-512 alone; where they are not to be had, `why_not` says so and callers use torch's operators.
Activations are (N, C, H, W) in channels-last layout, float32 or bfloat16, C a multiple of 16, on the CPU. Every
result is the same for any number of threads, which are torch's (`torch.get_num_threads`).
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from biper.runtime.cpu import instruction_sets

_NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "gfni", "fma", "bmi2")

_SWITCH = "BIPER_KERNELS"
"""Environment variable: ``0`` keeps to torch's operators."""


def why_not(dtype: torch.dtype) -> str | None:
    """Why the kernels are not to be had for a dtype, or None if they are."""
    if os.environ.get(_SWITCH) == "0":
        return f"{_SWITCH}=0"
    return _why_not_here(dtype)


@functools.cache
def _why_not_here(dtype: torch.dtype) -> str | None:
    if dtype not in (torch.float32, torch.bfloat16):
        return f"they compute in float32 and bfloat16, not in {str(dtype).removeprefix('torch.')}"
    try:
        from biper import _native
    except ImportError:
        return "the native extension is not built"
    if not hasattr(_native, "lookup_forward"):
        return "the native extension has none for this kind of processor"
    here = instruction_sets()
    _share_threads_with_torch()
    missing = [name for name in (*_NEEDED, *(["avx512bf16"] if dtype is torch.bfloat16 else [])) if name not in here]
    return f"this processor has no {', '.join(missing)}" if missing else None


def _share_threads_with_torch() -> None:
    """Let the kernels run on torch's own threads, where its OpenMP runtime is found (on Linux).

    With threads of their own, those of both would wait for work in loops on the same cores: several times slower.
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return
    loaded = {line.split()[-1] for line in maps.splitlines() if re.search(r"/lib[gi]omp[^/]*\.so", line)}
    from biper import _native

    if len(loaded) != 1:  # of two, nobody knows which is torch's
        return
    with suppress(OSError, AttributeError):
        runtime = ctypes.CDLL(loaded.pop(), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        _native.use_openmp(ctypes.cast(runtime.GOMP_parallel, ctypes.c_void_p).value)


def fits(x: Tensor) -> bool:
    """Whether the kernels can work on activations like these."""
    return (
        x.device.type == "cpu" and x.dim() == 4 and x.shape[1] % 16 == 0 and x.numel() > 0 and why_not(x.dtype) is None
    )


def _shape(x: Tensor) -> list[int]:
    n, c, h, w = x.shape
    return [n, h * w, c]


def _check(x: Tensor, like: Tensor | None = None) -> int:
    """The address of activations, which must be in channels-last layout, and of the shape and dtype of ``like``."""
    assert x.is_contiguous(memory_format=torch.channels_last), "activations must be channels-last"
    assert like is None or (x.shape == like.shape and x.dtype == like.dtype), "tensors of two shapes or dtypes"
    return x.data_ptr()


def _is_bfloat16(x: Tensor) -> bool:
    return x.dtype is torch.bfloat16


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
        _is_bfloat16(x), _shape(x), _check(x), result.address, where, epsilon or 0.0, torch.get_num_threads()
    )
    return result


def sign_backward_(x: Tensor, statistics: Tensor | None, box: bool, to_add: Tensor | None, grad: Tensor) -> Tensor:
    """Turn ``grad``, the gradient by the signs of ``x``, into that by ``x``, in place, plus ``to_add``.

    The window over ``x`` times ``1 / deviation`` is ``max(0, 2 - 2|u|)``, or a box; see `biper.quantizers`.
    """
    from biper import _native

    _native.sign_backward(
        _is_bfloat16(x),
        _shape(x),
        _check(x),
        0 if statistics is None else statistics.data_ptr(),
        box,
        0 if to_add is None else _check(to_add, x),
        _check(grad, x),
        torch.get_num_threads(),
    )
    return grad


def channel_sums(x: Tensor) -> Tensor:
    """(2, C) float64: the sum of each channel and of its squares."""
    from biper import _native

    sums = torch.empty(2, x.shape[1], dtype=torch.float64)
    _native.channel_sums(_is_bfloat16(x), _shape(x), _check(x), sums.data_ptr(), torch.get_num_threads())
    return sums


def affine_clamp(
    x: Tensor, multiplier: Tensor, offset: Tensor, residual: Tensor | None, bounds: tuple[float, float]
) -> Tensor:
    """``clamp(x * multiplier + offset + residual, *bounds)``, multiplier and offset (C,) float32."""
    from biper import _native

    out = torch.empty_like(x)
    _native.affine_clamp(
        _is_bfloat16(x),
        _shape(x),
        _check(x),
        multiplier.data_ptr(),
        offset.data_ptr(),
        0 if residual is None else _check(residual, x),
        *bounds,
        _check(out),
        torch.get_num_threads(),
    )
    return out


def clamp_backward(
    grad: Tensor, out: Tensor, x: Tensor, mean: Tensor, bounds: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """``inner``: ``grad`` where ``out`` lies inside the bounds, else 0; and the sums of it and of ``inner (x - mean)``.

    The sums are (2, C) float64, the mean (C,) float32.
    """
    from biper import _native

    inner, sums = torch.empty_like(x), torch.empty(2, x.shape[1], dtype=torch.float64)
    _native.clamp_backward(
        _is_bfloat16(x),
        _shape(x),
        _check(grad, x),
        _check(out, x),
        _check(x),
        mean.data_ptr(),
        *bounds,
        _check(inner),
        sums.data_ptr(),
        torch.get_num_threads(),
    )
    return inner, sums


def norm_backward(inner: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, out: Tensor) -> Tensor:
    """``out = inner a + x b + c``, with a, b and c (C,) float32; ``out`` may be ``inner``."""
    from biper import _native

    _native.norm_backward(
        _is_bfloat16(x),
        _shape(x),
        _check(inner, x),
        _check(x),
        a.data_ptr(),
        b.data_ptr(),
        c.data_ptr(),
        _check(out, x),
        torch.get_num_threads(),
    )
    return out


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


def _convolution(bits: Signs, weight: Tensor, geometry: Geometry) -> list[int]:
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

    shape = _convolution(bits, weight, geometry)
    n, out_channels, height, width = shape[0], *shape[4:7]
    out = torch.empty(n, out_channels, height, width, dtype=dtype, memory_format=torch.channels_last)
    _native.lookup_forward(
        _is_bfloat16(out),
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
    shape = _convolution(bits, weight, geometry)
    _native.lookup_weight_gradient(_is_bfloat16(grad), shape, bits.address, _check(grad), memory.data_ptr(), threads)
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
    addresses = _check(grad), weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    shape = _convolution(bits, weight, geometry)
    _native.lookup_input_gradient(_is_bfloat16(grad), shape, *addresses, torch.get_num_threads())
    return out


def scaled_weights(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """``scale * weight`` in a dtype, for a `taps_last` weight (O, C, kh, kw), C a multiple of 16, and (O,) scales."""
    from biper import _native

    out = torch.empty(weight.shape, dtype=dtype, memory_format=torch.channels_last)
    addresses = weight.data_ptr(), scale.data_ptr(), out.data_ptr()
    _native.scaled_weights(_is_bfloat16(out), weight.shape[0], weight[0].numel(), *addresses, torch.get_num_threads())
    return out


def fits_weights(weight: Tensor, grad: Tensor | None = None) -> bool:
    """Whether the functions below can work on latent weights: dense, float32, on the CPU; a gradient in their order."""
    dense = weight.is_contiguous() or (weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last))
    return (
        weight.dtype is torch.float32
        and weight.device.type == "cpu"
        and dense
        and (grad is None or (grad.dtype is torch.float32 and grad.stride() == weight.stride()))
        and not torch.compiler.is_compiling()
        and why_not(torch.float32) is None
    )


def wave_gradient(weight: Tensor, grad: Tensor, frequency: float) -> Tensor:
    """``grad * frequency * cos(frequency * weight)``, to 3e-7 of the cosine for weights of at most 10^4 radians."""
    from biper import _native

    out = torch.empty_like(weight)
    addresses = weight.data_ptr(), grad.data_ptr()
    _native.wave_gradient(weight.numel(), *addresses, frequency, out.data_ptr(), torch.get_num_threads())
    return out


def squared_sines(weight: Tensor, frequency: float) -> float:
    """The sum of ``sin²(frequency * weight)``."""
    from biper import _native

    return float(_native.squared_sines(weight.numel(), weight.data_ptr(), frequency, torch.get_num_threads()))


def double_angle_sines(weight: Tensor, frequency: float, factor: float) -> Tensor:
    """``factor * sin(2 * frequency * weight)``."""
    from biper import _native

    out = torch.empty_like(weight)
    _native.double_angle_sines(
        weight.numel(), weight.data_ptr(), frequency, factor, out.data_ptr(), torch.get_num_threads()
    )
    return out


def fits_images(images: Tensor) -> bool:
    """Whether the two functions below can work on images: (N, H, W, C) uint8, contiguous, on the CPU."""
    right = images.dtype is torch.uint8 and images.dim() == 4 and images.is_contiguous()
    return right and images.device.type == "cpu" and why_not(torch.float32) is None


def crop_and_mirror(images: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor, padding: int) -> Tensor:
    """Each image's crop of the original size at (rows, columns) of the image padded with black; mirrored where said.

    Args:
        images: (N, H, W, C) uint8.
        rows, columns: (N,) int64, 0 to ``2 * padding``.
        mirrored: (N,) bool.
        padding: black pixels on each side.
    """
    from biper import _native

    out = torch.empty_like(images)
    choices = [choice.contiguous() for choice in (rows, columns, mirrored)]
    addresses = images.data_ptr(), *(choice.data_ptr() for choice in choices)
    _native.crop_and_mirror(list(images.shape), *addresses, padding, out.data_ptr(), torch.get_num_threads())
    return out


def normalize(images: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """``shift + images * factor``, (N, H, W, C) float32, with a factor and a shift for each channel, (C,) float32."""
    from biper import _native

    out = torch.empty(images.shape, dtype=torch.float32)  # whatever the default dtype is
    addresses = images.data_ptr(), factor.data_ptr(), shift.data_ptr(), out.data_ptr()
    _native.normalize(list(images.shape), *addresses, torch.get_num_threads())
    return out


def keep_freed_memory() -> None:
    """Let this process keep what it frees, so that each training step finds its memory mapped (glibc on Linux only)."""
    if _why_not_here(torch.float32) is None:
        from biper import _native

        getattr(_native, "keep_freed_memory", lambda: None)()
