"""`biper.binarize_`: which layers become binary, what is kept of them, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from biper import BinarizeConfig, BinaryConv1d, BinaryConv2d, BinaryLinear, binarize_, set_stage_
from biper.errors import ModelError
from biper.methods.settings import read_method
from biper.quantizers import RPReLU, RSign


class Net(nn.Module):
    """The head is defined first and runs last; the activation of the body is a relu."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 5)
        self.stem = nn.Conv2d(3, 8, 3)
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2, bias=True), nn.ReLU(), nn.Conv2d(8, 16, 1, bias=False)
        )
        self.again = self.body[2]
        self.hidden = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.body(self.stem(x)).mean((2, 3))))


IMAGES = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def test_by_default_all_but_the_first_and_the_last_that_run() -> None:
    model = Net()
    latent, bias, layer = model.body[0].weight, model.body[0].bias, model.body[0]
    report = binarize_(model, example=IMAGES)
    assert report.changed == ("body.0", "body.2", "hidden")
    assert report.kept == ("stem", "head")
    assert isinstance(model.body[0], BinaryConv2d)
    assert isinstance(model.hidden, BinaryLinear)
    assert model.body[0] is layer, "the layer stays the same object"
    assert model.body[0].weight is latent
    assert model.body[0].bias is bias
    assert (model.body[0].stride, model.body[0].groups) == ((2, 2), 2)
    assert model.again is model.body[2], "a shared layer stays shared"
    assert model(IMAGES).shape == (8, 5)
    assert "3 of 5 layers" in str(report)
    assert "the first layer" in str(report)
    assert [layer.order for layer in report.layers] == [0, 1, 2, 3, 4]
    assert [layer.multiply_accumulates for layer in report.layers] == [
        8 * 27 * 100,
        8 * 36 * 25,
        16 * 8 * 25,
        16 * 16,
        16 * 5,
    ]
    assert not report.notes


def test_without_an_example_the_report_says_so() -> None:
    report = binarize_(Net())
    assert report.changed == ("body.0", "body.2", "hidden")
    assert "No example was given" in str(report)
    assert "2 x 3 x 32 x 32" in str(report)


def test_patterns_choose_layers() -> None:
    model = Net()
    report = binarize_(model, BinarizeConfig(include=("body.*", "stem"), exclude=("body.2",), frequency=7.0))
    assert report.changed == ("stem", "body.0")
    assert model.stem.weight_quantizer.frequency == 7.0


def test_binary_weights_alone() -> None:
    model = Net()
    report = binarize_(model, BinarizeConfig(bits="W1A32"), example=IMAGES)
    assert isinstance(model.hidden.input_quantizer, nn.Identity)
    assert isinstance(model.body[1], nn.ReLU), "real inputs need no other activation"
    assert "body.0" in report.changed


def test_a_second_time_says_so() -> None:
    model = Net()
    binarize_(model)
    with pytest.raises(ModelError, match=r"no layer was made binary.*already binary"):
        binarize_(model)


@pytest.mark.parametrize(
    ("model", "config", "message"),
    [
        (Net(), BinarizeConfig(include=("boddy.*",)), "pattern 'boddy.*' matches no"),
        (nn.Sequential(nn.ReLU()), BinarizeConfig(), "no layer was made binary"),
        (nn.Linear(3, 3), BinarizeConfig(), "a single Linear"),
    ],
)
def test_what_cannot_be_done_is_said(model: nn.Module, config: BinarizeConfig, message: str) -> None:
    with pytest.raises(ModelError, match=message.replace("*", r"\*")):
        binarize_(model, config)


def test_an_example_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ModelError, match="does not run on `example`"):
        binarize_(Net(), example=torch.randn(2, 4, 12, 12))


