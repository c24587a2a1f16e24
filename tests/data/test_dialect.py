import io

import pytest

from xmlp.data import read_csv
from xmlp.data.dialect import SEPARATORS, find_separator
from xmlp.errors import DataError


@pytest.mark.parametrize(
    ("head", "separator"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1;2\n", ";"),
        ("a\tb\n1\t2\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),
        ("size, cm;weight, kg\n1,5;2,5\n", ";"),
        ("a;b\n1.234,5;2\n", ";"),
        ("a,b\n1;5,2;5\n", ","),
        ("first name,last name\nAda Maria,King Noel\n", ","),
        ('"a;b","c"\n"1;2","3"\n', ","),
        ('"a,b";"c"\n"1,2";"3"\n', ";"),
        ('name;text\nx;"one, two, three"\ny;"four\nfive, six"\n', ";"),
        ("a,b\nx|y,1\nz|w,2\n", ","),
        ("a\tb\n1, 2, 3\t4\n5, 6, 7\t8\n", "\t"),
        ("date;time\n2024-01-01;10:00\n", ";"),
        ("a,b\n1,2\n3\n", ","),
        ("a;b;c\n1;2;3\n4;5\n", ";"),
        ("a;b\n", ";"),
        ("one column\nsome text\n", ","),
        ("y\n1\n2\n", ","),
        ("a,b\n\n\n1,2\n", ","),
        ("a;b\n;\n;\n", ";"),
        ("a, b\n1, 2\n", ","),
        ("", ","),
        ('a;b\n"open;1\n', ";"),
        ("a,b,c;d\n1,2,3;4\n", ","),
    ],
)
def test_the_separator_is_found(head, separator):
    assert find_separator(head) == separator
    assert find_separator(head.replace("\n", "\r\n")) == separator


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_row_that_is_cut_by_the_end_of_the_sample_says_nothing(separator):
    rows = separator.join("abcd") + "\n" + (separator.join(["1"] * 4) + "\n") * 3 + separator.join(["1"] * 2)
    assert find_separator(rows, whole=False) == separator


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_table_is_read_with_it(separator):
    text = f"a{separator}b\n1{separator}x\n"
    table = read_csv(io.StringIO(text))
    assert dict(table.columns) == {"a": ["1"], "b": ["x"]}
    assert table.dialect.separator == separator
    assert table.dialect.decimal == ("." if separator == "," else None)
    assert table.dialect.quote == '"'


def test_a_named_separator_is_used_though_another_would_fit():
    assert dict(read_csv(io.StringIO("a;b,c\n1;2,3\n"), separator=",").columns) == {"a;b": ["1;2"], "c": ["3"]}
    assert dict(read_csv(io.StringIO("a;b,c\n1;2,3\n"), separator=";").columns) == {"a": ["1"], "b,c": ["2,3"]}
    assert dict(read_csv(io.StringIO("a:b\n1:2\n"), separator=":").columns) == {"a": ["1"], "b": ["2"]}
    assert dict(read_csv(io.StringIO("a§b\n1§2\n"), separator="§").columns) == {"a": ["1"], "b": ["2"]}
    assert dict(read_csv(io.StringIO("y\n1,5\n2,5\n"), separator=";").columns) == {"y": ["1,5", "2,5"]}


@pytest.mark.parametrize("separator", ["", ",,", " ", '"', "\n", "\r", "\0", "a", "1", ".", "-", 1])
def test_what_cannot_separate_is_refused(separator):
    with pytest.raises(ValueError, match="expected one character between cells"):
        read_csv(io.StringIO("a,b\n1,2\n"), separator=separator)


@pytest.mark.parametrize("first", ["sep=;\n", "sep=;\r\n", '"sep=;"\n'])
def test_a_first_line_that_names_the_separator(first):
    table = read_csv(io.StringIO(first + "a;b\n1,5;2\n", newline=""))
    assert (dict(table.columns), table.lines) == ({"a": ["1,5"], "b": ["2"]}, [3])
    with pytest.raises(DataError, match="line 4: expected 2 cells as in the header, got 1"):
        read_csv(io.StringIO(first + "a;b\n1;2\n3\n", newline=""))


def test_names_of_columns_have_no_space_around_them():
    assert list(read_csv(io.StringIO(' a , "b" , c d \n1,2,3\n')).columns) == ["a", "b", "c d"]
    with pytest.raises(DataError, match="line 1, column 'a': two columns have this name"):
        read_csv(io.StringIO("a, a\n1,2\n"))


def test_a_decimal_comma_in_one_column_is_not_guessed():
    with pytest.raises(DataError, match=r"line 2: expected 1 cell as in the header, got 2\. If the header is right"):
        read_csv(io.StringIO("y\n1,5\n2,5\n"))


def test_a_column_without_a_name_gets_that_of_pandas():
    assert list(read_csv(io.StringIO(",a,y\n0,1,2\n")).columns) == ["Unnamed: 0", "a", "y"]
    assert list(read_csv(io.StringIO("a;b;\n1;2;\n")).columns) == ["a", "b", "Unnamed: 2"]
    assert list(read_csv(io.StringIO('""\n1\n')).columns) == ["Unnamed: 0"]
    with pytest.raises(DataError, match="column 'Unnamed: 0': two columns have this name"):
        read_csv(io.StringIO(",Unnamed: 0\n1,2\n"))
