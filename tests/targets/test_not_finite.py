"""Numbers that are NaN or infinite: an error wherever a model is read, measured or written."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import trained_like

import biper
from biper.errors import BiperError, CheckpointError, ExportError, ModelError
from biper.io.tensors import load_tensors, save_tensors
from biper.models.saved import ModelInfo, load_model, save_model
from biper.runtime import load_pretrained
from biper.runtime.program import Program
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point
from biper.targets.deploy import OpenedProgram, write_graph
from biper.targets.web.page import html_page

INFO = ModelInfo("digits_cnn", "digits", 10, "W1A1", 20.0, (0.5,), (0.25,), ())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["conv1.weight", "block1.norm1.running_var"])
def test_a_saved_model_with_one_does_not_load(name: str, value: float, tmp_path: Path) -> None:
    model = trained_like("digits_cnn", "digits")
    found = model.state_dict()
    key = name if name in found else next(key for key in found if key.endswith(name.rsplit(".", 1)[1]))
    with torch.no_grad():
        found[key].view(-1)[-1] = value
    save_model(tmp_path / "model.safetensors", model, INFO)
    with pytest.raises(CheckpointError, match=f"model.safetensors holds values in {key} that are NaN or infinite"):
        load_model(tmp_path / "model.safetensors")
    if value != value:
        with pytest.raises(ModelError, match=f"the model has values in {key} that are NaN or infinite"):
            biper.evaluate(model, biper.load_dataset("digits").split("test"), (0.5,), (0.25,))
    with pytest.raises(ExportError, match=f"{key} has 1 values that are NaN or infinite"):
        biper.export(model, tmp_path / "model.biper", torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize("changed", [{"mean": (math.nan,)}, {"std": (math.inf,)}, {"std": (0.0,)}, {"std": (-1.0,)}])
def test_a_normalization_with_one_is_refused(changed: dict[str, tuple[float]], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected finite numbers for mean and std, and std above 0"):
        replace(INFO, **changed)
    save_model(tmp_path / "model.safetensors", trained_like("digits_cnn", "digits"), INFO)
    tensors, document = load_tensors(tmp_path / "model.safetensors")
    document["info"] |= changed
    save_tensors(tmp_path / "changed.safetensors", tensors, document)
    with pytest.raises(CheckpointError, match=r"expected (a list of numbers as|finite numbers for) (mean|std)"):
        load_model(tmp_path / "changed.safetensors")


def spoiled(value: float) -> list[tuple[str, Program]]:
    """The packed model with one number that is not finite: in each kind of tensor, and in its normalization."""
    program = load_pretrained("cifar10-resnet20").program
    made = [("mean", replace(program, mean=(value, 0.0, 0.0))), ("std", replace(program, std=(1.0, 1.0, value)))]
    kinds = {}
    for number, op in enumerate(program.operations):
        kinds |= {key: number for key, values in op.tensors.items() if np.issubdtype(values.dtype, np.floating)}
    for key, number in kinds.items():
        operations = list(program.operations)
        values = operations[number].tensors[key].copy()
        values.reshape(-1)[-1] = value
        operations[number] = replace(operations[number], tensors={**operations[number].tensors, key: values})
        made.append((key, replace(program, operations=tuple(operations))))
    return made


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_target_writes_a_program_with_one(value: float, tmp_path: Path) -> None:
    cases = spoiled(value)
    assert len(cases) >= 5
    for name, program in cases:
        for write in (
            lambda program: c_source(program),
            lambda program: to_fixed_point(program, None),
            lambda program: html_page(program, "model"),
            lambda program: write_graph(OpenedProgram(program, "model", tmp_path), "onnx", tmp_path / "model.onnx"),
        ):
            with pytest.raises(BiperError, match=f"normalization has NaN|its {name} has values that are NaN"):
                write(program)


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    out = tmp_path / "model.biper"
    with pytest.raises(ExportError, match=r"example_input=\.\.\. expects a torch\.Tensor, or .*, got ndarray"):
        biper.export(torch.nn.Linear(2, 2), out, np.zeros((2, 2), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"model=\.\.\. expects a torch\.nn\.Module, got ndarray"):
        biper.export(np.zeros(2), out, torch.zeros(2, 2))  # type: ignore[arg-type]
