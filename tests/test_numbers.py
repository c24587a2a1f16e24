"""Numbers in settings: NumPy's, 0-d arrays and those of other libraries are Python's from the construction on."""

import json
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp import activations, initializers, losses, optimizers, schedules
from xmlp.host.scalars import plain
from xmlp.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm, ParamSpec, Standardize
from xmlp.network import configs

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 1))

MADE: dict[str, Any] = {
    "units": lambda n: Dense(n(4)),
    "use_bias": lambda n: Dense(4, use_bias=np.bool_(False)),
    "kernel": lambda n: Dense(4, kernel_initializer=n(0.5)),
    "Constant": lambda n: initializers.Constant(n(0.5)),
    "Normal": lambda n: initializers.Normal(n(0.5), n(1.0)),
    "VarianceScaling": lambda n: initializers.VarianceScaling(n(2.0)),
    "Orthogonal": lambda n: initializers.Orthogonal(n(2.0)),
    "Standardize": lambda n: Standardize(mean=n(3.0), scale=n(255.0)),
    "offset": lambda n: Standardize(offset=((np.int64(0), n(1000.0)),)),
    "Dropout": lambda n: Dropout(n(0.5)),
    "LayerNorm": lambda n: LayerNorm(eps=n(0.5)),
    "BatchNorm": lambda n: BatchNorm(momentum=n(0.5), eps=n(0.5)),
    "leaky_relu": lambda n: Activation(activations.leaky_relu.bind(alpha=n(0.5))),
    "Huber": lambda n: losses.Huber(delta=n(0.5)),
    "SquaredError": lambda n: losses.SquaredError(half=np.bool_(True)),
    "SoftmaxCrossEntropy": lambda n: losses.SoftmaxCrossEntropy(from_logits=np.bool_(True)),
    "SGD": lambda n: optimizers.SGD(n(0.5), momentum=n(0.5), nesterov=np.bool_(True)),
    "Adam": lambda n: optimizers.Adam(n(0.5), n(0.5), n(0.5), n(0.5)),
    "AdamW": lambda n: optimizers.AdamW(n(0.5), weight_decay=n(0.5)),
    "RMSProp": lambda n: optimizers.RMSProp(n(0.5), n(0.5), n(0.5)),
    "Adagrad": lambda n: optimizers.Adagrad(n(0.5), n(0.5)),
    "Cosine": lambda n: schedules.Cosine(n(0.5), total_steps=np.int64(10), warmup_steps=np.int32(2)),
    "Step": lambda n: schedules.Step(n(0.5), every_steps=np.int64(10), factor=n(0.5)),
}
NUMBERS: dict[str, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "long double": np.longdouble,
    "0-d array": np.asarray,
    "Fraction": Fraction,
    "Decimal": lambda x: Decimal(str(x)),
}


def leaves(value: Any) -> list[Any]:
    """All that stands in the fields of a configured object."""
    if hasattr(value, "__dataclass_fields__"):
        return [leaf for f in fields(value) for leaf in leaves(getattr(value, f.name))]
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in leaves(v)]
    return [*value.scalars.values()] if isinstance(value, xmlp.graph.Formula) else [value]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("setting", MADE)
def test_they_are_python_s_and_can_be_saved(setting: str, number: str) -> None:
    made = Dense(np.int64(4)) if setting == "units" else MADE[setting](NUMBERS[number])
    for leaf in leaves(made):
        assert type(leaf) in (bool, int, float, str, type(None)) or callable(leaf), (leaf, type(leaf))
    expected = MADE[setting](float if setting != "units" else int)
    assert made == expected
    assert configs.from_json(json.loads(json.dumps(configs.to_json(made)))) == expected


@pytest.mark.parametrize("name", ["torch", "jax.numpy", "array_api_strict"])
def test_those_of_other_libraries(name: str) -> None:
    library = pytest.importorskip(name)
    asarray = getattr(library, "asarray")  # noqa: B009 - of modules without types
    layer = Standardize(scale=asarray(255.0))
    assert layer == Standardize(scale=255.0)
    assert type(layer.scale) is float
    assert type(plain(asarray(True))) is bool
    assert type(plain(asarray(3))) is int
    with pytest.raises(ValueError, match="scale must be a finite number > 0"):
        Standardize(scale=asarray([1.0, 2.0]))


