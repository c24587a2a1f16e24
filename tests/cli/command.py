"""The command, run in this process or in one of its own, and small tables."""

import csv
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

import xmlp
from xmlp.cli import main

COMMAND = (sys.executable, "-m", "xmlp")

HUES = ("deep, blue", 'gr"een', "red")


def run(*args: object, code: int = 0, stdin: str | bytes | None = None) -> Result:
    """Run the command and check its exit code; nothing but an exit may come out of it."""
    try:
        runner = CliRunner(mix_stderr=False)  # click 8.1
    except TypeError:
        runner = CliRunner()
    result = runner.invoke(main, [str(arg) for arg in args], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, f"exit code {result.exit_code}: {result.stderr}{result.stdout}"
    assert "Traceback" not in result.stderr
    return result


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that is to find this xmlp, wherever it runs."""
    own = ("PYTHONUNBUFFERED", "COLUMNS", "LINES")  # what the tests' own runner may have set
    usual = {name: value for name, value in os.environ.items() if name not in own}
    return {**usual, "PYTHONPATH": str(Path(xmlp.__file__).parent.parent), **more}


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read_csv(text: str) -> dict[str, list[str]]:
    header, *rows = csv.reader(text.splitlines())
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def houses(rows: int = 300, seed: int = 0) -> dict[str, list[Any]]:
    """Houses whose price is linear in size, rooms and hue, in a unit far from 1, and whose kind follows from them."""
    rng = np.random.default_rng(seed)
    size, rooms, hue = rng.uniform(20, 200, rows).round(2), rng.integers(1, 7, rows), rng.integers(0, 3, rows)
    price = 5e5 + 1000 * size + 20000 * rooms + np.asarray([30e3, -20e3, 0])[hue]
    kind = np.where(size * rooms > 350, "big", "small")
    columns = {"size": size, "rooms": rooms, "hue": np.asarray(HUES)[hue], "price": price, "kind": kind}
    return {name: column.tolist() for name, column in columns.items()}


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    return write_csv(path, columns, zip(*columns.values(), strict=True))
