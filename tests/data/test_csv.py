import csv
import io
import math
import os
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmlp.data import Table, csvfile, read_csv, readers, textfile, write_predictions
from xmlp.errors import DataError

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def read(tmp_path):
    def read(data, **options):
        path = tmp_path / "sample.csv"
        path.write_bytes(data)
        return read_csv(path, **options)

    return read


@pytest.mark.parametrize(
    ("data", "columns", "lines"),
    [
        (b"a,b\n1,2\n3,4\n", {"a": ["1", "3"], "b": ["2", "4"]}, [2, 3]),
        (b"a,b\r\n1,2\r\n3,4", {"a": ["1", "3"], "b": ["2", "4"]}, [2, 3]),
        (b"a,b\r1,2\r", {"a": ["1"], "b": ["2"]}, [2]),
        (b"\xef\xbb\xbfa,b\n1,2\n", {"a": ["1"], "b": ["2"]}, [2]),
        (b'"a, 1",b\n"x""y","p\nq"\nz,\n', {"a, 1": ['x"y', "z"], "b": ["p\nq", ""]}, [2, 4]),
        (b'"a\nb"\n1\n', {"a\nb": ["1"]}, [3]),
        (b"\n\na\n\n\n1\n\n2\n\n", {"a": ["", "", "1", "", "2", ""]}, [4, 5, 6, 7, 8, 9]),
        (b"\na,b\n\n\n1,2\n\n3,4\n\n", {"a": ["1", "3"], "b": ["2", "4"]}, [5, 7]),
        (b"a,b\n , x \n", {"a": [""], "b": ["x "]}, [2]),
        ("größe,色\n1,ü\n".encode(), {"größe": ["1"], "色": ["ü"]}, [2]),
        (b'a\n""\n', {"a": [""]}, [2]),
    ],
)
def test_cells_and_line_numbers(read, data, columns, lines):
    table = read(data)
    assert dict(table.columns) == columns
    assert list(table.columns) == list(columns)
    assert table.lines == lines
    assert len(table) == len(lines)


def wide(encoding):
    """What is said of a file in an encoding of several bytes a letter."""
    looks = encoding[:6].upper()
    return f"line 1: expected UTF-8, this looks like {looks}. Save the file as UTF-8, or read it with {encoding=}"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected a header line with the names of the columns, got an empty file"),
        (b"\n\n", "expected a header line"),
        (b"\xef\xbb\xbf", "expected a header line"),
        (b"a,b\n", "expected rows after the header, got none"),
        (b"a,b,a\n1,2,3\n", "line 1, column 'a': two columns have this name"),
        (b"a, a\n1,2\n", "line 1, column 'a': two columns have this name"),
        (b"a,b\n1,2\n3\n", "line 3: expected 2 cells as in the header, got 1"),
        (b'a,b\n"x\ny",2\n3,4,5\n', "line 4: expected 2 cells as in the header, got 3"),
        (b"\xff\xfea\0,\0b\0\n\0", "expected rows after the header, got none"),
        ("price,size\n1,2\n".encode("utf-16-le"), wide("utf-16-le")),
        ("a,b\n1,2\n".encode("utf-16-be"), wide("utf-16-be")),
        ("price,size\n1,2\n".encode("utf-32-le"), wide("utf-32-le")),
        ("price,size\n1,2\n".encode("utf-32-be"), wide("utf-32-be")),
        (
            b"a,b\n1,caf\xe9\n",
            "line 2: expected UTF-8, got the byte 0xe9 at position 6; this looks like Latin-1",
        ),
        (b"a,b\n1,2\n3,\xed\xa0\x80\n", "line 3: expected UTF-8, got the byte 0xed at position 3"),
        (b"a,b\n1,x\0y\n", "line 2: holds a NUL character at position 4"),
        (b"\0", "line 1: holds a NUL character at position 1"),
        (
            b'a,b\n1,2\n3,"x\n5,6\n',
            r'line 3: a quote \("\) opens in the row that begins here and never closes',
        ),
        (b'a,b\n1,"x"y\n', "line 2: not a row of CSV: ',' expected after '\"'"),
    ],
)
def test_what_is_not_a_table_is_refused_with_file_and_line(read, data, words):
    with pytest.raises(DataError, match=r"sample\.csv(, |: )" + words):
        read(data)


def test_a_cell_may_have_a_mebibyte_and_no_more(read):
    assert len(read(b"a\n" + b"x" * 2**20 + b"\n").columns["a"][0]) == 2**20
    with pytest.raises(DataError, match=r"line 3: a cell is longer than 1048576 characters; is a quote"):
        read(b"a\n1\n" + b"x" * (2**20 + 1) + b"\n")
    with pytest.raises(DataError, match="line 2: a cell is longer than 10 characters"):
        read(b'a\n"12345\n67890\n"\n', max_field=10)