REFUSED: dict[str, tuple[Any, str]] = {
    "scale of text": (lambda: Standardize(scale="255"), "scale must be a finite number > 0, got '255'"),
    "scale 0": (lambda: Standardize(scale=np.float32(0)), "scale must be a finite number > 0"),
    "mean nan": (lambda: Standardize(mean=np.float32("nan")), "mean must be a finite number, got nan"),
    "several scales": (lambda: Standardize(scale=np.ones(3)), "scale must be a finite number > 0"),
    "use_bias": (lambda: Dense(3, use_bias="no"), r"Dense\(use_bias\) must be True or False, got 'no'"),
    "eps": (lambda: LayerNorm(eps=np.float32(-1)), "eps must be a finite number >= 0, got -1.0"),
    "eps of text": (lambda: BatchNorm(eps="tiny"), "eps must be a finite number >= 0, got 'tiny'"),
    "std": (lambda: initializers.Normal(np.float32("inf")), r"Normal\(std\) must be a finite number >= 0"),
    "mean": (lambda: initializers.Normal(mean="0"), r"Normal\(mean\) must be a finite number, got '0'"),
    "gain": (lambda: initializers.Orthogonal(np.nan), r"Orthogonal\(gain\) must be a finite number"),
    "value": (lambda: initializers.Constant("one"), r"Constant\(value\) must be a finite number"),
    "alpha": (lambda: Dense(3, activations.elu.bind(alpha=np.nan)), "the scalar alpha of elu must be a finite number"),
    "alpha of text": (lambda: Dense(3, activations.elu.bind(alpha="1")), "the scalar alpha of elu must be"),
    "half": (lambda: losses.SquaredError(half="yes"), r"SquaredError\(half\) must be True or False"),
    "delta": (lambda: losses.Huber(delta=np.float32(0)), "delta must be a finite number > 0"),
    "lr_scale": (lambda: ParamSpec((3,), lr_scale=np.nan), "lr_scale must be a finite number >= 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_number_is_refused_at_once(case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        make()


@dataclass(frozen=True)
class Shift(Layer):
    """A user's layer, whose own checks know nothing of the base's."""

    by: Any

    def __post_init__(self) -> None:
        pass

    def build(self, in_features: int) -> tuple[int, dict[str, ParamSpec]]:
        return in_features, {}

    def forward(self, params: Any, x: Any, ctx: Any) -> Any:
        return x + self.by, None

    def backward(self, params: Any, cache: Any, dy: Any, ctx: Any) -> Any:
        return dy, {}


def test_a_layer_of_ones_own(tmp_path: Path) -> None:
    network = xmlp.Network([Shift(np.float64(0.5)), Dense(1)], 3)
    assert type(network.layers[0].by) is float  # type: ignore[attr-defined]
    assert network.predict(X).dtype == np.float32
    network.save(tmp_path / "m")
    assert xmlp.load(tmp_path / "m", custom={"Shift": Shift}).layers[0] == Shift(0.5)


def test_nothing_is_lost_after_training(tmp_path: Path) -> None:
    """Saved by a callback during the fit, by hand after it, and read again."""
    layers = [
        Standardize(scale=np.float32(255)), Dense(np.int64(4), activations.leaky_relu.bind(alpha=np.float32(0.2))),
        BatchNorm(np.float32(0.5), np.float32(1e-3)), Dropout(np.float32(0.25)),
        Dense(1, kernel_initializer=initializers.Normal(np.float32(0.1)), bias_initializer=np.float32(0.5)),
    ]  # fmt: skip
    network = xmlp.Network(layers, np.int64(3))
    network.metadata = {
        "mean": np.float32(0.5), "count": np.int64(3), "flag": np.bool_(True), "classes": np.asarray([1, 2]),
        "nested": {"a": (np.float64(1.0), [np.int8(1)]), np.int64(7): "seven"}, "names": np.asarray(["a", "b"]),
    }  # fmt: skip
    trainer = xmlp.Trainer(
        network, loss=losses.Huber(np.float32(0.5)), optimizer="adam",
        callbacks=[xmlp.callbacks.Checkpoint(tmp_path / "run", on_error="raise")],
    )  # fmt: skip
    trainer.lr_scale = np.float32(0.5)  # type: ignore[assignment]
    trainer.fit(X, Y, epochs=2)
    network.save(tmp_path / "m")
    found = xmlp.load(tmp_path / "m")
    assert np.array_equal(found.predict(X), network.predict(X))
    assert found.metadata == {
        "mean": 0.5, "count": 3, "flag": True, "classes": [1, 2], "nested": {"a": [1.0, [1]], "7": "seven"},
        "names": ["a", "b"],
    }  # fmt: skip
    assert xmlp.Trainer.resume(tmp_path / "run").lr_scale == 0.5


def test_metadata_that_no_file_holds_do_not_end_a_fit(tmp_path: Path) -> None:
    network = xmlp.mlp([3, 4, 1])
    cases = [
        ({"when": {"a": [object()]}}, TypeError, r"metadata\['when'\]\['a'\]\[0\] is not JSON serializable: .*object"),
        ({"x": [1.0, np.float32("nan")]}, ValueError, r"metadata\['x'\]\[1\] is not JSON compliant: it is nan"),
        ({(1, 2): 3}, TypeError, r"its key \(1, 2\) is no string"),
        ({"day": np.datetime64("2024-01-01")}, TypeError, r"metadata\['day'\] is not JSON serializable"),
    ]
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for metadata, kind, words in [*cases, (endless, ValueError, "nested more than")]:
        network.metadata = metadata
        with pytest.raises(kind, match=words):
            network.save(tmp_path / "m")
        folder = tmp_path / f"run {words[:12]}"
        with pytest.warns(UserWarning, match=r"no checkpoint at step \d, training goes on"):
            history = network.fit(X, Y, epochs=1, callbacks=[xmlp.callbacks.Checkpoint(folder)])
        assert history.epochs == 1
    network.metadata = {}
    network.save(tmp_path / "m")


def test_decisions(tmp_path: Path) -> None:
    network = xmlp.mlp([3, 4, 2])
    network.link = "sigmoid"
    network.temperature = np.float32(2.0)  # type: ignore[assignment]
    network.thresholds = np.asarray([0.25, 0.75], np.float32)  # type: ignore[assignment]
    assert (type(network.temperature), network.thresholds) == (float, [0.25, 0.75])
    assert network.predict_proba(X).dtype == np.float32
    network.save(tmp_path / "m")
    found = xmlp.load(tmp_path / "m")
    assert (found.temperature, found.thresholds) == (2.0, [0.25, 0.75])
    network.temperature = 3
    assert network.temperature == 3.0
    for wrong in (0, -1.0, "1", np.nan, np.ones(2)):
        with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
            network.temperature = wrong
    with pytest.raises(ValueError, match="thresholds must be one number or"):
        network.thresholds = [0.5, 0.5, 0.5]


def test_scalars_of_a_formula_keep_the_dtype() -> None:
    x = np.ones(3, np.float32)
    assert activations.leaky_relu(x, alpha=np.float64(0.2)).dtype == np.float32
    bound = activations.leaky_relu.bind(alpha=np.asarray(0.2))
    assert bound == activations.leaky_relu.bind(alpha=0.2)
    assert repr(bound) == "leaky_relu(alpha=0.2)"

    two = np.float64(2.0)

    @xmlp.elementwise
    def own(xp, x, *, width=two):  # type: ignore[no-untyped-def]
        return x / width

    assert own(x).dtype == np.float32


def test_callbacks_may_remember_numpy_s_numbers(tmp_path: Path) -> None:
    class Counting:
        count = np.int64(0)

        def on_epoch_end(self, trainer: Any) -> None:
            self.count += np.int64(1)

        def state(self) -> dict[str, Any]:
            return {"count": self.count, "share": np.float32(0.5), "none": None}

        def restore(self, state: dict[str, Any]) -> None:
            assert type(state["count"]) is int
            self.count = state["count"]

    trainer = xmlp.Trainer(xmlp.mlp([3, 4, 1]), loss="squared_error", optimizer="adam", callbacks=[Counting()])
    trainer.fit(X, Y, epochs=3)
    trainer.save(tmp_path / "c")
    again = Counting()
    xmlp.Trainer.resume(tmp_path / "c", callbacks=[again])
    assert again.count == 3
