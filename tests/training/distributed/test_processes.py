"""Several processes that train one model: what they compute, what they communicate, and how one can stop all."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from support.pictures import make_folder
from support.processes import in_processes, outcomes
from support.small_networks import small_network
from torch import Tensor

from biper import create_model, load_dataset, load_recipe, train
from biper.data.share import Share
from biper.errors import (
    BiperError,
    LostProcessError,
    ModelError,
    NonFiniteLossError,
    RecipeError,
    TrainingInterrupted,
)
from biper.io.tensors import load_tensors
from biper.measure.evaluation import Scores, evaluate
from biper.models.saved import ModelInfo
from biper.runs.folder import RunFolder
from biper.runs.records import RunSummary
from biper.training import step as step_module
from biper.training.distributed import launch
from biper.training.distributed.launch import ProcessInfo, needs_launch
from biper.training.distributed.processes import join
from biper.training.images import RunImages
from biper.training.options import RunOptions
from biper.training.progress import Progress

SHORT = ["data.batch_size=330", "stage1.epochs=2", "stage2.epochs=1"]
STEPS = 1437 // 330


def run(out: Path, *overrides: str, resume: bool = False) -> RunSummary:
    with mock.patch.object(ModelInfo, "create", small_network):
        return train(load_recipe("digits", overrides), out, device="cpu", precision="float64", resume=resume)


def at_step(number: int, what: Any) -> None:
    """Apply ``what`` to the loss of one training step of this process."""
    plain, steps = step_module.F.cross_entropy, 0

    def changed(*arguments: Any, **options: Any) -> Tensor:
        nonlocal steps
        loss = plain(*arguments, **options)
        steps += torch.is_grad_enabled()
        return what(loss) if torch.is_grad_enabled() and steps == number else loss

    step_module.F.cross_entropy = changed


def rank() -> int:
    return ProcessInfo.from_environment().rank


# Shares


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 5, 64, 359])
def test_shares_hold_every_item_once_and_are_even(count: int, total: int) -> None:
    items = list(range(total))
    parts = [items[Share(index, count).of(total)] for index in range(count)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    recipe = load_recipe("digits", ["data.accumulate=2"])
    recipe.require_even_shares(16)
    with pytest.raises(RecipeError, match=r"64 is .* 3 processes with .* = 2 .* multiple of 6, such as 60 or 66"):
        recipe.require_even_shares(3)
    with pytest.raises(RecipeError, match=r"one process with data.accumulate = 5 .* such as 60 or 65"):
        load_recipe("digits", ["data.accumulate=5"]).require_even_shares(1)


# What is computed


ONE_STEP = ["data.batch_size=720", "stage1.epochs=1", "stage2.epochs=1", "stage1.weight_decay=0"]
ONE_STEP += ["stage1.periodic_penalty=0.5"]


def gradient(out: Path) -> dict[str, Tensor]:
    """The gradient of the only step of stage 1. It is the momentum, because there is no weight decay."""
    tensors, _ = load_tensors(out / "checkpoints" / "stage1-epoch00001-step0000000.safetensors")
    found = {name: value for name, value in tensors.items() if name.endswith("momentum_buffer")}
    assert all(value.dtype == torch.float64 for value in found.values())
    return found


@pytest.mark.parametrize(("alone", "together"), [([], ["model.sync_batch_norm=true"]), (["data.accumulate=2"], [])])
def test_two_processes_step_along_the_gradient_of_one(tmp_path: Path, alone: list[str], together: list[str]) -> None:
    """Two processes with synchronized batch norms match one process; with local batch norms they match one process that
    divides its batch into halves.
    """
    run(tmp_path / "one", *ONE_STEP, *alone)
    in_processes(2, run, tmp_path / "two", *ONE_STEP, *together)
    one, two = gradient(tmp_path / "one"), gradient(tmp_path / "two")
    assert one.keys() == two.keys()
    assert max(value.abs().max().item() for value in one.values()) > 1e-3
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-12)


def score(count: int) -> Scores:
    digits = load_dataset("digits")
    split = digits.test.part(torch.arange(count))
    torch.manual_seed(0)
    model = create_model("digits_cnn", dataset="digits")
    with join("cpu", "float32") as processes:
        share = split.share(processes.share)
        return evaluate(model, share, digits.spec.mean, digits.spec.std, sum_over_processes=processes.sum)


def test_every_test_image_counts_once_whatever_the_number_of_processes() -> None:
    for images in (359, 2):
        expected = score(images)
        assert expected.images == images
        for count in (2, 3):
            for scores in in_processes(count, score, images):
                assert (scores.correct, scores.images) == (expected.correct, images)
                assert scores.loss == pytest.approx(expected.loss, rel=1e-6)


def interrupted(out: Path, *overrides: str) -> str:
    """A run that is stopped by a signal to process 1 alone, at the second step of the second epoch of stage 1."""
    if rank() == 1:
        at_step(STEPS + 2, lambda loss: os.kill(os.getpid(), signal.SIGTERM) or loss)
    with pytest.raises(TrainingInterrupted) as caught:
        run(out, *overrides)
    return str(caught.value)


def restarted(out: Path, *overrides: str) -> RunSummary:
    """A run in processes that torchrun has restarted, here on one of two machines."""
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(int(rank() == ProcessInfo.from_environment().processes - 1))
    return run(out, *overrides)


OPTIONS = ["data.mixup=0.4", "data.cutout=3", "stage1.average_epochs=0.5", "stage2.average_epochs=1.0"]


@pytest.mark.parametrize("more", [[], pytest.param(OPTIONS, marks=pytest.mark.slow)])
def test_a_run_that_goes_on_in_other_numbers_of_processes_sees_the_same_batches(
    more: list[str], tmp_path: Path
) -> None:
    """Two processes, then three, then one have the same losses as one process, and so the same images and crops."""
    overrides = [*SHORT, "model.sync_batch_norm=true", *more]
    run(tmp_path / "one", *overrides)
    out = tmp_path / "many"
    messages = in_processes(2, interrupted, out, *overrides)
    assert messages[0] == messages[1]
    assert messages[0].startswith("stopped after stage 1 epoch 2 step 2, everything is saved")
    _, document = load_tensors(RunFolder(out).checkpoints.newest_first()[0])
    assert document["processes"] == 2
    summaries = in_processes(3, restarted, out, *overrides)
    _, document = load_tensors(RunFolder(out).checkpoints.newest_first()[0])
    assert document["processes"] == 3
    assert summaries[1].final == summaries[0].final
    one, many = RunFolder(tmp_path / "one").read_metrics(), RunFolder(out).read_metrics()
    assert len(one) == len(many) == 3
    for row, expected in zip(many, one, strict=True):
        assert row.train_accuracy == expected.train_accuracy
        assert row.score.accuracy == expected.score.accuracy
        assert row.train_loss == pytest.approx(expected.train_loss, rel=1e-6)  # means in float32
        assert row.score.loss == pytest.approx(expected.score.loss, rel=1e-6)
    RunFolder(out).summary_file.unlink()
    RunFolder(out).checkpoints.newest_first()[0].unlink()
    run(out, *overrides, resume=True)
    assert RunFolder(out).read_metrics()[-1].train_loss == pytest.approx(one[-1].train_loss, rel=1e-6)


def test_a_single_process_that_torchrun_starts_anew_goes_on_too(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").create(load_recipe("digits", ONE_STEP), resume=False)
    (summary,) = in_processes(1, restarted, tmp_path / "run", *ONE_STEP)
    assert summary.final.epochs == 1


# What one of them does


def work_alone(folder: Path) -> tuple[Any, ...]:
    with join("cpu", "float32") as processes:

        def write() -> int:
            (folder / f"by-{rank()}").touch()
            return rank()

        def fail() -> None:
            raise ModelError(f"process {rank()} said no")

        order: list[int] = []
        processes.rank_zero_first(
            lambda: time.sleep(0.2 * (1 - rank())) or (folder / "order").open("a").write(f"{rank()} ")
        )
        with pytest.raises(ModelError, match="process 0 said no"):
            processes.on_rank_zero(fail)
        return processes.on_rank_zero(write), processes.gather(rank() * 10), processes.sum([rank(), 2**53]), order


def test_what_one_process_does_alone_the_others_know(tmp_path: Path) -> None:
    expected = (0, [0, 10], [1.0, float(2**54)], [])
    assert in_processes(2, work_alone, tmp_path) == [expected, expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["by-0", "order"]
    assert (tmp_path / "order").read_text() == "0 1 "


def poisoned(out: Path) -> tuple[str, int]:
    """The loss is infinite in process 1 alone and its gradient is finite, so that process 1 must tell the others."""
    updates = torch.optim.SGD.step
    made = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        return updates(*arguments, **options)

    torch.optim.SGD.step = counted  # type: ignore[method-assign]
    if rank() == 1:
        at_step(STEPS + 3, lambda loss: loss + math.inf)
    with pytest.raises(NonFiniteLossError) as caught:
        run(out, *SHORT)
    return str(caught.value), made


def test_a_loss_that_is_not_finite_in_one_process_stops_all_before_the_update(tmp_path: Path) -> None:
    for message, updates in in_processes(2, poisoned, tmp_path):
        assert message.startswith("the loss became inf at stage 1 epoch 2 step 3, before its update; the last good")
        assert updates == STEPS + 2


def dying(out: Path) -> float:
    if rank() == 1:
        at_step(2, lambda _loss: os.kill(os.getpid(), signal.SIGKILL))
    started = time.monotonic()
    with pytest.raises(LostProcessError, match="another process of this run died"):
        run(out, *SHORT)
    return time.monotonic() - started


def test_a_process_that_dies_is_missed_at_once(tmp_path: Path) -> None:
    seconds, status = outcomes(2, dying, tmp_path)
    assert status == -signal.SIGKILL
    assert seconds < 60


def test_an_error_of_process_0_is_everybodys(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder would be")
    errors = outcomes(2, run, tmp_path / "run", *SHORT)
    assert [type(error) for error in errors] == [RecipeError, RecipeError]
    assert str(errors[0]) == str(errors[1])
    assert "is a file: out=... expects a folder" in str(errors[0])


def score_pictures(data: Path, out: Path, limit: int) -> tuple[Any, ...]:
    settings = ["data.image_size=32", "data.batch_size=4", "data.evaluate_on=train", f"data.max_unreadable={limit}"]
    recipe = load_recipe("imagenet-sample-short", settings)
    with join("cpu", "float32") as processes:
        images = RunImages(recipe, RunFolder(out), processes, RunOptions(data, workers=0), Progress())
        scores = images.scores(torch.nn.Flatten(), images.test)
        return scores.images, sorted(Path(name).name for name in images.unreadable.names)


def test_unreadable_images_of_all_processes_are_counted_together(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data", ("ant", "bee"), 4)
    for name in ("ant/0.JPEG", "bee/3.JPEG"):
        (data / name).write_bytes(b"no picture")
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    expected = (6, ["0.JPEG", "3.JPEG"])
    assert in_processes(2, score_pictures, data, tmp_path / "run", 2) == [expected, expected]
    assert len((tmp_path / "run" / "unreadable.txt").read_text().splitlines()) == 2
    errors = outcomes(2, score_pictures, data, tmp_path / "other", 1)
    assert all("more than 1 images cannot be read" in str(error) for error in errors)


# Starting them


def under_torchrun(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
    for name, value in zip(names, (count, 2 * count, 0, count, 1, 2), strict=True):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")


def test_processes_are_started_once_and_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProcessInfo.from_environment() == ProcessInfo()
    assert not needs_launch(None, 1, None)
    assert not needs_launch(1, 1, None)
    assert needs_launch(2, 1, None)
    assert needs_launch(None, 2, "node1:29400")
    with pytest.raises(ModelError, match='machines=2 needs rendezvous="HOST:PORT"'):
        needs_launch(8, 2, None)
    under_torchrun(monkeypatch, 4)
    assert ProcessInfo.from_environment() == ProcessInfo(
        rank=4, processes=8, local_rank=0, local_processes=4, machine=1, machines=2
    )
    assert not needs_launch(None, 1, None)
    assert not needs_launch(4, 2, None)
    for devices, machines in ((2, 1), (None, 3)):
        with pytest.raises(BiperError, match="torchrun started 4 processes on each of 2 machines, but the options ask"):
            needs_launch(devices, machines, "node1:29400")


@pytest.mark.parametrize(
    ("statuses", "cause"),
    [
        ({0: -signal.SIGTERM, 1: -signal.SIGKILL}, (1, -signal.SIGKILL)),
        ({0: 75, 1: 1, 2: -signal.SIGTERM}, (1, 1)),
        ({1: 75, 2: -signal.SIGTERM}, (1, 75)),
        ({0: 1, 1: 1}, (0, 1)),
    ],
)
def test_the_process_that_failed_first_is_told_from_those_stopped_for_it(
    statuses: dict[int, int], cause: tuple[int, int]
) -> None:
    assert launch._cause(statuses) == cause
