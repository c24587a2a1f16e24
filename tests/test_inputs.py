"""What callers pass: every wrong input is refused in words and changes nothing, every unusual one is understood."""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Mode, require

import xmlp
from xmlp import losses, optimizers
from xmlp.host.arrays import check_finite, host_array
from xmlp.layers import Dense, Dropout

X = np.asarray([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [1.0, 1.0], [3.0, -2.0]])
LABELS = np.asarray([0, 1, 2, 1, 0])
ONE_HOT = np.eye(3)[LABELS]
BITS = np.asarray([[0.0], [1.0], [1.0], [0.0], [1.0]])
NAN, INF = float("nan"), float("inf")


def changed(array: Any, place: Any, value: Any) -> Any:
    array = np.array(array)
    array[place] = value
    return array


def trained(loss: str = "softmax_cross_entropy", **kw: Any) -> xmlp.Trainer:
    """A trainer that has something to lose: moments, statistics, history."""
    outputs = 3 if loss == "softmax_cross_entropy" else 1
    network = xmlp.mlp([2, 4, outputs], "tanh", normalization="batch", **kw)
    trainer = xmlp.Trainer(network, loss=loss, optimizer="adam", metrics=["accuracy"], seed=3)
    trainer.fit(X, LABELS if outputs == 3 else BITS, epochs=2, batch_size=2)
    return trainer


def state_of(trainer: xmlp.Trainer) -> tuple[Any, ...]:
    host = trainer.network.backend.to_host
    arrays = [trainer.network.theta, trainer.network.stats, *trainer.run.slots.values()]
    history = {name: list(column) for name, column in trainer.history.items()}
    return [host(a).tobytes() for a in arrays], history, trainer.steps, trainer.epoch, trainer.network.link


def columns_of(**columns: Any) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def sparse() -> Any:
    return pytest.importorskip("scipy.sparse").csr_array(X)


def unit(what: str) -> list[Any]:
    return [np.datetime64("2024-01-01", what)] * 5


# --- wrong features ---------------------------------------------------------------------------------------------------

FEATURES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "nan": (
        lambda: changed(changed(X, (1, 1), NAN), (3, 0), INF),
        ValueError,
        "x contains NaN or infinity: nan in row 1, column 1, 2 in all",
    ),
    "infinity": (lambda: changed(X, (4, 0), -INF), ValueError, "-inf in row 4, column 0, 1 in all"),
    "nan in float32": (
        lambda: changed(np.float32(X), (2, 1), NAN),
        ValueError,
        "nan in row 2, column 1, 1 in all",
    ),
    "None in a row": (lambda: [[1.0, None], [1.0, 2.0]], ValueError, "nan in row 0, column 1"),
    "no rows": (lambda: X[:0], ValueError, "x has 0 rows; at least 1 is needed"),
    "no features": (lambda: np.zeros((5, 0)), ValueError, "x has 0 features, the network takes 2"),
    "too many features": (lambda: np.zeros((5, 3)), ValueError, "x has 3 features, the network takes 2"),
    "one row of the wrong length": (lambda: np.zeros(3), ValueError, "(N, 2), got an array of shape (3,)"),
    "a number": (lambda: 1.0, ValueError, "got an array of shape ()"),
    "three axes": (lambda: np.zeros((5, 1, 2)), ValueError, "got an array of shape (5, 1, 2)"),
    "text": (lambda: np.asarray([["a", "b"]] * 5), ValueError, "could not convert string to float: x holds"),
    "one word": (lambda: "abc", ValueError, "could not convert string to float"),
    "bytes": (lambda: [[b"1", b"q"]], ValueError, "in row 0, column 1"),
    "mixed objects": (
        lambda: np.asarray([[1.0, 2.0], [3.0, {"a": 1}]], dtype=object),
        ValueError,
        "x holds {'a': 1} in row 1, column 1",
    ),
    "a text column": (
        lambda: columns_of(a=[1.0] * 5, b=["1", "2", "x", "4", "5"]),
        ValueError,
        "x holds 'x' in row 2, column 'b'",
    ),
    "a missing value": (
        lambda: columns_of(a=pytest.importorskip("pandas").array([1, None], dtype="Int64"), b=[1, 2]),
        ValueError,
        "in row 1, column 'a'",
    ),
    "ragged": (lambda: [[1.0, 2.0], [3.0]], ValueError, "x is ragged"),
    "a dict": (lambda: {"a": 1}, ValueError, "could not convert"),
    "an integer beyond float64": (lambda: [[1, 10**400]], ValueError, "row 0, column 1 that does not fit in float64"),
    "masked": (lambda: np.ma.masked_array(X, X > 2), ValueError, "x is a masked array"),
    "dates": (lambda: np.asarray([unit("D"), unit("D")]).T, TypeError, "x holds dates or times (datetime64[D])"),
    "durations": (lambda: np.zeros((5, 2), "m8[s]"), TypeError, "x holds dates or times"),
    "dates as objects": (
        lambda: np.asarray([[1.0, np.datetime64("2024-01-01")]], dtype=object),
        TypeError,
        "dates or times (np.datetime64('2024-01-01') in row 0, column 1)",
    ),
    "dates of the library": (lambda: [[1.0, datetime.date(2024, 1, 1)]], TypeError, "in row 0, column 1"),
    "a date column": (lambda: columns_of(a=[1.0] * 5, when=unit("ns")), TypeError, "x: the column 'when' holds dates"),
    "complex": (lambda: X + 1j, TypeError, "x holds complex numbers (complex128)"),
    "records": (lambda: np.zeros(5, dtype=[("a", "f4"), ("b", "f4")]), TypeError, "x must hold real numbers"),
    "sparse": (sparse, TypeError, "x is a sparse matrix; pass x.toarray()"),
    "too large for float32": (
        lambda: changed(X, (3, 1), 1e300),
        ValueError,
        '1e+300 at index 3, 1 does not fit in float32. Scale the data or use dtype="float64"',
    ),
}  # fmt: skip


