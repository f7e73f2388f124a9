"""Several processes of one test, with the environment variables that torchrun sets.

They are forked from one server that has imported torch, so that they start fast.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

SECONDS = 120

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["biper.training.run"])


def outcomes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(*arguments)`` in each of ``count`` processes, which have one thread each.

    Returns:
        For each process what the function returned or raised, or the exit status of a process that was killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, answers = [], []
    for rank in range(count):
        answer, send = _context.Pipe(duplex=False)
        processes.append(_context.Process(target=_run, args=(send, rank, count, port, function, arguments)))
        processes[-1].start()
        send.close()
        answers.append(answer)
    found: list[Any] = []
    try:
        for process, answer in zip(processes, answers, strict=True):
            assert answer.poll(SECONDS), f"no answer within {SECONDS} s"
            try:
                found.append(answer.recv())
            except EOFError:
                process.join(SECONDS)
                found.append(process.exitcode)
        return found
    finally:
        for process in processes:
            process.kill()
            process.join()


def alone(function: Callable[..., Any], *arguments: Any, kill_after: float | None = None) -> Any:
    """Call ``function(*arguments)`` in a process of its own, without the variables of torchrun.

    Args:
        function, arguments: what is called.
        kill_after: the process is killed after so many seconds, unless it has ended.

    Returns:
        What the function returned or raised, or the exit status of a process that was killed.
    """
    answer, send = _context.Pipe(duplex=False)
    process = _context.Process(target=_run_alone, args=(send, function, arguments))
    process.start()
    send.close()
    try:
        if kill_after is not None and not answer.poll(kill_after):
            process.kill()
        assert answer.poll(SECONDS), f"no answer within {SECONDS} s"
        try:
            return answer.recv()
        except EOFError:
            process.join(SECONDS)
            return process.exitcode
    finally:
        process.kill()
        process.join()


def in_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function(*arguments)`` returns in each of ``count`` processes; an error in one of them is raised here."""
    found = outcomes(count, function, *arguments)
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return found


def _run(send: Any, rank: int, count: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    variables: dict[str, object] = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count}
    variables |= {
        "GROUP_RANK": 0,
        "GROUP_WORLD_SIZE": 1,
        "TORCHELASTIC_RESTART_COUNT": 0,
        "TORCHELASTIC_RUN_ID": "test",
    }
    variables |= {"MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    variables |= {"MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in variables.items()}
    _run_alone(send, function, arguments)


def _run_alone(send: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    try:
        answer = function(*arguments)
    except Exception as error:
        answer = error
    send.send(answer)
