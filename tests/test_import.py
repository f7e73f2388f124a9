"""Importing biper and showing its help are quick, and import no torch."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import biper
from biper.errors import MissingDependencyError

SECONDS = 0.3
"""The limit for what biper adds to the start of the interpreter."""


def fastest(code: str) -> float:
    """The shortest time, in seconds, that a fresh interpreter takes for some code in five runs."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return min(times)


NO_TORCH = "; import sys; assert 'torch' not in sys.modules; assert 'numpy' not in sys.modules"
HELP = """
import sys
sys.argv = ["biper", "--help"]
from biper.cli.app import main
try:
    main()
except SystemExit as status:
    assert status.code == 0, status.code
"""


def test_importing_biper_is_quick_and_does_not_import_torch() -> None:
    assert fastest("import biper" + NO_TORCH) - fastest("pass") < SECONDS


def test_help_is_quick_and_does_not_import_torch() -> None:
    """On a machine that is slow at the moment, the libraries that print the help alone may take half of the limit."""
    interpreter, libraries = fastest("pass"), fastest("import typer, typer.rich_utils")
    limit = max(SECONDS, 1.8 * (libraries - interpreter))
    assert fastest(HELP + NO_TORCH.removeprefix("; ")) - interpreter < limit


def test_the_runtime_does_not_import_torch() -> None:
    code = "import biper.runtime.cpu as c; c.instruction_sets(); import sys; assert 'torch' not in sys.modules"
    fastest(code)


def test_the_comparison_imports_no_other_engine() -> None:
    engines = "{'torch', 'onnx', 'onnxruntime', 'openvino'}"
    fastest(f"import biper.cli.app, biper.peers.engines, sys; assert not {engines} & set(sys.modules)")


@pytest.mark.parametrize("name", biper.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    thing = getattr(biper, name)
    assert thing.__doc__


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = biper.Nope


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    for module in ("load", "schema"):  # an earlier test may have imported them
        monkeypatch.delitem(sys.modules, f"biper.recipes.{module}", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pydantic.*pip install 'biper\[train\]'"):
        _ = biper.load_recipe
