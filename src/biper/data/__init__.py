"""Data sets by name: `load_dataset("cifar10", data_dir=...)`."""

from __future__ import annotations

from pathlib import Path

from biper.data.dataset import Dataset
from biper.data.specs import dataset_spec
from biper.errors import DataError


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Read a data set into memory.

    Args:
        name: ``"digits"`` (inside the package), ``"cifar10"`` or ``"cifar100"``.
        data_dir: where the CIFAR files are; without it, or if they are not there, they are looked for in the
            user's cache and downloaded into it once.

    Raises:
        DataError: unknown name, data that is nowhere and cannot be downloaded, or a truncated or corrupt file.
    """
    dataset_spec(name)
    if name == "digits":
        from biper.data.digits import load_digits

        return load_digits()
    if name not in ("cifar10", "cifar100"):
        raise DataError(
            f"{name} has networks here, but its images cannot be read yet; digits, cifar10 and cifar100 can"
        )
    from biper.data.cifar import load_cifar

    return load_cifar(name, None if data_dir is None else Path(data_dir))
