"""Every module that registers rows, in the order of the table."""

from reliability import mutants, files, malicious, guided, determinism, resources, concurrency, runs, fuzzing, tables, supply  # isort: skip # fmt: skip
from reliability.core import ROWS

__all__ = [
    "ROWS", "concurrency", "determinism", "files", "fuzzing", "guided", "malicious", "mutants", "resources", "runs",
    "supply", "tables",
]  # fmt: skip
