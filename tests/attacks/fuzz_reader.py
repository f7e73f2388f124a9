"""A coverage-guided fuzzer of the reader of packed files and what follows it: ``fuzz_reader.py CORPUS [options]``.

It needs the package atheris, and takes the options of libFuzzer. Half of the files that it tries have changed bytes,
the others a changed structure and a valid checksum.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

TESTS = str(Path(__file__).parents[1])
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

with atheris.instrument_imports(include=["biper"]):
    from attacks.containers import Container
    from attacks.mutations import attempt, bases, change


def try_file(blob: bytes) -> None:
    """Load a file and run it. Any error but those that are promised ends the fuzzer."""
    attempt(blob, verify=False)


def changed(blob: bytes, largest: int, seed: int) -> bytes:
    """A file with changes: of bytes, as libFuzzer makes them, or of structure."""
    choice = random.Random(seed)
    if choice.random() < 0.5:
        return bytes(atheris.Mutate(blob, largest))
    try:
        container = Container.read(blob)
        change(container, choice)
        return container.sealed()[:largest]
    except Exception:  # the file is no container any more
        return bytes(atheris.Mutate(blob, largest))


def write_seeds(folder: Path) -> None:
    """Write the small valid files from which the fuzzer begins."""
    folder.mkdir(exist_ok=True)
    for number, container in enumerate(bases()):
        (folder / f"base{number}").write_bytes(container.sealed())


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, try_file, custom_mutator=changed)
    atheris.Fuzz()
