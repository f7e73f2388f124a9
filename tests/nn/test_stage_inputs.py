"""Stage "inputs": binary inputs, real weights; and frequencies with which trained weights keep their signs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper import BinarizeConfig, BinaryConv1d, BinaryConv2d, BinaryLinear, binarize_, export, keep_signs_, set_stage_
from biper.errors import ExportError, ModelError
from biper.methods.settings import read_method
from biper.nn import kept_signs
from biper.nn.latent import scale_to_weights_
from biper.quantizers import TunedPeriodicSign, XnorSign, sign


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LAYERS = [
    (BinaryLinear(12, 6, bias=True), noise(5, 12), F.linear),
    (BinaryConv1d(12, 6, 3, bias=True), noise(5, 12, 9), F.conv1d),
    (BinaryConv2d(16, 32, 3, bias=True), noise(5, 16, 9, 9), F.conv2d),
]


@pytest.mark.parametrize(("layer", "x", "function"), LAYERS, ids=lambda value: type(value).__name__)
def test_the_weights_are_real_and_the_inputs_are_bits(layer: nn.Module, x: Tensor, function: object) -> None:
    scale_to_weights_(layer)
    set_stage_(layer, "inputs")
    torch.testing.assert_close(layer(x), function(sign(x), layer.weight, layer.bias), rtol=1e-4, atol=1e-5)
    layer(x).square().sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert layer.scale.grad.abs().sum() > 0


def test_the_learned_scale_keeps_its_meaning_when_signs_take_the_place_of_the_weights() -> None:
    layer = BinaryLinear(400, 8)
    layer.scale.data.uniform_(1, 2)
    set_stage_(layer, "inputs")
    real = layer.forward_weight()
    torch.testing.assert_close(real.abs().mean(1), torch.ones(8))
    set_stage_(layer, "binary")
    bits = layer.forward_weight()
    torch.testing.assert_close(bits.abs().mean(1), torch.ones(8))
    assert (bits == sign(real)).float().mean() > 0.998


def test_a_quantizer_with_its_own_scale_leaves_the_weights_themselves() -> None:
    layer = BinaryLinear(12, 6, weight_quantizer=XnorSign())
    set_stage_(layer, "inputs")
    assert layer.forward_weight() is layer.weight
    set_stage_(layer, "binary")
    torch.testing.assert_close(layer.forward_weight().abs(), layer.weight.abs().mean(1, keepdim=True).expand(6, 12))


def test_leaving_the_stage_sets_the_frequency_from_the_weights_that_were_trained_in_it() -> None:
    layer = set_stage_(BinaryLinear(100, 100), "inputs")
    layer.weight.data.normal_(0, 5)
    set_stage_(layer, "inputs")
    assert layer.weight_quantizer.frequency == 20
    set_stage_(layer, "relaxed")
    assert layer.weight_quantizer.frequency < 0.3
    assert kept_signs(layer)[""] >= 0.999
    frequency = layer.weight_quantizer.frequency
    layer.weight.data.mul_(7)
    set_stage_(layer, "binary")
    assert layer.weight_quantizer.frequency == frequency, "only a layer that leaves stage inputs gets a new frequency"


def test_a_state_dict_says_whether_the_weights_are_real() -> None:
    layer, other = set_stage_(BinaryLinear(12, 6), 0), BinaryLinear(12, 6)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(noise(5, 12)), layer(noise(5, 12)))
    assert other.real_weights
    other.load_state_dict(BinaryLinear(12, 6).state_dict())
    assert not other.real_weights
    assert "real_weights" not in other.state_dict()


def test_keep_signs_by_the_formula() -> None:
    layer = BinaryLinear(50, 40)
    layer.weight.data.copy_(noise(40, 50))
    share = keep_signs_(layer)[""]
    quantile = layer.weight.abs().flatten().sort().values[1997]  # 99.9 % of 2000 weights are not larger
    assert layer.weight_quantizer.frequency == pytest.approx(3 / quantile.item())
    inside = (layer.weight.abs() * layer.weight_quantizer.frequency < torch.pi).float().mean().item()
    assert share == pytest.approx(inside, abs=1e-6)
    assert 0.999 <= share < 1


def test_keep_signs_with_learned_and_scheduled_frequencies_and_zeros() -> None:
    quantizer = TunedPeriodicSign(20, frequency_end=40, learned_frequencies=40)
    layer = BinaryLinear(50, 40, weight_quantizer=quantizer)
    quantizer.log_gain.data.copy_(noise(40).clamp(-1, 1))
    assert keep_signs_(layer)[""] >= 0.999
    assert quantizer.frequency_start == quantizer.frequency
    zeros = BinaryLinear(5, 4)
    zeros.weight.data.zero_()
    scale_to_weights_(zeros)
    assert keep_signs_(zeros) == {"": 1.0}
    assert zeros.weight_quantizer.frequency == 20
    assert set_stage_(zeros, "inputs")(noise(3, 5)).abs().max() == 0


@pytest.mark.parametrize("stage", ["input", 3, True])
def test_no_such_stage(stage: object) -> None:
    with pytest.raises(ModelError, match=r'"inputs" \(0\), "relaxed" \(1\) or "binary" \(2\)'):
        set_stage_(nn.Sequential(), stage)


def trained() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 64), nn.Linear(64, 64, bias=False), nn.Linear(64, 4))


def test_binarize_from_pretrained_weights() -> None:
    model = trained()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    x = noise(32, 16)
    report = binarize_(model, BinarizeConfig(pretrained=True), example=x)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    assert [layer.kept_signs for layer in report.layers if not layer.binary] == [None, None]
    assert report.kept_signs is not None
    assert report.kept_signs >= 0.999
    layer = report.layers[1]
    assert layer.frequency == pytest.approx(model[1].weight_quantizer.frequency)
    assert f"of its weights keep their sign (ω = {layer.frequency:.3g})" in str(report)
    torch.testing.assert_close(model[1].scale.detach(), weights["1.weight"].abs().mean(1))
    set_stage_(model.eval(), "inputs")
    bits = sign(F.linear(x, weights["0.weight"], weights["0.bias"]))
    hidden = sign(F.linear(bits, weights["1.weight"], weights["1.bias"]))
    hidden = F.linear(hidden, weights["2.weight"])
    torch.testing.assert_close(model(x), F.linear(hidden, weights["3.weight"], weights["3.bias"]), rtol=1e-4, atol=1e-5)
    real = model(x)
    set_stage_(model, "binary")
    assert torch.nn.functional.cosine_similarity(model(x).flatten(), real.flatten(), 0) > 0.5


def test_a_target_error_sets_the_frequency_in_place_of_the_kept_signs() -> None:
    model, fresh, method = trained(), trained(), read_method({"name": "biper", "target_error": 0.1})
    report = binarize_(model, BinarizeConfig(pretrained=True, method=method), example=noise(32, 16))
    binarize_(fresh, BinarizeConfig(method=method), example=noise(32, 16))
    assert report.layers[2].frequency == fresh[2].weight_quantizer.frequency
    assert report.layers[2].kept_signs == kept_signs(fresh)["2"]


def test_pretrained_with_another_method() -> None:
    report = binarize_(trained(), BinarizeConfig(pretrained=True, method=read_method("bi-real")), example=noise(32, 16))
    assert report.kept_signs == 1
    assert "100% of the binary weights keep the sign" in str(report)


@pytest.mark.parametrize(
    ("layer", "x"), [(BinaryConv2d(8, 8, 1), noise(4, 8, 5, 5)), (BinaryConv1d(8, 8, 1), noise(4, 8, 5))]
)
def test_real_weights_are_not_exported(layer: nn.Module, x: Tensor, tmp_path: Path) -> None:
    model = set_stage_(set_stage_(nn.Sequential(layer).eval(), "binary"), "inputs")
    with pytest.raises(ExportError, match=r'0: its weights are real in stage "inputs"'):
        export(model, tmp_path / "m.biper", x)
