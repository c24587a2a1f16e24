"""Tables as people write them: what is decided about them is what they mean."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data.generated_tables import Case, Column, generated

from reliability.core import row
from xmlp.data import TableSchema, read_csv
from xmlp.errors import DataError


class Found(NamedTuple):
    """What was made of a column: its kind, the value of each cell (None: a gap), and what was remarked."""

    kind: str
    values: list[Any]
    said: bool


class Decided(NamedTuple):
    """What was made of a table."""

    task: str
    columns: dict[str, Found]


def decided(path: Path, target: str) -> Decided:
    """Read a table, decide about it, and turn its features back into what the cells say."""
    from xmlp.data import Survey

    table = read_csv(path)
    survey = Survey.of(table, target)
    survey.check(table)
    schema = TableSchema.of(survey, table.take(survey.kept))
    x, learnt, start = schema.features(table), {}, 0
    for column in schema.columns:
        part, start = x[:, start : start + len(column.features)], start + len(column.features)
        learnt[column.name] = _values(column, part)
    columns = {d.name: Found(d.kind, learnt.get(d.name, []), bool(d.notes)) for d in survey.columns}
    y = schema.targets(table.take(survey.kept))
    values: list[Any] = [None] * len(table)
    for position, value in zip(survey.kept.tolist(), y.tolist(), strict=True):
        values[position] = schema.classes[value] if schema.classes else value
    kind, said = "category" if schema.classes else "number", survey.target is not None and bool(survey.target.notes)
    return Decided(schema.task, {**columns, target: Found(kind, values, said)})


def _values(column: Any, x: Any) -> list[Any]:
    gap = x[:, -1] == 1 if column.gaps else np.zeros(len(x), dtype=bool)
    if column.kind == "category":
        named = x[:, : len(column.categories)]
        known: list[Any] = [column.categories[i] for i in named.argmax(axis=1)]
        gap = gap | (named.sum(axis=1) != 1)
    else:
        known = (x[:, 0] * 86400 + column.origin if column.kind == "date" else x[:, 0]).tolist()
    return [None if missing else value for value, missing in zip(known, gap.tolist(), strict=True)]


def wrong(meant: Column, found: Found | None) -> str | None:
    """What is wrong with what was made of a column; None if it is right."""
    if found is None:
        return "absent"
    if meant.said:
        return None if found.said else f"taken for {found.kind} without a remark"
    learnt = found.kind in ("number", "category", "date")
    if meant.kind == "dropped":
        return f"taken for {found.kind}" if learnt else None
    if found.kind != meant.kind:
        return f"taken for {found.kind}"
    slack = 0.001 if meant.kind == "date" else 0  # seconds
    for place, (wanted, got) in enumerate(zip(meant.values, found.values, strict=True)):
        same = wanted == got or (slack and None not in (wanted, got) and abs(wanted - got) < slack)
        if not same:
            return f"cell {meant.cells[place]!r} of row {place} is {got!r}, not {wanted!r}"
    return None


def judged(case: Case, path: Path) -> str:
    """What the verdict is: right; refused, with a line, where it should not have been; else what is wrong."""
    path.write_bytes(case.data)
    try:
        found = decided(path, case.target)
    except DataError as error:
        message = str(error)
        if case.bad is not None:
            line, text = case.bad
            right = f"line {line}," in message and text in message
            return "right" if right else f"line {line}, {text!r} is refused as: {message}"
        return "refused" if ", line " in message else f"refused without a line: {message}"
    if case.bad is not None:
        return f"line {case.bad[0]}, {case.bad[1]!r} is not refused"
    if found.task != case.task:
        return f"{found.task} for a {case.task}"
    named = ((column, wrong(column, found.columns.get(column.name or "Unnamed: 0"))) for column in case.columns)
    return next((f"{c.name!r} ({c.sort}): {problem}" for c, problem in named if problem), "right")


def verdicts(seeds: Iterable[int], folder: Path, *, plain: bool = False) -> dict[int, str]:
    """The verdict about each table that is not right."""
    path, found = folder / "table.csv", {}
    for seed in seeds:
        case = generated(seed, plain=plain)
        if (verdict := judged(case, path)) != "right":
            found[seed] = f"{verdict} [{case.style}]"
    return found


@row(
    "T1", "tables as people write them are read as they are meant", ">= 99.5 % right, 0 silently wrong",
    short=200, long=10_000,
)  # fmt: skip
def tables(size: int, folder: Path) -> str:
    found = verdicts(range(size), folder)
    counts = Counter("refused" if verdict.startswith("refused [") else "wrong" for verdict in found.values())
    first = next(((seed, v) for seed, v in found.items() if not v.startswith("refused [")), None)
    assert first is None, f"{counts['wrong']} of {size} tables are silently wrong, the first of seed {first}"
    assert len(found) <= 0.005 * size, f"{len(found)} of {size} tables are refused, such as {next(iter(found.items()))}"
    return f"{size - len(found)} of {size} right, {counts['refused']} refused with line and text, 0 wrong"
