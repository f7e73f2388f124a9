"""No binary layer becomes a constant: activations are replaced, thresholds added, gates and shortcuts kept real."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper import BinarizeConfig, BinaryConv2d, binarize_, check_binary_inputs, set_stage_
from biper.binarize.check import warn_of_one_signed_inputs
from biper.binarize.signs import ChannelThreshold, Shifted
from biper.quantizers import RPReLU

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NEVER_NEGATIVE = [nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.GELU(), nn.Sigmoid(), nn.Softplus(), nn.Mish()]


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4))


def plain(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv(3, 16), nn.BatchNorm2d(16), activation, nn.MaxPool2d(2), conv(16, 16), head(16))


def require_information(model: nn.Module, images: Tensor = IMAGES) -> None:
    """Each binary layer sees both signs, and the outputs differ between images."""
    shares = check_binary_inputs(model, images)
    assert shares
    assert all(0.01 <= share <= 0.99 for share in shares.values()), shares
    set_stage_(model, "binary")
    with torch.no_grad():
        for _ in range(30):  # batch norms learn the statistics of the other stage
            model(images)
        model.eval()
        assert model(images).std(0).max() > 1e-3


@pytest.mark.parametrize("activation", NEVER_NEGATIVE, ids=lambda module: type(module).__name__)
def test_a_module_that_cannot_be_negative_is_replaced(activation: nn.Module) -> None:
    model = plain(copy.deepcopy(activation))
    report = binarize_(model, example=IMAGES)
    assert isinstance(model[2], nn.Hardtanh)
    assert f"2: {type(activation).__name__} -> Hardtanh" in str(report)
    require_information(model)


@pytest.mark.parametrize(("kind", "type_"), [("rprelu", RPReLU), ("prelu", nn.PReLU), ("hardtanh", nn.Hardtanh)])
def test_the_config_says_by_what(kind: str, type_: type[nn.Module]) -> None:
    model = plain(nn.ReLU())
    binarize_(model, BinarizeConfig(activation=kind), example=IMAGES)
    assert type(model[2]) is type_
    require_information(model)


class Functions(nn.Module):
    """The activation is a function call in somebody's forward, which cannot be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.c = conv(3, 16), nn.BatchNorm2d(16), conv(16, 16), conv(16, 16)
        self.head = head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.a(x)), inplace=True)
        x = self.b(F.avg_pool2d(x, 2)).clamp(min=0)
        return self.head(self.c(torch.cat([x, x.square()], 1)[:, :16]))


@pytest.mark.parametrize("one_signed", ["threshold", "norm"])
def test_a_function_that_cannot_be_replaced_gets_a_threshold_or_a_norm_behind_it(one_signed: str) -> None:
    model = Functions()
    report = binarize_(model, BinarizeConfig(one_signed=one_signed), example=IMAGES)
    assert report.changed == ("b", "c")
    assert isinstance(model.b, Shifted)
    assert model.b.kernel_size == (3, 3), "attributes of the layer can be read through the wrapper"
    assert f"a learned {one_signed}" in str(report)
    require_information(model)
    model.train()(IMAGES).sum().backward()
    if one_signed == "threshold":
        assert model.b.shift.threshold.grad.abs().sum() > 0


def test_or_the_layer_stays_real() -> None:
    model = Functions()
    report = binarize_(model, BinarizeConfig(one_signed="real", include=("b", "c")), example=IMAGES)
    assert report.changed == ()
    assert type(model.b) is nn.Conv2d
    assert "its input has one sign: 100.0% of it is +1" in str(report)


