"""A callback of one's own: an object with some of five methods, each called with the trainer."""

import numpy as np

import xmlp


class StopWhenGoodEnough:
    """Ends training when the loss of an epoch is below a goal, and remembers the size of the weights on the way.

    The events are on_fit_begin, on_epoch_begin, on_step_end, on_epoch_end, on_fit_end.
    """

    def __init__(self, goal):
        self.goal = goal
        self.norms = []

    def on_epoch_end(self, trainer):
        backend = trainer.network.backend
        self.norms.append(float(np.linalg.norm(backend.to_host(trainer.network.theta))))
        if trainer.history["loss"][-1] < self.goal:
            trainer.stop()


def main(backend: str = "numpy") -> tuple[int, float, list[float]]:
    x = np.linspace(-1, 1, 100)[:, None]
    watch = StopWhenGoodEnough(0.01)
    network = xmlp.mlp([1, 16, 1], "tanh", backend=backend)
    history = network.fit(x, x**2, optimizer=xmlp.optimizers.Adam(0.02), epochs=200, callbacks=[watch])
    print(f"stopped after {history.epochs} epochs at a loss of {history['loss'][-1]:.4f}")
    return history.epochs, history["loss"][-1], watch.norms


if __name__ == "__main__":
    main()
