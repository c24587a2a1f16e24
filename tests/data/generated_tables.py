"""Tables as people and programs write them, made from a seed together with what each cell means.

A table is written in one locale (decimal points or decimal commas), by one program (separator, quotes, line ends,
encoding), and says nothing that no person could decide; where all days of a date are below 13, or a comma could be a
decimal as well as a thousands mark, what is meant is that this is *said*.
"""

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

GAPS = ("", "NA", "N/A", "n/a", "null", "NULL", "None", "-", "?", "#N/A", "NaN")
WORD_GAPS = tuple(gap for gap in GAPS if gap != "None")  # which is a word among words
BAD_NUMBERS = ("4O", "12..5", "see note", "1,2,3", "l7", "x", "5 or 6")
BAD_DATES = ("31.02.2024", "2024-13-45", "soon", "99/99/2024")
NUMBER_NAMES = ("price", "size", "age", "area", "income", "weight", "height", "score", "distance", "speed", "load")
WORD_NAMES = ("colour", "city", "grade", "heating", "shape", "team", "sort", "brand")
DATE_NAMES = ("date", "built", "sold on", "start", "last visit")
ID_NAMES = ("id", "customer_id", "CustomerID", "user id", "order_no", "PassengerId", "uuid")
WORDS = [
    "red", "blue", "green", "oak", "elm", "pine", "north", "south", "large", "small", "new", "old", "Paris", "Rome",
    "soft", "hard", "fast", "slow", "round", "flat",
]  # fmt: skip
SECONDS_A_DAY = 86400


@dataclass(frozen=True)
class Column:
    """A column: its cells as texts, and what they mean.

    Attributes
    ----------
    kind : str
        "number", "category", "date", or "dropped" for what says nothing about a new row: identifiers, row numbers,
        constants, free text, and columns without a value.
    cells : list of str
    values : list
        Of each cell the number, the category, or the seconds since 1970 in UTC; None where it is a gap.
    said : bool
        Whether two readings are possible, so that a right answer is a remark about that.
    sort : str
        For people, how it was made.
    """

    name: str
    kind: str
    cells: list[str]
    values: list[Any] = field(default_factory=list)
    said: bool = False
    sort: str = ""


@dataclass(frozen=True)
class Case:
    """A CSV file and what it means.

    Attributes
    ----------
    data : bytes
    columns : list of Column
        The target, too.
    target : str
    task : str
        "classification" or "regression".
    bad : (int, str) or None
        Line and text of a cell that no one can read: the file is to be refused.
    style : str
        For people, how it was written.
    """

    data: bytes
    columns: list[Column]
    target: str
    task: str
    bad: tuple[int, str] | None
    style: str


# --- numbers ----------------------------------------------------------------------------------------------------------


def grouped(digits: str, mark: str) -> str:
    """Digits with a mark between thousands.

    >>> grouped("1234567", ","), grouped("123", ",")
    ('1,234,567', '123')
    """
    head = len(digits) % 3
    parts = [digits[:head]] * bool(head) + [digits[i : i + 3] for i in range(head, len(digits), 3)]
    return mark.join(parts)


@dataclass(frozen=True)
class Style:
    """How the numbers of a column are written; `{}` in `around` is the number without its sign."""

    decimal: str = "."
    mark: str = ""
    around: str = "{}"
    minus: str = "-{}"

    def __str__(self) -> str:
        return f"decimal {self.decimal!r}, thousands {self.mark!r}, {self.around!r}, negative {self.minus!r}"

    def write(self, number: str) -> str:
        """Write a number that is given in plain digits, as -1234.5."""
        whole, _, fraction = number.lstrip("-").partition(".")
        text = grouped(whole, self.mark) if self.mark else whole
        text = self.around.format(text + (self.decimal + fraction if fraction else ""))
        return self.minus.format(text) if number.startswith("-") else text


POINT = [
    Style(), Style(), Style(), Style(mark=","), Style(mark=" "), Style(mark="'"), Style(mark="\u2019"),
    Style(mark=",", around="${}"), Style(around="{} USD"), Style(around="£ {}"), Style(mark=",", around="{} €"),
    Style(around="{}%"), Style(around="{} %"), Style(mark=",", minus="({})"),
    Style(mark=",", around="${}", minus="({})"), Style(minus="\u2212{}"), Style(mark="\u00a0"),
]  # fmt: skip
COMMA = [
    Style(","), Style(","), Style(",", "."), Style(",", " "), Style(",", "\u00a0"), Style(",", "\u202f"),
    Style(",", ".", "{} €"), Style(",", ".", "€ {}"), Style(",", " ", "{} kr"), Style(",", around="{}%"),
    Style(",", around="{} %"), Style(",", ".", minus="({})"), Style(",", minus="\u2212{}"),
]  # fmt: skip


