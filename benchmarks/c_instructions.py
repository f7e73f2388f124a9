"""Fit the costs of `biper.targets.c.costs` to counts of an emulated board, and say how far it is from them.

    python benchmarks/c_instructions.py

Programs of a few layers of random sizes are written in integers alone, compiled with ``-O2`` and run for one image;
their counts are what the costs are fitted to. The counts of networks, which the fit does not see, are compared with
what the model says. Needs arm-none-eabi-gcc and qemu-system-arm.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from c_random_programs import array_program, flat_program, random_program

import biper
from biper.runtime.pretrained import pretrained_file
from biper.runtime.program import Program
from biper.runtime.reader import read_program
from biper.targets.c.fixed_point import IMAGE
from biper.targets.c.instructions import Call
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "cortex_m"
sys.path.insert(0, str(EXAMPLE))
from boards import BOARDS, PROFILE, profiled  # noqa: E402

SEVERAL_CALLS = ("-fno-inline-functions-called-once", "-fno-ipa-cp")
"""Flags with which an operator that is called once is compiled as one that is called several times.

Otherwise the compiler uses the sizes of the only call, and takes more or fewer instructions, as it happens. Only the
convolution of pixels is always called once."""

MAIN = """\
#include "board.h"
#include "model.h"

static const {kind} input[{size}] = {{1}};
static int16_t output[MODEL_OUTPUTS];

int main(void)
{{
    board_profile_start();
    model_run(input, output);
    board_profile_print();
    return 0;
}}
"""


def main() -> None:
    """Print the costs, and the errors of the fit and on networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=60, help="how many random programs to fit to")
    parser.add_argument("--board", choices=BOARDS, default="cortex-m3")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    counts: dict[str, list[tuple[dict[str, float], int]]] = defaultdict(list)
    for index in range(options.programs):
        alone = index % 3 == 0
        flags = () if alone else SEVERAL_CALLS
        for call, count in counted(random_program(random), options.board, *flags, small=random.random() < 0.3):
            if alone == (call.operator == "pixel_convolution"):
                counts[call.operator].append((call.parts(), count))
    counts.pop("read_pixels", None)
    for _ in range(options.programs // 8):
        for call, count in counted(flat_program(random), options.board):
            if call.operator in ("read_pixels", "flatten"):
                counts[call.operator].append((call.parts(), count))
    for _ in range(3 * options.programs):
        made = counted(array_program(random), options.board)
        for call, count in made:
            if call.of_arrays is not None and sum(call.operator == other.operator for other, _ in made) > 1:
                counts[call.operator].append((call.parts(), count))
    costs = {operator: fitted(rows) for operator, rows in sorted(counts.items())}
    for operator, rows in sorted(counts.items()):
        errors = [abs(said(costs[operator], parts) / count - 1) for parts, count in rows]
        print(f"# {operator}: {len(rows)} calls, median error {np.median(errors):.1%}, largest {max(errors):.1%}")
    print("COSTS = {")
    for operator, found in costs.items():
        print(f'    "{operator}": {{{", ".join(f"{key!r}: {cost:.4g}" for key, cost in found.items() if cost)}}},')
    print("}\n\n| network | measured | model | error |\n| --- | --- | --- | --- |")
    for name, program in networks():
        made = counted(program, options.board)
        total = sum(count for _, count in made)
        model = sum(said(costs.get(call.operator, {}), call.parts()) for call, _ in made)
        print(f"| {name} | {total:,} | {model:,.0f} | {model / total - 1:+.1%} |", flush=True)


def counted(program: Program, board: str, *flags: str, small: bool = False) -> list[tuple[Call, int]]:
    """The calls of a program, with the instructions that each takes for one image; see `c_source` for ``small``.

    Magnitudes are those of random images, so that sums of signs are finished as in a trained network.
    """
    images = np.random.default_rng(0).standard_normal((2, *program.input_shape), np.float32)
    fixed = to_fixed_point(program, images)
    source = c_source(program, fixed=fixed, small=small)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "model.h").write_text(source.header)
        (path / "model.c").write_text(profiled(source.source))
        kind = "int16_t" if IMAGE in fixed.program.inputs else "uint8_t"
        (path / "main.c").write_text(MAIN.format(kind=kind, size=int(np.prod(program.input_shape))))
        BOARDS[board].build([path / "main.c", path / "model.c"], path / "model.elf", "-O2", PROFILE, *flags, whole=True)
        text = BOARDS[board].run(path / "model.elf", capture=True).stdout
    numbers = [int(number) for number in re.findall(r"^(\d+) \w+ op\w+$", text, re.MULTILINE)]
    return list(zip(source.made, numbers, strict=True))


