"""Options of a recipe that change how a run trains: they resume to the bit, and learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.small_networks import small_network
from support.stops import StopsAt
from torch.nn import functional as F

from biper import load_model, load_recipe, train
from biper.data.batches import TrainingBatches
from biper.errors import CheckpointError, TrainingInterrupted
from biper.io.tensors import load_tensors, save_tensors
from biper.models.saved import ModelInfo
from biper.runs.folder import RunFolder

SHORT = ["stage1.epochs=2", "stage2.epochs=1", "data.batch_size=256"]
RESTARTS = ["stage1.schedule=restarts", "stage1.cycles=3", "stage1.cycle_growth=1.5"]
DECAY = ["stage1.weight_decay=0.01", "stage1.weight_decay_on=latent,norms"]
AVERAGES = ["stage1.average_epochs=0.7", "stage2.average_epochs=3"]
IMAGES = ["data.cutout=3", "data.mixup=0.4"]


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelInfo, "create", small_network)


@pytest.mark.parametrize("options", [RESTARTS + DECAY + AVERAGES + IMAGES])
def test_a_stopped_run_resumes_to_the_bit(options: list[str], tmp_path: Path) -> None:
    recipe = load_recipe("digits", [*SHORT, *options])
    train(recipe, tmp_path / "whole", device="cpu")
    for stop in (3, 3, 6):  # in epoch 1, in epoch 2, in stage 2
        with pytest.raises(TrainingInterrupted, match="everything is saved"):
            train(recipe, tmp_path / "stopped", device="cpu", resume=True, progress=StopsAt(stop))
    whole, stopped = (RunFolder(tmp_path / name) for name in ("whole", "stopped"))
    train(recipe, stopped.path, device="cpu", resume=True)
    for number in (1, 2):
        assert whole.stage_file(number).read_bytes() == stopped.stage_file(number).read_bytes()
    rows = [[(row.train_loss, row.score) for row in folder.read_metrics()] for folder in (whole, stopped)]
    assert rows[0] == rows[1]


def test_a_run_that_stopped_at_the_end_of_a_stage_ends_it_with_the_same_average(tmp_path: Path) -> None:
    recipe = load_recipe("digits", [*SHORT, *AVERAGES])
    folder = RunFolder(tmp_path)
    train(recipe, tmp_path, device="cpu")
    files = [folder.stage_file(1), folder.stage_file(2)]
    expected = [file.read_bytes() for file in files]
    for path in (*files, folder.model_file, folder.summary_file, *folder.checkpoints.path.glob("stage2-*")):
        path.unlink()
    train(recipe, tmp_path, device="cpu", resume=True)
    assert [file.read_bytes() for file in files] == expected


def test_a_checkpoint_without_the_average_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe("digits", [*SHORT, *AVERAGES])
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path, device="cpu", progress=StopsAt(3))
    (path,) = RunFolder(tmp_path).checkpoints.newest_first()
    tensors, document = load_tensors(path)
    name = "average/fc.weight"
    for changed in ({k: v for k, v in tensors.items() if k != name}, tensors | {name: torch.zeros(())}):
        save_tensors(path, changed, document)
        with pytest.raises(CheckpointError, match=r"holds no state of this run: .*fc\.weight"):
            train(recipe, tmp_path, device="cpu", resume=True)


def test_loss_and_accuracy_of_mixed_images_are_their_definitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums of a run whose network stays as it is, against those of the network that it saved."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    plain = TrainingBatches.epoch

    def remembered(self: TrainingBatches, *arguments: int) -> object:
        for images, targets in plain(self, *arguments):
            seen.append((images, targets))
            yield images, targets

    monkeypatch.setattr(TrainingBatches, "epoch", remembered)
    changes = [*SHORT, "stage1.learning_rate=1e-30", "data.mixup=0.5", "stage1.label_smoothing=0.1"]
    changes += ["stage1.epochs=1", "stage1.periodic_penalty=0.0", "data.accumulate=2"]
    train(load_recipe("digits", changes), tmp_path, device="cpu", precision="float64")
    row = RunFolder(tmp_path).read_metrics()[0]
    model = load_model(tmp_path / "stage1.safetensors")[0].double().train()
    loss = correct = 0.0
    for images, targets in seen[:5]:
        logits = torch.cat([model(part.double()).detach() for part in images.chunk(2)])
        smooth = 0.9 * targets + 0.1 / 10
        loss -= (smooth * F.log_softmax(logits, 1)).sum().item()
        correct += (logits.argmax(1) == targets.argmax(1)).sum().item()
    assert row.train_loss == pytest.approx(loss / (5 * 256), rel=1e-6)
    assert row.train_accuracy == correct / (5 * 256)
