from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.own_networks import SignalNet, image_net
from support.pictures import make_folder
from support.signals import waves
from support.stops import StopsAt
from torch import nn
from torch.utils.data import Dataset

import biper
from biper.data.specs import dataset_spec
from biper.data.transforms import evaluation_preprocessing
from biper.errors import DataError, ExportError, ModelError, RecipeError, TrainingInterrupted
from biper.nn import binary_layers
from biper.report.analysis import analyze_run
from biper.runs.folder import RunFolder
from biper.runtime import Model
from biper.training.progress import Progress

X, Y = waves(48)
TEST = waves(24, seed=1)
QUICK: dict[str, Any] = {
    "recipe": "quick",
    "overrides": ["data.batch_size=8"],
    "device": "cpu",
    "progress": Progress(),
    "report": False,
    "pack": False,
}


def test_a_network_and_arrays_become_a_run_and_a_packed_file(tmp_path: Path) -> None:
    model = SignalNet()
    result = biper.fit(
        model, (X, Y), TEST, out=tmp_path / "run", normalization="train", **QUICK | {"pack": True, "report": True}
    )
    assert result.model is model
    assert not model.training
    assert result.binarized is not None
    assert list(binary_layers(model)) == ["features.3"]
    assert result.accuracy == result.summary.final.score.accuracy > 0.5
    assert result.summary.final.score.split == "test"
    assert [stage.epochs for stage in result.summary.stages] == [3, 2]
    folder = RunFolder(tmp_path / "run")
    names = {path.name for path in folder.path.iterdir()}
    assert names >= {
        "model.biper",
        "report.html",
        "metrics.jsonl",
        "checkpoints",
        "data.json",
        "recipe.toml",
        "summary.json",
    }
    assert result.normalization[0] == pytest.approx(X.mean((0, 2)))
    packed = Model.load(folder.path / "model.biper")
    assert packed.program.mean == pytest.approx(result.normalization[0])
    mean, std = (np.array(part, np.float32)[:, None] for part in result.normalization)
    with torch.inference_mode():
        expected = model(torch.from_numpy((TEST[0] - mean) / std)).numpy()
    np.testing.assert_allclose(packed((TEST[0] - mean) / std), expected, atol=1e-4)
    assert (expected.argmax(1) == TEST[1]).mean() == pytest.approx(result.accuracy)
    assert "24 test samples; model.biper" in str(result)
    page = (folder.path / "report.html").read_text()
    assert "own W1A1 on given" in page
    assert "Errors of highest confidence" in page
    environment = folder.read_environment()
    assert environment is not None
    assert environment["network"] == "given to biper.fit"
    again = biper.fit(SignalNet(), (X, Y), TEST, out=tmp_path / "run", normalization="train", **QUICK, resume=True)
    assert again.summary == result.summary
    assert torch.equal(again.model.state_dict()["head.weight"], model.state_dict()["head.weight"])


class Noisy(Dataset[Any]):
    """Signals with noise of torch's global generator."""

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(X[index]) / 5 + 0.1 * torch.randn(2, 20), int(Y[index])


