"""A word on the terminal before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import sys

import typer

WITH_TORCH = ("quickstart", "train", "compare", "evaluate", "analyze", "import-reference")
"""The commands that always import PyTorch."""


def say_loading() -> None:
    """Say on a terminal that PyTorch is being imported, unless it is already."""
    if "torch" not in sys.modules and sys.stderr.isatty():
        typer.echo("loading PyTorch", err=True)
