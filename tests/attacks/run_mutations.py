"""Run seeded mutations in this process: ``python run_mutations.py FIRST COUNT MEBIBYTES`` prints what came of them.

It imports no torch, so that the limit of memory means the reader and the engine.
"""

from __future__ import annotations

import json
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any

TESTS = str(Path(__file__).parents[1])
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from attacks.mutations import attempt, bases, mutated  # noqa: E402  the path comes first


def run(first: int, count: int, mebibytes: int | None = None) -> dict[str, Any]:
    """Load and run the files of the seeds from ``first`` on.

    Args:
        first: the first seed.
        count: how many seeds.
        mebibytes: how much more memory the process may take than before; None does not limit it.

    Returns:
        ``refused`` and ``ran``, how many files were; ``slowest``, the seconds of the slowest; ``faults``, a line for
        each of the first ten files that raised anything else than the errors that are promised.
    """
    for container in bases():
        attempt(container.sealed())
    if mebibytes is not None:
        _limit_memory(mebibytes)
    result: dict[str, Any] = {"refused": 0, "ran": 0, "slowest": 0.0, "slowest_seed": None, "faults": []}
    for seed in range(first, first + count):
        blob = mutated(random.Random(seed))
        start = time.process_time()
        try:
            result["ran" if attempt(blob) == "ran" else "refused"] += 1
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            if len(result["faults"]) < 10:
                result["faults"].append(f"seed {seed}: {error!r} in {place.name}, line {place.lineno}")
        seconds = time.process_time() - start
        if seconds > result["slowest"]:
            result |= {"slowest": seconds, "slowest_seed": seed}
    return result


def _limit_memory(mebibytes: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (mebibytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    first, count, mebibytes = map(int, sys.argv[1:])
    print(json.dumps(run(first, count, mebibytes)))  # noqa: T201  the result of the process
