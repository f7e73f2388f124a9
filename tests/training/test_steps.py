"""Steps whose numbers are read late, as on a GPU, and steps that were recorded, both tried on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tape import Tape
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from biper import load_recipe, train
from biper.errors import NonFiniteLossError, TrainingInterrupted
from biper.recipes.schema import Recipe
from biper.runs.folder import RunFolder
from biper.runs.records import MetricsRow
from biper.training import make_steps as make_steps_module
from biper.training import recorded as recorded_module
from biper.training import step as step_module
from biper.training import steps as steps_module
from biper.training.progress import Progress

READS = {"_local_scalar_dense", "nonzero", "item", "is_nonzero", "equal", "masked_select"}
"""The operators for which a CPU waits until a GPU has computed their input."""


def recipe(*changes: str) -> Recipe:
    """Six steps an epoch."""
    return load_recipe("digits", ["data.batch_size=200", "stage1.epochs=2", "stage2.epochs=1", *changes])


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def _late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read every fourth step, as on a GPU, without the native kernels."""
    monkeypatch.setenv("BIPER_KERNELS", "0")
    monkeypatch.setattr(make_steps_module, "reads_late", lambda _: True)
    monkeypatch.setattr(steps_module, "READ_EVERY", 4)


@pytest.mark.usefixtures("_late")
def test_late_steps_train_the_same_weights_and_count_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe("data.accumulate=2"), tmp_path / "late", device="cpu")
    monkeypatch.setattr(make_steps_module, "reads_late", lambda _: False)
    train(recipe("data.accumulate=2"), tmp_path / "prompt", device="cpu")
    assert weights(tmp_path / "late") == weights(tmp_path / "prompt")
    late, prompt = (RunFolder(tmp_path / name).read_metrics() for name in ("late", "prompt"))
    for row, wanted in zip(late, prompt, strict=True):
        assert row.train_loss == pytest.approx(wanted.train_loss, rel=1e-12)
        assert row.train_accuracy == wanted.train_accuracy
        assert row.learning_rate == wanted.learning_rate
        assert row.layers == wanted.layers


class Counting(TorchDispatchMode):
    """Counts the operators that read a value."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads += func._schema.name.removeprefix("aten::") in READS
        return func(*args, **(kwargs or {}))


class CountingSteps(Progress):
    """Notes how many values had been read after each step."""

    def __init__(self, counting: Counting) -> None:
        self.counting = counting
        self.epochs: list[list[int]] = [[]]

    def step(self, label: str, images: int, loss: float, accuracy: float) -> None:  # noqa: ARG002
        self.epochs[-1].append(self.counting.reads)

    def epoch(self, row: MetricsRow) -> None:  # noqa: ARG002
        self.epochs.append([])


@pytest.mark.usefixtures("_late")
@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["method.weights.sharpen_from=0.5", "method.inputs.name=rsign", "method.activation.name=rprelu"],
        pytest.param(
            ["stage1.optimizer=adamw", "stage1.periodic_penalty=0.0", "stage1.label_smoothing=0.1"],
            marks=pytest.mark.slow,
        ),
        pytest.param(["model.bits=W32A32"], marks=pytest.mark.slow),
    ],
)
def test_no_value_is_read_between_two_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    plain = Tensor.tolist

    def counted(self: Tensor) -> Any:  # it reads memory, without an operator
        counting.reads += 1
        return plain(self)

    monkeypatch.setattr(Tensor, "tolist", counted)
    with Counting() as counting:
        progress = CountingSteps(counting)
        train(recipe("stage1.epochs=1", *changes), tmp_path, device="cpu", progress=progress)
    for epoch in progress.epochs[:-1]:
        assert len(epoch) == 7
        # The first step of a run also checks the signs of all inputs, and the fourth step is a reading.
        assert epoch[0] == epoch[1] == epoch[2] < epoch[3] == epoch[4] == epoch[6]


@pytest.mark.usefixtures("_late")
@pytest.mark.parametrize("where", ["loss", pytest.param("gradient", marks=pytest.mark.slow)])
def test_a_late_error_names_its_step_and_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The loss or its gradient becomes NaN in stage 1 epoch 2 step 2, and is read after step 4."""
    plain, calls = step_module.F.cross_entropy, 0

    def poisoned(logits: Tensor, *args: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        loss: Tensor = plain(logits, *args, **options)
        if torch.is_grad_enabled() and calls == 7 + 2:
            return loss * torch.nan if where == "loss" else loss + (0 * logits.sum()).sqrt()
        return loss

    monkeypatch.setattr(step_module.F, "cross_entropy", poisoned)
    message = rf"the {where} became nan at stage 1 epoch 2 step 2; the last good .*epoch00001"
    with pytest.raises(NonFiniteLossError, match=message):
        train(recipe(), tmp_path, device="cpu")
    (checkpoint,) = RunFolder(tmp_path).checkpoints.newest_first()
    assert "epoch00001-step0000000" in checkpoint.name
    monkeypatch.setattr(step_module.F, "cross_entropy", plain)
    train(recipe(), tmp_path, device="cpu", resume=True)
    train(recipe(), tmp_path / "unbroken", device="cpu")
    assert weights(tmp_path) == weights(tmp_path / "unbroken")


@pytest.mark.usefixtures("_late")
def test_a_run_that_stops_between_two_readings_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe(), tmp_path / "unbroken", device="cpu")
    now = [0.0]
    monkeypatch.setattr("biper.training.interruption.time.monotonic", lambda: now[0])

    class Waiting(Progress):
        def step(self, label: str, images: int, loss: float, accuracy: float) -> None:  # noqa: ARG002
            now[0] += 1

    with pytest.raises(TrainingInterrupted, match="stage 1 epoch 2 step 3, everything is saved"):
        train(recipe(), tmp_path / "stopped", device="cpu", progress=Waiting(), seconds=10)
    train(recipe(), tmp_path / "stopped", device="cpu", resume=True)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "unbroken")
    rows = [RunFolder(tmp_path / name).read_metrics() for name in ("stopped", "unbroken")]
    assert [row.train_accuracy for row in rows[0]] == [row.train_accuracy for row in rows[1]]


