"""Downloads from a real server on this machine."""

from __future__ import annotations

import gc
import hashlib
import io
import tarfile
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from biper.data.download import download_and_unpack
from biper.errors import DataError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The address and the MD5 of a small archive; the cache is a fresh folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    content = b"pixels" * 1000
    with tarfile.open(folder / "set.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("set/data.bin")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    monkeypatch.setenv("BIPER_CACHE", str(tmp_path / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    digest = hashlib.md5((folder / "set.tar.gz").read_bytes()).hexdigest()
    yield f"http://127.0.0.1:{server.server_address[1]}/set.tar.gz", digest
    server.shutdown()
    thread.join()
    server.server_close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # pooch leaves a failed connection open
        gc.collect()


def test_an_archive_is_downloaded_once_and_unpacked(served: tuple[str, str]) -> None:
    url, digest = served
    folder = download_and_unpack("The set", url, digest)
    assert (folder / "set" / "data.bin").read_bytes() == b"pixels" * 1000
    unreachable = "http://127.0.0.1:9/set.tar.gz"
    assert download_and_unpack("The set", unreachable, digest) == folder, "the second time it comes from the cache"


def test_an_archive_with_another_checksum_is_not_kept(served: tuple[str, str], tmp_path: Path) -> None:
    url, _ = served
    with pytest.raises(DataError, match="the download of The set is corrupt and was not kept"):
        download_and_unpack("The set", url, "0" * 32)
    assert not list((tmp_path / "cache").rglob("*.gz"))


def test_an_archive_that_is_not_there_is_one_line(served: tuple[str, str]) -> None:
    url, digest = served
    with pytest.raises(DataError, match=r"The set was not found and could not be downloaded \(HTTPError\)") as caught:
        download_and_unpack("The set", url.replace("set.tar", "other.tar"), digest)
    assert "\n" not in str(caught.value)