def calls_with_features(trainer: xmlp.Trainer, x: Any) -> dict[str, Callable[[], Any]]:
    network = trainer.network
    return {
        "predict": lambda: network.predict(x),
        "predict_label": lambda: network.predict_label(x),
        "forward": lambda: network.forward(x),
        "value_and_grad": lambda: network.value_and_grad(x, LABELS, "softmax_cross_entropy"),
        "fit": lambda: trainer.fit(x, LABELS, epochs=1),
        "validation": lambda: trainer.fit(X, LABELS, epochs=1, validation_data=(x, LABELS)),
        "batches": lambda: trainer.fit([(x, LABELS)], epochs=1),
        "step": lambda: trainer.step(x, LABELS),
        "evaluate": lambda: trainer.evaluate(x, LABELS),
        "fitting in one call": lambda: network.fit(x, LABELS, epochs=1),
    }


@pytest.mark.parametrize("case", FEATURES)
def test_wrong_features(case: str) -> None:
    make, kind, words = FEATURES[case]
    trainer = trained()
    before = state_of(trainer)
    for call, run in calls_with_features(trainer, make()).items():
        with pytest.raises((ValueError, TypeError)) as caught:
            run()
        assert type(caught.value) is kind, (call, caught.value)
        name = {"validation": "validation x", "batches": "batch 0: x"}.get(call, "x")
        expected = words.replace("x holds", f"{name} holds").replace("x has", f"{name} has")
        expected = expected.replace("x contains", f"{name} contains").replace("x is ", f"{name} is ")
        expected = (
            expected.replace("x: the", f"{name}: the")
            .replace("x must", f"{name} must")
            .replace("pass x", f"pass {name}")
        )
        assert expected in str(caught.value), (call, str(caught.value))
        assert state_of(trainer) == before, call


def test_large_numbers_are_fine_in_float64() -> None:
    trainer = trained(dtype="float64")
    assert np.isfinite(trainer.network.predict(changed(X, (3, 1), 1e300))).all()
    trainer.fit(changed(X, (3, 1), 1e100), LABELS, epochs=1)
    assert np.isfinite(trainer.network.theta).all()


# --- wrong targets and weights ----------------------------------------------------------------------------------------

SOFTMAX, BINARY, SQUARED = "softmax_cross_entropy", "binary_cross_entropy", "squared_error"
TARGETS: dict[str, tuple[str, Callable[[], Any], type[Exception], str]] = {
    "negative label": (SOFTMAX, lambda: changed(LABELS, 3, -1), ValueError, "must lie in 0..2, got -1 in row 3"),
    "label too large": (SOFTMAX, lambda: changed(LABELS, 2, 3), ValueError, "must lie in 0..2, got 3 in row 2"),
    "label beyond int32": (SOFTMAX, lambda: changed(LABELS, 2, 2**32), ValueError, "got 4294967296 in row 2"),
    "half a label": (SOFTMAX, lambda: changed(LABELS + 0.0, 1, 1.5), ValueError, "whole numbers, got 1.5 in row 1"),
    "nan label": (SOFTMAX, lambda: changed(LABELS + 0.0, 4, NAN), ValueError, "whole numbers, got nan in row 4"),
    "text labels": (SOFTMAX, lambda: ["cat"] * 5, ValueError, "could not convert string to float: y holds"),
    "labels in 2 columns": (SOFTMAX, lambda: np.stack([LABELS] * 2, 1), ValueError, "the shape (N, 3), got (5, 2)"),
    "rows that sum to 2": (SOFTMAX, lambda: ONE_HOT + np.eye(3)[[1] * 5], ValueError, "must lie in [0, 1]"),
    "rows that sum to 0.9": (
        SOFTMAX, lambda: changed(ONE_HOT, (2, 2), 0.9), ValueError, "must sum to 1 over the classes, got 0.9 in row 2",
    ),
    "negative one-hot": (SOFTMAX, lambda: changed(ONE_HOT, (1, 0), -0.5), ValueError, "got -0.5 in row 1, output 0"),
    "one-hot above 1": (SOFTMAX, lambda: changed(ONE_HOT, (0, 0), 1.5), ValueError, "got 1.5 in row 0, output 0"),
    "one-hot nan": (SOFTMAX, lambda: changed(ONE_HOT, (0, 1), NAN), ValueError, "targets in row 0 are missing"),
    "binary above 1": (BINARY, lambda: changed(BITS, 2, 2.0), ValueError, "got 2.0 in row 2, output 0"),
    "binary below 0": (BINARY, lambda: BITS - 0.25, ValueError, "must lie in [0, 1], got -0.25"),
    "all reals nan": (SQUARED, lambda: np.full((5, 1), NAN), ValueError, "every target is missing"),
    "reals infinite": (SQUARED, lambda: changed(BITS, 1, INF), ValueError, "must be finite, got inf in row 1"),
    "reals too wide": (SQUARED, lambda: np.zeros((5, 2)), ValueError, "must have the shape (N, 1) or (N,), got (5, 2)"),
    "reals with 3 axes": (SQUARED, lambda: np.zeros((5, 1, 1)), ValueError, "got (5, 1, 1)"),
    "reals too large": (SQUARED, lambda: changed(BITS, 4, 1e300), ValueError, "index 4, 0 does not fit in float32"),
    "one too few": (SQUARED, lambda: BITS[:4], ValueError, "x has 5 rows, y has 4"),
    "one label too many": (SOFTMAX, lambda: [0, 1, 2, 0, 1, 2], ValueError, "x has 5 rows, y has 6"),
    "complex": (SQUARED, lambda: BITS + 1j, TypeError, "y holds complex numbers"),
    "dates": (SQUARED, lambda: np.asarray(unit("D")), TypeError, "y holds dates or times"),
    "all masked": (SOFTMAX, lambda: np.ma.masked_array(LABELS, True), ValueError, "every target is missing"),
    "ragged": (SQUARED, lambda: [[1], [1, 2], [1], [1], [1]], ValueError, "y is ragged"),
}  # fmt: skip


