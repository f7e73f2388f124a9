from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from biper import create_model, load_model, save_model, set_stage_
from biper.errors import CheckpointError
from biper.io.tensors import load_tensors, save_tensors
from biper.models.saved import ModelInfo
from biper.runs.checkpoint import CheckpointFolder
from biper.runs.state import Position

INFO = ModelInfo("digits_cnn", "digits", 10, "W1A1", 13.0, (0.3,), (0.4,), tuple("0123456789"))


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("blob") / "x.safetensors"
    save_tensors(path, {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.uint8)}, {"x": [1, "0" * 64]})
    return path.read_bytes()


def test_tensors_and_document_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(3).bfloat16(),
    }
    save_tensors(path, tensors, {"x": {"y": [1, None, 2.5]}})
    loaded, document = load_tensors(path)
    assert document == {"x": {"y": [1, None, 2.5]}}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype
    first = path.read_bytes()
    save_tensors(path, dict(reversed(tensors.items())), {"x": {"y": [1, None, 2.5]}})
    assert path.read_bytes() == first, "the same content has the same bytes"
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@given(data=st.data())
@settings(max_examples=300)
def test_any_changed_byte_and_any_truncation_is_noticed(
    data: st.DataObject, blob: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    if data.draw(st.booleans()):
        changed = blob[: data.draw(st.integers(0, len(blob) - 1))]
    else:
        position = data.draw(st.integers(0, len(blob) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != blob[position]))
        changed = blob[:position] + bytes([byte]) + blob[position + 1 :]
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match="mutated"):
        load_tensors(path)


def test_other_safetensors_files_are_not_ours(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "theirs.safetensors")
    with pytest.raises(CheckpointError, match="not one that biper wrote"):
        load_tensors(tmp_path / "theirs.safetensors")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_tensors(tmp_path / "none.safetensors")


def test_a_model_comes_back_with_stage_and_frequency(tmp_path: Path) -> None:
    model = set_stage_(INFO.create(), "binary").eval()
    save_model(tmp_path / "m.safetensors", model, INFO)
    loaded, info = load_model(tmp_path / "m.safetensors")
    assert info == INFO
    assert loaded.block1.conv1.weight_quantizer.frequency == 13.0
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(loaded(x), model(x))


def test_weights_of_another_model_are_refused_in_one_line(tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", create_model("resnet20", dataset="digits"), INFO)
    with pytest.raises(CheckpointError, match="holds weights of another model, not of digits_cnn") as caught:
        load_model(tmp_path / "m.safetensors")
    assert "\n" not in str(caught.value)
    save_model(tmp_path / "m.safetensors", INFO.create(), replace(INFO, name="resnet99"))
    with pytest.raises(CheckpointError, match="describes no network that this version knows"):
        load_model(tmp_path / "m.safetensors")
    save_tensors(tmp_path / "c.safetensors", {}, {"format": "biper checkpoint 1"})
    with pytest.raises(CheckpointError, match="holds 'biper checkpoint 1', expected 'biper model 1'"):
        load_model(tmp_path / "c.safetensors")


def test_the_newest_valid_checkpoint_is_found_and_old_ones_are_dropped(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load_newest() is None
    for stage, epoch, step in ((1, 1, 0), (1, 2, 0), (1, 10, 0), (2, 1, 0), (2, 1, 5), (2, 2, 0)):
        folder.save(Position(stage=stage, epoch=epoch, step=step), {"e": torch.tensor(epoch)}, {"position": {}})
    names = [path.name for path in folder.newest_first()]
    assert [name.removesuffix(".safetensors") for name in names] == [
        "stage2-epoch00002-step0000000",
        "stage2-epoch00001-step0000005",
        "stage1-epoch00010-step0000000",
    ]
    newest = folder.newest_first()[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"skipped a checkpoint: {newest}"):
        found = folder.load_newest()
    assert found is not None
    assert found[0].name == "stage2-epoch00001-step0000005.safetensors"