class NoTape:
    """Takes the place of a recorder and takes every step anew."""

    def warm_up(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Steps are recorded on tapes, which repeat operators with the same numbers on the same memory."""
    made: list[Tape] = []

    def new_tape() -> Tape:
        made.append(Tape())
        return made[-1]

    monkeypatch.setattr(make_steps_module, "CudaGraphs", new_tape)
    plain = recorded_module.why_not_recorded
    monkeypatch.setattr(
        make_steps_module,
        "why_not_recorded",
        lambda module, _, **facts: plain(module, torch.device("cuda"), **facts),
    )
    return made


@pytest.mark.usefixtures("_late")
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(["method.learning_rate_factor=3.0"], marks=pytest.mark.slow),
        pytest.param(
            ["method.weights.sharpen_from=0.1", "method.weights.frequency_end=30.0", "data.accumulate=2"],
            marks=pytest.mark.slow,
        ),
        ["method.weights.phase_deviation=1.5", "method.weights.sharpen_from=0.1", "method.inputs.name=rsign"],
    ],
)
def test_recorded_steps_are_those_that_are_taken_one_by_one(
    tmp_path: Path, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    """To the bit, where both read rates and numbers of waves from tensors. Without tensors, rounding differs."""
    train(recipe(*changes), tmp_path / "recorded", device="cpu", cuda_graphs=True)
    assert [tape.repeated for tape in tapes] == [2 * 7 - 3, 7 - 3]
    monkeypatch.setattr(make_steps_module, "CudaGraphs", NoTape)
    train(recipe(*changes), tmp_path / "one-by-one", device="cpu", cuda_graphs=True)
    assert weights(tmp_path / "recorded") == weights(tmp_path / "one-by-one")
    train(recipe(*changes), tmp_path / "plain", device="cpu")
    row, wanted = (RunFolder(tmp_path / name).read_metrics()[0] for name in ("recorded", "plain"))
    assert row.train_loss == pytest.approx(wanted.train_loss, rel=1e-5)
    assert row.layers.gradient_norm == pytest.approx(wanted.layers.gradient_norm, rel=1e-4)


@pytest.mark.usefixtures("_late")
def test_a_recorded_run_can_be_stopped_and_resumed(
    tmp_path: Path, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []
    request: Callable[[Any], bool] = lambda _: len(taken) == 9  # noqa: E731
    monkeypatch.setattr("biper.training.interruption.StopRequest.requested", property(request))

    class Counted(Progress):
        def step(self, label: str, images: int, loss: float, accuracy: float) -> None:  # noqa: ARG002
            taken.append(loss)

    changes = recipe("stage1.optimizer=adamw", "stage1.learning_rate=0.01")
    with pytest.raises(TrainingInterrupted, match="epoch 2 step 2"):
        train(changes, tmp_path, device="cpu", cuda_graphs=True, progress=Counted())
    train(changes, tmp_path, device="cpu", cuda_graphs=True, progress=Counted(), resume=True)
    assert len(tapes) == 3
    assert len(RunFolder(tmp_path).read_metrics()) == 3


@pytest.mark.usefixtures("_late")
def test_where_recording_fails_steps_are_taken_one_by_one(
    tmp_path: Path, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Tape, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(Tape, "record", failing)
    said: list[str] = []

    class Saying(Progress):
        def message(self, text: str) -> None:
            said.append(text)

    train(recipe(), tmp_path / "failed", device="cpu", cuda_graphs=True, progress=Saying())
    assert sum("run one by one: operation not permitted when stream is capturing" in line for line in said) == 2
    assert len(tapes) == 2
    assert RunFolder(tmp_path / "failed").read_metrics()[-1].train_accuracy > 0.1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [([], "they are for CUDA devices"), (["method.weights.name=recu"], "RectifiedClampSign may change")],
)
def test_steps_that_cannot_be_recorded_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], reason: str
) -> None:
    said: list[str] = []
    if changes:
        plain = recorded_module.why_not_recorded
        monkeypatch.setattr(
            make_steps_module,
            "why_not_recorded",
            lambda module, _, **facts: plain(module, torch.device("cuda"), **facts),
        )

    class Saying(Progress):
        def message(self, text: str) -> None:
            said.append(text)

    run = recipe("stage1.epochs=1", *changes)
    train(run, tmp_path, device="cpu", cuda_graphs=True, progress=Saying())
    assert any(f"not recorded as CUDA graphs: {reason}" in line for line in said)
