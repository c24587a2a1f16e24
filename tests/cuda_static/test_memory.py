"""A device that is full: simulated, with the error that CuPy raises where CuPy is installed."""

import importlib.util

import numpy as np
import pytest
from cuda_static.host import HostBackend, HostDriver, compiler

import xmlp
from xmlp.errors import BackendError, DeviceMemoryError

X, Y = np.random.default_rng(0).normal(size=(512, 8)).astype("f4"), np.arange(512) % 4


def cupy_error():
    """CuPy's own class where it is installed, else one that is as unrelated to ours."""
    if importlib.util.find_spec("cupy") is None:
        return type("OutOfMemoryError", (MemoryError,), {})
    import cupy

    return cupy.cuda.memory.OutOfMemoryError


class SmallDevice(HostBackend):
    """A device on which a program gets at most `limit` bytes."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.released, self.asked = limit, [], []
        kind = cupy_error()
        self.out_of_memory = (kind,)
        room = HostDriver.bytes

        def refuse(size):
            self.asked.append(size)
            if size > self.limit:
                raise kind(size, 0, 0) if kind.__module__ != __name__ else kind()
            return room(self.driver, size)

        self.driver.bytes = refuse

    def free_bytes(self):
        return self.limit

    def release(self):
        self.released.append(self.kept())

    def kept(self):
        """What else takes memory while it is given back."""
        return 0


@pytest.fixture(autouse=True)
def _gcc():
    compiler()


def trainer_on(backend):
    network = xmlp.mlp([8, 32, 32, 4], backend=backend, seed=1)
    return xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")


def test_training_says_what_would_fit_and_does_not_shrink_the_batch():
    whole = trainer_on(HostBackend()).plan(512)
    half = trainer_on(HostBackend()).plan(256)
    backend = SmallDevice(half.work_bytes + half.held_bytes)
    trainer = trainer_on(backend)
    before = trainer.network.theta.copy()
    with pytest.raises(DeviceMemoryError) as caught:
        trainer.fit(X, Y, epochs=1, batch_size=512)
    words = str(caught.value)
    print(words)
    assert f"with 512 rows, which needs {whole.work_bytes + whole.held_bytes:,} bytes" in words
    assert f"{backend.limit:,} bytes are free" in words
    assert "A batch_size of 256 would fit." in words
    assert isinstance(caught.value, BackendError), "the command ends with 2"
    assert trainer.steps == 0
    assert (trainer.network.theta == before).all()
    trainer.fit(X, Y, epochs=1, batch_size=256)
    assert trainer.steps == 2


def test_nothing_would_fit():
    with pytest.raises(DeviceMemoryError, match=r"Use a smaller batch_size\.$"):
        trainer_on(SmallDevice(10)).fit(X, Y, epochs=1, batch_size=512)


def test_an_unplanned_step_says_so_too(monkeypatch):
    backend = SmallDevice(10**9)
    network = xmlp.mlp([8, 4], "relu", backend=backend)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="sgd", planned=False)

    def full(*args, **kw):
        raise backend.out_of_memory[0](1, 2, 3)

    monkeypatch.setattr(backend, "apply", full)
    with pytest.raises(DeviceMemoryError, match="too little memory for a training step: 1,000,000,000 bytes are free"):
        trainer.fit(X, Y, epochs=1)


def test_a_prediction_halves_its_rows():
    expected = trainer_on("numpy").network.predict(X)
    backend = SmallDevice(10**9)
    network = trainer_on(backend).network
    network.predict(X)
    backend.limit = max(backend.asked) // 4
    network = trainer_on(backend).network
    network.predict(X[:10])
    backend.kept = lambda: len(network.predictor.passes)
    assert np.abs(network.predict(X) - expected).max() <= 1e-6
    assert backend.released == [0, 0, 0], "512 rows, twice 256, with no buffers of earlier predictions"
    assert trainer_on(backend).evaluate(X, Y)["loss"] > 0
    backend.limit = 8
    with pytest.raises(DeviceMemoryError, match="a prediction for one row does not fit on cpu: 8 bytes are free"):
        trainer_on(backend).network.predict(X[:4])


def test_rows_that_do_not_lie_one_after_another_are_predicted_right():
    network = trainer_on(HostBackend()).network
    expected = network.compute(X)
    assert np.abs(network.compute(np.asfortranarray(X)) - expected).max() <= 5e-6
    assert np.abs(network.compute(np.repeat(X, 2, axis=1)[:, ::2]) - expected).max() <= 5e-6


def test_memory_is_stable_after_the_second_step():
    """Two shapes of batch, a program each; later epochs ask for nothing."""
    backend = SmallDevice(10**9)
    trainer = trainer_on(backend)
    trainer.fit(X[:500], Y[:500], epochs=1, batch_size=128)
    asked = len(backend.asked)
    trainer.fit(X[:500], Y[:500], epochs=4, batch_size=128)
    assert len(backend.asked) == asked == 4
