"""The native code stays inside its arrays: tested at protected pages, and with the sanitizers of the compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from attacks.test_mutations import MANY
from support.sanitized import build, python
from test_engine import SETS

HERE = Path(__file__).parent


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages with mprotect")
def test_nothing_is_read_or_written_beyond_the_end() -> None:
    script = Path(__file__).with_name("protected_pages.py")
    run = subprocess.run([sys.executable, script, *SETS], capture_output=True, text=True)
    assert run.returncode == 0, f"died with {run.returncode}: {run.stderr}"
    assert run.stdout == f"{150 * len(SETS)}\n"


def test_the_protection_protects() -> None:
    """The test above can fail: reading one byte further is a crash."""
    code = (
        "import numpy as np, protected_pages as p, ctypes\n"
        "a = p.at_the_end(np.zeros(5, np.uint8))\n"
        "assert ctypes.string_at(a.ctypes.data, 5) == bytes(5)\n"
        "ctypes.string_at(a.ctypes.data, 6)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert run.returncode == -11, run.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="preloads the libraries of the sanitizers")
def test_native_tests_are_clean_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    """Mutated files and the other native tests, which takes some minutes; the mutations alone take half an hour."""
    package = build(tmp_path)
    tests = [str(HERE / name) for name in ("test_engine.py", "test_arrays.py")]
    native = python(
        package, f"import pytest; sys.exit(pytest.main(['-n', '0', '-q', '-p', 'no:cacheprovider', *{tests}]))"
    )
    assert native.returncode == 0, (native.stdout + native.stderr)[-5000:]
    mutations = python(
        package,
        f"from attacks.run_mutations import run\nfound = run(0, {MANY})\n"
        "assert not found['faults'], found['faults']\nassert found['slowest'] < 2, found",
    )
    assert mutations.returncode == 0, (mutations.stdout + mutations.stderr)[-5000:]
