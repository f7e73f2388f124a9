"""The networks of the examples, in torch's own relu, become binary and keep information."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from biper import binarize_, check_binary_inputs, set_stage_

PATH = Path(__file__).parents[2] / "examples" / "networks.py"
SPEC = importlib.util.spec_from_file_location("example_networks", PATH)
assert SPEC is not None
assert SPEC.loader is not None
networks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(networks)


@pytest.mark.parametrize(("name", "width", "binary", "real"), [("ResNet18", 8, 16, 5), ("MobileNetV2", 0.25, 34, 19)])
def test_a_network_of_the_examples(name: str, width: float, binary: int, real: int) -> None:
    torch.manual_seed(0)
    model, images = getattr(networks, name)(width=width), torch.randn(8, 3, 32, 32)
    report = binarize_(model, example=images)
    assert (len(report.changed), len(report.kept)) == (binary, real), report
    set_stage_(model, "binary")
    assert all(0.01 <= share <= 0.99 for share in check_binary_inputs(model, images).values())
    with torch.no_grad():
        for _ in range(20):
            model(images)
        assert model.eval()(images).std(0).max() > 1e-3
