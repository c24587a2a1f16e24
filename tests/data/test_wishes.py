"""What users say about columns, in one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmlp.data.kinds import WISHES
from xmlp.data.wishes import parse_names, parse_wishes, wish


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("a:number", {"a": "number"}),
        (" a : number , b:drop ,", {"a": "number", "b": "drop"}),
        ("Unnamed: 0:drop", {"Unnamed: 0": "drop"}),
        ("a:b:category", {"a:b": "category"}),
        ('"a,b":drop,c:date', {"a,b": "drop", "c": "date"}),
        ('"say ""a, b""":drop', {'say "a, b"': "drop"}),
        ('5" pipe:number', {'5" pipe': "number"}),
        ("a:drop,a:drop", {"a": "drop"}),
        ("a:Categorical,b:numeric,c:ignore", {"a": "category", "b": "number", "c": "drop"}),
        ("d:datetime,e:FLOAT", {"d": "date", "e": "number"}),
        ("a:decimal-comma,b:day-first", {"a": "decimal-comma", "b": "day-first"}),
    ],
)  # fmt: skip
def test_names_and_kinds(text, found):
    assert parse_wishes(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "expected NAME:KIND, as in age:number,id:drop, got 'a'"),
        (":drop", "expected NAME:KIND"),
        ("a:", "unknown kind of a column ''"),
        ("a:numbr", "unknown kind of a column 'numbr'. Did you mean 'number'"),
        ("a:drop,a:number", "column 'a' is to be drop and number"),
        ('"a:drop', r'a quote \("\) stays open'),
        ("a,b:drop", "expected NAME:KIND, as in age:number,id:drop, got 'a'"),
    ],
)
def test_what_says_nothing_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_wishes(text)


names = st.text(min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.dictionaries(names, st.sampled_from(WISHES), max_size=4))
def test_what_is_written_reads_back(found):
    assert parse_wishes(",".join(wish(name, kind) for name, kind in found.items())) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a", ["a"]),
        (" a , b", ["a", "b"]),
        ('"x,y"', ["x,y"]),
        ('a,"x, ""y""",b', ["a", 'x, "y"', "b"]),
        ("a:b", ["a:b"]),
    ],
)
def test_names(text, found):
    assert parse_names(text) == found


@given(st.lists(st.text(min_size=1).filter(lambda name: name == name.strip()), min_size=1))
def test_any_names_can_be_written(names):
    text = ",".join(wish(name, "drop").removesuffix(":drop") for name in names)
    assert parse_names(text) == names


def test_a_quote_that_stays_open_in_names_is_refused():
    with pytest.raises(ValueError, match=r"a quote .* stays open"):
        parse_names('a,"b')
