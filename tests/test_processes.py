"""Formulas, trainers and networks in other processes: by name where they can be imported, else by value."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Mode

import xmlp
from xmlp import callbacks
from xmlp.graph import Formula, formula

X, LABELS = np.random.default_rng(4).normal(size=(60, 5)), np.arange(60) % 3
POINTS = np.linspace(-3.0, 3.0, 13)


@xmlp.elementwise
def wavy(xp, x, *, width=1.0):
    return x + width * xp.tanh(x) ** 2


def closure(factor: float) -> Formula:
    @xmlp.elementwise
    def hidden(xp, x, *, width=1.0):
        return factor * xp.tanh(width * x) + wavy(x)

    return hidden


@pytest.fixture
def by_value() -> None:
    if formula._cloudpickle() is None:
        pytest.skip("nothing here pickles functions by value")


def travelled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


# --- formulas ---------------------------------------------------------------------------------------------------------


def test_formulas_of_modules_travel_by_name() -> None:
    assert travelled(wavy) is wavy
    assert travelled(xmlp.activations.relu) is xmlp.activations.relu
    assert travelled(wavy.bind(width=2.0)) == wavy.bind(width=2.0) != wavy
    assert travelled(wavy.derivative) == wavy.derivative
    assert travelled(wavy.bind(width=2.0).pullback) == wavy.bind(width=2.0).pullback
    assert travelled(wavy.derivative.derivative).source == wavy.derivative.derivative.source


@pytest.mark.usefixtures("by_value")
@pytest.mark.parametrize(
    "make",
    [
        lambda: closure(3.0),
        lambda: closure(3.0).bind(width=0.5),
        lambda: xmlp.elementwise(lambda xp, x: x * xp.exp(-x)),
    ],
)
def test_functions_made_in_functions_travel_by_value(make: Callable[[], Formula]) -> None:
    here = make()
    there = travelled(here)
    assert there == here
    assert hash(there) == hash(here)
    assert {here: "found"}[there] == "found"
    assert there.scalars == here.scalars
    for of in (lambda f: f, lambda f: f.derivative, lambda f: f.derivative.derivative):
        np.testing.assert_array_equal(of(there)(POINTS), of(here)(POINTS))
    assert travelled(here.derivative) == here.derivative
    assert copy.copy(here) is copy.deepcopy(here) is here


def test_formulas_are_equal_if_their_graphs_are() -> None:
    assert closure(2.0) == closure(2.0)
    assert closure(2.0) != closure(2.5)
    assert xmlp.elementwise(lambda xp, x: x + 1.0) != xmlp.elementwise(lambda xp, y: y + 1.0)
    assert closure(2.0) != "hidden"
    wrong = [xmlp.elementwise(lambda xp, x: x.shape) for _ in range(2)]
    assert wrong[0] == wrong[0] != wrong[1]


def test_without_cloudpickle_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formula, "_cloudpickle", lambda: None)
    with pytest.raises(TypeError, match=r"cannot be pickled.*outside of functions.*cloudpickle"):
        pickle.dumps(closure(1.0))


@pytest.mark.usefixtures("by_value")
def test_code_of_another_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(closure(1.0))
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    with pytest.raises(ValueError, match=r"code for Python 3\.\d+, but this is Python 3\.99"):
        pickle.loads(pickled)


SCRIPT = """
import numpy as np, pickle, sys, xmlp
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import cross_val_score, GridSearchCV

@xmlp.elementwise
def bump(xp, x, *, width=1.0):
    return x * xp.exp(-(x / width) ** 2)

def made(k):
    @xmlp.elementwise
    def inner(xp, x):
        return k * bump(x) + 0.1 * x
    return inner

def plain(xp, x):
    return xp.tanh(x) + 0.1 * x

@xmlp.elementwise
def quantile(xp, prediction, target):
    return xp.maximum(0.7 * (target - prediction), -0.3 * (target - prediction))

if __name__ == "__main__":
    x = np.random.default_rng(0).normal(size=(60, 3))
    for f in (bump, bump.bind(width=2.0), made(2.0), xmlp.elementwise(lambda xp, x: x / (1.0 + xp.abs(x))), plain):
        model = xmlp.MLPRegressor((4,), activation=f, loss=quantile, max_iter=2, random_state=0)
        one, two = (cross_val_score(model, x, x[:, 0], cv=2, n_jobs=n) for n in (1, 2))
        assert (one == two).all(), (f, one, two)
    bags = [BaggingRegressor(model, 2, random_state=0, n_jobs=n).fit(x, x[:, 0]).predict(x) for n in (1, 2)]
    assert (bags[0] == bags[1]).all()
    model = xmlp.MLPRegressor((4,), activation=made(1.5), max_iter=2, random_state=0).fit(x, x[:, 0])
    with open(sys.argv[1], "wb") as file:
        pickle.dump((model, model.predict(x), x), file)
    print("equal")
