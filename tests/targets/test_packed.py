"""The packed file: whole networks agree with their models, and hostile or broken files are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import trained_like
from torch import Tensor, nn

import biper
from biper.errors import BiperError, CheckpointError, DataError, ExportError, ModelFormatError
from biper.lowering.lower import lower
from biper.models.saved import load_model
from biper.runtime.bench import bench
from biper.runtime.bfloat16 import from_bfloat16
from biper.runtime.model import Model
from biper.runtime.program import Program, write_program
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference
from biper.targets.packed.export import export


@pytest.mark.parametrize(
    ("dataset", "name", "bits"),
    [
        ("cifar10", "resnet18", "W1A1"),
        ("cifar10", "resnet18a", "W1A1"),
        ("cifar10", "resnet20", "W1A1"),
        ("cifar10", "resnet20", "W1A32"),
        ("cifar10", "vgg_small", "W1A1"),
        ("cifar10", "digits_cnn", "W1A1"),
        ("imagenet", "resnet18", "W1A1"),
        ("imagenet", "mobilenet", "W1A1"),
    ],
)
def test_every_network_exports_and_agrees(dataset: str, name: str, bits: str, tmp_path: Path) -> None:
    model = trained_like(name, dataset, bits)
    size = 64 if dataset == "imagenet" else 32
    x = torch.randn(4, 3, size, size)
    report = export(model, tmp_path / "m.biper", x)
    assert report.problems() == []
    assert report.same_top1 == 4
    assert report.file_bytes == (tmp_path / "m.biper").stat().st_size
    result = Model.load(tmp_path / "m.biper")(x.numpy())
    if report.flipped_bits == 0:
        np.testing.assert_allclose(result, model(x).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(("name", "limit"), [("resnet18", 1_500_000), ("resnet20", 55_000)])
def test_packed_sizes(name: str, limit: int, tmp_path: Path) -> None:
    report = export(trained_like(name, "cifar10"), tmp_path / "m.biper", torch.randn(1, 3, 32, 32))
    assert report.file_bytes <= limit


def test_resnet20_becomes_one_operation_a_convolution() -> None:
    """19 convolutions, a pool and a channel padding for each of two shortcuts, a global pool and a classifier."""
    graph = lower(trained_like("resnet20", "cifar10"), torch.randn(1, 3, 32, 32))
    kinds = [node.operation for node in graph.nodes]
    assert sorted(kinds) == sorted(
        ["convolution"] * 2 + ["binary_convolution"] * 18 + ["pool"] * 3 + ["pad_channels"] * 2
    )


def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = trained_like("digits_cnn", "digits").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, tmp_path / "m.biper", torch.randn(2, 1, 8, 8))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_float16_halves_the_real_weights(tmp_path: Path) -> None:
    model = trained_like("resnet18", "cifar10")
    x = torch.randn(4, 3, 32, 32)
    full = export(model, tmp_path / "a.biper", x)
    half = export(model, tmp_path / "b.biper", x, float_layers="float16")
    real_weights = 3 * 64 * 9 + 512 * 10
    assert full.file_bytes - half.file_bytes == pytest.approx(2 * real_weights, abs=64)
    assert half.rounded


def test_bfloat16_halves_the_real_weights_and_stays_near(tmp_path: Path) -> None:
    model = trained_like("resnet20", "cifar10")
    x = torch.randn(8, 3, 32, 32)
    full = export(model, tmp_path / "a.biper", x)
    half = export(model, tmp_path / "b.biper", x, float_layers="bfloat16")
    real_weights = 3 * 16 * 9 + 64 * 10
    assert full.file_bytes - half.file_bytes == pytest.approx(2 * real_weights, abs=64)
    assert half.wrong_sums == 0
    programs = [read_program(tmp_path / name) for name in ("a.biper", "b.biper")]
    first = [run_reference(program, x.numpy())["v0"] for program in programs]
    assert 0 < np.abs(first[0] - first[1]).max() < 0.02 * np.abs(first[0]).max()
    with pytest.raises(CheckpointError, match=r"b\.biper holds 'biper program 2', expected 'biper model 1'"):
        load_model(tmp_path / "b.biper")
    stored = programs[1].operations[0].tensors["weight"]
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(
        from_bfloat16(stored), torch.from_numpy(programs[0].operations[0].tensors["weight"]).bfloat16().float().numpy()
    )


def test_int8_quarters_the_real_weights_and_stays_near(tmp_path: Path) -> None:
    model = trained_like("resnet20", "cifar10")
    x = torch.randn(64, 3, 32, 32)
    full = export(model, tmp_path / "a.biper", x)
    small = export(model, tmp_path / "b.biper", x, float_layers="int8")
    real_weights = 3 * 16 * 9 + 64 * 10
    assert full.file_bytes - small.file_bytes > 3 * real_weights - 700  # 700 bytes are scales and their names
    assert small.wrong_sums == 0
    assert small.engine_images == 64
    # Later layers of an untrained network turn any difference into noise, so the first layer is compared.
    first = [run_reference(read_program(tmp_path / name), x.numpy())["v0"] for name in ("a.biper", "b.biper")]
    assert 0 < np.abs(first[0] - first[1]).mean() < 0.02 * first[0].std()
    kinds = {
        op.operation: op.tensors["weight"].dtype
        for op in read_program(tmp_path / "b.biper").operations
        if "weight" in op.tensors
    }
    assert kinds == {"convolution": np.int8, "binary_convolution": np.uint8}
    with pytest.raises(
        ExportError, match="float layers 'int4' are not known: expected float32, float16, bfloat16, int8"
    ):
        export(model, tmp_path / "c.biper", x, float_layers="int4")


def test_a_model_of_too_many_operations_is_refused_by_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biper.targets.packed.export.MAX_OPERATIONS", 3)
    with pytest.raises(ExportError, match=r"the model has \d+ operations, a packed file up to 3: recurrent layers"):
        export(trained_like("digits_cnn", "digits"), tmp_path / "m.biper", torch.randn(2, 1, 8, 8))
    assert not (tmp_path / "m.biper").exists()


def test_exporting_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    model, x = trained_like("digits_cnn", "digits"), torch.randn(2, 1, 8, 8)
    for number in range(2):
        biper.export(model, tmp_path / f"{number}.biper", x)
    assert (tmp_path / "0.biper").read_bytes() == (tmp_path / "1.biper").read_bytes()


class Sorted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.lgamma(x)


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), Sorted())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (Unsupported(), torch.randn(1, 3, 8, 8), r"body\.1: operator prims\.lgamma\.default is not supported; write"),
        (
            nn.Conv2d(3, 4, 3),
            torch.randn(3, 8),
            "the model fails on example_input: RuntimeError",
        ),
        (nn.Conv2d(3, 4, 3), torch.randn(1, 2, 8, 8), "the model fails on example_input: RuntimeError"),
        (biper.create_model("resnet20", dataset="cifar10"), torch.randn(1, 3, 32, 32), "put the model into stage 2"),
        (
            nn.Sequential(biper.BinaryConv2d(3, 4, 3, padding=1, padding_mode="reflect", stage=2)),
            torch.randn(1, 3, 8, 8),
            '0: padding_mode="reflect" is not supported',
        ),
    ],
)
def test_what_cannot_be_exported_is_named(model: nn.Module, example: Tensor, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        export(model, tmp_path / "m.biper", example)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.biper").exists()


def test_a_program_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong bit of one weight, changed after lowering, is found."""
    module = import_module("biper.targets.packed.export")

    def wrong(model: nn.Module, example_input: Tensor) -> object:
        graph = lower(model, example_input)
        weight = next(node for node in graph.nodes if node.operation == "binary_convolution").tensors["weight"]
        weight[0, 0, 0, 0] = not weight[0, 0, 0, 0]
        return graph

    monkeypatch.setattr(module, "lower", wrong)
    with pytest.raises(ExportError, match=r"does not compute what the model does: .* integer sums differ"):
        export(trained_like("digits_cnn", "digits"), tmp_path / "m.biper", torch.randn(2, 1, 8, 8))
    assert not (tmp_path / "m.biper").exists()


