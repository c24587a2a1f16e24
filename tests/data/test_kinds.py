"""What columns are taken for: kinds, with reasons, from all cells and whatever their order."""

import io

import numpy as np
import pytest

from xmlp.data import Survey, Table, read_csv
from xmlp.data.csvfile import Cells
from xmlp.data.kinds import decide, decide_fractions
from xmlp.data.missing import is_missing

ROWS = 400
RNG = np.random.default_rng(0)
PLAIN = [f"{value:.3f}" for value in RNG.normal(50, 20, ROWS)]
WHOLE = [str(n) for n in RNG.integers(0, 300, ROWS)]
MONEY = [f"{value:,.2f}" for value in RNG.uniform(10, 90_000, ROWS)]
DAYS = [str(np.datetime64("2020-01-01") + int(n)) for n in RNG.integers(0, 1500, ROWS)]


def look(texts, name="a", **more):
    return decide(name, Table("t.csv", {name: texts}, range(2, len(texts) + 2)).cells(name), **more)


def among(cells, *odd):
    """Cells of which some are others."""
    cells = list(cells)
    for i, text in enumerate(odd):
        cells[17 * i + 3] = text
    return cells


def picked(*texts):
    return [texts[i] for i in RNG.integers(0, len(texts), ROWS)]


GAPS = [
    "N/A",
    "n/a",
    "NA",
    "NaN",
    "-nan",
    "NULL",
    "null",
    "None",
    "none",
    "nil",
    "-",
    "--",
    "\u2013",
    ".",
    "?",
    "",
    " ",
]
GAPS += [
    "#N/A",
    "#N/A N/A",
    "#NA",
    "<NA>",
    "(null)",
    "missing",
    "Missing",
    "unknown",
    "not available",
    "#DIV/0!",
    "\\N",
]


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("cells", "kind"), [(PLAIN, "number"), (MONEY, "number"), (DAYS, "date")])
def test_gaps_do_not_change_what_a_column_is(gap, cells, kind):
    found = look(among(cells, gap, gap, gap))
    assert (found.kind, found.gaps, found.odd) == (kind, 3, None)


@pytest.mark.parametrize("odd", ["4O", "abc", "12 kg", "3,14", "$12", "1_000", "inf", "12%", "2024-01-01", "1,23.5"])
@pytest.mark.parametrize("times", [1, 3, 40])
def test_cells_that_do_not_read_are_found_and_change_nothing(odd, times):
    found = look(among(PLAIN, *[odd] * min(times, 23)))
    assert (found.kind, found.odd) == ("number", (3, odd, min(times, 23)))


def test_one_odd_date_is_found():
    assert look(among(DAYS, "2024-13-01")).odd == (3, "2024-13-01", 1)
    mixed = [day if i % 2 else day[8:] + "/" + day[5:7] + "/" + day[:4] for i, day in enumerate(DAYS)]
    found = look(mixed)
    assert (found.kind, found.odd.rows) == ("date", ROWS // 2)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([f"{n:05}" for n in RNG.integers(1000, 1020, ROWS)], "category"),
        ([f"{n:02}" for n in RNG.integers(1, 13, ROWS)], "category"),
        (among(WHOLE, "007"), "number"),
        ([str(n) for n in RNG.integers(10**17, 10**18, ROWS)], "identifier"),
        ([f"{n:.17f}" for n in RNG.uniform(0, 1, ROWS)], "number"),
        ([f"{n:012x}-{n:04x}" for n in range(1, ROWS + 1)], "identifier"),
        ([f"{n} long street, behind the church, next to the old mill" for n in range(ROWS)], "text"),
        (["x"] * ROWS, "constant"),
        (["7"] * ROWS, "constant"),
        (["2024-01-01"] * ROWS, "constant"),
        ([""] * ROWS, "empty"),
        (["NA", "?"] * (ROWS // 2), "empty"),
        (picked("x", ""), "category"),
        (picked("7", ""), "number"),
        (picked("red", "blue", "unknown", "None"), "category"),
        (picked("True", "False"), "category"),
        (picked("0", "1"), "number"),
        (picked("0", "1", "2", "3+"), "category"),
        (picked("0-9", "10-19", "20+"), "category"),
        (picked("Jan", "Feb"), "category"),
        (picked("A/5 2", "PC 7", "1", "2", "3", "4"), "category"),
        ([f"A{n}" if n % 3 else str(n) for n in range(ROWS)], "identifier"),
        ([day.replace("-", "") for day in DAYS], "date"),
        ([day[:4] for day in DAYS], "number"),
        ([day[:7] for day in DAYS], "date"),
        ([f"10.{a}.{b}.7" for a, b in RNG.integers(0, 255, (ROWS, 2))], "text"),
        ([f"555-{n:04}" for n in RNG.integers(0, 9999, ROWS)], "text"),
        (["a", "b", "c", "d"], "category"),
    ],
)
def test_kinds(cells, kind):
    assert look(cells).kind == kind


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("id", range(ROWS), "identifier"),
        ("customer_id", 10_000 - np.arange(ROWS), "identifier"),
        ("PassengerId", range(1, ROWS + 1), "identifier"),
        ("userid", RNG.permutation(ROWS) * 7, "identifier"),
        ("Unnamed: 0", range(ROWS), "identifier"),
        ("index", range(ROWS), "identifier"),
        ("t", range(ROWS), "number"),
        ("humid", range(ROWS), "number"),
        ("paid", range(0, 10 * ROWS, 10), "number"),
        ("heat_index", RNG.integers(0, 100, ROWS), "number"),
        ("store_id", RNG.integers(0, 40, ROWS), "number"),
        ("zip", RNG.integers(70_000, 70_040, ROWS), "number"),
        ("Unnamed: 0", RNG.integers(0, 9, ROWS), "number"),
    ],
)
def test_numbers_that_name_the_rows(name, cells, kind):
    found = look([str(n) for n in cells], name)
    assert found.kind == kind
    assert bool(found.notes) == (name in ("t", "humid", "store_id", "zip") or (name, kind) == ("Unnamed: 0", "number"))


