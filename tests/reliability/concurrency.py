"""Rows about threads: whoever makes the first call of anything in a process, and who works beside others later."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import xmlp
from reliability.core import environment, python, row
from xmlp.activations import ACTIVATIONS
from xmlp.graph import Formula, elementwise

COLD = """
import hashlib, importlib.util, json, sys, threading
kind, driver, threads, model = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
if driver == "numpy":  # as where the extra `fast` is not installed
    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *package: None if name == "llvmlite" else found(name, *package)
sys.setswitchinterval(1e-6)
import numpy as np, xmlp

def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

def predict():
    return digest(network.predict(x))

def fit():
    own = xmlp.mlp([20, 16, 3], "gelu", dropout=0.1, normalization="batch", seed=1)
    own.fit(x, y, epochs=2, batch_size=16, loss="softmax_cross_entropy", validation_split=0.2, metrics=["accuracy"])
    return digest(own.theta, own.stats, own.predict_proba(x))

def cross_val_score():
    from sklearn.model_selection import cross_val_score
    model = xmlp.MLPClassifier((8,), max_iter=2, random_state=0)
    return digest(cross_val_score(model, x, y, cv=8, n_jobs=threads))

def bagging():
    from sklearn.ensemble import BaggingRegressor
    model = BaggingRegressor(xmlp.MLPRegressor((8,), max_iter=2), 8, random_state=0, n_jobs=threads)
    return digest(model.fit(x, x[:, 0]).predict(x))

rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 20)), rng.integers(0, 3, 64)
call = globals()[kind]
if kind in ("predict", "fit"):
    network, start, results = xmlp.load(model), threading.Barrier(threads), []
    def work():
        start.wait()
        results.append(call())
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == threads
else:
    from joblib import parallel_config
    with parallel_config("threading"):
        results = [call()]
print(json.dumps(sorted({*results})))
"""


def cold(kind: str, driver: str, threads: int, model: Path, cache: Path) -> list[str]:
    """The different results of threads that all make the first call of this kind in a process of their own."""
    where = environment(XMLP_CACHE=str(cache), SCIPY_ARRAY_API="1")
    found: list[str] = json.loads(python(COLD, kind, driver, threads, model, env=where).stdout)
    return found


@row("R5", "eight threads that make the first call of a process (predict, fit, cross_val_score, bagging over threads, "
     "with compiled code and without): no crash, and equal to one thread to the bit", "all processes",
     short=16, long=500)  # fmt: skip
def cold_processes(size: int, folder: Path) -> str:
    model = folder / "model.safetensors"
    xmlp.mlp([20, 16, 3], "gelu", normalization="batch", seed=1).save(model)
    calls = ("predict", "fit", *(("cross_val_score", "bagging") if find_spec("sklearn") is not None else ()))
    kinds = [(call, driver) for call in calls for driver in ("fast", "numpy")]
    alone = {pair: cold(*pair, 1, model, folder / "alone") for pair in kinds}

    def one(number: int) -> bool:
        pair = kinds[number % len(kinds)]
        cache = folder / f"cache{number % (2 * len(kinds)) // 2}"  # some find it empty, some together with another
        return cold(*pair, 8, model, cache) == alone[pair]

    with ThreadPoolExecutor(2) as pool:
        equal = sum(pool.map(one, range(size)))
    assert equal == size, f"{size - equal} of {size} processes differ"
    return f"{equal} of {size} processes"


@row("R5w", "eight threads that predict with one network equal one after another to the bit; a second fit is refused",
     "all equal; RuntimeError", short=50, long=1000)  # fmt: skip
def threads_that_predict(size: int, folder: Path) -> str:
    rng = np.random.default_rng(5)
    network = xmlp.mlp([20, 64, 5], normalization="batch", seed=1)
    inputs = [rng.normal(size=(int(rng.integers(1, 60)), 20)) for _ in range(20)]
    alone = [network.predict(x).tobytes() for x in inputs]

    def work(thread: int) -> int:
        order = np.random.default_rng(thread).integers(0, len(inputs), size)
        return sum(network.predict(inputs[i]).tobytes() == alone[i] for i in order)

    with ThreadPoolExecutor(8) as pool:
        equal = sum(pool.map(work, range(8)))
    assert equal == 8 * size, equal
    return f"{equal:,} of {8 * size:,} equal; {second_fit()}"


def second_fit() -> str:
    """Fit while another thread fits."""
    x, y = np.zeros((64, 2)), np.arange(64) % 2
    trainer = xmlp.Trainer(xmlp.mlp([2, 4, 2]), loss="softmax_cross_entropy", optimizer="sgd")
    begun, go_on = threading.Event(), threading.Event()

    class Wait:
        def on_epoch_end(self, trainer: xmlp.Trainer) -> None:
            begun.set()
            go_on.wait(20)

    trainer.callbacks.append(Wait())
    other = threading.Thread(target=lambda: trainer.fit(x, y, epochs=1))
    other.start()
    begun.wait(20)
    try:
        trainer.fit(x, y, epochs=1)
    except RuntimeError as error:
        assert str(error)
    else:
        raise AssertionError("two fits at a time")
    finally:
        go_on.set()
        other.join()
    trainer.fit(x, y, epochs=1)
    return "RuntimeError"


def derived(formula: Formula) -> str:
    """What follows from a formula, made anew: nothing of what was made of it before is used."""
    again = elementwise(formula._definition.source)
    return f"{again.derivative.source}\n{again.pullback.source}\n{again.derivative.derivative.source}"


@row("R5d", "eight threads that derive all formulas anew, taking turns every microsecond: wrong derivatives", "0",
     short=400, long=100_000)  # fmt: skip
def derivatives_in_threads(size: int, folder: Path) -> str:
    formulas = [f for f in ACTIVATIONS.values() if isinstance(f, Formula)]
    right = [derived(f) for f in formulas]
    rounds = -(-size // (8 * len(formulas)))
    start, wrong = threading.Barrier(8), []

    def work(thread: int) -> None:
        for _ in range(rounds):
            start.wait()
            wrong.extend(f.name for f, text in zip(formulas, right, strict=True) if derived(f) != text)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
    made = 8 * rounds * len(formulas)
    assert not wrong, f"{len(wrong)} of {made:,} wrong: {sorted(set(wrong))}"
    return f"0 of {made:,}"
