"""Whether the native training kernels can run, which of them do, and the reason if they cannot.

The kernels work on the CPU, on activations (N, C, H, W) in channels-last layout, float32 or bfloat16, with C a multiple
of 16. They are compiled for AVX2, in float32 alone, for AVX-512, and for AVX-512 with the tiles of AMX; the processor
decides which of them run. They use as many threads as torch (`torch.get_num_threads`); the number of threads changes no
result.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from biper.runtime.cpu import instruction_sets

_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "gfni", "fma", "bmi2")

_NEEDED = {torch.float32: ("avx2", "fma"), torch.bfloat16: (*_AVX512, "avx512bf16")}
"""The instruction sets that kernels of a dtype need at least."""

_SWITCH = "BIPER_KERNELS"
"""Environment variable. If it is ``0``, torch's operators are used instead of the kernels."""


def unavailable_reason(dtype: torch.dtype) -> str | None:
    """The reason why the kernels cannot run on tensors of a dtype, or None if they can.

    The reason completes the phrase "native training kernels: off, ".
    """
    if os.environ.get(_SWITCH) == "0":
        return f"{_SWITCH}=0"
    reason = _unavailable_reason_here(dtype)
    if reason is None and dtype is torch.bfloat16 and kernels_in_use() == "avx2":
        return "the kernels for AVX2 compute in float32"
    return reason


@functools.cache
def _unavailable_reason_here(dtype: torch.dtype) -> str | None:
    if dtype not in _NEEDED:
        return f"they compute in float32 and bfloat16, not in {str(dtype).removeprefix('torch.')}"
    try:
        from biper import _native
    except ImportError:
        return "the native extension is not built"
    if not hasattr(_native, "training_kernels"):
        return "the native extension has none for this kind of processor"
    here = instruction_sets()
    _share_threads_with_torch()
    missing = [name for name in _NEEDED[dtype] if name not in here]
    return f"this processor has no {', '.join(missing)}" if missing else None


def kernels_in_use() -> str:
    """The kernels that run where `unavailable_reason` is None: ``"amx"``, ``"avx512"`` or ``"avx2"``."""
    from biper import _native

    return str(_native.training_kernels_in_use())


def _share_threads_with_torch() -> None:
    """Let the kernels run on torch's own threads, if torch's OpenMP runtime is found, which works on Linux only.

    If the kernels had threads of their own, both sets of threads would wait for work in loops on the same cores.
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return
    loaded = {line.split()[-1] for line in maps.splitlines() if re.search(r"/lib[gi]omp[^/]*\.so", line)}
    from biper import _native

    if len(loaded) != 1:  # with two runtimes it is unknown which one torch uses
        return
    with suppress(OSError, AttributeError):
        runtime = ctypes.CDLL(loaded.pop(), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        _native.use_openmp(ctypes.cast(runtime.GOMP_parallel, ctypes.c_void_p).value)


def fits(x: Tensor) -> bool:
    """Whether the kernels can work on activations with the device, shape and dtype of ``x``, in any memory layout."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.shape[1] % 16 == 0
        and x.numel() > 0
        and unavailable_reason(x.dtype) is None
    )


def has_hooks(*modules: nn.Module) -> bool:
    """Whether any of the modules has a hook. A fused function cannot call the hooks of a module."""
    return any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in modules)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, so that each training step finds its memory mapped.

    This has an effect with glibc on Linux only.
    """
    if _unavailable_reason_here(torch.float32) is None:
        from biper import _native

        getattr(_native, "keep_freed_memory", lambda: None)()