def said(costs: dict[str, float], parts: dict[str, float]) -> float:
    """What a model says."""
    return sum(costs.get(part, 0.0) * count for part, count in parts.items())


def fitted(rows: list[tuple[dict[str, float], int]]) -> dict[str, float]:
    """Costs, none of them negative, with the least squares of errors relative to the square roots of the counts."""
    names = sorted({name for parts, _ in rows for name in parts})
    roots = np.sqrt([count for _, count in rows])
    table = np.array([[parts.get(name, 0.0) for name in names] for parts, _ in rows]) / roots[:, None]
    kept = list(range(len(names)))
    while True:
        found = np.linalg.lstsq(table[:, kept], roots, rcond=None)[0]
        if found.min() >= 0:
            break
        del kept[int(found.argmin())]
    costs = dict.fromkeys(names, 0.0) | {names[index]: float(cost) for index, cost in zip(kept, found, strict=True)}
    return {name: float(f"{cost:.4g}") for name, cost in costs.items()}


class Gated(torch.nn.Module):
    """Convolutions, each with a gate that its means over all pixels open (squeeze and excitation), and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        widths = [(1, 16), (16, 32), (32, 32)]
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(few, many, 3, padding=1) for few, many in widths)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(many) for _, many in widths)
        self.gates = torch.nn.ModuleList(torch.nn.Linear(many, many) for _, many in widths)
        self.last = torch.nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) to (N, 10)."""
        for layer, norm, gate in zip(self.layers, self.norms, self.gates, strict=True):
            x = norm(layer(x))
            x = x * torch.sigmoid(gate(x.mean((2, 3))))[:, :, None, None]
        return torch.softmax(self.last(x.amax((2, 3))), 1)


def networks() -> Iterator[tuple[str, Program]]:
    """Networks by name: those that come with biper, and others with random weights."""
    for name in ("digits-cnn", "cifar10-resnet20"):
        yield name, read_program(pretrained_file(name))
    others = [
        ("digits_cnn", "digits", "W1A32", "biper"),
        ("resnet18a", "cifar10", "W1A1", "biper"),
        ("vgg_small", "cifar10", "W1A1", "biper"),
        ("resnet20", "cifar10", "W1A1", "reactnet"),
    ]
    sys.path.insert(0, str(EXAMPLE.parent))
    transformer = importlib.import_module("vision_transformer").VisionTransformer
    torch.manual_seed(0)
    own = {"the transformer of `examples/vision_transformer.py`": transformer(), "a gated network": Gated()}
    for name, model in own.items():
        images = torch.randn(16, 1, 8, 8)
        biper.binarize_(model, example=images)
        model = biper.set_stage_(model, "binary")
        model(images)
        yield f"{name}, random weights", packed(model.eval(), images)
    for name, dataset, bits, method in others:
        torch.manual_seed(0)
        model = biper.create_model(name, dataset=dataset, bits=bits, method=method)
        model = biper.set_stage_(model, "binary")
        images = torch.randn(4, *((1, 8, 8) if dataset == "digits" else (3, 32, 32)))
        model(images)
        yield f"{name}, {bits}, {method}", packed(model.eval(), images)


def packed(model: torch.nn.Module, images: torch.Tensor) -> Program:
    """The program of a model."""
    normalization = [0.5] * images.shape[1], [0.25] * images.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        biper.export(model, Path(folder) / "network.biper", images, normalization=normalization)
        return read_program(Path(folder) / "network.biper")


if __name__ == "__main__":
    main()
