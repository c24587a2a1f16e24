"""What `ci/benchmarks/bench.py` measures of xmlp alone, in a process of its own; prints one line of JSON.

    python ci/benchmarks/probes.py stages | copy | scaling | import

stages   a step from the state after 15 epochs against one from that after 2, alternated, for every optimizer
copy     bytes a second of fused passes against those of a plain copy of arrays of the same size
scaling  microseconds a step, as width, depth, batch and number of rows grow, beside the products alone
import   seconds of a process that imports a library and does nothing else
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peers import best_of

ROOT = Path(__file__).resolve().parent


def fashion():
    import xmlp.data

    data = xmlp.data.load("fashion-mnist")
    return np.divide(data.x_train, np.float32(255), dtype="f4"), data.y_train


def stages(rounds=5, early=2, late=15):
    import xmlp

    x, y = fashion()
    found = {}
    for name in sorted(xmlp.optimizers.OPTIMIZERS):
        with tempfile.TemporaryDirectory() as folder:
            paths = {n: Path(folder) / f"{n}.safetensors" for n in (early, late)}
            network = xmlp.mlp([784, 128, 10])
            trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=name, seed=0)
            for epochs, path in paths.items():
                trainer.fit(x, y, epochs=epochs - trainer.epoch, batch_size=64)
                trainer.save(path)
            times = {n: [] for n in paths}
            for _ in range(rounds):
                for n, path in paths.items():
                    resumed = xmlp.Trainer.resume(path)
                    times[n].append(resumed.fit(x, y, epochs=1, batch_size=64)["seconds"][-1])
        found[name] = min(times[late]) / min(times[early])
    return found


def copy(rows=2000, columns=500):
    import xmlp
    from xmlp.layers import Activation

    x = np.random.default_rng(0).normal(size=(rows, columns)).astype("f4")
    y, found = np.empty_like(x), {}

    rate = 2 * x.nbytes / best_of(lambda: np.copyto(y, x), 60)
    for name in ("relu", "leaky_relu", "hard_sigmoid", "hard_tanh", "tanh", "gelu"):
        network = xmlp.Network([Activation(name)], columns)
        network.compute(x)
        (predictor,) = network.predictor.passes.values()
        (program,) = predictor._local.programs.values()
        program.bind("x", x)
        program.bind("y", y)
        found[name] = 2 * x.nbytes / best_of(program.once, 60) / rate
    return {"copy_GB_s": rate / 1e9, **found}


SCALES = {
    "width": [("784,64,10", 64), ("784,256,10", 64), ("784,1024,10", 64)],
    "depth": [("784,128,10", 64), ("784,128,128,128,10", 64), ("784,128,128,128,128,128,128,128,10", 64)],
    "batch": [("784,128,10", 16), ("784,128,10", 64), ("784,128,10", 256), ("784,128,10", 1024)],
}


def scaling():
    rows = []
    for what, cases in SCALES.items():
        for sizes, batch in cases:
            times = {}
            for engine in ("xmlp", "products"):
                options = ["--sizes", sizes, "--batch", str(batch), "--epochs", "2"]
                times[engine] = output([str(ROOT / "peers.py"), engine, *options])["us_per_step"]
            rows.append([what, sizes.replace(",", "-"), batch, 60_000, *times.values()])
    import xmlp

    x, y = fashion()
    for count in (1_000, 10_000, 60_000, 240_000):
        many, labels = np.resize(x, (count, 784)), np.resize(y, count)
        trainer = xmlp.Trainer(xmlp.mlp([784, 128, 10]), loss="softmax_cross_entropy", optimizer="adam")
        seconds = trainer.fit(many, labels, epochs=3, batch_size=64)["seconds"]
        rows.append(["rows", "784-128-10", 64, count, min(seconds[1:]) / -(-count // 64) * 1e6, None])
    return rows


def imports(rounds=7):
    found = {}
    for library in ("numpy", "xmlp", "sklearn.neural_network", "jax", "torch"):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", f"import {library}"], capture_output=True, check=False)
            times.append(time.perf_counter() - start)
        if done.returncode == 0:
            found[library] = min(times)
    return found


def output(command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    probes = {"stages": stages, "copy": copy, "scaling": scaling, "import": imports}
    if len(sys.argv) != 2 or sys.argv[1] not in probes:
        sys.exit(__doc__)
    print(json.dumps(probes[sys.argv[1]]()))
