"""Dates and times of day as people write them."""

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmlp.data import dates
from xmlp.data.dates import infer, read


def column(*texts):
    return infer(texts, np.ones(len(texts), dtype=np.int64))


MOMENT = "2024-12-31T23:05:00"
DAY = "2024-12-31T00:00:00"


@pytest.mark.parametrize(
    ("text", "layout", "moment"),
    [
        ("2024-12-31", "year-month-day", DAY),
        ("2024/12/31", "year-month-day", DAY),
        ("2024.12.31", "year-month-day", DAY),
        ("2024-12-31T23:05:00", "year-month-day", MOMENT),
        ("2024-12-31 23:05", "year-month-day", MOMENT),
        ("2024-12-31T23:05:00Z", "year-month-day", MOMENT),
        ("2024-12-31 23:05:00 UTC", "year-month-day", MOMENT),
        ("2024-12-31T23:05:00.000+00:00[Europe/London]", "year-month-day", MOMENT),
        ("31/12/2024", "day-month-year", DAY),
        ("31.12.2024 23:05", "day-month-year", MOMENT),
        ("31-12-24", "day-month-year", DAY),
        ("12/31/2024 11:05 PM", "month-day-year", MOMENT),
        ("12/31/24", "month-day-year", DAY),
        ("20241231", "yearmonthday", DAY),
        ("20241231T230500Z", "yearmonthday", MOMENT),
        ("31 Dec 2024", "day-name-year", DAY),
        ("31-Dec-24", "day-name-year", DAY),
        ("31st December, 2024", "day-name-year", DAY),
        ("31. Dezember 2024", "day-name-year", DAY),
        ("31 déc. 2024", "day-name-year", DAY),
        ("5 \u017fep 2024", "day-name-year", "2024-09-05T00:00:00"),
        ("31 de diciembre de 2024", "day-name-year", DAY),
        ("Tue, 31 Dec 2024 23:05:00 +0000", "day-name-year", MOMENT),
        ("31/Dec/2024:23:05:00 +0000", "day-name-year", MOMENT),
        ("December 31, 2024", "name-day-year", DAY),
        ("Dec. 31 2024 11:05 p.m.", "name-day-year", MOMENT),
        ("2024-Dec-31", "year-name-day", DAY),
        ("Tue Dec 31 23:05:00 2024", "name-day-clock-year", MOMENT),
        ("Tue Dec 31 23:05:00 UTC 2024", "name-day-clock-year", MOMENT),
        ("2024-12", "year-month", "2024-12-01T00:00:00"),
        ("Dec 2024", "name-year", "2024-12-01T00:00:00"),
        ("23:05", "time", "1970-01-01T23:05:00"),
        ("11:05:00 PM", "time", "1970-01-01T23:05:00"),
        ("12:00 am", "time", "1970-01-01T00:00:00"),
        ("12:30 pm", "time", "1970-01-01T12:30:00"),
    ],
)
def test_a_date_is_read_as_it_is_written(text, layout, moment):
    found = column(text)
    assert found is not None
    assert (found.layout, found.other) == (layout, None)
    assert found.moments.wall.tolist() == [datetime.datetime.fromisoformat(moment)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01.5", 1.5),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01 00:00:00-0530", 19800),
        ("1970-01-01 00:00:00 EST", 18000),
        ("1970-01-01 00:00 CEST", -7200),
        ("1970-01-02T01:00+01", 86400),
        ("1969-12-31T23:59:59Z", -1),
    ],
)
def test_the_time_is_that_of_utc_and_the_clock_that_of_the_place(text, seconds):
    moments = read("year-month-day", [text])
    assert moments.seconds.tolist() == [seconds]
    assert str(moments.wall[0])[11:13] == text[11:13]


def test_which_number_is_the_day_is_decided_by_the_column():
    assert column("01/02/2024", "13/02/2024").layout == "day-month-year"
    assert column("01/02/2024", "02/13/2024").layout == "month-day-year"
    assert column("01/02/2024", "03/02/2024")[::3] == ("month-day-year", "day-month-year")
    assert column("01.02.2024", "03.02.2024")[::3] == ("day-month-year", "month-day-year")
    assert column("02/02/2024", "03/03/2024").other is None
    found = column("13/02/2024", "14/02/2024", "02/13/2024")
    assert (found.layout, np.isnat(found.moments.wall).tolist()) == ("day-month-year", [False, False, True])
    assert found.dated.all()


@pytest.mark.parametrize(
    "text",
    [
        *("2024-02-30", "2023-02-29", "2024-13-01", "0000-00-00", "2024-12-31T24:00", "25:00", "10:60", "13:00 pm"),
        *("0:30 am", "32 Dec 2024", "2024-1-1-1", "1/2", "20241301", "18991231", "yesterday", "May", "", "12-2024-31"),
        *("1.2.3.4", "2024-01/02", "12:30:61"),
    ],
)
def test_what_is_no_date(text):
    assert column(text) is None


LAYOUTS = {
    "%Y-%m-%d": "year-month-day",
    "%Y-%m-%dT%H:%M:%S": "year-month-day",
    "%Y/%m/%d %H:%M:%S.%f": "year-month-day",
    "%d.%m.%Y %H:%M": "day-month-year",
    "%m/%d/%Y %I:%M:%S %p": "month-day-year",
    "%Y%m%d": "yearmonthday",
    "%d %b %Y %H:%M:%S": "day-name-year",
    "%a, %d %B %Y": "day-name-year",
    "%B %d, %Y, %I:%M %p": "name-day-year",
    "%a %b %d %H:%M:%S %Y": "name-day-clock-year",
    "%Y-%m": "year-month",
    "%b %Y": "name-year",
}
MOMENTS = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2068, 12, 31))


@settings(max_examples=300, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=10), st.sampled_from(sorted(LAYOUTS)))
def test_dates_come_back_from_all_ways_to_write_them(moments, form):
    texts = [moment.strftime(form) for moment in moments]
    expected = [datetime.datetime.strptime(text, form) for text in texts]
    found = read(LAYOUTS[form], texts)
    assert found.wall.tolist() == expected
    since = [(moment - datetime.datetime(1970, 1, 1)).total_seconds() for moment in expected]
    assert found.seconds.tolist() == pytest.approx(since, abs=1e-6)
    inferred = column(*texts)
    assert inferred is not None
    assert inferred.moments.wall.tolist() == expected or {inferred.layout, inferred.other} == {
        "day-month-year",
        "month-day-year",
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet="0123456789-/.: TZ+aApmMDec", max_size=20), min_size=1, max_size=5))
def test_any_texts_give_dates_or_none(texts):
    found = infer(texts, np.ones(len(texts), dtype=np.int64))
    if found is not None:
        assert found.layout in dates.LAYOUTS
        assert np.array_equal(np.isnan(found.moments.seconds), np.isnat(found.moments.wall))


def test_no_texts_give_no_dates():
    assert column() is None
    assert len(read("year-month-day", []).wall) == 0
