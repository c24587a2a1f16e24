"""Fashion-MNIST: 60,000 pictures of 28 x 28 bytes, ten kinds of clothes.

python fashion_mnist.py [--rows 60000] [--epochs 8] [--backend numpy]
"""

import argparse

import xmlp
from xmlp.layers import Dense, Standardize


def main(rows: int = 60_000, epochs: int = 8, backend: str = "numpy") -> float:
    data = xmlp.data.load("fashion-mnist")
    layers = [Standardize(scale=255.0), Dense(256, activation="relu"), Dense(128, activation="relu"), Dense(10)]
    network = xmlp.Network(layers, 784, backend=backend)  # the bytes stay bytes until a batch is taken
    network.fit(
        data.x_train[:rows], data.y_train[:rows], loss="softmax_cross_entropy", optimizer=xmlp.optimizers.Adam(1e-3),
        epochs=epochs, batch_size=128, verbose=True,
    )  # fmt: skip
    accuracy = xmlp.metrics.accuracy(data.y_test, network.predict_label(data.x_test, batch_size=1000))
    print(f"test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--backend", default="numpy")
    main(**vars(parser.parse_args()))
