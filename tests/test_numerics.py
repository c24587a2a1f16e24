"""Exact values at the extremes: huge logits, certain probabilities, functions of all floats, divergence."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from conftest import Mode, require
from tolerances import check, report, ulps  # noqa: F401  (a fixture)

import xmlp
from xmlp import DivergenceError, activations, elementwise
from xmlp.errors import BackendError
from xmlp.losses import BinaryCrossEntropy, SoftmaxCrossEntropy

INF = math.inf

# --- losses -----------------------------------------------------------------------------------------------------------


def put_labels(mode: Mode, *labels: int) -> Any:
    return mode.put(np.asarray(labels, dtype=np.int32), None)


def test_log_softmax_of_huge_logits(mode: Mode) -> None:
    """-log p of (1e4, -1e4, 0) is (0, 20000, 10000), exactly."""
    for dtype in mode.dtypes:
        logits, labels = mode.put([[1e4, -1e4, 0.0]] * 3, dtype), put_labels(mode, 0, 1, 2)
        loss = SoftmaxCrossEntropy(reduction="sum")
        assert mode.get(loss.per_example(logits, labels)).tolist() == [0, 20000, 10000]
        gradient = loss.value_and_grad(logits, labels)[1]
        assert mode.get(gradient).tolist() == [[0, 0, 0], [1, -1, 0], [1, 0, -1]]


@pytest.mark.parametrize("logit", [1e4, -1e4, 0.0])
def test_equal_logits(mode: Mode, logit: float) -> None:
    for dtype in mode.dtypes:
        for k in (2, 3, 10, 1000):
            losses = SoftmaxCrossEntropy().per_example(mode.put([[logit] * k], dtype), put_labels(mode, k - 1))
            entropy = np.full(1, math.log(k), dtype=dtype)
            check("entropy of equal logits, in ulp", ulps(mode.get(losses), entropy), f"{mode}, {dtype}, {k}")


def test_logistic_loss_of_huge_logits(mode: Mode) -> None:
    for dtype in mode.dtypes:
        z, y = mode.put([[1e4], [1e4], [-1e4], [-1e4]], dtype), mode.put([[1.0], [0.0], [1.0], [0.0]], dtype)
        assert mode.get(BinaryCrossEntropy().per_example(z, y)).tolist() == [0, 1e4, 1e4, 0]
        assert mode.get(BinaryCrossEntropy(reduction="sum").value_and_grad(z, y)[1]).ravel().tolist() == [0, 1, -1, 0]


def test_losses_from_logits_are_finite(rng: np.random.Generator) -> None:
    z = rng.choice([0.0, 1e-300, -1e4, 1e4, -1e300, 1e300, 3.0], size=(200, 4))
    for loss, y in (
        (SoftmaxCrossEntropy(), rng.integers(4, size=200)),
        (SoftmaxCrossEntropy(), rng.dirichlet(np.ones(4), size=200)),
        (BinaryCrossEntropy(), rng.integers(2, size=(200, 4))),
    ):
        value, gradient = loss.value_and_grad(z, y)
        assert np.isfinite(value)
        assert np.isfinite(loss.per_example(z, y)).all()
        assert np.abs(gradient).max() <= 1 / 200


def test_certain_probabilities(mode: Mode) -> None:
    """Right is 0, wrong is inf; at log(0) the slope is taken as 0. Nothing is clipped, is nan or warns."""
    for dtype in mode.dtypes:
        a, y = mode.put([[0.0], [0.0], [1.0], [1.0]], dtype), mode.put([[0.0], [1.0], [0.0], [1.0]], dtype)
        loss = BinaryCrossEntropy(from_logits=False, reduction="sum")
        assert mode.get(loss.per_example(a, y)).tolist() == [0, INF, INF, 0]
        assert mode.get(loss.value_and_grad(a, y)[1]).ravel().tolist() == [1, 0, 0, -1]
        p, labels = mode.put([[1.0, 0.0, 0.0]] * 3, dtype), put_labels(mode, 0, 1, 2)
        loss = SoftmaxCrossEntropy(from_logits=False, reduction="sum")
        assert mode.get(loss.per_example(p, labels)).tolist() == [0, INF, INF]
        assert mode.get(loss.value_and_grad(p, labels)[1]).tolist() == [[-1, 0, 0], [0, 0, 0], [0, 0, 0]]
        tiny = mode.put([[1e-37]], dtype)
        assert mode.get(BinaryCrossEntropy(False)(tiny, mode.put([[1.0]], dtype))) > 85


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (SoftmaxCrossEntropy(), [[0.5, 0.4, 0.0]], r"must sum to 1 over the classes, got 0\.9 in row 0"),
        (SoftmaxCrossEntropy(), [[0.0, 1.0, 0.0], [0.6, 0.6, -0.2]], r"in \[0, 1\], got -0\.2 in row 1, output 2"),
        (SoftmaxCrossEntropy(), [[1.5, 0.0, -0.5]], r"must lie in \[0, 1\], got 1\.5 in row 0, output 0 \(2 such\)"),
        (SoftmaxCrossEntropy(False), [[0.5, 0.4, 0.0]], "must sum to 1"),
        (BinaryCrossEntropy(), [[0.0, 1.0, 1.5]], r"must lie in \[0, 1\], got 1\.5 in row 0, output 2"),
        (BinaryCrossEntropy(False), [[0.0, -1.0, 1.0]], r"must lie in \[0, 1\], got -1\.0"),
    ],
)
def test_targets_that_are_no_probabilities(loss: Any, targets: Any, message: str) -> None:
    y, p = np.asarray(targets), np.full((len(targets), 3), 0.3)
    with pytest.raises(ValueError, match=message):
        loss(p, y)
    soft = type(loss)(loss.from_logits, soft_targets=True)
    assert np.isfinite(soft(p, y))
    with pytest.raises(ValueError, match="must be finite, got nan"):
        soft(p, np.full_like(y, np.nan))


def test_a_masked_class(mode: Mode) -> None:
    """A logit of -inf means p = 0: the other classes are as if it were not there."""
    for dtype in mode.dtypes:
        rest, masked = np.asarray([[0.5, -1.0, 2.0]] * 3), np.asarray([[0.5, -1.0, -INF, 2.0]] * 3)
        loss = SoftmaxCrossEntropy(reduction="sum")
        plain, plain_gradient = loss.value_and_grad(mode.put(rest, dtype), put_labels(mode, 0, 1, 2))
        value, gradient = loss.value_and_grad(mode.put(masked, dtype), put_labels(mode, 0, 1, 3))
        assert mode.get(value) == mode.get(plain)
        assert np.array_equal(mode.get(gradient), np.insert(mode.get(plain_gradient), 2, 0.0, axis=1))
        rows = np.insert(np.full((3, 3), 1 / 3), 2, 0.0, axis=1)
        assert np.isfinite(mode.get(loss(mode.put(masked, dtype), mode.put(rows, dtype))))
        p = mode.get(activations.softmax.evaluate(mode.backend(dtype).xp, mode.put(masked, dtype)))
        assert np.all(p[:, 2] == 0)
        assert mode.get(loss(mode.put(masked, dtype), put_labels(mode, 2, 2, 2))) == INF
        with pytest.raises(ValueError, match="all logits of an example are -inf"):
            loss(mode.put([[-INF, -INF]], dtype), put_labels(mode, 0))


# --- functions --------------------------------------------------------------------------------------------------------

Real = Any
_TINY = [5e-324, 1e-310, 2.2250738585072014e-308, 1e-300, 1e-100, 1e-16, 1e-8, 1e-3]
_LARGE = [36.7, 88.0, 89.0, 350.0, 709.0, 1e4, 1e100, 1.7976931348623157e308]
_SIZES = [*_TINY, 0.1, 0.5, 1.0, 2.0, 5.0, 8.0, 12.0, 20.0, *_LARGE]


def points() -> Any:
    rng = np.random.default_rng(2)
    drawn = rng.uniform(-40, 40, 400), rng.normal(size=300), rng.uniform(-700, 700, 50)
    return np.concatenate([[0.0], _SIZES, np.negative(_SIZES), *drawn])


def _sigmoid(x: Real) -> Real:
    return 1 / (1 + mpmath.exp(-x))


def _softplus(x: Real) -> Real:
    return x + mpmath.log1p(mpmath.exp(-x)) if x > 0 else mpmath.log1p(mpmath.exp(x))


def _gelu(x: Real) -> Real:
    return x * _sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))


EXACT: dict[str, Callable[[Real], Real]] = {
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "tanh": mpmath.tanh,
    "log1p": mpmath.log1p,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * mpmath.tanh(_softplus(x)),
}


def exact(name: str, x: Any) -> Any:
    """The value to 60 digits; beyond +-1e5 the limit, which is the value to more digits than that."""
    far = {"sigmoid": (0, 1), "tanh": (-1, 1)}.get(name, (0, None))
    with mpmath.workdps(60):
        if abs(x) > 1e5 and name != "log1p":
            return mpmath.mpf(float(x) if x > 0 and far[1] is None else far[int(x > 0)])
        return EXACT[name](mpmath.mpf(float(x)))


@elementwise
def log1p(xp, x):
    """log(1 + x)."""
    return xp.log1p(x)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "log1p"])
def test_units_in_the_last_place(name: str) -> None:
    formula = log1p if name == "log1p" else activations.ACTIVATIONS[name]
    x = points()
    x = x[x > -1] if name == "log1p" else x
    with np.errstate(all="raise", under="ignore"):
        found = formula(x)
    for at, value in zip(x, found, strict=True):
        true = exact(name, at)
        error = abs(mpmath.mpf(float(value)) - true) / math.ulp(float(true))
        check("sigmoid, tanh, softplus, log1p, in ulp", error, f"{name}({at!r})")


@pytest.mark.parametrize("name", ["gelu", "silu", "mish"])
def test_products_with_a_gate(name: str) -> None:
    """Relative to the largest |f| within a distance of 1. What is smaller than float32 can hold counts as 0."""
    x = points()
    with np.errstate(all="raise", under="ignore"):
        found = activations.ACTIVATIONS[name](x)
    for at, value in zip(x, found, strict=True):
        near = max(abs(exact(name, v)) for v in (at - 1, at, at + 1))
        error = max(abs(mpmath.mpf(float(value)) - exact(name, at)) - 1.3e-37, 0)
        check("gelu, silu, mish, relative to nearby values", error / near if error else 0, f"{name}({at!r})")


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_monotone(name: str, dtype: str) -> None:
    """On a grid strictly speaking; between neighbouring floats but for the roundings of exp, tanh and log1p."""
    f = activations.ACTIVATIONS[name]
    with np.errstate(all="raise", under="ignore"):
        assert np.all(np.diff(f(np.linspace(-800, 800, 400_001).astype(dtype))) >= 0)
        for start in (-88.0, -20.0, -1.0, -0.2, -1e-3, 1e-3, 0.3, 0.7, 1.0, 8.0, 17.0, 36.0):
            first = np.asarray([start], dtype=dtype).view(f"int{dtype[5:]}")
            y = f(np.sort((first + np.arange(5000, dtype=first.dtype)).view(dtype)))
            fall = np.max(-np.diff(y) / np.spacing(y[:-1]))
            check("fall between neighbouring floats, in ulp", fall, f"{name}, {dtype}")


# --- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "array-api-strict"])
def test_float16_is_refused(library: str) -> None:
    require(library)
    with pytest.raises(BackendError, match="dtype 'float16' is refused: the Array API standard has no 16-bit floats"):
        xmlp.backend(library, dtype="float16")
    with pytest.raises(BackendError, match="'float16' is refused"):
        xmlp.mlp([2, 1], backend=library, dtype="float16")


def test_float16_arrays_on_a_device_are_refused() -> None:
    require("torch")
    import torch

    network = xmlp.mlp([2, 1], backend="torch")
    with pytest.raises(TypeError, match="x is float16, the network float32"):
        network.predict(torch.ones(3, 2, dtype=torch.float16))


def test_host_arrays_of_float16_are_computed_in_float32() -> None:
    """2000 * 40 is inf in float16."""
    network = xmlp.Network([xmlp.layers.Dense(1, kernel_initializer=40.0)], 1)
    assert network.predict(np.asarray([[2000.0]], dtype=np.float16)) == 80000.0


def test_bytes_do_not_wrap_around(mode: Mode) -> None:
    """200 + 100 is 44 in uint8."""
    network = xmlp.Network([xmlp.layers.Dense(1, kernel_initializer=1.0)], 2, backend=mode.backend())
    image = np.asarray([[200, 100]], dtype=np.uint8)
    assert network.predict(image).tolist() == [[300.0]]
    assert mode.get(network.predict(mode.put(image, None))).tolist() == [[300.0]]
    trainer = xmlp.Trainer(network, loss="squared_error", optimizer=xmlp.optimizers.SGD(1e-6))
    assert float(mode.get(trainer.step(mode.put(image, None), mode.put([[0.0]])))) == 90000.0


# --- divergence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "softmax_cross_entropy", "binary_cross_entropy"])
def test_divergence_ends_the_epoch_and_restores_the_state(mode: Mode, loss: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(320, 4))
    y = rng.integers(3, size=320) if loss.startswith("softmax") else rng.integers(2, size=(320, 3))
    network = xmlp.mlp([4, 16, 16, 3], backend=mode.backend("float32"), seed=1)
    optimizer = xmlp.optimizers.SGD(lambda step: 1e-3 if step < 10 else 1e6, momentum=0.9)
    trainer = xmlp.Trainer(network, loss=loss, optimizer=optimizer)
    trainer.fit(x, y, epochs=1)

    def state() -> list[Any]:
        return [mode.get(a).copy() for a in (network.theta, *trainer.run.slots.values())] + [
            trainer.steps,
            trainer.epoch,
        ]

    before = state()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="diverged in epoch 2") as caught:
        trainer.fit(x, y, epochs=1)
    assert 11 < caught.value.step <= 20
    assert caught.value.layer is not None or loss != "absolute_error"
    assert not math.isfinite(caught.value.loss)
    assert all(np.array_equal(a, b) for a, b in zip(before, state(), strict=True))
    assert len(trainer.history["loss"]) == 1


def poisoned(rng: np.random.Generator, on_nonfinite: str) -> tuple[Any, Any, Any]:
    """A trainer on eight batches, of which the fourth has a gradient whose norm overflows."""
    x, y = rng.normal(size=(16, 2)), rng.normal(size=(16, 1))
    y[7] = 1e200
    network = xmlp.mlp([2, 4, 1], "tanh", dtype="float64", normalization="batch")
    settings = {"clip_norm": 1.0, "on_nonfinite": on_nonfinite}
    optimizer = xmlp.optimizers.SGD(0.1, momentum=0.5)
    return xmlp.Trainer(network, loss="squared_error", optimizer=optimizer, **settings), x, y


def test_a_step_without_a_finite_gradient_is_left_out_and_counted(rng: np.random.Generator) -> None:
    trainer, x, y = poisoned(rng, "skip")
    with np.errstate(all="ignore"):
        trainer.fit(x, y, epochs=1, batch_size=2, shuffle=False)
    assert trainer.history["skipped"] == [1.0]
    assert trainer.steps == 8
    other, good = poisoned(rng, "skip")[0], np.delete(np.arange(16), [6, 7])
    other.fit(x[good], y[good], epochs=1, batch_size=2, shuffle=False)
    assert np.array_equal(trainer.network.theta, other.network.theta)
    assert np.array_equal(trainer.network.stats, other.network.stats)
    assert trainer.history["loss"] == other.history["loss"]


def test_a_step_without_a_finite_gradient_is_an_error_on_request(rng: np.random.Generator) -> None:
    trainer, x, y = poisoned(rng, "raise")
    before = trainer.network.theta.copy()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        trainer.fit(x, y, epochs=1, batch_size=2, shuffle=False)
    assert np.array_equal(trainer.network.theta, before)