@pytest.mark.parametrize("case", TARGETS)
def test_wrong_targets(case: str) -> None:
    loss, make, kind, words = TARGETS[case]
    trainer, y = trained(loss), make()
    before = state_of(trainer)
    runs = [
        lambda: trainer.network.value_and_grad(X, y, loss),
        lambda: trainer.network.loss_value(X, y, loss),
        lambda: trainer.fit(X, y, epochs=1),
        lambda: trainer.step(X, y),
        lambda: trainer.evaluate(X, y),
    ]
    for run in runs:
        with pytest.raises(kind) as caught:
            run()
        assert words in str(caught.value)
        assert state_of(trainer) == before


WEIGHTS: dict[str, tuple[Any, type[Exception], str]] = {
    "too short": ([1, 1, 1, 1], ValueError, "sample_weight must be (5,), one number per row of x, got the shape (4,)"),
    "a column": (np.ones((5, 1)), ValueError, "got the shape (5, 1)"),
    "negative": ([1, 1, -2, 1, 1], ValueError, "sample_weight must not be negative, got -2 in row 2"),
    "all 0": ([0] * 5, ValueError, "sample_weight is zero for every row"),
    "nan": ([1, NAN, 1, 1, 1], ValueError, "sample_weight contains NaN or infinity: nan in row 1, 1 in all"),
    "infinite": ([1, 1, 1, 1, INF], ValueError, "inf in row 4"),
    "text": (["a"] * 5, ValueError, "could not convert string to float: sample_weight holds"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_wrong_weights(case: str) -> None:
    weights, kind, words = WEIGHTS[case]
    trainer = trained()
    before = state_of(trainer)
    runs = [
        lambda: trainer.network.value_and_grad(X, LABELS, SOFTMAX, sample_weight=weights),
        lambda: trainer.fit(X, LABELS, epochs=1, sample_weight=weights),
        lambda: trainer.fit([(X, LABELS, weights)], epochs=1),
        lambda: trainer.evaluate(X, LABELS, sample_weight=weights),
        lambda: trainer.step(X, LABELS, weights),
        lambda: trainer.fit(X, LABELS, epochs=1, validation_data=(X, LABELS, weights)),
    ]
    for run in runs:
        with pytest.raises(kind) as caught:
            run()
        assert words in str(caught.value)
        assert state_of(trainer) == before


# --- wrong arguments --------------------------------------------------------------------------------------------------

FIT: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "batch_size 0": ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
    "batch_size -1": ({"batch_size": -1}, ValueError, "batch_size must be an integer >= 1, got -1"),
    "batch_size True": ({"batch_size": True}, ValueError, "batch_size must be an integer >= 1, got True"),
    "batch_size 1.5": ({"batch_size": 1.5}, ValueError, "batch_size must be an integer >= 1, got 1.5"),
    "batch_size text": ({"batch_size": "8"}, ValueError, "batch_size must be an integer >= 1, got '8'"),
    "epochs 0": ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
    "epochs True": ({"epochs": True}, ValueError, "epochs must be an integer >= 1, got True"),
    "both validations": (
        {"validation_data": (X, LABELS), "validation_split": 0.2}, ValueError, "validation_data or validation_split",
    ),
    "split 1": ({"validation_split": 1.0}, ValueError, "validation_split must lie between 0 and 1, got 1.0"),
    "split -0.1": ({"validation_split": -0.1}, ValueError, "validation_split must lie between 0 and 1, got -0.1"),
    "split nan": ({"validation_split": NAN}, ValueError, "validation_split must lie between 0 and 1, got nan"),
    "split of all rows": ({"validation_split": 0.95}, ValueError, "leaves none to train on"),
    "split text": ({"validation_split": "0.2"}, ValueError, "validation_split must be a number"),
    "validation no pair": ({"validation_data": X}, ValueError, "validation data must be (x, y)"),
    "validation rows": ({"validation_data": (X, LABELS[:3])}, ValueError, "x has 5 rows, validation y has 3"),
    "validation label": ({"validation_data": (X, LABELS + 1)}, ValueError, "must lie in 0..2, got 3 in row 2"),
    "class_weight word": ({"class_weight": "balance"}, ValueError, "Did you mean 'balanced'?"),
    "class_weight misspelt": ({"class_weight": {0: 2.0, 3: 1.0}}, ValueError, "label 3 and no weight for the label 1"),
    "class_weight of text": ({"class_weight": {"0": 2.0}}, ValueError, "label '0' and no weight for the label 0"),
    "class_weight negative": ({"class_weight": {0: 1, 1: -1, 2: 1}}, ValueError, "class_weight must not be negative"),
    "class_weight nan": ({"class_weight": {0: 1, 1: NAN, 2: 1}}, ValueError, "class_weight contains NaN"),
    "class_weight text": ({"class_weight": {0: 1, 1: "b", 2: 1}}, ValueError, "class_weight holds"),
    "class_weight list": ({"class_weight": [1, 2, 3]}, TypeError, "class_weight is a dict of label to weight"),
    "unknown keyword": ({"batchsize": 3}, TypeError, "batchsize"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIT)
def test_wrong_arguments_of_fit(case: str) -> None:
    keywords, kind, words = FIT[case]
    trainer = trained()
    before = state_of(trainer)
    with pytest.raises(kind) as caught:
        trainer.fit(X, LABELS, **{"epochs": 1, **keywords})
    assert words in str(caught.value)
    assert state_of(trainer) == before


def test_class_weight_needs_labels() -> None:
    trainer = trained()
    with pytest.raises(ValueError, match="class_weight needs integer class labels"):
        trainer.fit(X, ONE_HOT, epochs=1, class_weight="balanced")


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "3"])
def test_wrong_batch_size_elsewhere(size: Any) -> None:
    trainer = trained()
    for run in (trainer.network.predict, lambda x, batch_size: trainer.evaluate(x, LABELS, batch_size=batch_size)):
        with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
            run(X, batch_size=size)
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
        trainer.plan(size)


