"""Data: embedded sets and the readers of CSV and IDX files, which trust no file, and standardisation."""

import importlib
from typing import TYPE_CHECKING, Any

# Imported when it is first used: training on arrays reads no tables.
_HOMES = {
    "CategoryColumn": "columns",
    "Column": "columns",
    "Dataset": "datasets",
    "DateColumn": "columns",
    "NumberColumn": "columns",
    "Survey": "survey",
    "Table": "csvfile",
    "TableSchema": "table",
    "load": "datasets",
    "mean_and_scale": "standardize",
    "read_csv": "csvfile",
    "read_idx": "idx",
    "write_predictions": "csvfile",
}

__all__ = [
    "CategoryColumn", "Column", "Dataset", "DateColumn", "NumberColumn", "Survey", "Table", "TableSchema", "load",
    "mean_and_scale", "read_csv", "read_idx", "write_predictions",
]  # fmt: skip

if TYPE_CHECKING:
    from xmlp.data.columns import CategoryColumn, Column, DateColumn, NumberColumn
    from xmlp.data.csvfile import Table, read_csv, write_predictions
    from xmlp.data.datasets import Dataset, load
    from xmlp.data.idx import read_idx
    from xmlp.data.standardize import mean_and_scale
    from xmlp.data.survey import Survey
    from xmlp.data.table import TableSchema


if not TYPE_CHECKING:  # a checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'xmlp.data' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"xmlp.data.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """What is public, and what every module has."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
