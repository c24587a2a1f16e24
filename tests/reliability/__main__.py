"""Run rows and print one table: row, promise, figure wanted, figure seen.

python -m reliability [--short] [--only C6,C7] [--scale 0.1] [--write docs/reliability.md]
"""

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from datetime import date
from importlib import metadata
from pathlib import Path

from reliability.core import Row
from reliability.rows import ROWS

PACKAGES = ("xmlp", "numpy", "safetensors", "llvmlite", "click")
HEAD = """# Reliability: what is promised, and what was seen

Made by `ci/nightly --write docs/reliability.md`. Every row is a function in `tests/reliability`; tests run each of
them at a smaller size. The last run was on:

"""


def measured(row: Row, scale: float | None) -> tuple[str, bool, float]:
    """The figure seen, whether the promise holds, and the seconds that it took."""
    size = row.short if scale is None else max(round(row.long * scale), min(row.short, row.long))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="xmlp-") as folder:
        try:
            figure, holds = row.run(size, Path(folder)), True
        except Exception as error:
            traceback.print_exc()
            figure, holds = f"BROKEN: {type(error).__name__}: {error}".splitlines()[0], False
    return figure, holds, time.perf_counter() - begin


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def written(path: Path | None) -> dict[str, str]:
    """The lines of a table that is there already: those of rows that are not run now stay."""
    text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
    return {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}


def conditions() -> str:
    """On what."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    python = f"Python {platform.python_version()}"
    return f"{processor()}, {os.cpu_count()} processors, {platform.system()}, {python}, {', '.join(found)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/nightly", description=__doc__)
    parser.add_argument("--only", help="ids of rows, with commas")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes")
    parser.add_argument("--short", action="store_true", help="at the sizes of the tests")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else list(ROWS)
    if unknown := set(wanted) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    lines, broken = written(given.write), 0
    for id in wanted:
        row = ROWS[id]
        figure, holds, seconds = measured(row, None if given.short else given.scale)
        broken += not holds
        print(f"{id:4} {'ok    ' if holds else 'BROKEN'} {seconds:6.1f} s  {row.promise}\n"
              f"{'':12} wanted {row.wanted}; seen {figure}", flush=True)  # fmt: skip
        lines[id] = f"| {id} | {row.promise} | {row.wanted} | {figure.replace('|', '/')} | {date.today()} |"
    print(f"{len(wanted)} rows, {broken} broken")
    if given.write:
        table = "| row | promise | wanted | seen | on |\n|---|---|---|---|---|\n"
        table += "\n".join(lines[id] for id in ROWS if id in lines)
        given.write.write_text(f"{HEAD}{conditions()}\n\n{table}\n", encoding="utf-8")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
