from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from support.signals import HEADER, ts_text, waves, write_npz

from biper.data import load_dataset
from biper.data.transforms import normalize
from biper.errors import DataError

UNEQUAL = [([[0, 1, 2, 3], [4, 4, 4, 4]], "b"), ([[5, 6], [8, 8]], "a")]


def write_pair(folder: Path, test: str | None = None) -> Path:
    (folder / "Small_TRAIN.ts").write_text(ts_text(UNEQUAL))
    (folder / "Small_TEST.ts").write_text(test or ts_text([([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], "a")]))
    return folder / "Small"


def test_a_pair_of_ts_files_is_padded_with_the_mean_or_resampled(tmp_path: Path) -> None:
    place = write_pair(tmp_path)
    found = load_dataset("signals", place)
    assert found.classes == ("a", "b")
    assert found.train.labels.tolist() == [1, 0]
    mean = (17 / 6, 32 / 6)
    assert found.spec.mean == pytest.approx(mean)
    assert found.spec.std == pytest.approx((np.std([0, 1, 2, 3, 5, 6]), np.std([4, 4, 4, 4, 8, 8])))
    assert found.spec.shape() == (2, 4)
    assert found.train.images[1].tolist() == [
        pytest.approx([5, 6, mean[0], mean[0]]),
        pytest.approx([8, 8, mean[1], mean[1]]),
    ]
    assert found.test.images.shape == (1, 2, 4)  # cut
    padding = normalize(found.train.images, found.spec.mean, found.spec.std)[1, :, 2:]
    torch.testing.assert_close(padding, torch.zeros(2, 2), atol=1e-6, rtol=0)
    resampled = load_dataset("signals", tmp_path, signal_length=3, signal_fit="resample")
    assert resampled.train.images[:, 0].tolist() == [[0, 1.5, 3], [5, 5.5, 6]]
    for same in ("Small_TRAIN.ts", "Small_TEST.ts"):
        assert torch.equal(load_dataset("signals", tmp_path / same).train.images, found.train.images)


def test_an_npz_file_with_one_channel_and_names(tmp_path: Path) -> None:
    x, y = waves(6, channels=1)
    path = write_npz(tmp_path / "s.npz", x_train=x[:, 0], y_train=y, x_test=None, y_test=None, classes=["p", "q", "r"])
    found = load_dataset("signals", path)
    assert (found.classes, found.spec.shape(), found.test) == (("p", "q", "r"), (1, 20), None)
    assert torch.equal(found.train.images, torch.from_numpy(x))
    normalized = normalize(found.train.images, found.spec.mean, found.spec.std)
    assert normalized.mean().item() == pytest.approx(0, abs=1e-5)
    assert normalized.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_a_constant_channel_is_only_centred(tmp_path: Path) -> None:
    x, y = waves(6)
    x[:, 1] = 0.1
    assert load_dataset("signals", write_npz(tmp_path / "s.npz", x_train=x, y_train=y)).spec.std[1] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "1,2:3,x:a\n", r"line 7 of .*: expected numbers, got 'x'"),
        (HEADER + "1,2:3,?:a\n", r"got '\?', which stands for a missing value"),
        (HEADER + "1,2:3,4:c\n", r"line 7 of .*: class 'c' is none of a, b"),
        (HEADER + "1,2:3,4:a\n1,2:b\n", r"line 8 of .*: expected 2 channels as in the lines before, got 1"),
        (HEADER + "1,2:3:a\n", r"expected channels of one length, got channels of 1 and 2 samples"),
        (HEADER + "1,nan:3,4:a\n", r"expected finite numbers"),
        (HEADER + "1,1e300:3,4:a\n", r"expected finite numbers"),
        (HEADER + "a\n", r"line 7 .*got no channel"),
        (HEADER, "holds no series after @data"),
        ("nothing\n", "is no .ts file: it has no line @data"),
        (HEADER.replace("true a b", "false"), "names no classes"),
        (HEADER.replace("true a b", "true a a"), "names a class twice"),
        (HEADER.replace("@timeStamps false", "@timeStamps true"), "has time stamps"),
        (HEADER.replace("true a b", "true a c") + "1:2:a\n", "names the classes a, c, not a, b"),
        (ts_text([([[1, 1]], "a")]), "the test signals have 1 channels, the training signals 2"),
    ],
)
def test_a_bad_ts_file_is_one_line_that_says_where(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as found:
        load_dataset("signals", write_pair(tmp_path, text))
    assert "\n" not in str(found.value)


X, Y = waves(6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": None}, "has no array x_train"),
        ({"y_test": None}, "has no array y_test"),
        ({"y_train": Y.astype(np.float32)}, r"y_train of .*: expected 24 integers, got float32"),
        ({"y_train": Y}, r"expected 24 integers, got int64 \(6,\)"),
        ({"x_train": X[0], "y_train": Y[:2], "y_test": np.array([0, -1] * 6)}, r"y_test of .*: expected labels from 0"),
        ({"classes": ["a", "b"]}, "expected labels from 0 to 1, got 2"),
        ({"x_train": np.full((24, 2, 20), np.nan)}, "signal 0 has values that are NaN or infinite"),
        ({"x_train": X[None]}, r"expected numbers \(N, C, L\)"),
        ({"x_train": np.zeros((24, 2, 0))}, r"expected numbers \(N, C, L\)"),
        ({"x_train": np.array([{}] * 24, dtype=object)}, "cannot read .*Object arrays cannot be loaded"),
    ],
)
def test_a_bad_npz_file_is_one_line_that_says_what(arrays: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as found:
        load_dataset("signals", write_npz(tmp_path / "s.npz", **arrays))
    assert "\n" not in str(found.value)


def test_a_place_without_one_set_of_signals_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give them with data_dir"):
        load_dataset("signals")
    with pytest.raises(DataError, match="holds no signals"):
        load_dataset("signals", tmp_path)
    with pytest.raises(DataError, match="no file or folder"):
        load_dataset("signals", tmp_path / "none")
    write_pair(tmp_path)
    write_npz(tmp_path / "s.npz")
    with pytest.raises(DataError, match=r"2 sets of signals \(Small_TRAIN.ts, s.npz\): name one"):
        load_dataset("signals", tmp_path)
    (tmp_path / "s.txt").write_text("")
    with pytest.raises(DataError, match="is no file of signals"):
        load_dataset("signals", tmp_path / "s.txt")
    single = io.BytesIO()
    np.save(single, X)
    for blob in (b"PK\x03\x04 and nothing else", b"", single.getvalue(), (tmp_path / "s.npz").read_bytes()[:900]):
        (tmp_path / "bad.npz").write_bytes(blob)
        with pytest.raises(DataError, match="cannot read"):
            load_dataset("signals", tmp_path / "bad.npz")
    with pytest.raises(DataError, match="has 3 classes, expected 2: a, b"):
        load_dataset("signals", tmp_path / "s.npz", classes=["a", "b"])
