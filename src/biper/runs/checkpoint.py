"""The checkpoints of a run: writing them atomically, finding the newest valid one, and deleting old ones."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from biper.errors import CheckpointError
from biper.io.files import make_folder
from biper.io.tensors import load_tensors, save_tensors
from biper.runs.state import Position

FORMAT = "biper checkpoint 1"
KEPT = 2
"""How many of the newest checkpoints are kept, so that there is another one if the newest is corrupt."""

_NAME = re.compile(r"stage(\d)-epoch(\d+)-step(\d+)\.safetensors")


class CheckpointFolder:
    """The checkpoints of one run. The name of a file contains its stage, epoch and step.

    Args:
        path: the folder, which is made when the first checkpoint is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, position: Position, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> Path:
        """Write a checkpoint atomically, then delete old ones, except the newest two and the last of each stage.

        Args:
            position: how far the run has come.
            tensors: the tensors of the state; see `biper.runs.state.pack_state`.
            document: the JSON document of the state.

        Returns:
            The file that was written.

        Raises:
            CheckpointError: the file could not be written; earlier checkpoints are not changed.
        """
        make_folder(self.path)
        name = f"stage{position.stage}-epoch{position.epoch:05d}-step{position.step:07d}.safetensors"
        save_tensors(self.path / name, tensors, {"format": FORMAT, **document})
        stages = {path.name.split("-")[0]: path for path in reversed(self.newest_first())}
        for old in self.newest_first()[KEPT:]:
            if old not in stages.values():
                old.unlink(missing_ok=True)
        return self.path / name

    def newest_first(self) -> list[Path]:
        """The files of all checkpoints, ordered by position; the latest position comes first."""
        found = [(match, path) for path in self.path.glob("*.safetensors") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, key=lambda item: [int(part) for part in item[0].groups()])][::-1]

    def load_newest(self) -> tuple[Path, dict[str, Tensor], dict[str, Any]] | None:
        """Read the newest valid checkpoint. A corrupt one is skipped with a warning that names it.

        Returns:
            The file, its tensors and its document; None if there is no valid checkpoint.
        """
        for path in self.newest_first():
            try:
                tensors, document = load_tensors(path)
                if document.get("format") != FORMAT:
                    raise CheckpointError(f"{path} holds {document.get('format')!r}, expected {FORMAT!r}")
            except CheckpointError as error:
                warnings.warn(f"skipped a checkpoint: {error}", stacklevel=2)
                continue
            return path, tensors, document
        return None
