"""Graphs of the activations and their derivatives, as numbers and as a picture."""

import os
from typing import Any

from xmlp.activations import ACTIVATIONS
from xmlp.backends import BackendLike
from xmlp.backends import backend as backend_named
from xmlp.graph import Formula

Curve = tuple[list[float], list[float], list[float]]


def formulas() -> dict[str, Formula]:
    """The built-in activations that are elementwise: all but the softmax."""
    return {name: f for name, f in ACTIVATIONS.items() if isinstance(f, Formula)}


def curves(
    backend: BackendLike = "numpy", *, low: float = -4.0, high: float = 4.0, points: int = 161
) -> dict[str, Curve]:
    """By name the points x, the values f(x) and the derivatives f'(x) of each elementwise activation.

    >>> x, f, slope = curves(points=5)["relu"]
    >>> x, f, slope
    ([-4.0, -2.0, 0.0, 2.0, 4.0], [0.0, 0.0, 0.0, 2.0, 4.0], [0.0, 0.0, 0.0, 1.0, 1.0])
    """
    here = backend_named(backend, dtype="float64")
    x = [low + (high - low) * k / (points - 1) for k in range(points)]
    at = here.from_host(x)

    def values(formula: Formula) -> list[float]:
        return here.to_host(here.apply(formula, at)).tolist()  # type: ignore[no-any-return]

    return {name: (x, values(f), values(f.derivative)) for name, f in formulas().items()}


def plot_activations(path: str | os.PathLike[str]) -> None:
    """Draw every elementwise activation and its derivative into a picture; needs matplotlib (the extra `plot`).

    Parameters
    ----------
    path : path
        Its ending, as in .svg or .png, decides the format.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plotting needs matplotlib: pip install ".[plot]" in the folder of xmlp') from None
    found = curves()
    columns = 5
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.2 * rows), layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, (x, f, slope)) in zip(panels, found.items(), strict=False):
        axes.plot(x, f, label="f(x)")
        axes.plot(x, slope, linestyle="--", label="f'(x)")
        axes.set(title=name, ylim=(-2.0, 3.0))
        axes.grid(alpha=0.3)
    panels = list(figure.axes)
    panels[0].legend(fontsize="small")
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=120)
