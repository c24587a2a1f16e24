"""A layer, an activation and a loss of one's own; the gradients are checked against finite differences."""

from dataclasses import dataclass

import numpy as np

import xmlp
from xmlp.layers import Dense, Layer, ParamSpec


@xmlp.elementwise
def bumpy(xp, x):
    """f(x) = x + tanh(x)^2: its derivative is derived, not written."""
    return x + xp.tanh(x) ** 2


@xmlp.elementwise
def log_cosh(xp, prediction, target):
    """log(cosh(d)), without overflow: |d| + log(1 + exp(-2 |d|)) - log(2)."""
    d = xp.where(prediction >= target, prediction - target, target - prediction)
    return d + xp.log1p(xp.exp(-2.0 * d)) - 0.6931471805599453


@dataclass(frozen=True)
class Scale(Layer):
    """y = x * s, one learnt factor per feature."""

    start: float = 1.0

    def build(self, in_features):
        return in_features, {"s": ParamSpec((in_features,), self.start, decay=False)}

    def forward(self, params, x, ctx):
        return x * params["s"], x

    def backward(self, params, x, dy, ctx):
        return dy * params["s"], {"s": ctx.xp.sum(dy * x, axis=-2)}


def main() -> tuple[bool, float, float]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 3))
    y = np.sin(x[:, :1]) * x[:, 1:2]

    network = xmlp.Network([Scale(0.5), Dense(32, activation=bumpy), Dense(1)], 3, dtype="float64")
    loss = xmlp.losses.ElementwiseLoss(log_cosh)
    report = xmlp.testing.check_gradients(network, x[:20], y[:20], loss)
    print(bumpy.derivative.source)
    print(report)

    history = network.fit(x, y, loss=loss, optimizer=xmlp.optimizers.Adam(0.01), epochs=100)
    print(f"loss {history['loss'][0]:.4f} -> {history['loss'][-1]:.5f}")

    network.save("custom.safetensors")
    again = xmlp.load("custom.safetensors", custom={"Scale": Scale, "bumpy": bumpy})  # nothing in a file is imported
    print("same predictions after loading:", bool((again.predict(x) == network.predict(x)).all()))
    return report.passed, history["loss"][0], history["loss"][-1]


if __name__ == "__main__":
    main()
