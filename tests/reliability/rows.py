"""Every module that registers rows, in the order of the table."""

from reliability import (  # isort: skip
    mutants, files, malicious, guided, determinism, resources, concurrency, runs, fuzzing, tables, supply,
)  # fmt: skip
from reliability.core import ROWS

__all__ = [
    "ROWS", "concurrency", "determinism", "files", "fuzzing", "guided", "malicious", "mutants", "resources", "runs",
    "supply", "tables",
]  # fmt: skip