class _Callback:
    def on_fit_begin(self, trainer: Any) -> None: ...


TRAINER: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "loss": ({"loss": "sofmax_cross_entropy"}, ValueError, "Did you mean 'softmax_cross_entropy'?"),
    "loss class": ({"loss": losses.SquaredError}, TypeError, "write SquaredError()"),
    "loss number": ({"loss": 3}, TypeError, "a loss is a name, a Loss"),
    "loss without a number": ({"loss": losses.SquaredError(reduction="none")}, ValueError, 'reduction "mean" or "sum"'),
    "optimizer": ({"optimizer": "adm"}, ValueError, "Did you mean 'adam'?"),
    "optimizer class": ({"optimizer": optimizers.Adam}, TypeError, "write Adam(...)"),
    "optimizer number": ({"optimizer": 0.1}, TypeError, "an optimizer is a name or an Optimizer"),
    "schedule": ({"optimizer": optimizers.SGD(lambda step: -1.0)}, ValueError, "the learning rate of step 0 is -1.0"),
    "metric": ({"metrics": ["acuracy"]}, ValueError, "Did you mean 'accuracy'?"),
    "metrics": ({"metrics": 5}, TypeError, "metrics is a sequence"),
    "callback class": ({"callbacks": [_Callback]}, TypeError, "write _Callback()"),
    "callbacks": ({"callbacks": _Callback()}, TypeError, "Put it in a list"),
    "on_nonfinite": ({"on_nonfinite": "rase"}, ValueError, "Did you mean 'raise'?"),
    "l1": ({"l1": -1e-3}, ValueError, "l1 must be a finite number >= 0, got -0.001"),
    "l2": ({"l2": NAN}, ValueError, "l2 must be a finite number >= 0, got nan"),
    "l2 text": ({"l2": "0"}, ValueError, "l2 must be a finite number >= 0, got '0'"),
    "clip_norm": ({"clip_norm": 0}, ValueError, "clip_norm must be a finite number > 0, got 0"),
    "clip_norm infinite": ({"clip_norm": INF}, ValueError, "clip_norm must be a finite number > 0, got inf"),
    "seed": ({"seed": -1}, ValueError, "seed must be an integer >= 0, got -1"),
    "network": ({"network": Dense(3)}, TypeError, "a Trainer takes a Network, got Dense"),
}  # fmt: skip


@pytest.mark.parametrize("case", TRAINER)
def test_wrong_arguments_of_a_trainer(case: str) -> None:
    keywords, kind, words = TRAINER[case]
    network = xmlp.mlp([2, 4, 3])
    before = network.theta.tobytes()
    arguments = {"network": network, "loss": SOFTMAX, "optimizer": "sgd", **keywords}
    with pytest.raises(kind) as caught:
        xmlp.Trainer(arguments.pop("network"), **arguments)
    assert words in str(caught.value)
    assert network.theta.tobytes() == before
    assert network.link == "identity"


