"""What happened in training: a list of numbers per epoch for each quantity."""

import csv
import os
from typing import Any


class History(dict[str, list[float]]):
    """Lists by name: "loss", "lr", "seconds", metrics, and the same with "val_" for the validation data.

    "loss" is without penalties, which stand in "penalty" where there are any.

    >>> history = History()
    >>> history.append({"loss": 2.0, "lr": 0.1})
    >>> history.append({"loss": 1.0, "lr": 0.1})
    >>> history["loss"], history.epochs
    ([2.0, 1.0], 2)
    """

    @property
    def epochs(self) -> int:
        """How many there are."""
        return max(map(len, self.values()), default=0)

    @property
    def latest(self) -> str:
        """The last epoch in a line."""
        values = [f"{name} {column[-1]:.4g}" for name, column in self.items() if name != "lr"]
        return f"epoch {self.epochs}  " + "  ".join(values)

    def append(self, row: dict[str, float]) -> None:
        """Add an epoch; a quantity that was not measured before, or is not measured now, is nan there."""
        before = self.epochs
        for name in [*self, *row]:
            column = self.setdefault(name, [float("nan")] * before)
            if len(column) == before:
                column.append(float(row.get(name, float("nan"))))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line per epoch, counted from 1."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *self])
            writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*self.values(), strict=True), 1))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the curves into a picture; needs matplotlib (the extra `plot`)."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError('plotting needs matplotlib: pip install ".[plot]" in the folder of xmlp') from None
        names = [n for n in self if n not in ("lr", "seconds") and not n.startswith("val_")]
        figure = Figure(figsize=(4.5 * max(len(names), 1), 3.5), layout="constrained")
        epochs = range(1, self.epochs + 1)
        panels: Any = figure.subplots(1, max(len(names), 1), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=False):
            axes.plot(epochs, self[name], label="training")
            if f"val_{name}" in self:
                axes.plot(epochs, self[f"val_{name}"], label="validation")
                axes.legend()
            axes.set(xlabel="epoch", title=name)
            axes.grid(alpha=0.3)
        figure.savefig(path, dpi=120)
