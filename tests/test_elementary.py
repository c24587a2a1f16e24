"""exp, expm1, log, log1p and tanh as compiled kernels have them: to a wider format, over the whole range."""

import numpy as np
import pytest
from test_tails import planned
from tolerances import check, report, ulps  # noqa: F401  (a fixture)

from xmlp.graph import elementwise

FUNCTIONS = {
    "exp": elementwise(lambda xp, x: xp.exp(x)),
    "expm1": elementwise(lambda xp, x: xp.expm1(x)),
    "log": elementwise(lambda xp, x: xp.log(x)),
    "log1p": elementwise(lambda xp, x: xp.log1p(x)),
    "tanh": elementwise(lambda xp, x: xp.tanh(x)),
}
WIDER = {"float32": np.float64, "float64": np.longdouble}
# where an equation gives way to another, and where the value leaves the range of numbers
TURNS = [0.5**0.5, 0.75, 1.0, 2.0, 2.0**0.5, 0.34657359, 1.03972077, 9.0, 10.0, 20.0, 37.43, 40.0, 87.0, 88.0, 88.72283]
TURNS += [88.9, 89.07, 89.42, 103.97, 104.0, 708.4, 709.782712893384, 710.0, 745.1332191019412, 746.0]


def points(dtype, count=200_000):
    """Numbers of every size and sign, near 1, multiples of ln 2, neighbours of each turn, the edges of a format."""
    rng, info = np.random.default_rng(5), np.finfo(dtype)
    span = np.log(float(info.smallest_subnormal)), np.log(float(info.max))
    sizes = np.exp(rng.uniform(*span, count))
    near = np.concatenate([rng.uniform(-2, 2, count), rng.uniform(-40, 40, count), rng.normal(1, 1e-3, count)])
    wide = rng.uniform(-760, 760, count) if dtype == "float64" else rng.uniform(-110, 110, count)
    halves = np.log(2) * np.arange(-2200, 2200) / 2
    around = np.asarray(TURNS)[:, None] + np.arange(-40, 41) * np.spacing(np.asarray(TURNS, dtype))[:, None]
    edges = [0.0, info.smallest_subnormal, info.tiny, info.max, np.inf]
    x = np.concatenate([sizes, near, wide, halves, around.ravel(), edges])
    x = np.concatenate([x, -x, [np.nan], np.nextafter(-1.0, [0.0, -2.0])]).astype(dtype)
    with np.errstate(all="ignore"):
        return np.concatenate([x, np.nextafter(x, np.asarray(np.inf, dtype))])


@pytest.mark.parametrize("dtype", WIDER)
@pytest.mark.parametrize("name", FUNCTIONS)
@np.errstate(all="ignore")
def test_in_units_of_the_last_place(name, dtype):
    wider, info = WIDER[dtype], np.finfo(dtype)
    if np.finfo(wider).nmant < info.nmant + 8:
        pytest.skip("this machine has no wider format")
    x = points(dtype)
    exact = getattr(np, name)(x.astype(wider))
    rounded = exact.astype(dtype)
    unit = np.spacing(np.maximum(np.abs(rounded), info.tiny)).astype(wider)
    (_, *compiled) = planned(FUNCTIONS[name], x)
    if not compiled:
        pytest.skip("llvmlite is not installed")
    same = (compiled[0] == rounded) | (np.isnan(compiled[0]) & np.isnan(rounded))
    errors = np.where(same, 0.0, np.abs(compiled[0].astype(wider) - exact) / unit)
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    check(f"elementary function, {dtype}, in ulp", errors[worst], f"{name}({x[worst]!r}) = {rounded[worst]!r}")
    assert np.array_equal(np.signbit(compiled[0][x == 0]), np.signbit(rounded[x == 0]))
