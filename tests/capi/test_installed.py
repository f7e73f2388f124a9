"""libbiper as an application finds it: installed, found by CMake and pkg-config, packaged, on Arm, under sanitizers."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from attacks.containers import Container
from attacks.mutations import ALLOWED_MEMORY, ALLOWED_WORK, attempt, bases, mutated
from attacks.packed_budgets import BUDGETS, MAX_MEMORY, MAX_WORK
from attacks.packed_headers import HEADERS
from attacks.packed_operations import OPERATIONS
from support.capi import QUICK, ROOT, CModel, Failure, build, library, run
from support.compiled import require

from biper.errors import ModelFormatError
from biper.runtime.model import Model
from biper.runtime.pretrained import load_pretrained

PRETRAINED = ROOT / "src/biper/runtime/pretrained/cifar10-resnet20.biper"
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"
pytestmark = pytest.mark.slow


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, str]:
    """A PPM file, and what the examples print for it."""
    pixels = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (32, 32, 3), np.uint8)
    (tmp_path / "picture.ppm").write_bytes(b"P6\n32 32\n255\n" + pixels.tobytes())
    model = load_pretrained("cifar10-resnet20")
    scores = model(pixels[None])[0]
    return tmp_path / "picture.ppm", model.classes[int(scores.argmax())]


def test_an_installed_library_is_found_by_cmake_and_by_pkg_config(tmp_path: Path, picture: tuple[Path, str]) -> None:
    path, expected = picture
    prefix = tmp_path / "prefix"
    run(["cmake", "--install", str(build()), "--prefix", str(prefix)])
    for example in ("c", "cpp"):
        folder = tmp_path / example
        run(["cmake", "-S", str(ROOT / "examples" / example), "-B", str(folder), f"-DCMAKE_PREFIX_PATH={prefix}"])
        run(["cmake", "--build", str(folder)])
        for program in ("classify", "classify_static") if example == "c" else ("classify",):
            assert run([str(folder / program), str(PRETRAINED), str(path)]).split()[0] == expected
    require("pkg-config")
    (found,) = prefix.rglob("biper.pc")
    where = {"PKG_CONFIG_PATH": str(found.parent)}
    flags = run(["pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "biper"], environment=where)
    source, program = str(ROOT / "examples/c/classify.c"), str(tmp_path / "classify")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wno-unused-value"]
    run(["cc", *strict, source, *flags.split(), "-o", program])
    loads = {"LD_LIBRARY_PATH": str(found.parent.parent)}
    assert run([program, str(PRETRAINED), str(path)], environment=loads).split()[0] == expected
    symbols = run(["nm", "-D", "--defined-only", str(found.parent.parent / "libbiper.so")]).split()[2::3]
    assert len(symbols) > 15
    assert all(name.startswith("biper_") for name in symbols)


def test_every_instruction_set_gives_the_bits_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = library(build() / "libbiper.so")
    pixels = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (70, 32, 32, 3), np.uint8)
    for name in ("scalar", Model.load(PRETRAINED)._engine.instruction_set):
        monkeypatch.setenv("BIPER_ISA", name)
        found = CModel(loaded, PRETRAINED, instruction_set=name.encode())(pixels)[0]
        assert found.tobytes() == Model.load(PRETRAINED)(pixels).tobytes()


def test_a_debian_package_has_header_and_libraries(tmp_path: Path) -> None:
    require("dpkg-deb")
    run(["cpack", "--config", str(build() / "CPackConfig.cmake"), "-B", str(tmp_path)])
    (package,) = tmp_path.glob("libbiper-dev_*.deb")
    files = run(["dpkg-deb", "--contents", str(package)])
    for name in ("include/biper.h", "libbiper.so", "libbiper.a", "biper-config.cmake", "biper.pc"):
        assert name in files


def test_the_example_runs_on_arm(tmp_path: Path, picture: tuple[Path, str]) -> None:
    emulator = require("qemu-aarch64")
    require("aarch64-linux-gnu-g++")
    path, expected = picture
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'tests/support/aarch64.cmake'}"
    run(["cmake", "--install", str(build(toolchain, "-DBIPER_OPTIMIZATION=-O1")), "--prefix", str(tmp_path / "prefix")])
    configure = ["cmake", "-S", str(ROOT / "examples/c"), "-B", str(tmp_path / "c"), toolchain]
    run([*configure, f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}"])
    run(["cmake", "--build", str(tmp_path / "c")])
    command = [emulator, "-L", "/usr/aarch64-linux-gnu", str(tmp_path / "c/classify"), str(PRETRAINED), str(path)]
    assert run(command).split()[0] == expected


def test_hostile_and_mutated_files_under_sanitizers() -> None:
    """In a process of its own, which the sanitizers end at the first fault."""
    settings = ("-DBIPER_SCALAR_ONLY=ON", "-DBIPER_OPTIMIZATION=-O1", "-DCMAKE_UNITY_BUILD=ON")
    folder = build(*settings, f"-DCMAKE_CXX_FLAGS={SANITIZERS}", target="biper_shared")
    # The library of C++ too: the sanitizer looks for the function that throws when it starts.
    runtime = [run(["c++", f"-print-file-name={name}"]).strip() for name in ("libasan.so", "libstdc++.so")]
    environment = {"LD_PRELOAD": ":".join(runtime), "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "src")])
    done = run([sys.executable, __file__, str(folder / "libbiper.so"), "400"], environment=environment)
    refused, ran = map(int, done.split()[-2:])
    assert refused > 300
    assert ran > 40


def test_mutated_files_are_refused_as_python_refuses_them() -> None:
    loaded = library(build(*QUICK, target="biper_shared") / "libbiper.so")
    for seed in range(1_500):
        blob = mutated(random.Random(seed))
        try:
            Model.load(blob, max_memory=2 * len(blob) + ALLOWED_MEMORY, max_work=ALLOWED_WORK)
            refused = False
        except ModelFormatError:
            refused = True
        found = load(loaded, blob, max_memory=2 * len(blob) + ALLOWED_MEMORY, max_work=ALLOWED_WORK)
        assert (found is None) == refused, f"seed {seed}: {attempt(blob)}"


def load(loaded: object, blob: bytes, **limits: int) -> CModel | None:
    try:
        return CModel(loaded, blob, **limits)
    except Failure:
        return None


def main(path: str, count: int) -> None:
    """Load the gallery and ``count`` mutated files, and run the valid ones; print how many were refused and ran."""
    loaded, refused, ran = library(Path(path)), 0, 0
    made = [attack.make() for gallery in (HEADERS, OPERATIONS, BUDGETS) for attack in gallery.attacks]
    blobs = [each.sealed() if isinstance(each, Container) else each for each in made]
    blobs += [mutated(random.Random(seed)) for seed in range(count)] + [base.sealed() for base in bases()]
    numbers = np.random.Generator(np.random.PCG64(1))
    for blob in blobs:
        model = load(loaded, blob, max_memory=MAX_MEMORY, max_work=min(MAX_WORK, ALLOWED_WORK), threads=2)
        if model is None:
            refused += 1
            continue
        arrays = {array.name.decode(): numbers.standard_normal((2, *array.shape), np.float32) for array in model.inputs}
        image = arrays.pop("image")
        with contextlib.suppress(Failure):  # a result may be infinite, and reach a layer that cannot compute it
            model(image, arrays)
        ran += 1
    print(refused, ran)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
