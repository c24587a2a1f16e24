"""No value crosses between host and device inside a step, and none reads an array: guarded on array-api-strict.

The guard makes every way out of a strict array raise except through the backend's two doors, and counts the doors. A
self-test plants each kind of leak. The second detector is `jax.jit`, under which the whole step runs.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import array_api_strict as strict
import numpy as np
import pytest
from conftest import require

import xmlp
from xmlp.backends.base import Backend
from xmlp.layers import BatchNorm, Dense, Dropout, Layer, LayerNorm, Residual, Standardize

EXITS = ("__float__", "__int__", "__bool__", "__index__", "__complex__", "__array__", "__dlpack__", "to_device")


class Leak(AssertionError):
    """A value left the device outside the two doors."""


@contextmanager
def guarded():
    """Yields the list of doors that were passed; any other way out raises Leak."""
    kind = type(strict.empty(0))
    patch, passed, inside = pytest.MonkeyPatch(), [], []

    def closed(name):
        original = getattr(kind, name)

        def method(self, *args, **kwargs):
            if inside:
                return original(self, *args, **kwargs)
            raise Leak(f"an array was read through {name}")

        return method

    def door(name):
        original = getattr(Backend, name)

        def method(self, *args, **kwargs):
            passed.append(name)
            inside.append(name)
            try:
                return original(self, *args, **kwargs)
            finally:
                inside.pop()

        return method

    for name in EXITS:
        if hasattr(kind, name):
            patch.setattr(kind, name, closed(name))
    if hasattr(kind, "__buffer__"):
        patch.setattr(kind, "__buffer__", closed("__buffer__"))
    for name in ("from_host", "to_host"):
        patch.setattr(Backend, name, door(name))
    try:
        yield passed
    finally:
        patch.undo()


def network(*extra, backend="array-api-strict"):
    layers = [
        Standardize(mean=0.5), Dense(8, activation="gelu"), BatchNorm(), Dropout(0.3), *extra,
        Residual([LayerNorm(), Dense(8, activation="sigmoid")]), Dense(3),
    ]  # fmt: skip
    return xmlp.Network(layers, 5, backend=backend)


OPTIMIZERS = [
    xmlp.optimizers.SGD(0.1), xmlp.optimizers.SGD(0.1, momentum=0.9, nesterov=True), xmlp.optimizers.Adagrad(0.1),
    xmlp.optimizers.RMSProp(), xmlp.optimizers.Adam(), xmlp.optimizers.AdamW(xmlp.schedules.OneCycle(1e-3, 10)),
]  # fmt: skip
X, Y = np.random.default_rng(0).normal(size=(24, 5)), np.arange(24) % 3


def trainer_of(net, **kw):
    settings = {"loss": "softmax_cross_entropy", "optimizer": "adam", "l2": 1e-3, "clip_norm": 1.0, **kw}
    return xmlp.Trainer(net, **settings)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_no_crossing_within_a_step(optimizer):
    trainer = trainer_of(network(), optimizer=optimizer)
    crossings = []
    advance = trainer.run.advance

    def watched(chunk, sums):
        before = len(passed)
        result = advance(chunk, sums)
        crossings.append(len(passed) - before)
        return result

    trainer.run.advance = watched
    with guarded() as passed:
        trainer.fit(X, Y, epochs=2, batch_size=8)
    assert crossings == [0] * 6
    assert passed.count("to_host") == 2, "one reading per epoch: the sums"
    print(f"{optimizer}: crossings per step {set(crossings)}, readings per epoch {passed.count('to_host') / 2:g}")


@dataclass(frozen=True)
class Leaky(Layer):
    leak: object

    def build(self, in_features):
        return in_features, {}

    def forward(self, params, x, ctx):
        self.leak(x)
        return x, None

    def backward(self, params, cache, dy, ctx):
        return dy, {}


LEAKS = {
    "float": lambda x: float(x[0, 0]),
    "int": lambda x: int(strict.astype(x[0, 0], strict.int32)),
    "bool": lambda x: bool(strict.any(x > 0)),
    "if": lambda x: 1 if strict.all(x > 0) else 0,
    "index": lambda x: [0, 1][strict.astype(x[0, 0] > 1e9, strict.int32)],
    "asarray": lambda x: np.asarray(x),
    "from_dlpack": lambda x: np.from_dlpack(x),
    "to_device": lambda x: x.to_device(strict.Device("CPU_DEVICE")),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_caught(name):
    trainer = trainer_of(network(Leaky(LEAKS[name])))
    with guarded(), pytest.raises((Leak, BufferError)):
        trainer.fit(X, Y, epochs=1, batch_size=8)


def test_the_guard_itself_lets_a_clean_network_pass_and_ends():
    with guarded():
        trainer_of(network()).fit(X, Y, epochs=1)
    assert float(strict.asarray(1.5)) == 1.5


@pytest.mark.parametrize("name", ["float", "bool", "asarray"])
def test_the_jitted_step_refuses_a_leak_too(name):
    require("jax")
    import jax

    leaks = {"float": lambda x: float(x[0, 0]), "bool": lambda x: bool((x > 0).any()), "asarray": np.asarray}
    trainer = trainer_of(network(Leaky(leaks[name]), backend="jax"))
    with pytest.raises((jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
        trainer.fit(X, Y, epochs=1)


def test_the_whole_step_is_compiled_once_per_shape_under_jit():
    require("jax")
    trainer = trainer_of(network(backend="jax"), optimizer=xmlp.optimizers.AdamW(xmlp.schedules.Cosine(1e-2, 40)))
    trainer.fit(X, Y, epochs=5, batch_size=8)
    assert trainer.run.runner._function._cache_size() == 1
