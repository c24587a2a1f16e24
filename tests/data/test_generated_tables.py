"""The judge of generated tables: it passes what is right, and sees each kind of wrong."""

import csv
import io

import pytest
from data.generated_tables import LAYOUTS, SORTS, generated
from reliability import tables
from reliability.tables import Decided, Found, judged

from xmlp.errors import DataError

SEEDS = range(300)
CASES = {seed: generated(seed) for seed in SEEDS}
SOUND = [seed for seed in SEEDS if CASES[seed].bad is None]


def ideal(case):
    """What is right about a table."""
    columns = {
        c.name or "Unnamed: 0": Found("identifier" if c.kind == "dropped" else c.kind, [*c.values], c.said)
        for c in case.columns
    }
    return Decided(case.task, columns)


def test_a_seed_is_a_table():
    assert generated(5) == generated(5)
    assert len({case.data for case in CASES.values()}) == len(SEEDS)
    assert all(30 <= len(case.columns[0].cells) <= 400 for case in CASES.values())


def test_every_sort_of_column_and_file_occurs():
    sorts = " ".join(column.sort for case in CASES.values() for column in case.columns)
    for word in (*LAYOUTS, "scientific", "codes", "identifier", "text", "constant", "empty", "index", "gaps", "'N/A'"):
        assert word in sorts, word
    styles = " ".join(case.style for case in CASES.values())
    assert all(word in styles for word in ("';'", "'|'", r"'\t'", r"\r\n", "utf-16", "utf-8-sig", "blanks", "quoted"))
    assert sum(case.bad is not None for case in CASES.values()) > 5
    assert any(column.said for case in CASES.values() for column in case.columns)
    assert len(SORTS) == len({maker for maker, *_ in SORTS})


@pytest.mark.parametrize("seed", SOUND[:40])
def test_the_file_holds_the_cells(seed):
    case = CASES[seed]
    text = case.data.decode(case.style.split()[2].rstrip(",")).removeprefix("\ufeff")
    separator = "\t" if case.style.startswith("'\\t") else case.style[1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header, *rows = reader
    assert [name.strip() for name in header] == [column.name for column in case.columns]
    for column, cells in zip(case.columns, zip(*rows, strict=True), strict=True):
        assert [*cells] == column.cells


def test_what_is_right_passes(monkeypatch, tmp_path):
    for seed in SOUND:
        monkeypatch.setattr(tables, "decided", lambda path, target, case=CASES[seed]: ideal(case))
        assert judged(CASES[seed], tmp_path / "a.csv") == "right"


def spoilt(case, kind, spoil):
    """What is right, but for the first column of a kind."""
    found = ideal(case)
    name = next(c.name for c in case.columns if c.kind == kind and not c.said)
    return found._replace(columns={**found.columns, name: spoil(found.columns[name])})


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("number", lambda found: found._replace(kind="category")),
        ("number", lambda found: found._replace(values=[v if v is None else v + 1e-9 for v in found.values])),
        ("number", lambda found: found._replace(values=[None, *found.values[1:]])),
        ("date", lambda found: found._replace(values=[v if v is None else v + 86400 for v in found.values])),
        ("category", lambda found: found._replace(values=["other", *found.values[1:]])),
        ("category", lambda found: found._replace(kind="text")),
        ("dropped", lambda found: found._replace(kind="number")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_seen(monkeypatch, tmp_path, kind, spoil):
    seed = next(s for s in SOUND if any(c.kind == kind and not c.said for c in CASES[s].columns))
    monkeypatch.setattr(tables, "decided", lambda *args: spoilt(CASES[seed], kind, spoil))
    verdict = judged(CASES[seed], tmp_path / "a.csv")
    assert verdict not in ("right", "refused")


def test_two_readings_without_a_remark_are_seen(monkeypatch, tmp_path):
    seed = next(s for s in SOUND if any(c.said for c in CASES[s].columns))
    found = ideal(CASES[seed])
    silent = {name: column._replace(said=False) for name, column in found.columns.items()}
    monkeypatch.setattr(tables, "decided", lambda *args: found._replace(columns=silent))
    assert "without a remark" in judged(CASES[seed], tmp_path / "a.csv")


def test_refusals_are_right_only_with_line_and_text(monkeypatch, tmp_path):
    bad = next(case for case in CASES.values() if case.bad is not None)
    line, text = bad.bad

    def refuse(message):
        def raised(*args):
            raise DataError(message)

        monkeypatch.setattr(tables, "decided", raised)

    refuse(f"a.csv, line {line}, column 'a': expected a finite number, got {text!r}.")
    assert judged(bad, tmp_path / "a.csv") == "right"
    assert judged(CASES[SOUND[0]], tmp_path / "a.csv") == "refused"
    refuse(f"a.csv, line {line + 1}, column 'a': expected a finite number, got {text!r}.")
    assert "is refused as" in judged(bad, tmp_path / "a.csv")
    refuse("a.csv: no.")
    assert "without a line" in judged(CASES[SOUND[0]], tmp_path / "a.csv")
    monkeypatch.setattr(tables, "decided", lambda *args: ideal(bad))
    assert "is not refused" in judged(bad, tmp_path / "a.csv")
