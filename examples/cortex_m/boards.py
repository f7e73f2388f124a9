"""The emulated boards: how a program is compiled for each, and how it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
FREESTANDING = ("-ffreestanding", "-ffunction-sections", "-fdata-sections", "-nostdlib", "-Wl,--gc-sections")
TEXT = ("-chardev", "stdio,id=text", "-semihosting-config", "enable=on,target=native,chardev=text")
QUIET = ("-display", "none", "-serial", "none", "-monitor", "none")

PROFILE = "-DBOARD_PROFILE"
"""The flag of the compiler with which a program that `profiled` made prints its counts."""


@dataclass(frozen=True)
class Board:
    """An emulated board.

    Attributes:
        tools: the prefix of the compiler and its tools.
        processor: flags of the compiler that name the processor.
        emulator: the emulator's program, and its arguments that name the board.
        folder: of its ``board.c``, ``startup.c`` and ``link.ld``.
        memory: how much flash and how much RAM it has at least.
    """

    tools: str
    processor: tuple[str, ...]
    emulator: tuple[str, ...]
    folder: Path
    memory: str = "4M"

    @property
    def programs(self) -> tuple[str, str]:
        """The compiler and the emulator."""
        return f"{self.tools}-gcc", self.emulator[0]

    def missing(self) -> str | None:
        """The first of the programs that is not installed."""
        return next((name for name in self.programs if shutil.which(name) is None), None)

    def build(self, sources: Sequence[Path], image: Path, *flags: str, whole: bool = False) -> None:
        """Compile and link sources with the functions of the board.

        Args:
            sources: C files; headers beside them are found.
            image: the file to write.
            flags: further flags of the compiler, such as ``-O2``.
            whole: take all memory of the board in place of 128 KiB of flash and 64 KiB of RAM.

        Raises:
            CalledProcessError: the compiler refuses.
        """
        own = [self.folder / "startup.c", self.folder / "board.c", HERE / "report.c"]
        include = [f"-I{folder}" for folder in (HERE, *dict.fromkeys(source.parent for source in sources))]
        link = (self.folder / "link.ld").read_text()
        script = image.with_suffix(".ld")
        script.write_text(link.replace("128K", self.memory).replace("64K", self.memory) if whole else link)
        command = [self.programs[0], *self.processor, *WARNINGS, *FREESTANDING, *flags, *include, f"-Wl,-T,{script}"]
        subprocess.run([*command, "-o", image, *own, *sources, "-lgcc"], check=True)

    def run(self, image: Path, *, capture: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a program until it ends, with a clock that advances with the instructions."""
        command = [*self.emulator, *QUIET, *TEXT, "-icount", "shift=0", "-kernel", image]
        return subprocess.run(command, capture_output=capture, text=True)


def _riscv(march: str, zbb: bool) -> Board:
    features = ",".join(f"{name}=false" for name in ("f", "d", "zba", "zbc", "zbs"))
    processor = f"rv32,{features},zbb={'true' if zbb else 'false'}"
    return Board(
        "riscv64-unknown-elf",
        (f"-march={march}_zicsr", "-mabi=ilp32"),
        ("qemu-system-riscv32", "-M", "virt", "-bios", "none", "-cpu", processor),
        HERE / "riscv32",
    )


def _cortex(processor: str, machine: str, *flags: str, memory: str = "4M") -> Board:
    flags = (f"-mcpu={processor}", "-mthumb", *flags)
    return Board("arm-none-eabi", flags, ("qemu-system-arm", "-M", machine), HERE, memory)


BOARDS = {
    "cortex-m3": _cortex("cortex-m3", "mps2-an385"),
    "cortex-m4": _cortex("cortex-m4", "mps2-an386"),
    "cortex-m7": _cortex("cortex-m7", "mps2-an500"),
    "cortex-m55": _cortex("cortex-m55", "mps3-an547", "-mfloat-abi=hard", memory="512K"),
    "riscv32": _riscv("rv32imac", zbb=False),
    "riscv32-zbb": _riscv("rv32imac_zbb", zbb=True),
}
"""The boards by name: a Cortex-M3, M4, M7 and M55, the last with vector instructions (MVE); a 32-bit RISC-V, and one
with the extension Zbb, which has an instruction that counts bits."""


def profiled(source: str) -> str:
    """C source that counts the instructions of each operation after its call."""
    counted = re.sub(r"^ +(\w+)\(&(op\w+)(.*)\);$", r'\g<0> board_profile("\1 \2");', source, flags=re.MULTILINE)
    return '#include "board.h"\n' + counted
