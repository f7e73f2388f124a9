"""Ctrl-C at any moment, several times, and a lost terminal: one line, and no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import biper_command

from biper.training.interruption import StopRequest


@pytest.fixture(autouse=True)
def _signals_of_a_terminal() -> Iterator[None]:
    """Signals end a process, also where these tests run in the background or under nohup, which ignore some."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


BENCH = ["bench", "cifar10-resnet20", "--seconds", "60"]


@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc that the command works")
@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_while_a_command_works_is_one_line(times: int, tmp_path: Path) -> None:
    process = subprocess.Popen(biper_command(*BENCH), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while "_native" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "error: interrupted\n")


@pytest.mark.parametrize("module", ["biper.cli.app", "typer", "biper.cli.train"])
def test_ctrl_c_while_a_command_starts_is_one_line(module: str) -> None:
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from biper.__main__ import main\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "error: interrupted\n")


def test_ctrl_c_that_other_code_suppresses_ends_the_command_too() -> None:
    code = (
        "import os, signal, sys, time\n"
        "from biper.cli import interrupts\n"
        "interrupts.GRACE_SECONDS = 0.2\n"
        "class Suppressing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n"
        "            try:\n"
        "                os.kill(os.getpid(), signal.SIGINT)\n"
        "            except KeyboardInterrupt:\n"
        "                time.sleep(30)\n"
        "sys.meta_path.insert(0, Suppressing())\n"
        "from biper.__main__ import main\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "error: interrupted\n")


def test_a_lost_terminal_requests_a_stop_unless_it_is_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGHUP)
        assert stop.requested
    assert signal.getsignal(signal.SIGHUP) is before
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("biper.targets.deploy", "c_source", ["cifar10-resnet20", "--format", "c"]),
        ("biper.targets.deploy", "atomic_write", ["cifar10-resnet20", "--format", "c"]),
        pytest.param(
            "biper.targets.deploy", "html_page", ["cifar10-resnet20", "--format", "html"], marks=pytest.mark.slow
        ),
        pytest.param("biper.targets.packed.export", "verify", ["MODEL"], marks=pytest.mark.slow),
        pytest.param("biper.targets.packed.saved", "atomic_write", ["MODEL"], marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_in_the_middle_of_an_export_is_one_line_and_writes_nothing(
    module: str, name: str, arguments: list[str], tmp_path: Path
) -> None:
    """The signal comes when the export calls a function: it computes, compares or is about to write."""
    if arguments == ["MODEL"]:
        from biper.models import create_model
        from biper.models.saved import ModelInfo, save_model

        info = ModelInfo("digits_cnn", "digits", 10, "W1A1", 20.0, (0.0,), (1.0,), ())
        save_model(tmp_path / "model.safetensors", create_model("digits_cnn", dataset="digits"), info)
        arguments = [str(tmp_path / "model.safetensors")]
    out = tmp_path / "out"
    out.mkdir()
    code = (
        "import importlib, os, signal, sys\n"
        "from biper.__main__ import main\n"
        f"module = importlib.import_module({module!r})\n"
        f"function = getattr(module, {name!r})\n"
        "def interrupted(*arguments, **options):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return function(*arguments, **options)\n"
        f"setattr(module, {name!r}, interrupted)\n"
        f"sys.argv = ['biper', 'export', *{arguments!r}, '--out', {str(out / 'model')!r}]\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "error: interrupted\n")
    assert list(out.iterdir()) == []