def test_the_range_and_the_gaps_are_told():
    found = look(["1,5", "NA", "2,25", "1,5"])
    assert (found.kind, found.low, found.high, found.gaps, found.distinct) == ("number", 1.5, 2.25, 1, 2)
    found = look(["31.1.2024 10:00", "1.2.2024 9:00", "-"])
    assert (found.low, found.high, found.parts) == (
        "2024-01-31 10:00:00",
        "2024-02-01 09:00:00",
        ("month", "weekday", "hour"),
    )


def test_two_readings_are_told_and_can_be_chosen():
    cells = ["1,234", "47,050"] * 10
    found = look(cells)
    assert (found.high, found.notes) == (47050, ("1,234 is taken for 1234; if it is 1.234, say :decimal-comma",))
    assert look(cells, wish="decimal-comma").high == 47.05
    assert look(cells, wish="decimal-point").high == 47050
    found = look(["1/2/2024", "3/2/2024"] * 10)
    assert found.notes == ("1/2/2024 is taken for 2024-01-02; if the other number is the day, say :day-first",)
    assert look(["1/2/2024", "3/2/2024"], wish="day-first").high == "2024-02-03"
    assert look(["1.2.2024", "3.2.2024"], wish="month-first").high == "2024-03-02"


def test_two_spellings_of_a_category_are_told():
    assert look(picked("yes", "YES", "no")).notes == ("'YES' and 'yes' are two categories",)
    assert look(picked("New York", "new  york", "no")).notes == ("'New York' and 'new  york' are two categories",)


def test_wishes_are_obeyed():
    assert look(["02935", "10001"], wish="number").high == 10001
    assert look(["1", "2", "NA"], wish="category").categories == ("1", "2")
    assert look(["x"] * 20, wish="category").kind == "category"
    assert look(WHOLE, "id", wish="number").kind == "number"
    assert look(["20240102", "20240103"], wish="number").high == 20240103
    assert look(["red", "2"], wish="number").odd == (0, "red", 1)
    assert look(["red", "2"], wish="date").odd == (0, "red", 2)
    assert look(["1", "2"], wish="drop").kind == "drop"


def test_the_order_of_rows_changes_nothing_but_where_they_are_counted():
    cells = among(PLAIN, "4O", "NA")
    order = RNG.permutation(ROWS)
    there = look([cells[i] for i in order])
    here = look(cells)
    assert (here.kind, here.low, here.gaps, here.odd.rows) == (there.kind, there.low, there.gaps, there.odd.rows)


@pytest.mark.parametrize(
    "texts", [["1.2020", "11.1900", "12.2021"], ["2020.01", "1999.1", "2021.12"], ["12.1900"] * 2 + ["12.1999"]]
)
def test_numbers_that_may_be_months_are_not_decided_by_their_values_and_read_as_asked(texts):
    assert decide_fractions("a", np.asarray(texts, dtype=np.float64)) is None
    found = look(texts, wish="date")
    months = sorted({f"{y}-{m:>02}" for y, m in (sorted(text.split("."), key=len, reverse=True) for text in texts)})
    assert (found.kind, found.low[:7], found.high[:7], found.odd) == ("date", months[0], months[-1], None)


def test_fractions_are_decided_quickly_and_the_same():
    values = np.asarray(PLAIN, dtype=np.float64)
    assert decide_fractions("a", values) == look(PLAIN)
    assert decide_fractions("a", np.ones(3)) is None
    assert decide_fractions("a", np.arange(3.0)) is None


