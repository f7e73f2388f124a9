"""The environment of a run: versions, processor, and revision of the code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from biper.runtime.cpu import instruction_sets

_PACKAGES = ("biper", "torch", "lightning-fabric", "numpy", "pillow", "safetensors", "pydantic")


def describe_environment(*, seed: int, device: str, precision: str, processes: int) -> dict[str, Any]:
    """Describe the environment of a run as JSON values, for ``environment.json``.

    Args:
        seed: the seed of the run.
        device: the device that computes, such as ``"cuda:0"``.
        precision: the precision of training.
        processes: how many processes train together.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "instruction_sets": list(instruction_sets()),
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device.startswith("cuda") else _cpu_name(),
        "precision": precision,
        "processes": processes,
        "git_revision": _git_revision(),
        "seed": seed,
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_revision() -> str | None:
    """The commit of the git checkout that biper runs from; None for an installed wheel.

    ``-dirty`` is appended if the checkout has changes that are not committed.
    """
    source = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        tracked = git("ls-files", "--", __file__)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*") if tracked else None
    except (OSError, subprocess.SubprocessError):
        return None
