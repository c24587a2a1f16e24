"""The same job on every array library: the same bits where libraries round alike, elsewhere a few roundings apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Mode
from reference import random_bits
from tolerances import check, relative, report  # noqa: F401  (a fixture)

import xmlp
from xmlp.data.batches import batch_order
from xmlp.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual

LAYERS = [
    Dense(12, use_bias=False), BatchNorm(), "gelu", Dropout(0.3),
    Residual([LayerNorm(), Dense(8, activation="tanh"), Dropout(0.2), Dense(12)]), Dense(3),
]  # fmt: skip
ALIKE = ("numpy", "array-api-strict")  # one arithmetic: array-api-strict computes with NumPy


def job(backend: Any, put: Callable[[Any], Any], steps: int = 60, planned: bool | None = None) -> xmlp.Trainer:
    """Sixty steps of Adam with dropout and batch normalisation: 4 epochs of 15 batches."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(120, 6)).astype(np.float32), rng.integers(3, size=120).astype(np.int32)
    network = xmlp.Network(LAYERS, 6, backend=backend, seed=3)
    settings = {"loss": "softmax_cross_entropy", "optimizer": xmlp.optimizers.Adam(0.01), "clip_norm": 2.0}
    trainer = xmlp.Trainer(network, seed=5, planned=planned, **settings)
    trainer.fit(put(x), put(y), epochs=steps // 15, batch_size=8)
    assert trainer.steps == steps
    return trainer


def put(mode: Mode, array: Any, dtype: str) -> Any:
    return mode.put(array, None if array.dtype == np.int32 else dtype)


def host(mode: Mode, trainer: xmlp.Trainer) -> list[Any]:
    return [mode.get(a) for a in (trainer.network.theta, trainer.network.stats, *trainer.run.slots.values())]


def test_parameters_after_sixty_steps(mode: Mode) -> None:
    for dtype in mode.dtypes:
        plain = job(xmlp.backend(dtype=dtype), np.asarray, planned=False)
        true = host(Mode("numpy", "numpy"), plain)
        for planned in (False, None):
            found = job(mode.backend(dtype), lambda a, d=dtype: put(mode, a, d), planned=planned)
            for a, b in zip(host(mode, found), true, strict=True):
                if mode.library in ALIKE and planned is False:
                    assert np.array_equal(a, b), dtype
                elif dtype == "float64":
                    check("parameters after 60 steps, float64, to NumPy", relative(a, b), f"{mode}, planned={planned}")
            if mode.library in ALIKE and planned is False:
                assert found.history["loss"] == plain.history["loss"]
        assert plain.history["loss"][-1] < plain.history["loss"][0]


def test_host_arrays_and_device_arrays_train_alike(mode: Mode) -> None:
    dtype = mode.dtypes[-1]
    device = job(mode.backend(dtype), lambda a: put(mode, a, dtype), steps=15)
    plain = job(mode.backend(dtype), np.asarray, steps=15)
    assert all(np.array_equal(a, b) for a, b in zip(host(mode, device), host(mode, plain), strict=True))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_masks(mode: Mode, rate: float) -> None:
    """The same elements are kept everywhere, those of the hash in plain integers, about as many as the rate says."""
    rows, features, x = 64, 50, np.ones((64, 50), dtype=np.float32)
    expected = []
    for step in range(3):
        for dtype in mode.dtypes:
            network = xmlp.Network([Dropout(rate)], features, backend=mode.backend(dtype))
            kept = mode.get(network.forward(mode.put(x, dtype), training=True, seed=9, step=step)[0]) != 0
            bits = random_bits(rows * features, *network.chain.keys(9, step)[0,]).reshape(rows, features)
            assert np.array_equal(kept, bits >= rate * 2.0**32 - 2.0**31)
        expected.append(kept)
    share = np.mean(expected)
    sigma = np.sqrt(rate * (1 - rate) / np.size(expected))
    check("deviation of a sample from its distribution, in sigma", abs(share - (1 - rate)) / sigma, f"rate {rate}")
    assert not np.array_equal(expected[0], expected[1])


def test_masks_of_layers_and_steps_are_not_related() -> None:
    """Neither equal nor shifted nor permuted: the bits of two keys agree in half of all places."""
    network = xmlp.Network([Dropout(0.5), Dropout(0.5), Residual([Dropout(0.5), Dropout(0.5)])], 4000)
    streams = {
        (site, step): random_bits(4000, *key) for step in range(3) for site, key in network.chain.keys(7, step).items()
    }
    streams |= {(site, "other seed"): random_bits(4000, *key) for site, key in network.chain.keys(8, 0).items()}
    assert len(streams) == 16
    assert len({key for step in range(2000) for key in network.chain.keys(7, step).values()}) == 4 * 2000
    names = list(streams)
    for i, a in enumerate(names):
        for b in names[:i]:
            assert not np.array_equal(np.sort(streams[a]), np.sort(streams[b]))
            for shift in (0, 1):
                same = np.mean((streams[a] >= 0) == (np.roll(streams[b], shift) >= 0))
                check(
                    "deviation of a sample from its distribution, in sigma",
                    abs(same - 0.5) / (0.5 / np.sqrt(4000)),
                    (a, b),
                )


def test_backward_drops_what_forward_dropped(mode: Mode) -> None:
    network = xmlp.Network([Dropout(0.4)], 30, backend=mode.backend())
    x, dy = np.full((20, 30), 3.0, dtype=np.float32), np.full((20, 30), 5.0, dtype=np.float32)
    y, caches = network.forward(mode.put(x), training=True, step=4)
    dx, _ = network.backward(caches, mode.put(dy))
    assert np.array_equal(mode.get(y) / 3, mode.get(dx) / 5)
    again, _ = network.forward(mode.put(x), training=True, step=4)
    assert np.array_equal(mode.get(again), mode.get(y))
    assert np.array_equal(mode.get(network.forward(mode.put(x))[0]), x)


def test_batches_come_in_the_same_order(mode: Mode) -> None:
    """Seen through a layer of one weight per row: with SGD, the rows in the order of the epoch and no other."""
    rows, order = 16, []

    class Spy:
        def on_step_end(self, trainer: xmlp.Trainer) -> None:
            order.append(np.flatnonzero(mode.get(trainer.network.theta)))

    network = xmlp.Network([Dense(1, use_bias=False, kernel_initializer=0.0)], rows, backend=mode.backend())
    trainer = xmlp.Trainer(network, loss="squared_error", optimizer=xmlp.optimizers.SGD(0.1), callbacks=[Spy()], seed=6)
    trainer.fit(np.eye(rows), np.ones((rows, 1)), epochs=1, batch_size=4)
    seen = [set(now) - set(before) for before, now in zip([(), *order], order, strict=False)]
    assert seen == [set(block) for block in batch_order(rows, seed=6, epoch=0).reshape(4, 4).tolist()]


def test_the_order_of_batches() -> None:
    """Every row once, no order twice, uniform: over many epochs each row comes first about as often."""
    orders = np.stack([batch_order(12, seed=1, epoch=e) for e in range(2400)])
    assert np.array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(12), orders.shape))
    assert len({tuple(o) for o in orders[:200].tolist()}) == 200
    assert not np.array_equal(orders[0], batch_order(12, seed=2, epoch=0))
    assert batch_order(12, seed=1, epoch=0, shuffle=False).tolist() == list(range(12))
    counts = np.stack([np.bincount(orders[:, k], minlength=12) for k in range(12)])
    chi_squared = np.sum((counts - 200) ** 2 / 200)
    check("deviation of a sample from its distribution, in sigma", (chi_squared - 121) / np.sqrt(2 * 121), "order")
