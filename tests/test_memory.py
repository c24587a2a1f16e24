"""What is said when memory is short, and what training is foretold to take."""

from pathlib import Path

import numpy as np
import pytest

import xmlp
from xmlp.errors import OutOfMemoryError
from xmlp.host import memory
from xmlp.training import memory as training_memory
from xmlp.training.run import Run

X, Y = np.zeros((40, 6), np.float32), np.arange(40) % 3


def trainer(**kw):
    return xmlp.Trainer(xmlp.mlp([6, 50, 3], **kw), loss="softmax_cross_entropy", optimizer="adam")


def test_a_failed_allocation_says_what_would_fit(planted):
    mine = trainer()
    before = mine.network.theta.copy()

    def advance(self, chunk, sums):
        raise MemoryError("Unable to allocate 7 GiB")

    said = r"batch_size=32 needs 0\.0\d+ MB .* batch_size=(\d+) would fit"
    free = mine.memory(8) // 2 + 9_000
    with planted(Run, "advance", advance), planted(memory, "free", lambda: free):  # noqa: SIM117
        with pytest.raises(OutOfMemoryError, match=said) as e:
            mine.fit(X, Y, epochs=1)
    assert isinstance(e.value, MemoryError)
    assert e.value.needed == mine.memory(32, rows=40) > e.value.free
    assert "Unable to allocate 7 GiB" in str(e.value)
    assert (mine.network.theta == before).all()
    mine.fit(X, Y, epochs=1)


def test_no_batch_may_fit_and_no_figure_may_be_known(planted):
    for free, said in (
        (0, "0 MB is free: use smaller layers"),
        (None, "an unknown amount is free: use smaller layers"),
    ):
        with planted(memory, "free", lambda free=free: free), pytest.raises(OutOfMemoryError, match=said):
            fail()


def fail():
    with training_memory.explained(fitted().run):
        raise MemoryError


def fitted():
    mine = trainer()
    mine.fit(X, Y, epochs=1)
    return mine


def test_the_largest_batch_is_a_power_of_two_that_fits():
    mine = fitted()
    for batch in (2, 8, 16):
        demand = training_memory.Demand(mine.run)
        free = mine.memory(batch, rows=0) - demand.state
        assert demand.largest_batch(100, 0, free) == batch
    assert demand.largest_batch(100, 0, 10) == 0
    assert demand.largest_batch(64, 0, 10**9) == 32


def test_an_error_of_ones_own_passes():
    mine = OutOfMemoryError("mine")
    with pytest.raises(OutOfMemoryError) as caught, training_memory.explained(fitted().run):
        raise mine
    assert caught.value is mine


def test_a_smaller_last_batch_has_buffers_of_its_own():
    mine = trainer()
    assert mine.memory(32, rows=64) == mine.memory(32) < mine.memory(32, rows=40)


def test_layers_that_do_not_fit():
    with pytest.raises(
        OutOfMemoryError, match=r"\d+ parameters need [\d.]+ TB, [\d.]+ [MGT]B is free: use smaller layers"
    ) as e:
        xmlp.mlp([10, 2**22, 2**22, 2])
    assert e.value.needed > e.value.free


def test_a_file_that_does_not_fit(tmp_path, planted):
    import safetensors.numpy

    xmlp.mlp([3, 2]).save(tmp_path / "m")

    def load(content):
        raise MemoryError

    with planted(safetensors.numpy, "load", load), pytest.raises(OutOfMemoryError, match="does not fit in memory"):
        xmlp.load(tmp_path / "m")


def test_free_memory_obeys_a_limit(planted):
    resource = pytest.importorskip("resource")
    now = memory.free()
    assert now is None or now > 10_000_000
    with planted(resource, "getrlimit", lambda which: (10**6, 10**6)):
        assert memory.free() == 0
    with planted(Path, "read_text", lambda *a, **kw: "MemFree: 5 kB\nMemAvailable:   10 kB\n"):
        assert memory._available() == 10_240
    with planted(memory, "_available", lambda: None), planted(memory, "_below_limit", lambda: None):
        assert memory.free() is None


def test_threads_are_one_inside_and_as_before_after():
    import threadpoolctl

    def counts():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(2):
        before = counts()
        with xmlp.deterministic():
            assert set(counts()) == {1}
        assert counts() == before
    assert 2 in before
