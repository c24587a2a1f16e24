import gzip
import hashlib
import importlib.resources
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from xmlp import data
from xmlp.data import datasets
from xmlp.errors import DataError

FILES = importlib.resources.files("xmlp.data") / "files"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def write_idx(path, array, packed=False):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".gz" * packed).write_bytes(gzip.compress(content) if packed else content)


def write_set(folder, mark=0, packed=False, **changed):
    """Write a small set whose first pixel is `mark`."""
    arrays = {
        "train_images": np.full((4, 28, 28), mark),
        "train_labels": np.array([0, 9, 3, 1]),
        "t10k_images": np.full((2, 28, 28), mark),
        "t10k_labels": np.array([5, 6]),
        **changed,
    }
    for name, array in zip(NAMES, arrays.values(), strict=True):
        write_idx(folder / name, array, packed)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folders that are searched, in order, all of them empty."""
    monkeypatch.setenv("XMLP_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "_SYSTEM", tmp_path / "system")
    return [
        tmp_path / "own" / "mnist",
        tmp_path / "own",
        tmp_path / "cache" / "xmlp" / "mnist",
        tmp_path / "system" / "mnist",
    ]


def test_digits_have_the_known_shape_range_and_class_counts():
    x_train, y_train, x_test, y_test = data.load("digits")
    assert (x_train.shape, x_test.shape) == ((3823, 64), (1797, 64))
    assert (x_train.dtype, y_train.dtype, x_test.dtype, y_test.dtype) == (
        np.uint8,
        np.int64,
        np.uint8,
        np.int64,
    )
    assert (x_train.min(), x_train.max(), x_test.min(), x_test.max()) == (0, 16, 0, 16)
    assert np.bincount(y_train).tolist() == [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]
    assert len(np.bincount(y_test)) == 10
    assert len(y_test) == 1797
    assert x_train.flags.c_contiguous
    assert x_train[0, :8].tolist() == [0, 1, 6, 15, 12, 1, 0, 0]


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("optdigits-train.csv.gz", "956d1dd8a4262d179538b23e3f270c3d68c1fbe8729d1a2d613e4d409f213955"),
        ("optdigits-test.csv.gz", "0f622aac121cc3fc5d83397199887f8019d6db33381d033e73e300a2ce17c1ed"),
    ],
)
def test_digits_are_the_files_they_claim_to_be(name, sha256):
    assert hashlib.sha256((FILES / name).read_bytes()).hexdigest() == sha256


def test_digits_are_attributed():
    notice = (FILES / "NOTICE").read_text()
    assert all(words in notice for words in ("Alpaydin", "Kaynak", "1998", "CC BY 4.0", "Changes"))


def test_changed_digits_are_refused(monkeypatch):
    monkeypatch.setitem(datasets._DIGITS_SHA256, "optdigits-test.csv.gz", "0" * 64)
    with pytest.raises(DataError, match=r"optdigits-test\.csv\.gz: .*changed or damaged"):
        data.load("digits")


def test_digits_are_fast_to_load():
    data.load("digits")
    start = time.perf_counter()
    data.load("digits")
    assert time.perf_counter() - start < 1  # some 10 ms; the slack is for a busy machine


def test_an_unknown_name_is_corrected():
    with pytest.raises(ValueError, match=r"unknown data set 'fashionmnist'. Did you mean 'fashion-mnist'"):
        data.load("fashionmnist")


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="Debian's dataset-fashion-mnist is not installed",
)
def test_fashion_mnist_of_the_system(monkeypatch):
    monkeypatch.delenv("XMLP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent")
    x_train, y_train, x_test, y_test = data.load("fashion-mnist")
    assert (x_train.shape, x_test.shape) == ((60000, 784), (10000, 784))
    assert np.bincount(y_train).tolist() == [6000] * 10
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert (x_train.dtype, y_train.dtype, x_train.max()) == (np.uint8, np.int64, 255)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_become_rows_and_labels(places, packed):
    write_set(places[0], 7, packed)
    x_train, y_train, x_test, y_test = data.load("mnist")
    assert (x_train.shape, x_train.dtype, x_test.shape) == ((4, 784), np.uint8, (2, 784))
    assert (y_train.tolist(), y_test.tolist(), y_train.dtype) == ([0, 9, 3, 1], [5, 6], np.int64)
    assert (x_train == 7).all()


def test_the_first_folder_that_has_all_files_is_taken(places):
    for mark in (3, 2, 1, 0):
        write_set(places[mark], mark)
        assert data.load("mnist").x_train[0, 0] == mark
    (places[0] / NAMES[3]).unlink()
    assert data.load("mnist").x_train[0, 0] == 1


def test_the_cache_folder_is_below_home_by_default(places, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("XMLP_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_set(tmp_path / ".cache" / "xmlp" / "mnist", 5)
    assert data.load("mnist").x_train[0, 0] == 5


@pytest.mark.parametrize(
    ("name", "remedy"), [("mnist", "CC BY-SA"), ("fashion-mnist", "apt install dataset-fashion-mnist")]
)
def test_absent_files_are_an_error_that_lists_places_and_remedy(places, name, remedy):
    write_set(places[1])
    (places[1] / NAMES[0]).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        data.load(name)
    message = str(caught.value)
    for place in places:
        assert str(place).replace("mnist", name) in message
    assert f"lacks {NAMES[0]}\n" in message
    assert remedy in message
    assert "XMLP_DATA" in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train_labels": np.array([0, 10, 3, 11])}, "expected labels of 0 to 9, got 10 in row 1"),
        ({"train_labels": np.array([0, 1, 3])}, "a uint8 label for each of 4 pictures, got \\(3,\\)"),
        ({"t10k_labels": np.array([[0], [1]])}, "a uint8 label for each of 2 pictures"),
        (
            {"train_images": np.zeros((4, 32, 32))},
            "expected pictures \\(N, 28, 28\\) uint8, got \\(4, 32, 32\\)",
        ),
        ({"train_images": np.zeros((0, 28, 28)), "train_labels": np.zeros(0)}, "expected pictures"),
    ],
)
def test_files_that_do_not_fit_are_refused(places, changed, words):
    write_set(places[0], **changed)
    with pytest.raises(DataError, match=words):
        data.load("mnist")


def test_system_files_must_have_the_known_checksum_and_own_files_need_not(places):
    write_set(places[1])
    assert data.load("fashion-mnist").x_train.shape == (4, 784)
    for name in NAMES:
        (places[1] / name).unlink()
    write_set(places[3].with_name("fashion-mnist"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: changed or damaged.*apt install"):
        data.load("fashion-mnist")
