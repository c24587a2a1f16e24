"""All readers of CSV give the same table: what csv.writer wrote, or the same error."""

import bz2
import copy
import csv
import gzip
import importlib.util
import io
import itertools
import lzma
import math
import pickle
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmlp.data import Table, blocks, read_csv, readers, textfile
from xmlp.errors import DataError

ENGINES = [
    name for name in ("csv", "numpy", "polars", "pyarrow") if name in ("csv", "numpy") or importlib.util.find_spec(name)
]
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["csv", "numpy", "polars", "pyarrow"])
def engine(request):
    if request.param not in ("csv", "numpy"):
        pytest.importorskip(request.param)
    return request.param


def described(data, engine, **options):
    """Everything that a table can be asked for, or the error; NumPy is used even for few rows, but not for "csv"."""
    with mock.patch.object(blocks, "_SHORT", 256 if engine == "csv" else 0):
        return _described(data, engine, **options)


def _described(data, engine, **options):
    try:
        table = read_csv(io.BytesIO(data), name="t.csv", engine=engine, **options)
    except DataError as error:
        return str(error)
    columns = {
        name: (
            table.columns[name],
            repr(table.floats(name)),
            repr(table.numbers(name).tolist()),
            repr(table.cells(name)),
        )
        for name in table.columns
    }
    return table.dialect, columns, table.lines


def same(data, **options):
    """What all readers agree on."""
    wanted = described(data, "csv", **options)
    for engine in ENGINES[1:]:
        assert described(data, engine, **options) == wanted, engine
    return wanted


ROWS = [
    ["name", "size", "note"],
    ["a", "1", "x"],
    ["b", "2.5", ""],
    ["c", "", "two words "],
    ["ü", "-3e2", "色"],
    ["", "007", "5"],
]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False], ids=["closed", "open"])
def test_every_reader_gives_what_was_written(engine, separator, quoting, end, last):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator=end).writerows(ROWS)
    text = stream.getvalue() if last else stream.getvalue().removesuffix(end)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        table = read_csv(io.BytesIO(text.encode(encoding)), engine=engine)
        assert dict(table.columns) == {name: list(cells) for name, *cells in zip(*ROWS, strict=True)}
        assert table.lines == [2, 3, 4, 5, 6]
        assert table.dialect.separator == separator
        assert table.dialect.encoding == encoding.removesuffix("-sig") + (
            "-le" if encoding[-2:] in ("16", "32") else ""
        )


