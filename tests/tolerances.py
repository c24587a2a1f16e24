"""The one table of tolerances, and the table of what was measured, which each test module prints when it ends."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

LIMITS = {
    # gradients, relative to the largest entry
    "gradient, float64, to complex step": 1e-13,
    "gradient, float64, to central differences": 1e-7,
    "gradient, float64, to torch": 1e-12,
    "parameters after 100 steps, float64, to torch": 1e-9,
    "forward, 3 x 256, float32 to float64": 1e-5,
    "gradient, 3 x 256, float32 to float64": 1e-4,
    "any mode, float32 to float64": 5e-5,
    "any mode, float64 to NumPy": 1e-12,
    "parameters after 60 steps, float64, to NumPy": 1e-10,
    # formulas: derivatives relative to max(1, |f'|), values relative to the bound of a running error analysis
    "derivative of a formula, to complex step": 1e-14,
    "derivative of a formula at 0, to central differences": 1e-9,
    "second derivative of a formula, to complex step": 1e-13,
    "random formula, simplified to as written, in roundings": 2.0,
    "derivative of a random formula, to complex step": 1e-12,
    "derivative of a random formula, to central differences": 1e-9,
    "formula by hand": 1e-14,
    "formula at the extremes, simplified to as written, in ulp": 4.0,
    "any mode, formula, float32": 2e-6,
    "any mode, formula, float64": 4e-15,
    # numerics
    "sigmoid, tanh, softplus, log1p, in ulp": 4.0,
    "gelu, silu, mish, relative to nearby values": 1e-15,
    "fall between neighbouring floats, in ulp": 3.0,
    "entropy of equal logits, in ulp": 1.0,
    "elementary function, float32, in ulp": 2.5,
    "elementary function, float64, in ulp": 1.5,
    "weights as repeated rows, parameters after 6 steps": 1e-12,
    # optimizers, schedules, initializers
    "update by hand": 1e-14,
    "schedule by hand": 1e-14,
    "orthogonality": 1e-13,
    "deviation of a sample from its distribution, in sigma": 4.0,
}

MEASURED: dict[str, tuple[float, str]] = {}


def check(goal: str, error: Any, case: object = "") -> None:
    """Compare an error with its limit and remember the largest."""
    error = float(error)
    MEASURED[goal] = max(MEASURED.get(goal, (-1.0, "")), (error, str(case)))
    assert error <= LIMITS[goal], f"{goal}: {error:.2e} > {LIMITS[goal]:.0e} in {case}"


def relative(got: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected entry."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.max(np.abs(got - expected), initial=0.0) / max(np.max(np.abs(expected), initial=0.0), 1e-300))


def ulps(got: Any, expected: Any) -> float:
    """The largest difference in units of the last place of the expected values; inf is right for inf, nan for nan."""
    got, expected = np.asarray(got), np.asarray(expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(all="ignore"):
        unit = np.spacing(np.clip(np.abs(expected), np.finfo(expected.dtype).tiny, np.finfo(expected.dtype).max / 2))
        return float(np.max(np.where(same, 0.0, np.abs(got - expected) / unit)))


@pytest.fixture(scope="module", autouse=True)
def report(request: pytest.FixtureRequest) -> Iterator[None]:
    """Import it into a test module to have the largest errors of the module printed at its end."""
    MEASURED.clear()
    yield
    terminal, capture = map(request.config.pluginmanager.getplugin, ("terminalreporter", "capturemanager"))
    if terminal is None:  # a worker of pytest-xdist
        return
    with capture.global_and_fixture_disabled():
        terminal.write_line("")
        for goal, (error, case) in MEASURED.items():
            terminal.write_line(f"  {error:8.1e} <= {LIMITS[goal]:7.0e}  {goal}" + (f"  ({case})" if case else ""))
