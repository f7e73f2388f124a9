"""The records of benchmarks, which are no part of the package: their folder joins the end of the path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.append(str(BENCHMARKS))

from records import schema, summary, tables  # noqa: E402

__all__ = ["BENCHMARKS", "schema", "script", "summary", "tables"]


def script(name: str) -> ModuleType:
    """A script of the folder, as a module."""
    return importlib.import_module(name)
