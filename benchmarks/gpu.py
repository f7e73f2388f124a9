"""A quarter of an hour on a machine with a GPU: is training right there, how fast is it, what limits it, and a run.

    python benchmarks/gpu.py results --data-dir DATA_DIR --seconds 540
    python benchmarks/gpu.py results --parts schedule --run run --continue run.tar.gz --data-dir DATA_DIR --seconds 540
    python benchmarks/gpu.py results --device cpu --quick --seconds 240       # tries all of it without a GPU

It runs from the source tree, with or without the native extension, and needs no network. Parts run one after the other:

- checks: both stages of ResNet-20 on random images, on the device and on the CPU, with and without CUDA graphs;
- speed: images a second of biper, one by one and by CUDA graphs, beside the plain formulas, and the share of the peak;
- limits: the kernels of a step, and the share of the time in which the device works;
- schedule: `biper train RECIPE --precision bfloat16 --cuda-graphs --resume` in the folder ``--run`` until the time is
  over, with the published recipe of ResNet-20 by default.

A part that fails or that needs longer than its limit does not stop the others. The folder of results gets seven files:
``results.jsonl`` with a line for each result as soon as it is known, ``PART.log`` with what a part printed, and
``run.tar.gz`` with the run, its newest checkpoint and its metrics, which is written every minute and at the end. On the
next machine, ``--continue run.tar.gz`` makes the run folder of it, and training continues.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from run_archive import restore_run, save_run

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
NEEDED = {
    "torch": "torch",
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "typer": "typer",
    "rich": "rich",
    "lightning_fabric": "lightning-fabric",
    "pydantic": "pydantic",
    "pooch": "pooch",
    "requests": "requests",
    "tensorboard": "tensorboard",
}
"""What the parts import, and the names of the packages."""

LIMITS = {"machine": 150.0, "checks": 120.0, "speed": 150.0, "limits": 60.0}
"""The most seconds of each part; the schedule has what is left. The first part reads torch from a cold disk."""

AROUND = 30.0
"""Seconds that the schedule needs beside training: to start, to save everything, and to write the archive."""

SAVED = "everything is saved"
"""What `biper train` says when it stops before its end."""

GRACE = 8.0
"""Seconds between asking a process to stop and ending it."""


@dataclass(frozen=True)
class Sitting:
    """One use of a machine.

    Attributes:
        out: the folder of results.
        until: the time of `time.monotonic` at which everything must have ended.
        environment: of the processes.
        snapshot: called every ``every`` seconds while a part runs, and at its end.
        every: in seconds.
    """

    out: Path
    until: float
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    snapshot: Callable[[], object] = lambda: None
    every: float = 60.0

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()

    def note(self, part: str, **facts: Any) -> None:
        """Add a line to the results, and print it."""
        line = json.dumps({"part": part, **facts})
        with (self.out / "results.jsonl").open("a", encoding="utf-8") as results:
            results.write(line + "\n")
        print(line, flush=True)

    def run(self, part: str, command: list[str], limit: float) -> bool:
        """Run the process of a part, print what it adds to the results, and note how it ended.

        Args:
            part: its name; what it prints goes into the file ``part.log``.
            command: the process.
            limit: after this many seconds it is asked to stop, and `GRACE` seconds later ended.

        Returns:
            Whether it ended without an error, or in time with everything saved.
        """
        limit = min(limit, self.left - 2 * GRACE)
        if limit <= 0:
            self.note(part, ended="not started: no time is left")
            return False
        results, log, began = self.out / "results.jsonl", self.out / f"{part}.log", time.monotonic()
        shown = results.stat().st_size if results.exists() else 0
        with log.open("a", encoding="utf-8") as printed:
            process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, env=self.environment)
            stopped = self._wait(process, limit)
        with results.open("rb") if results.exists() else open(os.devnull, "rb") as added:
            added.seek(shown)
            print(added.read().decode(), end="", flush=True)
        self.snapshot()
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        ended = f"stopped after {limit:.0f} s" if stopped else "done" if process.returncode == 0 else "failed"
        if process.returncode and SAVED in " ".join(lines[-5:]):
            ended = SAVED
        last = {} if ended == "done" else {"last_line": lines[-1][:500] if lines else ""}
        self.note(part, ended=ended, code=process.returncode, seconds=round(time.monotonic() - began, 1), **last)
        return ended in ("done", SAVED)

    def _wait(self, process: subprocess.Popen[bytes], limit: float) -> bool:
        """Wait for a process, and stop it at its limit; returns whether it was stopped."""
        end, stopped = time.monotonic() + limit, False
        while True:
            try:
                process.wait(timeout=max(0.0, min(self.every, end - time.monotonic())))
                return stopped
            except subprocess.TimeoutExpired:
                if time.monotonic() < end:
                    self.snapshot()
                elif stopped:
                    process.kill()
                    process.wait()
                    return True
                else:
                    process.send_signal(signal.SIGTERM)
                    end, stopped = end + GRACE, True


def missing() -> list[str]:
    """The packages that the parts need and that are not installed."""
    return [package for module, package in NEEDED.items() if find_spec(module) is None]


def has_cifar10(folder: Path) -> bool:
    """Whether all batches of CIFAR-10 are in a folder, or in its subfolder of the usual name."""
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    return any(all((there / name).is_file() for name in names) for there in (folder, folder / "cifar-10-batches-bin"))


def train_schedule(sitting: Sitting, options: argparse.Namespace) -> bool:
    """Train the recipe until it has ended or the time is over, and note how far it came."""
    run: Path = options.run
    if options.recipe.startswith("cifar10") and not has_cifar10(options.data_dir or Path()):
        sitting.note("schedule", ended="not started: --data-dir names no folder with all six batches of CIFAR-10")
        return False
    if options.archive and not (run / "checkpoints").is_dir():
        try:
            restore_run(options.archive, run)
        except (OSError, tarfile.TarError) as error:
            sitting.note("schedule", ended=f"not started: --continue {options.archive}: {error}")
            return False
    seconds = min(sitting.left - AROUND, options.train_seconds)
    if seconds <= 0:
        sitting.note("schedule", ended=f"not started: it needs more than {AROUND:.0f} s, {sitting.left:.0f} are left")
        return False
    command = [sys.executable, "-m", "biper", "train", options.recipe, "--out", str(run), "--device", options.device]
    command += ["--precision", "bfloat16", "--cuda-graphs", "--resume", "--seconds", f"{seconds:.0f}"]
    command += ["--data-dir", str(options.data_dir)] if options.data_dir else []
    for change in options.set:
        command += ["--set", change]
    before = _metrics(run)
    worked = sitting.run("schedule", command, sitting.left)
    rows = _metrics(run)
    here = rows[len(before) :]
    speeds = sorted(row["images_per_second"] for row in here)
    sitting.note(
        "schedule",
        finished=(run / "summary.json").exists(),
        epochs_before=len(before),
        epochs=len(rows),
        images_per_second=speeds[len(speeds) // 2] if speeds else None,
        last_epoch=rows[-1] if rows else None,
    )
    return worked


def _metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of the epochs of a run, without the numbers of its layers."""
    file = run / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in rows]


