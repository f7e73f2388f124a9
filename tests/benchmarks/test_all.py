"""`benchmarks/all.py` as a process: what it writes, what it keeps, and how it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from support.benchmarks import BENCHMARKS, schema
from support.compiled import require


def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, str(BENCHMARKS / "all.py"), *words], capture_output=True, text=True)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def test_what_was_measured_is_kept_when_a_comparison_fails(tmp_path: Path) -> None:
    require("gcc")
    path, missing = tmp_path / "machine.json", tmp_path / "nothing"
    words = ["--quick", "--json", str(path), "--title", "This machine"]
    failed = run(*words, "--only", "calls,c", "--libbiper", str(missing), expect=1)
    assert "[1/2] calls, about" in failed.stderr
    assert failed.stderr.splitlines()[-1] == f"failed: calls; all others are in {path}"
    record = schema.read_record(path)
    assert record.machine.title == "This machine"
    measured = record.comparisons.c
    assert measured is not None
    assert measured.quick
    assert measured.rows[0].program == "engine, scalar kernels"
    assert len(measured.rows) == 5
    assert f"| {measured.rows[1].program} |" in failed.stdout

    kept = path.read_bytes()
    again = run(*words, "--only", "c,calls", "--resume")
    assert again.stdout == ""
    assert "calls is left out: it needs the folder of a built libbiper: --libbiper FOLDER" in again.stderr
    assert path.read_bytes() == kept


def test_the_record_of_another_machine_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    shutil.copy(sorted(schema.RESULTS.glob("*zen4*.json"))[0], path)
    content = json.loads(path.read_text())
    content["machine"]["processor"] = "Another processor"
    path.write_text(json.dumps(content))
    refused = run("--only", "c", "--json", str(path), expect=1).stderr
    assert refused.count("\n") == 1
    assert "the record of another machine, Another processor" in refused