MAKING: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "lr 0": (lambda: optimizers.Adam(0), ValueError, "Adam(lr) must be a finite number > 0, got 0"),
    "lr negative": (lambda: optimizers.SGD(-0.1), ValueError, "SGD(lr) must be a finite number > 0"),
    "lr nan": (lambda: optimizers.SGD(NAN), ValueError, "SGD(lr) must be a finite number > 0, got nan"),
    "lr infinite": (lambda: optimizers.RMSProp(INF), ValueError, "RMSProp(lr) must be a finite number > 0, got inf"),
    "lr True": (lambda: optimizers.SGD(True), ValueError, "SGD(lr) must be a finite number > 0, got True"),
    "momentum 1": (lambda: optimizers.SGD(0.1, momentum=1.0), ValueError, "0 <= momentum < 1, got 1.0"),
    "dropout 1": (lambda: xmlp.mlp([2, 3, 1], dropout=1), ValueError, "0 <= rate < 1, got 1"),
    "dropout -0.1": (lambda: xmlp.mlp([2, 3, 1], dropout=-0.1), ValueError, "0 <= rate < 1, got -0.1"),
    "dropout with nothing to drop": (lambda: xmlp.mlp([2, 1], dropout=3), ValueError, "0 <= rate < 1, got 3"),
    "units 0": (lambda: Dense(0), ValueError, "Dense(units) must be an integer >= 1, got 0"),
    "units -1": (lambda: Dense(-1), ValueError, "Dense(units) must be an integer >= 1, got -1"),
    "units True": (lambda: Dense(True), ValueError, "Dense(units) must be an integer >= 1, got True"),
    "units 10.5": (lambda: Dense(10.5), ValueError, "Dense(units) must be an integer >= 1, got 10.5"),
    "size 10.5": (lambda: xmlp.mlp([2, 10.5, 1]), ValueError, "each of the sizes must be an integer >= 1, got 10.5"),
    "size 0": (lambda: xmlp.mlp([2, 0, 1]), ValueError, "each of the sizes must be an integer >= 1, got 0"),
    "size True": (lambda: xmlp.mlp([2, True]), ValueError, "each of the sizes must be an integer >= 1, got True"),
    "size text": (lambda: xmlp.mlp([2, "a"]), ValueError, "each of the sizes must be an integer >= 1, got 'a'"),
    "size infinite": (lambda: xmlp.mlp([2, INF]), ValueError, "each of the sizes must be an integer >= 1, got inf"),
    "no sizes": (lambda: xmlp.mlp([]), ValueError, "sizes needs at least the inputs and the outputs, got []"),
    "one size": (lambda: xmlp.mlp([2]), ValueError, "sizes needs at least the inputs and the outputs, got [2]"),
    "sizes text": (lambda: xmlp.mlp("21"), TypeError, "sizes is a sequence of integers"),
    "sizes number": (lambda: xmlp.mlp(5), TypeError, "sizes is a sequence of integers"),
    "activation": (lambda: xmlp.mlp([2, 3, 1], "rellu"), ValueError, "'rellu'. Did you mean 'relu'?"),
    "activation of no layer": (lambda: xmlp.mlp([2, 1], "rellu"), ValueError, "Did you mean 'relu'?"),
    "activation number": (lambda: xmlp.mlp([2, 3, 1], 5), TypeError, "an activation is a name"),
    "output activation": (lambda: xmlp.mlp([2, 1], "relu", "sigmod"), ValueError, "Did you mean 'sigmoid'?"),
    "too many activations": (lambda: xmlp.mlp([2, 3, 1], ["relu"] * 2), ValueError, "2 activations for 1 hidden"),
    "normalization": (lambda: xmlp.mlp([2, 3, 1], normalization="bach"), ValueError, "Did you mean 'batch'?"),
    "initializer": (lambda: Dense(3, kernel_initializer="he_norml"), ValueError, "Did you mean 'he_normal'?"),
    "backend": (lambda: xmlp.mlp([2, 1], backend="nmpy"), ValueError, "Did you mean 'numpy'?"),
    "backend None": (lambda: xmlp.mlp([2, 1], backend=None), ValueError, "unknown backend 'None'"),
    "dtype": (lambda: xmlp.mlp([2, 1], dtype="float16"), xmlp.BackendError, "no 16-bit floats"),
    "dtype class": (lambda: xmlp.mlp([2, 1], dtype=int), xmlp.BackendError, "must be 'float32' or 'float64'"),
    "seed": (lambda: xmlp.mlp([2, 1], seed=1.5), ValueError, "seed must be an integer >= 0, got 1.5"),
    "in_features 0": (lambda: xmlp.Network([Dense(1)], 0), ValueError, "in_features must be an integer >= 1, got 0"),
    "in_features True": (lambda: xmlp.Network([Dense(1)], True), ValueError, "in_features must be an integer >= 1"),
    "no layers": (lambda: xmlp.Network([], 2), ValueError, "at least one layer"),
    "a layer alone": (lambda: xmlp.Network(Dense(1), 2), TypeError, "Put it in a list"),
    "a layer class": (lambda: xmlp.Network([Dropout], 2), TypeError, "write Dropout(...)"),
    "no layer": (lambda: xmlp.Network([3], 2), TypeError, "layer 0 is 3, not a Layer"),
    "a loss in the list": (lambda: xmlp.Network([Dense(1), losses.Huber()], 2), TypeError, "not a Layer"),
}  # fmt: skip


@pytest.mark.parametrize("case", MAKING)
def test_wrong_arguments_of_networks_and_optimizers(case: str) -> None:
    make, kind, words = MAKING[case]
    with pytest.raises(kind) as caught:
        make()
    assert words in str(caught.value)


def test_numpy_integers_are_integers() -> None:
    network = xmlp.Network([Dense(1)], np.int64(2))
    assert type(network.in_features) is int
    assert xmlp.Trainer(network, loss=SQUARED, optimizer="sgd").fit(X, BITS, epochs=np.int8(2)).epochs == 2
    assert xmlp.mlp(np.asarray([2, 3])).out_features == 3
    assert xmlp.mlp([2, 3.0]).out_features == 3
    assert type(xmlp.mlp([2, 3], dtype=np.dtype("float64")).dtype) is str


