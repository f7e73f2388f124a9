"""Starting the processes of a run as torchrun does, and what each process knows about itself.

This module imports torch only inside the function that needs it, so that the command line starts fast.
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
"""The default of how many seconds a process waits for the others within a training step."""

_LAUNCHED_BY_BIPER = "BIPER_LAUNCHED"
"""The environment variable that tells a process that `launch` started it."""

_SECONDS_FOR_THE_LAUNCHER = 3.0
"""How long a process that lost another waits to be stopped by `launch`, which knows more about the loss."""


@dataclass(frozen=True)
class ProcessInfo:
    """Which of the processes of a run this process is.

    Attributes:
        rank: its number among all processes.
        processes: how many processes there are on all machines.
        local_rank: its number among the processes of this machine.
        local_processes: how many processes this machine has.
        machine: the number of this machine.
        machines: how many machines there are.
        restarts: how often torchrun has restarted the processes of this machine.
    """

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    local_processes: int = 1
    machine: int = 0
    machines: int = 1
    restarts: int = 0

    @classmethod
    def from_environment(cls) -> ProcessInfo:
        """Read what torchrun wrote into the environment; a process that torchrun did not start is the only one."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in (*names, "TORCHELASTIC_RESTART_COUNT")))


def needs_launch(devices: int | None, machines: int, rendezvous: str | None) -> bool:
    """Whether `launch` must start the processes that are asked for; under torchrun they run already.

    Args:
        devices: processes on each machine; None for one, or for as many as torchrun started.
        machines: how many machines train together.
        rendezvous: ``HOST:PORT`` where several machines meet.

    Raises:
        ModelError: the arguments contradict each other, or what torchrun started.
    """
    info = ProcessInfo.from_environment()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if devices not in (None, info.local_processes) or machines not in (1, info.machines):
            raise ModelError(
                f"torchrun started {info.local_processes} processes on each of {info.machines} machines, but the "
                f"options ask for {devices or info.local_processes} on {machines}: leave devices=... and machines=... "
                "out"
            )
        return False
    if machines > 1 and rendezvous is None:
        raise ModelError(
            f'machines={machines} needs rendezvous="HOST:PORT", the same on all machines: the name of one of them and '
            "a free port, such as node1:29400"
        )
    return machines * (devices or 1) > 1


def launch(
    arguments: Sequence[str], *, device: str, devices: int, machines: int = 1, rendezvous: str | None = None
) -> None:
    """Run ``biper ARGUMENTS`` in several processes and wait until they end; a process that fails stops all.

    Args:
        arguments: the arguments of the command ``biper``.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, the same as in the arguments.
        devices: how many processes to start on this machine.
        machines: how many machines make this same call.
        rendezvous: ``HOST:PORT`` where the machines meet; one machine needs none.

    Raises:
        ModelError: there are fewer GPUs than processes.
        LostProcessError: the machines did not meet; or a process was killed; or a process lost one on another machine.
        SystemExit: a process failed and has printed why, or this process was asked to stop and has stopped all others.
    """
    import logging

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # else torch writes pages about lost connections
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from biper.runtime.cpu import usable_cores
    from biper.training.devices import require_devices

    require_devices(device, devices)
    logging.disable(logging.ERROR)  # torch would write several lines for each process that ends
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
                f"process {rank} of {devices * machines} was killed by {killer}, and all others were stopped; "
                "continue from the last checkpoint with resume=True"
            ) from error
        if status == LostProcessError.exit_code:
            raise LostProcessError(
                "a process on another machine died or did not answer, and all on this one were stopped; continue from "
                "the last checkpoint with resume=True"
            ) from error
        sys.exit(status)
    except RendezvousError as error:
        raise LostProcessError(
            f"the {machines} machines did not meet at {rendezvous}, or lost the connection: expected the same command "
            "on each, and a free port of one of them that all can reach"
        ) from error
    except SignalException as stop:
        sys.exit(128 + stop.sigval)


def _cause(statuses: dict[int, int]) -> tuple[int, int]:
    """The process that failed first, by the exit statuses of all that failed.

    A process with an error of its own comes first, then one that was killed, then those that stopped because of it.

    Args:
        statuses: exit statuses by rank; a negative status is the number of a signal.

    Returns:
        The rank and the exit status of the process.
    """
    consequences = (-signal.SIGTERM, LostProcessError.exit_code)
    return min(statuses.items(), key=lambda item: (item[1] in consequences, item[1] < 0, item[0]))


def should_report(error: BaseException | None) -> bool:
    """Whether this process should print an error, so that each machine prints it once.

    On each machine this is the first process that asks. After a `LostProcessError` under `launch` no process prints,
    because `launch` sees which process died and prints that.
    """
    info = ProcessInfo.from_environment()
    if info.processes == 1:
        return True
    if isinstance(error, LostProcessError) and _LAUNCHED_BY_BIPER in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_SECONDS_FOR_THE_LAUNCHER)  # the launcher stops this process within that time
        return False
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process must print before torchrun stops it
    try:
        folder = Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parents[1]  # the processes of this machine share it
        (folder / f"reported-{info.restarts}").touch(exist_ok=False)
    except FileExistsError:
        return False
    except (KeyError, IndexError, OSError):
        return info.local_rank == 0
    return True
