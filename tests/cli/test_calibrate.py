"""``biper export --calibrate``: pictures say how large the values of a network in integers become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.array_programs import gated_program
from typer.testing import CliRunner

from biper.cli.app import app
from biper.errors import BiperError
from biper.runtime.model import Model
from biper.runtime.program import write_program
from biper.targets.c.source import c_source
from biper.targets.c.to_fixed_point import to_fixed_point

COMMAND = ["export", "net.biper", "--format", "c", "--integer-only", "--out", "net.c"]


def test_values_have_the_exponents_of_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Model(gated_program())
    Path("net.biper").write_bytes(write_program(model.program))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.save("pixels.npy", pixels)
    expected = to_fixed_point(model.program, model.normalized(pixels))
    assert expected.exponents != to_fixed_point(model.program).exponents
    assert CliRunner().invoke(app, [*COMMAND, "--calibrate", "pixels.npy"], catch_exceptions=False).exit_code == 0
    assert Path("net.c").read_text() == c_source(model.program, name="net", fixed=expected).source
    assert CliRunner().invoke(app, COMMAND, catch_exceptions=False).exit_code == 0
    plain = c_source(model.program, name="net", fixed=to_fixed_point(model.program)).source
    assert Path("net.c").read_text() == plain


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.png", r"calibrate='none\.png': .*No such file"),
        ("empty", "calibrate='empty': the folder holds no picture"),
        ("nothing.npy", "calibrate=...: expected at least one image, found none"),
        ("wrong.npy", r"calibrate='wrong\.npy': the model expects uint8 images"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.biper").write_bytes(write_program(gated_program()))
    Path("empty").mkdir()
    np.save("nothing.npy", np.zeros((0, 8, 8, 3), np.uint8))
    np.save("wrong.npy", np.zeros((2, 9, 9, 3), np.uint8))
    with pytest.raises(BiperError, match=message):
        CliRunner().invoke(app, [*COMMAND, "--calibrate", name], catch_exceptions=False)
    assert not Path("net.c").exists()