# --- arrays of other libraries ----------------------------------------------------------------------------------------

LIBRARY_CASES = [
    # network, array's library, dtype, what is said
    ("torch", "torch", "float64", "x is float64, the network float32"),
    ("torch", "torch", "float16", "x is float16, the network float32"),
    ("torch", "torch", "bfloat16", "x is bfloat16, the network float32"),
    ("torch", "torch", "complex64", "x is complex64, the network float32"),
    ("numpy", "torch", "complex64", "x is complex64, the network float32"),
    ("numpy", "torch", "bfloat16", "x is an array of torch (torch.bfloat16) that numpy cannot share"),
    ("numpy", "torch", "float64", "x is float64, the network float32"),
    ("jax", "jax", "float64", "x is float64, the network float32"),
    ("jax", "jax", "bfloat16", "x is bfloat16, the network float32"),
    ("jax", "torch", "float64", "x is float64, the network float32"),
    ("torch", "jax", "complex64", "x is complex64, the network float32"),
    ("array-api-strict", "torch", "float32", "the network on array_api_strict.Device('device1')"),
]


def made(library: str, array: Any, dtype: str) -> Any:
    """An array on the library's CPU device."""
    if library == "torch":
        torch = pytest.importorskip("torch")
        return torch.asarray(np.array(array)).to(getattr(torch, dtype))
    jax = pytest.importorskip("jax")
    return jax.numpy.asarray(np.array(array)).astype(dtype)


@pytest.mark.parametrize(("home", "library", "dtype", "words"), LIBRARY_CASES)
def test_device_arrays_are_not_converted_silently(home: str, library: str, dtype: str, words: str) -> None:
    require(home)
    require(library)
    trainer = trained(backend=home)
    before = state_of(trainer)
    x = made(library, X, dtype)
    runs = [lambda: trainer.network.predict(x), lambda: trainer.evaluate(x, x)]
    for run in runs + [lambda: trainer.fit(x, LABELS, epochs=1)] * (home == library):
        with pytest.raises(TypeError) as caught:
            run()
        assert words in str(caught.value)
        assert state_of(trainer) == before


def test_arrays_of_different_libraries_do_not_mix() -> None:
    require("torch")
    require("jax")
    cases = [("numpy", X, made("torch", LABELS, "int64"), "x is an array of numpy, y of torch")]
    cases += [("torch", made("torch", X, "float32"), made("jax", LABELS, "int32"), "x is an array of torch, y of jax")]
    cases += [("jax", made("torch", X, "float32"), LABELS, "x is an array of torch, y of numpy")]
    for home, x, y, words in cases:
        trainer = trained(backend=home)
        before = state_of(trainer)
        for run, arguments in ((trainer.fit, {"epochs": 1}), (trainer.network.value_and_grad, {"loss": SOFTMAX})):
            with pytest.raises(TypeError) as caught:
                run(x, y, **arguments)
            assert words in str(caught.value)
            assert state_of(trainer) == before


def test_another_device_is_refused() -> None:
    strict = pytest.importorskip("array_api_strict")
    network = xmlp.mlp([2, 3], backend="array-api-strict:device1")
    x = strict.asarray(np.float32(X), device=strict.Device("device2"))
    with pytest.raises(TypeError, match=r"x is on device .*device2.*, the network on .*device1"):
        network.predict(x)


def test_a_tensor_that_requires_a_gradient_does_not_pass_it_on() -> None:
    require("torch")
    x = made("torch", X, "float32").requires_grad_()
    for home in ("torch", "numpy"):
        trainer = trained(backend=home)
        y = made("torch", LABELS, "int64")
        trainer.fit(x, y, epochs=1)
        assert not getattr(trainer.network.theta, "requires_grad", False)
        assert not getattr(trainer.network.predict(x), "requires_grad", False)
        plain = trained(backend=home)
        plain.fit(np.float32(X), LABELS, epochs=1)
        assert state_of(plain)[0] == state_of(trainer)[0]


# --- iterables of batches ---------------------------------------------------------------------------------------------


def test_iterables_that_are_none() -> None:
    trainer = trained()
    before = state_of(trainer)
    wrong: list[tuple[Any, type[Exception], str]] = [
        ([], ValueError, "the iterable of batches gave none in epoch 3"),
        (iter(()), ValueError, "the iterable of batches gave none in epoch 3"),
        (5, TypeError, "fit takes arrays x and y, or an iterable of batches (x, y); got x of int"),
        ({"x": X, "y": LABELS}, TypeError, "got x of dict"),
        ("abc", TypeError, "got x of str"),
        (None, TypeError, "got x of NoneType"),
        ([X], TypeError, "batch 0 must be (x, y) or (x, y, sample_weight), got ndarray"),
        ([(X, LABELS, None, 1)], TypeError, "batch 0 must be (x, y)"),
        (X, ValueError, "fit needs y"),
        (columns_of(a=X[:, 0], b=X[:, 1]), ValueError, "fit needs y"),
    ]
    for batches, kind, words in wrong:
        with pytest.raises(kind) as caught:
            trainer.fit(batches, epochs=1)
        assert words in str(caught.value)
        assert state_of(trainer) == before
    for keywords in ({"sample_weight": [1]}, {"class_weight": "balanced"}, {"validation_split": 0.5}):
        with pytest.raises(ValueError, match="with an iterable of batches, weights come in the batches"):
            trainer.fit([(X, LABELS)], epochs=1, **keywords)
        assert state_of(trainer) == before


