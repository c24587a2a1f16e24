"""A program without mistakes that uses most of what is public. `tests/test_typing.py` checks it, and runs it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import xmlp
from xmlp import MLPClassifier, MLPRegressor, Network, Trainer, callbacks, initializers, layers, losses, schedules
from xmlp.layers import Dense, Dropout, Layer, LayerNorm, ParamSpec
from xmlp.losses import LossName
from xmlp.types import Array, Dtype

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 2))
y = x[:, :1] * x[:, 1:]
labels = (x[:, 0] > 0).astype(int)
folder = Path(tempfile.mkdtemp())

# --- networks ---------------------------------------------------------------------------------------------------------

dtype: Dtype = "float64"
plain = xmlp.mlp([2, 8, 1])
deep = xmlp.mlp(
    (2, 8, 8, 1), ["relu", xmlp.activations.leaky_relu.bind(alpha=0.2)], output_activation="tanh", dropout=0.1,
    normalization="batch", backend="numpy", dtype=dtype, seed=3,
)  # fmt: skip
there = xmlp.backend("numpy", dtype="float64")
print(xmlp.available_backends()["numpy"].upper(), there.dtype, there.xp.pi)


@xmlp.elementwise
def bump(xp: Any, x: Any, *, width: float = 1.0) -> Any:
    """exp(-(x / width)^2)."""
    return xp.exp(-((x / width) ** 2))


class Cube:
    """An activation by its value and derivative."""

    def fn(self, z: Any) -> Any:
        return z**3

    def deriv(self, z: Any) -> Any:
        return 3 * z**2


@dataclass(frozen=True)
class Scale(Layer):
    """y = x s."""

    start: float = 1.0

    def build(self, in_features: int) -> tuple[int, dict[str, ParamSpec]]:
        return in_features, {"s": ParamSpec((in_features,), self.start)}

    def forward(self, params: layers.Params, x: Array, ctx: Any) -> tuple[Array, Any]:
        return x * params["s"], x

    def backward(self, params: layers.Params, cache: Any, dy: Array, ctx: Any) -> tuple[Array, dict[str, Array]]:
        return dy * params["s"], {"s": ctx.xp.sum(dy * cache, axis=-2)}


def small(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    return 0.01 * rng.standard_normal(shape)


network = Network(
    [
        layers.Standardize(), Dense(8, activation=bump, kernel_initializer="he_normal"), LayerNorm(), "relu",
        layers.Residual([Dense(8, "tanh", kernel_initializer=small), Scale()]), Dropout(0.1),
        Dense(8, activation=Cube(), kernel_initializer=initializers.Normal(0.1), bias_initializer=0.5),
        layers.Activation("sigmoid"), Dense(1, use_bias=False),
    ],
    in_features=2, backend=there,
)  # fmt: skip
network.adapt(x)
print(network.summary().splitlines()[0], network.layout.size + network.in_features, network.layers[0])
network.metadata["made by"] = "an example"
network.temperature, network.thresholds = 1.0, None
network.theta = network.theta * 0.5
network.parameters[1]["b"] = np.ones(8)
shapes: list[tuple[int, ...]] = [views["W"].shape for views in plain.parameters]
print(shapes, float(network.theta[0]), np.linalg.norm(network.theta), np.asarray(network.theta).max())

prediction = network.predict(x, batch_size=16)
print(prediction.mean(axis=0).tolist(), network.predict([[0.0, 1.0]]).shape, network.predict(x.tolist()).T)
value, gradients = network.value_and_grad(x, y, "squared_error")
print(float(value), gradients.flat.shape, gradients[1]["W"] + 1.0, float(network.loss_value(x, y, losses.Huber(0.5))))
outputs, caches = network.forward(x)
dx, more = network.backward(caches, np.ones((64, 1)))
print((outputs - dx[:, :1]).shape, abs(more.flat).max())

plain.save(folder / "model.safetensors")
again: Network = xmlp.load(folder / "model.safetensors", "numpy", custom={"Scale": Scale, "bump": bump})
network.to("numpy", dtype="float32").predict(x)

# --- training ---------------------------------------------------------------------------------------------------------


class Print:
    """A callback of one's own."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        print(trainer.epoch, trainer.history["loss"][-1], trainer.lr, trainer.network.theta.shape)


def worst(targets: npt.NDArray[Any], predictions: npt.NDArray[Any], *, sample_weight: Any = None) -> float:
    return float(np.abs(targets - predictions).max())


@xmlp.elementwise
def quartic(xp, prediction, target):  # type: ignore[no-untyped-def]
    """(prediction - target)^4."""
    return (prediction - target) ** 4


stopping = callbacks.EarlyStopping(patience=3, mode="min")
history = plain.fit(
    x, y, loss="huber", optimizer="sgd", metrics=["mae", worst], callbacks=[stopping, Print()], epochs=2,
    validation_split=0.25, sample_weight=np.ones(64), l2=1e-4, clip_norm=1.0, on_nonfinite="raise",
)  # fmt: skip
last: float = history["loss"][-1] + history["val_mae"][-1]
print(last, history.epochs, stopping.best, stopping.stopped, history.get("skipped", []))
history.to_csv(folder / "history.csv")

