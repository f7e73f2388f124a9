"""Folders for Arduino and ESP-IDF: what they hold, compiled with plain compilers in place of those of the boards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.compiled import require

from biper.errors import ExportError
from biper.runtime import load_pretrained
from biper.runtime.pretrained import pretrained_file
from biper.targets.deploy import deploy, open_program, output_file

ARDUINO_H = """
#pragma once
#include <cstdio>
inline unsigned long micros() { return 0; }
inline void delay(unsigned long) {}
struct {
    void begin(long) {}
    void print(const char *text) { std::fputs(text, stdout); }
    void print(unsigned long number) { std::printf("%lu", number); }
    void println(const char *text) { std::puts(text); }
} Serial;
"""
"""What the sketch calls, on this machine; the compilers of the boards are not in Debian."""


def written(form: str, folder: Path, integer_only: bool) -> Path:
    opened = open_program(pretrained_file("digits-cnn"))
    out = output_file(opened.source, form, folder / "digits")
    row, text = deploy(opened, form, out, integer_only=integer_only)
    assert set(row["files"]) <= {str(path) for path in out.rglob("*") if path.is_file()}
    assert f"{out}, {len(row['files'])} files" in text
    return out


def answer() -> str:
    """The class of an image of zeros, which is what the examples classify until somebody fills it."""
    return load_pretrained("digits-cnn").predict(np.zeros((1, 8, 8, 1), np.uint8))[0][0].name


def run(*command: object, cwd: Path) -> str:
    made = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.mark.parametrize("integer_only", [False, True])
def test_the_sketch_of_an_arduino_library_names_the_class(integer_only: bool, tmp_path: Path) -> None:
    require("g++")
    library = written("arduino", tmp_path, integer_only)
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    assert properties["name"] == "digits"
    assert properties["includes"] == "digits.h"
    assert {"version", "author", "maintainer", "sentence", "category", "url", "architectures"} <= set(properties)
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    (tmp_path / "main.cpp").write_text(
        '#include "Arduino.h"\n#include "digits/examples/Classify/Classify.ino"\nint main() { setup(); loop(); }\n'
    )
    warnings = ["-Wall", "-Wextra", "-Werror", "-Idigits/src"]
    run("gcc", "-std=c99", *warnings, "-Wpedantic", "-c", "digits/src/digits.c", cwd=tmp_path)
    run("g++", *warnings, "main.cpp", "digits.o", "-lm", "-o", "main", cwd=tmp_path)
    assert run("./main", cwd=tmp_path) == f"{answer()} in 0 microseconds\n"


def test_the_component_of_esp_idf_names_the_class(tmp_path: Path) -> None:
    """The component and its example for RISC-V, as the ESP32-C3 has it, and compiled and run here."""
    component = written("esp-idf", tmp_path, integer_only=True)
    build = (component / "CMakeLists.txt").read_text()
    assert build == 'idf_component_register(SRCS "digits.c" INCLUDE_DIRS "include")\n'
    assert 'override_path: "../../.."' in (component / "examples/classify/main/idf_component.yml").read_text()
    sources = ["digits/digits.c", "digits/examples/classify/main/main.c"]
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Idigits/include"]
    (tmp_path / "main.c").write_text("void app_main(void);\nint main(void) { app_main(); return 0; }\n")
    run("gcc", *warnings, *sources, "main.c", "-o", "main", cwd=tmp_path)
    assert run("./main", cwd=tmp_path) == f"{answer()}\n"
    compiler = require("riscv64-unknown-elf-gcc")
    run(compiler, "-march=rv32imc", "-mabi=ilp32", "-ffreestanding", *warnings, "-Os", "-c", sources[0], cwd=tmp_path)


def test_a_folder_of_the_same_form_is_written_again_and_another_is_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    source = pretrained_file("digits-cnn")
    first = written("arduino", tmp_path, integer_only=False)
    sketch = first / "examples/Classify/Classify.ino"
    sketch.write_text("mine")
    written("arduino", tmp_path, integer_only=True)
    assert sketch.read_text() == "mine"
    assert "int16_t" in (first / "src/digits.h").read_text()
    assert output_file(source, "esp-idf", tmp_path / "empty") == tmp_path / "empty"
    for path, message in (
        (tmp_path / "other", "holds other files and no library.properties"),
        (tmp_path / "file", r"expects a folder for arduino, and .* is a file"),
        (tmp_path / "no" / "such", "there is no folder"),
    ):
        with pytest.raises(ExportError, match=message):
            output_file(source, "arduino", path)
    with pytest.raises(ExportError, match="holds other files and no idf_component"):
        output_file(source, "esp-idf", first)
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"