def test_an_open_quote_before_a_long_rest_is_refused_at_its_line(read):
    with pytest.raises(DataError, match=r"line 2: a cell is longer than 1048576 characters; is a quote"):
        read(b'a\n"x\n' + b"1\n" * 2**20)


class Endless(io.RawIOBase):
    """A stream that repeats a piece for ever, after a header; counts what was taken."""

    def __init__(self, piece):
        self.piece, self.start, self.taken = piece, b"a\n", 0

    def readable(self):
        return True

    def readinto(self, buffer):
        data = (self.start or self.piece)[: len(buffer)]
        self.start = b""
        buffer[: len(data)] = data
        self.taken += len(data)
        return len(data)


@pytest.mark.parametrize("piece", [b"x" * 4096, b'"\n",'], ids=["one line", "one row of many lines"])
def test_an_endless_row_is_refused_with_little_memory(monkeypatch, piece):
    monkeypatch.setattr(textfile, "MAX_ROW", 2**18)
    source = Endless(piece)
    stream = io.TextIOWrapper(io.BufferedReader(source), newline="")
    tracemalloc.start()
    with pytest.raises(DataError, match="<stream>, line 2: a row is longer than 262144 characters"):
        read_csv(stream, name="<stream>")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.taken < 2**18 + 2**17
    assert peak < 2**24


def test_a_stream_is_read_under_its_name():
    stream = io.StringIO("\ufeffa,b\n1,2\n")
    assert dict(read_csv(stream, name="<stdin>").columns) == {"a": ["1"], "b": ["2"]}
    with pytest.raises(DataError, match=r"^<stdin>, line 2: expected 2 cells"):
        read_csv(io.StringIO("a,b\n1\n"), name="<stdin>")
    with pytest.raises(DataError, match=r"^<stream>: expected a header"):
        read_csv(io.StringIO(""))


def test_a_stream_with_bytes_that_are_not_utf8_is_refused():
    for errors in ("strict", "surrogateescape"):
        stream = io.TextIOWrapper(io.BytesIO(b"a\n\xe9\n"), encoding="utf-8", errors=errors)
        with pytest.raises(DataError, match=r"<stdin>, line \d: (not text in utf-8|expected UTF-8)"):
            read_csv(stream, name="<stdin>")
    with pytest.raises(DataError, match="line 2: expected UTF-8"):
        read_csv(io.StringIO("a\n\ud800\n"))


def test_a_stray_carriage_return_ends_a_line_in_streams_as_in_files(read):
    assert read(b"a\n1\r2\n").columns["a"] == ["1", "2"]
    for newline in ("", "\n", None):
        table = read_csv(io.StringIO("a\n1\r2\n", newline=newline))
        assert (table.columns["a"], table.lines) == (["1", "2"], [2, 3])


def test_the_file_is_closed_and_a_missing_file_stays_an_os_error(read, tmp_path):
    with pytest.raises(DataError):
        read(b"a,b\n1\n")  # an open file would be a ResourceWarning, which is an error
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "none.csv")


def test_the_limit_of_the_csv_module_is_raised_and_never_lowered(read):
    before = csv.field_size_limit(2**22)
    try:
        read(b"a\n1\n")
        assert csv.field_size_limit() == 2**22
        csv.field_size_limit(10)
        read(b"a\n1\n")
        assert csv.field_size_limit() == 2**20
    finally:
        csv.field_size_limit(max(before, 2**20))


@pytest.mark.parametrize("engine", ["numpy", "csv"])
def test_many_rows_and_columns_stay_aligned(read, engine):
    n = 3 * readers._BLOCK_ROWS + 5
    table = read(b"a,b,c\n" + b"".join(b"%d,x%d,%d\n" % (i, i, -i) for i in range(n)), engine=engine)
    assert table.columns["a"] == [str(i) for i in range(n)]
    assert table.columns["b"] == [f"x{i}" for i in range(n)]
    assert table.columns["c"][-1] == str(1 - n)
    assert table.lines == list(range(2, n + 2))


def test_take_selects_rows_and_keeps_their_lines():
    table = Table("t.csv", {"a": ["x", "y", "z"], "b": ["1", "2", "3"]}, [2, 4, 5])
    part = table.take(np.array([2, 0, 2], dtype=np.int32))
    assert part.columns == {"a": ["z", "x", "z"], "b": ["3", "1", "3"]}
    assert (part.name, part.lines, len(part)) == ("t.csv", [5, 2, 5], 3)
    assert len(table.take([])) == 0


