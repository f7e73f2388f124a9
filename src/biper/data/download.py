"""Downloads into the user's cache, each made once, checked against its checksum, with a progress bar."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from biper.errors import DataError


def cache_folder() -> Path:
    """The folder of downloads: ``$BIPER_CACHE``, or the cache folder of the operating system for biper."""
    return Path(os.environ.get("BIPER_CACHE") or pooch.os_cache("biper"))


def download_and_unpack(title: str, url: str, md5: str) -> Path:
    """Download a tar archive unless the cache has it, check it, and unpack it.

    Args:
        title: the name of the data, for messages.
        url: the address of the archive.
        md5: the published MD5 of the archive, in hexadecimal.

    Returns:
        The folder into which it was unpacked.

    Raises:
        DataError: there is no network, the download failed, or the archive has another checksum.
    """
    name = url.rsplit("/", 1)[-1]
    folder = cache_folder() / name.removesuffix(".tar.gz")
    try:
        with _DownloadBar(title) as bar:
            pooch.retrieve(
                url,
                known_hash=f"md5:{md5}",
                fname=name,
                path=cache_folder(),
                downloader=pooch.HTTPDownloader(progressbar=bar, timeout=30),
                processor=pooch.Untar(extract_dir=folder.name),
            )
    except (requests.RequestException, OSError) as error:
        raise DataError(
            f"{title} was not found and could not be downloaded ({type(error).__name__}): give its folder with "
            f"data_dir=..., or connect to the network and run again (source: {url})"
        ) from error
    except ValueError as error:
        raise DataError(f"the download of {title} is corrupt and was not kept; run again: {error}") from error
    return folder


class _DownloadBar:
    """A progress bar of rich with the members that pooch uses: ``total``, `update`, `reset` and `close`."""

    def __init__(self, title: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(f"Downloading {title}", total=None, start=True)
        self.total: int = 0

    def __enter__(self) -> _DownloadBar:
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def update(self, count: int) -> None:
        """Add a number of bytes that arrived; the bar appears with the first of them."""
        self._progress.start()
        self._progress.update(self._task, advance=count, total=self.total)

    def reset(self) -> None:
        """Set the bar to 0; pooch calls this before it fills the bar for the last time."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Remove the bar: the download has ended."""
        self._progress.stop()
