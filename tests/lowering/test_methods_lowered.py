"""Networks of every method are packed, and compute what torch does, also at borders, in groups and after a flatten."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import biper
from biper import BinarizeConfig, BinaryConv2d, BinaryLinear, binarize_
from biper.errors import ExportError
from biper.methods.build import make_activation
from biper.methods.presets import METHODS
from biper.methods.settings import CHOICES, read_method
from biper.quantizers import AdaBinInput, AdaBinWeight, DoReFaInput, Quantizer, RPReLU, RSign, sign
from biper.runtime import Model
from biper.targets.packed.export import export


def learned_(model: nn.Module) -> nn.Module:
    """Give batch norms and everything that a method learns values as after training; in stage 2, evaluation mode."""
    for module in model.modules():
        if isinstance(module, RSign | RPReLU):
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.3)
        elif isinstance(module, AdaBinInput):
            nn.init.uniform_(module.scale, -1.5, 1.5)
            nn.init.normal_(module.offset, std=0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2.0)
        elif isinstance(module, BinaryConv2d | BinaryLinear):
            nn.init.normal_(module.weight, mean=0.02, std=0.1)
    return biper.set_stage_(model, "binary").eval()


COMPOSED = {
    "standardized by channel": {"weights": "biper", "phase_deviation": 1.5, "inputs": "rsign", "activation": "rprelu"},
    "standardized by layer": {"phase_deviation": 0.8, "phase_group": "layer", "phase_mean": "kept", "inputs": "dorefa"},
    "adabin, thresholds": {"weights": "adabin", "inputs": "rsign", "activation": "prelu"},
    "ir-net, two values": {"weights": "ir-net", "inputs": "adabin", "activation": "rprelu"},
    "xnor-net, error decay": {"weights": "xnor-net", "inputs": "ir-net", "activation": "hardtanh"},
}
"""Methods that no published name stands for, by what they are."""

UNPUBLISHED = {
    f"{choice} {name}": {choice: name}
    for choice, kinds in CHOICES.items()
    for name in kinds
    if name not in {getattr(preset, choice) for preset in METHODS.values()}
}
"""Each choice that no published method makes: a new quantizer is packed here as soon as it has settings."""


def awkward_network(name: str, bits: str) -> nn.Module:
    method = read_method({**COMPOSED, **UNPUBLISHED}.get(name, name))
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        make_activation(method, 4) or nn.Hardtanh(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=True),
        nn.BatchNorm2d(6),
        make_activation(method, 6) or nn.Hardtanh(),
        nn.Conv2d(6, 5, (2, 3), padding="same", dilation=(1, 2)),
        nn.BatchNorm2d(5),
        nn.Conv2d(5, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        make_activation(method, 5) or nn.Hardtanh(),
        nn.Flatten(),
        nn.Linear(5 * 3 * 2, 7),
        nn.Linear(7, 3),
    )
    binarize_(model, BinarizeConfig(method=method, bits=bits))
    return learned_(model)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch warns about its speed
@pytest.mark.parametrize("bits", ["W1A1", "W1A32"])
@pytest.mark.parametrize("name", [*METHODS, *COMPOSED, *UNPUBLISHED])
def test_every_method_is_packed_as_it_is(name: str, bits: str, tmp_path: Path) -> None:
    model = awkward_network(name, bits)
    x = torch.randn(16, 1, 9, 7)
    report = export(model, tmp_path / "m.biper", x)
    assert report.problems() == []
    expected = model(x).detach().numpy()
    actual = Model.load(tmp_path / "m.biper")(x.numpy())
    equal = np.isclose(actual, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()).all(1)
    assert equal.sum() >= 15  # a value within rounding of a threshold may flip a bit of an image


@pytest.mark.parametrize("name", [*METHODS, *COMPOSED, *UNPUBLISHED])
def test_every_method_packs_the_networks_here(name: str, tmp_path: Path) -> None:
    model = learned_(
        biper.create_model("digits_cnn", dataset="digits", method={**COMPOSED, **UNPUBLISHED}.get(name, name))
    )
    x = torch.randn(4, 1, 8, 8)
    report = export(model, tmp_path / "m.biper", x)
    assert report.wrong_sums == 0
    assert report.sums >= 4 * (2 * 32 * 64 + 2 * 64 * 16)
    scores = Model.load(tmp_path / "m.biper")(x.numpy())
    if report.flipped_bits == 0:
        np.testing.assert_allclose(scores, model(x).detach().numpy(), atol=1e-4)


def test_the_constants_of_reactnet_are_added_where_something_is_added_already(tmp_path: Path) -> None:
    model = learned_(biper.create_model("resnet20", dataset="cifar10", method="reactnet"))
    x = torch.randn(2, 3, 32, 32)
    report = export(model, tmp_path / "m.biper", x)
    assert report.problems() == []
    kinds = Counter(op.operation for op in Model.load(tmp_path / "m.biper").program.operations)
    assert kinds["binary_convolution"] == 18
    assert kinds["elementwise"] == 18  # the signs behind a threshold; no shift has an operation of its own
    assert kinds["pool"] == 3


class WrongLevels(AdaBinWeight):
    """A quantizer whose `levels` say that its offset is 0, which is wrong."""

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().scale_and_offset(x)[0], x.new_zeros(())


class WrongReal(AdaBinInput):
    """A quantizer whose `real` leaves out the offset that `forward` subtracts."""

    def sign_argument(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.sign_quantizer((x - self.offset) / self.scale) + self.offset


class TwoRegimes(DoReFaInput):
    """A quantizer with the values 0 and 1, which is 0 again for large inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (x < 1.6)


