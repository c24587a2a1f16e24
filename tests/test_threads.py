"""Threads that meet: first calls, fits of one object, contexts that overlap."""

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp.graph import node
from xmlp.host.once import once

THREADS = 8
X, LABELS = np.random.default_rng(3).normal(size=(40, 5)), np.arange(40) % 3


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(work: Callable[[int], Any]) -> list[Any]:
    """What each of some threads returns that begin together."""
    start = threading.Barrier(THREADS)

    def begin(thread: int) -> Any:
        start.wait(60)
        return work(thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


# --- made once --------------------------------------------------------------------------------------------------------


def test_a_function_runs_once_however_many_threads_ask() -> None:
    ran, go_on = [], threading.Event()

    @once
    def made(name: str) -> list[str]:
        ran.append(name)
        go_on.wait(0.05)
        return [name]

    found = together(lambda thread: made("ab"[thread % 2]))
    assert sorted(ran) == ["a", "b"]
    assert all(result is made("ab"[thread % 2]) for thread, result in enumerate(found))


def test_what_raises_is_tried_again() -> None:
    answers = iter([ZeroDivisionError(), 7])

    @once
    def made() -> int:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    with pytest.raises(ZeroDivisionError):
        made()
    assert made() == made() == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_locks_are_free_in_a_child_process(printed: Any) -> None:
    """By the thread that held it in the parent it would never be released."""
    program = """
import os, threading
from xmlp.host.once import Lock
lock, held, release = Lock(), threading.Event(), threading.Event()
def hold():
    with lock:
        held.set()
        release.wait(30)
other = threading.Thread(target=hold)
other.start()
held.wait(30)
child = os.fork()
if child == 0:
    with lock:
        os._exit(7)
release.set()
other.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert printed(program, PYTHONWARNINGS="ignore") == "7\n"


def test_the_compiler_is_one_and_programs_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("xmlp.runtime.native")
    monkeypatch.setattr(native, "_compilers", [])
    monkeypatch.setenv("XMLP_CACHE", "off")
    made = together(lambda thread: native.compiler())
    assert len({id(c) for c in made}) == 1
    network = xmlp.mlp([5, 4, 3], seed=1)
    right, alive = network.predict(X), weakref.ref(made[0])
    del made
    native._compilers.clear()  # as where another begins; the network's programs still run its code
    gc.collect()
    assert alive() is not None
    assert (network.predict(X) == right).all()


def test_the_blas_is_one() -> None:
    native = pytest.importorskip("xmlp.runtime.native")
    native.blas.cache_clear()
    assert len({id(library) for library in together(lambda thread: native.blas())}) == 1


@pytest.mark.parametrize("library", ["numpy", "array-api-strict"])
def test_a_backend_is_one(library: str) -> None:
    xmlp.backends._make.cache_clear()
    assert len({id(b) for b in together(lambda thread: xmlp.backend(library))}) == 1


def test_numbers_of_elements_in_threads(hasty: None) -> None:
    """More sizes than are kept: none is gone between being made and being returned."""
    backend = xmlp.backend("array-api-strict", dtype="float64")
    sizes = [int(n) for n in np.random.default_rng(0).integers(1, 40, 150)]
    assert all(together(lambda thread: all(backend.index(n).shape == (n,) for n in sizes)))


# --- formulas ---------------------------------------------------------------------------------------------------------


def wavy() -> xmlp.graph.Formula:
    return xmlp.elementwise(lambda xp, x: x * xp.tanh(x * x) + xp.exp(-x * x) / (2.0 + xp.abs(x)))


def test_equal_nodes_are_one_object_in_all_threads(hasty: None) -> None:
    for number in range(200):
        name = f"v{number}"
        found = together(lambda thread, n=name: node.make("exp", node.make("add", node.array(n), node.const(0.125))))
        assert len({id(n) for n in found}) == 1


def test_formulas_derived_in_threads(hasty: None) -> None:
    right = wavy().derivative.source
    for _ in range(15):
        shared = wavy()
        assert {*together(lambda thread, f=shared: f.derivative.source)} == {right}
        assert {*together(lambda thread: wavy().derivative.source)} == {right}


def test_one_formula_in_threads_follows_once(hasty: None) -> None:
    traced = []

    def counted(xp: Any, x: Any) -> Any:
        traced.append(threading.get_ident())
        return xp.tanh(x) * x

    formula = xmlp.elementwise(counted)
    assert len({id(g) for g in together(lambda thread: formula.pullback.graph)}) == 1
    assert len(traced) == 1


# --- predictions and fits ---------------------------------------------------------------------------------------------


def trained(planned: bool | None, library: str = "numpy") -> bytes:
    network = xmlp.mlp([5, 8, 3], "mish", dropout=0.2, normalization="batch", backend=library, seed=2)
    network.fit(X, LABELS, epochs=1, batch_size=16, loss="softmax_cross_entropy", planned=planned, validation_split=0.2)
    return network.arrays()["theta"].tobytes() + network.predict(X).tobytes()


@pytest.mark.parametrize(("planned", "library"), [(None, "numpy"), (False, "numpy"), (None, "array-api-strict")])
def test_networks_trained_in_threads(planned: bool | None, library: str) -> None:
    assert {*together(lambda thread: trained(planned, library))} == {trained(planned, library)}


def refused_while_it_fits(fit: Callable[[Any], Any], again: Callable[[], Any]) -> str:
    """The words in which `again` is refused while `fit` is under way, in another thread and in a callback."""
    begun, go_on, told = threading.Event(), threading.Event(), []

    class Wait:
        def on_epoch_end(self, trainer: Any) -> None:
            begun.set()
            go_on.wait(30)
            with pytest.raises(RuntimeError, match="in a fit already") as inner:
                again()
            told.append(str(inner.value))

    other = threading.Thread(target=fit, args=(Wait(),))
    other.start()
    begun.wait(30)
    try:
        with pytest.raises(RuntimeError, match="in a fit already") as caught:
            again()
    finally:
        go_on.set()
        other.join(60)
    assert told == [str(caught.value)]
    again()
    return str(caught.value)


def test_two_fits_of_one_estimator() -> None:
    pytest.importorskip("sklearn")
    model = xmlp.MLPClassifier((4,), max_iter=1)

    def fit(wait: Any) -> None:
        model.callbacks = [wait]
        model.fit(X, LABELS)
        model.callbacks = ()

    assert "clone" in refused_while_it_fits(fit, lambda: model.fit(X, LABELS))


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_a_partial_fit_beside_a_fit(kind: str) -> None:
    pytest.importorskip("sklearn")
    model = getattr(xmlp, kind)((4,), max_iter=1)

    def fit(wait: Any) -> None:
        model.callbacks = [wait]
        model.fit(X, LABELS)
        model.callbacks = ()

    refused_while_it_fits(fit, lambda: model.partial_fit(X, LABELS))
    assert model.predict(X).shape == (40,)


def test_two_trainers_of_one_network() -> None:
    """Their steps would write into the same parameters."""
    network = xmlp.mlp([5, 4, 3])
    wanted: dict[str, Any] = {"epochs": 1, "loss": "softmax_cross_entropy"}
    told = refused_while_it_fits(
        lambda wait: network.fit(X, LABELS, callbacks=[wait], **wanted), lambda: network.fit(X, LABELS, **wanted)
    )
    assert "deepcopy" in told


def test_other_networks_are_free() -> None:
    network = xmlp.mlp([5, 4, 3])

    class Inside:
        def on_epoch_end(self, trainer: Any) -> None:
            xmlp.mlp([5, 4, 3]).fit(X, LABELS, epochs=1, loss="softmax_cross_entropy")

    network.fit(X, LABELS, epochs=2, loss="softmax_cross_entropy", callbacks=[Inside()])


# --- contexts that overlap --------------------------------------------------------------------------------------------


def test_overlapping_deterministic_contexts_restore_the_threads() -> None:
    """The first to begin is the first to end: what it restores must not be undone by the second."""
    native = pytest.importorskip("xmlp.runtime.native")
    library = native.blas()
    if library is None or library.threads is None:
        pytest.skip("the BLAS does not tell its threads")
    threads, before = library.threads, library.threads._get()
    try:
        threads._set(3)
        if threads._get() != 3:
            pytest.skip("the BLAS has one thread")
        first, second = xmlp.deterministic(), xmlp.deterministic()
        first.__enter__()
        second.__enter__()
        assert threads.number == threads._get() == 1
        first.__exit__(None, None, None)
        assert threads.number == threads._get() == 1
        second.__exit__(None, None, None)
        assert threads.number == threads._get() == 3
        with threads.single():  # steps are being made in another thread
            context = xmlp.deterministic()
            context.__enter__()
        assert threads.number == threads._get() == 1
        context.__exit__(None, None, None)
        assert threads._get() == 3
    finally:
        threads._set(before)
