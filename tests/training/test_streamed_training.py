"""Runs on images that are decoded as they are needed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Biper
from support import small_networks
from support.pictures import encoded, make_folder, make_tar, picture
from torch import nn

from biper import load_model, load_recipe, train
from biper.errors import CheckpointError, DataError, RecipeError, TrainingInterrupted
from biper.models import create_model
from biper.models.saved import ModelInfo, save_model
from biper.nn import BinaryConv2d
from biper.recipes.schema import Recipe, StageRecipe
from biper.runs.folder import RunFolder
from biper.training.optimizer import make_optimizer
from biper.training.progress import Progress

CLASSES = ("ant", "bee", "cat")
SMALL = [
    "data.image_size=32",
    "data.batch_size=6",
    "data.crop_scale=[0.3, 1.0]",
    "data.flip=true",
    "stage1.epochs=2",
    "stage2.epochs=1",
    "stage1.learning_rate=0.01",
]


def recipe(*changes: str) -> Recipe:
    """A recipe with three steps in an epoch, on 18 images of 32 pixels."""
    return load_recipe("imagenet-sample-short", [*SMALL, *changes])


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelInfo, "create", small_networks.small_network)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "data" / "train", CLASSES, 6)
    make_folder(tmp_path / "data" / "val", CLASSES, 1, seed=500)
    return tmp_path / "data"


def weights_hash(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


class StopAfter(Progress):
    """Requests a stop after this many steps, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, *_what: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.usefixtures("small_network")