def test_mode_dtype_hooks_and_flags_are_kept() -> None:
    model = Net().double().eval()
    model.hidden.weight.requires_grad_(False)
    calls = []
    model.hidden.register_forward_hook(lambda *_arguments: calls.append(1))
    binarize_(model, example=IMAGES.double())
    calls.clear()
    assert not model.hidden.training
    assert not model.hidden.input_quantizer.training
    assert model.hidden.scale.dtype == torch.float64
    assert not model.hidden.weight.requires_grad
    model.train()(torch.randn(4, 3, 12, 12, dtype=torch.float64)).sum().backward()
    assert calls == [1]
    assert model.body[0].weight.grad.abs().sum() > 0


def test_the_model_is_left_as_it_was_but_for_its_layers() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardtanh(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    binarize_(model, example=IMAGES)
    assert torch.equal(state, torch.get_rng_state())
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
    )
    model[2].weight = model[1].weight
    binarize_(model, example=IMAGES)
    assert model[2].weight is model[1].weight


def test_binarize_takes_a_method() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3).double(), nn.Flatten(), nn.Linear(8, 8), nn.Linear(8, 2)
    )
    binarize_(model, BinarizeConfig(method=read_method("reactnet")))
    assert model[1].input_quantizer.threshold.shape == (8,)
    assert model[1].input_quantizer.threshold.dtype == torch.float64
    binarize_(model, BinarizeConfig(include=("4",), method=read_method({"learn_frequency": "channel"})))
    assert model[4].weight_quantizer.log_gain.shape == (2,)


def test_layers_whose_weight_is_computed_stay_real_and_say_so() -> None:
    model = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(6)])
    parametrizations.weight_norm(model[1])
    prune.l1_unstructured(model[2], "weight", amount=0.5)
    report = binarize_(model, example=torch.randn(2, 8, 6, 6))
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert "parametrization" in reasons["1"]
    assert "computed from other parameters" in reasons["2"]
    assert report.changed == ("3", "4")


def test_a_lazy_layer_is_left_alone_without_an_example_and_gets_its_shape_from_one() -> None:
    def network() -> nn.Sequential:
        first, second = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        return nn.Sequential(first, nn.LazyBatchNorm2d(), second, nn.Flatten(), nn.LazyLinear(8), nn.Linear(8, 4))

    report = binarize_(network())
    assert "not checked" in str(report)
    assert "lazy" in {layer.name: layer.reason for layer in report.layers}["4"]
    model = network()
    report = binarize_(model, example=torch.randn(4, 8, 6, 6))
    assert report.changed == ("2", "4")
    assert model[4].in_features == 32
    assert model[1].num_features == 8


def test_layers_without_a_binary_form_are_named() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.lstm, self.up = nn.LSTM(8, 8, batch_first=True), nn.ConvTranspose1d(8, 8, 3, padding=1)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x, _ = self.lstm(self.b(self.a(x)))
            x = self.up(x.transpose(1, 2)).transpose(1, 2)
            return self.c(self.attention(x, x, x)[0])

    report = binarize_(Mixed(), example=torch.randn(2, 5, 8))
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert report.changed == ("b",)
    assert "recurrent" in reasons["lstm"]
    assert "transposed" in reasons["up"]
    assert "packed into one parameter" in reasons["attention"]
    assert "the projection of an attention" in reasons["attention.out_proj"]


def test_signals() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Conv1d(8, 16, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4)
    )
    report = binarize_(model, example=torch.randn(4, 3, 40))
    assert report.changed == ("2",)
    assert isinstance(model[2], BinaryConv1d)
    set_stage_(model.eval(), "binary")
    assert model(torch.randn(6, 3, 40)).std(0).max() > 0


