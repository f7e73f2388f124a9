"""The options of a run: where and how it computes. What it computes is in its recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from biper.errors import ModelError
from biper.training.distributed.launch import STEP_TIMEOUT

PRECISIONS = {"float32": "32-true", "float64": "64-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""The names of the precisions, and what lightning-fabric calls them."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run computes, and where it begins.

    Attributes:
        data_dir: the folder of the data set; see `biper.load_dataset`.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU if there is one.
        precision: ``"float32"``, ``"float64"``, or the mixed precisions ``"bfloat16"`` and ``"float16"``.
        workers: how many processes decode images; see `biper.load_dataset`. It changes no result.
        resume: continue from the newest valid checkpoint in the run folder; without one the run starts from the
            beginning. Processes that torchrun has restarted always resume.
        step_timeout: how many seconds a process waits for the others within a training step before it gives up.
        compiled: train through `torch.compile`, which takes a minute or two at the beginning.
        cuda_graphs: on a GPU, record a training step as a CUDA graph and repeat it; see `biper.training.recorded`. It
            is for networks whose forward pass makes no choice in Python that changes from step to step.
        seconds: stop after this many seconds as on SIGTERM, with everything saved; None trains to the end.
        start_from: a model file or a run folder. The run starts from the weights of this model, which must be the same
            network, and not from random weights.

    Raises:
        ModelError: there is no such precision, or the number of seconds is not positive.
    """

    data_dir: str | Path | None = None
    device: str = "auto"
    precision: str = "float32"
    workers: int | None = None
    resume: bool = False
    step_timeout: float = STEP_TIMEOUT
    compiled: bool = False
    cuda_graphs: bool = False
    seconds: float | None = None
    start_from: str | Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ModelError(f"precision={self.precision!r}: expected one of {', '.join(PRECISIONS)}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ModelError(f"seconds={self.seconds!r}: expected a positive number of seconds")

    @property
    def is_mixed(self) -> bool:
        """Whether training computes in a lower precision than that of the weights."""
        return self.precision in ("bfloat16", "float16")

    def changed(self, changes: dict[str, Any], caller: str) -> RunOptions:
        """These options with other values for some of them.

        Args:
            changes: values by the names of the options.
            caller: the name of the function that was called with ``changes``, for the error message.

        Raises:
            TypeError: there is no option of that name.
        """
        known = [field.name for field in fields(self)]
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise TypeError(f"{caller}() got an unknown option {unknown[0]!r}; the options are {', '.join(known)}")
        return replace(self, **changes)
