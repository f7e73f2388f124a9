"""Data that are given to `biper.fit` as objects: torch data sets, loaders, arrays and folders, as one `Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, TensorDataset
from torch.utils.data import default_collate as torch_default_collate

from biper.data.dataset import Dataset, Images, Split
from biper.data.imagenet import load_folders
from biper.data.items import ItemImages, Items
from biper.data.signals import channel_statistics
from biper.data.specs import GIVEN, DatasetSpec
from biper.data.unreadable import UnreadableImages
from biper.errors import DataError

Normalization = tuple[Sequence[float], Sequence[float]] | str | None
"""See `biper.fit`."""

_STATISTICS_SAMPLES = 2000


def given_dataset(
    train: Any,
    test: Any,
    *,
    classes: Sequence[str] | None,
    normalization: Normalization,
    image_size: int | None,
    workers: int | None,
    unreadable: UnreadableImages,
    count_outputs: Callable[[Tensor], int],
) -> Dataset:
    """Training and test data of any of the kinds that `biper.fit` takes.

    Args:
        train: the training data.
        test: the test data, or None.
        classes: the names of the classes; default those that the data name, else numbers.
        normalization: see `biper.fit`.
        image_size: height and width to which pictures in folders are resized, in pixels.
        workers: processes that read; default those of a loader, and one for each core but one for folders.
        unreadable: counts the pictures in folders that cannot be read.
        count_outputs: the number of outputs of the network for a batch of samples, which is the number of classes where
            nothing names them.

    Raises:
        DataError: the data are of no such kind, are empty, or have samples or labels that cannot be used.
    """
    if isinstance(train, Dataset):
        if test is not None:
            raise DataError("test=... is given, but train=... is a whole data set of biper, with its own test images")
        dataset = train
    elif isinstance(train, str | Path):
        dataset = load_folders(
            Path(train), test, image_size=image_size, classes=classes, workers=workers, unreadable=unreadable
        )
    else:
        return _from_objects(train, test, classes, normalization, workers, count_outputs)
    spec = dataset.spec
    if normalization is not None:
        mean, std = _normalization(normalization, dataset.split("train"), spec.channels, spec.pixels)
        spec = _changed(spec, mean, std, image_size)
    names = tuple(classes or dataset.classes)
    if len(names) != len(dataset.classes):
        raise DataError(f"classes=... names {len(names)} classes, the data have {len(dataset.classes)}")
    return Dataset(spec, names, dataset.train, dataset.test)


def _changed(spec: DatasetSpec, mean: tuple[float, ...], std: tuple[float, ...], image_size: int | None) -> DatasetSpec:
    """A specification with another normalization, which a run then keeps with its files."""
    return replace(spec, mean=mean, std=std, own_shape=spec.shape(image_size))


def _from_objects(
    train: Any,
    test: Any,
    classes: Sequence[str] | None,
    normalization: Normalization,
    workers: int | None,
    count_outputs: Callable[[Tensor], int],
) -> Dataset:
    named = classes or _class_names(train)
    count = None if named is None else len(named)
    splits = [_split(train, "training", count, None, workers)]
    first = splits[0].first(1)
    pixels = not first.is_floating_point()
    height_width = first.shape[1:3] if pixels else first.shape[2:]
    shape = (first.shape[-1] if pixels else first.shape[1], *height_width)
    if named is None:
        sample = first.permute(0, 3, 1, 2).float() if pixels else first
        named = tuple(map(str, range(count_outputs(sample))))
        splits = [_split(train, "training", len(named), None, workers)]
    if test is not None:
        splits.append(_split(test, "test", len(named), first, workers))
    mean, std = _normalization(normalization or ("train" if pixels else None), splits[0], shape[0], pixels)
    spec = DatasetSpec(GIVEN, "own", len(named), shape[0], shape[-1], mean, std, own_shape=shape, pixels=pixels)
    return Dataset(spec, tuple(map(str, named)), *splits, *([None] * (2 - len(splits))))


def _class_names(source: Any) -> Sequence[str] | None:
    """The names of the classes that a data set knows, as those of torchvision do."""
    names = getattr(source.dataset if isinstance(source, DataLoader) else source, "classes", None)
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        return names
    return None


def _split(source: Any, what: str, classes: int | None, like: Tensor | None, workers: int | None) -> Images:
    """One split.

    Args:
        source: what the caller gave.
        what: ``"training"`` or ``"test"``.
        classes: how many classes there are; None does not check the labels.
        like: a batch whose samples those of the split must resemble.
        workers: processes that read.
    """
    split: Images
    if isinstance(source, Images):
        split = source
    else:
        if isinstance(source, DataLoader):
            workers = source.num_workers if workers is None else workers
            source = _dataset_of(source, what)
        if isinstance(source, TensorDataset) and len(source.tensors) == 2:
            source = source.tensors
        if _is_arrays(source):
            split = _arrays(source[0], source[1], what, classes)
        elif isinstance(source, IterableDataset) or not all(
            hasattr(source, name) for name in ("__getitem__", "__len__")
        ):
            raise DataError(
                f"the {what} data are a {type(source).__name__}, expected a pair (samples, labels) of arrays, a folder "
                "of class folders, or a data set or loader whose samples are read by index (__len__ and __getitem__)"
            )
        else:
            split = ItemImages(Items(source, what, classes), workers=workers or 0)
    if like is not None:
        first = split.first(1)
        if first.dtype != like.dtype or first.shape[1:] != like.shape[1:]:
            raise DataError(
                f"the {what} samples are {first.dtype} {tuple(first.shape[1:])}, those of training {like.dtype} "
                f"{tuple(like.shape[1:])}: expected the same"
            )
    return split


def _is_arrays(source: Any) -> bool:
    """Whether a thing is (samples, labels), and not a list of two samples with their labels."""
    if not isinstance(source, tuple | list) or len(source) != 2:
        return False
    return isinstance(source, tuple) or not isinstance(source[0], tuple)


def _dataset_of(loader: DataLoader[Any], what: str) -> Any:
    """The data set of a loader whose other settings can be left out, because a run has its own."""
    if loader.collate_fn is not torch_default_collate:
        raise DataError(
            f"the {what} loader has a collate_fn of its own: give its data set, and let the samples be made there"
        )
    plain = type(loader.sampler) in (RandomSampler, SequentialSampler) and not getattr(
        loader.sampler, "replacement", False
    )
    if not isinstance(loader.dataset, IterableDataset) and not plain:
        raise DataError(
            f"the {what} loader has a sampler of its own, {type(loader.sampler).__name__}: a run shuffles by its own "
            "seed, so that it can resume; give the data set, and leave the sampler out"
        )
    return loader.dataset


def _arrays(samples: Any, labels: Any, what: str, classes: int | None) -> Split:
    """Samples and labels in memory, checked."""
    x, y = _tensor(samples, f"{what} samples"), _tensor(labels, f"{what} labels")
    if x.dim() and not len(x):
        raise DataError(f"the {what} set is empty")
    if y.dim() != 1 or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or len(y) != len(x):
        raise DataError(
            f"the {what} labels are {y.dtype} {tuple(y.shape)}, expected {len(x) if x.dim() else 0} integers, one for "
            "each sample"
        )
    y = y.to(torch.int64)
    if y.min() < 0 or (classes is not None and y.max() >= classes):
        place = int(torch.nonzero((y < 0) | (y >= (classes or 2**62)))[0])
        last = "on" if classes is None else f"to {classes - 1}"
        raise DataError(f"the label of {what} sample {place} is {int(y[place])}, expected one from 0 {last}")
    return Split(_layout(x, what), y)


def _layout(x: Tensor, what: str) -> Tensor:
    """Pixels as (N, H, W, C) uint8, or numbers as (N, C, ...) float32."""
    if x.dtype == torch.uint8 and x.dim() in (3, 4):
        if x.dim() == 3:
            return x[..., None].contiguous()
        first = x.shape[1] in (1, 3) and x.shape[3] not in (1, 3)
        return (x.permute(0, 2, 3, 1) if first else x).contiguous()
    if x.dim() in (3, 4) and x.dtype not in (torch.uint8, torch.bool) and not x.is_complex():
        x = x.float().contiguous()
        finite = torch.isfinite(x).flatten(1).all(1)
        if not finite.all():
            raise DataError(f"{what} sample {int(finite.int().argmin())} has values that are NaN or infinite")
        return x
    raise DataError(
        f"the {what} samples are {x.dtype} {tuple(x.shape)}, expected pixels as uint8 (N, H, W, C) or (N, C, H, W), or "
        "numbers (N, C, H, W), or (N, C, L) for signals"
    )


def _tensor(value: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value)).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"the {what} are no array of numbers of one shape: {' '.join(str(error).split())}") from error


def _normalization(
    wanted: Normalization, train: Images, channels: int, pixels: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, given or measured."""
    if wanted is None:
        return (0.0,) * channels, (1.0,) * channels
    if isinstance(wanted, str):
        if wanted != "train":
            raise DataError(f'normalization={wanted!r}: expected "train", None, or a pair (mean, std)')
        some = train.part(torch.linspace(0, len(train) - 1, min(len(train), _STATISTICS_SAMPLES)).long())
        values = torch.cat([batch for batch, _ in some.in_order()]).cpu()
        rows = values.movedim(-1 if pixels else 1, 0).reshape(channels, -1).double() / (255 if pixels else 1)
        return channel_statistics(rows.numpy())
    try:
        mean, std = (tuple(float(number) for number in part) for part in wanted)
    except (TypeError, ValueError):
        mean = std = ()
    if (
        len(mean) != channels
        or len(std) != channels
        or not np.isfinite([*mean, *std]).all()
        or min(std, default=0) <= 0
    ):
        raise DataError(
            f"normalization=...: expected {channels} means and {channels} positive deviations, got {wanted}"
        )
    return mean, std
