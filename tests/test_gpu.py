"""On a CUDA device, through CuPy: run by `ci/gpu_check`, skipped without one."""

import numpy as np
import pytest
from conftest import missing

import xmlp

REASON = missing("cupy")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"no CUDA device: {REASON}")]
RNG = np.random.default_rng(11)
X, Y = RNG.normal(size=(300, 20)), RNG.integers(0, 6, 300)
OPTIMIZERS = [
    xmlp.optimizers.SGD(0.05, momentum=0.9, nesterov=True), xmlp.optimizers.Adagrad(0.05),
    xmlp.optimizers.RMSProp(1e-3), xmlp.optimizers.Adam(1e-3), xmlp.optimizers.AdamW(1e-3),
]  # fmt: skip
# G5: relative to the largest parameter
BOUNDS = {"float32": 1e-4, "float64": 1e-9}


def network(backend, dtype="float32", **kw):
    settings = {"dropout": 0.2, "normalization": "batch", "seed": 3, **kw}
    return xmlp.mlp([20, 64, 32, 6], "gelu", backend=backend, dtype=dtype, **settings)


def trained(backend, dtype="float32", optimizer=None, epochs=1, planned=None, **kw):
    net = network(backend, dtype, **kw)
    optimizer = optimizer or xmlp.optimizers.AdamW(1e-3)
    trainer = xmlp.Trainer(net, loss="softmax_cross_entropy", optimizer=optimizer, clip_norm=5.0, planned=planned)
    trainer.fit(X, Y, epochs=epochs, batch_size=32)
    return net, trainer


def host(net):
    return net.backend.to_host(net.theta).astype("f8")


def distance(a, b):
    return float(np.abs(host(a) - host(b)).max() / np.abs(host(b)).max())


@pytest.fixture
def cupy():
    import cupy

    return cupy


