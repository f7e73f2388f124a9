"""`benchmarks/gpu.py`, tried on the CPU: parts, their limits, and a run that continues on another machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from support.benchmarks import BENCHMARKS, script

gpu, run_archive = script("gpu"), script("run_archive")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_parts_that_fail_or_take_too_long_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "GRACE", 0.2)
    snapshots: list[float] = []
    sitting = gpu.Sitting(
        tmp_path, time.monotonic() + 60, snapshot=lambda: snapshots.append(time.monotonic()), every=0.1
    )
    result = tmp_path / "results.jsonl"
    assert not sitting.run("checks", python("raise SystemExit('no such thing')"), 30)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    assert not sitting.run("speed", python(deaf), 0.5)
    assert len(snapshots) > 3
    write = f"""open({str(result)!r}, 'a').write('{{"part": "limits", "busy": 1}}\\n')"""
    assert sitting.run("limits", python(write), 30)
    failed, stopped, found, done = rows(tmp_path)
    assert (failed["ended"], failed["code"], failed["last_line"]) == ("failed", 1, "no such thing")
    assert (stopped["ended"], stopped["code"]) == ("stopped after 0 s", -9)
    assert found == {"part": "limits", "busy": 1}
    assert (done["part"], done["ended"]) == ("limits", "done")
    assert capsys.readouterr().out == result.read_text()
    late = gpu.Sitting(tmp_path, time.monotonic())
    assert not late.run("limits", ["never"], 30)
    assert rows(tmp_path)[-1] == {"part": "limits", "ended": "not started: no time is left"}


def test_a_run_folder_travels_with_its_newest_checkpoint(tmp_path: Path) -> None:
    run, archive = tmp_path / "run", tmp_path / "run.tar.gz"
    (run / "checkpoints").mkdir(parents=True)
    assert not run_archive.save_run(run, archive)
    for name in ("stage1-epoch00003-step0000000", "stage2-epoch00001-step0000007", "stage1-epoch00004-step0000000"):
        (run / "checkpoints" / f"{name}.safetensors").write_text(name)
    for name in ("metrics.jsonl", "stage1.safetensors", ".lock", "tensorboard/events", "teacher/model.safetensors"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(name)
    assert run_archive.save_run(run, archive)
    assert run_archive.save_run(run, archive)
    run_archive.restore_run(archive, tmp_path / "there")
    found = {str(path.relative_to(tmp_path / "there")): path.read_text() for path in (tmp_path / "there").rglob("*.*")}
    assert found == {
        "checkpoints/stage2-epoch00001-step0000007.safetensors": "stage2-epoch00001-step0000007",
        "metrics.jsonl": "metrics.jsonl",
        "stage1.safetensors": "stage1.safetensors",
        "teacher/model.safetensors": "teacher/model.safetensors",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.tar.gz", "there"]


def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name in ("PIL", "pydantic") else name)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        gpu.main()
    assert capsys.readouterr().err.splitlines()[-1] == "gpu.py: error: not installed here: pillow pydantic"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "--data-dir names no folder with all six batches of CIFAR-10"),
        ({"recipe": "digits", "archive": Path("nothing.tar.gz")}, "--continue nothing.tar.gz: .*No such file"),
        ({"recipe": "digits"}, "it needs more than 30 s, 5 are left"),
    ],
)
def test_a_schedule_that_cannot_start_says_why(tmp_path: Path, given: dict[str, Any], reason: str) -> None:
    options = {"recipe": "cifar10-resnet20", "data_dir": tmp_path, "run": tmp_path / "run", "archive": None}
    options |= {"train_seconds": 1e9} | given
    sitting = gpu.Sitting(tmp_path, time.monotonic() + 5.4)
    assert not gpu.train_schedule(sitting, gpu.argparse.Namespace(**options))
    (row,) = rows(tmp_path)
    assert row["part"] == "schedule"
    assert row["ended"].startswith("not started: ")
    assert re.search(reason, row["ended"])


def test_the_time_in_which_a_device_works_counts_once_where_kernels_overlap() -> None:
    activity_of = script("device_activity").activity_of
    seen = activity_of([("b", 2.0, 3.0), ("a", 0.0, 1.0), ("a", 0.5, 1.5), ("c", 2.2, 2.4), ("d", 3.7, 4.0)], 2)
    assert seen.kernels == 2.5
    assert seen.seconds == 2.0
    assert seen.busy == pytest.approx((1.5 + 1 + 0.3) / 4)
    assert list(seen.shares) == ["a", "b", "d", "c"]
    assert seen.shares["a"] == pytest.approx(2 / 3.5)
    assert seen.limit == "launching: the device waits for the CPU"
    assert activity_of([("a", 0.0, 1.0)], 1).limit == "the device: most of its time goes to a"
    assert activity_of([], 1).kernels == 0


def test_blocks_of_steps_take_turns() -> None:
    device_clock = script("device_clock")
    taken: list[str] = []
    steps = [lambda: taken.append("a"), lambda: (taken.append("b"), time.sleep(0.002))]
    first, second = device_clock.step_seconds(steps, "cpu", rounds=2, block=3)
    assert "".join(taken) == "aaabbb" * 3
    assert first < 0.002 < second


def sit(out: Path, *words: str, expect: int = 0) -> list[dict[str, Any]]:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), str(out), "--device", "cpu", "--quick", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == expect, done.stdout + done.stderr
    return rows(out)


@pytest.mark.slow
def test_all_measurements_without_a_gpu(tmp_path: Path) -> None:
    found = sit(tmp_path, "--parts", "checks,speed,limits", "--run", str(tmp_path / "run"))
    ended = {row["part"]: row["ended"] for row in found if "ended" in row}
    assert ended == dict.fromkeys(("machine", "checks", "speed", "limits"), "done")
    checks = [row for row in found if row["part"] == "checks" and "ended" not in row]
    assert [(row["precision"], row["cuda_graphs"]) for row in checks] == [
        (precision, graphs) for precision in ("float64", "float32", "bfloat16") for graphs in (False, True)
    ]
    assert all(row["passed"] for row in checks)
    assert all((row["why_not_recorded"] is not None) == row["cuda_graphs"] for row in checks)
    speeds = [row for row in found if row["part"] == "speed" and "ended" not in row]
    assert [row["plain"] is None for row in speeds] == [False, True, False, True, True]
    assert all(row["images_per_second"] > 0 for row in speeds)
    assert all(row["kernels"] > 50 for row in found if row["part"] == "limits" and "ended" not in row)


@pytest.mark.slow
def test_a_run_is_stopped_in_time_and_continued_from_what_came_back(tmp_path: Path) -> None:
    schedule = ["--parts", "schedule", "--set", "stage1.epochs=2", "--set", "stage2.epochs=1", "--seconds", "400"]
    first = sit(tmp_path / "first", *schedule, "--run", str(tmp_path / "here"), "--train-seconds", "5")
    assert [row["ended"] for row in first if "ended" in row] == ["done", "everything is saved"]
    (facts,) = [row for row in first if "finished" in row]
    assert not facts["finished"]
    assert facts["epochs"] < 3
    back = tmp_path / "first" / "run.tar.gz"
    with tarfile.open(back) as archive:
        assert sum(name.startswith("checkpoints/") for name in archive.getnames()) == 1
    words = [*schedule, "--run", str(tmp_path / "there"), "--continue", str(back)]
    second = sit(tmp_path / "second", *words)
    (then,) = [row for row in second if "finished" in row]
    assert then["finished"]
    assert (then["epochs_before"], then["epochs"]) == (facts["epochs"], 3)
    assert then["last_epoch"]["test_accuracy"] > 0.4
    assert "resuming after stage" in (tmp_path / "second" / "schedule.log").read_text()
    with tarfile.open(tmp_path / "second" / "run.tar.gz") as archive:
        assert {"model.safetensors", "model.biper", "summary.json", "metrics.jsonl"} <= set(archive.getnames())
