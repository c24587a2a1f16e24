"""Every module that registers rows, in the order of the table."""

from reliability import mutants, files, malicious, guided, determinism, resources, concurrency, runs, fuzzing, supply  # isort: skip
from reliability.core import ROWS

__all__ = [
    "ROWS", "concurrency", "determinism", "files", "fuzzing", "guided", "malicious", "mutants", "resources", "runs",
    "supply",
]  # fmt: skip
