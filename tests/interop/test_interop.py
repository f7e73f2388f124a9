"""Reading the authors' state dicts and checkpoints: what is ignored, what is refused, what is never assumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.filled import filled_state_dict
from torch import Tensor, nn

from biper import interop, load_model, load_recipe, train
from biper.errors import BiperError, CheckpointError, DataError, ModelError, RecipeError
from biper.interop.authors_networks import datasets_of
from biper.nn import binary_layers

CONFIG = """2024-02-01 12:00:00.000000

model:  resnet20_1w1a
dataset:  cifar10
data_path:  C:/data
lr:  0.021
freq:  13.5
tau:  0.037
stage2:  True
"""


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A complete state dict of ResNet-20 as the authors' code saves it."""
    return filled_state_dict("resnet20_1w1a", "cifar10")


def load(state: dict[str, Tensor], model: str = "resnet20_1w1a", **options: object) -> nn.Module:
    given = {"dataset": "cifar10", "frequency": 20, "stage": 2} | options
    return interop.load_reference_state_dict(model, state, **given)


def test_frequency_stage_and_mode_are_as_asked(state: dict[str, Tensor]) -> None:
    for number, stage in ((1, "relaxed"), (2, "binary")):
        model = load(state, frequency=7.5, stage=number)
        quantizers = [layer.weight_quantizer for layer in binary_layers(model).values()]
        assert {(quantizer.frequency, quantizer.stage) for quantizer in quantizers} == {(7.5, stage)}
        assert not model.training


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {name: value.reshape(1) if name.endswith(".tau") else value for name, value in state.items()},
        lambda state: {name: value for name, value in state.items() if not name.endswith((".tau", ".beta"))},
        lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
    ],
    ids=["DataParallel", "tau of shape (1,)", "without tau and beta", "without counts of batches"],
)
def test_what_does_not_matter_is_read_over(state: dict[str, Tensor], change: object) -> None:
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(load(change(state))(images), load(state)(images))


def test_values_keep_their_dtype_and_are_copied(state: dict[str, Tensor]) -> None:
    precise = {name: value.double() + 1e-12 for name, value in state.items()}
    model = load(precise)
    weight = precise["layer1.0.conv1.weight"].clone()
    assert torch.equal(model.groups[0][0].conv1.weight, weight)
    precise["layer1.0.conv1.weight"].zero_()
    assert torch.equal(model.groups[0][0].conv1.weight, weight)
    assert {tensor.dtype for tensor in load(state).parameters()} == {torch.float32}


