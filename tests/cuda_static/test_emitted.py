"""The emitted C, built by gcc and run on this CPU, beside the plain evaluation of the same formulas and steps."""

import array_api_compat.numpy as xp
import numpy as np
import pytest
from cuda_static.every import arguments, formulas, input_dtypes, scalars
from cuda_static.host import HostBackend, compiler

import xmlp
from xmlp.compiler.c import elementwise_code, literal, operation
from xmlp.graph.node import OPS

BOUNDS = {"float32": 5e-7, "float64": 1e-15}
# no fusing of multiply and add, and all that there is: a device fuses some
ARITHMETIC = {"separate": ("-ffp-contract=off",), "fused": ("-ffp-contract=fast", "-march=x86-64-v3")}


@pytest.fixture(autouse=True)
def _gcc():
    compiler()


def can_fuse():
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return " fma " in file.read()


def error(found, expected):
    """The largest difference relative to max(1, |f|); infinities and nan must agree."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind != "f":
        return float((found != expected).any())
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(all="ignore"):
        difference = np.abs(found.astype("f8") - expected.astype("f8")) / np.maximum(np.abs(expected.astype("f8")), 1)
    return float(np.max(np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", formulas())
def test_a_formula_in_c_is_the_formula(name, dtype, rng):
    formula = formulas()[name]
    arrays, given = arguments(formula, dtype, rng), scalars(formula)
    backend = HostBackend(dtype)
    found = backend.apply(formula, *arrays, **given)
    with np.errstate(all="ignore"):
        expected = formula.evaluate(xp, *arrays, **given)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    worst = max(error(f, e) for f, e in pairs)
    print(f"{worst:.2e} <= {BOUNDS[dtype]:.0e}  {name} {dtype}")
    assert backend.driver.launches == bool(input_dtypes(formula)), "it was the C that ran"
    assert worst <= BOUNDS[dtype]


def test_the_whole_vocabulary_has_c():
    """Every operation, on every dtype that it takes."""
    for name, op in OPS.items():
        for kind in op.takes:
            dtype = {"float": "float32"}.get(kind, kind)
            if not name.startswith("astype") and (name, dtype) != ("pow", "int32"):
                assert operation(name, ["a", "b", "c"][: op.arity], dtype, [None] * op.arity)
    with pytest.raises(NotImplementedError, match="pow of int32"):
        operation("pow", ["a", "b"], "int32", [None, None])


@pytest.mark.parametrize("value", [0.1, -1e-45, 3.4028234663852886e38, 1e39, -np.inf, np.nan, 1 / 3, 2.0**-149])
def test_literals_are_exact(value):
    formula = xmlp.elementwise(lambda xp, x: xp.where(x > 0, x, value))
    for dtype in ("float32", "float64"):
        with np.errstate(over="ignore"):
            found, expected = HostBackend(dtype).apply(formula, np.zeros(1, dtype))[0], np.asarray(value).astype(dtype)
        assert found == expected or (np.isnan(found) and np.isnan(expected))
    assert literal(-(2**31), "int32") == "(-2147483647 - 1)"


def test_a_result_may_take_the_place_of_an_input():
    """All inputs are read before a result is written."""
    for formula in (xmlp.optimizers.Adam().rule, xmlp.activations.gelu.pullback):
        lines = elementwise_code(formula.graph, "float32").body.splitlines()
        written = [line.startswith("y") for line in lines]
        assert written == sorted(written)


# --- whole trainings --------------------------------------------------------------------------------------------------


@xmlp.elementwise
def bumpy(xp, x):
    """Nobody has heard of it."""
    return x + xp.tanh(x) ** 2


def _network(kind, dtype, backend):
    dense, layers = xmlp.layers.Dense, xmlp.layers
    common = {"backend": backend, "dtype": dtype, "seed": 1}
    if kind == "relu":
        return xmlp.mlp([12, 24, 16, 5], "relu", **common)
    if kind == "dropout, batch normalisation":
        return xmlp.mlp(
            [12, 24, 16, 5], "gelu", dropout=0.3, normalization="batch", backend=backend, dtype=dtype, seed=2
        )
    if kind == "layer normalisation":
        return xmlp.mlp([12, 24, 5], "silu", normalization="layer", backend=backend, dtype=dtype, seed=3)
    if kind == "custom formula":
        return xmlp.mlp([12, 24, 5], bumpy, backend=backend, dtype=dtype, seed=4)
    parts = [
        layers.Standardize(mean=8.0, scale=4.0),
        dense(16, activation="mish"),
        layers.Residual([dense(16, "tanh")]),
        dense(5),
    ]
    return xmlp.Network(parts, 12, backend=backend, dtype=dtype, seed=5)


RUNS = {
    "relu": ("softmax_cross_entropy", xmlp.optimizers.Adam(1e-3), {}),
    "dropout, batch normalisation": ("softmax_cross_entropy", xmlp.optimizers.AdamW(1e-3), {"clip_norm": 1, "l2": 0.1}),
    "layer normalisation": ("binary_cross_entropy", xmlp.optimizers.RMSProp(1e-3), {"l1": 1e-4}),
    "custom formula": ("squared_error", xmlp.optimizers.SGD(0.01, momentum=0.9, nesterov=True), {}),
    "bytes": ("huber", xmlp.optimizers.Adagrad(0.01), {}),
}  # fmt: skip


def _data(kind, rng):
    x = rng.integers(0, 17, (150, 12)).astype(np.uint8) if kind == "bytes" else rng.normal(size=(150, 12))
    loss = RUNS[kind][0]
    y = rng.integers(0, 5, 150) if loss.startswith("softmax") else rng.integers(0, 2, (150, 5)).astype("f8")
    return x, y


def _trained(kind, backend, dtype, planned):
    loss, optimizer, settings = RUNS[kind]
    x, y = _data(kind, np.random.default_rng(7))
    network = _network(kind, dtype, backend)
    trainer = xmlp.Trainer(network, loss=loss, optimizer=optimizer, planned=planned, **settings)
    weights = np.linspace(0.5, 1.5, 150) if kind == "relu" else None
    trainer.fit(x, y, epochs=12, batch_size=32, sample_weight=weights)
    assert trainer.steps == 60
    return network, trainer


def _distance(a, b):
    return float(np.abs(a.theta.astype("f8") - b.theta).max() / np.abs(b.theta).max())


@pytest.mark.parametrize("kind", RUNS)
def test_sixty_steps_by_the_emitted_c(kind):
    """Planned as on a device, against plain NumPy in float32."""
    plain, _ = _trained(kind, "numpy", "float32", planned=False)
    backend = HostBackend("float32")
    network, trainer = _trained(kind, backend, "float32", planned=True)
    distance = _distance(network, plain)
    print(f"{distance:.1e} <= 1e-05  parameters after 60 steps, {kind}")
    assert distance <= 1e-5
    x, _ = _data(kind, np.random.default_rng(7))
    assert error(network.predict(x), plain.predict(x)) <= 1e-5
    backend.driver.launches = 0
    trainer.fit(*_data(kind, np.random.default_rng(7)), epochs=1, batch_size=32)
    per_epoch = 4 * trainer.plan(32).launches + trainer.plan(22).launches
    assert backend.driver.launches == per_epoch, "the plan was replayed, launch by launch"


@pytest.mark.parametrize("kind", ["relu", "dropout, batch normalisation"])
def test_sixty_steps_formula_by_formula(kind):
    """Unplanned: array at a time, formulas as elementwise kernels; and in float64, planned."""
    plain, _ = _trained(kind, "numpy", "float32", planned=False)
    network, _ = _trained(kind, HostBackend("float32"), "float32", planned=False)
    assert _distance(network, plain) <= 1e-5
    exact, _ = _trained(kind, "numpy", "float64", planned=False)
    planned, _ = _trained(kind, HostBackend("float64"), "float64", planned=True)
    assert _distance(planned, exact) <= 1e-12


@pytest.mark.parametrize(("batch", "sizes"), [(600, (40, 70, 90)), (33, (600, 520, 3)), (1, (5, 7, 2)), (3000, (4, 3))])
@pytest.mark.parametrize("normalization", [None, "layer", "batch"])
def test_many_blocks_and_few(normalization, batch, sizes):
    """Sums that several blocks make, in float64, where a row or a block that is left out shows."""
    rng = np.random.default_rng(3)
    batch = max(batch, 2) if normalization == "batch" else batch  # one row has no variance
    x, y = rng.normal(size=(2 * batch + 1, sizes[0])), rng.integers(0, sizes[-1], 2 * batch + 1)

    def trained(backend, planned):
        network = xmlp.mlp(sizes, "tanh", normalization=normalization, backend=backend, dtype="float64", seed=2)
        optimizer = xmlp.optimizers.SGD(0.1, momentum=0.9)
        settings = {"loss": "softmax_cross_entropy", "optimizer": optimizer, "clip_norm": 0.1, "l2": 0.01}
        trainer = xmlp.Trainer(network, planned=planned, **settings)
        history = trainer.fit(x, y, epochs=2, batch_size=batch, sample_weight=np.linspace(1, 2, len(x)))
        return network, history["loss"] + history["penalty"]

    plain, expected = trained("numpy", False)
    found, losses = trained(HostBackend("float64"), True)
    assert _distance(found, plain) <= 1e-12
    assert np.abs(np.subtract(losses, expected)).max() <= 1e-12


def test_fused_multiply_and_add():
    """As a device contracts products and sums."""
    if not can_fuse():
        pytest.skip("this processor does not fuse multiply and add")
    plain, _ = _trained("dropout, batch normalisation", "numpy", "float32", planned=False)
    backend = HostBackend("float32", *ARITHMETIC["fused"])
    network, _ = _trained("dropout, batch normalisation", backend, "float32", planned=True)
    assert 0 < _distance(network, plain) <= 1e-5


def test_runs_are_repeated_bit_by_bit():
    first, second = (_trained("dropout, batch normalisation", HostBackend(), "float32", True)[0] for _ in range(2))
    assert first.theta.tobytes() == second.theta.tobytes()
