"""Columns and their names for people, in as many characters as a terminal has. Nothing but a list ends early."""

import itertools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xmlp.cli.text import shown

MOST = 16  # columns, notes or columns left out that are listed one by one
_NARROW = 60  # characters of a terminal below which names, kinds and the rest do not stand side by side
_KIND = 10  # characters of the longest kind
_LINES = 12  # of one text, of which a cell may be a part that has no end
_WORDS = {"number": "numbers", "category": "categories", "date": "dates"}

Row = tuple[str, str, Callable[[int], str]]  # name, kind, and what is to be known, with lists of so many characters


def listed(title: str, columns: Sequence[Row], width: int) -> Iterator[str]:
    r"""A column a line: its name, kind, and what is to be known of it, which goes on below where it does not fit.

    >>> row = ("average income", "number", lambda room: "1800.88 to 4001.2, in steps of 0.01 that are the same for all")
    >>> print(*listed("learnt from", [("size", "category", lambda room: "2: a, b"), row], 60), sep="\n")
    learnt from:
      size            category    2: a, b
      average income  number      1800.88 to 4001.2, in steps of
                                  0.01 that are the same for all
    """
    if not columns:
        return
    yield f"{title}:"
    if width < _NARROW:
        for name, kind, about in columns:
            yield from wrapped(f"{name}: {kind}, {about(3 * (width - 4) - len(name))}", width, "  ")
        return
    names = [shown(name) for name, _, _ in columns]
    room = min(max(map(len, names)), max(8, width // 3 - 4))
    start = 2 + room + 2 + _KIND + 2
    for name, (_, kind, about) in zip(names, columns, strict=True):
        if len(name) > room:
            yield from wrapped(name, width, "  ")
            name = ""
        first, *more = wrapped(about(2 * (width - start)), width - start, "", hanging="") or [""]
        yield f"  {name:{room}}  {kind:{_KIND}}  {first}".rstrip()
        yield from (" " * start + line for line in more)


def by_kind(columns: Sequence[Any], width: int) -> Iterator[str]:
    """Names of columns, a kind a line."""
    for kind, word in _WORDS.items():
        if names := [column.name for column in columns if column.kind == kind]:
            yield from enumerated(f"{word} {len(names)}: ", names, width)


def enumerated(title: str, names: Sequence[str], width: int, lines: int = 2) -> list[str]:
    """A title and as many of the names as fit into so many lines."""
    return wrapped(title + several(names, lines * (width - 4) - len(title)), width, "  ")


def names_of(names: Sequence[str], room: int) -> str:
    """Names with their number."""
    return f"{len(names)}: {several([repr(n) if ',' in n or not n else n for n in names], room)}"


def several(names: Sequence[str], room: int) -> str:
    """As many names as fit into so many characters, one at least, and how many more there are.

    >>> several(["red", "green", "blue"], 16), several(["red", "green", "blue"], 15)
    ('red, green, blue', 'red, … 2 more')
    """
    texts = itertools.accumulate(map(shown, names[: max(room, 1)]), "{}, {}".format)
    ended = [text + f", … {len(names) - k} more" * (k < len(names)) for k, text in enumerate(texts, 1)]
    return next((text for text in reversed(ended) if len(text) <= room), ended[0])


def wrapped(text: str, width: int, indent: str, hanging: str = "  ") -> list[str]:
    """A text in lines, each indented, those after the first a little more."""
    return textwrap.wrap(
        shown(text), width, initial_indent=indent, subsequent_indent=indent + hanging, break_on_hyphens=False,
        max_lines=_LINES, placeholder=" …",
    )  # fmt: skip
