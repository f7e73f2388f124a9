"""Generated C on emulated boards.

On a Cortex-M3 binary convolutions look up tables by instructions of Thumb-2, on a 32-bit RISC-V by C, and where that
has the extension Zbb, they count bits by its instruction.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.array_programs import gated_program
from support.boards import BOARDS, board
from support.networks import packed_network
from support.small_programs import random_pixels, small_programs

from biper.targets.c.fixed_reference import run_fixed
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point


@pytest.mark.slow
@pytest.mark.parametrize("optimize", ["-O0", "-O2", "-Os"])
@pytest.mark.parametrize("value_bits", [16, 32])
@pytest.mark.parametrize("board_name", BOARDS)
def test_programs_give_the_integers_of_numpy(board_name: str, value_bits: int, optimize: str, tmp_path: Path) -> None:
    emulated = board(board_name)
    programs = {
        name: program
        for name, program in small_programs().items()
        if name.startswith(("binary", "threshold", "shifted", "real", "levels"))
    }
    programs |= {"digits": packed_network(tmp_path, "digits_cnn", "digits")}
    programs |= {"gated": gated_program()} if value_bits == 16 else {}
    number = f"int{value_bits}_t"
    main = ['#include "board.h"', "#include <stdint.h>"]
    body = []
    for name, program in programs.items():
        fixed = to_fixed_point(program, value_bits=value_bits)
        pixels = random_pixels(program.input_shape, 1)
        expected = run_fixed(fixed, pixels)[program.output].transpose(0, 2, 3, 1).reshape(-1)
        source = c_source(program, name=name, fixed=fixed)
        (tmp_path / f"{name}.h").write_text(source.header)
        (tmp_path / f"{name}.c").write_text(source.source)
        main += [f'#include "{name}.h"']
        for what, kind, numbers in (("in", "uint8_t", pixels.reshape(-1)), ("out", number, expected)):
            values = ", ".join(map(str, numbers))
            main.append(f"static const {kind} {name}_{what}[{len(numbers)}] = {{{values}}};")
        main.append(f"static {number} {name}_made[{len(expected)}];")
        body.append(f"    {name}_run({name}_in, {name}_made);")
        body.append(f"    for (i = 0; i < {len(expected)}; ++i) if ({name}_made[i] != {name}_out[i]) break;")
        body.append(f'    if (i < {len(expected)}) board_write("{name} differs\\n"), ++wrong;')
    main += ["int main(void)", "{", "    uint32_t i, wrong = 0;", *body, '    board_write("done\\n");']
    (tmp_path / "main.c").write_text("\n".join([*main, "    return wrong > 0;", "}", ""]))
    sources = [tmp_path / "main.c", *(tmp_path / f"{name}.c" for name in programs)]
    emulated.build(sources, tmp_path / "test.elf", optimize, whole=True)
    ran = emulated.run(tmp_path / "test.elf", capture=True)
    assert (ran.stdout, ran.returncode) == ("done\n", 0)
