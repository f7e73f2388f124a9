"""The examples as a user runs them; the one of a packed model also where PyTorch is not installed."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from support.boards import board
from support.networks import packed_network
from support.signals import write_npz

from biper import binarize_, export, set_stage_
from biper.data.digits import load_digits
from biper.runtime import Model
from biper.runtime.reader import read_program

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of own_model.py, and two test images as pictures named by their labels, such as 3.png."""
    folder = tmp_path_factory.mktemp("examples")
    command = [sys.executable, ROOT / "examples/own_model.py", "--out", folder / "digits.biper"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # two that share a core with other tests wait for each other
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=one_thread).stdout
    accuracy = re.findall(r"^(relaxed|binary): ([\d.]+)% of 360 test images", text, re.MULTILINE)
    assert [name for name, _ in accuracy] == ["relaxed", "binary"]
    assert float(accuracy[1][1]) > 93
    test = load_digits().test
    for index in (0, 1):
        pixels = test.images[index].squeeze(-1).numpy()
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(
            folder / f"{int(test.labels[index])}.png"
        )
    return folder


def check_predictions(python: Path | str, folder: Path, *flags: str) -> None:
    pictures = sorted(folder.glob("*.png"))
    command = [python, *flags, ROOT / "examples/run_packed.py", folder / "digits.biper", *pictures]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    best = re.findall(r"(\d)\.png  (\d) ", run.stdout)
    assert len(best) == len(pictures)
    assert all(label == found for label, found in best), run.stdout
    assert "slowest operation" in run.stdout


def test_a_packed_model_of_ones_own_runs_without_importing_torch(made: Path) -> None:
    check_predictions(sys.executable, made)


@pytest.mark.slow
def test_a_packed_model_of_ones_own_runs_where_torch_is_not_installed(made: Path, tmp_path: Path) -> None:
    """The base package is built and installed into a fresh virtual environment, which takes a few minutes."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", ROOT]
    subprocess.run(install, check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0
    check_predictions(python, made)
    verbs = (
        ["predict", "digits.biper", *map(str, made.glob("*.png"))],
        ["bench", "digits.biper", "--json"],
        ["inspect", "digits.biper"],
    )
    for verb in verbs:
        run = subprocess.run([tmp_path / "venv/bin/biper", *verb], capture_output=True, text=True, cwd=made)
        assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def segmentation() -> ModuleType:
    """The module examples/segmentation.py."""
    spec = importlib.util.spec_from_file_location("segmentation", ROOT / "examples/segmentation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_u_net_is_packed_equal_and_its_map_becomes_a_picture(segmentation: ModuleType, tmp_path: Path) -> None:
    """Trained for a few steps, so that the test is quick; the next test runs the whole example."""
    random = np.random.default_rng(0)
    model, (images, labels) = segmentation.UNet(width=8), segmentation.batch(random, 8)
    binarize_(model, example=images)
    set_stage_(model, "binary")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    normalization = segmentation.MEAN, segmentation.STD
    report = export(
        model.eval(), tmp_path / "m.biper", images, classes=segmentation.CLASSES, normalization=normalization
    )
    assert report.problems() == []
    packed = Model.load(tmp_path / "m.biper")
    assert packed.classes == segmentation.CLASSES
    pixels, _ = segmentation.draw(random)
    Image.fromarray(pixels).save(tmp_path / "shapes.png")
    inputs = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    with torch.inference_mode():
        expected = model(inputs)[0].numpy()
    (found,) = packed.predict_maps([tmp_path / "shapes.png"])
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    found.save(tmp_path / "map.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "map.png")), found.labels)


@pytest.mark.slow
def test_the_segmentation_example_finds_the_shapes(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples/segmentation.py", "--out", tmp_path / "shapes.biper"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    scores = dict(re.findall(r"^(relaxed|binary): mean intersection over union ([\d.]+)", text, re.MULTILINE))
    assert float(scores["binary"]) > 0.8
    predict = ["predict", "shapes.biper", "shapes.png", "--out", "map.png"]
    subprocess.run([sys.executable, "-m", "biper", *predict], cwd=tmp_path, check=True)
    found, truth = (np.asarray(Image.open(tmp_path / name)) for name in ("map.png", "shapes-truth.png"))
    assert (found == truth).mean() > 0.95


@pytest.mark.parametrize(
    ("name", "form", "most"),
    [
        pytest.param("cortex-m3", "float32", 1e7, marks=pytest.mark.slow),
        ("cortex-m3", "integer-only", 1e6),
        pytest.param("riscv32", "integer-only", 1.2e6, marks=pytest.mark.slow),
        pytest.param("riscv32-zbb", "integer-only", 1e6, marks=pytest.mark.slow),
    ],
)
def test_a_board_classifies_as_the_runtime_does(name: str, form: str, most: float, tmp_path: Path) -> None:
    """The model is exported, compiled, linked for 128 KiB and 64 KiB, and run on the emulated board."""
    board(name)
    packed_network(tmp_path, "digits_cnn", "digits")
    script = [sys.executable, ROOT / "examples/cortex_m/run.py", tmp_path / "network.biper", "--images", "12"]
    options = ["--board", name, "--build", tmp_path / "build"]
    options += ["--integer-only"] if form == "integer-only" else []
    text = subprocess.run([*script, *options], capture_output=True, text=True, check=True).stdout
    found = re.search(r"^12 of 12 as expected, \d+ right, (\d+) instructions an image$", text, re.MULTILINE)
    assert found, text
    assert 5e5 < int(found[1]) < most


def signals(data: Path, out: Path, *options: str) -> tuple[int, int]:
    """How many test signals the network of signals.py has right, and of how many."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", ["signals.py", str(data), "--out", str(out), *options])
        runpy.run_path(str(ROOT / "examples/signals.py"), run_name="__main__")
    found = re.search(r"classes: (\d+) of (\d+) right", printed.getvalue())
    assert found is not None, printed.getvalue()
    return int(found[1]), int(found[2])


