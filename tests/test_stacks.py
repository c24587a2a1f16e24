"""K members at once, (K, N, features): every layer and loss gives what K single passes give, to the bit in float64."""

from typing import Any

import numpy as np
import pytest

import xmlp
import xmlp.backends.context as contexts
from xmlp import losses
from xmlp.layers import LAYERS, Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual, Standardize

F = 4
LAYER_DB: list[Any] = [
    Dense(3, "tanh"), Dense(F), Dense(3, use_bias=False), Activation("gelu"), Activation("softmax"), LayerNorm(),
    BatchNorm(), Standardize(mean=0.5, scale=2.0), Dropout(0.5), Residual([Dense(5, "silu"), BatchNorm(), Dense(F)]),
]  # fmt: skip
LOSS_DB: list[Any] = [
    losses.SquaredError(), losses.SquaredError(half=True), losses.AbsoluteError(), losses.Huber(),
    losses.BinaryCrossEntropy(), losses.BinaryCrossEntropy(False), losses.SoftmaxCrossEntropy(),
    losses.SoftmaxCrossEntropy(False),
]  # fmt: skip
SIZES = [(3, 5), (5, 5), (F, F), (2, 1), (1, 3), (7, 2)]  # members and rows, among them as many of both


def drawn(specs, members, rng):
    """Numbers of each member for the arrays that a layer asks for."""
    return [{name: rng.uniform(0.1, 1.5, spec.shape) for name, spec in specs.items()} for _ in range(members)]


def stacked(dicts):
    """One dict of stacks."""
    return {name: np.stack([d[name] for d in dicts]) for name in dicts[0]}


def test_every_layer_and_loss_is_here():
    assert {type(layer) for layer in LAYER_DB} == {*LAYERS.values()}
    assert {type(loss) for loss in LOSS_DB} == {*losses.LOSSES.values()}


@pytest.mark.parametrize("library", ["numpy", "array-api-strict", "torch", "jax"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("layer", LAYER_DB, ids=repr)
def test_layers(layer, training, library, put_on):
    rng, (there, host) = np.random.default_rng(0), put_on(library)
    for members, rows in SIZES:
        x = rng.normal(size=(members, rows, F))
        features, specs = layer.build(F)
        params, stats = drawn(specs, members, rng), drawn(layer.statistics(F), members, rng)
        dy = rng.normal(size=(members, rows, features))
        bits = rng.integers(-(2**31), 2**31, x.shape, dtype=np.int32)

        def passed(params, stats, x, dy, bits):
            """Value, gradients and next statistics, flat."""
            put = lambda d: {n: there.from_host(a) for n, a in d.items()}  # noqa: E731
            mask = there.from_host(bits, "int32")
            ctx = contexts.of(there, training=training).but(stats=put(stats), bits=lambda shape, *path: mask)
            y, cache = layer.forward(put(params), there.from_host(x), ctx)
            dx, grads = layer.backward(put(params), cache, there.from_host(dy), ctx)
            new = layer.next_statistics(ctx.stats, cache) if training else {}
            return [host(a) for a in (y, dx, *(grads[n] for n in sorted(grads)), *(new[n] for n in sorted(new)))]

        whole = passed(stacked(params), stacked(stats), x, dy, bits)
        singles = [passed(*member) for member in zip(params, stats, x, dy, bits, strict=True)]
        for found, expected in zip(whole, zip(*singles, strict=True), strict=True):
            same(found, np.stack(expected), exact=library == "numpy")


def same(found, expected, exact):
    assert found.shape == expected.shape
    if exact:
        assert np.array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() <= 1e-13


@pytest.mark.parametrize("library", ["numpy", "array-api-strict", "torch", "jax"])
@pytest.mark.parametrize("weights", ["none", "rows", "targets"])
@pytest.mark.parametrize("loss", LOSS_DB, ids=repr)
def test_losses(loss, weights, library, put_on):
    if weights == "targets" and not loss.elementwise:
        pytest.skip("weighs rows only")
    rng, (there, host) = np.random.default_rng(0), put_on(library)
    labels = isinstance(loss, losses.SoftmaxCrossEntropy)
    for members, rows in SIZES:
        y = rng.uniform(0.1, 0.9, (members, rows, F))
        p = rng.uniform(0.1, 0.9, (members, rows, F))
        targets = rng.integers(0, F, (members, rows)) if labels else y
        w = {"none": None, "rows": rng.random((members, rows)), "targets": rng.random((members, rows, F))}[weights]

        def parts(p, targets, w):
            put, kind = there.from_host, "int32" if labels else None
            total, weight, gradient = loss.parts(
                contexts.of(there), put(p), put(targets, kind), None if w is None else put(w)
            )
            weight = np.full(host(total).shape, weight) if isinstance(weight, float) else host(weight)
            return host(total), weight, host(gradient)

        whole = parts(p, targets, w)
        singles = [parts(p[k], targets[k], None if w is None else w[k]) for k in range(members)]
        for found, expected in zip(whole, zip(*singles, strict=True), strict=True):
            same(found, np.stack(expected), exact=library == "numpy")


@pytest.fixture
def put_on():
    def there(library):
        if library not in ("numpy", "array-api-strict"):
            pytest.importorskip(library)
        backend = xmlp.backend(library, dtype="float64")
        return backend, backend.to_host

    return there
