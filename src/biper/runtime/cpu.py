"""The instruction sets and the cores of the processor."""

from __future__ import annotations

import os


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that this processor and operating system support, oldest first.

    On x86-64 they are among ``sse4.2 popcnt avx fma bmi2 avx2 avx512f avx512bw avx512vl avx512dq avx512vpopcntdq
    avx512vnni gfni avx512bf16 amxtile amxint8 amxbf16``, on 64-bit Arm among ``neon dotprod``. Without the native
    extension the tuple is empty.
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
    """The number of processor cores that this process may run on; all cores on systems that do not tell."""
    return len(usable_processors())