class _Failure(Exception):
    pass


def _good_then(bad: Any) -> Iterator[Any]:
    yield X[:2], LABELS[:2]
    yield X[2:], LABELS[2:]
    if bad is _Failure:
        raise _Failure("the disk is on fire")
    yield bad


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        ((X, LABELS[:4]), ValueError, "batch 2: x has 5 rows, batch 2: y has 4"),
        ((X[:, :1], LABELS), ValueError, "batch 2: x has 1 features, the network takes 2"),
        ((changed(X, (4, 1), NAN), LABELS), ValueError, "batch 2: x contains NaN or infinity: nan in row 4, column 1"),
        (([[1.0, 2.0], [1.0]], [0, 1]), ValueError, "batch 2: x is ragged"),
        ((X, LABELS + 1), ValueError, "must lie in 0..2"),
        ("xy", TypeError, "batch 2 must be (x, y)"),
        (X[:2], TypeError, "batch 2 must be (x, y)"),
        (_Failure, _Failure, "the disk is on fire"),
    ],
)
def test_batches_that_go_wrong_midway(bad: Any, kind: type[Exception], words: str, planned: bool) -> None:
    """The state is that after the last completed step."""
    if planned:
        pytest.importorskip("llvmlite")
    trainers = [
        xmlp.Trainer(xmlp.mlp([2, 4, 3], normalization="batch"), loss=SOFTMAX, optimizer="adam", planned=planned)
        for _ in range(2)
    ]
    with pytest.raises(kind) as caught:
        trainers[0].fit(_good_then(bad), epochs=1)
    assert words in str(caught.value)
    trainers[1].step(X[:2], LABELS[:2])
    trainers[1].step(X[2:], LABELS[2:])
    assert state_of(trainers[0]) == state_of(trainers[1])
    assert trainers[0].steps == 2
    assert trainers[0].history == {}


def test_a_generator_lasts_one_epoch() -> None:
    trainers = [xmlp.Trainer(xmlp.mlp([2, 4, 3]), loss=SOFTMAX, optimizer="adam") for _ in range(2)]
    batches = [(X[:2], LABELS[:2]), (X[2:], LABELS[2:])]
    with pytest.raises(ValueError, match="gave none in epoch 2; pass one that can be gone through again"):
        trainers[0].fit(iter(batches), epochs=3)
    trainers[1].fit(batches, epochs=1)
    trainers[0].history["seconds"] = trainers[1].history["seconds"]
    assert state_of(trainers[0]) == state_of(trainers[1])


# --- inputs that must work --------------------------------------------------------------------------------------------

WHOLE = np.asarray([[200.0, 100.0], [0.0, 1.0], [255.0, 255.0], [3.0, 128.0], [7.0, 0.0]])  # fits every dtype below


def strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
    wide[::2, 1::3] = array
    return wide[::2, 1::3]


def unwriteable(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


UNUSUAL: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "lists": lambda a, _: a.tolist(),
    "tuples": lambda a, _: tuple(map(tuple, a.tolist())),
    "float64": lambda a, _: a,
    "float32": lambda a, _: np.float32(a),
    "float16": lambda a, _: np.float16(a),
    "long double": lambda a, _: np.longdouble(a),
    "uint8": lambda a, _: np.uint8(a),
    "int64": lambda a, _: np.int64(a),
    "uint64": lambda a, _: np.uint64(a),
    "numeric objects": lambda a, _: a.astype(object),
    "numbers as text": lambda a, _: a.astype(str),
    "big-endian": lambda a, _: a.astype(">f8"),
    "big-endian integers": lambda a, _: a.astype(">i4"),
    "read-only": lambda a, _: unwriteable(a),
    "read-only float32": lambda a, _: unwriteable(np.float32(a)),
    "Fortran": lambda a, _: np.asfortranarray(a),
    "Fortran float32": lambda a, _: np.asfortranarray(np.float32(a)),
    "strided": lambda a, _: strided(a),
    "strided float32": lambda a, _: strided(np.float32(a)),
    "reversed": lambda a, _: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "memmap": lambda a, path: _mapped(a, path),
    "DataFrame": lambda a, _: columns_of(a=a[:, 0], b=np.int64(a[:, 1])),
    "subclass": lambda a, _: a.view(_Subclass),
}


class _Subclass(np.ndarray):
    pass


def _mapped(array: np.ndarray, path: Path) -> np.memmap:
    np.save(path / "x.npy", np.float32(array))
    return np.load(path / "x.npy", mmap_mode="r")


def fitted(x: Any, y: Any, planned: bool, dtype: str = "float32", **kw: Any) -> tuple[Any, ...]:
    network = xmlp.mlp([2, 4, 3 if np.asarray(y).max() > 1 or np.ndim(y) == 2 else 1], "tanh", dtype=dtype)
    loss = SOFTMAX if network.out_features == 3 else BINARY
    trainer = xmlp.Trainer(network, loss=loss, optimizer="adam", metrics=["accuracy"], planned=planned)
    trainer.fit(x, y, epochs=2, batch_size=2, **kw)
    trainer.history["seconds"] = []
    return state_of(trainer), network.predict(x).tobytes(), network.value_and_grad(x, y, loss)[1].flat.tobytes()


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_features_equal_the_plain_array(case: str, planned: bool, tmp_path: Path) -> None:
    if planned:
        pytest.importorskip("llvmlite")
    x = UNUSUAL[case](WHOLE, tmp_path)
    for dtype in ("float32", "float64"):
        expected = fitted(np.ascontiguousarray(WHOLE, dtype), LABELS, planned, dtype)
        assert fitted(x, LABELS, planned, dtype) == expected


