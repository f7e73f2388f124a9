"""libbiper, built once for these sources and called from Python through ctypes."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.compiled import require

ROOT = Path(__file__).parents[2]
OK, BAD_ARGUMENT, UNREADABLE, BAD_FORMAT, OVER_LIMIT, BAD_DATA = range(6)
QUICK = ("-DBIPER_SCALAR_ONLY=ON", "-DBIPER_OPTIMIZATION=-O0", "-DCMAKE_UNITY_BUILD=ON")
"""Settings with which compiling takes the least time."""


def build(*settings: str, target: str = "all") -> Path:
    """The folder in which CMake has built the library with these settings, once for the sources as they are.

    The test is skipped where CMake, Ninja, a compiler or nlohmann-json is missing.
    """
    for tool in ("cmake", "ninja", "c++"):
        require(tool)
    if not any(Path(root, "include/nlohmann/json.hpp").exists() for root in ("/usr", "/usr/local", "/opt/homebrew")):
        pytest.skip("nlohmann-json is not installed")
    digest = hashlib.sha256(repr((settings, target, os.getuid(), str(ROOT))).encode())
    for path in sorted([ROOT / "CMakeLists.txt", *(ROOT / "native").rglob("*")]):
        if path.suffix in (".cc", ".h", ".txt", ".cmake", ".map", ".in"):
            digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"biper-capi-{digest.hexdigest()[:16]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        pytest.skip(f"{folder} belongs to another user")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DBIPER_PYTHON=OFF"]
            run([*configure, "-DBIPER_CAPI=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0", *settings])
            run(["ninja", "-C", str(folder), target])
            (folder / "built").touch()
    return folder


def run(command: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; it must succeed."""
    given = None if environment is None else {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=given)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


class Options(ctypes.Structure):
    """biper_options."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("threads", ctypes.c_int),
        ("verify", ctypes.c_int),
        ("max_memory", ctypes.c_uint64),
        ("max_work", ctypes.c_uint64),
        ("instruction_set", ctypes.c_char_p),
    )


class Array(ctypes.Structure):
    """biper_array."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("rank", ctypes.c_int),
        ("sizes", ctypes.c_int64 * 8),
        ("elements", ctypes.c_int64),
    )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sizes[: self.rank])


class Preprocessing(ctypes.Structure):
    """biper_preprocessing."""

    _fields_ = (
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("resize_height", ctypes.c_int),
        ("resize_width", ctypes.c_int),
        ("interpolation", ctypes.c_char_p),
        ("channels", ctypes.c_char_p),
        ("background", ctypes.c_uint8 * 3),
        ("exif_orientation", ctypes.c_int),
        ("white", ctypes.c_double),
        ("draft_margin", ctypes.c_int),
    )


class Failure(Exception):
    """A call that failed: its code and its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


@cache
def library(path: Path) -> ctypes.CDLL:
    """The shared library, with the types of the functions that return no int."""
    loaded = ctypes.CDLL(str(path))
    for name in ("version", "error_text", "class_name", "instruction_set"):
        getattr(loaded, f"biper_{name}").restype = ctypes.c_char_p
    for name in ("input_count", "output_count", "class_count"):
        getattr(loaded, f"biper_{name}").restype = ctypes.c_size_t
    loaded.biper_arena_bytes.restype = ctypes.c_int64
    return loaded


def pointers(arrays: Sequence[NDArray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * max(len(arrays), 1))(*(array.ctypes.data for array in arrays))


class CModel:
    """A model of the library; the options are those of biper_options.

    Raises:
        Failure: it is refused.
    """

    def __init__(self, loaded: ctypes.CDLL, source: bytes | Path, **options: object) -> None:
        self.loaded, self.handle = loaded, ctypes.c_void_p()
        given = Options()
        loaded.biper_options_init(ctypes.byref(given))
        for name, value in options.items():
            setattr(given, name, value)
        to = ctypes.byref(given), ctypes.byref(self.handle)
        if isinstance(source, bytes):
            self.check(loaded.biper_load_memory(source, ctypes.c_size_t(len(source)), *to))
        else:
            self.check(loaded.biper_load(os.fsencode(source), *to))
        self.inputs = self._arrays("input")
        self.outputs = self._arrays("output")

    def __del__(self) -> None:
        self.loaded.biper_free(self.handle)

    def check(self, code: int) -> None:
        if code != OK:
            raise Failure(code, self.loaded.biper_error_text().decode())

    def _arrays(self, what: str) -> list[Array]:
        found = []
        for number in range(getattr(self.loaded, f"biper_{what}_count")(self.handle)):
            array = Array()
            self.check(getattr(self.loaded, f"biper_{what}")(self.handle, ctypes.c_size_t(number), ctypes.byref(array)))
            found.append(array)
        return found

    @property
    def classes(self) -> list[str]:
        count = self.loaded.biper_class_count(self.handle)
        return [self.loaded.biper_class_name(self.handle, ctypes.c_size_t(number)).decode() for number in range(count)]

    @property
    def preprocessing(self) -> Preprocessing:
        found = Preprocessing()
        self.check(self.loaded.biper_preprocessing_of(self.handle, ctypes.byref(found)))
        return found

    def __call__(self, images: NDArray, others: Mapping[str, NDArray] | None = None) -> list[NDArray[np.float32]]:
        """The results for pixels (N, H, W, C) uint8 or normalized images (N, C, H, W) float32."""
        arrays = [np.ascontiguousarray((others or {})[array.name.decode()], np.float32) for array in self.inputs[1:]]
        images = np.ascontiguousarray(images)
        count = len(images)
        results = [np.full((count, *output.shape), np.nan, np.float32) for output in self.outputs]
        if images.dtype == np.uint8:
            code = self.loaded.biper_run_pixels(
                self.handle, images.ctypes.data_as(ctypes.c_void_p), pointers(arrays), ctypes.c_int64(count),
                pointers(results),
            )  # fmt: skip
        else:
            inputs = pointers([images, *arrays])
            code = self.loaded.biper_run(self.handle, inputs, ctypes.c_int64(count), pointers(results))
        self.check(code)
        return results