@pytest.mark.parametrize("indices", [[3], [-1], [True, False, True], [[0]], [0.5]])
def test_take_refuses_what_is_no_position(indices):
    with pytest.raises(ValueError, match="expected positions"):
        Table("t.csv", {"a": ["x", "y", "z"]}, [2, 3, 4]).take(indices)


def written(columns):
    stream = io.StringIO(newline="")
    write_predictions(stream, columns)
    return stream.getvalue()


@pytest.mark.parametrize(
    "cell",
    ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "=1", "+1_0", '=a,"b"'],
)
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(cell):
    rows = list(csv.reader(io.StringIO(written({cell: [cell]}), newline="")))
    assert rows == [[f"'{cell}"], [f"'{cell}"]]


@pytest.mark.parametrize("cell", ["-1.5", "+2", "-1e-3", "-inf", "a=b", "1-2", "", "'", "a@b"])
def test_numbers_and_plain_texts_stay_as_they_are(cell):
    assert list(csv.reader(io.StringIO(written({"h": [cell], "i": ["x"]}), newline="")))[1] == [cell, "x"]


def test_written_numbers_read_back_equal():
    values = np.array([0.1, -1 / 3, 1e300, 5e-324, math.inf, -0.0])
    halves = values[:2].astype(np.float32)
    table = read_csv(io.StringIO(written({"p": values, "n": range(6)})))
    assert [float(cell) for cell in table.columns["p"]] == values.tolist()
    assert table.columns["n"] == [str(i) for i in range(6)]
    assert written({"h": halves}) == "h\n0.1\n-0.33333334\n"


def test_text_is_quoted_where_it_must_be():
    assert written({"a,b": ['x"y', "p\nq"]}) == '"a,b"\n"x""y"\n"p\nq"\n'


@pytest.mark.parametrize("columns", [{}, {"a": [1], "b": [1, 2]}])
def test_columns_of_several_lengths_are_refused_and_nothing_is_written(columns):
    stream = io.StringIO()
    with pytest.raises(ValueError, match="expected columns of one length"):
        write_predictions(stream, columns)
    assert stream.getvalue() == ""


def test_a_named_pipe_can_be_read(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes on this system")
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"a\n1\n",), daemon=True)
    writer.start()
    assert read_csv(path).columns["a"] == ["1"]
    writer.join()


def reads_or_refuses(path, data):
    path.write_bytes(data)
    try:
        table = read_csv(path, max_field=50)
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
        return
    assert len(table) > 0
    assert {len(cells) for cells in table.columns.values()} == {len(table)}
    assert all(len(cell) <= 50 for cells in table.columns.values() for cell in cells)


@FUZZ
@given(
    start=st.sampled_from([b"", b"a,b\n1,2\n", b"a\n", b"\xef\xbb\xbf", b"\xff\xfe"]),
    rest=st.binary(max_size=80),
)
def test_any_bytes_are_read_or_refused(tmp_path, start, rest):
    reads_or_refuses(tmp_path / "fuzz.csv", start + rest)


@FUZZ
@given(
    st.lists(
        st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\r\n", b"\0", b"\xe9", b"x" * 51, b" "]),
        max_size=30,
    )
)
def test_any_arrangement_of_csv_pieces_is_read_or_refused(tmp_path, pieces):
    reads_or_refuses(tmp_path / "fuzz.csv", b"h,i\n" + b"".join(pieces))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@FUZZ
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_what_is_written_reads_back_but_for_the_apostrophe(rows):
    left, right = zip(*rows, strict=True)
    table = read_csv(io.StringIO(written({"left": left, "right": right}), newline=""))
    for name, cells in (("left", left), ("right", right)):
        for got, cell in zip(table.columns[name], cells, strict=True):
            assert got in (cell, f"'{cell}")
            assert csvfile.is_number(got) or not got.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_names_have_no_space_around_and_are_made_up_where_there_is_none():
    assert list(read_csv(io.StringIO(", b ,\tc,\n0,1,2,3\n")).columns) == ["Unnamed: 0", "b", "c", "Unnamed: 3"]


@pytest.mark.parametrize(
    "cell", ["-5", "-1e-3", "-inf", "+3", "-1,5", "-1.234,50 €", "-$3", "-5%", "- 5", "-.5", "-3 kg", "-1 234"]
)
def test_a_number_with_a_sign_gets_no_apostrophe(cell):
    assert list(csv.reader(io.StringIO(written({"a": [cell]}), newline="")))[1] == [cell]


@pytest.mark.parametrize(
    "cell", ["-SUM(A1)", '="5"', "=5", "@5", "+A1", "-1;2", "-5\n=1", "--5", "-(5)-2", "=-5", "-5!A1"]
)
def test_what_only_begins_like_a_number_gets_an_apostrophe(cell):
    assert list(csv.reader(io.StringIO(written({"a": [cell]}), newline="")))[1] == ["'" + cell]