@pytest.mark.parametrize("case", ["bool", "uint8"])
def test_bytes_and_booleans_do_not_wrap(case: str, mode: Mode) -> None:
    """200 + 100 is 300 and True + True is 2, on every backend."""
    x = WHOLE.astype(case)
    network = xmlp.Network([Dense(1, kernel_initializer="ones")], 2, backend=mode.backend())
    for given, back in ((x, np.asarray), (mode.put(x, None), mode.get)):
        assert back(network.predict(given)).tolist() == np.float64(x).sum(axis=1, keepdims=True).tolist()
    assert np.asarray(WHOLE, "uint8")[0].sum(dtype="uint8") == 44, "this is what wrapping gives"


def test_one_example_without_the_axis(mode: Mode) -> None:
    network = xmlp.mlp([2, 4, 3], backend=mode.backend())
    expected = mode.get(network.predict(mode.put(X[:1])))
    for x, back in ((X[0], np.asarray), (X[0].tolist(), np.asarray), (mode.put(X[0]), mode.get)):
        assert back(network.predict(x)).tobytes() == expected.tobytes()
        assert tuple(network.predict(x).shape) == (1, 3)


Y_CASES: dict[str, tuple[str, Any, Callable[[np.ndarray], Any]]] = {
    "column": (SQUARED, BITS, lambda y: y[:, 0]),
    "binary column": (BINARY, BITS, lambda y: y[:, 0]),
    "booleans": (BINARY, BITS, lambda y: y[:, 0] > 0.5),
    "integers": (BINARY, BITS, lambda y: np.int64(y)),
    "Series": (SQUARED, BITS, lambda y: columns_of(y=y[:, 0])["y"]),
    "Series of labels": (SOFTMAX, LABELS, lambda y: columns_of(y=y)["y"]),
    "float labels": (SOFTMAX, LABELS, lambda y: y + 0.0),
    "label list": (SOFTMAX, LABELS, lambda y: y.tolist()),
    "label column": (SOFTMAX, LABELS, lambda y: y[:, None]),
    "uint8 labels": (SOFTMAX, LABELS, np.uint8),
    "big-endian labels": (SOFTMAX, LABELS, lambda y: y.astype(">i2")),
    "labels as objects": (SOFTMAX, LABELS, lambda y: y.astype(object)),
    "integer one-hot": (SOFTMAX, ONE_HOT, np.int64),
    "boolean one-hot": (SOFTMAX, ONE_HOT, lambda y: y > 0.5),
    "one-hot lists": (SOFTMAX, ONE_HOT, lambda y: y.tolist()),
    "one-hot DataFrame": (SOFTMAX, ONE_HOT, lambda y: columns_of(a=y[:, 0], b=y[:, 1], c=y[:, 2])),
    "Fortran one-hot": (SOFTMAX, ONE_HOT, np.asfortranarray),
}


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("case", Y_CASES)
def test_unusual_targets_equal_the_plain_array(case: str, planned: bool) -> None:
    if planned:
        pytest.importorskip("llvmlite")
    loss, plain, change = Y_CASES[case]
    results = []
    for y in (plain, change(plain)):
        network = xmlp.mlp([2, 4, 3 if loss == SOFTMAX else 1], "tanh")
        trainer = xmlp.Trainer(network, loss=loss, optimizer="adam", planned=planned)
        trainer.fit(X, y, epochs=2, batch_size=2)
        trainer.history["seconds"] = []
        results.append((state_of(trainer), trainer.evaluate(X, y)))
    assert results[0] == results[1]


def test_unusual_weights_equal_the_plain_array() -> None:
    weights = np.asarray([1.0, 2.0, 0.0, 3.0, 1.0])
    expected = fitted(X, LABELS, False, sample_weight=weights)
    assert expected != fitted(X, LABELS, False)
    for unusual in (weights.tolist(), np.int64(weights), weights.astype(">f4"), columns_of(w=weights)["w"]):
        assert fitted(X, LABELS, False, sample_weight=unusual) == expected


def test_nothing_is_written_into_what_is_given(mode: Mode) -> None:
    """A float32 array is used without a copy; training must not change it."""
    x, weights = np.float32(X), np.float32([1, 2, 1, 1, 2])
    kept = x.copy(), LABELS.copy(), weights.copy()
    network = xmlp.mlp([2, 4, 3], backend=mode.backend())
    network.fit(x, LABELS, sample_weight=weights, epochs=3, batch_size=2)
    network.predict(x)
    for now, before in zip((x, LABELS, weights), kept, strict=True):
        assert now.tobytes() == before.tobytes()


def test_host_array_says_where() -> None:
    with pytest.raises(ValueError, match="thing holds 'a' in row 2\\."):
        host_array([1, 2, "a"], "thing")
    with pytest.raises(ValueError, match="in row 0, 1 in all"):
        check_finite(np.asarray([INF, 1.0]), "thing")
    with contextlib.suppress(ImportError):
        import pandas

        with pytest.raises(TypeError, match=r"the column \('a', 1\) holds dates"):
            host_array(pandas.DataFrame({("a", 1): unit("ns")}), "x")