def test_an_engine_that_computes_something_else_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("biper.lowering.verify")  # the module, not its function of the same name

    def broken(program: Program) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: np.full((len(images), *program.output_shape), 3.0, np.float32)

    monkeypatch.setattr(module, "Engine", broken)
    monkeypatch.setattr(module, "engine_is_built", lambda: True)
    with pytest.raises(ExportError, match="engine's values differ from the reference's on 2 images, without a flip"):
        export(trained_like("digits_cnn", "digits"), tmp_path / "m.biper", torch.randn(2, 1, 8, 8))


def test_without_the_native_extension_models_are_packed_and_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biper.runtime.engine._native", None)
    report = export(trained_like("digits_cnn", "digits"), tmp_path / "m.biper", torch.randn(2, 1, 8, 8))
    assert report.engine_images == report.images == 2
    model = Model.load(tmp_path / "m.biper")
    assert model(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)
    with pytest.raises(BiperError, match="needs the native engine, which this installation was built without"):
        bench(model.program, seconds=0.1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small model with most operations, as bytes."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.PReLU(4),
        biper.BinaryConv2d(4, 8, 3, padding=1, stage="binary"),
        nn.Hardtanh(),
        biper.BinaryConv2d(8, 8, 3, stage="binary"),
        nn.MaxPool2d(2),
        nn.Flatten(),
        biper.BinaryLinear(8, 3, stage="binary"),
    )
    path = tmp_path_factory.mktemp("packed") / "m.biper"
    export(model, path, torch.randn(1, 1, 5, 5), classes=("a", "b", "c"))
    return path.read_bytes()


