"""The example of keyword spotting: its features in C and in NumPy, its voices, and the whole road to a board."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.boards import BOARDS, board
from support.compiled import WARNINGS, require

import biper

EXAMPLE = Path(__file__).parents[2] / "examples" / "keyword_spotting"


@pytest.fixture(scope="module")
def mel() -> Iterator[ModuleType]:
    yield from imported("mel")


@pytest.fixture(scope="module")
def speech(mel: ModuleType) -> Iterator[ModuleType]:
    yield from imported("speech")


def imported(name: str) -> Iterator[ModuleType]:
    """A module of the example, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        yield importlib.import_module(name)
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def compiled(mel: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("mel")
    (folder / "tables.h").write_text(mel.tables_header())
    library = folder / "mel.so"
    flags = ["-O1", "-Wconversion", "-fsanitize=undefined", "-fno-sanitize-recover=all", "-shared", "-fPIC"]
    command = [require("gcc"), *WARNINGS, *flags, f"-I{folder}", f"-I{EXAMPLE}", "-o", str(library)]
    subprocess.run([*command, str(EXAMPLE / "mel.c")], check=True)
    return ctypes.CDLL(str(library))


def by_c(compiled: ctypes.CDLL, mel: ModuleType, samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The features of every frame, by C."""
    frames = (len(samples) - mel.FRAME) // mel.HOP + 1
    made = np.zeros((frames, mel.BANDS), np.int16)
    for frame in range(frames):
        addresses = samples.ctypes.data + 2 * mel.HOP * frame, made.ctypes.data + 2 * mel.BANDS * frame
        compiled.frame_features(ctypes.c_void_p(addresses[0]), int(frame == 0), ctypes.c_void_p(addresses[1]))
    return made


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 7, 300, 9_000, 32_767, 200_000]))
@settings(max_examples=40)
def test_features_in_c_are_those_of_numpy(compiled: ctypes.CDLL, mel: ModuleType, seed: int, level: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(1_500) * level
    samples = np.clip(np.rint(noise), -32768, 32767).astype(np.int16)
    assert np.array_equal(by_c(compiled, mel, samples), mel.features(samples))


def test_features_are_near_the_logarithms_of_real_energies(mel: ModuleType) -> None:
    random = np.random.default_rng(0)
    time = np.arange(mel.RATE) / mel.RATE
    tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in (150, 440, 1_000, 3_300))
    samples = np.rint(4_000 * tones + random.standard_normal(len(time)) * 1_000).astype(np.int16)
    before = np.concatenate([[0], samples[:-1].astype(np.float64)])
    emphasized = samples - before * 31 / 32
    starts = np.arange(mel.FRAMES) * mel.HOP
    frames = np.stack([emphasized[start : start + mel.FRAME] for start in starts]) * (mel.TABLES["hann"] / 2**13)
    power = np.abs(np.fft.rfft(frames)[:, : mel.FRAME // 2]) ** 2
    triangles = np.zeros((mel.FRAME // 2, mel.BANDS))
    for bin_, (band, rising) in enumerate(zip(mel.TABLES["band"], mel.TABLES["rising"], strict=True)):
        if 0 <= band < mel.BANDS:
            triangles[bin_, band] = rising
        if band > 0:
            triangles[bin_, band - 1] = 256 - rising
    assert triangles.sum(0).min() > 0
    real = 32 * np.log2(power @ triangles)
    assert np.abs(mel.features(samples) - real).max() < 1.5


def test_voices_of_training_and_of_test_are_apart(speech: ModuleType) -> None:
    assert not set(speech.VOICES["train"]) & set(speech.VOICES["test"])
    assert not set(speech.WORDS) & set(speech.OTHERS)
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    made = speech.clips("test", 1)
    assert made.samples.shape == (len(speech.WORDS) + 5, 16_000)
    assert made.labels.tolist() == [*range(12), *[12] * 5]
    again = speech.clips("test", 1)
    assert np.array_equal(made.samples, again.samples)
    with pytest.raises(RuntimeError, match="espeak-ng cannot say 'yes' with the voice nobody"):
        speech.spoken("yes", "nobody", 150, 50)


def test_a_board_computes_what_numpy_computes(
    speech: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained network listens to noise."""
    emulated = board("cortex-m3")
    spec = importlib.util.spec_from_file_location("keyword_spotting", EXAMPLE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(run)
    noise = np.random.default_rng(0).integers(-9_000, 9_000, 24_000).astype(np.int16)
    monkeypatch.setattr(speech, "recording", lambda _words: noise)
    network = run.network(width=16, blocks=1)
    biper.binarize_(network, example=torch.randn(4, 32, 49))
    biper.set_stage_(network, "binary")
    biper.export(network.eval(), tmp_path / "model.biper", torch.randn(4, 32, 49), classes=speech.CLASSES)
    run.listen(tmp_path, emulated)
    assert "the board computes the same integers as NumPy in 3 runs of the network" in capsys.readouterr().out


@pytest.mark.slow
def test_a_board_hears_what_numpy_hears(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    command = [sys.executable, str(EXAMPLE / "run.py"), "--out", str(tmp_path / "run")]
    short = ["--each", "10", "--set", "stage1.epochs=2", "--set", "stage2.epochs=1"]
    for place, name in enumerate(BOARDS):
        board(name)
        options = ["--board", name, *(["--listen"] if place else short)]
        text = subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout
        assert re.search(r"\nthe board computes the same integers as NumPy in \d\d runs of the network\n", text)
        assert re.search(r"\ninstructions a second: features [1-9,]+\d, network [1-9][\d,]+ ", text)
