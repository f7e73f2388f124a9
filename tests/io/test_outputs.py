"""Files that must not be overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from biper.errors import ExportError
from biper.io.container import container_format
from biper.io.outputs import require_output
from biper.io.tensors import save_tensors

RULES = {"suffix": ".biper", "formats": ["packed"]}


def test_an_output_may_replace_only_a_file_of_its_kind(tmp_path: Path) -> None:
    source, new = tmp_path / "model.safetensors", tmp_path / "new.biper"
    save_tensors(source, {"x": torch.ones(2)}, {"format": "weights"})
    (tmp_path / "link.biper").symlink_to(source)
    (tmp_path / "hard.biper").hardlink_to(source)
    (tmp_path / "recipe.toml").write_text("seed = 1")
    (tmp_path / "pack").mkdir()
    for name, reason in (
        ("model.safetensors", "is what the new file is made from"),
        ("link.biper", "is what the new file is made from"),
        ("hard.biper", "is what the new file is made from"),
        ("recipe.toml", "is there, and is no .biper file"),
        ("pack", "expects a file, and .*pack is a folder: name a file in it, such as .*pack/model.biper"),
        ("missing/new.biper", "there is no folder .*missing"),
    ):
        with pytest.raises(ExportError, match=reason):
            require_output(tmp_path / name, inputs=[source], **RULES)
    with pytest.raises(ExportError, match=r"hard\.biper holds a 'weights', which would be lost"):
        require_output(tmp_path / "hard.biper", **RULES)
    require_output(new, inputs=[source], **RULES)
    for content in (b"", b"cut off", source.read_bytes()[:60], b"\xff" * 20):
        new.write_bytes(content)
        assert container_format(new) is None
        require_output(new, inputs=[source], **RULES)
    save_tensors(tmp_path / "packed", {}, {"format": "packed"})
    require_output(tmp_path / "packed", inputs=[source], **RULES)