def main() -> int:
    """Run the parts."""
    parts = ("checks", "speed", "limits", "schedule")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of results")
    parser.add_argument("--parts", default=",".join(parts), help="default: all, in this order: %(default)s")
    parser.add_argument("--seconds", type=float, default=540, help="after which everything has ended; default 540")
    parser.add_argument("--data-dir", type=Path, help="the folder of CIFAR-10, see benchmarks/cifar_parts.py")
    parser.add_argument("--run", type=Path, default=Path("runs/gpu"), help="the run folder; default runs/gpu")
    parser.add_argument("--continue", dest="archive", type=Path, metavar="RUN.tar.gz", help="an earlier run.tar.gz")
    parser.add_argument("--recipe", help="of the schedule; default cifar10-resnet20")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the recipe")
    parser.add_argument("--train-seconds", type=float, default=math.inf, help="of the schedule; default what is left")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny networks, to try the script")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    chosen = options.parts.split(",")
    if unknown := [part for part in chosen if part not in parts]:
        parser.error(f"--parts: {unknown[0]!r} is none of {', '.join(parts)}")
    if packages := missing():
        parser.error(f"not installed here: {' '.join(packages)}")
    options.recipe = options.recipe or ("digits" if options.quick else "cifar10-resnet20")
    options.out.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    sitting = Sitting(options.out, until, environment, lambda: save_run(options.run, options.out / "run.tar.gz"))

    def run(part: str) -> bool:
        command = [sys.executable, str(HERE / "gpu_parts.py"), part, str(options.out / "results.jsonl")]
        command += ["--device", options.device, *(["--quick"] if options.quick else [])]
        return sitting.run(part, command, LIMITS[part])

    if not run("machine"):
        return 1
    worked = [train_schedule(sitting, options) if part == "schedule" else run(part) for part in chosen]
    return 0 if all(worked) else 1


if __name__ == "__main__":
    sys.exit(main())
