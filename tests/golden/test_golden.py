"""Our networks against numbers recorded from the authors' own code, in float64."""

from __future__ import annotations

import re

import pytest
import torch
from golden import GOLDEN, fill_by_rule, image_by_rule, load_reference_tensors, our_name
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from biper import create_model, periodic_penalty, quantization_errors

TAU = 0.037

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden numbers are not in {GOLDEN}")


def check_forward_and_losses(model: nn.Module, expected: dict[str, Tensor]) -> dict[str, nn.Parameter]:
    """Compare everything but the gradients, and return the parameters with their gradients computed."""
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
    return dict(model.named_parameters())


@pytest.mark.parametrize("stage", [1, 2])
def test_resnet20_trained_by_the_authors_code(stage: int) -> None:
    folder = GOLDEN / f"resnet20_stage{stage}"
    reference = torch.load(folder / "model_best.pth.tar", weights_only=True)["state_dict"]
    expected = load_file(folder / "expected.safetensors")
    model = create_model("resnet20", dataset="cifar10")
    load_reference_tensors(model, reference, stage)
    parameters = check_forward_and_losses(model, expected)
    gradients = {name.removeprefix("grad/"): value for name, value in expected.items() if name.startswith("grad/")}
    assert len(gradients) == len(parameters)
    for name, gradient in gradients.items():
        ours = our_name(name)
        # The gradient of a scale before a batch norm is nearly zero: it is compared to its layer's weight gradient.
        largest = gradients[name.replace(".alpha", ".weight")].abs().max()
        difference = (parameters[ours].grad - gradient.reshape(parameters[ours].shape)).abs().max()
        assert difference <= 1e-7 * largest, name


@pytest.mark.parametrize(("dataset", "prefix", "linear"), [("cifar10", "", "linear"), ("imagenet", "imagenet_", "fc")])
def test_resnet18_with_weights_filled_by_rule(dataset: str, prefix: str, linear: str) -> None:
    expected = load_file(GOLDEN / f"{prefix}resnet18_fill_stage2.safetensors")
    if "input" not in expected:
        expected["input"] = image_by_rule()
    model = create_model("resnet18", dataset=dataset)
    reference = {}
    for name, value in model.state_dict().items():
        if "_quantizer." in name:
            continue
        theirs = re.sub(r"^groups\.(\d)\.", lambda match: f"layer{int(match[1]) + 1}.", name)
        theirs = theirs.replace("fc.", f"{linear}.").replace(".shortcut.", ".downsample.").replace(".scale", ".alpha")
        shape = (*value.shape, 1, 1) if theirs.endswith(".alpha") else tuple(value.shape)
        reference[theirs] = fill_by_rule(theirs, shape) if value.is_floating_point() else value
    load_reference_tensors(model, reference, stage=2)
    parameters = check_forward_and_losses(model, expected)
    norms = {name.removeprefix("gradnorm/"): v.item() for name, v in expected.items() if name.startswith("gradnorm/")}
    assert len(norms) == len(parameters)
    for name, norm in norms.items():
        allowed = 1e-7 * norms[name.replace(".alpha", ".weight")]
        assert abs(parameters[our_name(name)].grad.norm().item() - norm) <= allowed, name
