"""The history written to a file while training goes on."""

import csv
import json
import math
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from xmlp.callbacks.base import Callback

if TYPE_CHECKING:
    from xmlp.model.trainer import Trainer

__all__ = ["CSVLogger", "JSONLLogger"]


class _Logger(Callback):
    """Writes the rows of the history to a file, a line per epoch; the epochs before this `fit` come first."""

    _newline: ClassVar[str | None] = None

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._file: IO[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # the next fit begins the file again, with the epochs made so far

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._file = open(self.path, "w", encoding="utf-8", newline=self._newline)  # noqa: SIM115 - closed at the end
        self._names: list[str] = []
        for epoch in range(1, trainer.epoch + 1):
            self._line(trainer, epoch)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        self._line(trainer, trainer.epoch)

    def _line(self, trainer: "Trainer", epoch: int) -> None:
        assert self._file is not None
        row = {name: column[epoch - 1] for name, column in trainer.history.items()}
        self._write(self._file, {"epoch": epoch, **row})
        self._file.flush()

    def _write(self, file: IO[str], row: dict[str, float]) -> None:
        raise NotImplementedError

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class CSVLogger(_Logger):
    """Writes the history to a CSV file while training goes on: a header, then a line per epoch.

    Parameters
    ----------
    path : path
        Overwritten when a fit begins, with the epochs so far.
    """

    _newline = ""

    def _write(self, file: IO[str], row: dict[str, float]) -> None:
        if not self._names:
            self._names = list(row)
            csv.writer(file).writerow(self._names)
        csv.writer(file).writerow([row.get(name, math.nan) for name in self._names])


class JSONLLogger(_Logger):
    """Writes the history as JSON while training goes on: an object and a line per epoch, null for what is not finite.

    Parameters
    ----------
    path : path
        Overwritten when a fit begins, with the epochs so far.
    """

    def _write(self, file: IO[str], row: dict[str, float]) -> None:
        file.write(json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n")
