"""A network and data of one's own on the command line, each command as a real process."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Biper, error_line
from support.pictures import make_folder
from support.signals import write_npz

MODULE = """
from torch import nn

def signal_net(width=8):
    return nn.Sequential(
        nn.Conv1d(2, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Conv1d(width, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 3),
    )

class ImageNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
        )
"""


def test_a_factory_and_signals_from_recipe_to_c(biper: Biper, tmp_path: Path) -> None:
    (tmp_path / "mynets.py").write_text(MODULE)
    write_npz(tmp_path / "s.npz")
    data = ["--data-dir", "s.npz"]
    settings = ["model.factory=mynets:signal_net", "model.arguments.width=12", "data.name=signals", "data.batch_size=8"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    trained = biper("train", "quick", *overrides, *data, "--out", "run", "--device", "cpu", "--json")
    accuracy = json.loads(trained.stdout)["stage2"]["test_accuracy"]
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["network"] == "mynets:signal_net"
    assert environment["network_arguments"] == {"width": 12}
    assert Path(environment["network_file"]).name == "mynets.py"
    for model in (["run"], ["run/model.biper", "--data", "signals"]):
        assert json.loads(biper("evaluate", *model, *data, "--json").stdout)["accuracy"] == accuracy
    biper("export", "run", *data, "--format", "c", "--out", "net.c")
    assert "net" in (tmp_path / "net.h").read_text()
    assert "on random samples" in biper("export", "run", "--out", "run/again.biper").stdout, "its data are not named"
    (tmp_path / "mynets.py").rename(tmp_path / "other.py")
    for command in (["evaluate", "run"], ["export", "run"], ["analyze", "run"], ["inspect", "run"]):
        line = error_line(biper(*command, expect=1))
        assert (
            "recipe.toml: factory 'mynets:signal_net': no module mynets" in line
            or "'mynets:signal_net': no mod" in line
        )
    assert "name its code in the recipe" in error_line(biper("train", "short", "--out", "r", expect=1))


def test_a_factory_and_folders_of_pictures(biper: Biper, tmp_path: Path) -> None:
    (tmp_path / "mynets.py").write_text(MODULE)
    for name in ("train", "test"):
        make_folder(tmp_path / "data" / name, ("cat", "dog"), 4)
    settings = ["model.factory=mynets:ImageNet", "data.name=images", "data.image_size=16", "data.batch_size=4"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    biper("train", "quick", *overrides, "--data-dir", "data", "--out", "run", "--device", "cpu", "--workers", "0")
    found = json.loads(biper("evaluate", "run", "--data-dir", "data", "--workers", "0", "--json").stdout)
    assert found["images"] == 8
    (tmp_path / "run" / "model.biper").unlink()
    assert "images test images" in biper("export", "run", "--data-dir", "data").stdout
