"""Choosing the device and the number of threads."""

from __future__ import annotations

import torch

from biper.errors import ModelError


def set_threads(count: int | None) -> None:
    """Use this many CPU threads in this process; None keeps the default of torch, one for each core."""
    if count is not None:
        torch.set_num_threads(count)


def choose_device(name: str) -> str:
    """The device for a name: ``"auto"`` becomes ``"cuda"`` if torch sees a GPU, else ``"cpu"``.

    Raises:
        ModelError: the name is ``"cuda"`` and torch sees no GPU.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError('device="cuda": torch sees no CUDA GPU here; use device="cpu"')
    return str(name)


def require_devices(name: str, count: int) -> None:
    """Check that this machine has a device for each of its processes.

    Raises:
        ModelError: there are fewer GPUs than processes.
    """
    if choose_device(name) == "cuda" and count > torch.cuda.device_count():
        raise ModelError(
            f"devices={count} needs a GPU for each process, torch sees {torch.cuda.device_count()} here; ask for "
            'fewer, or device="cpu"'
        )
