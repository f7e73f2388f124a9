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


def test_one_comparison_is_measured_and_the_next_is_kept_beside_it(tmp_path: Path) -> None:
    require("gcc")
    path = tmp_path / "machine.json"
    done = run("--quick", "--only", "c,calls", "--json", str(path), "--title", "This machine")
    assert "[1/2] c, about" in done.stderr
    assert "calls is left out: it needs the folder of a built libbiper: --libbiper FOLDER" in done.stderr
    record = schema.read_record(path)
    assert record.machine.title == "This machine"
    measured = record.comparisons.c
    assert measured is not None
    assert measured.quick
    assert measured.rows[0].program == "engine, scalar kernels"
    assert len(measured.rows) == 5
    assert f"| {measured.rows[1].program} |" in done.stdout

    kept = path.read_bytes()
    failed = run("--quick", "--only", "calls", "--json", str(path), "--libbiper", str(tmp_path / "nothing"), expect=1)
    assert failed.stderr.splitlines()[-1] == f"failed: calls; all others are in {path}"
    assert path.read_bytes() == kept
    again = run("--quick", "--only", "c", "--json", str(path), "--resume")
    assert again.stdout == ""
    assert path.read_bytes() == kept


def test_wrong_words_and_records_of_other_machines_are_refused_in_one_line(tmp_path: Path) -> None:
    assert "no comparison 'engine'; there are engines, packed" in run("--only", "engine", expect=2).stderr
    path = tmp_path / "machine.json"
    shutil.copy(sorted(schema.RESULTS.glob("*zen4*.json"))[0], path)
    content = json.loads(path.read_text())
    content["machine"]["processor"] = "Another processor"
    path.write_text(json.dumps(content))
    refused = run("--only", "c", "--json", str(path), expect=1).stderr
    assert refused.count("\n") == 1
    assert "the record of another machine, Another processor" in refused
