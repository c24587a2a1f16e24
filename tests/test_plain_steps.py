"""Steps that cannot be planned run all the same, and it is said once that they are slower, and why."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

import xmlp
from xmlp.layers import Dense, Layer


@dataclass(frozen=True)
class Sine(Layer):
    """sin x, which is not among the operations of a step."""

    def build(self, in_features):
        return in_features, {}

    def forward(self, params, x, ctx):
        return ctx.xp.sin(x), x

    def backward(self, params, cache, dy, ctx):
        return dy * ctx.xp.cos(cache), {}


class Loop(Sine):
    """A layer that wants numbers where a step has none."""

    def forward(self, params, x, ctx):
        return x * (1 + (float(ctx.xp.max(x)) > 1e9)), x

    def backward(self, params, cache, dy, ctx):
        return dy, {}


def trainer(layer=None, **settings):
    network = xmlp.Network([Dense(4, "tanh"), *([layer] if layer else []), Dense(1)], 3)
    return xmlp.Trainer(network, loss="squared_error", optimizer="adam", **settings)


@pytest.fixture
def data(rng):
    x = rng.normal(size=(50, 3))
    return x, x[:, :1]


def test_a_step_that_is_planned_says_nothing(data):
    made = trainer()
    made.fit(*data, epochs=2)
    assert made.plan_reason is None


@pytest.mark.parametrize(("layer", "why"), [(Sine(), "xp.sin is not among the operations of a step"), (Loop(), "")])
def test_what_cannot_be_planned_is_told_once_with_its_reason(data, layer, why):
    made = trainer(layer)
    with pytest.warns(UserWarning, match="training runs without a plan, which is slower") as told:
        made.fit(*data, epochs=3, batch_size=16)  # steps of two shapes
    made.fit(*data, epochs=1, batch_size=50)
    assert len(told) == 1
    assert why in str(told[0].message)
    assert made.plan_reason in str(told[0].message)
    assert made.history["loss"][-1] < made.history["loss"][0]


def test_who_asks_for_plain_steps_is_not_warned(data):
    made = trainer(Sine(), planned=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.fit(*data, epochs=1)
    assert made.plan_reason == "planned=False"


def test_who_insists_on_a_plan_gets_an_error(data):
    with pytest.raises(xmlp.BackendError, match=r"xp\.sin is not among"):
        trainer(Sine(), planned=True).fit(*data, epochs=1)


def test_plain_and_planned_steps_give_the_same(data):
    found = []
    for planned in (None, False):
        made = trainer(planned=planned)
        made.fit(*data, epochs=3)
        found.append(np.asarray(made.network.theta))
    assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-7)


def test_after_a_change_of_settings_the_reason_is_that_of_the_steps_so_far(data):
    made = trainer(Sine())
    with pytest.warns(UserWarning, match="without a plan"):
        made.fit(*data, epochs=1)
    why = made.plan_reason
    made.change(l2=0.1)
    assert made.plan_reason == why
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said before
        made.fit(*data, epochs=1)
    assert made.plan_reason == why


def test_a_change_that_lets_steps_be_planned_ends_the_reason(data, monkeypatch):
    made = trainer()
    with monkeypatch.context() as broken:
        broken.setattr("xmlp.training.planned.trace", lambda *a: (_ for _ in ()).throw(ValueError("broken.")))
        with pytest.warns(UserWarning, match="which is slower: broken"):
            made.fit(*data, epochs=1)
    made.change(l2=0.1)
    assert made.plan_reason == "broken"
    made.fit(*data, epochs=1)
    assert made.plan_reason is None


def test_a_backend_without_plans_tells_why_and_does_not_warn(data):
    network = xmlp.mlp([3, 4, 1], backend="array-api-strict")
    made = xmlp.Trainer(network, loss="squared_error", optimizer="sgd")
    made.fit(*data, epochs=1)
    assert isinstance(made.plan_reason, str)
    assert made.plan_reason
