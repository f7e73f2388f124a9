from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from biper import load_model, load_recipe, train
from biper.data import load_dataset
from biper.errors import CheckpointError, NonFiniteLossError, RecipeError
from biper.measure.evaluation import evaluate
from biper.models.saved import ModelInfo
from biper.nn import binary_layers
from biper.quantizers import Stage
from biper.recipes.schema import StageRecipe
from biper.runs.folder import RunFolder
from biper.runs.state import Position, pack_state, restore_optimizer, restore_random
from biper.training import step as step_module
from biper.training.devices import choose_device
from biper.training.schedules import learning_rate

SHORT = ["stage1.epochs=2", "stage2.epochs=1"]


def test_schedule_rises_then_falls_along_a_cosine() -> None:
    stage = StageRecipe(epochs=10, learning_rate=0.5, warmup_epochs=2.0)
    rates = [learning_rate(stage, step, 10) for step in range(100)]
    assert rates[:20] == pytest.approx([0.5 * (step + 1) / 20 for step in range(20)])
    assert rates[60] == pytest.approx(0.25)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.001
    constant = StageRecipe(epochs=1, learning_rate=0.5, schedule="constant")
    linear = StageRecipe(epochs=4, learning_rate=0.5, schedule="linear", learning_rate_end=0.1)
    assert [learning_rate(linear, step, 1) for step in range(4)] == pytest.approx([0.5, 0.4, 0.3, 0.2])
    assert {learning_rate(constant, step, 10) for step in range(10)} == {0.5}


