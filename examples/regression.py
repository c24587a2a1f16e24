"""Regression of two targets at once, with standardised inputs, a validation part and a learning-rate schedule."""

import numpy as np

import xmlp
from xmlp.layers import Dense, Standardize


def main() -> dict[str, float]:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3.0, 3.0, (1200, 2)) * [1.0, 100.0]
    y = np.stack([np.sin(x[:, 0]) + 0.01 * x[:, 1], np.cos(x[:, 0]) * 0.01 * x[:, 1]], axis=1)
    x_test, y_test = x[1000:], y[1000:]

    network = xmlp.Network([Standardize(), Dense(64, activation="silu"), Dense(64, activation="silu"), Dense(2)], 2)
    network.adapt(x[:1000])
    epochs, batch_size = 60, 50
    schedule = xmlp.schedules.OneCycle(0.01, total_steps=epochs * 900 // batch_size)
    trainer = xmlp.Trainer(
        network, loss="squared_error", optimizer=xmlp.optimizers.AdamW(schedule), metrics=["r2", "rmse"]
    )
    history = trainer.fit(x[:1000], y[:1000], epochs=epochs, batch_size=batch_size, validation_split=0.1)

    result = trainer.evaluate(x_test, y_test)
    print(f"validation loss {history['val_loss'][0]:.3f} -> {history['val_loss'][-1]:.5f}")
    print(f"test: R2 {result['r2']:.4f}, RMSE {result['rmse']:.4f}")
    return result


if __name__ == "__main__":
    main()