def test_every_kind_has_a_reason():
    for cells in (PLAIN, DAYS, picked("a", "b"), ["x"] * ROWS, [""] * ROWS, [f"x{i}" for i in range(ROWS)]):
        assert look(cells).reason


def test_a_minus_beside_a_plus_is_no_gap():
    assert is_missing(["+", "-"]).tolist() == [False, False]
    assert look(picked("+", "-")).categories == ("+", "-")


def test_no_rows_are_empty():
    assert decide("a", Cells([], np.zeros(0, dtype=np.int64))).kind == "empty"


def test_years_of_two_digits_are_told():
    for cells in (["24-01-31", "24-02-05", "23-12-30"], ["31.12.45", "01.06.99", "17.03.68"], ["12/25/03", "1/2/04"]):
        found = decide("when", Table("a.csv", {"when": cells}, range(2, len(cells) + 2)).cells("when"))
        assert found.kind == "date"
        assert any(note.startswith(f"{cells[0]} is taken for a day of ") for note in found.notes), found.notes
    cells = Table("a.csv", {"when": ["2024-01-31", "2024-02-05"]}, [2, 3]).cells("when")
    assert not decide("when", cells).notes


def test_points_that_may_stand_between_thousands_are_told():
    for texts in (["26.581 \u20ac", "13.450 \u20ac", "927 \u20ac"], ["1.234 kg", "2.345 kg", "3.456 kg"]):
        found = decide("price", Table("a.csv", {"price": texts}, [2, 3, 4]).cells("price"))
        assert any(":decimal-comma" in note for note in found.notes)
    for texts in (["0.581 \u20ac", "13.450 \u20ac", "927 \u20ac"], ["26.58 \u20ac", "13.45 \u20ac", "927.1 \u20ac"]):
        assert not decide("price", Table("a.csv", {"price": texts}, [2, 3, 4]).cells("price")).notes


@pytest.mark.parametrize("rows", [("1,5;26.581", "2,7;13.450", "0,5;927"), ("0,75;1.250", "1,25;2.500", "3,5;10.000")])
def test_the_target_takes_part_in_deciding_the_decimal_mark(rows):
    table = read_csv(io.StringIO("z;price\n" + "\n".join(rows) + "\n"))
    survey = Survey.of(table, "price", "regression")
    assert survey.target.high > 900
    assert Survey.of(table, "z", "regression").columns[0].high == survey.target.high


def decided(*texts):
    table = Table("t.csv", {"x": [texts[i % len(texts)] for i in range(60)]}, range(2, 62))
    return Survey.of(table).columns[0]


@pytest.mark.parametrize(
    ("texts", "kind", "low"),
    [
        (["01.2020", "02.2020", "11.2021"], "date", "2020-01-01"),
        (["01/2020", "2/2021", "11/2021"], "date", "2020-01-01"),
        (["01-1999", "12-2021", "11-2021"], "date", "1999-01-01"),
        (["1.2020", "2.2020", "11.2021"], "number", 1.202),
        (["10.2020", "12.2000", "11.2021"], "number", 10.202),
        (["01.2020", "02.2020", "13.2021"], "number", 1.202),
        (["01.2020", "02.5", "11.2021"], "number", 1.202),
    ],
)
def test_months_with_the_year_behind(texts, kind, low):
    found = decided(*texts)
    assert (found.kind, found.low) == (kind, low)


@pytest.mark.parametrize(
    ("texts", "kind", "note"),
    [
        (["240131", "231201", "220715"], "number", "240131 is a number; if it is 2024-01-31, write it so"),
        (["202401", "202312", "199907"], "number", "202401 is a number; if it is 2024-01, write it so"),
        (["240131", "231201", "220799"], "number", ""),
        (["202401", "202313", "199907"], "number", ""),
        (["24013", "231201"], "number", ""),
        (["1.2020", "2.2020", "11.2021"], "number", "1.2020 is a number; if it is the month 2020-01, say :date"),
        (["10.2020", "11.2021", "12.1999"], "number", "10.2020 is a number; if it is the month 2020-10, say :date"),
        (["12.1900", "", "01.1900", "3.1900"], "number", "if it is the month 1900-12, say :date"),
        (["2020.01", "2020.12", "2021.1"], "number", "2020.01 is a number; if it is the month 2020-01, say :date"),
        (["1.2020", "2.2020", "13.2021"], "number", ""),
        (["1.2020", "2.202", "11.2021"], "number", ""),
        (["2020.01", "2020.13"], "number", ""),
        (["1.2020"], "constant", ""),
        (["2001-02", "2002-03", "2011-12"], "date", "2001-02 is taken for a month; if it is two years"),
        (["2001-02", "2002-04", "2011-12"], "date", ""),
    ],
)
def test_what_may_be_a_date_is_said(texts, kind, note):
    found = decided(*texts)
    assert found.kind == kind
    assert note in " ".join(found.notes)
    assert bool(found.notes) == bool(note)