def test_a_run_leaves_everything_behind(tmp_path: Path) -> None:
    summary = train(load_recipe("digits", SHORT), tmp_path / "run", device="cpu")
    folder = RunFolder(tmp_path / "run")
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "checkpoints",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.toml",
        "stage1.safetensors",
        "stage2.safetensors",
        "summary.json",
        "tensorboard",
    ]
    assert load_recipe(folder.recipe_file) == load_recipe("digits", SHORT)
    rows = folder.read_metrics()
    assert [(row.stage, row.epoch) for row in rows] == [(1, 1), (1, 2), (2, 1)]
    assert rows[1].train_loss < rows[0].train_loss
    assert all(0 <= row.score.accuracy <= 1 and row.images_per_second > 0 for row in rows)
    assert summary == folder.read_summary()
    assert summary.final.score.accuracy == rows[-1].score.accuracy
    environment = json.loads(folder.environment_file.read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert environment["seed"] == 0
    assert list(folder.tensorboard.iterdir())
    stages = []
    for name in ("stage1", "stage2"):
        model, _ = load_model(folder.path / f"{name}.safetensors")
        stages.append({layer.weight_quantizer.stage for layer in binary_layers(model).values()})
    assert stages == [{Stage.RELAXED}, {Stage.BINARY}]


def test_final_scores_are_those_of_the_weights_whatever_the_precision_of_training(tmp_path: Path) -> None:
    summary = train(load_recipe("digits", SHORT), tmp_path, device="cpu", precision="bfloat16")
    model, info = load_model(tmp_path / "model.safetensors")
    scores = evaluate(model, load_dataset("digits").split("test"), info.mean, info.std)
    mixed = RunFolder(tmp_path).read_metrics()[-1].score.loss
    assert summary.final.score.loss == pytest.approx(scores.loss, rel=1e-4)
    assert mixed != pytest.approx(scores.loss, rel=1e-4)


def test_a_seeded_run_is_reproducible_to_the_bit_and_seeds_differ(tmp_path: Path) -> None:
    one = ["stage1.epochs=1", "stage2.epochs=1"]
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(load_recipe("digits", [*one, f"seed={seed}"]), tmp_path / name, device="cpu")
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_full_precision_trains_the_same_network_without_binary_layers(tmp_path: Path) -> None:
    train(load_recipe("digits", [*SHORT, "model.bits=W32A32"]), tmp_path / "run", device="cpu")
    model, info = load_model(tmp_path / "run" / "model.safetensors")
    assert not binary_layers(model)
    assert info.bits == "W32A32"


def test_selection_on_held_out_images_takes_the_best_epoch(tmp_path: Path) -> None:
    recipe = load_recipe("digits", ["stage1.epochs=4", "stage2.epochs=2", "data.selection=held-out"])
    summary = train(recipe, tmp_path / "run", device="cpu")
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert all(row.score.split == "held_out" for row in rows)
    first = [row.score.accuracy for row in rows if row.stage == 1]
    assert summary.stages[0].selected_epoch == first.index(max(first)) + 1


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    recipe = load_recipe("digits", ["stage1.epochs=1", "stage2.epochs=1"])
    summary = train(recipe, tmp_path, device="cpu")
    with pytest.raises(RecipeError, match="already holds a run: continue it with resume=True"):
        train(recipe, tmp_path, device="cpu")
    other = load_recipe("digits", ["stage1.epochs=1", "stage2.epochs=1", "stage2.learning_rate=0.5"])
    with pytest.raises(RecipeError, match=r"another recipe: stage2\.learning_rate was 0\.02, is now 0\.5"):
        train(other, tmp_path, device="cpu", resume=True)
    assert train(recipe, tmp_path, device="cpu", resume=True) == summary


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / name) for name in ("a", "b")]
    for folder, bits in zip(folders, ("W1A1", "W32A32"), strict=True):
        train(load_recipe("digits", [*SHORT, f"model.bits={bits}"]), folder.path, device="cpu")
        folder.summary_file.unlink()
    stolen = folders[1].checkpoints.newest_first()[0]
    stolen.rename(folders[0].checkpoints.path / stolen.name)
    with pytest.raises(CheckpointError, match=r"is a checkpoint of another model: expected .*W1A1.*got .*W32A32"):
        train(load_recipe("digits", SHORT), folders[0].path, device="cpu", resume=True)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_value_that_is_not_finite_stops_before_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The loss, or only its gradient, becomes NaN in stage 1 epoch 2 step 4."""
    steps = 0
    parameters: list[nn.Module] = []
    plain = step_module.F.cross_entropy

    class NanGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
            return grad * math.nan

    def poisoned(logits: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        nonlocal steps
        if not torch.is_grad_enabled():
            return plain(logits, *args, **options)
        steps += 1
        if steps == 22 + 4:
            if where == "loss":
                return plain(logits * math.nan, *args, **options)
            return plain(NanGradient.apply(logits), *args, **options)
        return plain(logits, *args, **options)

    monkeypatch.setattr(step_module.F, "cross_entropy", poisoned)
    made = ModelInfo.create
    monkeypatch.setattr(
        ModelInfo, "create", lambda self, factory=None: parameters.append(model := made(self, factory)) or model
    )
    message = rf"the {where} became nan at stage 1 epoch 2 step 4, before its update; the last good .*epoch00001"
    with pytest.raises(NonFiniteLossError, match=message):
        train(load_recipe("digits", SHORT), tmp_path, device="cpu")
    assert all(torch.isfinite(value).all() for value in parameters[-1].state_dict().values())
    assert len(RunFolder(tmp_path).checkpoints.newest_first()) == 1


def test_packed_state_brings_back_optimizer_layouts_and_random_generators() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.randn(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    tensors, document = pack_state(Position(), model, optimizer, None)
    document = json.loads(json.dumps(document))
    expected = [torch.rand(3), torch.tensor(random.random()), torch.tensor(np.random.rand())]
    other = torch.optim.Adam(model.parameters(), lr=0.5)
    restore_optimizer(other, {name: value.contiguous() for name, value in tensors.items()}, document)
    restore_random(tensors, document)
    again = [torch.rand(3), torch.tensor(random.random()), torch.tensor(np.random.rand())]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert other.param_groups[0]["lr"] == 0.1
    for parameter in model.parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(other.state[parameter][key], value)
            assert other.state[parameter][key].stride() == value.stride()


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        assert choose_device("auto") == "cuda"
    else:
        assert choose_device("auto") == "cpu"
        with pytest.raises(Exception, match="no CUDA GPU"):
            choose_device("cuda")


def test_a_run_may_start_from_the_weights_of_another(tmp_path: Path) -> None:
    first = train(load_recipe("digits", SHORT), tmp_path / "first")
    still = ["stage1.epochs=1", "stage1.learning_rate=1e-30", "method.relaxed_stage=false"]
    second = train(load_recipe("digits", [*SHORT, *still]), tmp_path / "second", start_from=tmp_path / "first")
    ours, theirs = (load_model(tmp_path / name / "model.safetensors")[0].state_dict() for name in ("second", "first"))
    assert torch.equal(ours["conv1.weight"], theirs["conv1.weight"])
    assert second.final.score.accuracy == pytest.approx(first.final.score.accuracy, abs=0.1)
    learning = load_recipe("digits", [*SHORT, *still, "method.learn_frequency=layer"])
    for before, recipe in (("first", learning), ("learned", load_recipe("digits", [*SHORT, *still]))):
        after = "learned" if before == "first" else "fixed"
        train(recipe, tmp_path / after, start_from=tmp_path / before)
        found = load_model(tmp_path / after / "model.safetensors")[0].state_dict()
        assert torch.equal(found["conv1.weight"], theirs["conv1.weight"])
        assert any(name.endswith("log_gain") for name in found) == (after == "learned")
    other = load_recipe("digits", [*SHORT, "model.frequency=10.0"])
    with pytest.raises(CheckpointError, match=r"has frequency 20.0, the recipe 10.0: they must be the same"):
        train(other, tmp_path / "third", start_from=tmp_path / "first")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        train(load_recipe("digits", SHORT), tmp_path / "fourth", start_from=tmp_path)
