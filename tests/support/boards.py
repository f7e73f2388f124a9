"""The emulated boards of `examples/cortex_m`, for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cortex_m"


def boards() -> dict[str, Any]:
    """The boards of `boards.py` by name, which is no package."""
    if "boards" not in sys.modules:
        spec = importlib.util.spec_from_file_location("boards", EXAMPLE / "boards.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["boards"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    found: dict[str, Any] = sys.modules["boards"].BOARDS
    return found


BOARDS = tuple(boards())
"""The names of the boards."""


def board(name: str) -> Any:
    """The board of this name; skips the test where its compiler or its emulator is not installed."""
    found = boards()[name]
    if (tool := found.missing()) is not None:
        pytest.skip(f"{tool} is not installed")
    return found
