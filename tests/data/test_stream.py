from __future__ import annotations

import os
import re
import signal
import threading
import time
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import pytest
import torch
from support.pictures import encoded, make_folder, make_tar, picture
from torch import Tensor
from torch.utils.data import Dataset

from biper.data import load_dataset
from biper.data.dataset import Batch, Images
from biper.data.image_folder import FolderImages
from biper.data.settings import DataRecipe
from biper.data.share import Share
from biper.data.stream import CHUNK, StreamedImages
from biper.data.tar_shards import TarImages
from biper.data.unreadable import UnreadableImages
from biper.data.workers import default_workers, one_line_worker_errors, worker_loader
from biper.errors import DataError

BATCH = CHUNK + 8  # more than one chunk, and not a whole number of them
SETTINGS = DataRecipe(name="imagenet", batch_size=BATCH, crop_scale=(0.08, 1.0), flip=True, colour_jitter=0.2)
COUNT = 100


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred pictures of a hundred classes, one of them unreadable, in a folder and in tar shards."""
    root = tmp_path_factory.mktemp("images")
    make_folder(root / "folder", tuple(f"{number:03d}" for number in range(COUNT)), 1)
    (root / "folder" / "042" / "0.JPEG").write_bytes(b"no picture")
    for shard in range(4):
        members: dict[str, bytes] = {}
        for number in range(shard * 25, shard * 25 + 25):
            blob = (root / "folder" / f"{number:03d}" / "0.JPEG").read_bytes()
            members |= {f"{number}.jpeg": blob, f"{number}.cls": str(number).encode()}
        make_tar(root / f"{shard}.tar", members)
    return root


def stream(root: Path, kind: str = "folder", *, workers: int = 0, start_method: str | None = None) -> StreamedImages:
    unreadable = UnreadableImages(1, None, lambda _text: None)
    source: FolderImages | TarImages = FolderImages(root / "folder")
    if kind == "tar":
        source = TarImages(sorted(root.glob("*.tar")), None, workers=workers, unreadable=unreadable)
    return StreamedImages(source, size=12, workers=workers, unreadable=unreadable, start_method=start_method)


def passes(images: Images) -> list[Batch]:
    """The batches that a run uses: an epoch, an evaluation, the next epoch, the rest of an epoch."""
    return [
        *images.training_batches(SETTINGS, (0, 1, 0)),
        *images.in_order(33),
        *images.training_batches(SETTINGS, (0, 1, 1)),
        *images.training_batches(SETTINGS, (0, 2, 1), first_step=1),
    ]


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one, other) for pair in zip(first, second, strict=True) for one, other in zip(*pair, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "workers", "start_method"),
    [("folder", 1, None), ("folder", 2, None), ("tar", 1, None), ("tar", 2, "fork"), ("tar", 2, "spawn")],
)
def test_workers_change_nothing(root: Path, kind: str, workers: int, start_method: str | None) -> None:
    alone, helped = stream(root, kind), stream(root, kind, workers=workers, start_method=start_method)
    expected = passes(alone)
    assert [len(labels) for _, labels in expected] == [BATCH, BATCH, 33, 32, 33, 1, BATCH, BATCH, BATCH]
    assert same(expected, passes(helped))
    assert len(helped.unreadable.names) == len(alone.unreadable.names) == 1


def test_an_epoch_can_be_gone_on_with_at_any_step(root: Path) -> None:
    images = stream(root)
    settings = SETTINGS.model_copy(update={"batch_size": 9})
    whole = list(images.training_batches(settings, (0, 1, 0)))
    assert len(whole) == 11
    for step in (0, 1, 7, 10, 11):
        assert same(list(images.training_batches(settings, (0, 1, 0), step)), whole[step:])


def test_a_pass_that_is_left_in_the_middle_does_not_disturb_the_next(root: Path) -> None:
    images = stream(root, workers=1)
    expected = passes(stream(root))
    for _ in range(3):
        next(images.training_batches(SETTINGS, (0, 9, 9)))
    assert same(expected, passes(images))


def test_what_an_image_looks_like_depends_on_seed_stage_epoch_and_the_image_alone(root: Path) -> None:
    """They depend neither on the batch nor on its size; every epoch, stage and seed gives other pixels."""

    def looks(batch_size: int, key: tuple[int, int, int]) -> dict[int, torch.Tensor]:
        settings = SETTINGS.model_copy(update={"batch_size": batch_size})
        batches = stream(root).training_batches(settings, key)
        return {int(label): image for images, labels in batches for image, label in zip(images, labels, strict=True)}

    one, other = looks(10, (0, 1, 0)), looks(25, (0, 1, 0))
    clear = [number for number in range(COUNT) if number in one and number in other]
    differing = [number for number in clear if not torch.equal(one[number], other[number])]
    assert len(clear) >= 98
    assert len(differing) <= 1, "at most the one that stands in for the unreadable image"
    for key in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        again = looks(10, key)
        assert sum(torch.equal(one[number], again[number]) for number in clear if number in again) <= 2


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("source", ["memory", "stream"])
def test_the_shares_of_a_batch_make_up_the_batch(root: Path, source: str, count: int) -> None:
    images: Images = stream(root).part(torch.tensor([number for number in range(COUNT) if number != 42]))
    settings = SETTINGS
    if source == "memory":
        digits = load_dataset("digits").train
        images, settings = digits, DataRecipe(name="digits", batch_size=BATCH, crop_padding=2, flip=True)
    expected = list(images.training_batches(settings, (0, 1, 0), 1))
    shares = [list(images.training_batches(settings, (0, 1, 0), 1, Share(index, count))) for index in range(count)]
    together = [
        tuple(torch.cat(parts) for parts in zip(*batches, strict=True)) for batches in zip(*shares, strict=True)
    ]
    assert len(expected) == len(images) // BATCH - 1 > 0
    assert same(together, expected)


def test_decoding_leaves_the_global_random_generators_alone(root: Path) -> None:
    before = torch.get_rng_state()
    for workers in (0, 1):
        passes(stream(root, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def worker_of(images: StreamedImages) -> int:
    loader: Any = images._loader
    return loader._iterator._workers[0].pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_the_main_process(root: Path, number: signal.Signals) -> None:
    images = stream(root, workers=1)
    expected = passes(stream(root))
    for batch, other in zip(passes(images), expected, strict=True):
        os.kill(worker_of(images), number)
        assert torch.equal(batch[0], other[0])
    assert same(expected, passes(images))


def test_workers_end_with_their_images(root: Path) -> None:
    images = stream(root, workers=2)
    next(images.in_order())
    loader: Any = images._loader
    pids = [worker.pid for worker in loader._iterator._workers]
    del images, loader
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_number_of_workers_follows_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 0), (2, 1), (12, 11), (96, 16)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cores=cores: set(range(cores)))
        assert default_workers() == expected


def test_pictures_in_memory_are_those_of_evaluation(root: Path) -> None:
    images = stream(root)
    split = images.in_memory()
    assert same([(split.images, split.labels)], [tuple(map(torch.cat, zip(*images.in_order(), strict=True)))])
    (root / "none" / "a").mkdir(parents=True)
    (root / "none" / "a" / "x.png").write_bytes(encoded(picture(0), "PNG")[:30])
    nothing = StreamedImages(
        FolderImages(root / "none"), size=12, workers=0, unreadable=UnreadableImages(9, None, lambda _text: None)
    )
    with pytest.raises(DataError, match=r"none of the 1 images can be read; the first is .*none/a/x\.png"):
        nothing.in_memory()


class _Ends(Dataset[Tensor]):
    """Its worker process no longer hands out the memory of its answers, as in the instant in which it is killed."""

    def __getitem__(self, request: int) -> Tensor:
        threading.Timer(0.3, resource_sharer.stop).start()
        return torch.full((1000,), request)


class _Refuses(Dataset[Tensor]):
    def __getitem__(self, request: int) -> Tensor:
        raise FileNotFoundError(f"no file {request}")


def test_an_answer_of_a_worker_that_has_ended_since_is_one_line() -> None:
    answers = iter(worker_loader(_Ends(), [7, 8], 1))
    assert next(answers)[0] == 7
    time.sleep(1)
    message = "a decoding process failed (DataLoader worker ended before its answer was received: "
    with pytest.raises(DataError, match=re.escape(message)), one_line_worker_errors():
        next(answers)


def test_an_error_of_the_users_data_set_in_a_worker_keeps_its_kind() -> None:
    with pytest.raises(FileNotFoundError, match="no file 7"), one_line_worker_errors():
        next(iter(worker_loader(_Refuses(), [7], 1)))
