"""Every module that registers rows, in the order of the table."""

from reliability import mutants, files, malicious, guided, determinism, resources, runs, fuzzing, tables, supply  # isort: skip
from reliability.core import ROWS

__all__ = [
    "ROWS",
    "determinism",
    "files",
    "fuzzing",
    "guided",
    "malicious",
    "mutants",
    "resources",
    "runs",
    "supply",
    "tables",
]
