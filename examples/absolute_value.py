"""|x| cannot be fitted by a line, and is exact with two hidden ReLU units: max(x, 0) + max(-x, 0)."""

import numpy as np

import xmlp


def main() -> tuple[float, float, float]:
    x = np.linspace(-2.0, 2.0, 201)[:, None]
    y = np.abs(x)

    exact = xmlp.mlp([1, 2, 1], dtype="float64")
    exact.theta = np.asarray([1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0])  # W1 = (1, -1), W2 = (1, 1)^T, then the biases
    exact_error = np.abs(exact.predict(x) - y).max()

    learnt = xmlp.mlp([1, 16, 1], dtype="float64", seed=3)
    learnt.fit(x, y, loss="squared_error", optimizer=xmlp.optimizers.Adam(0.01), epochs=200)
    learnt_error = np.sqrt(np.mean((learnt.predict(x) - y) ** 2))

    line = xmlp.mlp([1, 1], dtype="float64")
    line.fit(x, y, loss="squared_error", optimizer=xmlp.optimizers.Adam(0.05), epochs=100)
    line_error = np.sqrt(np.mean((line.predict(x) - y) ** 2))

    print(f"exact weights: largest error {exact_error:.1e}")
    print(f"learnt from random weights: rmse {learnt_error:.4f}; the best line: {line_error:.4f}")
    return exact_error, learnt_error, line_error


if __name__ == "__main__":
    main()
