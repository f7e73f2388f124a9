"""Generated C on an emulated Cortex-M3, where binary convolutions look up tables by instructions of Thumb-2."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.array_programs import gated_program
from support.compiled import WARNINGS, require
from support.networks import packed_network
from support.small_programs import random_pixels, small_programs

from biper.targets.c.fixed_reference import run_fixed
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point

BOARD = Path(__file__).parents[2] / "examples" / "cortex_m"
COMPILE = ["-mcpu=cortex-m3", "-mthumb", "-ffreestanding", "-nostdlib", "-Wl,--gc-sections", "-ffunction-sections"]
TEXT = ["-chardev", "stdio,id=text", "-semihosting-config", "enable=on,target=native,chardev=text"]
EMULATOR = ["-M", "mps2-an385", "-display", "none", "-serial", "none", "-monitor", "none", *TEXT]


@pytest.mark.slow
@pytest.mark.parametrize("optimize", ["-O0", "-O2", "-Os"])
def test_programs_give_the_integers_of_numpy(optimize: str, tmp_path: Path) -> None:
    compiler, emulator = require("arm-none-eabi-gcc"), require("qemu-system-arm")
    programs = {name: program for name, program in small_programs().items() if name.startswith(("binary", "threshold"))}
    programs |= {"gated": gated_program(), "digits": packed_network(tmp_path, "digits_cnn", "digits")}
    main = ['#include "board.h"', "#include <stdint.h>"]
    body = []
    for name, program in programs.items():
        fixed = to_fixed_point(program)
        pixels = random_pixels(program.input_shape, 1)
        expected = run_fixed(fixed, pixels)[program.output].transpose(0, 2, 3, 1).reshape(-1)
        source = c_source(program, name=name, fixed=fixed)
        (tmp_path / f"{name}.h").write_text(source.header)
        (tmp_path / f"{name}.c").write_text(source.source)
        main += [f'#include "{name}.h"']
        for what, kind, numbers in (("in", "uint8_t", pixels.reshape(-1)), ("out", "int16_t", expected)):
            values = ", ".join(map(str, numbers))
            main.append(f"static const {kind} {name}_{what}[{len(numbers)}] = {{{values}}};")
        main.append(f"static int16_t {name}_made[{len(expected)}];")
        body.append(f"    {name}_run({name}_in, {name}_made);")
        body.append(f"    for (i = 0; i < {len(expected)}; ++i) if ({name}_made[i] != {name}_out[i]) break;")
        body.append(f'    if (i < {len(expected)}) board_write("{name} differs\\n"), ++wrong;')
    main += ["int main(void)", "{", "    uint32_t i, wrong = 0;", *body, '    board_write("done\\n");']
    (tmp_path / "main.c").write_text("\n".join([*main, "    return wrong > 0;", "}", ""]))
    link = (BOARD / "link.ld").read_text().replace("128K", "4M").replace("64K", "4M")
    (tmp_path / "link.ld").write_text(link)
    files = [
        tmp_path / "main.c",
        BOARD / "startup.c",
        BOARD / "board.c",
        *(tmp_path / f"{name}.c" for name in programs),
    ]
    command = [
        compiler,
        *COMPILE,
        *WARNINGS,
        optimize,
        f"-I{BOARD}",
        "-Wl,-Tlink.ld",
        "-o",
        "test.elf",
        *files,
        "-lgcc",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    board = subprocess.run([emulator, *EMULATOR, "-kernel", tmp_path / "test.elf"], capture_output=True, text=True)
    assert (board.stdout, board.returncode) == ("done\n", 0)
