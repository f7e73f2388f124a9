"""Files that are replaced while they are read, pipes and devices, and the files of killed processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from biper.errors import CheckpointError
from biper.io.container import container_format
from biper.io.files import atomic_write, read_regular, remove_abandoned
from biper.io.tensors import load_tensors, save_tensors
from biper.runtime.pretrained import load_pretrained
from biper.runtime.program import write_program
from biper.runtime.reader import read_program


def test_a_file_that_is_replaced_while_it_is_read_is_one_of_the_two(tmp_path: Path) -> None:
    program = load_pretrained("cifar10-resnet20").program
    other = write_program(replace(program, classes=tuple(map(str, range(10)))))
    versions = [write_program(program), other]
    path = tmp_path / "model.biper"
    atomic_write(path, versions[0])
    stop = threading.Event()

    def write_both() -> None:
        while not stop.is_set():
            for content in versions:
                (tmp_path / "new").write_bytes(content)
                os.replace(tmp_path / "new", path)

    thread = threading.Thread(target=write_both)
    thread.start()
    try:
        classes = {read_program(path).classes for _ in range(100)}
    finally:
        stop.set()
        thread.join()
    assert classes <= {program.classes, tuple(map(str, range(10)))}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
def test_pipes_devices_and_folders_are_errors_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, reason in (("pipe", "a pipe, a device"), ("link", "a pipe, a device"), (".", "or a folder")):
        with pytest.raises(OSError, match=reason):
            read_regular(tmp_path / name)
        with pytest.raises(CheckpointError, match=f"cannot read .*: .*{reason}"):
            load_tensors(tmp_path / name)
        assert container_format(tmp_path / name) is None
    save_tensors(tmp_path / "real", {"x": torch.ones(2)}, {})
    (tmp_path / "other").symlink_to("real")
    assert load_tensors(tmp_path / "other")[0]["x"].tolist() == [1, 1]


def test_temporary_files_are_removed_when_their_process_has_ended(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = [".notes.tmp", f".model.safetensors.{os.getppid()}.tmp", "model.1.tmp"]
    for name in (*kept, f".model.safetensors.{ended.pid}.tmp", ".summary.json.99999999999999999999.tmp"):
        (tmp_path / name).touch()
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_abandoned(tmp_path / "missing")
