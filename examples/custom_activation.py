"""An activation of one's own: write the function, and its derivative is derived."""

import numpy as np

import xmlp


@xmlp.elementwise
def snake(xp, x, *, slope=0.5):
    """f(x) = x + slope tanh(x)^2; keyword arguments are scalars that `bind` changes."""
    return x + slope * xp.tanh(x) ** 2


def main(backend: str = "numpy") -> tuple[float, float]:
    print(snake.derivative.source)
    x = np.linspace(-2, 2, 200)[:, None]
    network = xmlp.mlp([1, 16, 1], activation=[snake.bind(slope=1.0)], backend=backend)
    loss = network.fit(x, np.sin(3 * x), optimizer=xmlp.optimizers.Adam(0.02), epochs=100)["loss"]
    print(f"loss {loss[0]:.3f} -> {loss[-1]:.4f}")
    return loss[0], loss[-1]


if __name__ == "__main__":
    main()