"""


@pytest.mark.usefixtures("by_value")
def test_formulas_of_a_script_in_the_processes_of_joblib(tmp_path: Path, printed: Callable[..., str]) -> None:
    """The models also come out of a pickle in a program that knows nothing of the script."""
    pytest.importorskip("sklearn")
    program, pickled = tmp_path / "program.py", tmp_path / "model.pickle"
    program.write_text(SCRIPT)
    assert printed_by(program, pickled) == "equal\n"
    load = f"import pickle; m, y, x = pickle.load(open({str(pickled)!r}, 'rb')); print((m.predict(x) == y).all())"
    assert printed(load) == "True\n"


def printed_by(program: Path, *arguments: object) -> str:
    """What a program in a file prints."""
    command = [sys.executable, str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# --- trainers ---------------------------------------------------------------------------------------------------------

WAYS = {"pickle": travelled, "deepcopy": copy.deepcopy, "copy": copy.copy}


def trainer(backend: Any = "numpy", optimizer: str = "adam", activation: Any = "gelu", **more: Any) -> xmlp.Trainer:
    network = xmlp.mlp([5, 8, 3], activation, dropout=0.2, normalization="batch", backend=backend, seed=1)
    stopping = callbacks.EarlyStopping("loss", patience=9, restore_best=False)
    watch = [callbacks.ReduceOnPlateau("loss", patience=1), stopping]
    return xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=optimizer, metrics=["accuracy"],
                        callbacks=watch, seed=3, l2=1e-3, clip_norm=1.0, **more)  # fmt: skip


def state(of: xmlp.Trainer) -> Any:
    """All that training changes."""
    arrays = {**of.network.arrays(), **{name: of.network.backend.to_host(slot) for name, slot in of.run.slots.items()}}
    history = {name: column for name, column in of.history.items() if name != "seconds"}
    watched = [callback.state() for callback in of.callbacks]
    return {n: a.tolist() for n, a in arrays.items()}, history, of.moment, of.lr_scale, of.network.link, watched


@pytest.mark.parametrize(("way", "optimizer"), [*zip(WAYS, ("adam", "sgd", "rmsprop"), strict=True)])
def test_a_trainer_goes_on_elsewhere_as_here(mode: Mode, optimizer: str, way: str) -> None:
    data: dict[str, Any] = {"epochs": 2, "batch_size": 16, "validation_split": 0.2}
    here = trainer(mode.backend(), optimizer)
    here.fit(X, LABELS, **data)
    there = WAYS[way](here)
    assert state(there) == (before := state(here))
    there.fit(X, LABELS, **data)
    assert state(here) == before
    here.fit(X, LABELS, **data)
    assert state(there) == state(here)
    assert there.network.backend is here.network.backend


@pytest.mark.parametrize("planned", [None, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_trainer_within_an_epoch_goes_on_elsewhere(way: str, planned: bool | None) -> None:
    kept = SimpleNamespace(trainer=None)

    class Keep:
        def on_step_end(self, trainer: xmlp.Trainer) -> None:
            if trainer.steps == 6:
                trainer.callbacks.remove(self)
                kept.trainer = WAYS[way](trainer)

    here = trainer(planned=planned)
    here.callbacks.append(Keep())
    here.fit(X, LABELS, epochs=3, batch_size=16)
    assert kept.trainer.moment == (6, 1, 2)
    kept.trainer.fit(X, LABELS)
    assert state(kept.trainer) == state(here)


@pytest.mark.usefixtures("by_value")
def test_a_trainer_with_parts_of_its_own() -> None:
    here = trainer(activation=closure(0.5))
    here.callbacks.append(callbacks.MaxSeconds(1000.0))
    here.fit(X, LABELS, epochs=1, validation_split=0.2)
    there = travelled(here)
    for one in (here, there):
        one.fit(X, LABELS, epochs=1, validation_split=0.2)
    assert (there.network.theta == here.network.theta).all()


def test_a_logger_goes_on(tmp_path: Path) -> None:
    here = trainer()
    here.callbacks.append(callbacks.CSVLogger(tmp_path / "log.csv"))
    here.fit(X, LABELS, epochs=1, validation_split=0.2)
    there = travelled(here)
    there.fit(X, LABELS, epochs=1, validation_split=0.2)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_copies_of_a_network_share_nothing() -> None:
    network = xmlp.mlp([5, 4, 1], seed=1)
    network.metadata, network.thresholds = {"names": ["a"]}, [0.25]
    for again in (copy.deepcopy(network), travelled(network)):
        again.metadata["names"].append("b")
        again.thresholds[0] = 0.5
        again.parameters[0]["W"][...] = 0.0
    assert network.metadata == {"names": ["a"]}
    assert network.thresholds == [0.25]
    assert network.theta.any()


def test_an_estimator_goes_on_from_a_copy_without_the_data() -> None:
    pytest.importorskip("sklearn")
    model = xmlp.MLPClassifier((8,), max_iter=2, warm_start=True, tol=None, random_state=0)
    model.fit(np.repeat(X, 50, axis=0), np.repeat(LABELS, 50))
    assert len(pickle.dumps(model)) < 20_000
    copies = [model, travelled(model), copy.deepcopy(model)]
    for each in copies:
        each.fit(X, LABELS)
    assert all((each.network_.theta == model.network_.theta).all() for each in copies)
    assert all(len(each.loss_curve_) == 4 for each in copies)
