"""Write the report of `ci/gpu_check`: what was tested on a CUDA device, what was counted, what it took.

    python ci/make/gpu_report.py TESTS.xml FOLDER

The jobs train a softmax classifier with Adam in float32 on random bytes, the same work in every library; the fastest of
five epochs counts. The report is Markdown and, under the same name, JSON.
"""

import datetime
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

JOBS = {"784-128-10, 64": ((784, 128, 10), 64), "784-512-512-10, 128": ((784, 512, 512, 10), 128),
        "784-1024-1024-10, 512": ((784, 1024, 1024, 10), 512)}  # fmt: skip
ROWS = 16384
FIGURE = re.compile(r"^(\S+ <= \S+ .*|\d\S* (synchronisations|launches).*|float32 .*TF32.*)$", re.M)


def facts():
    """Commit, device, driver and versions."""
    import cupy

    def git(*words):
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    runtime, number = cupy.cuda.runtime, cupy.cuda.Device().id
    properties = runtime.getDeviceProperties(number)
    name = properties["name"]
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else ""),
        "device": name.decode() if isinstance(name, bytes) else name,
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "memory": f"{properties['totalGlobalMem'] / 2**30:.1f} GiB",
        "driver": subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=False,
        ).stdout.split("\n")[0],
        "CUDA of driver, runtime": f"{runtime.driverGetVersion()}, {runtime.runtimeGetVersion()}",
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in ("numpy", "array-api-compat")},
        "cupy": cupy.__version__,
    }  # fmt: skip


def tests(path):
    """(name, outcome, figures that the test printed) of each test in pytest's XML."""
    found = []
    for case in ElementTree.parse(path).iter("testcase"):
        outcome = next((k for k in ("failure", "error", "skipped") if case.find(k) is not None), "passed")
        printed = " ".join(case.itertext())
        found.append((case.get("name"), outcome, [m.group(0).strip() for m in FIGURE.finditer(printed)]))
    return found


def data():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (ROWS, 784)).astype(np.uint8), rng.integers(0, 10, ROWS)


def fastest(epoch, repeats=5):
    """Seconds of the fastest epoch after a first one."""
    epoch()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - start)
    return min(times)


def by_xmlp(sizes, batch, x, y, backend="cupy", **options):
    """Microseconds of a step."""
    import xmlp

    place = xmlp.backend(backend, **options)
    layers = [xmlp.layers.Standardize(scale=255.0)]
    layers += [xmlp.layers.Dense(units, "relu") for units in sizes[1:-1]]
    network = xmlp.Network([*layers, xmlp.layers.Dense(sizes[-1])], sizes[0], backend=place)
    trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=xmlp.optimizers.Adam(1e-3))
    return fastest(lambda: trainer.fit(x, y, epochs=1, batch_size=batch)) / (len(x) // batch) * 1e6


def by_xmlp_tf32(sizes, batch, x, y):
    return by_xmlp(sizes, batch, x, y, tf32=True)


def by_torch(sizes, batch, x, y):
    import torch

    device = torch.device("cuda")
    x, y = torch.asarray(x, device=device), torch.asarray(y, device=device)
    parts = []
    for a, b in pairwise(sizes):
        parts += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(*parts[:-1]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def epoch():
        order = torch.randperm(len(x), device=device)
        for start in range(0, len(x) - batch + 1, batch):
            rows = order[start : start + batch]
            loss = torch.nn.functional.cross_entropy(model(x[rows].float() / 255), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()

    return fastest(epoch) / (len(x) // batch) * 1e6


def by_jax(sizes, batch, x, y):
    import jax
    import jax.numpy as jnp

    if jax.default_backend() != "gpu":
        raise RuntimeError("this jax has no CUDA")
    key, rng = jax.random.key(0), np.random.default_rng(0)
    pairs = list(pairwise(sizes))
    theta = [(jnp.asarray(rng.normal(size=p) * (2 / p[0]) ** 0.5, "float32"), jnp.zeros(p[1])) for p in pairs]
    state = (theta, jax.tree.map(jnp.zeros_like, theta), jax.tree.map(jnp.zeros_like, theta), 0)
    x, y = jnp.asarray(x), jnp.asarray(y)

    def objective(theta, x, y):
        for i, (w, b) in enumerate(theta):
            x = x @ w + b
            x = jax.nn.relu(x) if i < len(theta) - 1 else x
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1))

    def step(state, rows):
        theta, m, v, t = state
        grads = jax.grad(objective)(theta, x[rows].astype("float32") / 255, y[rows])
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        a, b = 1 - 0.9 ** (t + 1), 1 - 0.999 ** (t + 1)
        theta = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / a) / (jnp.sqrt(v / b) + 1e-8), theta, m, v)
        return (theta, m, v, t + 1), None

    @jax.jit
    def run(state, key):
        order = jax.random.permutation(key, len(x))[: len(x) // batch * batch].reshape(-1, batch)
        return jax.lax.scan(step, state, order)[0]

    def epoch():
        nonlocal state
        state = jax.block_until_ready(run(state, key))

    return fastest(epoch) / (len(x) // batch) * 1e6


ENGINES = {"xmlp": ("cupy", by_xmlp), "xmlp, TF32": ("cupy", by_xmlp_tf32), "torch": ("torch", by_torch),
           "jax": ("jax", by_jax)}  # fmt: skip


def measured():
    """Microseconds per step by job and library, or why there is no figure."""
    x, y = data()
    table = {}
    for job, (sizes, batch) in JOBS.items():
        for engine, (package, run) in ENGINES.items():
            if importlib.util.find_spec(package) is None:
                continue
            try:
                table.setdefault(job, {})[engine] = round(run(sizes, batch, x, y), 1)
            except Exception as error:  # one library that fails must not cost the report
                table.setdefault(job, {})[engine] = f"failed: {error}".splitlines()[0]
    return table


def markdown(about, cases, table):
    """The report as text."""
    count = {
        kind: sum(outcome == kind for _, outcome, _ in cases) for kind in ("passed", "failure", "error", "skipped")
    }
    lines = [f"# {about['device']}, {about['date']}", "", "Written by `ci/gpu_check`.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in about.items()]
    summary = ", ".join(f"{n} {kind}" for kind, n in count.items())
    lines += ["", "## Tests marked gpu", "", f"{summary}.", ""]
    lines += [f"* {outcome}: {name}" for name, outcome, _ in cases if outcome != "passed"]
    lines += ["", "```", *(figure for _, _, figures in cases for figure in figures), "```", ""]
    engines = list(dict.fromkeys(engine for row in table.values() for engine in row))
    lines += [
        "## Microseconds per step",
        "",
        f"| network, batch | {' | '.join(engines)} |",
        "|---" * (len(engines) + 1) + "|",
    ]
    lines += [f"| {job} | {' | '.join(str(row.get(e, '')) for e in engines)} |" for job, row in table.items()]
    return "\n".join(lines) + "\n"


def write(folder, about, cases, table):
    """Both files; returns the path of the text."""
    name = f"{about['date']}-{re.sub('[^A-Za-z0-9]+', '-', about['device']).strip('-').lower()}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(markdown(about, cases, table), encoding="utf-8")
    content = {"about": about, "tests": cases, "microseconds per step": table}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    path = write(Path(sys.argv[2]), facts(), tests(sys.argv[1]), measured())
    print(f"wrote {path}: commit it and name it in README's table of backends")
