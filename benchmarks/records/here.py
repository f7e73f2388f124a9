"""What this machine is, and the commit of the code, for the record of a run."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from records.schema import Machine

ROOT = Path(__file__).resolve().parents[2]


def this_machine(title: str | None = None) -> Machine:
    """The machine that runs this; ``title`` is its name in the documentation, else the processor and its sets."""
    from biper.runtime.cpu import instruction_sets

    sets, processor = instruction_sets(), _processor()
    widest = next((name for key, name in _WIDEST.items() if key in sets), platform.machine())
    return Machine(
        title=title or f"{processor}, {widest}",
        processor=processor,
        instruction_sets=sets,
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        compiler=_line("cc", "--version"),
    )


def this_commit() -> str | None:
    """The commit that is checked out, with ``-dirty`` if tracked files differ from it; None where git cannot tell."""
    return _line("git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty")


_WIDEST = {"avx512f": "AVX-512", "avx2": "AVX2", "neon": "NEON"}


def _processor() -> str:
    """The name of the processor; on Linux with family and model, which tell one EPYC from another."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.partition("\n\n")[0].splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    name = found.get("model name", platform.machine())
    return f"{name}, family {found['cpu family']}, model {found['model']}" if "cpu family" in found else name


def _line(*command: str) -> str | None:
    """The first line that a command prints; None if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None