def test_every_parameter_has_a_name_of_theirs() -> None:
    for dataset in ("cifar10", "imagenet"):
        for name in interop.reference_models(dataset):
            names = interop.reference_names(name, dataset=dataset)
            assert len(set(names.values())) == len(names)
    assert (
        interop.reference_names("mobilenet_1w1a", dataset="imagenet")["model.13.conv3.alpha"] == "blocks.12.conv3.scale"
    )


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda s: without(s, "layer2.1.bn1.weight"), {}, CheckpointError, r"lacks layer2\.1\.bn1\.weight; is it"),
        (lambda s: without(s, "linear.weight"), {}, CheckpointError, r"lacks linear\.weight, which says how many"),
        (lambda s: s | {"fc.weight": torch.ones(1)}, {}, CheckpointError, r"should not have fc\.weight; is it"),
        (lambda s: s | {"bn1.tau": torch.ones(1)}, {}, CheckpointError, r"should not have bn1\.tau"),
        (
            lambda s: s | {"layer1.0.conv1.alpha": torch.ones(16)},
            {},
            CheckpointError,
            r"real numbers of shape \(16, 1, 1\) as layer1\.0\.conv1\.alpha, got float32 of shape \(16,\)",
        ),
        (lambda s: s | {"conv1.weight": s["conv1.weight"].int()}, {}, CheckpointError, r"as conv1\.weight, got int32"),
        (lambda s: s | {"conv1.weight": 3}, {}, CheckpointError, r"as conv1\.weight, got int"),
        (
            dict,
            {"num_classes": 100},
            CheckpointError,
            r"\(100, 64\) as linear\.weight, got .* \(10, 64\)",
        ),
        (
            dict,
            {"model": "resnet18_1w1a"},
            CheckpointError,
            r"lacks layer4\.0.* and 21 more and should not have la",
        ),
        (dict, {"dataset": "imagenet"}, ModelError, "no network 'resnet20_1w1a' for imagenet; did you mean 'resnet"),
        (dict, {"model": "resnet20"}, ModelError, "did you mean 'resnet20_1w1a'"),
        (dict, {"dataset": "cifar"}, DataError, "did you mean 'cifar10"),
        (dict, {"frequency": 0}, ModelError, "frequency must be a positive finite number"),
        (dict, {"stage": 3}, ModelError, "stage must be"),
    ],
)
def test_what_does_not_fit_is_named(
    state: dict[str, Tensor], change: object, options: dict[str, object], error: type[BiperError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(change(state), **options)


@pytest.mark.parametrize(
    ("model", "classifier", "shape", "datasets"),
    [
        ("resnet18_1w1a", "linear.weight", (10, 512), ["cifar10"]),
        ("resnet18_1w1a", "module.linear.weight", (100, 512), ["cifar100"]),
        ("resnet18_1w1a", "fc.weight", (1000, 512), ["imagenet"]),
        ("mobilenet_1w1a", "fc.weight", (1000, 1024), ["imagenet"]),
        ("vgg_small_1w1a", "fc.weight", (10, 8192), ["cifar10"]),
        ("vgg_small_1w1a", "fc.weight", (7, 8192), []),
    ],
)
def test_data_sets_by_names_and_classes(
    model: str, classifier: str, shape: tuple[int, int], datasets: list[str]
) -> None:
    assert datasets_of(model, {classifier: torch.empty(shape)}) == datasets


@pytest.fixture
def checkpoint(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """A checkpoint as the authors' scripts write it, without config.txt."""
    path = tmp_path / "theirs" / "model_best.pth.tar"
    path.parent.mkdir()
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    document = {"epoch": 5, "model": "resnet20_1w1a", "state_dict": state, "best_prec1": 61.5}
    torch.save(document | {"optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict()}, path)
    return path


def test_what_config_says_is_taken_and_what_the_caller_says_wins(checkpoint: Path, state: dict[str, Tensor]) -> None:
    checkpoint.with_name("config.txt").write_text(CONFIG)
    images = torch.randn(2, 3, 8, 8)
    read = interop.load_reference_checkpoint(checkpoint)
    assert torch.equal(read(images), load(state, frequency=13.5)(images))
    given = interop.load_reference_checkpoint(checkpoint, frequency=20, stage=1)
    assert torch.equal(given(images), load(state, stage=1)(images))


def test_frequency_and_stage_are_never_assumed(checkpoint: Path, state: dict[str, Tensor]) -> None:
    images = torch.randn(2, 3, 8, 8)
    with pytest.raises(CheckpointError, match=r"nothing says with which frequency .* no freq in a config\.txt"):
        interop.load_reference_checkpoint(checkpoint, stage=2)
    with pytest.raises(CheckpointError, match=r"nothing says of which stage .* no stage2 in a config\.txt"):
        interop.load_reference_checkpoint(checkpoint, frequency=20)
    model = interop.load_reference_checkpoint(checkpoint, frequency=20, stage=2)  # the data set by its classes
    assert torch.equal(model(images), load(state)(images))


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        (
            "model:  resnet20_1w1a",
            "model:  resnet18_1w1a",
            r"is a resnet20_1w1a, but config\.txt .* of a resnet18",
        ),
        ("freq:  13.5", "freq:  ", "nothing says with which frequency"),
        ("freq:  13.5", "freq:  high", r"config\.txt: freq is 'high', not a number"),
        ("freq:  13.5", "freq:  -1", "frequency must be a positive finite number"),
        ("stage2:  True", "stage2:  2", "nothing says of which stage"),
        ("dataset:  cifar10", "dataset:  imagenet", "no network 'resnet20_1w1a' for imagenet"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(checkpoint: Path, was: str, now: str, message: str) -> None:
    checkpoint.with_name("config.txt").write_text(CONFIG.replace(was, now))
    with pytest.raises(BiperError, match=message):
        interop.load_reference_checkpoint(checkpoint)


class Harmful:
    """Unpickling an object of this class makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": Harmful(tmp_path / "harm")}}, tmp_path / "x.pth.tar")
    with pytest.raises(CheckpointError, match="which is not loaded because it could run code"):
        interop.read_reference_checkpoint(tmp_path / "x.pth.tar", frequency=20, stage=2)
    assert not (tmp_path / "harm").exists()


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    torch.save([1, 2], tmp_path / "list")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "empty")
    torch.save({0: torch.ones(1)}, tmp_path / "numbers")
    torch.save({"conv1.weight": torch.ones(1)}, tmp_path / "bare")
    for name, message in (
        ("text", "is no checkpoint, is corrupt"),
        ("none", "cannot read .*none: No such file"),
        ("list", "holds a list, expected a checkpoint"),
        ("empty", "holds no state dict"),
        ("numbers", "holds no state dict"),
        ("bare", "does not say which network it is"),
    ):
        with pytest.raises(CheckpointError, match=message):
            interop.read_reference_checkpoint(tmp_path / name, frequency=20, stage=2)


def test_an_imported_run_is_a_model_of_ours(checkpoint: Path, tmp_path: Path, state: dict[str, Tensor]) -> None:
    checkpoint.with_name("config.txt").write_text(CONFIG)
    read = interop.read_reference_checkpoint(checkpoint)
    assert (read.epoch, read.best_top1) == (5, 61.5)
    interop.import_reference(read, tmp_path / "run")
    model, info = load_model(tmp_path / "run" / "model.safetensors")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images), load(state, frequency=13.5)(images))
    assert (info.name, info.dataset, info.num_classes, info.bits) == ("resnet20", "cifar10", 10, "W1A1")
    assert info.details["reference"]["best_top1"] == 61.5
    with pytest.raises(CheckpointError, match="already holds a run or a model"):
        interop.import_reference(read, tmp_path / "run")
    with pytest.raises(RecipeError, match="holds an imported model"):
        train(load_recipe("digits"), tmp_path / "run", device="cpu")
    with pytest.raises(CheckpointError, match="cannot make the folder"):
        interop.import_reference(read, checkpoint)
