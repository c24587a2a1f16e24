"""An optimizer of one's own: a formula of (theta, grad, *state) and the scalars that it takes. Here Lion."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import xmlp
from xmlp.optimizers import Optimizer


@xmlp.elementwise
def lion(xp, theta, grad, m, *, lr, beta1, beta2):
    """theta - lr sign(beta1 m + (1 - beta1) grad), and the running mean m of the gradient (Chen et al., 2023)."""
    c = beta1 * m + (1.0 - beta1) * grad
    sign = xp.where(c > 0, 1.0, xp.where(c < 0, -1.0, 0.0))
    return theta - lr * sign, beta2 * m + (1.0 - beta2) * grad


@dataclass(frozen=True)
class Lion(Optimizer):
    """The hyper-parameters are fields, `slots` names the vectors of state; nothing depends on `decay`."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    slots: ClassVar[tuple[str, ...]] = ("m",)
    decays: ClassVar[bool] = False

    @property
    def rule(self):
        return lion

    def scalars(self, lr, step, decay=True):
        return {"lr": lr, "beta1": self.beta1, "beta2": self.beta2}


def main(backend: str = "numpy") -> tuple[float, float]:
    x = np.linspace(-2, 2, 200)[:, None]
    network = xmlp.mlp([1, 32, 1], "tanh", backend=backend)
    loss = network.fit(x, np.sin(2 * x), optimizer=Lion(3e-3), epochs=60)["loss"]
    print(f"loss {loss[0]:.3f} -> {loss[-1]:.4f}")
    return loss[0], loss[-1]


if __name__ == "__main__":
    main()