def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bits(folder: Path, tmp_path: Path, kind: str) -> None:
    """The run is stopped within and at the end of epochs of both stages, and resumed with other numbers of workers."""
    data = folder
    if kind == "tar":
        for split in ("train", "val"):
            files = sorted((folder / split).rglob("*.JPEG"))
            members: dict[str, bytes] = {}
            for number, file in enumerate(files):
                label = CLASSES.index(file.parent.name)
                members |= {f"{number}.jpg": file.read_bytes(), f"{number}.cls": str(label).encode()}
            data = make_tar(tmp_path / "shards" / f"{split}.tar", members).parent
    changes = ["data.evaluate_on=test", "data.colour_jitter=0.2"]
    train(recipe(*changes), tmp_path / "whole", data_dir=data, device="cpu", workers=0)
    for steps, workers in ((2, 1), (1, 0), (4, 2)):
        with pytest.raises(TrainingInterrupted, match="resume=True"):
            train(
                recipe(*changes),
                tmp_path / "stopped",
                data_dir=data,
                device="cpu",
                workers=workers,
                resume=True,
                progress=StopAfter(steps),
            )
    train(recipe(*changes), tmp_path / "stopped", data_dir=data, device="cpu", workers=1, resume=True)
    assert weights_hash(tmp_path / "stopped") == weights_hash(tmp_path / "whole")
    timeless = [
        [{key: value for key, value in row.to_json().items() if key != "images_per_second"} for row in rows]
        for rows in (RunFolder(tmp_path / name).read_metrics() for name in ("stopped", "whole"))
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.usefixtures("small_network")
def test_a_run_does_not_go_on_with_other_images(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(recipe(), tmp_path / "run", data_dir=folder, device="cpu", workers=0, progress=StopAfter(2))
    (folder / "train" / "bee" / "3.JPEG").unlink()
    with pytest.raises(
        CheckpointError, match="18 training images, here are 17: resume with the same images, data_dir="
    ):
        train(recipe(), tmp_path / "run", data_dir=folder, device="cpu", workers=0, resume=True)


@pytest.mark.usefixtures("small_network")
def test_a_run_counts_its_unreadable_images_and_keeps_their_list(folder: Path, tmp_path: Path) -> None:
    for name in ("train/bee/3.JPEG", "val/cat/0.JPEG"):
        (folder / name).write_bytes(encoded(picture(0))[:100])
    changes = ["data.evaluate_on=test", "stage1.epochs=1", "data.max_unreadable=1"]
    with pytest.raises(DataError, match=r"more than 1 images .*, the last one .*cat/0\.JPEG.*max_unreadable=N"):
        train(recipe(*changes), tmp_path / "run", data_dir=folder, device="cpu", workers=0)
    changes[-1] = "data.max_unreadable=2"
    summary = train(recipe(*changes), tmp_path / "run", data_dir=folder, device="cpu", workers=0, resume=True)
    listed = (tmp_path / "run" / "unreadable.txt").read_text().splitlines()
    assert [line.split("\t")[0].removeprefix(f"{folder}/") for line in listed] == ["train/bee/3.JPEG", "val/cat/0.JPEG"]
    assert summary.scored_images == 2
    assert summary.final.score.accuracy in (0.0, 0.5, 1.0)


@pytest.mark.usefixtures("small_network")
def test_what_is_learned_of_classes_and_size_goes_with_the_model(folder: Path, tmp_path: Path) -> None:
    summary = train(recipe("data.evaluate_on=test"), tmp_path / "run", data_dir=folder, device="cpu", workers=0)
    _, info = load_model(tmp_path / "run" / "model.safetensors")
    assert (info.classes, info.num_classes, info.image_size) == (CLASSES, 3, 32)
    assert summary.scored_images == 3
    assert summary == RunFolder(tmp_path / "run").read_summary()


@pytest.mark.usefixtures("small_network")
def test_data_without_test_images_needs_a_recipe_that_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="have no test images"):
        train(recipe("data.evaluate_on=test"), tmp_path / "a", data_dir=folder / "train", device="cpu", workers=0)
    summary = train(recipe(), tmp_path / "b", data_dir=folder / "train", device="cpu", workers=0)
    assert summary.scored_images == 18
    row = RunFolder(tmp_path / "b").read_metrics()[-1]
    assert row.score.accuracy == summary.final.score.accuracy
    assert not any(key.startswith("test_") for key in (*row, *summary, *summary["stage2"]))


@pytest.mark.usefixtures("small_network")
def test_held_out_images_select_the_epoch(folder: Path, tmp_path: Path) -> None:
    changes = ["data.selection=held-out", "data.evaluate_on=test"]
    summary = train(recipe(*changes), tmp_path / "run", data_dir=folder, device="cpu", workers=0)
    assert summary.stages[0].selected_epoch in (1, 2)
    assert RunFolder(tmp_path / "run").read_metrics()[0].score.split == "held_out"


@pytest.mark.usefixtures("small_network")
def test_only_the_number_of_unreadable_images_may_change_in_a_run(folder: Path, tmp_path: Path) -> None:
    train(recipe(), tmp_path / "run", data_dir=folder, device="cpu", workers=0)
    with pytest.raises(RecipeError, match=r"data\.image_size was 32, is now 48"):
        train(recipe("data.image_size=48"), tmp_path / "run", data_dir=folder, device="cpu", workers=0, resume=True)


def test_weight_decay_can_be_for_weights_alone() -> None:
    model = create_model("resnet18", dataset="imagenet", num_classes=7)
    stage = StageRecipe(epochs=1, learning_rate=0.1, weight_decay=0.5, weight_decay_on="weights")
    groups = make_optimizer(model, stage).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, others = ({names[parameter] for parameter in group["params"]} for group in groups)
    assert decayed | others == set(names.values())
    assert not decayed & others
    kinds = {name: type(module) for name, module in model.named_modules()}
    assert {kinds[name.removesuffix(".weight")] for name in decayed} == {nn.Conv2d, BinaryConv2d, nn.Linear}
    assert {name.rsplit(".", 1)[1] for name in others} == {"weight", "bias", "scale"}
    assert {kinds[name.removesuffix(".weight")] for name in others if name.endswith("weight")} == {
        nn.BatchNorm1d,
        nn.BatchNorm2d,
    }
    (everything,) = make_optimizer(model, stage.model_copy(update={"weight_decay_on": "all"})).param_groups
    assert (len(everything["params"]), everything["weight_decay"]) == (len(names), 0.5)


def test_evaluating_a_saved_model_goes_by_its_own_classes_and_size(biper: Biper, folder: Path, tmp_path: Path) -> None:
    """The model has its classes in another order and always predicts the first of them, ``cat``."""
    classes = ("cat", "dog", "bee", "ant")
    info = ModelInfo("resnet18", "imagenet", 4, "W1A1", 20.0, (0.5,) * 3, (0.2,) * 3, classes, image_size=32)
    model = info.create()
    with torch.no_grad():
        model.fc.weight.zero_()
        model.fc.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    save_model(tmp_path / "model.safetensors", model, info)
    (folder / "train" / "cat" / "0.JPEG").write_text("no picture")
    arguments = ["--split", "train", "--data-dir", str(folder), "--workers", "1", "--device", "cpu"]
    result = biper("evaluate", "model.safetensors", *arguments)
    assert "resnet18 on train: accuracy 29.41% (5 of 17)" in result.stdout
    assert result.stderr.startswith("warning: unreadable image 1 (at most 100 are left out): ")


@pytest.mark.slow
def test_the_sample_of_imagenet_is_learned_by_heart(biper: Biper, imagenet_sample: Path, tmp_path: Path) -> None:
    """The whole short recipe on real photographs, then a few steps on the full 224 pixels with random crops."""
    where = ["--data-dir", str(imagenet_sample), "--threads", "1", "--workers", "1", "--device", "cpu"]
    biper("train", "imagenet-sample-short", *where, "--out", "run", timeout=1800)
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert rows[-1].train_accuracy > 0.95
    assert rows[-1].score.accuracy > 0.95
    report: dict[str, Any] = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert report["fit_images"] == 100
    packed = biper("evaluate", "run/model.biper", "--data", "imagenet", "--split", "train", *where[:2], "--json")
    assert json.loads(packed.stdout)["accuracy"] == report["stage2"]["fit_accuracy"]
    changes = ["data.evaluate_on=train", "data.batch_size=20", "stage1.epochs=1", "stage2.epochs=1"]
    full = [word for change in changes for word in ("--set", change)]
    biper("train", "imagenet-resnet18", *where, *full, "--out", "full", timeout=1800)
    rows = RunFolder(tmp_path / "full").read_metrics()
    assert all(0 < row.train_loss < 20 for row in rows)
    _, info = load_model(tmp_path / "full" / "model.safetensors")
    assert info.image_size == 224
