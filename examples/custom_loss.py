"""A loss of one's own: a formula of (prediction, target). Here the pinball loss, whose best answer is a quantile."""

import numpy as np

import xmlp


@xmlp.elementwise
def pinball(xp, prediction, target, *, q):
    """L = q d for d = target - prediction >= 0, else (q - 1) d (Koenker & Bassett, 1978)."""
    d = target - prediction
    return xp.where(d >= 0, q * d, (q - 1.0) * d)


def main(backend: str = "numpy") -> float:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(1000, 1))
    y = x + (1.2 + x) * rng.normal(size=x.shape)
    network = xmlp.mlp([1, 16, 1], "tanh", backend=backend)
    loss = xmlp.losses.ElementwiseLoss(pinball.bind(q=0.9))
    network.fit(x, y, loss=loss, optimizer=xmlp.optimizers.Adam(0.01), epochs=40, batch_size=100)
    below = float((y <= network.predict(x)).mean())
    print(f"{below:.1%} of the targets lie below the predicted 90 % quantile")
    return below


if __name__ == "__main__":
    main()
