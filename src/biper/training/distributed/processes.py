"""The processes that train one model together: how they meet, and what they communicate."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.distributed.distributed_c10d import Store

from biper.data.share import Share
from biper.errors import BiperError, LostProcessError
from biper.training.devices import choose_device
from biper.training.distributed.launch import STEP_TIMEOUT, ProcessInfo
from biper.training.options import PRECISIONS

T = TypeVar("T")

PRECISION_DTYPES = {name: getattr(torch, name) for name in PRECISIONS}
"""The dtype that each precision computes in."""

_START = timedelta(minutes=10)
"""How long process 0 waits until all processes have started."""

_LONG_WAIT = timedelta(hours=2)
"""How long the others wait while process 0 downloads, reads or writes something."""


class Processes:
    """The processes of a run, seen from one of them. A process that trains without others never communicates.

    Attributes:
        count: how many processes there are.
        rank_zero: whether this is process 0, which writes files and shows progress.
        share: the share of each batch that this process takes.

    Args:
        fabric: lightning-fabric, set up for the device of this process.
        info: which process this is.
        step_group: the process group of the communication within a training step.
        restarted: whether torchrun has restarted the processes after one had failed.
    """

    def __init__(self, fabric: Fabric, info: ProcessInfo, step_group: Any = None, *, restarted: bool = False) -> None:
        self.fabric, self.info, self.step_group, self.restarted = fabric, info, step_group, restarted
        self.count = info.processes
        self.rank_zero = info.rank == 0
        self.share = Share(info.rank, info.processes)

    def sum(self, values: Sequence[float], *, long_wait: bool = False) -> list[float]:
        """The sum of each of these numbers over all processes, in float64, which is exact for counts.

        Args:
            values: the numbers of this process; every process gives as many.
            long_wait: wait for the other processes for hours, not only for the timeout of a step.
        """
        if self.count == 1:
            return list(values)
        device = "cpu" if long_wait else self.fabric.device
        total = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total, group=None if long_wait else self.step_group)
        return total.tolist()

    def any(self, fact: bool) -> bool:
        """Whether the fact is true in any process."""
        return self.sum([fact])[0] > 0

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """Do some work in process 0 alone, while the others wait.

        Returns:
            What ``work`` returned in process 0, in every process.

        Raises:
            BiperError, OSError: ``work`` raised it in process 0; every process raises it.
        """
        if self.count == 1:
            return work()
        answer: list[Any] = [None, None]
        if self.rank_zero:
            try:
                answer[0] = work()
            except (BiperError, OSError) as error:
                answer[1] = error
        torch.distributed.broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        return cast(T, answer[0])

    def gather(self, thing: T) -> list[T]:
        """The things of all processes, in the order of the processes."""
        if self.count == 1:
            return [thing]
        things: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(things, thing)
        return things

    def rank_zero_first(self, work: Callable[[], T]) -> T:
        """Do some work in every process: first in process 0, then in one process of each other machine, then in all.

        Files that the first process on a machine downloads are there when the others look for them.

        Returns:
            What ``work`` returned in this process.
        """
        done: list[T] = []
        self.on_rank_zero(lambda: done.append(work()))
        if self.count > 1:
            for turn in (self.info.local_rank == 0, True):
                if turn and not done:
                    done.append(work())
                torch.distributed.barrier()
        return done[0]

    def set_up(self, module: nn.Module, image_shape: tuple[int, ...], *, compiled: bool = False) -> Any:
        """Move a module to the device of this process, and average its gradients over all processes.

        Args:
            module: the network; its parameters become those of process 0.
            image_shape: the shape of one input, (C, H, W), or (C, L) for signals.
            compiled: whether to put the module through `torch.compile`.

        Returns:
            The wrapped module, to be called in its place.
        """
        model = self.fabric.setup_module(torch.compile(module) if compiled else module)  # type: ignore[arg-type]
        if self.count > 1:
            # After its first backward pass torch groups the gradients anew, and with that changes the order in which
            # it adds them up. One pass over zeros does this before training, so that a resumed run rounds as an
            # uninterrupted one.
            before = {name: buffer.clone() for name, buffer in module.named_buffers()}
            dtype = next(module.parameters()).dtype
            self.fabric.backward(
                model.train()(torch.zeros(2, *image_shape, dtype=dtype, device=self.fabric.device)).sum()
            )
            module.zero_grad(set_to_none=True)
            for name, buffer in module.named_buffers():
                buffer.copy_(before[name])
        return model

    def share_buffers_(self, module: nn.Module) -> None:
        """Give every process the buffers of process 0; running statistics of batch norms differ between processes."""
        if self.count > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0, group=self.step_group)


@contextmanager
def join(device: str, precision: str, step_timeout: float = STEP_TIMEOUT) -> Iterator[Processes]:
    """A context in which this process communicates with the others that torchrun started.

    Args:
        device: ``"cpu"``, ``"cuda"`` (each process takes a GPU of its own) or ``"auto"``.
        precision: one of `biper.training.options.PRECISIONS`.
        step_timeout: how many seconds a process waits for the others within a training step.

    Raises:
        LostProcessError: another process died or did not answer, now or later within the context.
    """
    info = ProcessInfo.from_environment()
    if info.processes == 1:
        single = Fabric(accelerator=device, devices=1, precision=PRECISIONS[precision])  # type: ignore[arg-type]
        yield Processes(single, info, restarted=info.restarts > 0)
        return
    from lightning_fabric.strategies.ddp import DDPStrategy
    from torch import distributed

    try:
        with _one_line_lost_process(step_timeout):
            store = _store_of_this_attempt(info)
            distributed.init_process_group(
                "gloo", store=store, rank=info.rank, world_size=info.processes, timeout=_LONG_WAIT
            )
            backend = "nccl" if choose_device(device) == "cuda" else "gloo"
            step_group = distributed.new_group(backend=backend, timeout=timedelta(seconds=step_timeout))
            fabric = Fabric(
                accelerator=device,
                devices=info.local_processes,
                num_nodes=info.machines,
                strategy=DDPStrategy(process_group=step_group),
                precision=PRECISIONS[precision],  # type: ignore[arg-type]
            )
            fabric.launch()
            restarts = torch.tensor(info.restarts)
            distributed.all_reduce(restarts)
            yield Processes(fabric, info, step_group, restarted=bool(restarts))
    except LostProcessError:
        raise  # the process groups are broken, and closing them would hang
    except (BiperError, OSError):
        distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def _store_of_this_attempt(info: ProcessInfo) -> Store:
    """The part of the key-value store of torchrun that belongs to this attempt to train.

    torchrun keeps one store over its restarts, which still holds the addresses of processes that have died. To separate
    the attempts, process 0 makes up a name for this one. It gives the name to each other process under a key that this
    process has just made up, and repeats this until all have confirmed.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(rendezvous("env://", timeout=_START))
    name = uuid.uuid4().hex
    if info.rank > 0:
        store.set(f"biper/{info.rank}", name)
        attempt = store.get(f"biper/{name}").decode()
        store.set(f"biper/{attempt}/{info.rank}", "")
        return PrefixStore(attempt, store)
    deadline = time.monotonic() + _START.total_seconds()
    while not store.check([f"biper/{name}/{rank}" for rank in range(1, info.processes)]):
        if time.monotonic() > deadline:
            raise LostProcessError(f"some of the {info.processes} processes did not start within {_START}; all stop")
        for key in [f"biper/{rank}" for rank in range(1, info.processes)]:
            if store.check([key]):
                store.set(f"biper/{store.get(key).decode()}", name)
        time.sleep(0.05)
    return PrefixStore(name, store)


@contextmanager
def _one_line_lost_process(step_timeout: float) -> Iterator[None]:
    """Turns the different errors of the communication libraries for a lost process into one `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, torch.distributed.DistError) and not any(name in text for name in ("gloo", "NCCL")):
            raise
        raise LostProcessError(
            f"another process of this run died, or did not answer for {step_timeout:g} s; all processes stop. "
            "Continue from the last checkpoint with resume=True (torchrun does so by itself with --max-restarts)"
        ) from error