class WrongSigns(Quantizer):
    """A quantizer whose signs are not those of its argument, which it does not name in `sign_argument`."""

    def forward(self, x: Tensor) -> Tensor:
        return sign(torch.cos(100 * x))


class WrongShape(Quantizer):
    """A quantizer that gives each element a scale of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * sign(x)

    def scale_and_offset(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.abs(), x.new_zeros(())


class ThreeValues(Quantizer):
    """A quantizer with the values -1, 0 and +1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sign(x).mul(x.abs() > 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weight_quantizer": WrongLevels()},
            "0: the two values of its weights are not .*; WrongLevels must",
        ),
        (
            {"weight_quantizer": WrongSigns()},
            "0: the two values of its weights are not .*; WrongSigns must",
        ),
        (
            {"stage": "relaxed", "kernel_size": 1},
            "0: its weights have more than two values; put the model into stage 2",
        ),
        (
            {"weight_quantizer": WrongShape()},
            r"0: scale_and_offset of WrongShape must .* \(3, 1, 1, 1\), got",
        ),
        ({"weight_quantizer": ThreeValues()}, "0: its weights have more than two values; put the model into stage 2"),
        (
            {"stage": "binary", "input_quantizer": WrongShape()},
            r"0: scale_and_offset of WrongShape must .* \(1, 1, 1, 1",
        ),
        ({"stage": "binary", "input_quantizer": ThreeValues()}, "0: its input quantizer has not the two values of a"),
        (
            {"stage": "binary", "input_quantizer": WrongReal()},
            "0: its input quantizer has not the two values of a sign",
        ),
        ({"stage": "binary", "input_quantizer": TwoRegimes()}, "0: signs, scales and offsets are not what its quant"),
    ],
)
def test_quantizers_that_do_not_say_what_they_do_are_refused(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    model = nn.Sequential(BinaryConv2d(2, 3, **{"kernel_size": 3, "padding": 1, **options}))
    for module in model.modules():
        if isinstance(module, AdaBinInput):
            nn.init.constant_(module.offset, 0.5)
    with pytest.raises(ExportError, match=message):
        export(model, tmp_path / "m.biper", torch.randn(2, 2, 5, 5))
    assert not (tmp_path / "m.biper").exists()


def test_thresholds_and_shifts_that_were_not_trained_take_no_operation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = biper.create_model("resnet20", dataset="cifar10", method="reactnet")
    images = torch.randn(2, 3, 32, 32)
    biper.set_stage_(model, "binary")(images)
    export(model.eval(), tmp_path / "new.biper", images, normalization=([0.5] * 3, [0.25] * 3))
    packed = Model.load(tmp_path / "new.biper")
    kinds = Counter(op.operation for op in packed.program.operations)
    assert kinds["elementwise"] == 2  # in front of the two pools, which do not ignore -0
    assert kinds["binary_convolution"] == 18
    learned_(model)
    export(model, tmp_path / "learned.biper", images, normalization=([0.5] * 3, [0.25] * 3))
    learned = Counter(op.operation for op in Model.load(tmp_path / "learned.biper").program.operations)
    assert learned["elementwise"] == 18  # each threshold differs from 0