every: list[LossName] = ["squared_error", "absolute_error"]
for loss in (*every, quartic, losses.SquaredError(half=True, reduction="sum")):
    xmlp.mlp([2, 4, 1]).fit(x, y, loss=loss, epochs=1)

trainer = Trainer(
    xmlp.mlp([2, 8, 1], "gelu"), loss="squared_error",
    optimizer=xmlp.optimizers.AdamW(schedules.Cosine(1e-2, total_steps=100), weight_decay=0.1), metrics=("r2",),
    callbacks=[
        callbacks.Checkpoint(folder / "run", best="val_loss"), callbacks.CSVLogger(folder / "log.csv"),
        callbacks.ReduceOnPlateau("loss"), callbacks.MaxSeconds(60.0), callbacks.LearningRateMonitor(),
    ],
)  # fmt: skip
trained: xmlp.History = trainer.fit(x, y, epochs=1, validation_data=(x, y), batch_size=16, shuffle=False)
trainer.change(l1=1e-4, clip_norm=None)
trainer.optimizer = xmlp.optimizers.AdamW(lambda step: 0.1 / (1 + step))
scores: dict[str, float] = trainer.evaluate(x, y)
print(float(trainer.step(x[:4], y[:4])), trainer.steps, scores["loss"], trainer.memory(16), trainer.plan_reason)
watching = [callbacks.ReduceOnPlateau("loss"), callbacks.Checkpoint(folder / "run", best="val_loss")]
resumed = Trainer.resume(folder / "run", metrics=["r2"], callbacks=watching)


class Batches:
    """Batches that can be gone through again."""

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        yield from ((x[k : k + 16], y[k : k + 16]) for k in range(0, 64, 16))


Trainer(xmlp.mlp([2, 4, 1]), loss="squared_error", optimizer="rmsprop").fit(Batches(), epochs=1)
decider = xmlp.mlp([2, 4, 1])
decider.fit(x, labels, loss="binary_cross_entropy", class_weight="balanced", epochs=1, verbose=False)
thresholds: list[float] = decider.tune_thresholds(x, labels, "f1")
temperature: float = decider.calibrate(x, labels)
print(decider.predict_label(x).sum(), decider.predict_proba(x)[:, 0].max(), decider.predict_label(x, 0.5), thresholds)

# --- losses, metrics, gradients, data ---------------------------------------------------------------------------------

loss_value = losses.SoftmaxCrossEntropy()(np.zeros((3, 2)), np.asarray([0, 1, 1]))
each_loss = losses.SquaredError(reduction="none")(y, y)
print(float(loss_value), each_loss.shape, losses.Huber().value_and_grad(y, y)[1].shape)
accuracy: float = xmlp.metrics.accuracy(labels, labels)
f1: float = xmlp.metrics.f1([0, 1, 1], [0, 1, 0], average="macro")
each: list[float] = xmlp.metrics.precision(labels, labels, average=None)
print(accuracy, f1, each, xmlp.metrics.confusion_matrix(labels, labels)[0, 0])
report = xmlp.testing.check_gradients(xmlp.mlp([2, 3, 1], "tanh", dtype="float64"), x, y, "squared_error")
print(report.passed, report.max_error, bump(x).shape, bump.derivative(x, width=2.0).shape, bump.derivative.source)
passed: list[bool] = [result.passed for result in xmlp.verify.verify(only="002-18")]
digits = xmlp.data.load("digits")
with xmlp.deterministic():
    pictures = MLPClassifier((16,), activation="tanh", max_iter=1, random_state=0, callbacks=[Print()])
    pictures.fit(digits.x_train / 16, digits.y_train, validation_data=(digits.x_test / 16, digits.y_test))

# --- estimators -------------------------------------------------------------------------------------------------------

classifier = MLPClassifier(
    8, optimizer=xmlp.optimizers.Adam(0.01), learning_rate="cosine", loss="binary_cross_entropy", l2="auto",
    batch_size="auto", max_iter=2, monitor="accuracy", metrics=["f1"], class_weight={0: 1.0, 1: 2.0}, dtype="float64",
).fit(x, labels, np.ones(64))  # fmt: skip
share: float = classifier.score(x, labels)
print(share, classifier.predict(x)[:3], classifier.predict_proba(x).shape, classifier.classes_, classifier.n_iter_)
print(classifier.network_.predict(x).shape, classifier.history_["loss"], classifier.get_params()["max_iter"])
classifier.set_params(max_iter=1).partial_fit(x, labels).set_params(warm_start=True)
words = MLPClassifier((4,), max_iter=1).fit(x.tolist(), ["yes" if label else "no" for label in labels])
regressor = MLPRegressor((8, 8), activation=["relu", "tanh"], max_iter=1, scale_targets=True, tol=None)
regressor.fit(x, y[:, 0])
curve: list[float] = regressor.loss_curve_
print(regressor.predict(x).mean(), regressor.score(x, y[:, 0]), curve, regressor.input_gradient(x).shape)

try:
    xmlp.load(folder / "nothing.safetensors")
except (xmlp.CheckpointError, OSError) as error:
    print(error)
mode: Literal["min", "max"] = "min"
callbacks.EarlyStopping("val_loss", mode=mode)