# --- parity and gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_epoch_gives_the_parameters_of_numpy(dtype, optimizer, planned):
    found, _ = trained("cupy", dtype, optimizer, planned=planned)
    expected, _ = trained("numpy", dtype, optimizer, planned=False)
    worst = distance(found, expected)
    print(f"{worst:.1e} <= {BOUNDS[dtype]:.0e}  {optimizer!r} {dtype} planned={planned}")
    assert worst <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_and_gradients(dtype):
    here, there = network("cupy", dtype, dropout=0.0), network("numpy", dtype, dropout=0.0)
    bound = {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert np.abs(here.predict(X) - there.predict(X)).max() <= bound
    loss = xmlp.losses.SoftmaxCrossEntropy()
    _, found = here.value_and_grad(X, Y, loss)
    _, expected = there.value_and_grad(X, Y, loss)
    assert np.abs(here.backend.to_host(found.flat) - expected.flat).max() <= bound


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_gradients_against_finite_differences(normalization):
    net = xmlp.mlp([5, 8, 3], "tanh", normalization=normalization, backend="cupy", dtype="float64")
    xmlp.testing.check_gradients(net, X[:12, :5], Y[:12] % 3, xmlp.losses.SoftmaxCrossEntropy())


def test_every_formula_on_the_device(cupy):
    from cuda_static.every import arguments, formulas, scalars

    for dtype, bound in (("float32", 2e-6), ("float64", 4e-15)):
        backend = xmlp.backend("cupy", dtype=dtype)
        for name, formula in formulas().items():
            arrays, given = arguments(formula, dtype, np.random.default_rng(0)), scalars(formula)
            found = backend.apply(formula, *map(cupy.asarray, arrays), **given)
            with np.errstate(all="ignore"):
                expected = formula.evaluate(xmlp.backend("numpy").xp, *arrays, **given)
            pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
            for f, e in pairs:
                f, e = cupy.asnumpy(f).astype("f8"), np.asarray(e).astype("f8")
                with np.errstate(all="ignore"):
                    difference = np.abs(f - e) / np.maximum(np.abs(e), 1)
                same = (f == e) | (np.isnan(f) & np.isnan(e))
                assert np.max(np.where(same, 0, difference)) <= bound, f"{name} {dtype}"


# --- determinism, checkpoints -----------------------------------------------------------------------------------------


def test_twenty_runs_are_equal_bit_by_bit():
    assert len({host(trained("cupy", epochs=2)[0]).tobytes() for _ in range(20)}) == 1


def test_initial_weights_are_those_of_numpy():
    assert (host(network("cupy")) == host(network("numpy"))).all()


def test_a_saved_network_is_the_same_elsewhere(tmp_path):
    net, _ = trained("cupy")
    net.save(tmp_path / "m.safetensors")
    on_numpy, again = (xmlp.load(tmp_path / "m.safetensors", backend=b) for b in ("numpy", "cupy"))
    assert host(again).tobytes() == host(net).tobytes() == host(on_numpy).tobytes()
    assert (again.predict(X) == net.predict(X)).all()
    assert np.abs(on_numpy.predict(X) - net.predict(X)).max() <= 1e-5


# --- a lean step ------------------------------------------------------------------------------------------------------


def test_no_synchronisation_within_steps(cupy):
    import cupyx

    _, trainer = trained("cupy")
    advance, seen = trainer.run.advance, []

    def watched(chunk, sums):
        with cupyx.allow_synchronize(False):
            result = advance(chunk, sums)
        seen.append(chunk.steps)
        return result

    trainer.run.advance = watched
    trainer.fit(X, Y, epochs=2, batch_size=32)
    print(f"0 synchronisations in {sum(seen)} steps")
    assert sum(seen) == 20


def test_launches_are_those_of_the_plan(monkeypatch):
    backend = type(xmlp.backend("cupy"))(None, "float32")
    driver, count = backend.driver, []

    def counted(function):
        return lambda *arguments: (count.append(1), function(*arguments))[1]

    kernel = driver.kernel
    monkeypatch.setattr(driver, "kernel", lambda launch: counted(kernel(launch)))
    for name in ("product", "copy"):
        monkeypatch.setattr(driver, name, counted(getattr(driver, name)))
    net = xmlp.mlp([784, 512, 512, 10], backend=backend)
    trainer = xmlp.Trainer(net, loss="softmax_cross_entropy", optimizer="adam")
    x = np.random.default_rng(0).integers(0, 256, (1280, 784)).astype(np.uint8)
    trainer.fit(x, np.arange(1280) % 10, epochs=1, batch_size=128)
    print(f"{len(count) / 10:g} launches per step <= 20")
    assert len(count) == 10 * trainer.plan(128).launches <= 200


def test_memory_is_stable_after_the_second_step(cupy):
    _, trainer = trained("cupy", epochs=2)
    pool = cupy.get_default_memory_pool()
    before = pool.total_bytes()
    trainer.fit(X, Y, epochs=20, batch_size=32)
    assert pool.total_bytes() == before


def test_streaming_is_the_same_training():
    whole, _ = trained("cupy", epochs=3)
    net = network("cupy")
    trainer = xmlp.Trainer(net, loss="softmax_cross_entropy", optimizer=xmlp.optimizers.AdamW(1e-3), clip_norm=5.0)
    trainer.fit(xmlp.model.stream.Stream(trainer, X, Y, batch_size=32), epochs=3)
    assert host(net).tobytes() == host(whole).tobytes()


def test_tf32_is_less_exact_and_only_when_asked_for(cupy):
    x = RNG.normal(size=(512, 20))
    expected = network("numpy", "float64").predict(x)
    plain = np.abs(network("cupy").predict(x) - expected).max()
    rounded = np.abs(network(xmlp.backend("cupy", tf32=True)).predict(x) - expected).max()
    print(f"float32 {plain:.1e}, TF32 {rounded:.1e}")
    assert plain <= 1e-5
    assert rounded <= 1e-2


# --- memory, devices, other libraries ---------------------------------------------------------------------------------


def test_a_full_device(cupy):
    pool = cupy.get_default_memory_pool()
    net = xmlp.mlp([64, 4096, 4096, 10], backend="cupy")
    trainer = xmlp.Trainer(net, loss="softmax_cross_entropy", optimizer="sgd")
    x, y = np.zeros((32768, 64), np.uint8), np.zeros(32768, int)
    expected = net.predict(x[:100])
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 2**28)
    try:
        with pytest.raises(xmlp.DeviceMemoryError, match=r"32768 rows.*bytes are free"):
            trainer.fit(x, y, epochs=1, batch_size=32768)
        assert trainer.steps == 0
        assert net.predict(x, batch_size=32768).shape == (32768, 10)
        assert np.abs(net.predict(x)[:100] - expected).max() <= 1e-5
    finally:
        pool.set_limit(size=0)


def test_a_second_device(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        with pytest.raises(xmlp.BackendError, match="there is no CUDA device 1: this machine has 1"):
            xmlp.backend("cupy:1")
        pytest.skip("one device")
    first, _ = trained("cupy:0")
    second, _ = trained("cupy:1")
    assert second.theta.device.id == 1
    assert distance(second, first) <= 1e-6
    with pytest.raises(TypeError, match="x is on device"):
        first.predict(cupy.asarray(X.astype("f4")))


def test_arrays_of_torch_are_shared_without_a_copy(cupy):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch without CUDA")
    net = network("cupy")
    x = torch.asarray(X.astype("f4"), device="cuda")
    found = net.predict(x)
    assert isinstance(found, cupy.ndarray)
    assert torch.from_dlpack(found).data_ptr() == found.data.ptr
    assert np.abs(cupy.asnumpy(found) - net.predict(X)).max() <= 1e-6
