"""Dates and times of day as people write them: how is decided by the column and not by the cell."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Wall = npt.NDArray[np.datetime64]

_MONTHS = {  # in English, German, French and Spanish
    name: number
    for number, names in enumerate(
        [
            "jan january januar janv janvier ene enero",
            "feb february februar févr février fevrier febrero",
            "mar march mär mrz märz maerz mars marzo",
            "apr april avr avril abr abril",
            "may mai mayo",
            "jun june juni juin junio",
            "jul july juli juil juillet julio",
            "aug august août aout ago agosto",
            "sep sept september septembre septiembre",
            "oct october okt oktober octobre octubre",
            "nov november novembre noviembre",
            "dec december dez dezember déc décembre decembre dic diciembre",
        ],
        1,
    )
    for name in names.split()
}
_NAME = f"(?P<month>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})" + r"\.?"
_WEEKDAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun|mo|di|mi|do|fr|sa|so)(?:day)?[.,]*\s+)?"
_HOURS = {"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "cet": 1, "cest": 2}
_DAY, _MONTH = "(?P<d>[0-9]{1,2})", "(?P<m>[0-9]{1,2})"
_NTH = rf"{_DAY}(?:st|nd|rd|th)?\.?"
_YEAR, _SHORT = "(?P<y>[0-9]{4})", "'?(?P<y>[0-9]{4}|[0-9]{2})"
_CLOCK = (
    "(?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?"
    r"(?:\s?(?P<half>[ap])\.?m\.?)?"
)
_ZONE = r"(?:\s?(?P<zone>z|utc|gmt|[ecmp][sd]t|cest?|[+-][0-9]{2}(?::?[0-9]{2})?))?(?:\s?\[[\w/+-]{1,40}\])?"
_AT = rf"(?:(?:t|\s+|,\s*|:){_CLOCK}{_ZONE})?"
LAYOUTS = {
    layout: re.compile(text, re.IGNORECASE)
    for layout, text in {
        "year-month-day": rf"{_YEAR}(?P<mark>[-/. ]){_MONTH}(?P=mark){_DAY}{_AT}",
        "month-day-year": rf"{_MONTH}(?P<mark>[-/. ]){_DAY}(?P=mark){_SHORT}{_AT}",
        "day-month-year": rf"{_DAY}(?P<mark>[-/. ]){_MONTH}(?P=mark){_SHORT}{_AT}",
        "yearmonthday": "(?P<y>(?:19|20)[0-9]{2})(?P<m>[0-9]{2})(?P<d>[0-9]{2})"
        rf"(?:[t\s](?P<H>[0-9]{{2}}):?(?P<M>[0-9]{{2}})(?::?(?P<S>[0-9]{{2}}))?{_ZONE})?",
        "day-name-year": rf"{_WEEKDAY}{_NTH}[-/\s]?(?:de )?{_NAME}(?: de )?[-/\s,]*{_SHORT}{_AT}",
        "name-day-year": rf"{_WEEKDAY}{_NAME}[-/\s]?{_NTH}[-/\s,]+{_SHORT}{_AT}",
        "year-name-day": rf"{_YEAR}[-/\s]?{_NAME}[-/\s]?{_DAY}{_AT}",
        "year-month": rf"{_YEAR}[-/.]{_MONTH}",
        "month-year": rf"{_MONTH}[-/.]{_YEAR}",
        "name-day-clock-year": rf"{_WEEKDAY}{_NAME}\s+{_DAY}\s+{_CLOCK}(?:\s[a-z]{{3,4}})?\s{_YEAR}",
        "name-year": rf"{_NAME}[-/\s,]*{_YEAR}",
        "time": _CLOCK,
    }.items()
}
_GROUPS = ("y", "m", "month", "d", "H", "M", "S", "f", "half", "zone")
_MAX_TEXT = 60  # characters of a date
_SAMPLE = 200  # texts that show which layouts are worth a try


class Moments(NamedTuple):
    """Moments in time, one for each text.

    Attributes
    ----------
    wall : ndarray of datetime64[us]
        What calendar and clock show where it was written; NaT where a text does not read.
    seconds : ndarray of float64
        Since 1970 in UTC (texts without a zone count as UTC); NaN where a text does not read.
    """

    wall: Wall
    seconds: Float64


class Dates(NamedTuple):
    """A column of texts, read as dates.

    Attributes
    ----------
    layout : str
        That of most rows, one of `LAYOUTS`.
    moments : Moments
    dated : ndarray of bool
        For each text, whether it reads as a date in some layout.
    other : str or None
        A layout that fits as many rows and gives other dates.
    """

    layout: str
    moments: Moments
    dated: npt.NDArray[np.bool_]
    other: str | None = None


def read(layout: str, texts: Sequence[str]) -> Moments:
    """Read texts that are written in one layout, with or without a time of day.

    Years of two digits are 1969 to 2068. A layout without a day means the first, ``time`` the day 1970-01-01.

    >>> read("day-month-year", ["31/12/2024 23:30", "1/2/24", "12/31/2024"]).wall.astype("datetime64[m]").tolist()
    [datetime.datetime(2024, 12, 31, 23, 30), datetime.datetime(2024, 2, 1, 0, 0), None]
    """
    form = LAYOUTS[layout]
    names = [name for name in _GROUPS if name in form.groupindex]
    nothing = (None,) * len(names)
    matches = (form.fullmatch(text) if len(text) <= _MAX_TEXT else None for text in texts)
    rows = [nothing if m is None else m.group(*names) for m in matches]
    columns: list[Sequence[str | None]] = [*zip(*rows, strict=True)] if rows else [()] * len(names)
    fields = dict(zip(names, columns, strict=True))
    hit = np.asarray([row is not nothing for row in rows], dtype=bool)
    day, real = _days(fields, len(rows))
    micro, valid = _micro(fields, len(rows))
    wall = day.astype("datetime64[us]") + micro.astype("timedelta64[us]")
    wall[~(hit & real & valid)] = np.datetime64("NaT")
    since = (wall - np.datetime64(0, "us")).astype(np.float64) / 1e6
    seconds = np.where(np.isnat(wall), np.nan, since - _offsets(fields.get("zone"), len(rows)))
    return Moments(wall, seconds)


def _integers(cells: Sequence[str | None] | None, default: int, rows: int) -> npt.NDArray[np.int64]:
    if cells is None:
        return np.full(rows, default)
    return np.asarray([default if cell is None else int(cell) for cell in cells], dtype=np.int64)


def _days(fields: dict[str, Sequence[str | None]], rows: int) -> tuple[Wall, npt.NDArray[np.bool_]]:
    """The day, and whether there is such a one."""
    if "month" in fields:
        month = np.asarray([0 if n is None else _MONTHS[n.casefold()] for n in fields["month"]])
    else:
        month = _integers(fields.get("m"), 1, rows)
    year, day = _integers(fields.get("y"), 1970, rows), _integers(fields.get("d"), 1, rows)
    year = np.where(year < 100, year + np.where(year < 69, 2000, 1900), year)
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    return days, (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]") == months)


def _micro(fields: dict[str, Sequence[str | None]], rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Microseconds since midnight, and whether a clock shows that."""
    hour, minute, second = (_integers(fields.get(name), 0, rows) for name in "HMS")
    valid = (hour < 24) & (minute < 60) & (second < 60)
    if any(half := fields.get("half", ())):
        given = np.asarray([h is not None for h in half])
        valid &= ~given | ((hour >= 1) & (hour <= 12))
        late = np.asarray([h is not None and h in "pP" for h in half])
        hour = np.where(given, hour % 12 + 12 * late, hour)
    micro = ((hour * 60 + minute) * 60 + second) * 1_000_000
    if any(fraction := fields.get("f", ())):
        micro = micro + np.asarray([int((f or "0").ljust(6, "0")[:6]) for f in fraction])
    return micro, valid


