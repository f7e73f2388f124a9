"""Sharing models, with a stand-in for the hub that keeps repositories in a folder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Biper, error_line
from PIL import Image
from support.networks import packed_network, trained_like
from typer.testing import CliRunner

import biper
from biper.cli.app import app
from biper.data.digits import load_digits
from biper.errors import ExportError, HubError, ModelError, ModelFormatError
from biper.measure.size import ModelSizes
from biper.models.saved import ModelInfo
from biper.runs.folder import RunFolder
from biper.runs.records import RunSummary, SplitScore, StageResult
from biper.runtime import Model, load_pretrained
from biper.runtime.pretrained import pretrained_card, pretrained_names

RPRELU = "cifar10-resnet20-rprelu"


class StandIn:
    """The functions of `huggingface_hub` that biper calls, implemented with folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def HfApi(self, token: str | None = None) -> StandIn:
        assert token in (None, "secret")
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert not private
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        assert commit_message
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def hf_hub_download(self, repo_id: str, filename: str, **options: Any) -> str:
        assert set(options) == {"revision", "token"}
        return str((self.root / repo_id / filename).resolve(strict=True))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "hub"
    monkeypatch.setitem(sys.modules, "huggingface_hub", StandIn(root))
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The files of a finished run of the digits."""
    folder = tmp_path / "run"
    folder.mkdir()
    packed_network(folder, "digits_cnn", "digits")
    (folder / "network.biper").rename(folder / "model.biper")
    info = ModelInfo("digits_cnn", "digits", 10, "W1A1", 20.0, (0.3,), (0.4,), tuple("0123456789"))
    biper.save_model(folder / "model.safetensors", trained_like("digits_cnn", "digits"), info)
    recipe = biper.load_recipe("digits")
    (folder / "recipe.toml").write_text(recipe.to_toml())
    stages = tuple(StageResult(1, 1, SplitScore("test", 0.1, accuracy), {}) for accuracy in (0.9812, 0.9725))
    sizes = ModelSizes(parameters=74_922, float_bytes=299_688, packed_bytes=10_000)
    RunFolder(folder).write_summary(
        RunSummary(recipe.model_dump(mode="json"), "last", stages, 360, sizes, 34.5, str(folder / "model.safetensors"))
    )
    return folder


def test_a_run_goes_to_the_hub_and_comes_back(hub: Path, run: Path) -> None:
    assert biper.push_to_hub(run, "me/digits", token="secret") == "https://hub.example/me/digits"
    files = sorted(path.name for path in (hub / "me/digits").iterdir())
    assert files == ["README.md", "model.biper", "model.safetensors", "recipe.toml"]
    model = biper.from_pretrained("me/digits")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    assert np.array_equal(model(images), Model.load(run / "model.biper")(images))
    card = (hub / "me/digits/README.md").read_text()
    for text in (
        "---\nlibrary_name: biper\n",
        "      value: 0.9725",
        "# digits\n",
        'biper.from_pretrained("me/digits")',
        "| after stage 1, sine | 98.12% |",
        "| after stage 2, bits | 97.25% |",
        f"{(run / 'model.biper').stat().st_size:,} bytes; its weights in float32 are 299,688.",
        " ms an image (",
        'name = "digits_cnn"',
        "training took 34 s",
    ):
        assert text in card, text


def test_what_is_no_finished_run_is_not_pushed(hub: Path, run: Path) -> None:
    (run / "model.biper").unlink()
    with pytest.raises(ModelError, match=r"run has no model\.biper: expected the folder of a finished run"):
        biper.push_to_hub(run, "me/digits")
    (run / "summary.json").unlink()
    with pytest.raises(ModelError, match="expected the folder of a finished run"):
        biper.push_to_hub(run, "me/digits")
    assert not hub.exists()


def test_what_is_no_packed_model_is_refused(hub: Path) -> None:
    (hub / "me/other").mkdir(parents=True)
    (hub / "me/other/model.biper").write_bytes(b"no model")
    with pytest.raises(ModelFormatError, match="the model is"):
        biper.from_pretrained("me/other")


@pytest.mark.parametrize(("name", "least", "most"), [("cifar10-resnet20", 0.78, 0.88), (RPRELU, 0.81, 0.91)])
def test_the_models_that_come_along(name: str, least: float, most: float, cifar_dir: Path) -> None:
    """The accuracy on 500 test images is about that on all 10,000, which is 83 and 86 %."""
    from biper.data import load_dataset

    test = load_dataset("cifar10", cifar_dir).split("test")
    labels = test.labels[:500].numpy()
    correct = load_pretrained(name)(test.first(500).numpy()).argmax(1) == labels
    assert least < correct.mean() < most


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no pretrained model 'cifar10-resnet2'.* did you mean 'cifar10-resnet20'"):
        load_pretrained("cifar10-resnet2")


def test_a_card_says_what_the_file_reaches() -> None:
    test = load_digits().split("test")
    card = pretrained_card("digits-cnn")
    correct = load_pretrained("digits-cnn")(test.first(len(test)).numpy()).argmax(1) == test.labels.numpy()
    assert (int(correct.sum()), len(test)) == (card.correct, card.images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10-resnet18-half", "cifar10-resnet18-narrow", "cifar10-resnet20", RPRELU])
def test_the_card_of_a_cifar_model(name: str, cifar_dir: Path) -> None:
    from biper.data import load_dataset

    test = load_dataset("cifar10", cifar_dir).split("test")
    card = pretrained_card(name)
    correct = load_pretrained(name, threads=2)(test.first(10_000).numpy()).argmax(1) == test.labels.numpy()
    assert (int(correct.sum()), len(test)) == (card.correct, card.images)


def test_the_models_that_come_along_are_listed(biper: Biper) -> None:
    text = biper("models").stdout
    assert re.search(r"cifar10-resnet20 +cifar10 +83\.02% +55\.0 kB +ResNet-20 \(W1A1\) on CIFAR-10", text)
    rows = json.loads(biper("models", "--json").stdout)
    assert list(rows) == pretrained_names()
    assert rows["digits-cnn"]["accuracy"] == pretrained_card("digits-cnn").accuracy
    assert "BIPER_KERNELS=0 biper train digits --seed 0 --threads 1" in biper("models", "digits-cnn").stdout
    assert "accuracy 98.89% (356 of 360)" in biper("evaluate", "digits-cnn").stdout
    assert "did you mean 'digits-cnn'" in error_line(biper("models", "digits", expect=1))


def test_predict_works_on_a_fresh_install(biper: Biper, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50, 3), 128, np.uint8)).save(tmp_path / "x.png")
    answers = json.loads(biper("predict", "cifar10-resnet20", "x.png", "--json").stdout)
    assert {chosen["name"] for chosen in answers[0]["classes"]} <= set(load_pretrained("cifar10-resnet20").classes)
    assert "no pretrained model 'resnet'" in error_line(biper("predict", "resnet", "x.png", expect=1))
    code = (
        "import sys; from biper.runtime import load_pretrained; load_pretrained('cifar10-resnet20');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_push_and_pull_are_commands(run: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        return CliRunner().invoke(app, arguments, catch_exceptions=False).stdout

    assert json.loads(call("push", str(run), "me/net", "--json")) == {"address": "https://hub.example/me/net"}
    assert call("pull", "me/net").startswith("net.biper: <biper.Model: ")
    assert (tmp_path / "net.biper").read_bytes() == (run / "model.biper").read_bytes()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"notes\.txt is there, and is no \.biper file"):
        call("pull", "me/net", "--out", "notes.txt")
    with pytest.raises(HubError, match=r"the hub refused me/none: .*No such file"):
        call("pull", "me/none")
    (hub / "me/net/model.biper").write_bytes(b"no model")
    with pytest.raises(ModelFormatError):
        call("pull", "me/net")
    assert (tmp_path / "net.biper").read_bytes() == (run / "model.biper").read_bytes()


@pytest.mark.parametrize(
    "error", [ConnectionError("no network\nmore"), ValueError(""), RuntimeError("\n\n401: not yours")]
)
def test_what_the_hub_says_is_one_line(error: Exception, run: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> str:
        raise error

    for name in ("create_repo", "hf_hub_download"):
        monkeypatch.setattr(StandIn, name, refuse)
    for attempt in (lambda: biper.push_to_hub(run, "me/net"), lambda: biper.from_pretrained("me/net")):
        with pytest.raises(HubError, match=r"^the hub refused me/net: (no network|ValueError|401: not yours)$"):
            attempt()
