"""Rows about determinism: what is equal to the bit, what is close, and that the random parts are what they claim."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import xmlp
from reliability.core import environment, python, row
from xmlp.data.batches import batch_order
from xmlp.host import seeds

TRAIN = """
import contextlib, hashlib, json, sys
import numpy as np, xmlp
pinned, library, dtype, rows = sys.argv[1] == "pinned", sys.argv[2], sys.argv[3], int(sys.argv[4])
x, y, x_test, y_test = xmlp.data.load("digits")
sizes = [64, *json.loads(sys.argv[5]), 10]
network = xmlp.mlp(sizes, "relu", dropout=0.1, normalization="batch", backend=library, dtype=dtype, seed=3)
with xmlp.deterministic() if pinned else contextlib.nullcontext():
    planned = False if sys.argv[6] == "plain" else None
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", seed=5, planned=planned)
    history = trainer.fit(x[:rows], y[:rows], epochs=1, batch_size=128, validation_split=0.1)
    accuracy = float((network.predict_label(x_test) == y_test).mean())
del history["seconds"]
arrays = network.arrays()
digest = hashlib.sha256(b"".join(a.tobytes() for a in arrays.values()) + json.dumps(history).encode()).hexdigest()
print(json.dumps({"digest": digest, "theta": arrays["theta"].tolist(), "accuracy": accuracy}))
"""


def trained(pinned: bool = False, library: str = "numpy", dtype: str = "float32", rows: int = 1000,
            hidden: str = "[32, 32]", plain: bool = False, **more: str) -> dict[str, Any]:  # fmt: skip
    """Train in a process of its own."""
    how = "pinned" if pinned else "free"
    done = python(TRAIN, how, library, dtype, rows, hidden, "plain" if plain else "planned", env=environment(**more))
    return json.loads(done.stdout)


@row("D1", "the same run in fresh processes, hash seed random: parameters and history equal to the bit", "all equal",
     short=10, long=100)  # fmt: skip
def fresh_processes(size: int, folder: Path) -> str:
    digests = {trained(PYTHONHASHSEED=str(i) if i else "random")["digest"] for i in range(size)}
    assert len(digests) == 1, digests
    return f"{size} of {size} equal"


@row("D2", "`xmlp.deterministic()`, `--deterministic`: equal to the bit for any number of threads; without them close",
     "0 bits; <= 1e-5, +- 0.3 points", short=1, long=3)  # fmt: skip
def threads(size: int, folder: Path) -> str:
    counts = [str(n) for n in (1, 2, 4, 3)[: size + 1]]
    # plainly, for the threads of the BLAS are seen there; the command trains by plans
    settings: dict[str, Any] = {"rows": 3823, "hidden": "[256, 256]", "plain": True}
    each = [{"OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n} for n in counts]
    pinned = [trained(True, **settings, **more) for more in each]
    assert len({run["digest"] for run in pinned}) == 1
    models = []
    for more in each:
        command = "import sys; from xmlp.cli import main; main(sys.argv[1:])"
        args = ("train", "--deterministic", "--epochs", 1, "--quiet", "--force", "--backend", "numpy")
        python(command, *args, cwd=folder, env=environment(**more))
        models.append((folder / "model.safetensors").read_bytes())
    assert len(set(models)) == 1, "the command with --deterministic gives several models"
    free = [trained(False, **settings, **more) for more in each]
    theta = [np.asarray(run["theta"]) for run in free]
    error = max(float(np.abs(t - theta[0]).max() / np.abs(theta[0]).max()) for t in theta)
    points = 100 * max(abs(run["accuracy"] - free[0]["accuracy"]) for run in free)
    assert error <= 1e-5
    assert points <= 0.3
    return f"with {', '.join(counts)} threads 0 bits differ; without: {error:.1e}, {points:.2f} points"


@row("D7", "a row's prediction does not depend on the rows beside it", "<= 1e-5 float32, <= 1e-12 float64",
     short=20, long=300)  # fmt: skip
def rows_alone(size: int, folder: Path) -> str:
    rng = np.random.default_rng(7)
    worst = {}
    for dtype in ("float32", "float64"):
        network = xmlp.mlp([20, 64, 32, 5], "tanh", normalization="batch", dtype=dtype, seed=2)
        worst[dtype] = 0.0
        for _ in range(size):
            x = rng.normal(size=(int(rng.integers(1, 200)), 20)).astype(dtype)
            whole = network.predict(x)
            scale = np.abs(whole).max()
            order = rng.permutation(len(x))
            found = [
                network.predict(x, batch_size=int(rng.integers(1, 50))),
                np.concatenate([network.predict(x[i]) for i in range(len(x))]),
                network.predict(x[order])[np.argsort(order)],
                network.predict(np.asfortranarray(x)),
            ]
            worst[dtype] = max(worst[dtype], *(float(np.abs(f - whole).max() / scale) for f in found))
    assert worst["float32"] <= 1e-5
    assert worst["float64"] <= 1e-12
    return f"{worst['float32']:.1e} float32, {worst['float64']:.1e} float64, {size} batches split at random"


@row("D8", "initial weights, masks and shuffles are distributed as they claim", "within 4 sigma", short=1, long=20)
def distributions(size: int, folder: Path) -> str:
    worst = 0.0

    def sigma(value: float, mean: float, deviation: float) -> None:
        nonlocal worst
        worst = max(worst, abs(value - mean) / deviation)

    for seed in range(size):
        network = xmlp.mlp([300, 400, 10], "relu", seed=seed)
        w = network.parameters[0]["W"].astype(np.float64)
        n, variance = w.size, 2 / 300
        sigma(w.mean(), 0, (variance / n) ** 0.5)
        sigma(w.var(), variance, variance * (2 / n) ** 0.5)
        dropped = xmlp.Network([xmlp.layers.Dropout(0.3)], 1000, seed=seed)
        kept = np.stack([dropped.forward(np.ones((50, 1000)), True, seed=seed, step=s)[0] > 0 for s in range(10)])
        p, n = 0.7, kept.size
        sigma(kept.mean(), p, (p * (1 - p) / n) ** 0.5)
        for axis in (0, 1, 2):  # no step, row or column has a rate of its own
            counts = kept.sum(axis=tuple({0, 1, 2} - {axis}))
            m = n / len(counts)
            chi = ((counts - m * p) ** 2).sum() / (m * p * (1 - p))
            sigma(chi, len(counts), (2 * len(counts)) ** 0.5)
        places = np.stack([batch_order(20, seed, epoch) for epoch in range(2000)])
        for column in places.T:  # every row is as likely at every place
            counts = np.bincount(column, minlength=20)
            sigma(((counts - 100) ** 2).sum() / 100, 19, (2 * 19) ** 0.5)
        words = np.asarray([seeds.key(seed, 0, step) for step in range(4000)], dtype=np.int64)
        sigma((words < 0).mean(), 0.5, (0.25 / words.size) ** 0.5)
    limit = 4.0 + 0.5 * np.log2(size)
    assert worst <= limit, worst
    return f"{worst:.1f} sigma at the most, of {size} seeds"


def libraries() -> list[str]:
    """Other array libraries that are here."""
    return [name for name in ("array-api-strict", "torch", "jax") if xmlp.available_backends()[name][:1].isdigit()]


@row("D3", "one seed gives the same weights, batches and masks on every library; then close after an epoch",
     "equal; <= 1e-4 float32, <= 1e-9 float64", short=1, long=3)  # fmt: skip
def other_libraries(size: int, folder: Path) -> str:
    told = []
    for dtype, limit in (("float32", 1e-4), ("float64", 1e-9)):
        theta = np.asarray(trained(dtype=dtype)["theta"])
        for library in libraries()[:size]:
            here = xmlp.mlp([64, 32, 10], dropout=0.4, seed=3, dtype=dtype)
            there = here.to(library)
            start = xmlp.mlp([64, 32, 10], dropout=0.4, seed=3, dtype=dtype, backend=library)
            assert start.arrays()["theta"].tobytes() == here.arrays()["theta"].tobytes(), library
            masks = [
                np.asarray(n.backend.to_host(n.forward(np.ones((9, 64)), True, seed=1, step=4)[0]))
                for n in (here, there)
            ]
            assert ((masks[0] == 0) == (masks[1] == 0)).all(), library
            other = np.asarray(trained(library=library, dtype=dtype, JAX_ENABLE_X64="1")["theta"])
            error = float(np.abs(other - theta).max() / np.abs(theta).max())
            assert error <= limit, (library, dtype, error)
            told.append(f"{library} {dtype} {error:.0e}")
    return ", ".join(told)


os.environ.setdefault("JAX_ENABLE_X64", "1")