SAMPLES = {
    "gaps": b"a,b,c\n,1,\n,,\nx,,2\n",
    "blank lines": b"a,b\n\n1,2\n\n\n3,4\n\n",
    "blank lines of spaces": b"a,b\n  \n1,2\n \t \n3,4\n",
    "blank lines in CRLF": b"a,b\r\n\r\n1,2\r\n\r\n3,4\r\n",
    "one column": b"a\n1\n\n\n2\n\n",
    "one column of quotes": b'a\n"1"\n\n""\n"x,y"\n',
    "one row": b"a,b\n1,2",
    "spaces": b"a, b ,c\n1, 2 ,3\n x,  y,z \n",
    "spaces before quotes": b'a, b\n1, "2"\n2, "x, y"\n',
    "spaces after quotes": b'a,b\n"1" , "2"\n"x ""q"" y"  ,3\n4,"5" \n',
    "short row": b"a,b\n1,2\n3\n4,5\n",
    "long row": b"a,b\n1,2\n3,4,5\n6\n",
    "short and long": b"a,b\n1\n2,3,4\n",
    "long and short": b"a,b\n2,3,4\n1\n",
    "quoted separators": b'a,b\n"1,5","x"\n"2,5",y\n',
    "quoted line ends": b'a,b\n"x\ny",1\nz,"p\r\nq"\n2,3\n',
    "quoted CRLF": b'a,b\r\n"x\r\ny","1"\r\n2,3\r\n',
    "quotes in quotes": b'a,b\n"x""y",1\n"""",2\n',
    "quotes inside": b'a,b\nx"y,1\n5" pipe,2\n',
    "text after quote": b'a,b\n1,2\n"x"y,1\n',
    "open quote": b'a,b\n1,2\n"x,1\n3,4\n',
    "stray CR": b"a,b\n1,2\r3,4\n5,6\r\n",
    "NUL": b"a,b\n1,2\n1,x\0\n",
    "Latin-1": b"a,b\n1,2\n1,\xe9\n",
    "separators of lines in Unicode": "a,b\n1,\u2028x\x0b\n2,\x85\x1c\n".encode(),
    "Unicode digits and spaces": "a,b\n١٢,\u00a01\n３,\u20032\n".encode(),
    "numbers of all kinds": b"a,b\n1e5,+1\n.5,1.\n-0,1_0\n5e-324,1e400\n0.1234567890123456789,123456789012345678\n",
    "not finite": b"a,b,c\n1,2,3\nnan,inf,-Infinity\n",
    "odd cells among numbers": b"a,b\n" + b"1,2.5\n" * 3000 + b"x,\n" + b"3,4\n",
    "hash, backslash and apostrophe": b"a,b\n#1,x\\\n'1,2'\n\\n,\\\"\n",
    "zeros at the front": b"a,b\n02935,1\n00000,2\n",
    "long text": b"a,b\n" + b"x" * 70 + b",1\n" + b"y" * 9 + b",2\n" + b"y" * 8 + b",3\n",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_readers_agree_on(name):
    same(SAMPLES[name])
    same(SAMPLES[name].replace(b",", b";"), separator=";")


def test_what_the_samples_hold(engine):
    def read(name):
        table = read_csv(io.BytesIO(SAMPLES[name]), engine=engine)
        return dict(table.columns), table.lines

    assert read("blank lines of spaces") == ({"a": ["1", "3"], "b": ["2", "4"]}, [3, 5])
    assert read("one column") == ({"a": ["1", "", "", "2", ""]}, [2, 3, 4, 5, 6])
    assert read("one column of quotes") == ({"a": ["1", "", "", "x,y"]}, [2, 3, 4, 5])
    assert read("spaces") == ({"a": ["1", "x"], "b": ["2 ", "y"], "c": ["3", "z "]}, [2, 3])
    assert read("spaces before quotes") == ({"a": ["1", "2"], "b": ["2", "x, y"]}, [2, 3])
    assert read("spaces after quotes") == ({"a": ["1", 'x "q" y', "4"], "b": ["2", "3", "5"]}, [2, 3, 4])
    assert read("quoted line ends") == ({"a": ["x\ny", "z", "2"], "b": ["1", "p\r\nq", "3"]}, [2, 4, 6])
    assert read("quotes in quotes") == ({"a": ['x"y', '"'], "b": ["1", "2"]}, [2, 3])
    assert read("zeros at the front")[0]["a"] == ["02935", "00000"]
    for name, words in {
        "short row": "t.csv, line 3: expected 2 cells as in the header, got 1.",
        "long row": "t.csv, line 3: expected 2 cells as in the header, got 3.",
        "short and long": "t.csv, line 2: expected 2 cells as in the header, got 1.",
        "text after quote": "t.csv, line 3: not a row of CSV: ',' expected after '\"'.",
        "open quote": 't.csv, line 3: a quote (") opens in the row that begins here and never closes.',
        "NUL": "t.csv, line 3: holds a NUL character at position 4; is this a text file?",
    }.items():
        assert described(SAMPLES[name], engine) == words


@pytest.mark.parametrize("max_row", [2**7, 2**10])
def test_readers_agree_wherever_a_piece_ends(monkeypatch, max_row):
    monkeypatch.setattr(textfile, "_FIRST", 7)
    monkeypatch.setattr(textfile, "MAX_ROW", max_row)
    for name in ("gaps", "blank lines in CRLF", "quoted line ends", "quoted CRLF", "stray CR", "short row", "Latin-1"):
        assert same(SAMPLES[name]) == same(SAMPLES[name])
    wide = b"a,b\n" + b'"x\ny",1\r\n' * 50 + b'"""",2\n' + b"3,4\n" * 20
    assert same(wide)[2] == [*range(2, 102, 2), *range(102, 123)]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6) | st.sampled_from(
    ["1", "-2.5", "1e3", "0.1234567890123456789", "", "red", "two words", 'say "x"', "a,b", "x\ny", "x\r\ny", " pad "]
)


