"""The processes that train one model together, and all that they tell each other."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import nn

from biper.data.share import Share
from biper.errors import BiperError, LostProcessError
from biper.training.devices import choose_device
from biper.training.distributed.launch import STEP_TIMEOUT, Place

T = TypeVar("T")

PRECISIONS = {"float32": "32-true", "float64": "64-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""Names of precisions, and what lightning-fabric calls them."""

PRECISION_DTYPES = {name: getattr(torch, name) for name in PRECISIONS}
"""What is computed in, of each precision."""

_START = timedelta(minutes=10)
"""How long the processes may take to come up, one after the other."""

_PATIENCE = timedelta(hours=2)
"""How long the others wait while one process alone downloads, reads or writes something."""


class Processes:
    """The processes of a run, seen from one of them. For a process on its own nothing here communicates.

    Args:
        fabric: lightning-fabric, set up for this process's device.
        place: which process this is.
        step_group: the process group for what happens within a step.
        restarted: whether torchrun started the processes anew after one had failed.
    """

    def __init__(self, fabric: Fabric, place: Place, step_group: Any = None, *, restarted: bool = False) -> None:
        self.fabric, self.place, self.step_group, self.restarted = fabric, place, step_group, restarted
        self.count = place.processes
        self.first = place.rank == 0
        self.share = Share(place.rank, place.processes)

    def sum(self, values: Sequence[float], *, patient: bool = False) -> list[float]:
        """The sums of each of these numbers over all processes, in float64: exact for counts.

        Args:
            values: as many in each process.
            patient: wait for hours; else as long as processes wait for each other within a step.
        """
        if self.count == 1:
            return list(values)
        device = "cpu" if patient else self.fabric.device
        total = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total, group=None if patient else self.step_group)
        return total.tolist()

    def any(self, fact: bool) -> bool:
        """Whether it is so in any process."""
        return self.sum([fact])[0] > 0

    def alone(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done by process 0 alone while the others wait; what it raises, all raise."""
        if self.count == 1:
            return work()
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer[0] = work()
            except (BiperError, OSError) as error:
                answer[1] = error
        torch.distributed.broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def collect(self, thing: T) -> list[T]:
        """What each process has, in the order of the processes."""
        if self.count == 1:
            return [thing]
        things: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(things, thing)
        return things

    def in_turn(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done by process 0, then by one of each other machine, then by all others.

        So that what one of them downloads, the others find.
        """
        done: list[T] = []
        self.alone(lambda: done.append(work()))
        if self.count > 1:
            for turn in (self.place.local_rank == 0, True):
                if turn and not done:
                    done.append(work())
                torch.distributed.barrier()
        return done[0]

    def set_up(self, module: nn.Module, image_shape: tuple[int, ...], *, compiled: bool = False) -> Any:
        """The module on this process's device, such that its gradients are averaged over all processes.

        Args:
            module: its parameters become those of process 0.
            image_shape: of its input, without the first dimension.
            compiled: put it through `torch.compile`.
        """
        model = self.fabric.setup_module(torch.compile(module) if compiled else module)  # type: ignore[arg-type]
        if self.count > 1:
            # After its first backward pass torch rearranges the gradients that it sends together, and with that the
            # order in which it adds them up. Hence a pass over nothing: a resumed run then rounds as one never stopped.
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
        """Give every process the buffers of process 0: the running statistics of batch norms, which differ."""
        if self.count > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0, group=self.step_group)


@contextmanager
def join(device: str, precision: str, step_timeout: float = STEP_TIMEOUT) -> Iterator[Processes]:
    """Meet the other processes that torchrun started, for as long as the context lasts.

    Args:
        device: ``"cpu"``, ``"cuda"`` (each process takes a GPU of its own) or ``"auto"``.
        precision: one of `PRECISIONS`.
        step_timeout: seconds that a process waits for the others within a training step.

    Raises:
        LostProcessError: (from inside the context too) another process died or did not answer.
    """
    place = Place.here()
    if place.processes == 1:
        alone = Fabric(accelerator=device, devices=1, precision=PRECISIONS[precision])  # type: ignore[arg-type]
        yield Processes(alone, place, restarted=place.restarts > 0)
        return
    from lightning_fabric.strategies import DDPStrategy
    from torch import distributed

    try:
        with _one_line_lost_process(step_timeout):
            store = _store_of_this_attempt(place)
            distributed.init_process_group(
                "gloo", store=store, rank=place.rank, world_size=place.processes, timeout=_PATIENCE
            )
            backend = "nccl" if choose_device(device) == "cuda" else "gloo"
            step_group = distributed.new_group(backend=backend, timeout=timedelta(seconds=step_timeout))
            fabric = Fabric(
                accelerator=device,
                devices=place.local_processes,
                num_nodes=place.machines,
                strategy=DDPStrategy(process_group=step_group),
                precision=PRECISIONS[precision],  # type: ignore[arg-type]
            )
            fabric.launch()
            restarts = torch.tensor(place.restarts)
            distributed.all_reduce(restarts)
            yield Processes(fabric, place, step_group, restarted=bool(restarts))
    except LostProcessError:
        raise  # with its process groups broken, a process can only end
    except (BiperError, OSError):
        distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def _store_of_this_attempt(place: Place) -> torch.distributed.Store:
    """The part of torchrun's key-value store that these very processes share.

    torchrun keeps one store over its restarts, so that processes would take addresses that dead ones left there for
    those of the living. Hence process 0 makes up a name for this attempt and hands it to each of the others under a key
    which that one has just made up, until all have confirmed.
    """
    from torch.distributed import PrefixStore, rendezvous

    store, *_ = next(rendezvous("env://", timeout=_START))
    name = uuid.uuid4().hex
    if place.rank > 0:
        store.set(f"biper/{place.rank}", name)
        attempt = store.get(f"biper/{name}").decode()
        store.set(f"biper/{attempt}/{place.rank}", "")
        return PrefixStore(attempt, store)
    deadline = time.monotonic() + _START.total_seconds()
    while not store.check([f"biper/{name}/{rank}" for rank in range(1, place.processes)]):
        if time.monotonic() > deadline:
            raise LostProcessError(f"not all of the {place.processes} processes have come up within {_START}; all stop")
        for key in [f"biper/{rank}" for rank in range(1, place.processes)]:
            if store.check([key]):
                store.set(f"biper/{store.get(key).decode()}", name)
        time.sleep(0.05)
    return PrefixStore(name, store)


@contextmanager
def _one_line_lost_process(step_timeout: float) -> Iterator[None]:
    """Turns what the ways of communication say of a process that is gone, each in its own words, into one error."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, torch.distributed.DistError) and not any(name in text for name in ("gloo", "NCCL")):
            raise
        raise LostProcessError(
            f"another process of this run died, or did not answer for {step_timeout:g} s; all stop. To go on from the "
            "last checkpoint: the same command with --resume (torchrun does so by itself with --max-restarts)"
        ) from error
