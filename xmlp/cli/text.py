"""How values are written: for people, without characters that a terminal would obey, and as JSON."""

import ast
import json
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any


def shown(text: object) -> str:
    r"""Text from outside as it may be printed: control characters and broken Unicode escaped.

    >>> print(shown("caf\u00e9 \x1b[31m"))
    café \x1b[31m
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


_OPTIONS = (
    ("The state before this epoch is restored. Lower the learning rate", "Nothing is saved. Lower --lr"),
    ("set clip_norm", "bound the gradient with --clip-norm"),
    ("learn with missing=", "train with --missing "),
    ("columns= names", "--columns names"),
    ("name another separator", "say which mark is between cells by --separator"),
    ('dtype="float64"', "--dtype float64"),
    ("validation_split=", "--validation "),
    ("batch_size=", "--batch-size "),
    ("batch_size", "--batch-size"),
)
_PHRASES = re.compile("|".join(rf"(?<!['\w]){re.escape(words)}(?!\w*')" for words, _ in _OPTIONS))
_TEXT = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_SETTING = re.compile(rf"(?<!['\"\w])(encoding|missing|task)=({_TEXT})")
_WISHES = re.compile(rf"(?<!['\"\w])columns=({{{_TEXT}: {_TEXT}(?:, {_TEXT}: {_TEXT})*}})(?: \(or '(\w+)'\))?")


def of_command(message: object) -> str:
    r"""A message of the library in words of the command: settings by the names of options; what is quoted stays.

    >>> of_command("column 'batch_size': a number is missing; remove the row, or learn with missing='mean'.")
    "column 'batch_size': a number is missing; remove the row, or learn with --missing mean."
    >>> of_command("Read it with encoding='utf-16', or with columns={'a, b': 'category'} (or 'drop').")
    'Read it with --encoding utf-16, or with --columns \'"a, b":category\' (or :drop).'
    """
    options = dict(_OPTIONS)
    text = _SETTING.sub(lambda found: f"--{found[1]} {ast.literal_eval(found[2])}", str(message))
    return _PHRASES.sub(lambda found: options[found[0]], _WISHES.sub(_wishes_option, text))


def _wishes_option(found: re.Match[str]) -> str:
    from xmlp.data.wishes import wish  # which imports NumPy

    text = ",".join(wish(*pair) for pair in ast.literal_eval(found[1]).items())
    return f"--columns {shlex.quote(text)}" + (f" (or :{found[2]})" if found[2] else "")


def json_line(value: Any) -> str:
    """One line of JSON; numbers that are not finite become null.

    >>> json_line({"loss": float("nan"), "epoch": 1})
    '{"loss": null, "epoch": 1}'
    """
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def columns(rows: Iterable[Sequence[object]], align: str = "<>") -> str:
    """Rows as aligned columns, each to the left or right as `align` says, whose last sign holds for the rest.

    >>> print(columns([("", "a", "b"), ("total", 10, 2)]))
            a  b
    total  10  2
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    sides = align + align[-1] * len(cells[0])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(f"{c:{side}{w}}" for c, side, w in zip(row, sides, widths, strict=False)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def counted(count: int, thing: str) -> str:
    """A number of things in words.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count} {thing}" + "s" * (count != 1)


def quantity(count: float) -> str:
    """A number of things in few digits.

    >>> quantity(950), quantity(152_340), quantity(2.5e6)
    ('950', '152k', '2.5M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}" if count < 999.5 * size else f"{count / size:.0f}{letter}"
    return f"{count:.0f}"
