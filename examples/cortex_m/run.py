"""Runs a model on a microcontroller: exports it to C, links it with test images, runs it on an emulated board.

    python examples/cortex_m/run.py runs/quickstart --integer-only
    python examples/cortex_m/run.py runs/quickstart --integer-only --board riscv32
    python examples/cortex_m/run.py runs/motions --data signals --data-dir motions.npz --integer-only

Needs arm-none-eabi-gcc and qemu-system-arm for the Cortex-M3, riscv64-unknown-elf-gcc and qemu-system-riscv32 for
RISC-V. For a real board, change `board.c`, `startup.c` and `link.ld` of `boards.py`.
"""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from boards import BOARDS, HERE, PROFILE, profiled

from biper.cli.paths import model_file
from biper.data import load_dataset
from biper.data.transforms import normalize
from biper.runtime.model import Model
from biper.runtime.program import Program
from biper.targets.c.fixed_reference import run_fixed
from biper.targets.c.to_fixed_point import to_fixed_point
from biper.targets.deploy import OpenedProgram, open_program, write_c


def main() -> None:
    """Export, build and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder, a model.safetensors, a packed file, or one that comes with biper")
    parser.add_argument("--board", choices=BOARDS, default="cortex-m3", help="the emulated board")
    parser.add_argument("--integer-only", action="store_true", help="no floating point")
    parser.add_argument("--value-bits", type=int, choices=(16, 32), default=16, help="in integers: bits of values")
    parser.add_argument("--images", type=int, default=100, help="how many test images to link")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--build", type=Path, default=Path("build/cortex_m"), help="where to build")
    parser.add_argument(
        "--profile", action="store_true", help="print the instructions of every operation, of all images"
    )
    parser.add_argument("--calibrate", type=int, metavar="N", help="measure magnitudes on the first N training images")
    parser.add_argument("--agreement", type=int, metavar="N", help="only compare integers with the runtime on N images")
    parser.add_argument("--whole", action="store_true", help="take all memory of the emulated board")
    options = parser.parse_args()

    board = BOARDS[options.board]
    if not options.agreement and (tool := board.missing()):
        raise SystemExit(f"{tool} is not installed: the board {options.board} needs it")
    folder = Path(options.model)
    opened = open_program(folder / "model.biper" if folder.is_dir() else model_file(folder))
    program = opened.program
    data = load_dataset(options.data, options.data_dir, classes=program.classes)
    test = data.test
    if options.calibrate:
        opened = replace(
            opened, images=Model(program).normalized(given_of(data.train.images[: options.calibrate], program))
        )
    if options.agreement:
        count = options.agreement
        print_agreement(opened, test.images[:count], test.labels[:count], options.value_bits)
        return
    samples, labels = test.images[: options.images], test.labels[: options.images].numpy()
    given = given_of(samples, program)
    expected = runtime = Model(program)(given).argmax(1)
    if options.integer_only:
        fixed = to_fixed_point(program, opened.images, value_bits=options.value_bits)
        expected = run_fixed(fixed, given)[program.output].reshape(len(given), -1).argmax(1)
        print(
            f"in integers {int((expected == runtime).sum())} of {len(given)} are classified as by the runtime",
            flush=True,
        )
    if samples.is_floating_point():
        given = given.transpose(0, 2, 3, 1)
        if options.integer_only:
            given = (
                np.rint(given * 2.0 ** fixed.exponents["image"]).clip(-32768, 32767).astype(f"int{options.value_bits}")
            )

    options.build.mkdir(parents=True, exist_ok=True)
    _, text = write_c(
        opened, options.build / "model.c", integer_only=options.integer_only, value_bits=options.value_bits
    )
    print(text, flush=True)
    if options.profile:
        model_c = options.build / "model.c"
        model_c.write_text(profiled(model_c.read_text()))
    number = f"int{options.value_bits}_t" if options.integer_only else "float"
    (options.build / "images.h").write_text(images_header(given, labels, expected, number))
    image = options.build / "model.elf"
    flags = ["-O2", *([PROFILE] if options.profile else [])]
    board.build([HERE / "main.c", options.build / "model.c"], image, *flags, whole=options.whole)
    subprocess.run([f"{board.tools}-size", str(image)], check=True)
    if board.run(image).returncode:
        raise SystemExit("the board has other classes than were expected")


def given_of(samples: torch.Tensor, program: Program) -> np.ndarray:
    """What the network is given: pixels as they are, numbers normalized; a signal is an image of height 1."""
    if not samples.is_floating_point():
        return samples.numpy()
    return normalize(samples, program.mean, program.std).numpy().reshape(len(samples), *program.input_shape)


def print_agreement(opened: OpenedProgram, samples: torch.Tensor, labels: torch.Tensor, value_bits: int) -> None:
    """Say on how many samples integers have the top-1 of the runtime, and how many each classifies right."""
    program = opened.program
    fixed, model = to_fixed_point(program, opened.images, value_bits=value_bits), Model(program)
    same = right = of_runtime = 0
    for start in range(0, len(samples), 50):
        part, expected = samples[start : start + 50], labels[start : start + 50].numpy()
        given = given_of(part, program)
        runtime = model(given).reshape(len(given), -1).argmax(1)
        integers = run_fixed(fixed, given)[program.output].reshape(len(given), -1).argmax(1)
        same += int((integers == runtime).sum())
        right += int((integers == expected).sum())
        of_runtime += int((runtime == expected).sum())
    print(f"{same} of {len(samples)} as by the runtime; right: integers {right}, runtime {of_runtime}")


def images_header(given: np.ndarray, labels: np.ndarray, answers: np.ndarray, number: str) -> str:
    """A C header with images or signals, as the function takes them, their labels and the expected answers.

    Args:
        given: what the function takes.
        labels: the true class of each.
        answers: the class that the function is to give.
        number: the C type of results.
    """
    rows = ",\n".join("    {" + ", ".join(map(str, image.reshape(-1))) + "}" for image in given)
    kind = "float" if given.dtype == np.float32 else f"{given.dtype}_t"
    lists = {name: ", ".join(map(str, numbers)) for name, numbers in (("labels", labels), ("answers", answers))}
    return (
        "#include <stdint.h>\n\n"
        f"enum {{ IMAGES = {len(given)} }};\n"
        f"typedef {number} result_t;\n"
        f"static const {kind} images[IMAGES][{given[0].size}] = {{\n{rows}}};\n"
        + "".join(f"static const uint16_t {name}[IMAGES] = {{{numbers}}};\n" for name, numbers in lists.items())
    )


if __name__ == "__main__":
    main()
