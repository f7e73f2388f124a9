"""Finds twelve spoken words on a microcontroller: speech, features, a 1-bit network, and a recording on a board.

    python examples/keyword_spotting/run.py [--out runs/keywords]
    python examples/keyword_spotting/run.py --out runs/keywords-float --float
    python examples/keyword_spotting/run.py --out runs/keywords --listen --board riscv32

The speech is synthetic, by espeak-ng, and the voices of the test are not those of training. With --float the same
network is trained in full precision, to compare. With --listen a trained network only listens to the recording. Needs
espeak-ng, and for the recording the tools of the board (examples/cortex_m/boards.py).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cortex_m")]

import mel  # noqa: E402
import speech  # noqa: E402
from boards import BOARDS, Board  # noqa: E402

import biper  # noqa: E402
from biper.targets.c.fixed_reference import run_fixed  # noqa: E402
from biper.targets.c.to_fixed_point import to_fixed_point  # noqa: E402
from biper.targets.deploy import OpenedProgram, open_program, write_c  # noqa: E402

SAID = ("yes", "water", "left", "go", "music", "stop", "on", "seven", "light", "up")
"""What the recording has: words that are to be found, and three others."""

RUN_EVERY = 10
"""The network runs once for so many frames: five times in a second."""

SURE = 2
"""A word is found where the network says it so many times in a row."""


class Block(nn.Module):
    """A convolution over time and what went around it: (N, C, L) to (N, C, L)."""

    def __init__(self, width: int, kernel: int = 5) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both, then relu."""
        return F.relu(x + self.norm(self.convolution(x)))


def network(width: int = 96, blocks: int = 4) -> nn.Module:
    """Features (N, 32, L) to logits (N, 13): a first convolution with stride 2, blocks, and the mean over time."""
    first = nn.Conv1d(mel.BANDS, width, 3, stride=2, padding=1, bias=False)
    head = (nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, len(speech.CLASSES)))
    return nn.Sequential(first, nn.BatchNorm1d(width), nn.ReLU(), *(Block(width) for _ in range(blocks)), *head)


def numbers(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """What the network reads, of clips (N, 16000): float32 (N, 32, 49)."""
    made = np.stack([mel.features(clip) for clip in samples])
    return ((made - mel.OFFSET) / 2**mel.UNIT).astype(np.float32).transpose(0, 2, 1)


def train(options: argparse.Namespace) -> None:
    """Speak, and train the network."""
    data = []
    for split, each, placements in (("train", options.each, 3), ("test", max(options.each // 4, 1), 1)):
        print(f"speaking the words of the {split} split", flush=True)
        made = speech.clips(split, each, placements=placements, seed=options.seed)
        data.append((numbers(made.samples), made.labels))
    torch.manual_seed(options.seed)
    changes = [f"seed={options.seed}", f"model.bits={'W32A32' if options.real else 'W1A1'}"]
    result = biper.fit(
        network(),
        *data,
        out=options.out,
        classes=speech.CLASSES,
        device="cpu",
        pack=not options.real,
        overrides=[*changes, *options.set],
    )
    final = result.summary.final.score
    right = round(final.accuracy * result.summary.scored_images)
    print(f"{right} of {result.summary.scored_images} clips of voices that were never heard: {final.accuracy:.2%}")


def listen(folder: Path, board: Board) -> None:
    """Run a trained network on the recording, on the board and in NumPy, and compare."""
    recorded = speech.recording(SAID)
    opened = open_program(folder / "model.biper")
    build = folder / "board"
    build.mkdir(exist_ok=True)
    _, text = write_c(opened, build / "model.c", integer_only=True)
    print(text)
    runs, outputs, factor = expected(opened, recorded)
    (build / "tables.h").write_text(mel.tables_header())
    (build / "recording.h").write_text(recording_header(recorded, len(runs), factor))
    sources = [build / name for name in ("stream.c", "mel.c", "model.c")]
    for name in ("stream.c", "mel.c", "mel.h"):
        shutil.copy(HERE / name, build)
    board.build(sources, build / "stream.elf", "-O2", whole=True)  # the recording takes more than 128 KiB
    lines = board.run(build / "stream.elf", capture=True).stdout.splitlines()
    said = list(map(int, lines[0].split()))
    found = dict(line.split() for line in lines[1:])
    equal = said == list(runs) and int(found["hash"]) == hash_of(outputs)
    print(f"the board computes {'the same' if equal else 'OTHER'} integers as NumPy in {len(runs)} runs of the network")
    features = int(found["features"]) * mel.RATE // mel.HOP
    network_took = int(found["network"]) * (mel.RATE // mel.HOP) // RUN_EVERY
    print(f"instructions a second: features {features:,}, network {network_took:,} ({RUN_EVERY} frames apart)")
    subprocess.run([f"{board.tools}-size", build / "stream.elf"], check=True)
    print(f"said: {' '.join(SAID)}")
    print(f"found: {' '.join(words_of(said))}")
    if not equal:
        raise SystemExit(1)


def expected(opened: OpenedProgram, recorded: NDArray[np.int16]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """What the board is to say: the class of each run, all outputs, and what features are multiplied by."""
    fixed = to_fixed_point(opened.program, opened.images)
    heard = mel.features(recorded)
    starts = range(0, len(heard) - mel.FRAMES + 1, RUN_EVERY)
    windows = np.stack([heard[start : start + mel.FRAMES] for start in starts])
    given = ((windows - mel.OFFSET) / 2**mel.UNIT).transpose(0, 2, 1)[:, :, None]
    outputs = run_fixed(fixed, given)[opened.program.output].reshape(len(windows), -1)
    return outputs.argmax(1), outputs, 2 ** (fixed.exponents["image"] - mel.UNIT)


def recording_header(recorded: NDArray[np.int16], runs: int, factor: int) -> str:
    """A C header with the recording."""
    frames = (len(recorded) - mel.FRAME) // mel.HOP + 1
    sizes = f"RECORDED_FRAMES = {frames}, RUN_EVERY = {RUN_EVERY}, NETWORK_RUNS = {runs}, INPUT_FACTOR = {factor}"
    samples = ", ".join(map(str, recorded))
    return (
        f"#include <stdint.h>\n\nenum {{ {sizes} }};\n"
        f"static const int16_t recording[{len(recorded)}] = {{{samples}}};\n"
    )


def hash_of(outputs: NDArray[np.int64]) -> int:
    """The hash of all outputs that the board prints (FNV-1a of numbers of 16 bits)."""
    made = 2166136261
    for number in outputs.reshape(-1).tolist():
        made = (made ^ (number & 0xFFFF)) * 16777619 % 2**32
    return made


def words_of(classes: Sequence[int]) -> list[str]:
    """The words that were found: those that were said at least `SURE` times in a row."""
    runs = [(speech.CLASSES[key], len(list(group))) for key, group in groupby(classes)]
    return [word for word, count in runs if word != speech.NOTHING and count >= SURE]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/keywords"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=200, help="how often each word is spoken for training")
    parser.add_argument("--float", action="store_true", dest="real", help="train in full precision, and do not listen")
    parser.add_argument("--listen", action="store_true", help="do not train")
    parser.add_argument("--board", choices=BOARDS, default="cortex-m3", help="the emulated board")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    options = parser.parse_args()
    board = BOARDS[options.board]
    missing = None if shutil.which("espeak-ng") else "espeak-ng"
    missing = missing or (None if options.real else board.missing())
    if missing:
        raise SystemExit(f"{missing} is not installed")
    if not options.listen:
        train(options)
    if not options.real:
        listen(options.out, board)


if __name__ == "__main__":
    main()
