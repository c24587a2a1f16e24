"""How long tables take to be read, against pandas, and how much memory they need.

    python ci/benchmarks/reading.py [--rows 300000] [--rounds 7] [--engines polars,pyarrow,numpy,csv] [--cells]

The file is mixed, 22 columns and about 170 bytes a row: an identifier, numbers with six decimals, whole numbers,
categories, dates, and gaps in three columns. Each round reads it once with pandas and once with each engine, in a fresh
process each, in which the library is imported and a small table read before. For xmlp the time is that of `read_csv`
and then for each column of `floats` where it is one of numbers, else of `numbers` where its first cell is one, else of
`cells`; with `--cells` of `cells` for all that are not numbers throughout. The ratios are those of the medians. Beside
them: seconds on the processors, the peak of memory, and by how much reading raised it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROUND = """
import json, os, resource, sys, time
engine, path, small, cells = sys.argv[1:5]

def work(path):
    if engine == "pandas":
        return pandas.read_csv(path)
    table = read_csv(path, engine=None if engine == "default" else engine)
    for name in table.columns:
        if table.floats(name) is None:
            one = table.take([0]).floats(name) is not None
            table.numbers(name) if one and cells == "0" else table.cells(name)
    return table

if engine == "pandas":
    import pandas
else:
    from xmlp.data import read_csv
    if engine in ("polars", "pyarrow"):
        __import__(engine)
work(small)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
before, seconds, cpu = peak(), time.perf_counter(), time.process_time()
table = work(path)
seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak(), "raised": peak() - before}))
"""


def write_table(path: Path, rows: int) -> None:
    """Write the mixed file."""
    rng = np.random.default_rng(0)
    columns = {"id": [f"C{i:07d}" for i in rng.permutation(rows)]}
    columns |= {f"x{j}": [f"{v:.6f}" for v in rng.normal(size=rows) * 10 ** (j % 3)] for j in range(8)}
    columns |= {f"n{j}": [str(v) for v in rng.integers(0, 10 ** (j + 1), rows)] for j in range(5)}
    columns |= {f"c{j}": [f"kind {v}" for v in rng.integers(0, k, rows)] for j, k in enumerate((3, 5, 12, 40, 200, 7))}
    columns["day"] = [str(np.datetime64("2020-01-01") + int(d)) for d in rng.integers(0, 2000, rows)]
    columns["y"] = [f"{v:.3f}" for v in rng.normal(size=rows) * 100]
    for name in ("x1", "n2", "c3"):
        for i in rng.choice(rows, rows // 100, replace=False):
            columns[name][i] = ""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(",".join(row) + "\n" for row in [columns, *zip(*columns.values(), strict=True)])


def measure(engine: str, path: Path, small: Path, cells: bool) -> dict[str, float]:
    """One reading in a fresh process."""
    command = [sys.executable, "-c", ROUND, engine, str(path), str(small), str(int(cells))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engines", default="polars,pyarrow,numpy,csv")
    parser.add_argument("--cells", action="store_true")
    parser.add_argument("--write", help="write the file and do nothing else")
    options = parser.parse_args()
    if options.write:
        return write_table(Path(options.write), options.rows)
    engines = ["pandas", *options.engines.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder, "table.csv"), Path(folder, "small.csv")
        for file, rows in ((path, options.rows), (small, 200)):  # a process has the peak of memory of its parent
            subprocess.run([sys.executable, __file__, "--write", file, "--rows", str(rows)], check=True)
        print(f"{options.rows} rows, 22 columns, {path.stat().st_size / 1e6:.1f} MB")
        found = {engine: [] for engine in engines}
        for _ in range(options.rounds):
            for engine in engines:
                found[engine].append(measure(engine, path, small, options.cells))
    for engine in engines:
        middle = {key: statistics.median(one[key] for one in found[engine]) for key in found[engine][0]}
        base = {key: statistics.median(one[key] for one in found["pandas"]) for key in middle}
        print(
            f"{engine:8} {middle['seconds']:6.3f} s, {middle['seconds'] / base['seconds']:5.2f} x pandas; "
            f"processors {middle['cpu']:6.3f} s, {middle['cpu'] / base['cpu']:5.2f} x; "
            f"peak {middle['peak']:4.0f} MB, raised by {middle['raised']:4.0f} MB"
        )


if __name__ == "__main__":
    main()
