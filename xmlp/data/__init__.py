"""Data: embedded sets and the readers of CSV and IDX files, which trust no file, and standardisation."""

from xmlp.data.columns import CategoryColumn, Column, DateColumn, NumberColumn
from xmlp.data.csvfile import Table, read_csv, write_predictions
from xmlp.data.datasets import Dataset, load
from xmlp.data.idx import read_idx
from xmlp.data.standardize import mean_and_scale
from xmlp.data.survey import Survey
from xmlp.data.table import TableSchema

__all__ = [
    "CategoryColumn",
    "Column",
    "Dataset",
    "DateColumn",
    "NumberColumn",
    "Survey",
    "Table",
    "TableSchema",
    "load",
    "mean_and_scale",
    "read_csv",
    "read_idx",
    "write_predictions",
]
