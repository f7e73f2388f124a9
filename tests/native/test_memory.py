"""The native code stays inside its arrays: tested at protected pages, and with the sanitizers of the compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_engine import SETS

import biper

ROOT = Path(__file__).parents[2]


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
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc and its sanitizers")
def test_native_tests_are_clean_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    """Build the extension with both sanitizers, and run mutated files and the other native tests with it, which takes
    some minutes."""
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    nanobind = subprocess.run(
        [sys.executable, "-m", "nanobind", "--cmake_dir"], capture_output=True, text=True, check=True
    )
    tools = Path(sys.executable).parent
    configure = [
        tools / "cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo", f"-DCMAKE_CXX_FLAGS={flags}", f"-Dnanobind_DIR={nanobind.stdout.strip()}",
        f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_CXX_COMPILER=g++",
    ]  # fmt: skip
    for command in (configure, [tools / "cmake", "--build", tmp_path / "build"]):
        built = subprocess.run(command, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    package = tmp_path / "package" / "biper"
    shutil.copytree(Path(biper.__file__).parent, package, ignore=shutil.ignore_patterns("_native*"))
    (module,) = (tmp_path / "build").glob("_native*.so")
    shutil.copy(module, package)
    libraries = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = os.environ | {
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # The copy goes first in the path, before an editable installation's own finder.
    code = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
sys.path.insert(0, {str(package.parent)!r})
import pytest
from biper import _native
assert _native.__file__ == {str(package / module.name)!r}, _native.__file__
tests = [{str(ROOT / "tests/native/test_engine.py")!r}, {str(ROOT / "tests/native/test_arrays.py")!r}]
sys.path.insert(0, {str(ROOT / "tests")!r})
from attacks.run_mutations import run
assert not run(0, 5000)["faults"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *tests]))
"""
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-5000:]