@FUZZ
@given(
    rows=st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=8)),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_random_tables_are_read_as_they_were_written(rows, separator, quoting, end):
    stream = io.StringIO(newline="")
    names = [f"h{i}" for i in range(len(rows[0]))]
    # The module leaves a lone carriage return without quotes before Python 3.13.
    quoting = csv.QUOTE_ALL if any("\r" in cell for cell in itertools.chain(*rows)) else quoting
    csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator=end).writerows([names, *rows])
    _, columns, _ = same(stream.getvalue().encode(), separator=separator)
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        assert [c.lstrip(" ") for c in columns[name][0]] == [c.lstrip(" ") for c in cells]


@FUZZ
@given(
    st.lists(
        st.sampled_from(
            [b"a", b"1", b",", b",", b'"', b"\n", b"\n", b"\r", b"\r\n", b"\0", b"\xe9", b" ", b"\t", b"1.5", b"x,y\n",
             b'"z",', "\u00a0".encode(), b"\\", b"'", b";"]
        ),
        max_size=30,
    ),
    st.sampled_from([b"h,i\n", b"h\n", b"h,i,j\r\n", b'"h",i\n']),
)  # fmt: skip
def test_readers_agree_on_any_arrangement_of_pieces(pieces, header):
    same(header + b"".join(pieces), separator=",", max_field=50)


@FUZZ
@given(st.sampled_from(sorted(SAMPLES)), st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=2)), max_size=3))
def test_readers_agree_on_damaged_files(name, changes):
    data = bytearray(SAMPLES[name][:400])
    for at, new in changes:
        data[at % len(data) : at % len(data) + 1] = new
    same(bytes(data))


@FUZZ
@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20),
    st.sampled_from(["r", ".6f", ".3g", ".15f"]),
)
def test_numbers_are_those_of_python(values, form):
    cells = [repr(v) if form == "r" else format(v, form) for v in values]
    data = ("a,b\n" + "".join(f"{c},x\n" for c in cells)).encode()
    for engine in ENGINES:
        with mock.patch.object(blocks, "_SHORT", 0):
            found = read_csv(io.BytesIO(data), engine=engine).floats("a")
        wanted = np.asarray([float(c) for c in cells])
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


@pytest.mark.parametrize("short", [0, 256])
def test_floats_numbers_and_cells(engine, monkeypatch, short):
    monkeypatch.setattr(blocks, "_SHORT", short)
    data = b"a,b,c,d\n1,1,1_0,x\n -2.5 ,N/A,2,\n3e2,inf,3, x\n"
    table = read_csv(io.BytesIO(data), engine=engine)
    assert table.floats("a").tolist() == [1.0, -2.5, 300.0]
    assert [table.floats(name) for name in "bcd"] == [None] * 3
    for name, wanted in {"a": [1, -2.5, 300], "b": [1, math.nan, math.nan], "c": [math.nan, 2, 3]}.items():
        np.testing.assert_array_equal(table.numbers(name), wanted)
    assert table.cells("d").texts == ["x", ""]
    assert table.cells("d").codes.tolist() == [0, 1, 0]
    assert table.cells("d").counts.tolist() == [2, 1]
    part = table.take([2, 0, 2]).take([0, 2])
    assert (part.columns["d"], part.lines, len(part)) == (["x", "x"], [4, 4], 2)
    assert part.floats("a").tolist() == [300.0, 300.0]
    assert part.floats("b") is None
    assert table.take([0]).floats("b").tolist() == [1.0]
    assert table.take([2, 1]).floats("c").tolist() == [3.0, 2.0]
    assert table.take([1, 0]).cells("d").texts == ["", "x"]
    assert table.take([1, 0]).cells("d").codes.tolist() == [0, 1]
    assert str(part.error("odd", row=1, column="b")) == "<stream>, line 4, column 'b': odd."
    assert table.take([]).floats("a").tolist() == []
    assert table.take([]).cells("a").texts == []


