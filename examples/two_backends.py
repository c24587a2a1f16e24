"""The same training on two backends: the same weights to start from, the same batches, the same dropout masks.

python two_backends.py [BACKEND BACKEND]      numpy and array-api-strict by default; cupy where there is a device
"""

import sys

import numpy as np

import xmlp


def main(first: str = "numpy", second: str = "array-api-strict") -> float:
    data = xmlp.data.load("digits")
    x, y = data.x_train[:640] / 16.0, data.y_train[:640]
    results = []
    for backend in (first, second):
        network = xmlp.mlp([64, 32, 10], dropout=0.2, normalization="batch", backend=backend, seed=1)
        history = network.fit(x, y, loss="softmax_cross_entropy", optimizer="adam", epochs=2, seed=1)
        print(f"{backend:18} losses {[round(v, 7) for v in history['loss']]}")
        results.append(network.to("numpy").theta)
    difference = float(np.abs(results[0] - results[1]).max())
    print(f"largest difference of a parameter: {difference:.1e}")
    return difference


if __name__ == "__main__":
    main(*sys.argv[1:])
