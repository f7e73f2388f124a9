"""MLPerf Tiny, image classification: a packed network behind the benchmark's serial protocol, on an emulated board.

    python examples/mlperf_tiny/run.py cifar10-resnet20 --data-dir DATA --board cortex-m4

Prints the accuracy on test images, flash, RAM and the instructions of an inference. The emulator counts instructions,
not cycles, so its figures are not those of the benchmark, which needs a real board. Needs arm-none-eabi-gcc and
qemu-system-arm.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cortex_m"))

from boards import BOARDS, Board  # noqa: E402

from biper.cli.paths import model_file  # noqa: E402
from biper.data import load_dataset  # noqa: E402
from biper.runtime.model import Model  # noqa: E402
from biper.targets.deploy import open_program, write_c  # noqa: E402

BYTES_A_COMMAND = 38
"""A command has up to 80 characters: ``db``, a blank, and two digits for each byte."""


class Device:
    """A board that serves the protocol.

    Args:
        board: the board.
        image: the program.
    """

    def __init__(self, board: Board, image: Path) -> None:
        quiet = ("-display", "none", "-monitor", "none", "-serial", "stdio")
        command = [*board.emulator, *quiet, "-icount", "shift=0", "-kernel", str(image)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self) -> list[str]:
        """The lines before the device is ready for a command.

        Raises:
            RuntimeError: the device ended, or says that something is wrong.
        """
        lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("e-"):
                raise RuntimeError(f"the device says {line.strip()}")
            if line.strip() == "m-ready":
                return lines
            lines.append(line.strip())
        raise RuntimeError(f"the device ended after {lines[-3:]}")

    def ask(self, command: str) -> list[str]:
        """The lines that answer a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}%")
        self.process.stdin.flush()
        return self.read()

    def load(self, pixels: np.ndarray) -> None:
        """Load the bytes of an image."""
        data = pixels.tobytes()
        self.ask(f"db load {len(data)}")
        for start in range(0, len(data), BYTES_A_COMMAND):
            self.ask(f"db {data[start : start + BYTES_A_COMMAND].hex()}")

    def infer(self, count: int, warm_up: int) -> tuple[list[float], int]:
        """The outputs, and the microseconds that so many inferences took together."""
        lines = self.ask(f"infer {count} {warm_up}")
        begin, end = (int(line.removeprefix("m-lap-us-")) for line in lines if line.startswith("m-lap-us-"))
        (results,) = (line for line in lines if line.startswith("m-results-["))
        return [float(number) for number in re.findall(r"-?\d+\.\d+", results.removeprefix("m-results-"))], end - begin

    def end(self) -> None:
        """Switch the board off."""
        self.process.kill()
        self.process.communicate()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder, a packed file, or one that comes with biper, of 32 x 32 pictures")
    boards = ["cortex-m3", "cortex-m4", "cortex-m7"]  # those with the serial port and the timer of submitter.c
    parser.add_argument("--board", choices=boards, default="cortex-m4")
    parser.add_argument("--images", type=int, default=200, help="how many test images, the first of CIFAR-10")
    parser.add_argument("--calibrate", type=int, metavar="N", help="measure magnitudes on the first N training images")
    parser.add_argument("--value-bits", type=int, choices=(16, 32), default=16, help="bits of values between layers")
    parser.add_argument("--whole", action="store_true", help="take all memory of the emulated board")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--build", type=Path, default=Path("build/mlperf_tiny"), help="where to build")
    options = parser.parse_args()
    board = BOARDS[options.board]
    if tool := board.missing():
        raise SystemExit(f"{tool} is not installed: the board {options.board} needs it")
    folder = Path(options.model)
    opened = open_program(folder / "model.biper" if folder.is_dir() else model_file(folder))
    if opened.program.input_shape != (3, 32, 32) or len(opened.program.classes) != 10:
        raise SystemExit("the benchmark classifies pictures of 32 x 32 x 3 into 10 classes; this network does not")
    data = load_dataset("cifar10", options.data_dir, classes=opened.program.classes)
    test = data.test
    if options.calibrate:
        seen = Model(opened.program).normalized(data.train.images[: options.calibrate].numpy())
        opened = replace(opened, images=seen)
    options.build.mkdir(parents=True, exist_ok=True)
    _, text = write_c(opened, options.build / "model.c", integer_only=True, value_bits=options.value_bits)
    print(text.splitlines()[0])
    for name in ("harness.c", "submitter.c", "submitter.h"):
        shutil.copy(HERE / name, options.build)
    sources = [options.build / name for name in ("harness.c", "submitter.c", "model.c")]
    output = f"-DOUTPUT=int{options.value_bits}_t"
    board.build(sources, options.build / "device.elf", "-O2", output, whole=options.whole)
    subprocess.run([f"{board.tools}-size", options.build / "device.elf"], check=True)
    device = Device(board, options.build / "device.elf")
    try:
        print(*device.ask("name"), *device.ask("profile"))
        right = 0
        for image, label in zip(test.images[: options.images].numpy(), test.labels[: options.images], strict=True):
            device.load(image)
            outputs, _ = device.infer(1, 0)
            right += int(np.argmax(outputs)) == int(label)
        print(f"accuracy: {right} of {options.images} ({right / options.images:.2%})")
        _, took = device.infer(10, 1)
        print(f"{took * 100:,} instructions an inference")  # the clock advances by a nanosecond with each
    finally:
        device.end()


if __name__ == "__main__":
    main()
