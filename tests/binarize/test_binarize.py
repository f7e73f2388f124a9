"""`binarize_` on a network that this project does not define."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biper import BinarizeConfig, BinaryConv2d, BinaryLinear, binarize_
from biper.errors import ModelError
from biper.methods.settings import BiperMethod, read_method


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2, bias=True), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False)
        )
        self.again = self.body[2]
        self.hidden = nn.Linear(4, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.body(self.stem(x)).mean((2, 3))))


def test_by_default_all_but_the_first_and_the_last() -> None:
    model = Net()
    latent = model.body[0].weight
    bias = model.body[0].bias
    report = binarize_(model)
    assert report.changed == ("body.0", "body.2", "hidden")
    assert report.kept == ("stem", "head")
    assert isinstance(model.body[0], BinaryConv2d)
    assert isinstance(model.hidden, BinaryLinear)
    assert model.body[0].weight is latent
    assert model.body[0].bias is bias
    assert (model.body[0].stride, model.body[0].groups) == ((2, 2), 2)
    assert model.again is model.body[2], "a shared layer stays shared"
    assert model(torch.randn(2, 3, 12, 12)).shape == (2, 5)
    assert "3 of 5 layers" in str(report)
    assert "the first layer" in str(report)


def test_patterns_choose_layers() -> None:
    model = Net()
    report = binarize_(model, BinarizeConfig(include=("body.*", "stem"), exclude=("body.2",), frequency=7.0))
    assert report.changed == ("stem", "body.0")
    assert model.stem.weight_quantizer.frequency == 7.0


def test_binary_weights_alone() -> None:
    model = Net()
    binarize_(model, BinarizeConfig(bits="W1A32"))
    assert isinstance(model.hidden.input_quantizer, nn.Identity)


def test_a_second_time_says_so() -> None:
    model = Net()
    binarize_(model)
    with pytest.raises(ModelError, match="no layer was made binary"):
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


def test_a_binarized_model_trains_and_keeps_its_mode_and_dtype() -> None:
    model = Net().double().eval()
    binarize_(model)
    assert not model.hidden.training
    assert model.hidden.scale.dtype == torch.float64
    model.train()(torch.randn(4, 3, 12, 12, dtype=torch.float64)).sum().backward()
    assert model.hidden.weight.grad.abs().sum() > 0


def test_binarize_takes_a_method() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3).double(), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2)
    )
    binarize_(model, BinarizeConfig(method=read_method("reactnet")))
    assert model[1].input_quantizer.threshold.shape == (4,)
    assert model[1].input_quantizer.threshold.dtype == torch.float64
    binarize_(model, BinarizeConfig(include=("4",), method=BiperMethod(learn_frequency="channel")))
    assert model[4].weight_quantizer.log_gain.shape == (2,)