def test_a_stopped_run_resumes_to_the_bit_with_adamw_random_augmentation_and_a_teacher(tmp_path: Path) -> None:
    taught = ["data.batch_size=8", "stage1.epochs=2", "teacher.epochs=2", "teacher.learning_rate=0.01"]

    def run(name: str, **options: Any) -> Any:
        torch.manual_seed(0)
        settings = QUICK | {"overrides": taught} | options
        return biper.fit(SignalNet(), Noisy(), out=tmp_path / name, resume=True, **settings)

    whole = run("whole")
    assert whole.summary.final.score.split == "fit"
    for stop in (7, 12, 9):  # in the teacher, in stage 1, in stage 2
        with pytest.raises(TrainingInterrupted, match="everything is saved"):
            run("stopped", progress=StopsAt(stop))
    run("stopped", workers=1)
    for file in ("model.safetensors", "stage1.safetensors", "teacher/model.safetensors", "data.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes()
    losses = [[row.train_loss for row in RunFolder(tmp_path / name).read_metrics()] for name in ("whole", "stopped")]
    assert losses[0] == losses[1]
    teacher = RunFolder(tmp_path / "whole" / "teacher").read_summary()
    assert teacher is not None
    assert teacher.recipe["model"]["bits"] == "W32A32"


def test_pictures_in_folders_and_data_sets_of_biper(tmp_path: Path) -> None:
    for name, count in (("train", 8), ("val", 4)):
        make_folder(tmp_path / "data" / name, ("cat", "dog"), count)
    result = biper.fit(image_net(), tmp_path / "data", out=tmp_path / "run", image_size=16, **QUICK | {"pack": True})
    assert result.classes == ("cat", "dog")
    packed = Model.load(tmp_path / "run" / "model.biper")
    assert packed.classes == ("cat", "dog")
    assert packed.program.preprocessing == evaluation_preprocessing(dataset_spec("images"), 16)
    found = analyze_run(tmp_path / "run", data_dir=tmp_path / "data", factory=image_net, bench_seconds=0.01)
    assert found.notes == []
    assert found.predictions is not None
    assert found.predictions.accuracy == pytest.approx(result.accuracy)
    digits = biper.load_dataset("digits")
    overrides = ["data.batch_size=128", "stage1.epochs=1", "stage2.epochs=1", "data.crop_padding=1"]
    of_digits = biper.fit(image_net(1, 10), digits, out=tmp_path / "digits", **QUICK | {"overrides": overrides})
    assert of_digits.normalization == (digits.spec.mean, digits.spec.std)


def test_a_binary_network_is_taken_as_it_is_and_other_recipes_too(tmp_path: Path) -> None:
    model = SignalNet()
    biper.binarize_(model, biper.BinarizeConfig(frequency=7.0), example=torch.from_numpy(X))
    recipe = biper.load_recipe(
        "digits", ["stage1.epochs=1", "stage2.epochs=1", "data.crop_padding=0", "data.batch_size=8"]
    )
    result = biper.fit(
        model,
        (X, Y),
        recipe=recipe,
        out=tmp_path / "run",
        **{k: v for k, v in QUICK.items() if k not in ("recipe", "overrides")},
    )
    assert result.binarized is None
    assert binary_layers(result.model)["features.3"].weight_quantizer.frequency == 7.0
    real = biper.fit(
        SignalNet(), (X, Y), out=tmp_path / "real", **QUICK | {"overrides": ["model.bits=W32A32", "data.batch_size=8"]}
    )
    assert not binary_layers(real.model)


class TwoOutputs(SignalNet):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x


class Unpackable(SignalNet):
    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(torch.lgamma(x))


@pytest.mark.parametrize(
    ("model", "train", "options", "error", "message"),
    [
        (SignalNet(), (X[:0], Y[:0]), {}, DataError, "training set is empty"),
        (SignalNet(), (X, Y + 1), {}, DataError, "label of training sample 2 is 3, expected one from 0 to 2"),
        (
            SignalNet(classes=4),
            (X, Y),
            {"classes": ["a", "b", "c"]},
            ModelError,
            r"expected \(2, 3\): one for each class",
        ),
        (SignalNet(channels=3), (X, Y), {}, ModelError, r"does not run on samples of shape \(2, 2, 20\)"),
        (TwoOutputs(), (X, Y), {}, ModelError, "gives a tuple, expected one tensor"),
        (SignalNet(), (X[:6], Y[:6]), {}, DataError, r'batch size 8 .* 6 training samples: .*"data.batch_size=2"'),
        (
            SignalNet(),
            (X, Y),
            {"overrides": ["data.flip=true", "data.batch_size=8"]},
            DataError,
            "data.flip is for pictures",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(40, 3)), (X, Y), {}, ModelError, "no layer was made binary"),
        (Unpackable(), (X, Y), {"pack": True}, ExportError, "lgamma.* pack=False"),
        (SignalNet(), (X, Y), {"recipe": "shorts"}, RecipeError, "did you mean 'short'"),
        (image_net(), "nowhere", {}, DataError, r"no folder nowhere: train=\.\.\. expects class folders"),
        (SignalNet(), (X, Y), {"recipe": biper.load_recipe("quick")}, RecipeError, "overrides=... changes a recipe"),
        (SignalNet(), (X, Y), {"speed": 9}, TypeError, "unknown option 'speed'"),
    ],
)
def test_what_does_not_fit_is_said_before_training(
    model: nn.Module, train: Any, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as found:
        biper.fit(model, train, out=tmp_path / "run", **QUICK | options)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_run_resumes_with_the_same_data_alone(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        biper.fit(SignalNet(), (X, Y), out=tmp_path / "run", **QUICK | {"progress": StopsAt(3)})
    with pytest.raises(RecipeError, match="already holds a run: continue it with resume=True"):
        biper.fit(SignalNet(), (X, Y), out=tmp_path / "run", **QUICK)
    with pytest.raises(DataError, match=r"began with data of another shape: \[2, 20\], here is \[2, 10\]"):
        biper.fit(SignalNet(), (X[:, :, :10], Y), out=tmp_path / "run", **QUICK, resume=True)
    with pytest.raises(DataError, match="began with data of another classes"):
        biper.fit(SignalNet(), (X, Y), classes=["a", "b", "c"], out=tmp_path / "run", **QUICK, resume=True)
    unfinished = analyze_run(tmp_path / "run", factory=SignalNet, bench_seconds=0.01)
    assert unfinished.info is not None
    assert unfinished.info.shape == (2, 20)
    assert any("were given to biper.fit as objects" in note for note in unfinished.notes)
    with pytest.raises(ModelError, match="nothing says which code makes it"):
        analyze_run(tmp_path / "run")
