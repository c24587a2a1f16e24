"""The register of rows, and tools that several of them use."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xmlp

ROWS: dict[str, "Row"] = {}
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """A promise, and how it is checked.

    Parameters
    ----------
    id : str
    promise : str
    wanted : str
        The figure to reach.
    short, long : int
        How much is done in a test, and at night.
    run : callable
        `run(size, folder) -> str` does that much in an empty folder and returns the figure seen.
    """

    id: str
    promise: str
    wanted: str
    short: int
    long: int
    run: Callable[[int, Path], str]


def row(id: str, promise: str, wanted: str, *, short: int = 1, long: int = 1) -> Callable[[Any], Any]:
    """Register a function as a row."""

    def register(run: Callable[[int, Path], str]) -> Callable[[int, Path], str]:
        if id in ROWS:
            raise ValueError(f"two rows {id}")
        ROWS[id] = Row(id, promise, wanted, short, long, run)
        return run

    return register


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that is to find this xmlp, wherever it runs."""
    place = str(Path(xmlp.__file__).parent.parent)
    usual = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "PYTHONHASHSEED")}
    return {**usual, "PYTHONPATH": place, **more}


def python(code: str, *args: object, timeout: float = 300, check: bool = True, **settings: Any) -> Any:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, args)]
    settings = {"env": environment(), "capture_output": True, "text": True, **settings}
    done = subprocess.run(command, timeout=timeout, check=False, **settings)
    assert not check or done.returncode == 0, f"exit code {done.returncode}:\n{done.stderr[-2000:]}"
    return done