@pytest.mark.parametrize("many", [3, 40, 900, 5000])
def test_cells_of_many_rows(engine, many):
    texts = [f"{' ' * (i % 2)}kind {i * 7919 % many}{'é' * (i % many % 12)}" for i in range(5000)]
    data = ("a,b\n" + "".join(f"{i},{t}\n" for i, t in enumerate(texts))).encode()
    cells = read_csv(io.BytesIO(data), engine=engine).cells("b")
    assert cells.texts == list(dict.fromkeys(t.strip() for t in texts))
    assert [cells.texts[i] for i in cells.codes] == [t.strip() for t in texts]
    assert cells.codes.dtype == np.int64


def test_numbers_are_shared_and_cannot_be_written_to():
    table = read_csv(io.BytesIO(b"a,b\n1,2\n3,4\n"))
    assert table.floats("a") is table.floats("a")
    with pytest.raises(ValueError, match="read-only"):
        table.floats("a")[0] = 5
    table.cells("a").codes[:] = 7
    assert table.cells("a").codes.tolist() == [0, 1]


def test_a_table_of_plain_lists():
    table = Table("frame", {"a": ["1", " 2"], "b": ["x", "x "]}, [2, 3])
    assert table.floats("a").tolist() == [1.0, 2.0]
    assert table.cells("b").texts == ["x"]
    assert table.dialect is None
    assert table.columns["b"] == ["x", "x "]
    assert len(Table("none", {"a": []}, [])) == 0
    assert Table("none", {"a": []}, []).cells("a").texts == []


class Slow(io.RawIOBase):
    """A pipe: gives a few bytes at a time and cannot go back."""

    def __init__(self, data):
        self.data = data

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(3, len(buffer))
        part, self.data = self.data[:size], self.data[size:]
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_and_streams_of_bytes_and_text(tmp_path, packed, encoding):
    data = "größe;b\n1,5;x\n2;y\n".encode(encoding)
    data = gzip.compress(data) if packed else data
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    sources = [path, str(path), io.BytesIO(data), Slow(data), io.BufferedReader(Slow(data))]
    if not packed:
        sources += [io.StringIO(data.decode(encoding)), io.TextIOWrapper(Slow(data), encoding=encoding, newline="")]
    for source in sources:
        table = read_csv(source)
        assert dict(table.columns) == {"größe": ["1,5", "2"], "b": ["x", "y"]}
        assert table.dialect.separator == ";"


def test_damaged_and_boundless_gzip_files_are_refused(monkeypatch):
    data = gzip.compress(b"a,b\n" + b"1,2\n" * 10_000)
    for wrong in (data[:-20], data[:30] + b"\xff\xff\xff" + data[33:], b"\x1f\x8b", data[:-8] + bytes(8)):
        with pytest.raises(DataError, match=r"^t.csv: expected a whole gzip file, got a damaged one"):
            read_csv(io.BytesIO(wrong), name="t.csv")
    monkeypatch.setattr(textfile, "MAX_UNPACKED", 2**15)
    with pytest.raises(DataError, match=r"^t.csv: unpacks to more than 32768 bytes"):
        read_csv(io.BytesIO(data), name="t.csv")


def test_an_encoding_can_be_named():
    data = "a,b\n1,2\n3,café €\n".encode("cp1252")
    assert read_csv(io.BytesIO(data), encoding="cp1252").columns["b"] == ["2", "café €"]
    assert read_csv(io.BytesIO("a,b\n1,é\n".encode("utf-16-be")), encoding="utf-16-be").columns["b"] == ["é"]
    with pytest.raises(
        DataError, match=r"line 3: expected UTF-8, got the byte 0xe9 .* or read it with encoding='cp1252'"
    ):
        read_csv(io.BytesIO(data))
    with pytest.raises(DataError, match=r"t.csv, line 3: not text in cp1252: "):
        read_csv(io.BytesIO(b"a,b\n1,2\n3,\x81\n"), name="t.csv", encoding="cp1252")
    with pytest.raises(DataError, match=r"t.csv, line 2: not text in utf-16-le: truncated"):
        read_csv(io.BytesIO("a,b\n1,2\n".encode("utf-16")[:-1]), name="t.csv")
    for encoding in ("nope", "rot13", "base64", "zip", "", "\0"):
        with pytest.raises(ValueError, match="expected an encoding of text such as 'utf-8' or 'cp1252'"):
            read_csv(io.BytesIO(data), encoding=encoding)