def test_a_file_is_read_as_its_bytes_are(packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.biper").write_bytes(packed)
    assert write_program(read_program(tmp_path / "m.biper")) == packed
    for broken, problem in ((b"", "is empty"), (packed[:-1], "is corrupt"), (packed[:40], "is truncated")):
        (tmp_path / "m.biper").write_bytes(broken)
        with pytest.raises(ModelFormatError, match=rf"m.biper: the model {problem}"):
            Model.load(tmp_path / "m.biper")


def test_profile_names_every_operation(packed: bytes) -> None:
    model = Model.load(packed)
    times = model.profile(rounds=5)
    assert [row.source for row in times] == [op.source for op in model.program.operations]
    assert all(row.seconds > 0 for row in times)
    assert [row.binary_macs > 0 for row in times] == [row.operation == "binary_convolution" for row in times]


def test_wrong_images_are_refused(packed: bytes) -> None:
    model = Model.load(packed)
    for images in (np.zeros((1, 5, 5), np.uint8), np.zeros((1, 1, 5, 6), np.float32), np.zeros((1, 5, 5, 1), np.int32)):
        with pytest.raises(DataError, match=r"expects uint8 images \(N, 5, 5, 1\) or normalized floats"):
            model(images)


def test_predictions_are_sorted_probabilities(packed: bytes, tmp_path: Path) -> None:
    from PIL import Image

    model = Model.load(packed)
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(tmp_path / "x.png")
    (answers,) = model.predict([tmp_path / "x.png"], top_k=3)
    assert sorted(answer.name for answer in answers) == ["a", "b", "c"]
    probabilities = [answer.probability for answer in answers]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read the image .*bad\.png"):
        model.predict([tmp_path / "bad.png"])
    assert model(np.zeros((0, 5, 5, 1), np.uint8)).shape == (0, 3)


def test_writing_what_was_read_gives_the_same_bytes(packed: bytes) -> None:
    assert write_program(read_program(packed)) == packed


def small_network() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Hardtanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Flatten(), nn.Linear(512, 4)
    )
    biper.binarize_(model, example=torch.randn(2, 3, 8, 8))
    return biper.set_stage_(model.eval(), "binary")


@pytest.mark.parametrize(("name", "value"), [("2.weight", math.nan), ("4.bias", math.inf), ("0.weight", -math.inf)])
def test_weights_that_are_not_finite_are_not_exported(name: str, value: float, tmp_path: Path) -> None:
    model = small_network()
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[1] = value
    with pytest.raises(ExportError, match=f"{name} has 1 values that are NaN or infinite"):
        export(model, tmp_path / "m.biper", torch.randn(2, 3, 8, 8))
    assert not (tmp_path / "m.biper").exists()


def test_an_image_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    export(small_network(), tmp_path / "m.biper", torch.randn(2, 3, 8, 8))
    model = Model.load(tmp_path / "m.biper")
    images = np.zeros((3, 3, 8, 8), np.float32)
    images[1, 2, 3, 4] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in image 1 of 3"):
        model(images)
    images[1, 2, 3, 4] = np.inf
    with pytest.raises(DataError, match="NaN or infinity in image 1 of 3"):
        model(images)


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.o = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.hardtanh
        return self.o(h(self.b(h(self.b(h(self.a(x)))))).mean((2, 3)))


def test_a_binary_layer_that_is_called_twice_is_packed(tmp_path: Path) -> None:
    model, images = CalledTwice(), torch.randn(4, 3, 8, 8)
    biper.binarize_(model, example=images)
    biper.set_stage_(model.eval(), "binary")
    report = export(model, tmp_path / "m.biper", images)
    assert report.binary_layers == 2
    with torch.no_grad():
        expected = model(images).numpy()
    np.testing.assert_allclose(Model.load(tmp_path / "m.biper")(images.numpy()), expected, atol=1e-5)


def test_a_binary_layer_with_two_names_is_packed(tmp_path: Path) -> None:
    model = small_network()
    model = nn.Sequential(model[0], model[1], model[2], nn.Hardtanh(), model[2], nn.Hardtanh(), *model[3:]).eval()
    images = torch.randn(4, 3, 8, 8)
    assert export(model, tmp_path / "m.biper", images).binary_layers == 2
    with torch.no_grad():
        np.testing.assert_allclose(Model.load(tmp_path / "m.biper")(images.numpy()), model(images), atol=1e-5)


def test_the_largest_value_of_a_map_is_a_pool(tmp_path: Path) -> None:
    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.amax((2, 3))

    model, images = nn.Sequential(nn.Conv2d(3, 8, 3), Largest(), nn.Linear(8, 4)).eval(), torch.randn(4, 3, 8, 8)
    export(model, tmp_path / "m.biper", images)
    with torch.no_grad():
        np.testing.assert_allclose(Model.load(tmp_path / "m.biper")(images.numpy()), model(images), atol=1e-5)


def test_nearest_interpolation_by_any_factor_is_packed(tmp_path: Path) -> None:
    def network(factor: float) -> nn.Sequential:
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Upsample(scale_factor=factor), nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4)).eval()

    images = torch.randn(2, 3, 10, 10)
    for factor in (2, 1.25, 0.7):
        assert export(network(factor), tmp_path / "m.biper", images).same_top1 == 2