def number(rng: random.Random, name: str, rows: int, comma: bool, distinct: int = 2) -> Column:
    """A column of numbers, at least so many different ones."""
    while True:
        style = rng.choice(COMMA if comma else POINT)
        digits = rng.choice((0, 1, 2, 2, 2, 4, None))
        size = 10 ** rng.choice((1, 2, 3, 4, 6))
        if digits == 0:  # a mark alone is only clear where it stands twice, or is no decimal mark
            style = replace(style, mark="") if style.mark in ",." and style.mark else style
        low = -size if style.minus != "-{}" or rng.random() < 0.2 else 0
        numbers = [_number(rng, low, size, digits) for _ in range(rows)]
        if len(set(map(float, numbers))) >= distinct and _is_clear(numbers, style, digits):
            break
    scientific = style == Style() and digits is None and rng.random() < 0.2
    cells = [f"{float(n):.3e}" if scientific else style.write(n) for n in numbers]
    values = [float(cell) for cell in cells] if scientific else [*map(float, numbers)]
    return Column(name, "number", cells, values, sort="scientific" if scientific else str(style))


def _number(rng: random.Random, low: float, high: float, digits: int | None) -> str:
    if digits == 0:
        return str(rng.randint(int(low), int(high)))
    text = f"{rng.uniform(low, high):.{4 if digits is None else digits}f}"
    return text.rstrip("0").rstrip(".") if digits is None else text


def _is_clear(numbers: list[str], style: Style, digits: int | None) -> bool:
    """Whether a comma or a point says what it is: somewhere not three digits follow it."""
    fractions = {len(n.partition(".")[2]) for n in numbers} - {0, 3}
    return digits == 0 or bool(fractions)