def test_a_mark_of_another_encoding_is_no_part_of_a_named_one():
    assert list(read_csv(io.BytesIO("\ufeffa,b\n1,2\n".encode()), encoding="utf-8").columns) == ["a", "b"]
    with pytest.raises(DataError, match="line 1: expected UTF-8, this looks like UTF-16"):
        read_csv(io.BytesIO("a,b\n1,2\n".encode("utf-16")), encoding="utf-8")
    with pytest.raises(DataError, match="line 2: not text in ascii"):
        read_csv(io.BytesIO("a,b\n1,é\n".encode()), encoding="ascii")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04\x14\0", "a zip archive or a spreadsheet; save the table as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1", "a spreadsheet; save the table as CSV"),
        (b"PAR1\x15", "a Parquet file; write the table as CSV"),
        (lzma.compress(b"a,b\n1,2\n"), "a file packed with xz; unpack it first"),
        (bz2.compress(b"a,b\n1,2\n"), "a file packed with bzip2; unpack it first"),
    ],
)
def test_other_kinds_of_files_are_named(data, words):
    with pytest.raises(DataError, match=f"^t.csv: expected a CSV file, plain or packed with gzip, got {words}"):
        read_csv(io.BytesIO(data), name="t.csv")


@pytest.mark.parametrize("name", ["PAR1", "BZh", "PK", "II", "%PDF"])
def test_a_name_like_the_start_of_such_a_file_is_a_name(name):
    assert list(read_csv(io.BytesIO(f"{name},b\n1,2\n".encode())).columns) == [name, "b"]


@pytest.mark.parametrize("source", [b"a,b\n1,2\n", ["a,b", "1,2"], None, 3])
def test_what_is_neither_a_path_nor_a_stream_is_refused(source):
    with pytest.raises(TypeError, match="expected a path or an open stream, got "):
        read_csv(source)


def test_a_table_can_be_copied_and_sent_to_another_process(engine):
    table = read_csv(io.BytesIO(b"a,b\n1,x\n2,y\n"), engine=engine)
    for copied in (copy.deepcopy(table), pickle.loads(pickle.dumps(table.take([0, 1])))):
        assert dict(copied.columns) == {"a": ["1", "2"], "b": ["x", "y"]}
        assert copied.floats("a").tolist() == [1.0, 2.0]
        assert copied.lines == [2, 3]