def _offsets(zones: Sequence[str | None] | None, rows: int) -> Float64:
    """Seconds by which clocks are ahead of UTC."""
    if not any(zones or ()):
        return np.zeros(rows)
    known = {zone: _offset(zone) for zone in set(zones or ())}
    return np.asarray([known[zone] for zone in zones or ()])


def _offset(zone: str | None) -> float:
    if zone is None or zone[0] not in "+-":
        return 3600.0 * _HOURS.get((zone or "").lower(), 0)
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 3600.0 + int(digits[2:]) * 60.0)


def infer(texts: Sequence[str], counts: npt.NDArray[np.int64], layouts: Sequence[str] = tuple(LAYOUTS)) -> Dates | None:
    """Find out how most rows of a column write their dates, and read them so.

    Which of two numbers is the day is decided by the cells that have one above 12; where there is none the
    month comes first between slashes, and the day between points and hyphens.

    Parameters
    ----------
    texts : sequence of str
        The different texts, without those that are missing.
    counts : ndarray of int64
        How many rows hold each.
    layouts : sequence of str
        Those to try.

    Returns
    -------
    Dates or None
        None if there are no dates.

    Examples
    --------
    >>> infer(["1/2/2024", "1/13/2024"], np.asarray([1, 1])).layout
    'month-day-year'
    >>> found = infer(["1.2.2024", "2.1.2024"], np.asarray([1, 1]))
    >>> found.layout, found.other
    ('day-month-year', 'month-day-year')
    """
    tried = texts[:: len(texts) // _SAMPLE + 1]
    likely = [name for name in layouts if any(LAYOUTS[name].fullmatch(t) for t in tried if len(t) <= _MAX_TEXT)]
    read_so = {name: read(name, texts) for name in likely}
    weights = {name: int(counts[~np.isnat(moments.wall)].sum()) for name, moments in read_so.items()}
    if not any(weights.values()):
        return None
    most = max(weights.values())
    best, *others = [name for name in likely if weights[name] == most]
    if {best, *others} >= {"month-day-year", "day-month-year"} and not any("/" in text for text in texts):
        best, others = "day-month-year", ["month-day-year"]
    differs = (o for o in others if not np.array_equal(read_so[o].seconds, read_so[best].seconds, equal_nan=True))
    dated = np.any([~np.isnat(moments.wall) for moments in read_so.values()], axis=0)
    return Dates(best, read_so[best], dated, next(differs, None))
