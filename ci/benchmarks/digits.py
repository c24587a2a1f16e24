"""The recipe of `xmlp train` on the embedded digits: test accuracy over seeds, and the time beside scikit-learn's.

    python ci/benchmarks/digits.py [--seeds 5]

The recipe was chosen on rows held out of the training part. Here the test part is read once a seed, after training.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings

import numpy as np
from click.testing import CliRunner

import xmlp
from xmlp.cli import main as command
from xmlp.cli.train import DIGITS


def ours(seed):
    """Test accuracy, and the seconds of training."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["train", "--json", "--seed", str(seed), "--model", f"{folder}/model.safetensors"]
        done = CliRunner().invoke(command, options, catch_exceptions=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[-1]["test"]["accuracy"], lines[-1]["seconds"]


def theirs(seed):
    from sklearn.neural_network import MLPClassifier

    x, y, x_test, y_test = xmlp.data.load("digits")
    rows = np.random.default_rng(seed).permutation(len(x))[: round(len(x) * (1 - DIGITS.validation))]
    model = MLPClassifier(
        DIGITS.hidden, batch_size=DIGITS.batch_size, max_iter=DIGITS.epochs, tol=0.0, n_iter_no_change=10**6,
        random_state=seed,
    )  # fmt: skip
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit((x[rows] / 16).astype("f4"), y[rows])
    seconds = time.perf_counter() - start
    return model.score((x_test / 16).astype("f4"), y_test), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    pairs = [(ours(seed), theirs(seed)) for seed in seeds]
    (accuracy, seconds), (their_accuracy, their_seconds) = (
        (statistics.mean(p[k][0] for p in pairs), statistics.median(p[k][1] for p in pairs)) for k in (0, 1)
    )
    print(f"xmlp:         test accuracy {accuracy:.4f} (mean of {len(pairs)} seeds), {seconds:.2f} s (median)")
    print(
        f"scikit-learn: test accuracy {their_accuracy:.4f}, {their_seconds:.2f} s with the same net, batch and epochs"
    )
    print(f"time ratio {seconds / their_seconds:.2f}")
    return not (accuracy >= 0.975 and seconds <= their_seconds)


if __name__ == "__main__":
    sys.exit(main())
