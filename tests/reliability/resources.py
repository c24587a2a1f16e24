"""Rows about memory, processes and broken installations."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np

import xmlp
from reliability.core import environment, python, row

LEAK = """
import gc, json, sys
import numpy as np, xmlp
def used():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
rounds = int(sys.argv[1])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(2000, 20)), rng.integers(0, 3, 2000)
trainer = xmlp.Trainer(xmlp.mlp([20, 32, 3], dropout=0.1, normalization="batch"), loss="softmax_cross_entropy",
                       optimizer="adam", metrics=["accuracy"])
seen = []
for i in range(rounds):
    trainer.fit(x, y, epochs=1, batch_size=64, validation_split=0.1)
    for rows in rng.integers(1, 2000, 20):
        trainer.network.predict(x[:rows])
    seen.append(used())
third = rounds // 3
print(json.dumps([float(np.mean(part)) for part in (seen[third // 2 : third], seen[-third:])]))
"""


@row("R1", "no leak: memory in the last third of a long fit and of many predictions, to the first third, warmed up",
     "<= 1.02", short=45, long=600)  # fmt: skip
def leaks(size: int, folder: Path) -> str:
    first, last = json.loads(python(LEAK, size).stdout)
    assert last <= 1.02 * first, last / first
    return f"{last / first:.4f} over {size} epochs and {20 * size} predictions"


SIZES = """
import json, os, sys, time
import numpy as np, xmlp
from xmlp.estimators import MLPClassifier
count = int(sys.argv[1])
rng = np.random.default_rng(0)
x, sizes = rng.normal(size=(500, 20)).astype("f4"), [int(n) for n in rng.permutation(np.arange(5, 501))[:count]]
y = (x[:, 0] + x[:, 1] > 0).astype(int)
def fitting():
    model = MLPClassifier((32,), random_state=0)
    return lambda n: model.partial_fit(x[:n], y[:n], classes=[0, 1])
def stepping():
    trainer = xmlp.Trainer(xmlp.mlp([20, 32, 2]), loss="softmax_cross_entropy", optimizer="adam")
    return lambda n: trainer.step(x[:n], y[:n])
def predicting():
    network = xmlp.mlp([20, 32, 2])
    return lambda n: network.predict(x[:n])
def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def seconds(use, sizes):
    begin = time.perf_counter()
    for n in sizes:
        use(n)
    return time.perf_counter() - begin
found = {}
for make in (fitting, stepping, predicting):
    times = []
    for _ in range(5):
        one, many = make(), make()
        one(50), many(50)
        times.append((seconds(one, [int(np.mean(sizes))] * count), seconds(many, sizes)))
    before, again = used(), make()
    seconds(again, sizes)
    one, many = (min(t) for t in zip(*times))
    found[make.__name__] = many / one, (used() - before) / 1e6
print(json.dumps([found, len(os.listdir(os.environ["XMLP_CACHE"]))]))
"""


@row("R11", "batches of many sizes, all new: time to that of one size, for as many calls; memory; files of code",
     "<= 2; <= 10 MB; <= 30", short=60, long=400)  # fmt: skip
def sizes(size: int, folder: Path) -> str:
    found, files = json.loads(python(SIZES, size, env=environment(XMLP_CACHE=str(folder))).stdout)
    assert files <= 30, f"{files} files"
    for what, (ratio, grown) in found.items():
        assert grown <= 10, f"{what}: {grown:.1f} MB"
        assert size < 400 or ratio <= 2, f"{what}: {ratio:.2f} times the time"
    shown = ", ".join(f"{what} {ratio:.2f} ({grown:+.1f} MB)" for what, (ratio, grown) in found.items())
    return f"{size} sizes: {shown}; {files} files"


SHORT_OF_MEMORY = """
import json, resource, sys
import numpy as np, xmlp
rng = np.random.default_rng(0)
x, y = rng.integers(0, 255, (100_000, 100), dtype=np.uint8), rng.integers(0, 3, 100_000)
network = xmlp.mlp([100, 256, 256, 3])
trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
trainer.fit(x[:512], y[:512], epochs=1, batch_size=256)
network.save(sys.argv[1])
before = network.theta.copy()
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    trainer.fit(x, y, epochs=1, batch_size=100_000)
except xmlp.OutOfMemoryError as error:
    told = str(error)
    needed, free = error.needed, error.free
assert isinstance(needed, int) and free < needed, (needed, free)
assert (network.theta == before).all() and np.array_equal(xmlp.load(sys.argv[1]).theta, before)
fits = int(told.split("batch_size=")[2].split()[0])
trainer.fit(x, y, epochs=1, batch_size=fits)
assert not (network.theta == before).all()
try:
    xmlp.mlp([100, 2**20, 2**20, 3])
except xmlp.OutOfMemoryError as error:
    print(json.dumps([told, fits, str(error)]))
"""


@row(
    "R2",
    "out of memory: the error names what is needed, free and would fit; nothing is lost; the next fit works",
    "yes",
)
def out_of_memory(size: int, folder: Path) -> str:
    told, _, _ = json.loads(python(SHORT_OF_MEMORY, folder / "model", 300_000_000).stdout)
    return f"{told.partition(' would fit')[0]} would fit, and did"


@row("R4", "the memory that `Trainer.memory` foretells, to the peak that is measured", "+- 15 %", short=4, long=12)
def foretold_memory(size: int, folder: Path) -> str:
    rng = np.random.default_rng(4)
    ratios = []
    xmlp.mlp([3, 4, 2]).fit(np.zeros((8, 3)), np.zeros(8, int), epochs=1, loss="softmax_cross_entropy")  # imports
    for sizes, batch, optimizer in (
        ([200, 500, 10], 512, "adam"), ([64, 2000, 2000, 10], 128, "sgd"), ([784, 128, 10], 8192, "adamw"),
        ([50, 50, 50, 50, 5], 20_000, "adam"), ([784, 1024, 1024, 10], 64, "rmsprop"), ([20, 400, 2], 4096, "adam"),
        ([300, 300, 300, 3], 1000, "adagrad"), ([100, 3000, 10], 2000, "adam"), ([784, 512, 512, 10], 512, "sgd"),
        ([400, 100, 400], 3000, "nadam"), ([10, 10_000, 2], 100, "adam"), ([128, 128, 128, 128, 10], 10_000, "adamw"),
    )[:size]:  # fmt: skip
        if optimizer not in xmlp.optimizers.OPTIMIZERS:
            optimizer = "adam"
        x, y = rng.normal(size=(batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch).astype(np.int32)
        for kind in (None, "batch"):
            tracemalloc.start()
            network = xmlp.mlp(sizes, normalization=kind, dropout=0.1)
            trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=optimizer)
            trainer.plan(1)
            tracemalloc.reset_peak()
            trainer.fit(x, y, epochs=1, batch_size=batch)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            ratios.append(trainer.memory(batch) / peak)
    assert 0.85 <= min(ratios) <= max(ratios) <= 1.15, ratios
    return f"{100 * min(ratios) - 100:+.0f} to {100 * max(ratios) - 100:+.0f} %, {len(ratios)} networks"


PROCESSES = """
import multiprocessing, sys
import numpy as np, xmlp
def train(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(300, 10)), rng.integers(0, 3, 300)
    network = xmlp.mlp([10, 16, 3], dropout=0.2, seed=seed)
    network.fit(x, y, epochs=2, loss="softmax_cross_entropy")
    return network.theta.tobytes() + network.predict(x).tobytes()
if __name__ == "__main__":
    serial = [train(seed) for seed in range(4)]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(train, range(4)) == serial, method
    print("fork and spawn", end="")
    try:
        from joblib import Parallel, delayed
    except ImportError:
        sys.exit()
    assert Parallel(n_jobs=2)(delayed(train)(seed) for seed in range(4)) == serial
    print(", joblib", end="")
"""


@row("R6", "processes made by fork, spawn and joblib train and predict, equal to the bit to one after another", "equal")
def processes(size: int, folder: Path) -> str:
    (folder / "program.py").write_text(PROCESSES)
    command = [sys.executable, folder / "program.py"]  # spawn needs a main module that is a file
    done = subprocess.run(command, env=environment(), text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return f"{done.stdout}: equal"


@row("R9", "`import xmlp` costs at most twice `import numpy`", "<= 2", short=5, long=25)
def import_time(size: int, folder: Path) -> str:
    code = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
    pairs = [[float(python(code.format(name)).stdout) for name in ("numpy", "xmlp")] for _ in range(size)]
    numpy, own = np.median(pairs, axis=0)
    assert own <= 2 * numpy, own / numpy
    return f"{own / numpy:.2f}"


COUNT = "class cuda:\n  class runtime:\n    @staticmethod\n    def getDeviceCount(): "
BROKEN = {
    "no driver": COUNT + "raise RuntimeError('CUDA driver version is insufficient')",
    "exit": "raise SystemExit(3)",
    "no library": "raise ImportError('libcublas.so.12: cannot open shared object file')",
    "no device": COUNT + "return 0",
}


@row("R10", "CuPy without driver, library or device: auto is numpy with a word why, cupy is exit code 2, info works",
     "all", short=2, long=4)  # fmt: skip
def broken_cupy(size: int, folder: Path) -> str:
    for name, source in list(BROKEN.items())[:size]:
        place = folder / name.replace(" ", "_")
        (place / "cupy").mkdir(parents=True)
        (place / "cupy" / "__init__.py").write_text(f"__version__ = '14.0'\n{source}\n")
        settings = {"cwd": place, "env": environment(PYTHONPATH=f"{place}{os.pathsep}{environment()['PYTHONPATH']}")}
        command = "import sys; from xmlp.cli import main; main(sys.argv[1:])"
        auto = python(command, "train", "--epochs", 1, "--hidden", 8, "--quiet", check=False, **settings)
        assert auto.returncode == 0, (name, auto.stderr)
        assert auto.stderr.startswith("note: computing on numpy: "), (name, auto.stderr)
        assert auto.stderr.count("\n") == 1, auto.stderr
        asked = python(command, "train", "--backend", "cupy", "--force", check=False, **settings)
        assert asked.returncode == 2, (name, asked.returncode, asked.stderr)
        assert asked.stderr.startswith("error: "), asked.stderr
        assert asked.stderr.count("\n") == 1, asked.stderr
        found = json.loads(python(command, "info", "--json", **settings).stdout)
        assert not found["backends"]["cupy"]["works"]
        assert found["backends"]["numpy"]["works"]
    return f"{size} broken installations"
