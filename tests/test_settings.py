"""A setting is used or refused, in estimators, trainers, callbacks, optimizers and schedules; nowhere is it ignored."""

import pickle
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import xmlp
from xmlp import callbacks, optimizers, schedules
from xmlp.graph import Formula, elementwise
from xmlp.layers import Dense
from xmlp.optimizers import SGD, Adam, AdamW, Optimizer

RNG = np.random.default_rng(4)
N = 60
X = RNG.normal(size=(N, 3))
LABELS = (X[:, 0] + 0.2 * RNG.normal(size=N) > 0).astype(int)
REALS = X[:, 0] * 2 + 1


def classifier(**kw: Any) -> Any:
    pytest.importorskip("sklearn")
    return xmlp.MLPClassifier(**{"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0, "tol": None, **kw})


def regressor(**kw: Any) -> Any:
    pytest.importorskip("sklearn")
    return xmlp.MLPRegressor(**{"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0, **kw})


def theta(model: Any) -> Any:
    return model.network_.theta.copy()


# --- settings that change while training goes on ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("first", "then", "rate"),
    [
        ("cosine", 0.01, 0.01),
        ("cosine", schedules.Constant(0.02), 0.02),
        ("one_cycle", np.float32(0.5), 0.5),
        (0.01, 0.05, 0.05),
        (schedules.Polynomial(0.1, total_steps=4), 0.03, 0.03),
        ("auto", schedules.Step(0.04, every_steps=10**6), 0.04),
    ],
)
def test_another_learning_rate_is_used(method: str, first: Any, then: Any, rate: float) -> None:
    model = classifier(learning_rate=first, warm_start=True).fit(X, LABELS)
    before = theta(model)
    getattr(model.set_params(learning_rate=then), method)(X, LABELS)
    assert model.history_["lr"][-1] == rate
    assert np.abs(theta(model) - before).max() > rate / 10


def test_a_new_schedule_begins_when_it_is_set() -> None:
    model = classifier(learning_rate="cosine", warm_start=True).fit(X, LABELS)
    model.set_params(learning_rate="one_cycle").fit(X, LABELS)
    assert max(model.history_["lr"][-4:]) > 5e-4 > 3e-4 > model.history_["lr"][-1]
    model.set_params(learning_rate=schedules.Polynomial(0.1, total_steps=4)).fit(X, LABELS)
    assert model.history_["lr"][-4:] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    model.set_params(learning_rate=schedules.Polynomial(0.1, total_steps=4))  # the same, which has come to its end
    before = theta(model)
    assert np.array_equal(theta(model.fit(X, LABELS)), before)


def test_after_a_named_schedule_partial_fit_goes_on_with_the_rate() -> None:
    model = classifier(learning_rate="cosine", optimizer=Adam(0.03)).fit(X, LABELS)
    before = theta(model)
    model.partial_fit(X, LABELS)
    assert model.history_["lr"][-1] == 0.03
    assert np.abs(theta(model) - before).max() > 1e-3
    with pytest.raises(ValueError, match="ended with the first fit"):
        model.set_params(warm_start=True).fit(X, LABELS)


USED: dict[str, Any] = {
    "l1": 0.1, "l2": np.float64(0.3), "clip_norm": 1e-3, "optimizer": Adam(beta1=0.5), "batch_size": 7,
    "shuffle": False, "class_weight": {0: 9.0}, "max_iter": 6, "learning_rate": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", USED)
def test_what_can_change_is_used(name: str) -> None:
    """As by a trainer that has had this setting from the same point on; after a pickle, too."""
    plain, changed = (classifier(warm_start=True, batch_size=20).fit(X, LABELS) for _ in range(2))
    later = pickle.loads(pickle.dumps(changed))
    for model in (changed, later):
        model.set_params(**{name: USED[name]}).fit(X, LABELS)
    assert np.abs(theta(changed) - theta(plain.fit(X, LABELS))).max() > 1e-4
    assert np.array_equal(theta(changed), theta(later))


def test_other_penalties_and_optimizers_are_those_of_a_trainer() -> None:
    model = classifier(warm_start=True, batch_size=20, optimizer=SGD(0.1, momentum=0.5)).fit(X, LABELS)
    network, trainer = model.network_.to("numpy"), model._trainer
    other = xmlp.Trainer(network, loss="binary_cross_entropy", optimizer=SGD(0.2, momentum=0.9), l2=0.05, l1=0.01)
    for name in ("seed", "epoch", "steps", "history"):
        setattr(other.run, name, getattr(trainer.run, name))
    other.run.slots = {name: slot.copy() for name, slot in trainer.run.slots.items()}
    model.set_params(optimizer=SGD(0.2, momentum=0.9), l2=0.05, l1=0.01).fit(X, LABELS)
    other.fit(X, LABELS[:, None], epochs=4, batch_size=20)
    assert np.array_equal(theta(model), other.network.theta)


REFUSED: dict[str, Any] = {
    "hidden_layer_sizes": (7,), "activation": "tanh", "dropout": 0.5, "normalization": "layer",
    "loss": "squared_error", "optimizer": "sgd", "dtype": "float32", "backend": "array-api-strict", "random_state": 1,
    "metrics": ["f1"], "monitor": "accuracy",
}  # fmt: skip


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_change_is_refused(name: str, method: str) -> None:
    model = classifier(warm_start=True).fit(X, LABELS)
    before = model.predict_proba(X)
    for one in (model, pickle.loads(pickle.dumps(model))):
        one.set_params(**{name: REFUSED[name]})
        with pytest.raises(ValueError, match=f"{name}.*(cannot become|those of the first fit)"):
            getattr(one, method)(X, LABELS)
        assert np.array_equal(one.predict_proba(X), before)
    one.set_params(warm_start=False).fit(X, LABELS)


def test_refusals_name_both_values_and_the_way_out() -> None:
    model = regressor(warm_start=True, scale_targets=True).fit(X, REALS)
    with pytest.raises(ValueError, match=r"scale_targets was True .* cannot become False now: fit anew"):
        model.set_params(scale_targets=False).fit(X, REALS)
    with pytest.raises(ValueError, match=r"optimizer was Adam\(lr=0.001.* cannot become SGD"):
        model.set_params(scale_targets=True, optimizer=SGD(0.1)).fit(X, REALS)
    with pytest.raises(ValueError, match="whose state is another"):
        regressor(warm_start=True, optimizer=SGD(0.1)).fit(X, REALS).set_params(
            optimizer=SGD(0.1, momentum=0.9)
        ).fit(X, REALS)  # fmt: skip


def test_a_list_that_was_changed_in_place_is_noticed() -> None:
    sizes = [6]
    model = classifier(hidden_layer_sizes=sizes, warm_start=True).fit(X, LABELS)
    sizes.append(5)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes was \(6,\)"):
        model.fit(X, LABELS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_after_a_failure_the_setting_of_before_is_used_again() -> None:
    model = classifier(optimizer=SGD(0.1), warm_start=True, batch_size=10).fit(X, LABELS)
    with pytest.raises(xmlp.DivergenceError):
        model.set_params(learning_rate=1e200).fit(X, LABELS)
    model.set_params(learning_rate="auto").fit(X, LABELS)
    assert model.history_["lr"][-1] == 0.1


def test_partial_fit_sets_no_rows_aside() -> None:
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        classifier(early_stopping=True).partial_fit(X, LABELS, classes=[0, 1])


# --- kinds of values --------------------------------------------------------------------------------------------------

WRONG: dict[str, Any] = {
    "shuffle": "yes", "warm_start": "no", "early_stopping": 1, "verbose": "no", "scale_targets": "yes",
    "dropout": "0.1",
    "l1": "0", "l2": "none", "clip_norm": True, "batch_size": 2.5, "max_iter": 0, "tol": "small",
    "n_iter_no_change": 2.5, "learning_rate": True, "validation_fraction": "0.1", "callbacks": [object()],
    "normalization": True, "hidden_layer_sizes": (2.5,), "optimizer": 3, "activation": 3, "loss": 3, "monitor": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_settings_of_estimators_of_the_wrong_kind(name: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        regressor(**{name: WRONG[name]}).fit(X, REALS)


def test_numbers_of_numpy_are_numbers() -> None:
    plain = regressor(dropout=0.25, l1=0.5, l2=0.125, learning_rate=0.25, batch_size=8, clip_norm=1.0, tol=0.125)
    numpy = regressor(
        hidden_layer_sizes=np.int64(6), dropout=np.float32(0.25), l1=np.float32(0.5), l2=np.float64(0.125),
        learning_rate=np.float32(0.25), batch_size=np.int32(8), clip_norm=np.float16(1.0), tol=np.float32(0.125),
        max_iter=np.int64(4), shuffle=np.bool_(True), verbose=np.bool_(False), scale_targets=np.bool_(True),
        n_iter_no_change=np.uint8(10), validation_fraction=np.float32(0.5), warm_start=np.bool_(False),
        random_state=np.int64(0),
    )  # fmt: skip
    assert np.array_equal(theta(numpy.fit(X, REALS)), theta(plain.fit(X, REALS)))


def test_positions_are_those_of_scikit_learn() -> None:
    model = xmlp.MLPRegressor((6,), "tanh") if regressor() else None
    assert model is not None
    assert (model.activation, model.scale_targets) == ("tanh", "auto")
    assert xmlp.MLPClassifier((6,), "tanh").activation == "tanh"
    for kind in (xmlp.MLPRegressor, xmlp.MLPClassifier):
        with pytest.raises(TypeError, match="positional arguments"):
            kind((6,), "tanh", "balanced")


def trainer(**kw: Any) -> xmlp.Trainer:
    return xmlp.Trainer(xmlp.mlp([3, 4, 1]), **{"loss": "squared_error", "optimizer": "adam", **kw})


OF_FIT: dict[str, Any] = {
    "shuffle": "yes", "verbose": "no", "epochs": 1.5, "batch_size": "8", "validation_split": "0.1",
}  # fmt: skip


@pytest.mark.parametrize("name", OF_FIT)
def test_settings_of_fit_of_the_wrong_kind(name: str) -> None:
    for fit in (trainer().fit, xmlp.mlp([3, 4, 1]).fit):
        with pytest.raises(ValueError, match=name):
            fit(X, REALS, **{"epochs": 1, name: OF_FIT[name]})


def test_a_keyword_of_fit_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        xmlp.mlp([3, 4, 1]).fit(X, REALS, epoch=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'bakend'"):
        xmlp.Trainer.resume("checkpoint", bakend="numpy")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="planned must be True or False"):
        trainer(planned="no")
    with pytest.raises(ValueError, match="clip_norm must be"):
        trainer(clip_norm="1")
    xmlp.mlp([3, 4, 1]).fit(
        X, REALS, epochs=np.int64(1), batch_size=np.int32(9), l1=np.float32(0), l2=np.float32(0.5), seed=np.int64(1),
        clip_norm=np.float32(1), shuffle=np.bool_(False), verbose=0, validation_split=np.float32(0.25),
    )  # fmt: skip


def test_levels_of_verbosity(capsys: pytest.CaptureFixture[str]) -> None:
    for verbose, lines in ((0, 0), (1, 1), (2, 1), (np.bool_(True), 1), (False, 0)):
        trainer().fit(X, REALS, epochs=1, verbose=verbose)
        assert capsys.readouterr().out.count("\n") == lines


# --- callbacks --------------------------------------------------------------------------------------------------------


def with_methods(*names: str) -> Any:
    return type("Mine", (), {name: lambda self, trainer: None for name in names})()


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (with_methods("on_epoch_ended"), r"Mine\.on_epoch_ended would never be called.*Did you mean 'on_epoch_end'\?"),
        (with_methods("on_fit_begin", "on_stepend"), "Did you mean 'on_step_end'"),
        (with_methods("on_train_begin", "on_epoch_end"), "here the event is 'on_fit_begin'"),
        (with_methods("on_batch_end"), "here the event is 'on_step_end'"),
        (with_methods("epoch_end"), "a callback is an object with some of the methods on_fit_begin, "),
        (object(), "some of the methods"),
        (lambda trainer: None, "some of the methods"),
        (type("Mine", (), {"on_epoch_end": 3})(), "on_epoch_end must be a method, got 3"),
        (callbacks.MaxSeconds, r"the class MaxSeconds, not an instance: write MaxSeconds\(\)"),
    ],
)
def test_callbacks_that_would_never_be_called(callback: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        trainer(callbacks=[callback])
    late = trainer()
    late.callbacks.append(callback)
    with pytest.raises((TypeError, ValueError), match=words):
        late.fit(X, REALS, epochs=1)
    with pytest.raises((TypeError, ValueError), match=words):
        classifier(callbacks=[callback]).fit(X, LABELS)


def test_callbacks_that_are_called(tmp_path: Any) -> None:
    """Attributes whose names begin alike but are no methods do not matter; events may come from anywhere."""

    class Any_:
        on_error = "warn"
        seen: ClassVar[list[str]] = []

        def __getattr__(self, name: str) -> Any:
            if name == "on_epoch_end":
                return lambda trainer: self.seen.append(name)
            raise AttributeError(name)

    one = trainer(callbacks=[Any_(), callbacks.Checkpoint(tmp_path, on_error="raise")])
    one.fit(X, REALS, epochs=1)
    assert Any_.seen == ["on_epoch_end"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: callbacks.EarlyStopping(restore_best="no"),  # type: ignore[arg-type]
        lambda: callbacks.EarlyStopping(patience=2.5),  # type: ignore[arg-type]
        lambda: callbacks.EarlyStopping(min_delta="0"),  # type: ignore[arg-type]
        lambda: callbacks.ReduceOnPlateau(factor=True),
        lambda: callbacks.ReduceOnPlateau(min_lr="0"),  # type: ignore[arg-type]
        lambda: callbacks.MaxSeconds("1"),  # type: ignore[arg-type]
        lambda: callbacks.MaxSeconds(True),
        lambda: callbacks.Checkpoint("folder", keep=True),
        lambda: callbacks.Checkpoint("folder", every_seconds="1"),  # type: ignore[arg-type]
        lambda: optimizers.SGD(0.1, momentum=0.5, nesterov="no"),  # type: ignore[arg-type]
        lambda: schedules.Constant(True),
    ],
)
def test_settings_of_callbacks_and_optimizers_of_the_wrong_kind(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_their_numbers_may_be_of_numpy() -> None:
    stopping = callbacks.EarlyStopping("loss", patience=np.int64(3), min_delta=np.float32(0.5))
    plateau = callbacks.ReduceOnPlateau("loss", factor=np.float32(0.5), patience=np.int32(2), min_lr=np.float64(0))
    one = trainer(
        callbacks=[stopping, plateau, callbacks.MaxSeconds(np.float32(100))],
        optimizer=AdamW(np.float32(0.5), beta1=np.float64(0.5), weight_decay=np.float32(0.25)),
    )
    one.fit(X, REALS, epochs=2)
    assert type(one.optimizer.lr) is float
    cosine = schedules.Cosine(np.float32(0.5), np.int64(10), np.int32(2))
    assert (type(cosine.lr), type(cosine.total_steps)) == (float, int)
    assert cosine == schedules.Cosine(0.5, 10, 2)


# --- optimizers of one's own ------------------------------------------------------------------------------------------


@elementwise
def descent(xp, theta, grad, *, lr, keep):  # type: ignore[no-untyped-def]
    return keep * theta - lr * grad


@dataclass(frozen=True)
class Own(Optimizer):
    """Gradient descent whose decay begins after `late` steps."""

    lr: Any = 0.01
    beta3: float = 0.9
    gain: float = 1.0
    late: int = 3
    lazy: bool = False
    kind: Any = "any"

    @property
    def rule(self) -> Formula:
        return descent

    def scalars(self, lr: float, step: int, decay: bool = True) -> dict[str, float]:
        return {"lr": lr, "keep": 0.5 if decay and step > self.late else 1.0}


class Careless(Own):
    """One that forgets the checks of its base."""

    def __post_init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"beta3": 5.0}, "beta3.* must be a number with 0 <= beta3 < 1, got 5.0"),
        ({"beta3": "0.9"}, "beta3.* must be"),
        ({"gain": float("nan")}, "gain.* must be a finite number, got nan"),
        ({"gain": True}, "gain.* must be a finite number"),
        ({"late": 2.5}, "late.* must be an integer >= 0"),
        ({"lazy": "no"}, "lazy.* must be True or False"),
        ({"lr": -1.0}, "lr.* must be a finite number > 0"),
    ],
)
def test_fields_of_an_optimizer_of_ones_own(wrong: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Own(**wrong)
    with pytest.raises(ValueError, match=words):
        optimizers.get(Careless(**wrong))
    assert optimizers.get(Careless(gain=np.float32(0.5), kind=object())).gain == 0.5


@pytest.mark.parametrize("planned", [False, True], ids=["plain", "planned"])
def test_decay_that_begins_later_spares_biases(planned: bool) -> None:
    if planned:
        pytest.importorskip("llvmlite")
    network = xmlp.Network([Dense(1, bias_initializer=0.5)], 2, dtype="float64")
    weights = network.parameters[0]["W"].copy()
    one = xmlp.Trainer(network, loss="squared_error", optimizer=Own(), planned=planned)
    for _ in range(5):
        one.step(np.zeros((4, 2)), np.full((4, 1), 0.5))
    assert np.allclose(network.parameters[0]["W"], weights / 4, rtol=1e-15)
    assert network.parameters[0]["b"][0] == 0.5


def test_whether_an_optimizer_decays_is_said() -> None:
    network = xmlp.mlp([3, 4, 1])
    segments = {name: len(xmlp.Trainer(network, loss="squared_error", optimizer=rule).run.step.segments)
                for name, rule in {"adam": "adam", "sgd": "sgd", "adamw": "adamw", "none": AdamW(weight_decay=0.0),
                                   "own": Own()}.items()}  # fmt: skip
    assert segments == {"adam": 1, "sgd": 1, "adamw": 2, "none": 1, "own": 2}
