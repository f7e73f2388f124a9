"""Our networks against numbers that the code of the method's authors computed, in float64.

``data/`` holds the numbers of three networks. A larger set, with whole gradients, is compared too where it exists.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support.filled import GOLDEN, filled_state_dict, images_by_rule
from torch import Tensor, nn
from torch.nn import functional as F

from biper import interop, periodic_penalty, quantization_errors

TAU = 0.037
DATA = Path(__file__).with_name("data")
RECORDED = sorted(DATA.glob("*_stage[12].safetensors"))


def check_forward_and_losses(model: nn.Module, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compare everything except the gradients, and return the gradients of the parameters."""
    model.double().eval()
    logits = model(expected["input"].double())
    torch.testing.assert_close(logits, expected["eval_logits"], rtol=0, atol=1e-8)
    model.train()
    logits = model(expected["input"].double())
    torch.testing.assert_close(logits, expected["train_logits"], rtol=0, atol=1e-8)
    cross_entropy = F.cross_entropy(logits, expected["target"])
    regularizer = periodic_penalty(model, TAU)
    torch.testing.assert_close(cross_entropy, expected["cross_entropy"], rtol=1e-8, atol=0)
    torch.testing.assert_close(regularizer, expected["regularizer"], rtol=1e-8, atol=0)
    error_sum = sum(quantization_errors(model).values())
    assert error_sum == pytest.approx(expected["quantization_error_sum"].item(), rel=1e-8)
    (cross_entropy + regularizer).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def starting_with(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the larger set of golden numbers is not in {GOLDEN}")
@pytest.mark.parametrize("stage", [1, 2])
def test_resnet20_trained_by_the_authors_code(stage: int) -> None:
    folder = GOLDEN / f"resnet20_stage{stage}"
    expected = load_file(folder / "expected.safetensors")
    model = interop.load_reference_checkpoint(folder / "model_best.pth.tar")
    gradients = check_forward_and_losses(model, expected)
    names = interop.reference_names("resnet20_1w1a", dataset="cifar10")
    theirs = starting_with("grad/", expected)
    assert {names[name] for name in theirs} == set(gradients)
    for name, gradient in theirs.items():
        # The gradient of a scale before a batch norm is nearly zero: it is compared to its layer's weight gradient.
        largest = theirs[name.replace(".alpha", ".weight")].abs().max()
        difference = (gradients[names[name]].reshape(gradient.shape) - gradient).abs().max()
        assert difference <= 1e-7 * largest, name


def cifar_images() -> dict[str, Tensor]:
    """Return the 16 recorded images, normalized for the networks, and their labels."""
    stored = load_file(DATA / "images.safetensors")
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return {"input": (stored["pixels"].float() / 255 - mean) / std, "target": stored["target"]}


@pytest.mark.parametrize("file", RECORDED, ids=[file.stem for file in RECORDED])
def test_recorded_networks(file: Path) -> None:
    """The metadata of a file names its network. If a file has no weights, they are filled by rule."""
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    expected = load_file(file)
    model, dataset = about["model"], about["family"]
    expected = (cifar_images() if dataset == "cifar10" else {"input": images_by_rule()}) | expected
    network = interop.load_reference_state_dict(
        model,
        starting_with("state_dict/", expected) or filled_state_dict(model, dataset),
        dataset=dataset,
        frequency=float(about["freq"]),
        stage=int(about["stage"]),
    )
    gradients = check_forward_and_losses(network, expected)
    names = interop.reference_names(model, dataset=dataset)
    norms = {name: norm.item() for name, norm in starting_with("gradnorm/", expected).items()}
    assert {names[name] for name in norms} == set(gradients)
    for name, norm in norms.items():
        allowed = 1e-7 * norms[name.replace(".alpha", ".weight")]
        assert abs(gradients[names[name]].norm().item() - norm) <= allowed, name


def test_there_are_recorded_networks() -> None:
    assert len(RECORDED) == 3