def test_keep_replaces_no_activation() -> None:
    model = plain(nn.ReLU())
    binarize_(model, BinarizeConfig(activation="keep"), example=IMAGES)
    assert isinstance(model[2], nn.ReLU)
    assert isinstance(model[4], Shifted)
    require_information(model)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """A residual block with a depthwise convolution, a gate and a shortcut that changes the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.point, self.depth = conv(16, 32, 1), conv(32, 32, 3, groups=32, stride=2)
        self.gate, self.project = SqueezeExcite(32), conv(32, 24, 1)
        self.shortcut = nn.Sequential(nn.Conv2d(16, 24, 1, stride=2), nn.BatchNorm2d(24))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.gate(self.act(self.depth(self.act(self.point(x)))))
        return self.act(self.project(y) + self.shortcut(x))


def test_gates_shortcuts_and_depthwise_layers_stay_real() -> None:
    model = nn.Sequential(conv(3, 16), nn.Hardtanh(), Block(), conv(24, 16), nn.Hardtanh(), head(16))
    every = copy.deepcopy(model)
    report = binarize_(model, example=IMAGES)
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert report.changed == ("2.point", "2.project", "3")
    assert "gate" in reasons["2.gate.reduce"]
    assert "gate" in reasons["2.gate.expand"]
    assert "shortcut" in reasons["2.shortcut.0"]
    assert "depthwise" in reasons["2.depth"]
    require_information(model)
    report = binarize_(every, BinarizeConfig(keep_real=("first", "last")), example=IMAGES)
    assert len(report.changed) == 7
    require_information(every)


def test_layers_of_few_channels_stay_real() -> None:
    model = nn.Sequential(conv(3, 4), conv(4, 8), conv(8, 8), head(8))
    report = binarize_(model, example=IMAGES)
    assert report.changed == ("2",)
    assert "fewer than 8" in str(report)


def test_the_check_names_layers_of_one_sign() -> None:
    model = nn.Sequential(conv(3, 16), nn.ReLU(), BinaryConv2d(16, 16, 3))
    assert check_binary_inputs(model, IMAGES) == {"2": 1.0}
    with pytest.warns(UserWarning, match="the input of the binary layer 2 has one sign"):
        warn_of_one_signed_inputs(check_binary_inputs(model, IMAGES))
    model[1] = nn.Hardtanh()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_one_signed_inputs(check_binary_inputs(model, IMAGES))


def test_a_threshold_is_subtracted_from_its_channels() -> None:
    threshold = ChannelThreshold(4, 1)
    threshold.threshold.data.copy_(torch.arange(4.0))
    x = torch.zeros(2, 4, 3, 3)
    assert threshold(x)[0, :, 0, 0].tolist() == [0, -1, -2, -3]
    last = ChannelThreshold(3, -1)
    last.threshold.data.fill_(2)
    assert last(torch.zeros(2, 5, 3)).eq(-2).all()


def test_a_replaced_activation_keeps_its_hooks_and_stays_the_same_object() -> None:
    model, calls = plain(nn.ReLU(inplace=True)), []
    activation = model[2]
    handle = activation.register_forward_hook(lambda *_arguments: calls.append(1))
    binarize_(model, example=IMAGES)
    calls.clear()
    model(IMAGES)
    assert calls == [1]
    assert model[2] is activation
    assert activation.inplace
    handle.remove()
    model(IMAGES)
    assert calls == [1]


def test_the_mask_of_a_dropout_does_not_hide_the_activation_in_front_of_it() -> None:
    model = nn.Sequential(
        nn.Linear(16, 32), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 32), nn.Linear(32, 4)
    )
    report = binarize_(model.train(), example=torch.randn(64, 16, generator=torch.Generator().manual_seed(0)))
    assert report.layers[2].replaced == ("2: ReLU -> Hardtanh",)


def test_a_threshold_can_give_a_later_layer_one_sign_which_then_gets_one_too() -> None:
    class Later(nn.Module):
        """Before ``b`` has a threshold its result is the same for all images, and that of ``c`` has both signs."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b, self.c = conv(3, 16), nn.BatchNorm2d(16), conv(16, 16), conv(16, 32)
            self.hidden, self.classifier = nn.Linear(32, 32), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.silu(self.b(torch.relu(self.norm(self.a(x)))))
            return self.classifier(F.relu(self.hidden(F.gelu(self.c(x)).mean((2, 3)))))

    shifts = set()
    for seed in range(2):
        torch.manual_seed(seed)
        model = Later()
        report = binarize_(model, example=IMAGES)
        assert all(layer.binary or "one sign" not in layer.reason for layer in report.layers), report
        shifts.add(report.layers[3].shift)
        require_information(model)
    assert "threshold" in shifts


def test_signs_are_measured_in_both_stages() -> None:
    """The wave of small weights leaves the constant in charge of the next layer's signs; their bits do not."""

    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 2)
            self.b.weight.data.fill_(1e-4)
            self.b.bias.data.zero_()

        def forward(self, x: Tensor) -> Tensor:
            bits = torch.cat([torch.ones(len(x), 24), self.a(x)[:, :8]], 1)
            return self.d(self.c(self.b(bits) - 0.1))

    report = binarize_(Stages(), example=torch.randn(64, 16, generator=torch.Generator().manual_seed(0)))
    assert report.layers[2].reason == "its input has one sign: 100.0% of it is +1", "a threshold helps stage 1 alone"
