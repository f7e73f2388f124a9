"""The processor: what it can do, as the native extension found it, and how much of it there is."""

from __future__ import annotations

import os


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that this processor and operating system support, oldest first.

    On x86-64 a subset of ``sse4.2 popcnt avx avx2 fma bmi2 avx512f avx512bw avx512vl avx512dq avx512vpopcntdq
    avx512vnni gfni avx512bf16``, on Arm of ``neon dotprod``. Empty where the native extension is not built.
    """
    try:
        from biper import _native
    except ImportError:
        return ()
    return tuple(_native.instruction_sets())


def usable_processors() -> tuple[int, ...]:
    """The numbers of the processors that this process may run on, ascending; all of them where nothing says which."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """How many processors this process may run on."""
    return len(usable_processors())
