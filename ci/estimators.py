"""xmlp's estimators beside scikit-learn's: how good with defaults, and how long for the same work.

    python ci/estimators.py accuracy [DATA ...] [--seeds 0 1 2 3 4]   mean test score with each library's defaults
    python ci/estimators.py time [DATA ...] [--repeats 5] [--batch 32] [--dtype float64]
                                                                 seconds of one fit, same network, batches and epochs

Data: digits (official split), fashion-mnist (10,000 training rows), breast-cancer, wine, diabetes. Pictures are scaled
to [0, 1], tables standardised by their training rows, split anew for each seed. Times are interleaved, medians, after
one fit that is not counted.
"""

import argparse
import time
import warnings
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

import xmlp

TABLES = {
    "breast-cancer": datasets.load_breast_cancer, "wine": datasets.load_wine, "diabetes": datasets.load_diabetes,
}  # fmt: skip
PICTURES = {"digits": 16.0, "fashion-mnist": 255.0}
EPOCHS = {"digits": 20, "fashion-mnist": 5, "breast-cancer": 200, "wine": 200, "diabetes": 200}


class Split(NamedTuple):
    """Training and test part, as both libraries get them."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any


def load(name: str, seed: int) -> Split:
    if name in PICTURES:
        data, rows = xmlp.data.load(name), slice(10_000 if name == "fashion-mnist" else None)
        x, x_test = (a / PICTURES[name] for a in (data.x_train[rows], data.x_test))
        return Split(x, data.y_train[rows], x_test, data.y_test)
    x, y = TABLES[name](return_X_y=True)
    labels = None if name == "diabetes" else y
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=labels)
    scaler = StandardScaler().fit(x)
    return Split(scaler.transform(x), y, scaler.transform(x_test), y_test)


def pair(name: str) -> tuple[Any, Any]:
    """scikit-learn's class and ours."""
    return (MLPRegressor, xmlp.MLPRegressor) if name == "diabetes" else (MLPClassifier, xmlp.MLPClassifier)


def accuracy(name: str, seeds: list[int]) -> None:
    scores: list[list[float]] = [[], []]
    for seed in seeds:
        split = load(name, seed)
        for kind, found in zip(pair(name), scores, strict=True):
            found.append(kind(random_state=seed).fit(split.x, split.y).score(split.x_test, split.y_test))
        print(f"{name:14} seed {seed}  scikit-learn {scores[0][-1]:.4f}   xmlp {scores[1][-1]:.4f}", flush=True)
    theirs, ours = map(mean, scores)
    better = sum(b > a for a, b in zip(*scores, strict=True))
    print(f"{name:14} scikit-learn {theirs:.4f}   xmlp {ours:.4f}   better in {better} of {len(seeds)}", flush=True)


def timed(name: str, repeats: int, batch: int, dtype: str) -> None:
    split, epochs = load(name, 0), EPOCHS[name]
    x, size = split.x.astype(dtype), min(batch, len(split.x))
    same: dict[str, Any] = {"random_state": 0, "max_iter": epochs, "batch_size": size, "tol": 0.0}
    seconds: list[list[float]] = [[], []]
    for repeat in range(repeats + 1):
        for i, kind in enumerate(pair(name)):
            more = {"n_iter_no_change": epochs + 1, **({"alpha": 0.0} if i == 0 else {"l2": 0.0})}
            model = kind(**same, **more)
            start = time.perf_counter()
            model.fit(x, split.y)
            if repeat:
                seconds[i].append(time.perf_counter() - start)
            assert model.n_iter_ == epochs
    theirs, ours = map(median, seconds)
    ratio = f"ratio {ours / theirs:.2f}"
    print(f"{name:14} batch {size:3} {dtype}  scikit-learn {theirs:.3f} s   xmlp {ours:.3f} s   {ratio}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["accuracy", "time"])
    parser.add_argument("data", nargs="*", default=[*PICTURES, *TABLES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, that epochs ended before convergence
    np.seterr(all="ignore")
    for name in arguments.data:
        if arguments.what == "accuracy":
            accuracy(name, arguments.seeds)
        else:
            timed(name, arguments.repeats, arguments.batch, arguments.dtype)


if __name__ == "__main__":
    main()
