"""Networks as people use them: what goes in and comes out, on every backend."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import Mode, require

import xmlp
from xmlp.backends import owner
from xmlp.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, ParamSpec, Residual, Standardize

X = np.random.default_rng(1).normal(size=(17, 3))
LABELS = np.arange(17) % 4
LAYERS = [
    Dense(6, "tanh"),
    BatchNorm(),
    Dropout(0.5),
    Residual([Dense(5, "relu"), LayerNorm(), Dense(6)]),
    "silu",
    Dense(4),
]


def made(mode: Mode, dtype: str = "float32", layers: Any = LAYERS, **kw: Any) -> xmlp.Network:
    return xmlp.Network(layers, 3, backend=mode.backend(dtype), seed=3, **kw)


def reference(layers: Any = LAYERS, **kw: Any) -> xmlp.Network:
    return xmlp.Network(layers, 3, dtype="float64", seed=3, **kw)


# --- predict ----------------------------------------------------------------------------------------------------------


def test_host_in_host_out_device_in_device_out(mode: Mode) -> None:
    network = made(mode)
    expected = reference().predict(X)
    from_host, device = network.predict(X), mode.put(X)
    from_device = network.predict(device)
    assert type(from_host) is np.ndarray
    assert from_host.dtype == np.float32
    assert owner(from_device) == mode.library
    assert type(from_device) is type(device)
    assert mode.backend().device_of(from_device) == str(mode.backend().device)
    assert from_host.tobytes() == mode.get(from_device).tobytes()
    assert np.abs(from_host - expected).max() < 1e-5
    assert from_host.shape == (17, 4)


@pytest.mark.parametrize("home", ["numpy", "jax"])
def test_an_array_of_another_library_on_the_same_device(home: str) -> None:
    """A tensor of PyTorch on the CPU is read where it lies."""
    require("torch")
    require(home)
    import torch

    network = xmlp.Network(LAYERS, 3, backend=home, seed=3)
    x = np.float32(X)
    got = network.predict(torch.from_numpy(x))
    assert owner(got) == home
    assert np.asarray(got).tobytes() == network.predict(x).tobytes()
    loss, _ = network.value_and_grad(torch.from_numpy(x), torch.from_numpy(LABELS), "softmax_cross_entropy")
    assert float(loss) == float(network.value_and_grad(x, LABELS, "softmax_cross_entropy")[0])


def test_rows_do_not_depend_on_one_another(mode: Mode) -> None:
    network = made(mode)
    whole = network.predict(X)
    sizes = (5,) if mode.library == "jax" else (1, 2, 5, 16, 17, 1000)  # which compiles every size anew
    for size in sizes:
        got = network.predict(X, batch_size=size)
        assert got.shape == whole.shape
        assert np.abs(got - whole).max() <= 1e-6, size
    order = np.random.default_rng(0).permutation(17)
    assert np.abs(network.predict(X[order]) - whole[order]).max() <= 1e-6
    assert np.abs(network.predict(X[3]) - whole[3:4]).max() <= 1e-6
    device = network.predict(mode.put(X), batch_size=5)
    assert np.abs(mode.get(device) - whole).max() <= 1e-6
    network.link = "softmax"
    assert np.abs(network.predict_proba(X, batch_size=5) - network.predict_proba(X)).max() <= 1e-6
    assert (network.predict_label(X, batch_size=5) == network.predict_label(X)).all()


def test_prediction_changes_nothing(mode: Mode) -> None:
    network = made(mode)
    before = mode.get(network.theta).tobytes(), mode.get(network.stats).tobytes()
    network.predict(X)
    network.link = "softmax"
    network.predict_label(X)
    network.predict_proba(X)
    assert (mode.get(network.theta).tobytes(), mode.get(network.stats).tobytes()) == before


def test_many_threads_predict_what_one_does() -> None:
    network = xmlp.Network(LAYERS, 3, seed=3)
    inputs = [np.random.default_rng(i).normal(size=(1 + i % 5, 3)).astype(np.float32) for i in range(40)]
    expected = [network.predict(x).tobytes() for x in inputs]
    wrong: list[Any] = []
    barrier = threading.Barrier(8)

    def work(first: int) -> None:
        barrier.wait()
        for n in range(300):
            i = (first * 5 + n) % len(inputs)
            try:
                if network.predict(inputs[i]).tobytes() != expected[i]:
                    wrong.append(i)
            except BaseException as error:  # carried to the main thread
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- probabilities and decisions --------------------------------------------------------------------------------------


def linear(mode: Mode, outputs: int, link: str = "identity", dtype: str = "float32") -> xmlp.Network:
    """A network whose outputs are its inputs."""
    layers = [Dense(outputs, use_bias=False, kernel_initializer="zeros")]
    network = xmlp.Network(layers, outputs, backend=mode.backend(dtype))
    network.theta = np.eye(outputs).ravel()
    network.link = link
    return network


Z = np.asarray([[0.0, 1.0, -1.0], [-1e-3, 1e-3, 0.0], [5.0, -5.0, 2.0], [0.0, 0.0, 0.0]])


def test_softmax_probabilities(mode: Mode) -> None:
    network = linear(mode, 3, "softmax")
    p = network.predict_proba(Z)
    e = np.exp(Z)
    assert np.abs(p - e / e.sum(axis=1, keepdims=True)).max() < 1e-6
    assert network.predict_label(Z).tolist() == [1, 1, 0, 0]
    on_device = network.predict_label(mode.put(Z))
    assert owner(on_device) == mode.library
    assert mode.get(on_device).tolist() == [1, 1, 0, 0]
    with pytest.raises(ValueError, match="thresholds belong to a sigmoid link"):
        network.predict_label(Z, thresholds=0.5)


def test_sigmoid_decisions(mode: Mode) -> None:
    """Strictly greater than the threshold; exactly 0.5 is no."""
    network = linear(mode, 3, "sigmoid")
    assert np.abs(network.predict_proba(Z) - 1 / (1 + np.exp(-Z))).max() < 1e-6
    assert network.predict_label(Z).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]
    assert (network.predict_label(Z) == network.predict_label(Z, thresholds=0.5)).all()
    assert network.predict_label(Z, thresholds=[0.4, 0.9, 0.2]).tolist() == [[1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1]]
    assert network.predict_label(Z, thresholds=0.0).min() == 1
    assert network.predict_label(Z, thresholds=1.0).max() == 0
    on_device = network.predict_label(mode.put(Z), thresholds=np.asarray([0.4, 0.9, 0.2]))
    assert owner(on_device) == mode.library
    assert mode.get(on_device).tolist() == [[1, 0, 1]] * 4
    single = linear(mode, 1, "sigmoid").predict_label(np.asarray([[-1.0], [0.0], [0.5]]))
    assert single.tolist() == [0, 0, 1]
    for wrong in ([0.5, 0.5], [[0.5] * 3], float("nan"), "half"):
        with pytest.raises(ValueError, match=r"thresholds|could not convert"):
            network.predict_label(Z, thresholds=wrong)


def test_an_identity_link_has_no_probabilities(mode: Mode) -> None:
    network = linear(mode, 3)
    for call in (network.predict_proba, network.predict_label):
        with pytest.raises(ValueError, match='this network has link "identity"'):
            call(Z)


@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_an_output_activation_is_the_link(link: str, mode: Mode) -> None:
    """It is applied once, and fused with its cross-entropy: value and gradients are those at the logits."""
    loss = {"sigmoid": "binary_cross_entropy", "softmax": "softmax_cross_entropy"}[link]
    y = (Z[:, ::-1] > 0).astype(float) if link == "sigmoid" else np.asarray([2, 0, 1, 1])
    network = xmlp.mlp([3, 4, 3], "tanh", link, backend=mode.backend(), seed=1)
    logits = xmlp.mlp([3, 4, 3], "tanh", backend=mode.backend(), seed=1)
    split = xmlp.Network([Dense(4, "tanh"), Dense(3), link], 3, backend=mode.backend(), seed=1)
    logits.theta = split.theta = mode.get(network.theta)
    assert (network.link, logits.link, split.link) == (link, "identity", link)
    logits.link = link
    for other in (logits, split):
        assert np.abs(network.predict_proba(Z) - other.predict_proba(Z)).max() < 1e-6
        assert (network.predict_label(Z) == other.predict_label(Z)).all()
        value, grads = other.value_and_grad(Z, y, loss)
        expected, expected_grads = network.value_and_grad(Z, y, loss)
        assert abs(mode.get(value) - mode.get(expected)) < 1e-6
        assert np.abs(mode.get(grads.flat) - mode.get(expected_grads.flat)).max() < 1e-6
    assert np.abs(network.predict(Z) - network.predict_proba(Z)).max() == 0
    at_probabilities = type(xmlp.losses.get(loss))(from_logits=False)
    fused = network.value_and_grad(Z, y, at_probabilities)
    assert mode.get(fused[0]) == mode.get(expected)
    assert mode.get(fused[1].flat).tobytes() == mode.get(expected_grads.flat).tobytes()
    assert np.abs(mode.get(expected_grads.flat)).max() > 1e-3
    far = 1e4 * np.eye(3)
    values = [mode.get(n.loss_value(far, y[:3], loss)) for n in (network, split)]
    assert np.isfinite(values).all()


def test_the_link_is_saved(tmp_path: Any) -> None:
    network = xmlp.mlp([3, 4])
    network.fit(X, LABELS, epochs=1, loss="softmax_cross_entropy")
    network.save(tmp_path / "m")
    assert network.link == xmlp.load(tmp_path / "m").link == network.to("numpy").link == "softmax"


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_by_layer(mode: Mode) -> None:
    network = made(mode)
    names = [sorted(views) for views in network.parameters]
    assert names == [
        ["W", "b"],
        ["beta", "gamma"],
        [],
        ["0.W", "0.b", "1.beta", "1.gamma", "2.W", "2.b"],
        [],
        ["W", "b"],
    ]
    shapes = {n: tuple(a.shape) for n, a in network.parameters[3].items()}
    assert shapes["0.W"], shapes["2.W"] == ((6, 5), (5, 6))
    assert tuple(network.parameters[5]["W"].shape) == (6, 4)
    assert [sorted(s) for s in network.statistics] == [[], ["mean", "var"], [], [], [], []]
    values = [mode.get(a).ravel() for views in network.parameters for a in views.values()]
    assert sorted(np.concatenate(values).tolist()) == sorted(mode.get(network.theta).tolist())
    assert network.chain.random
    assert not xmlp.mlp([3, 4]).chain.random


def test_parameters_are_views_on_numpy() -> None:
    network = xmlp.Network(LAYERS, 3)
    before = network.predict(X)
    network.parameters[5]["b"][2] += 7.0
    after = network.predict(X)
    assert np.abs(after[:, 2] - before[:, 2] - 7.0).max() < 1e-5
    assert (np.delete(after, 2, 1) == np.delete(before, 2, 1)).all()
    network.parameters[3]["2.W"][...] = 0.0
    assert np.abs(network.predict(X) - after).max() > 1e-3


def test_assigning_theta(mode: Mode) -> None:
    network, other = made(mode), xmlp.Network(LAYERS, 3, backend=mode.backend(), seed=9)
    before, expected = network.theta, other.predict(X)
    assert np.abs(network.predict(X) - expected).max() > 1e-3
    for value in (mode.get(other.theta), mode.get(other.theta).tolist(), other.theta):
        network.theta = np.zeros(network.layout.size)
        network.theta = value
        assert network.predict(X).tobytes() == expected.tobytes()
    if mode.library == "numpy":
        assert network.theta is before, "it is copied into the vector that is there"
    kept = mode.get(network.theta).copy()
    network.theta = np.ones(network.layout.size)
    assert (mode.get(other.theta) == kept).all(), "the vector that was assigned is not shared"
    for wrong, words in (
        (np.zeros(3), "theta has the shape"),
        (np.zeros((1, network.layout.size)), "theta must be a vector"),
        (np.full(network.layout.size, np.nan), "theta contains NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            network.theta = wrong
    assert (mode.get(network.theta) == 1).all()
    network.stats = 2 * np.ones(12)
    assert (mode.get(network.stats) == 2).all()


def test_the_seed_decides_the_initial_parameters(mode: Mode) -> None:
    expected = np.float32(reference().theta)
    assert mode.get(made(mode).theta).tobytes() == expected.tobytes(), "the same on every backend"
    assert mode.get(xmlp.Network(LAYERS, 3, backend=mode.backend(), seed=4).theta).tobytes() != expected.tobytes()


def test_summary() -> None:
    text = xmlp.Network(LAYERS, 3).summary()
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["layer", "outputs", "parameters"]
    assert rows[1] == ["0", "Dense", "6", "24", "activation=tanh"]
    assert rows[3][:4] == ["2", "Dropout", "6", "0"]
    assert rows[4][:4] == ["3", "Residual", "6", "81"]
    assert rows[7] == ["link", "identity", "145"]
    assert len({len(line[:18].rstrip()) <= 18 for line in text.splitlines()}) == 1
    assert repr(xmlp.mlp([2, 3, 1])) == "Network(2-3-1, parameters=13, backend='numpy', dtype='float32')"


def test_moving_there_and_back(mode: Mode, dtype: str) -> None:
    if dtype not in mode.dtypes:
        pytest.skip("this device has no float64")
    home = xmlp.Network(LAYERS, 3, dtype=dtype, seed=3)
    home.stats = np.linspace(0.5, 2.0, 12)
    home.link, home.metadata = "softmax", {"a": 1}
    there = home.to(mode.backend(dtype))
    back = there.to("numpy")
    assert there.backend == mode.backend(dtype)
    assert back.dtype == there.dtype == dtype
    for network in (there, back):
        arrays = network.arrays()
        assert arrays["theta"].tobytes() == home.theta.tobytes()
        assert arrays["stats"].tobytes() == home.stats.tobytes()
        assert (network.link, network.metadata, network.seed) == ("softmax", {"a": 1}, 3)
    assert back.predict(X).tobytes() == home.predict(X).tobytes()
    back.theta = np.zeros(back.layout.size)
    assert np.abs(home.theta).max() > 0, "a copy"
    assert home.to("numpy", dtype="float64").predict(X).dtype == np.float64


# --- passes -----------------------------------------------------------------------------------------------------------


def test_forward_and_backward(mode: Mode) -> None:
    """dx and the gradients against central differences of sum(y * dy) in float64."""
    network, exact = made(mode), reference()
    rng = np.random.default_rng(5)
    dy = rng.normal(size=(17, 4))
    y, caches = network.forward(X)
    assert len(caches) == len(LAYERS)
    assert owner(y) == mode.library
    assert np.abs(mode.get(y) - network.predict(X)).max() < 1e-6
    dx, grads = network.backward(caches, dy)
    for direction in rng.normal(size=(3, 17, 3)):
        numeric = sum(s * (exact.predict(X + s * 1e-5 * direction) * dy).sum() for s in (1, -1)) / 2e-5
        assert abs((mode.get(dx) * direction).sum() - numeric) < 1e-3 * max(1, abs(numeric))
    theta = exact.theta.copy()
    for direction in rng.normal(size=(3, theta.size)):
        numeric = 0.0
        for s in (1, -1):
            exact.theta = theta + s * 1e-5 * direction
            numeric += s * (exact.predict(X) * dy).sum() / 2e-5
        assert abs((mode.get(grads.flat) * direction).sum() - numeric) < 1e-3 * max(1, abs(numeric))


def test_forward_in_training(mode: Mode) -> None:
    network = made(mode)
    inference, (a, caches), (b, _), (c, _) = (
        network.predict(X),
        network.forward(X, training=True, seed=1, step=2),
        network.forward(X, training=True, seed=1, step=2),
        network.forward(X, training=True, seed=1, step=3),
    )
    assert mode.get(a).tobytes() == mode.get(b).tobytes()
    assert np.abs(mode.get(a) - mode.get(c)).max() > 1e-2
    assert np.abs(mode.get(a) - inference).max() > 1e-2
    dx, grads = network.backward(caches, np.ones((17, 4)))
    assert tuple(dx.shape) == (17, 3)
    assert np.isfinite(mode.get(grads.flat)).all()


def test_backward_needs_the_caches(mode: Mode) -> None:
    network = made(mode)
    y, caches = network.forward(X)
    for wrong in (None, [], list(caches), (y, caches), made(mode, layers=[Dense(4)]).forward(X)[1]):
        with pytest.raises(ValueError, match="backward needs the caches that forward returned"):
            network.backward(wrong, np.ones((17, 4)))
    with pytest.raises(ValueError, match=r"dy must be \(N, 4\)"):
        network.backward(caches, np.ones((17, 3)))


def test_value_and_grad(mode: Mode) -> None:
    network = made(mode)
    exact = reference()
    weights = np.linspace(0.0, 2.0, 17)
    for w in (None, weights):
        value, grads = network.value_and_grad(X, LABELS, "softmax_cross_entropy", sample_weight=w)
        expected, expected_grads = exact.value_and_grad(X, LABELS, "softmax_cross_entropy", sample_weight=w)
        assert value.shape == ()
        assert abs(mode.get(value) - expected) < 1e-5
        assert np.abs(mode.get(grads.flat) - expected_grads.flat).max() < 1e-5
        assert tuple(grads.flat.shape) == (network.layout.size,)
    assert [sorted(g) for g in grads] == [sorted(p) for p in network.parameters]
    views = network.layout.views(network.backend.xp, grads.flat)
    for nested, view in zip(grads, views, strict=True):
        for name in nested:
            assert mode.get(nested[name]).tobytes() == mode.get(view[name]).tobytes()
    assert mode.get(network.loss_value(X, LABELS, "softmax_cross_entropy", sample_weight=weights)) == mode.get(value)


def test_value_and_grad_of_other_parameters(mode: Mode) -> None:
    network, other = made(mode), xmlp.Network(LAYERS, 3, backend=mode.backend(), seed=9)
    before = mode.get(network.theta).tobytes()
    expected, expected_grads = other.value_and_grad(X, LABELS, "softmax_cross_entropy")
    for theta in (other.theta, mode.get(other.theta)):
        value, grads = network.value_and_grad(X, LABELS, "softmax_cross_entropy", theta=theta)
        assert mode.get(value) == mode.get(expected)
        assert mode.get(grads.flat).tobytes() == mode.get(expected_grads.flat).tobytes()
    assert mode.get(network.theta).tobytes() == before
    for wrong in (np.zeros(3), np.zeros((1, network.layout.size))):
        with pytest.raises(ValueError, match="theta"):
            network.value_and_grad(X, LABELS, "softmax_cross_entropy", theta=wrong)


# --- standardisation --------------------------------------------------------------------------------------------------


def test_adapt(mode: Mode, dtype: str) -> None:
    if dtype not in mode.dtypes:
        pytest.skip("this device has no float64")
    x = np.stack([1000.0 + X[:, 0], 3.5 * np.ones(17), 1e-3 * X[:, 2]], axis=1)
    network = made(mode, dtype, layers=[Standardize(), Dense(2)])
    theta = mode.get(network.theta).tobytes()
    assert network.adapt(x) is network
    kept = {n: mode.get(a) for n, a in network.statistics[0].items()}
    assert np.abs(kept["mean"] / x.mean(axis=0) - 1).max() < 1e-5
    assert kept["scale"][1] == 1.0
    assert np.abs(kept["scale"][::2] / x.std(axis=0)[::2] - 1).max() < (2e-2 if dtype == "float32" else 1e-9)
    assert mode.get(network.theta).tobytes() == theta
    layer = made(mode, dtype, layers=[Standardize()]).adapt(x)
    z = layer.predict(x)
    assert np.abs(z[:, 1]).max() == 0
    assert np.abs(z[:, 2].mean()) < 1e-5
    assert np.abs(z[:, 2].std() - 1) < 1e-5


def test_adapt_to_extreme_columns() -> None:
    x = X * np.asarray([1e300, 1e-300, 1.0])
    z = reference([Standardize()]).adapt(x).predict(x)
    assert np.abs(z.mean(axis=0)).max() < 1e-12
    assert np.abs(z.std(axis=0) - 1).max() < 1e-12
    network = xmlp.Network([Standardize()], 3)
    before = network.stats.tobytes()
    with pytest.raises(ValueError, match="does not fit in float32"):
        network.adapt(x)
    assert network.stats.tobytes() == before


def test_adapt_to_bytes(mode: Mode) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 3)).astype(np.uint8)
    for given in (x, mode.put(x, None)):
        network = made(mode, layers=[Standardize()]).adapt(given)
        assert np.abs(network.predict(x) - (x - x.mean(axis=0)) / x.std(axis=0)).max() < 1e-5


def test_adapt_needs_a_standardize_at_the_head() -> None:
    for layers, at in (([Dense(3)], []), ([Dense(3), Standardize()], [1]), ([Standardize(), Standardize()], [0, 1])):
        with pytest.raises(ValueError, match=f"found at {at}".replace("[", r"\[").replace("]", r"\]")):
            xmlp.Network(layers, 3).adapt(X)


# --- what users write -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale(Layer):
    """y = g x, a gain per feature."""

    start: float = 2.0

    def build(self, in_features: int) -> Any:
        return in_features, {"g": ParamSpec((in_features,), self.start)}

    def forward(self, params: Any, x: Any, ctx: Any) -> Any:
        return x * params["g"], x

    def backward(self, params: Any, cache: Any, dy: Any, ctx: Any) -> Any:
        return dy * params["g"], {"g": ctx.xp.sum(dy * cache, axis=-2)}


class Square:
    def fn(self, z: Any) -> Any:
        return z * z

    def deriv(self, z: Any) -> Any:
        return 2.0 * z


class Fourth:
    def fn(self, predictions: Any, targets: Any) -> Any:
        return (predictions - targets) ** 4

    def deriv(self, predictions: Any, targets: Any) -> Any:
        return 4.0 * (predictions - targets) ** 3


class FourthPerRow(Fourth):
    def fn(self, predictions: Any, targets: Any) -> Any:
        d = (predictions - targets) ** 4
        return d[:, 0] + d[:, 1]


@xmlp.elementwise
def wave(xp, x, *, rate=2.0):  # type: ignore[no-untyped-def]
    return x + xp.tanh(rate * x)


def test_layers_activations_and_losses_of_ones_own(mode: Mode, dtype: str) -> None:
    if dtype not in mode.dtypes:
        pytest.skip("this device has no float64")
    layers = [Dense(4, wave), Scale(), Activation(Square()), Dense(4, wave.bind(rate=0.5)), Dense(2, Square())]
    network = xmlp.Network(layers, 3, backend=mode.backend(dtype))
    y = np.random.default_rng(2).normal(size=(17, 2))
    values = []
    for loss in (Fourth(), FourthPerRow()):
        report = xmlp.testing.check_gradients(network, X[:4], y[:4], loss) if dtype == "float64" else None
        assert report is None or report
        value, _ = network.value_and_grad(X, y, loss)
        values.append(float(mode.get(value)))
        expected = ((network.predict(X).astype(np.float64) - y) ** 4).sum(axis=1).mean()
        assert values[-1] == pytest.approx(expected, rel=1e-4)
    history = network.fit(X, y, loss=Fourth(), optimizer=xmlp.optimizers.Adam(0.02), epochs=5)
    assert history["loss"][-1] < history["loss"][0]


def test_a_layer_that_forgets_something_is_told() -> None:
    @dataclass(frozen=True)
    class Wrong(Scale):
        fault: str = ""

        def backward(self, params: Any, cache: Any, dy: Any, ctx: Any) -> Any:
            dx, grads = Scale.backward(self, params, cache, dy, ctx)
            if self.fault == "missing":
                return dx, {}
            if self.fault == "extra":
                return dx, {**grads, "h": dy}
            return dx, {"g": dy}

        def forward(self, params: Any, x: Any, ctx: Any) -> Any:
            if self.fault == "bits" and ctx.training:
                ctx.bits((3,))
            return Scale.forward(self, params, x, ctx)

    for fault, words in (
        ("missing", "layer 1: backward returned no gradient for 'g'"),
        ("extra", "layer 1: backward returned a gradient for 'h', which build did not declare"),
        ("shape", r"layer 1: backward returned dg of shape \(17, 2\), g is \(2,\)"),
    ):
        network = xmlp.Network([Dense(2), Wrong(fault=fault)], 3)
        with pytest.raises(ValueError, match=words):
            network.value_and_grad(X, X[:, :2], "squared_error")
    with pytest.raises(ValueError, match="set `random = True` in its class"):
        xmlp.Network([Dense(2), Wrong(fault="bits")], 3).forward(X, training=True)


def test_a_layer_that_cannot_be_built_says_which() -> None:
    with pytest.raises(ValueError, match=r"layer 1, Residual.*the inner layers turn 4 features into 3"):
        xmlp.Network([Dense(4), Residual([Dense(3)])], 3)
    with pytest.raises(ValueError, match="an orthogonal initial value needs a matrix"):
        xmlp.Network([Dense(4, bias_initializer="orthogonal")], 3)


def test_a_scale_below_the_dtype_counts_as_none(mode):
    network = xmlp.Network([xmlp.layers.Standardize(), xmlp.layers.Dense(1)], 1, backend=mode.backend())
    network.adapt(np.asarray([[0.0], [1e-50]]))
    assert mode.get(network.statistics[0]["scale"]).tolist() == [1.0]
    assert np.isfinite(network.predict(np.asarray([[1.0]]))).all()
