"""Initial values: moments and bounds at fixed seeds, and that each backend starts from the same bits."""

import math
from typing import Any

import numpy as np
import pytest
from conftest import Mode
from tolerances import check, report  # noqa: F401  (a fixture)

import xmlp
from xmlp import initializers
from xmlp.initializers import INITIALIZERS, Constant, Normal, Orthogonal, VarianceScaling

FAN_IN, FAN_OUT = 300, 100
GOAL = "deviation of a sample from its distribution, in sigma"

# name -> variance of an element of a (300, 100) matrix, and the kurtosis of the distribution
DISTRIBUTIONS = {
    "normal": (1.0, 3.0),
    "glorot_normal": (2 / (FAN_IN + FAN_OUT), 3.0),  # Glorot & Bengio (2010), eq. 12
    "glorot_uniform": (2 / (FAN_IN + FAN_OUT), 1.8),  # eq. 16: the bound is sqrt(6 / (in + out))
    "he_normal": (2 / FAN_IN, 3.0),  # He et al. (2015), eq. 10
    "he_uniform": (2 / FAN_IN, 1.8),
    "lecun_normal": (1 / FAN_IN, 3.0),  # LeCun et al. (1998), section 4.6
    "lecun_uniform": (1 / FAN_IN, 1.8),
}


def drawn(initializer: Any, shape: tuple[int, ...] = (FAN_IN, FAN_OUT), seed: int = 1) -> Any:
    return initializers.get(initializer)(np.random.default_rng(seed), shape)


def test_each_initializer_is_here() -> None:
    assert set(INITIALIZERS) == {*DISTRIBUTIONS, "zeros", "ones", "orthogonal"}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_mean_and_variance(name: str, seed: int) -> None:
    """The mean of n elements deviates by std / sqrt(n), their variance by std^2 sqrt((kurtosis - 1) / n)."""
    (variance, kurtosis), w = DISTRIBUTIONS[name], drawn(name, seed=seed)
    check(GOAL, abs(w.mean()) / math.sqrt(variance / w.size), f"{name}, mean")
    check(GOAL, abs(w.var() - variance) / (variance * math.sqrt((kurtosis - 1) / w.size)), f"{name}, variance")
    assert w.dtype == np.float64
    bound = math.sqrt(3 * variance)
    if kurtosis == 1.8:
        assert 0.999 * bound < np.abs(w).max() <= bound
        counts = np.histogram(w, bins=20, range=(-bound, bound))[0]
        expected = w.size / 20
        check(GOAL, (np.sum((counts - expected) ** 2 / expected) - 19) / math.sqrt(2 * 19), f"{name}, chi squared")
    else:
        assert np.abs(w).max() > 3.5 * math.sqrt(variance)  # not truncated
        check(GOAL, abs(np.mean(np.abs(w) < math.sqrt(variance)) - 0.6827) / math.sqrt(0.22 / w.size), f"{name}, 1 std")


def test_settings() -> None:
    w = drawn(VarianceScaling(3.0, "fan_out", "normal"))
    check(GOAL, abs(w.var() - 3 / FAN_OUT) / (3 / FAN_OUT * math.sqrt(2 / w.size)), "fan_out")
    w = drawn(Normal(0.5, mean=2.0))
    check(GOAL, abs(w.mean() - 2.0) / (0.5 / math.sqrt(w.size)), "mean")
    check(GOAL, abs(w.std() - 0.5) / (0.5 / math.sqrt(2 * w.size)), "std")
    assert np.all(drawn(0.25) == 0.25)
    assert np.all(drawn("zeros") == 0)
    assert np.all(drawn("ones") == 1)
    assert np.all(drawn(Constant(-1.5), (3,)) == -1.5)
    stacked = drawn("he_normal", (7, FAN_IN, 20))  # fans are the last two axes
    check(GOAL, abs(stacked.var() - 2 / FAN_IN) / (2 / FAN_IN * math.sqrt(2 / stacked.size)), "stacked")


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 5), (5, 1), (3, 8, 5), (2, 5, 8)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    q, few = drawn(Orthogonal(2.0), shape) / 2.0, min(shape[-2:])
    assert q.shape == shape
    gram = np.swapaxes(q, -1, -2) @ q if shape[-2] >= shape[-1] else q @ np.swapaxes(q, -1, -2)
    check("orthogonality", np.max(np.abs(gram - np.eye(few))), shape)