def count(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    """Whole numbers: flags, years, marks of a few levels, or millions with a mark between thousands."""
    sort = rng.choice(("flags", "years", "levels", "millions", "millions in money", "signed"))
    low, high = {"flags": (0, 1), "years": (1950, 2024), "levels": (1, 5), "signed": (-40, 40)}.get(sort, (0, 10**8))
    numbers = [rng.randint(low, high) for _ in range(rows)]
    numbers[0], numbers[1] = low, high
    style = Style()
    if sort.startswith("millions"):
        around = rng.choice(("{} €", "€{}")) if sort == "millions in money" else "{}"
        style = Style(mark=rng.choice(". " if comma else ",'"), around=around)
    cells = [style.write(str(n)) for n in numbers]
    if sort == "signed":
        cells = [f"+{n}" if n > 0 else str(n) for n in numbers]
    return Column(name, "number", cells, [*map(float, numbers)], sort=f"{sort}; {style}")


def unclear_number(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    """Numbers such as 1,234, which are two things, one above a thousand and one below ten."""
    cells = [f"{rng.randint(1, 999)},{rng.randint(100, 999)}" for _ in range(rows)]
    return Column(name, "number", cells, said=True, sort="1,234 in every cell")


# --- dates ------------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "ISO": "%Y-%m-%d", "ISO with time": "%Y-%m-%d %H:%M:%S", "ISO with T": "%Y-%m-%dT%H:%M:%S",
    "ISO in UTC": "%Y-%m-%dT%H:%M:%SZ", "ISO with zone": "%Y-%m-%dT%H:%M:%S+02:00", "day first": "%d/%m/%Y",
    "month first": "%m/%d/%Y", "dotted": "%d.%m.%Y", "dotted with time": "%d.%m.%Y %H:%M", "year first": "%Y/%m/%d",
    "day first with time": "%d/%m/%Y %H:%M", "month first with time": "%m/%d/%Y %H:%M", "hyphens": "%d-%m-%Y",
    "to the minute": "%Y-%m-%d %H:%M", "half days": "%m/%d/%Y %I:%M %p", "fractions": "%Y-%m-%dT%H:%M:%S.250",
    "month by name": "%d %b %Y", "name first": "%b %d, %Y", "two digits": "%d.%m.%y",
}  # fmt: skip
BOTH_WAYS = ("day first", "month first", "dotted", "hyphens", "day first with time", "month first with time")


def date(rng: random.Random, name: str, rows: int, comma: bool, *, unclear: bool = False) -> Column:
    """A column of dates; with `unclear` all days are below 13, so that day and month could be swapped."""
    layout = rng.choice(BOTH_WAYS if unclear else [*LAYOUTS])
    first = datetime.datetime(rng.randint(1990, 2020), 1, 1)
    moments = [first + datetime.timedelta(seconds=rng.randrange(6 * 365 * SECONDS_A_DAY)) for _ in range(rows)]
    if unclear:
        moments = [m.replace(day=rng.randint(1, 12)) for m in moments]
    elif max(m.day for m in moments) < 13 or len({m.day for m in moments}) < 3:
        return date(rng, name, rows, comma)
    cells = [m.strftime(LAYOUTS[layout]) for m in moments]
    clock, exact = "%M" in LAYOUTS[layout], "%S" in LAYOUTS[layout]
    shown = [m if clock else m.replace(hour=0, minute=0) for m in moments]
    shown = [m if exact else m.replace(second=0) for m in shown]
    shift = {"ISO with zone": 7200, "fractions": -0.25}.get(layout, 0)
    values = [m.replace(tzinfo=datetime.UTC).timestamp() - shift for m in shown]
    return Column(name, "date", cells, values, unclear, layout)


def time(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    """Times of day."""
    minutes = [rng.randrange(24 * 60) for _ in range(rows)]
    cells = [f"{m // 60:02}:{m % 60:02}" for m in minutes]
    return Column(name, "date", cells, [m * 60 for m in minutes], sort="time of day")


def unclear_date(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    return date(rng, name, rows, comma, unclear=True)


# --- words ------------------------------------------------------------------------------------------------------------


def category(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    """Words that return, codes with leading zeros, or a short list whose last entry is open."""
    sort = rng.choice(("words", "words", "words", "codes", "open list", "sizes", "marked", "answers", "letters"))
    count = rng.randint(2, max(2, min(8, rows // 6)))
    texts = {
        "words": rng.sample(WORDS, count),
        "codes": [f"0{rng.randint(1000, 9999)}" for _ in range(count)],
        "open list": ["0", "1", "2", "3+"],
        "sizes": ["S", "M", "L", "XL"],
        "marked": ["red, dark", 'so "called"', "it's; fine", "a|b", "größer", "日本", "under 10", "10 to 20"],
        "answers": rng.choice((["yes", "no"], ["Y", "N"], ["true", "false"], ["TRUE", "FALSE"], ["on", "off"])),
        "letters": ["A", "B", "AB", "O"],
    }[sort]
    cells = [texts[i % len(texts)] for i in range(rows)]
    rng.shuffle(cells)
    return Column(name, "category", cells, [*cells], sort=sort)


def identifier(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    sort = rng.choice(("numbers", "codes", "hexadecimal"))
    numbers = rng.sample(range(10_000, 99_999), rows)
    write: Callable[[int], str] = {
        "numbers": str,
        "codes": "A-{}".format,
        "hexadecimal": lambda n: f"{rng.getrandbits(64):016x}-{n:x}",
    }[sort]
    return Column(name, "dropped", [write(n) for n in numbers], sort=f"identifier, {sort}")


def text(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    """Sentences, all different; some go over two lines."""
    mark = rng.choice((". ", "; ", ", ", "\n"))
    cells = [
        " ".join(rng.choices(WORDS, k=rng.randint(4, 9))) + mark + f"{rng.choice(WORDS)} {i}".strip()
        for i in range(rows)
    ]
    return Column(name, "dropped", cells, sort="text")


def constant(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    return Column(name, "dropped", [rng.choice(("EU", "1", "2.50", "2024-01-01", "yes"))] * rows, sort="constant")


def empty(rng: random.Random, name: str, rows: int, comma: bool) -> Column:
    return Column(name, "dropped", [rng.choice(("", "NA", "null"))] * rows, sort="empty")


def index(rng: random.Random, rows: int) -> Column:
    """The row numbers that pandas and R write in front."""
    first = rng.randint(0, 1)
    name = rng.choice(("Unnamed: 0", "index", "")) if first == 0 else rng.choice(("rownames", ""))
    return Column(name, "dropped", [str(first + i) for i in range(rows)], sort="index")


# --- tables -----------------------------------------------------------------------------------------------------------

SORTS = (
    (number, NUMBER_NAMES, 9), (count, NUMBER_NAMES, 2), (category, WORD_NAMES, 5), (date, DATE_NAMES, 2),
    (time, ("opens", "begins"), 0.5), (identifier, ID_NAMES, 1),
    (text, ("comment", "description"), 1), (constant, ("source", "version"), 1), (empty, ("reserve", "fax"), 0.4),
    (unclear_number, NUMBER_NAMES, 0.15), (unclear_date, DATE_NAMES, 0.3),
)  # fmt: skip


def with_gaps(rng: random.Random, column: Column) -> Column:
    """The column with some cells that say that there is no value."""
    known = {"number": GAPS, "date": GAPS, "category": WORD_GAPS}.get(column.kind, ())
    if not known or column.said or column.sort == "open list" or rng.random() < 0.6:
        return column
    share, spelled = rng.choice((0.01, 0.05, 0.2)), rng.sample(known, rng.choice((1, 1, 2)))
    missing = [rng.random() < share for _ in column.cells]
    cells = [rng.choice(spelled) if gap else cell for cell, gap in zip(column.cells, missing, strict=True)]
    values = [None if gap else value for value, gap in zip(column.values, missing, strict=True)]
    return replace(column, cells=cells, values=values, sort=f"{column.sort}; gaps {spelled}")


def target(rng: random.Random, rows: int, comma: bool) -> tuple[Column, str]:
    """What is to be predicted, and the task that it asks for."""
    if rng.random() < 0.5:
        column = number(rng, "y", rows, comma, distinct=25)
        return (column, "regression") if rng.random() < 0.8 else (with_gaps(rng, column), "regression")
    names = rng.choice((("yes", "no"), ("0", "1"), ("big", "mid", "small"), ("True", "False"), tuple("0123456789")))
    cells = [names[i % len(names)] for i in range(rows)]
    rng.shuffle(cells)
    return Column("y", "category", cells, [*cells], sort="classes"), "classification"


def columns_of(rng: random.Random, rows: int, comma: bool) -> list[Column]:
    """Columns with different names, of which at least one is learnt."""
    columns: list[Column] = []
    makers, names, weights = zip(*SORTS, strict=True)
    for _ in range(rng.randint(1, 7)):
        (chosen,) = rng.choices(range(len(SORTS)), weights)
        free = [name for name in names[chosen] if name not in {column.name for column in columns}]
        if free:
            columns.append(with_gaps(rng, makers[chosen](rng, rng.choice(free), rows, comma)))
    if not any(column.kind != "dropped" and not column.said for column in columns):
        columns.append(number(rng, "length", rows, comma))
    return columns


def generated(seed: int, *, plain: bool = False) -> Case:
    """The table of a seed; with `plain` only such files as have commas between cells, in UTF-8."""
    rng = random.Random(seed)
    rows, comma = rng.randint(30, 400), rng.random() < 0.35
    columns = columns_of(rng, rows, comma)
    goal, task = target(rng, rows, comma)
    columns.insert(rng.choice((0, len(columns))), goal)
    if rng.random() < 0.1:
        columns.insert(0, index(rng, rows))
    columns, bad = spoiled(rng, columns) if rng.random() < 0.08 else (columns, None)
    data, lines, style = written(rng, columns, comma, plain)
    return Case(data, columns, "y", task, None if bad is None else (lines[bad[0]], bad[1]), style)


def spoiled(rng: random.Random, columns: list[Column]) -> tuple[list[Column], tuple[int, str] | None]:
    """The columns with one cell that nobody can read, in a column of numbers or dates; its row and text."""
    able = [i for i, c in enumerate(columns) if c.kind in ("number", "date") and not c.said]
    if not able:
        return columns, None
    chosen = rng.choice(able)
    column, row = columns[chosen], rng.randrange(len(columns[chosen].cells))
    wrong = rng.choice(BAD_NUMBERS if column.kind == "number" else BAD_DATES)
    cells = [wrong if i == row else cell for i, cell in enumerate(column.cells)]
    return [*columns[:chosen], replace(column, cells=cells), *columns[chosen + 1 :]], (row, wrong)


def written(rng: random.Random, columns: list[Column], comma: bool, plain: bool) -> tuple[bytes, list[int], str]:
    """The file, the line where each row begins, and how it was written."""
    separator = "," if plain else rng.choice(";;;;\t,|" if comma else ",,,,,;\t|")
    end = rng.choice(("\n", "\n", "\r\n"))
    encoding = "utf-8" if plain else rng.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16"))
    blanks, everything = rng.random() < 0.1 and not plain, rng.random() < 0.1
    header = [f" {c.name} " if blanks and c.name else c.name for c in columns]
    rows, lines, line = [header, *zip(*(c.cells for c in columns), strict=True)], [], 1
    texts = []
    for row in rows:
        cells = [_quoted(cell, separator, everything) for cell in row]
        texts.append((separator + " " * (blanks and separator != "\t")).join(cells))
        lines.append(line)
        line += texts[-1].count("\n") + 1
    data = end.join(texts) + end * (rng.random() < 0.8)
    style = f"{separator!r} {end!r} {encoding}{', blanks' * blanks}{', all quoted' * everything}"
    return data.encode(encoding), lines[1:], style


def _quoted(cell: str, separator: str, everything: bool) -> str:
    return '"' + cell.replace('"', '""') + '"' if everything or set(cell) & {separator, '"', "\n"} else cell
