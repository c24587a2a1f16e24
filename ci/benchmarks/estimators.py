"""xmlp's estimators beside scikit-learn's: how good with defaults, and how long for the same work.

    python ci/benchmarks/estimators.py accuracy [DATA ...] [--seeds 0 1 2 3 4]
    python ci/benchmarks/estimators.py weights
    python ci/benchmarks/estimators.py time [DATA ...] [--repeats 5] [--batch 32] [--dtype float64]

accuracy  mean test score with each library's defaults
weights   what the scale of weights and streams of rows do
time      seconds of one fit, same network, batches and epochs

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
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier
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


def weights() -> None:
    """The scale of weights, streams of a few rows, meta-estimators that weigh rows, and rare classes in minibatches."""
    data = load("digits", 0)
    rows = len(data.x)
    base = np.random.default_rng(0).uniform(0.5, 2.0, rows)
    for name, w in (("equal", np.ones(rows)), ("varied", base)):
        settings: dict[str, Any] = {"hidden_layer_sizes": (32,), "random_state": 0}
        one = xmlp.MLPClassifier(max_iter=1, **settings).fit(data.x, data.y, w).network_.theta
        for scale in (1.0, 1 / rows, 1e-6, 1e6, 1e-300, 1e300):
            other = xmlp.MLPClassifier(max_iter=1, **settings).fit(data.x, data.y, scale * w).network_.theta
            long = xmlp.MLPClassifier(max_iter=30, **settings).fit(data.x, data.y, scale * w)
            score, far = long.score(data.x_test, data.y_test), np.abs(one - other).max()
            print(f"digits, {name} weights x {scale:.3g}: parameters {far:.1e} apart, score {score:.4f}", flush=True)
    for size, passes in ((1, 3), (5, 20), (50, 20)):
        print(f"digits, partial_fit of {size} rows, {passes} passes: {stream(data, size, passes):.4f}", flush=True)
    meta(data, base / rows)
    rare()


def stream(data: Split, size: int, passes: int) -> float:
    model, rng = xmlp.MLPClassifier((32,), random_state=0), np.random.default_rng(0)
    for _ in range(passes):
        order = rng.permutation(len(data.x))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            model.partial_fit(data.x[rows], data.y[rows], classes=range(10))
    return float(model.score(data.x_test, data.y_test))


def meta(data: Split, w: Any) -> None:
    """Boosting, bagging and calibration around either perceptron."""
    made: dict[str, Any] = {
        "AdaBoost": lambda base: AdaBoostClassifier(base, n_estimators=10, random_state=0).fit(data.x, data.y),
        "Bagging": lambda base: BaggingClassifier(base, 5, random_state=0).fit(data.x, data.y, sample_weight=w),
        "calibrated": lambda base: CalibratedClassifierCV(base, cv=3).fit(data.x, data.y, sample_weight=w),
    }
    for name, fit in made.items():
        theirs, ours = (
            fit(kind((32,), max_iter=30, random_state=0)).score(data.x_test, data.y_test) for kind in pair("digits")
        )
        print(f"digits, {name:10} around scikit-learn's {theirs:.4f}   xmlp's {ours:.4f}", flush=True)


class Watch:
    """The mean probability of some rows, now and then; steps with single rows make it waver."""

    def __init__(self, x: Any):
        self.x, self.seen = x, list[float]()

    def on_progress(self, trainer: Any) -> None:
        self.seen.append(float(trainer.network.predict_proba(self.x).mean()))


def rare() -> None:
    """40 of 20,000 rows are of one class, and x says nothing of it: balanced, the mean probability should be 0.5."""
    rng, rows = np.random.default_rng(0), 20_000
    x, y = rng.normal(size=(rows, 5)), np.zeros(rows, int)
    y[rng.choice(rows, 40, replace=False)] = 1
    slow = xmlp.optimizers.Adam(beta2=0.9999)  # which remembers more steps than lie between two rare rows
    cases: list[tuple[Any, int, int]] = [("adam", 32, 10), ("adam", 200, 30), ("adam", rows, 300), ("adam", 4, 5)]
    cases += [("adam", 1, 5), (slow, 1, 5), (xmlp.optimizers.SGD(1e-3), 1, 5)]
    for optimizer, size, epochs in cases:
        watch = Watch(x[:500])
        xmlp.MLPClassifier(
            (16,), class_weight="balanced", batch_size=size, max_iter=epochs, tol=None, random_state=0,
            optimizer=optimizer, callbacks=[watch],
        ).fit(x, y)  # fmt: skip
        found = mean(watch.seen[len(watch.seen) // 2 :])
        print(f"rare class, batch {size:5}, {optimizer}: mean probability {found:.3f}", flush=True)
    w = {0: rows / (2 * (rows - 40)), 1: rows / 80}
    model = xmlp.MLPClassifier((16,), class_weight=w, random_state=0, optimizer=xmlp.optimizers.SGD(1e-3))
    found = []
    for i in range(rows):
        model.partial_fit(x[i : i + 1], y[i : i + 1], classes=[0, 1])
        if i > rows // 2 and not i % 500:
            found.append(model.predict_proba(x[:500])[:, 1].mean())
    print(f"rare class, row by row, SGD(0.001): mean probability {mean(found):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["accuracy", "weights", "time"])
    parser.add_argument("data", nargs="*", default=[*PICTURES, *TABLES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, that epochs ended before convergence
    np.seterr(all="ignore")
    if arguments.what == "weights":
        weights()
        return
    for name in arguments.data:
        if arguments.what == "accuracy":
            accuracy(name, arguments.seeds)
        else:
            timed(name, arguments.repeats, arguments.batch, arguments.dtype)


if __name__ == "__main__":
    main()
