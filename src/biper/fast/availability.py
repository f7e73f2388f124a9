"""Where the native training kernels can run, and the reason where they cannot.

Activations are (N, C, H, W) in channels-last layout, float32 or bfloat16, with C a multiple of 16, on the CPU. Every
result is the same for any number of threads. The kernels use as many threads as torch (`torch.get_num_threads`).
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

_NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "gfni", "fma", "bmi2")

_SWITCH = "BIPER_KERNELS"
"""Environment variable: ``0`` keeps to torch's operators."""


def unavailable_reason(dtype: torch.dtype) -> str | None:
    """Why the kernels are not to be had for a dtype, or None if they are."""
    if os.environ.get(_SWITCH) == "0":
        return f"{_SWITCH}=0"
    return _unavailable_reason_here(dtype)


@functools.cache
def _unavailable_reason_here(dtype: torch.dtype) -> str | None:
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
        x.device.type == "cpu"
        and x.dim() == 4
        and x.shape[1] % 16 == 0
        and x.numel() > 0
        and unavailable_reason(x.dtype) is None
    )


def has_hooks(*modules: nn.Module) -> bool:
    """Whether any of these modules has a hook, which would miss its call if a fused function did the module's work."""
    return any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in modules)


def keep_freed_memory() -> None:
    """Let this process keep what it frees, so that each training step finds its memory mapped (glibc on Linux only)."""
    if _unavailable_reason_here(torch.float32) is None:
        from biper import _native

        getattr(_native, "keep_freed_memory", lambda: None)()
