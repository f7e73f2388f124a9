"""Whole training steps as CUDA graphs: the kernels of a step are recorded once and then launched together.

A small network leaves a GPU idle most of the time, because the CPU needs longer to launch a kernel than the GPU to run
it. A CUDA graph launches all kernels of a step at once. It repeats them on the same memory with the same numbers, so
that everything that changes from step to step must be in the memory of the device: the batch, the learning rate, and
the numbers of a wave that changes during a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from biper.quantizers import (
    ApproxSign,
    DoReFaWeight,
    MagnitudeAwareSign,
    PeriodicSign,
    Quantizer,
    RSign,
    StandardizedPeriodicSign,
    SteSign,
    TunedPeriodicSign,
    XnorSign,
)
from biper.training.steps import Work

RECORDABLE: frozenset[type[Quantizer]] = frozenset(
    {
        ApproxSign,
        DoReFaWeight,
        MagnitudeAwareSign,
        PeriodicSign,
        RSign,
        StandardizedPeriodicSign,
        SteSign,
        TunedPeriodicSign,
        XnorSign,
    }
)
"""The quantizers whose functions read no Python number that changes during a stage. A subclass may read one."""

WARM_UP = 3
"""How many steps are taken before one is recorded, so that libraries have made their choices and reserved memory."""


class Graphs(Protocol):
    """What records a function and repeats it. `CudaGraphs` is the one for training; a test may have its own."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Run a function that will be recorded later."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record a function, without running it, and return the function that repeats what was recorded."""


class CudaGraphs:
    """Records CUDA graphs on the current device."""

    def warm_up(self, work: Callable[[], None]) -> None:
        new_stream: Callable[[], torch.cuda.Stream] = torch.cuda.Stream
        side = new_stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay


class Recorded:
    """Takes training steps: the first three as they are, and all others by a graph that was recorded of the next one.

    Where recording fails, all steps are taken as they are.

    Args:
        work: takes a step. It must read everything that changes from tensors, and must not wait for the device.
        tell: is called with a line of text if recording fails.
        graphs: what records.
    """

    def __init__(self, work: Work, tell: Callable[[str], None], graphs: Graphs) -> None:
        self._work, self._tell, self._graphs = work, tell, graphs
        self._before = 0
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._repeat: Callable[[], None] | None = None
        self._failed = False

    @classmethod
    def by(cls, graphs: Graphs, tell: Callable[[str], None]) -> Callable[[Work], Work]:
        """The function that turns a work into a recorded one."""
        return lambda work: cls(work, tell, graphs)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Take a step; the images and labels of all calls have one shape, dtype and device."""
        if self._failed:
            self._work(images, labels)
            return
        if self._inputs is None:
            self._inputs = images.clone(), labels.clone()  # clones keep the layout
        for mine, given in zip(self._inputs, (images, labels), strict=True):
            mine.copy_(given)
        if self._before < WARM_UP:
            self._before += 1
            self._graphs.warm_up(self._on_inputs)
            return
        if self._repeat is None:
            try:
                self._repeat = self._graphs.record(self._on_inputs)
            except RuntimeError as error:
                self._failed = True
                reason = " ".join(str(error).split())[:200]
                self._tell(f"training steps could not be recorded as CUDA graphs, and run one by one: {reason}")
                self._work(images, labels)
                return
        self._repeat()

    def _on_inputs(self) -> None:
        assert self._inputs is not None
        self._work(*self._inputs)


def why_not_recorded(module: nn.Module, device: torch.device, *, processes: int, scales_loss: bool) -> str | None:
    """The reason why the training steps of a module cannot be recorded, as a part of a sentence; None if they can."""
    if device.type != "cuda":
        return "they are for CUDA devices"
    if processes > 1:
        return "several processes train together"
    if scales_loss:
        return "float16 scales the loss"
    others = [type(part) for part in module.modules() if isinstance(part, Quantizer) and type(part) not in RECORDABLE]
    return f"{others[0].__name__} may change from step to step" if others else None


def prepare_(module: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Move what changes from step to step to a device, in place: learning rates, and numbers of waves."""
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
        if "capturable" in group:
            group["capturable"] = True
    _keep_numbers_on(device, module)


def release_(module: nn.Module) -> None:
    """Let the waves of a module read Python numbers again, in place."""
    _keep_numbers_on(None, module)


def _keep_numbers_on(device: torch.device | None, module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, TunedPeriodicSign):
            part.keep_numbers_on(device)