def test_the_first_library_that_is_there_reads_what_is_large(monkeypatch):
    data = b"a,b\n" + b"123456,abcdefgh\n" * 600_000
    first = next((name for name in ("polars", "pyarrow") if name in ENGINES), "numpy")
    kinds = {"polars": "_Polars", "pyarrow": "_Arrow", "numpy": "Spans"}
    table = read_csv(io.BytesIO(data))
    assert type(table._store.blocks[0]).__name__ == "Spans"
    assert kinds[first] in {type(block).__name__ for block in table._store.blocks}
    assert table.floats("a").sum() == 123456 * 600_000
    for name in ("polars", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    table = read_csv(io.BytesIO(data))
    assert {type(block).__name__ for block in table._store.blocks} == {"Spans"}
    assert table.floats("a").sum() == 123456 * 600_000


def test_libraries_are_imported_for_large_files_only():
    code = (
        "import sys, io, xmlp\nfrom xmlp.data import read_csv\n"
        "read_csv(io.BytesIO(b'a,b\\n1,2\\n'))\n"
        "print([name for name in ('polars', 'pyarrow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match=r"engine 'polar'.*polars"):
        read_csv(io.BytesIO(b"a\n1\n"), engine="polar")


def test_memory_is_that_of_the_file(engine):
    data = b"".join(b"%d,%.6f,kind %d,%d\n" % (i, i / 7, i % 50, i * i) for i in range(100_000))
    table = read_csv(io.BytesIO(b"a,b,c,d\n" + data), engine=engine)
    held = [getattr(block, "data", b"") for block in table._store.blocks]
    if engine == "numpy":
        assert sum(map(len, held)) == len(data)
        assert sum(block.ends.nbytes for block in table._store.blocks) == 4 * 4 * 100_000
    assert table.lines[-1] == 100_001


def test_wide_tables():
    width = 20_000
    data = (",".join(f"c{i}" for i in range(width)) + "\n" + (",".join(map(str, range(width))) + "\n") * 2).encode()
    for engine in ENGINES:
        table = read_csv(io.BytesIO(data), engine=engine)
        assert len(table.columns) == width
        assert table.floats("c19999").tolist() == [19999.0, 19999.0]


def test_no_cell_is_copied_by_take():
    table = read_csv(io.BytesIO(b"a,b\n1,2\n3,4\n"))
    assert table.take([1])._store is table._store


def test_rows_of_the_exact_reader_and_the_fast_ones_meet(engine):
    """The first piece is regular, a later one is not: the exact reader goes on where the fast one stopped."""
    body = b"1,2\n" * 40_000
    data = b"a,b\n" + body + b'"x""y",3\n' + body + b"4\n"
    assert described(data, engine) == "t.csv, line 80003: expected 2 cells as in the header, got 1."
    table = read_csv(io.BytesIO(data.removesuffix(b"4\n")), engine=engine)
    assert table.columns["a"][40_000] == 'x"y'
    assert table.lines == list(range(2, 80_003))
    assert readers._BLOCK_ROWS < 40_000


MIXED = {
    "all differ": [f"C{i}" for i in range(30_000)],
    "few twice": [f"C{i}" if i % 100 else "" for i in range(30_000)],
    "far apart": [f"C{i % 29_990}" for i in range(30_000)],
    "many twice": [f"C{i % 20_000}" for i in range(30_000)],
    "few": [f"kind {i % 7}" for i in range(30_000)],
    "thousands": [f"{i % 5_000}" for i in range(30_000)],
    "space": [f"C{i}" + " " * (i % 2) for i in range(29_999)] + ["C0 "],
}


@pytest.mark.parametrize("name", MIXED)
def test_different_cells_of_many_rows(name, engine):
    cells = MIXED[name]
    data = "a,b\n" + "".join(f"{cell},1\n" for cell in cells)
    found = read_csv(io.BytesIO(data.encode()), engine=engine).cells("a")
    stripped = [cell.strip() for cell in cells]
    position = {text: i for i, text in enumerate(dict.fromkeys(stripped))}
    assert found.texts == list(position)
    np.testing.assert_array_equal(found.codes, [position[text] for text in stripped])


@pytest.mark.parametrize("odd", ["", "x", "inf", "1_000"])
def test_numbers_with_cells_that_are_none(odd, engine):
    data = "a,b\n" + "".join(f"{i / 8 if i % 100 else odd},1\n" for i in range(5_000))
    table = read_csv(io.BytesIO(data.encode()), engine=engine)
    expected = np.where(np.arange(5_000) % 100 > 0, np.arange(5_000) / 8, np.nan)
    assert table.floats("a") is None
    np.testing.assert_array_equal(table.numbers("a"), expected)


def test_texts_that_share_a_place_stay_apart(monkeypatch):
    monkeypatch.setattr(blocks, "_SLOTS", 4)
    data = "a,b\n" + "".join(f"kind {i * i % 100},1\n" for i in range(5_000))
    found = read_csv(io.BytesIO(data.encode()), engine="numpy").cells("a")
    assert [found.texts[code] for code in found.codes] == [f"kind {i * i % 100}" for i in range(5_000)]
