import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmlp.data import read_idx
from xmlp.errors import DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array, code=None, shape=None):
    shape = array.shape if shape is None else shape
    header = bytes([0, 0, code or CODES[array.dtype.str[1:]], len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def read(tmp_path):
    def read(data, **options):
        path = tmp_path / "sample.idx"
        path.write_bytes(data)
        return read_idx(path, **options)

    return read


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0,), (3, 0)])
def test_every_type_and_shape_comes_back_in_native_order(read, kind, shape, packed):
    expected = (np.arange(np.prod(shape)) * 3 - 7).astype(kind).reshape(shape)
    data = idx(expected)
    got = read(gzip.compress(data, mtime=0) if packed else data)
    assert got.dtype == np.dtype(kind)
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, expected)


def test_gzip_is_told_by_content_and_not_by_name(tmp_path):
    data = idx(np.arange(3, dtype=np.uint8))
    (tmp_path / "plain.gz").write_bytes(data)
    (tmp_path / "packed").write_bytes(gzip.compress(data, mtime=0))
    assert read_idx(str(tmp_path / "plain.gz")).tolist() == read_idx(tmp_path / "packed").tolist() == [0, 1, 2]


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))
PACKED = gzip.compress(GOOD, mtime=0)  # without the time, which would name the tests


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "got an empty file"),
        (b"\0\0\x08", "got 00 00 08"),
        (b"PK\x03\x04", "got 50 4b 03 04"),
        (b"\0\x01\x08\x01\0\0\0\0", "got 00 01 08 01"),
        (b"\0\0\x0a\x01\0\0\0\0", "got 00 00 0a 01"),
        (b"\0\0\x08\0\x01", "got 00 00 08 00"),
        (b"\0\0\x08\xff", "got 00 00 08 ff"),
        (GOOD[:10], "expected 2 sizes of 4 bytes in the header, got 6 bytes"),
        (GOOD[:-1], r"expected 6 bytes of data for \(2, 3\) uint8, got 5"),
        (GOOD + b"\0", r"expected the file to end after \(2, 3\) uint8"),
        (gzip.compress(GOOD[:-1], mtime=0), "got 5"),
        (gzip.compress(GOOD + b"\0", mtime=0), "expected the file to end"),
        (PACKED[:-1], "expected a whole gzip file"),
        (PACKED[:5], "expected a whole gzip file"),
        (PACKED + b"!", "expected a whole gzip file"),
        (PACKED[:-5] + b"\0" + PACKED[-4:], "expected a whole gzip file"),
        (PACKED[:12] + b"\xff\xff\xff" + PACKED[15:], "expected a whole gzip file"),
    ],
)
def test_what_is_not_idx_is_refused_in_words(read, data, words):
    with pytest.raises(DataError, match=r"sample\.idx: .*" + words):
        read(data)


def test_two_gzip_members_are_one_file(read):
    np.testing.assert_array_equal(read(gzip.compress(GOOD[:7]) + gzip.compress(GOOD[7:])), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 32, (2**31, 2**31, 4), (0, 2**32 - 1, 2**32 - 1, 2**32 - 1)])
def test_an_overflowing_product_of_sizes_is_refused(read, shape):
    with pytest.raises(DataError, match="expected at most 1073741824 bytes"):
        read(idx(np.zeros(0, np.uint8), shape=shape))


def test_the_limit_is_in_bytes_and_inclusive(read):
    data = idx(np.zeros(10, np.float64))
    assert read(data, max_bytes=80).shape == (10,)
    with pytest.raises(DataError, match="at most 79 bytes"):
        read(data, max_bytes=79)


@pytest.mark.parametrize("declared", [10, 2**30])
def test_a_gzip_bomb_is_not_unpacked(read, declared):
    """50 MB of zeros in 50 kB, behind a header that declares little or far too much."""
    bomb = gzip.compress(idx(np.zeros(0, np.uint8), shape=(declared,)) + bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="expected"):
        read(bomb, max_bytes=2**29)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_no_more_than_declared_is_inflated(read, monkeypatch):
    seen = 0
    original = gzip.GzipFile.read

    def counting(self, size=-1):
        nonlocal seen
        data = original(self, size)
        seen += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    with pytest.raises(DataError, match="to end after"):
        read(gzip.compress(GOOD + bytes(10**6)))
    assert seen == len(GOOD) + 1


def test_a_missing_file_and_a_folder_stay_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")
    with pytest.raises(OSError, match=r"directory|denied"):
        read_idx(tmp_path)


def refuses_or_reads(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        result = read_idx(path, max_bytes=10_000)
    except DataError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
    else:
        assert result.nbytes <= 10_000


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    start=st.sampled_from([b"", b"\0\0", b"\0\0\x08\x01", b"\0\0\x0d\x02\0\0\0\1", b"\x1f\x8b", b"\x1f\x8b\x08\0"]),
    rest=st.binary(max_size=64),
)
def test_any_bytes_are_read_or_refused(tmp_path, start, rest):
    refuses_or_reads(tmp_path / "fuzz", start + rest)


@FUZZ
@given(data=st.data(), packed=st.booleans())
def test_a_damaged_file_is_read_or_refused(tmp_path, data, packed):
    content = bytearray(PACKED if packed else GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) or len(content) :]
    refuses_or_reads(tmp_path / "fuzz", bytes(content))