def test_a_transformer_encoder_layer_calls_its_binary_layers_in_evaluation_too() -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), nn.Linear(32, 4))
    x = torch.randn(2, 5, 32)
    report = binarize_(model, example=x)
    assert report.changed == ("1.linear1", "1.linear2")
    set_stage_(model.eval(), "binary")
    with_gradient = model(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(model(x), with_gradient)


class Plain(nn.Conv2d):
    """Sets itself up in its own way and computes what its base computes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.weight)


class Standardized(nn.Conv2d):
    scale = 1.0

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.gain, self.eps = nn.Parameter(torch.ones(8, 1, 1, 1)), 1e-6

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight - self.weight.mean(), self.bias)


def test_a_subclass_becomes_binary_where_it_computes_what_its_base_computes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Plain(8), Standardized(8, 8, 3), nn.Conv2d(8, 8, 1))
    report = binarize_(model, example=IMAGES)
    assert report.changed == ("1",)
    assert "Standardized, whose forward pass may be another" in report.layers[2].reason


def test_other_subclasses_are_taken_for_their_base_where_the_configuration_says_so() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), Standardized(8, 8, 3), nn.ReLU(), Standardized(8, 8, 3), nn.Conv2d(8, 8, 1)
    )
    weight = model[3].weight
    report = binarize_(model, BinarizeConfig(subclasses="replace"), example=IMAGES)
    assert report.changed == ("1", "3")
    assert type(model[3]) is BinaryConv2d
    assert model[3].weight is weight
    assert not hasattr(model[3], "gain")
    assert not hasattr(model[3], "eps")
    set_stage_(model.eval(), "binary")
    assert model(IMAGES).std(0).max() > 0


def test_layers_that_are_called_by_keyword() -> None:
    class ByKeyword(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.body[2](input=F.relu(self.body[0](input=self.stem(input=x))))
            return self.head(input=self.hidden(input=x.mean((2, 3))))

    model = ByKeyword()
    report = binarize_(model, example=IMAGES)
    assert report.changed == ("body.0", "body.2", "hidden")
    assert {layer.shift for layer in report.layers} == {"", "threshold"}
    assert model(IMAGES).shape == (8, 5)


def test_a_layer_whose_input_is_made_in_the_forward_pass() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.positions, self.b, self.c = (nn.Conv2d(8, 8, 1) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            grid = torch.linspace(-1, 1, x.shape[-1]).expand(1, 8, x.shape[-2], -1)
            return self.c(self.b(self.a(x) + self.positions(grid)))

    report = binarize_(Positions(), example=torch.randn(2, 8, 6, 6))
    assert report.changed == ("b",)


def test_layers_of_other_kinds_count_for_the_first_and_the_last() -> None:
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.up = nn.Conv3d(3, 8, 3), nn.ConvTranspose2d(8, 2, 2, 2)
            self.body = nn.Conv2d(8, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.body(self.stem(x).mean(2)))

    assert binarize_(Volume(), example=torch.randn(2, 3, 4, 8, 8)).changed == ("body",)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_parts_are_left_alone() -> None:
    scripted = torch.jit.trace(nn.Conv2d(3, 8, 3), IMAGES)
    model = nn.Sequential(scripted, nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1))
    report = binarize_(model, example=IMAGES)
    assert report.changed == ("2",)
    assert "compiled by torch.jit" in report.layers[-1].reason


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, nn.Hardtanh),
        ({"method": {"activation": "prelu"}}, nn.PReLU),
        ({"method": {"phase_deviation": 1.5, "inputs": "rsign", "activation": "rprelu"}}, RPReLU),
        ({"method": "reactnet", "activation": "hardtanh"}, nn.Hardtanh),
        ({"method": "reactnet", "activation": "keep"}, nn.ReLU),
    ],
)
def test_an_activation_is_that_of_the_method_unless_the_configuration_names_one(
    options: dict[str, Any], expected: type[nn.Module]
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 2))
    config = BinarizeConfig(**options)
    binarize_(model, config, example=torch.randn(2, 3, 8, 8))
    assert type(model[1]) is expected
    if expected is RPReLU:
        layer = model[2]
        assert repr(layer.weight_quantizer).startswith("StandardizedPeriodicSign(phase_deviation=1.5")
        assert isinstance(layer.input_quantizer, RSign)
