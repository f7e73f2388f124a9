"""A recorder of operators that behaves as a CUDA graph: it repeats them with the same numbers on the same memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Recording(TorchDispatchMode):
    """Notes each operator with its arguments and its result. Reading a value is refused, as while a GPU records."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name == "aten::_local_scalar_dense":
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


class Tape:
    """Takes the place of `biper.training.recorded.CudaGraphs`.

    Attributes:
        repeated: how often the function that `record` returned was called.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def warm_up(self, work: Callable[[], None]) -> None:
        """Run a function."""
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Run a function and note its operators. The first call of the result stands for this run."""
        recording = _Recording()
        with recording:
            work()
        self._calls = recording.calls
        return self._repeat

    def _repeat(self) -> None:
        self.repeated += 1
        if self.repeated == 1:
            return
        with torch.no_grad():
            for func, args, kwargs, result in self._calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
