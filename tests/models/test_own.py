from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.own_networks import SignalNet
from torch import nn

from biper import load_model, save_model
from biper.errors import CheckpointError, ModelError
from biper.models.own import find_factory, make_own, require_outputs
from biper.models.saved import ModelInfo
from biper.nn import binary_layers

HERE = "support.own_networks"
INFO = ModelInfo(
    "own", "signals", 3, "W1A1", 20.0, (0.0, 0.0), (1.0, 1.0), ("a", "b", "c"), {"seed": 5}, input_shape=(2, 20)
)


def test_a_factory_is_a_class_or_function_with_arguments() -> None:
    model = find_factory(f"{HERE}:SignalNet", {"width": 12})()
    assert isinstance(model, SignalNet)
    assert model.head.in_features == 12
    assert isinstance(find_factory("torch.nn:Sequential")(), nn.Sequential)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("support.own_networks", "expected module:name"),
        (
            "no_such_module_here:make",
            "no module no_such_module_here; it must be installed, or lie in the current folder",
        ),
        (f"{HERE}.deeper:make", "no module support.own_networks.deeper"),
        (f"{HERE}:SignalNets", "has no SignalNets; did you mean 'SignalNet'"),
        (f"{HERE}:SignalNet.none", r"has no SignalNet\.none"),
        (f"{HERE}:__name__", "expected a class or a function, got a str"),
        ("os:system", "os belongs to Python itself"),
        ("builtins:exec", "builtins belongs to Python itself"),
        ("broken_module_of_mine:make", "importing broken_module_of_mine fails: ZeroDivisionError: division by zero"),
    ],
)
def test_code_that_cannot_be_found_is_one_line(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module_of_mine.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=message) as found:
        find_factory(path)
    assert "\n" not in str(found.value)


def test_a_network_of_ones_own_becomes_binary_and_full_precision() -> None:
    def make(bits: str) -> nn.Module:
        return make_own(SignalNet, bits=bits, frequency=13.0, method="biper", shape=(2, 20), seed=3)

    state = torch.get_rng_state()
    binary = make("W1A1")
    assert torch.equal(torch.get_rng_state(), state)
    assert list(binary_layers(binary)) == ["features.3"]
    assert binary_layers(binary)["features.3"].weight_quantizer.frequency == 13.0
    assert not binary_layers(make("W32A32"))
    for name, value in make("W1A1").state_dict().items():
        assert torch.equal(value, binary.state_dict()[name])
    already = make_own(lambda: binary, bits="W32A32", frequency=1.0, method="biper", shape=(2, 20), seed=0)
    assert not binary_layers(already)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_network", "the factory of the network made a str, expected a torch.nn.Module"),
        ("failing", "the factory of the network fails: RuntimeError: no weights of that name"),
        ("image_net", "expected input"),
    ],
)
def test_a_factory_that_makes_no_fitting_network_is_one_line(factory: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as found:
        INFO.create(find_factory(f"{HERE}:{factory}"))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SignalNet(classes=4), r"outputs of shape \(2, 4\) for samples of shape \(2, 2, 20\), expected \(2, 3\)"),
        (SignalNet(channels=3), r"does not run on samples of shape \(2, 2, 20\): "),
        (nn.LSTM(20, 3), "gives a tuple, expected one tensor of logits"),
    ],
)
def test_outputs_must_be_one_for_each_class(model: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        require_outputs(model, torch.zeros(2, 2, 20), 3)
    assert model.training


def test_saved_weights_name_no_code(tmp_path: Path) -> None:
    path, model = tmp_path / "model.safetensors", INFO.create(SignalNet)
    save_model(path, model, INFO)
    assert b"own_networks" not in path.read_bytes()
    with pytest.raises(ModelError, match=r"nothing says which code makes it: name it with factory="):
        load_model(path)
    for factory in (SignalNet, f"{HERE}:SignalNet"):
        loaded, info = load_model(path, factory=factory)
        assert info == INFO
        assert all(
            torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
        )
    with pytest.raises(CheckpointError, match="holds weights of another model"):
        load_model(path, factory=lambda: SignalNet(width=9))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[model]\nfactory = "{HERE}:SignalNet"\narguments = {{"width" = 8}}\n')
    assert load_model(path)[1] == INFO
    recipe.write_text('[model]\nfactory = "moved_away:SignalNet"\n')
    with pytest.raises(ModelError, match=r"recipe\.toml: factory 'moved_away:SignalNet': no module moved_away"):
        load_model(path)
    recipe.write_text("[model\n")
    with pytest.raises(ModelError, match=r"recipe\.toml cannot be read"):
        load_model(path)
