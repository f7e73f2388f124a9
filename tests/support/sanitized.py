"""The native extension, built with the sanitizers of the compiler, and Python that runs with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import biper
from biper.runtime.cpu import instruction_sets
from support.compiled import require

ROOT = Path(__file__).parents[2]
AVX512 = (
    "native/kernels/avx512.cc",
    *(str(path.relative_to(ROOT)) for path in (ROOT / "native/training").glob("*.cc")),
)
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"


def build(folder: Path) -> Path:
    """Build the extension with the address and undefined-behaviour sanitizers of gcc.

    Returns:
        A folder with a copy of the package `biper` that has this extension.
    """
    require("gcc")
    nanobind = subprocess.run(
        [sys.executable, "-m", "nanobind", "--cmake_dir"], capture_output=True, text=True, check=True
    )
    tools = Path(sys.executable).parent
    configure = [
        tools / "cmake", "-S", ROOT, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g", f"-DCMAKE_CXX_FLAGS={FLAGS}",
        f"-Dnanobind_DIR={nanobind.stdout.strip()}",
        f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_CXX_COMPILER=g++",
        f"-DBIPER_NOT_SANITIZED={'' if 'avx512f' in instruction_sets() else ';'.join(AVX512)}",
    ]  # fmt: skip
    for command in (configure, [tools / "cmake", "--build", folder / "build"]):
        built = subprocess.run(command, capture_output=True, text=True)
        assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    package = folder / "package" / "biper"
    shutil.copytree(Path(biper.__file__).parent, package, ignore=shutil.ignore_patterns("_native*"))
    (module,) = (folder / "build").glob("_native*.so")
    shutil.copy(module, package)
    return package.parent


def python(package: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the package of `build`; the folder ``tests`` is in its path."""
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
    first = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if finder.__module__.startswith("_frozen_importlib")]
sys.path[:0] = [{str(package)!r}, {str(ROOT / "tests")!r}]
from biper import _native
assert _native.__file__.startswith({str(package)!r}), _native.__file__
"""
    return subprocess.run(
        [sys.executable, "-c", first + code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
