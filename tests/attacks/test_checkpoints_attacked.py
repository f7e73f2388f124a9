"""Hostile models and checkpoints are a `CheckpointError` of one line, before memory is taken for what they ask."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import pytest
import torch
from attacks.checkpoints import MODELS, REFERENCES, model
from attacks.containers import Container
from attacks.gallery import Attack
from attacks.mutations import VALUES, copied, near, places
from torch import nn

from biper.errors import BiperError, CheckpointError
from biper.interop import load_reference_checkpoint
from biper.io.tensors import load_tensors
from biper.models.saved import load_model
from biper.runs.checkpoint import CheckpointFolder
from biper.runs.state import Position, restore_optimizer, restore_random, restoring

STOPPED = Path(__file__).parents[1] / "data" / "released" / "0.1" / "stopped" / "checkpoints"
SMALL = pytest.param(200, id="200")


def refused(attack: Attack, file: Path, error: BiperError) -> None:
    assert isinstance(error, CheckpointError)
    text = str(error).replace(str(file), "FILE")
    assert text == attack.error
    assert text.isprintable()


@pytest.mark.parametrize("attack", MODELS.parameters())
def test_a_hostile_model_is_refused(attack: Attack, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(attack.make())
    with pytest.raises(BiperError) as caught:
        load_model(tmp_path / "m")
    refused(attack, tmp_path / "m", caught.value)


@pytest.mark.parametrize("attack", REFERENCES.parameters())
def test_a_hostile_reference_is_refused(attack: Attack, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(attack.make())
    with pytest.raises(BiperError) as caught:
        load_reference_checkpoint(tmp_path / "m", dataset="cifar10", frequency=20, stage=2)
    refused(attack, tmp_path / "m", caught.value)


def test_the_model_that_the_attacks_change_is_valid(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(model().sealed())
    assert load_model(tmp_path / "m")[1].num_classes == 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes in folders")
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(CheckpointError, match="expected a regular file"):
            load_model(tmp_path / name)
        with pytest.raises(CheckpointError, match="expected a regular file"):
            load_reference_checkpoint(tmp_path / name, frequency=20, stage=2)


@pytest.mark.parametrize("count", [SMALL, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_flipped_bit_or_a_cut_of_a_checkpoint_is_noticed(count: int, tmp_path: Path) -> None:
    """Half of the files have one bit that is flipped, half are cut: none is loaded, and the checkpoint before it is."""
    (source,) = STOPPED.iterdir()
    blob = source.read_bytes()
    (tmp_path / source.name).write_bytes(blob)
    newest = tmp_path / "stage1-epoch00004-step0000000.safetensors"
    choice = random.Random(0)
    for number in range(count):
        damaged = bytearray(blob)
        if number % 2:
            damaged[choice.randrange(len(blob))] ^= 1 << choice.randrange(8)
        else:
            del damaged[choice.randrange(len(blob)) :]
        newest.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_tensors(newest)
        if number < 10:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                found = CheckpointFolder(tmp_path).load_newest()
            assert found is not None
            assert found[0].name == source.name
            assert "skipped a checkpoint" in str(seen[0].message)


@pytest.mark.parametrize("count", [SMALL, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_mutated_state_is_refused_or_restored(count: int, tmp_path: Path) -> None:
    """Documents of a checkpoint with one or two changed values, which were sealed again."""
    (source,) = STOPPED.iterdir()
    container = Container.read(source.read_bytes())
    tensors, document = load_tensors(source)
    shapes = {name.split("/")[1]: value.shape for name, value in tensors.items() if name.startswith("optimizer/")}
    groups = [[nn.Parameter(torch.zeros(shapes[str(number)])) for number in group["params"]]
              for group in document["optimizer"]["param_groups"]]  # fmt: skip
    state = torch.get_rng_state()
    restored = 0
    for seed in range(count):
        choice = random.Random(seed)
        changed = container.copy()
        for _ in range(choice.choice((1, 1, 2))):
            parent, key = choice.choice(list(places(changed.document)))
            parent[key] = copied(choice.choice(VALUES)) if choice.random() < 0.5 else near(parent[key], choice)
        (tmp_path / "c").write_bytes(changed.sealed())
        optimizer = torch.optim.SGD([{"params": group} for group in groups], lr=0.1, momentum=0.9)
        try:
            read, found = load_tensors(tmp_path / "c")
            with restoring(tmp_path / "c"):
                Position.from_json(found["position"])
                restore_optimizer(optimizer, read, found)
                restore_random(read, found)
        except CheckpointError as error:
            assert str(error).isprintable()  # noqa: PT017  some are restored
            continue
        restored += 1
    torch.set_rng_state(state)
    assert count / 10 < restored < count