def test_signals_become_c(tmp_path: Path) -> None:
    epochs = ["--set", "stage1.epochs=6", "--set", "stage2.epochs=4"]
    right, count = signals(write_npz(tmp_path / "s.npz", 48), tmp_path / "run", *epochs)
    assert right > 0.8 * count
    assert "void network_run(const float input[" in (tmp_path / "run" / "network.h").read_text()


def test_a_cortex_m3_classifies_signals_as_the_runtime_does(tmp_path: Path) -> None:
    board("cortex-m3")
    data = write_npz(tmp_path / "s.npz", 48)
    signals(data, tmp_path / "run", "--set", "stage1.epochs=1", "--set", "stage2.epochs=1")
    script = [
        sys.executable,
        ROOT / "examples/cortex_m/run.py",
        tmp_path / "run",
        "--data",
        "signals",
        "--data-dir",
        data,
    ]
    options = ["--integer-only", "--images", "12", "--build", tmp_path / "build"]
    text = subprocess.run([*script, *options], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^12 of 12 as expected, \d+ right", text, re.MULTILINE), text


@pytest.mark.slow
def test_real_signals_are_classified_as_well_as_in_full_precision(timeseries: Path, tmp_path: Path) -> None:
    vowels = timeseries / "JapaneseVowels_eq"
    (bits, count), (real, _) = signals(vowels, tmp_path / "bits"), signals(vowels, tmp_path / "float", "--float")
    assert count == 370
    assert bits >= real - 0.02 * count
    motions = timeseries / "BasicMotions"
    (bits, count), (real, _) = signals(motions, tmp_path / "b"), signals(motions, tmp_path / "f", "--float")
    assert count == 40
    assert bits >= real - 1


def transformer(out: Path, *options: str) -> float:
    """The test accuracy of vision_transformer.py, from 0 to 1."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", ["vision_transformer.py", "--out", str(out), *options])
        runpy.run_path(str(ROOT / "examples/vision_transformer.py"), run_name="__main__")
    found = re.search(r"test accuracy of the last epoch: ([0-9.]+)%", printed.getvalue())
    assert found is not None, printed.getvalue()
    assert re.search(r"\n12 of \d+ layers and", printed.getvalue())
    return float(found[1]) / 100


def test_a_vision_transformer_learns_and_is_packed(tmp_path: Path) -> None:
    accuracy = transformer(tmp_path / "run", "--set", "stage1.epochs=2", "--set", "stage2.epochs=1")
    assert accuracy > 0.3
    program = read_program(tmp_path / "run" / "model.biper")
    assert sum(op.operation == "binary_convolution" for op in program.operations) == 12
    assert {"softmax", "matmul", "normalize"} <= {op.operation for op in program.operations}


@pytest.mark.slow
def test_a_vision_transformer_reaches_its_accuracy(tmp_path: Path) -> None:
    assert transformer(tmp_path / "run") >= 0.9