def test_orthogonal_is_uniform() -> None:
    """Over many draws each element has the mean 0 and the variance 1 / n; without the sign it would not."""
    q = np.stack([drawn("orthogonal", (4, 4), seed) for seed in range(2000)])
    check(GOAL, np.max(np.abs(q.mean(axis=0))) / math.sqrt(0.25 / 2000), "mean")
    check(GOAL, np.max(np.abs((q**2).mean(axis=0) - 0.25)) / (0.25 / math.sqrt(2000)), "variance")


@pytest.mark.parametrize(
    ("activation", "variance"),
    [
        ("relu", 2 / 200),
        ("gelu", 2 / 200),
        ("leaky_relu", 2 / 200),
        ("selu", 1 / 200),
        ("tanh", 2 / 300),
        (None, 2 / 300),
    ],
)
def test_automatic_initial_values_of_dense(activation: Any, variance: float) -> None:
    network = xmlp.Network([xmlp.layers.Dense(100, activation=activation)], 200, dtype="float64", seed=4)
    w, b = network.parameters[0]["W"], network.parameters[0]["b"]
    check(GOAL, abs(w.var() - variance) / (variance * math.sqrt(2 / w.size)), activation)
    assert np.all(b == 0)


def test_relu_layers_keep_the_scale_of_the_signal(rng: np.random.Generator) -> None:
    """He et al. (2015): in 20 layers of relu the second moment stays near 1, where Glorot's would halve 20 times."""
    x = rng.normal(size=(200, 256))
    deep = xmlp.mlp([256] * 21, "relu", dtype="float64", seed=2)
    _, caches = deep.forward(x)
    assert 0.2 < np.mean(caches[-1][0] ** 2) / np.mean(x**2) < 5


def test_the_same_bits_everywhere(mode: Mode) -> None:
    layers = [xmlp.layers.Dense(5, activation=f, kernel_initializer=k) for k in INITIALIZERS for f in ("relu", "tanh")]
    for dtype in mode.dtypes:
        there, here = (
            xmlp.Network(layers, 5, backend=b, seed=11) for b in (mode.backend(dtype), xmlp.backend(dtype=dtype))
        )
        assert str(there.theta.dtype).endswith(dtype)
        assert np.array_equal(mode.get(there.theta), here.theta)
        assert np.array_equal(here.theta, xmlp.Network(layers, 5, dtype="float64", seed=11).theta.astype(dtype))


def test_each_array_has_a_generator_of_its_own() -> None:
    """Another seed changes every drawn array; another layer after it changes none; no two arrays are alike."""
    first, second = (xmlp.mlp([8, 8, 8, 8], seed=s).parameters for s in (0, 1))
    longer = xmlp.mlp([8, 8, 8, 8, 3], seed=0).parameters
    for k in range(3):
        assert not np.any(first[k]["W"] == second[k]["W"])
        assert np.array_equal(first[k]["W"], longer[k]["W"]) == (
            k < 2
        )  # the third was an output, of another initializer
    assert not np.any(first[0]["W"] == first[1]["W"])
    both = xmlp.Network([xmlp.layers.Dense(8, kernel_initializer="normal", bias_initializer="normal")], 8).parameters[0]
    assert not np.any(both["W"][0] == both["b"])


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: initializers.get("he"), ValueError, "unknown initializer 'he'"),
        (lambda: initializers.get([1.0]), TypeError, "a name, a number or a callable"),
        (lambda: drawn("orthogonal", (3,)), ValueError, r"needs a matrix, got the shape \(3,\)"),
        (lambda: xmlp.layers.Dense(3, kernel_initializer="glorot"), ValueError, "Did you mean 'glorot_"),
        (lambda: VarianceScaling(mode="fan_inn"), ValueError, "'fan_inn'. Did you mean 'fan_in'"),
        (lambda: VarianceScaling(distribution="gauss"), ValueError, "'gauss'.* Known: normal, uniform"),
        (lambda: VarianceScaling(scale=-1.0), ValueError, r"VarianceScaling\(scale\) must be a finite number >= 0"),
        (lambda: Normal(std=-1.0), ValueError, r"Normal\(std\) must be a finite number >= 0, got -1\.0"),
        (lambda: Normal(std=math.nan), ValueError, r"Normal\(std\) must be a finite"),
    ],
)
def test_settings_that_are_refused(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_an_initializer_of_the_callers_own() -> None:
    def ramp(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return np.arange(math.prod(shape), dtype=np.float64).reshape(shape)

    network = xmlp.Network([xmlp.layers.Dense(2, kernel_initializer=ramp)], 3)
    assert network.parameters[0]["W"].tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match=r"the initializer of layer 0, W, gave .*\(2,\) instead of \(3, 2\)"):
        xmlp.Network([xmlp.layers.Dense(2, kernel_initializer=lambda rng, shape: np.zeros(2))], 3)
