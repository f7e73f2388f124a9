"""Starting several processes the way torchrun does, and what each of them knows of its place among them.

Nothing here imports torch before it is needed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biper.errors import LostProcessError, ModelError

STEP_TIMEOUT = 50.0
"""Seconds that a process waits for the others within a training step, unless it is told otherwise."""

_LAUNCHED_BY_BIPER = "BIPER_LAUNCHED"
_SECONDS_FOR_THE_LAUNCHER = 3.0


@dataclass(frozen=True)
class Place:
    """Which of the processes of a run this one is. ``restarts``: how often torchrun started this machine's anew."""

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    local_processes: int = 1
    machine: int = 0
    machines: int = 1
    restarts: int = 0

    @classmethod
    def here(cls) -> Place:
        """As torchrun tells it in the environment; a process that it did not start is on its own."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in (*names, "TORCHELASTIC_RESTART_COUNT")))


def needs_launch(devices: int | None, machines: int, rendezvous: str | None) -> bool:
    """Whether the processes that the options ask for must still be started: not under torchrun, which has done so.

    Raises:
        ModelError: the options contradict each other, or torchrun.
    """
    place = Place.here()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if devices not in (None, place.local_processes) or machines not in (1, place.machines):
            raise ModelError(
                f"torchrun started {place.local_processes} processes on each of {place.machines} machines, but the "
                f"options ask for {devices or place.local_processes} on {machines}: leave --devices and --nodes out"
            )
        return False
    if machines > 1 and rendezvous is None:
        raise ModelError(
            "--nodes needs --rendezvous HOST:PORT, the same on all machines: one of them and a free port of it, such "
            "as node1:29400"
        )
    return machines * (devices or 1) > 1


def launch(
    arguments: Sequence[str], *, device: str, devices: int, machines: int = 1, rendezvous: str | None = None
) -> None:
    """Run ``biper ARGUMENTS`` in several processes and wait for them; one that fails stops all.

    Args:
        arguments: of the command.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, as the processes will be told.
        devices: processes on this machine.
        machines: how many machines run this same launch.
        rendezvous: ``HOST:PORT`` where they meet; one machine needs none.

    Raises:
        ModelError: there are fewer GPUs than processes.
        LostProcessError: the machines did not meet; or a process was killed, or lost one on another machine.
        SystemExit: a process failed; it has said why. Or this one was asked to stop, and the others have stopped.
    """
    import logging

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # torch, once imported, tells of lost connections in pages
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from biper.runtime.cpu import usable_cores
    from biper.training.devices import require_devices

    require_devices(device, devices)
    logging.disable(logging.ERROR)  # torch would report each process that ends in several lines
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // devices)))
    os.environ[_LAUNCHED_BY_BIPER] = "1"
    config = LaunchConfig(
        min_nodes=machines,
        max_nodes=machines,
        nproc_per_node=devices,
        run_id="biper",
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        local_addr=None if machines > 1 else "localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "biper", *arguments)
    except ChildFailedError as error:
        rank, status = _cause({rank: failure.exitcode for rank, failure in error.failures.items()})
        if status < 0:
            killer = signal.Signals(-status).name
            raise LostProcessError(
                f"process {rank} of {devices * machines} was killed by {killer}, and all others were stopped; to go on "
                "from the last checkpoint: the same command with --resume"
            ) from error
        if status == LostProcessError.exit_code:
            raise LostProcessError(
                "a process died on another machine, or one did not answer, and all on this one were stopped; to go on "
                "from the last checkpoint: the same command with --resume"
            ) from error
        sys.exit(status)
    except RendezvousError as error:
        raise LostProcessError(
            f"the {machines} machines did not meet at {rendezvous}, or have lost touch: expected the same command on "
            "each, and a free port of one of them that all can reach"
        ) from error
    except SignalException as stop:
        sys.exit(128 + stop.sigval)


def _cause(statuses: dict[int, int]) -> tuple[int, int]:
    """Which process ended first and why, by rank, from the exit statuses of those that failed (below 0: a signal).

    One with an error of its own comes before one that was killed, and that before those that were stopped for it.
    """
    consequences = (-signal.SIGTERM, LostProcessError.exit_code)
    return min(statuses.items(), key=lambda item: (item[1] in consequences, item[1] < 0, item[0]))


def speaks(error: BaseException | None) -> bool:
    """Whether this process should print what went wrong: on each machine the first that asks, so that it is said once.

    After a `LostProcessError` under `launch` it is none of them: the launcher sees which process died, and says that.
    """
    place = Place.here()
    if place.processes == 1:
        return True
    if isinstance(error, LostProcessError) and _LAUNCHED_BY_BIPER in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_SECONDS_FOR_THE_LAUNCHER)  # it stops this one as soon as it sees the one that died
        return False
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun stops this process; it is about to end, but not yet
    try:
        folder = Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parents[1]  # one for the processes of this machine
        (folder / f"said-{place.restarts}").touch(exist_ok=False)
    except FileExistsError:
        return False
    except (KeyError, IndexError, OSError):
        return place.local_rank == 0
    return True
