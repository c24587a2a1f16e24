"""Numbers as people write them: the format of a column, and what it gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmlp.data import numerals
from xmlp.data.numerals import PLAIN, NumberFormat, infer


def column(*texts, **more):
    return infer(texts, np.ones(len(texts), dtype=np.int64), **more)


@pytest.mark.parametrize(
    ("texts", "form", "values"),
    [
        (["1", "-2.5", "1e5"], PLAIN, [1, -2.5, 1e5]),
        (["+1", ".5", "5."], PLAIN, [1, 0.5, 5]),
        (["\u22121.5", "2"], PLAIN, [-1.5, 2]),
        (['"2"', "'3'", '="4"', "'5"], PLAIN, [2, 3, 4, 5]),
        (["1,234.50", "12", "1,234,567"], NumberFormat(".", ","), [1234.5, 12, 1234567]),
        (["1.234,50", "12,5"], NumberFormat(",", "."), [1234.5, 12.5]),
        (["1.234.567", "1.000.000"], NumberFormat(",", "."), [1234567, 1000000]),
        (["1 234,50", "12"], NumberFormat(",", " "), [1234.5, 12]),
        (["1\u202f234,5", "2\u00a0345,5", "2\u2009345,5"], NumberFormat(",", " "), [1234.5, 2345.5, 2345.5]),
        (["1 234.5", "12 345"], NumberFormat(".", " "), [1234.5, 12345]),
        (["1'234.5", "1\u2019234'567"], NumberFormat(".", "'"), [1234.5, 1234567]),
        (["12,34,567.00", "1,23,456"], NumberFormat(".", ","), [1234567, 123456]),
        (["3,14", "2,7", "1"], NumberFormat(","), [3.14, 2.7, 1]),
        (["0,123", "0,456"], NumberFormat(","), [0.123, 0.456]),
        (["1234,567", "1,234"], NumberFormat(","), [1234.567, 1.234]),
        (["1,5e3", "2E-2"], NumberFormat(","), [1500, 0.02]),
        (["$5,889.46", "$12", "-$3", "$-4", "($5.00)"], NumberFormat(".", ",", "$"), [5889.46, 12, -3, -4, -5]),
        (["5 €", "1.000,5 €"], NumberFormat(",", ".", "€"), [5, 1000.5]),
        (["EUR 5", "EUR 6.5"], NumberFormat(unit="EUR"), [5, 6.5]),
        (["US$1", "US$2"], NumberFormat(unit="US$"), [1, 2]),
        (["Rs. 1", "Rs. 2"], NumberFormat(unit="Rs"), [1, 2]),
        (["12%", "7.5 %", "-3%"], NumberFormat(unit="%"), [12, 7.5, -3]),
        (["12 kg", "7.5kg"], NumberFormat(unit="kg"), [12, 7.5]),
        (["36 months", "60 months"], NumberFormat(unit="months"), [36, 60]),
        (["100 km/h", "80 km/h"], NumberFormat(unit="km/h"), [100, 80]),
        (["21 °C", "-3 °C"], NumberFormat(unit="°C"), [21, -3]),
        (["(1,234.50)", "2"], NumberFormat(".", ","), [-1234.5, 2]),
        (["5-", "7"], PLAIN, [-5, 7]),
    ],
)
def test_a_column_is_read_as_it_is_written(texts, form, values):
    found = column(*texts)
    assert (found.format, found.other) == (form, None)
    assert found.values.tolist() == values


@pytest.mark.parametrize(
    ("texts", "taken", "other"),
    [
        (["1,234", "47,050"], [1234, 47050], NumberFormat(",")),
        (["950", "47,050"], [950, 47050], NumberFormat(",")),
        (["1.234", "47.050"], [1.234, 47.05], None),
    ],
)
def test_thousands_are_taken_where_a_comma_may_be_a_decimal_mark(texts, taken, other):
    found = column(*texts)
    assert found.values.tolist() == taken
    assert found.other == other


def test_the_mark_can_be_said():
    assert column("1,234", "47,050", decimal=",").values.tolist() == [1.234, 47.05]
    assert column("1.234", "47.050", decimal=",").values.tolist() == [1234, 47050]
    assert np.isnan(column("3.14", "2,5", decimal=",", only=True).values).tolist() == [True, False]
    assert column("3,141", *["2.5"] * 9, decimal=".", only=True).values.tolist() == [3141, *[2.5] * 9]


@pytest.mark.parametrize(
    ("few", "many"),
    [
        ("3,14", ["2.718", "12.345", "1.5"]),
        ("3,141", ["2.5", "2.25"]),
        ("3,14", ["2.718", "12.345"]),
        ("$12", ["13", "14.5"]),
        ("13", ["$12", "$14"]),
        ("€12", ["$13", "$14"]),
        ("0.12", ["12%", "13%"]),
        ("12 kg", ["13", "14"]),
        ("12345", ["1,234", "12,345", "7,000"]),
        ("1.234,5", ["1,234.5", "12.5"]),
        ("4O", ["40", "41"]),
        ("1_000", ["1000", "2000"]),
        ("0x10", ["10", "11"]),
        ("1.2.3", ["1.2", "1.3"]),
        ("--5", ["5", "6"]),
        ("5 5", ["5", "6"]),
        ("1e5e5", ["5", "6"]),
    ],
)
def test_what_is_written_otherwise_does_not_read(few, many):
    found = column(few, *many * 5)
    assert np.isnan(found.values).tolist() == [True, *[False] * 5 * len(many)]


@pytest.mark.parametrize(
    "text",
    ["", "abc", "\u0131nf", "\u0661,5", "12a34", "1st", "A1", "-", "$", "%", "(5", "1,2,3", "12-31", "5'11", "1/2"],
)
def test_what_is_no_number(text):
    assert np.isnan(column(text, "x").values).all()


def test_words_after_numbers_are_no_units_unless_all_have_them():
    assert np.isnan(column("1st", "2nd", "3rd").values).all()
    assert np.isnan(column("5k", "3M", "2k").values).all()


def test_infinity_is_a_number_that_is_not_finite():
    assert column("inf", "-Infinity", "1e999").values.tolist() == [np.inf, -np.inf, np.inf]


MARKS = [(".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", "\u202f"), (".", "\u2019")]
UNITS = ["{}", "${}", "{} €", "{}%", "EUR {}", "{} kg"]


def written(value, marks, unit, negative):
    digits = f"{abs(value):,.2f}".translate({ord(","): marks[1], ord("."): marks[0]})
    text = unit.format(digits)
    return text if value >= 0 else negative.format(text)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(10**11), 10**11).map(lambda n: n / 100), min_size=1, max_size=20),
    st.sampled_from(MARKS),
    st.sampled_from(UNITS),
    st.sampled_from(["-{}", "({})", "\u2212{}"]),
)
def test_numbers_come_back_from_all_ways_to_write_them(values, marks, unit, negative):
    texts = [written(value, marks, unit, negative) for value in values]
    found = infer(texts, np.ones(len(texts), dtype=np.int64))
    assert found.values.tolist() == values
    assert found.other is None
    assert numerals.read(found.format, texts).tolist() == values
    plainly = [repr(value) for value in values]
    if found.format.unit == "" or all(value >= 0 for value in values):
        assert numerals.read(
            NumberFormat(found.format.decimal, found.format.group, found.format.unit), plainly
        ).tolist() == (values)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(alphabet="0123456789.,'-+()$%e \u00a0k", max_size=8), min_size=1, max_size=6),
    st.sampled_from([None, ",", "."]),
)
def test_any_texts_give_numbers_or_none(texts, decimal):
    found = infer(texts, np.ones(len(texts), dtype=np.int64), decimal)
    assert len(found.values) == len(found.numeric) == len(texts)
    assert found.numeric[~np.isnan(found.values)].all()
    read = ~np.isnan(found.values)
    again = found.format.read([text for text, good in zip(texts, read, strict=True) if good])
    assert again.tolist() == found.values[read].tolist()


@pytest.mark.parametrize("unit", ["", "$", "kg"])
def test_many_texts_give_what_few_give(unit):
    values = np.arange(20_000) * 7 / 4
    texts = [f"{unit}{value:,.2f}" if unit != "kg" else f"{value:,.2f} kg" for value in values]
    counts = np.ones(len(texts), dtype=np.int64)
    assert np.array_equal(infer(texts, counts).values, values)
    texts[777] = "oops"
    found = infer(texts, counts)
    assert np.flatnonzero(np.isnan(found.values)).tolist() == [777]
    assert not infer([f"text {i}" for i in range(20_000)], counts).numeric.any()


@pytest.mark.parametrize(
    ("form", "texts", "values"),
    [
        (NumberFormat(",", "."), ["1.234,5", "2"], [1234.5, 2]),
        (NumberFormat(",", "."), ["3.14", "1234.5"], [3.14, 1234.5]),
        (NumberFormat(",", "."), ["1.234", "2"], [1234, 2]),
        (NumberFormat(".", ",", "$"), ["$5", "6", "1,000"], [5, 6, 1000]),
        (NumberFormat(".", ",", "$"), ["5.5", "-6"], [5.5, -6]),
        (PLAIN, ["3,14", "2,5"], [3.14, 2.5]),
        (PLAIN, ["1.234,5"], [1234.5]),
        (PLAIN, ["1,234"], [np.nan]),
        (PLAIN, ["$5"], [np.nan]),
        (PLAIN, ["5%"], [np.nan]),
        (NumberFormat(unit="€"), ["$5"], [np.nan]),
    ],
)
def test_a_later_column_is_read_in_its_format_or_in_one_that_is_unmistakable(form, texts, values):
    assert np.array_equal(numerals.read(form, texts), values, equal_nan=True)


@pytest.mark.parametrize("parts", [(".", "."), ("", ""), (";", ""), (".", "_"), (".", "", "x" * 31), (".", "", None)])
def test_a_format_that_there_is_not_is_refused(parts):
    with pytest.raises(ValueError, match="numbers are not written as"):
        NumberFormat(*parts)
