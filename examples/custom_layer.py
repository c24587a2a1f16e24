"""A layer of one's own: a frozen dataclass that says which arrays it learns, and two passes; saved and loaded again."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import xmlp
from xmlp.layers import Dense, Layer, ParamSpec


@dataclass(frozen=True)
class Gate(Layer):
    """y = x * g with a learnt factor g per feature; dx = dy * g, dg = sum over the rows of dy * x."""

    start: float = 1.0

    def build(self, in_features):
        return in_features, {"g": ParamSpec((in_features,), self.start, decay=False)}

    def forward(self, params, x, ctx):
        return x * params["g"], x  # the value, and what backward needs

    def backward(self, params, x, dy, ctx):
        return dy * params["g"], {"g": ctx.xp.sum(dy * x, axis=-2)}


def main(backend: str = "numpy") -> tuple[bool, float, float]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8))
    y = x[:, :1] ** 2
    network = xmlp.Network([Gate(), Dense(16, "tanh"), Dense(1)], 8, backend=backend, dtype="float64")
    report = xmlp.testing.check_gradients(network, x[:10], y[:10], "squared_error")
    loss = network.fit(x, y, optimizer=xmlp.optimizers.Adam(0.01), epochs=60)["loss"]
    print(f"gradients are right: {report.passed}; loss {loss[0]:.3f} -> {loss[-1]:.4f}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gate.safetensors"
        network.save(path)
        again = xmlp.load(path, backend, custom={"Gate": Gate})  # nothing in a file is ever imported
    print("same predictions after loading:", bool((again.predict(x) == network.predict(x)).all()))
    return report.passed, loss[0], loss[-1]


if __name__ == "__main__":
    main()
