"""xmlp beside its peers, in one run: ratios of medians, interleaved, with disturbed rounds left out.

    ci/bench [--rounds 5] [--only digits,small,predict] [--require jax,torch] [--write docs/performance.md]

Each engine trains in a process of its own, one after another, round after round; of each process counts the fastest
epoch, of the rounds the median. Before and after each round two threads hand a token to and fro: rounds in which that
takes far longer than in the best are left out. A peer that is required and missing is an error.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from datetime import date
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CASES = {
    "digits": ("digits 64-64-10, batch 32", "--data digits --sizes 64,64,10 --batch 32 --epochs 6"),
    "small": ("Fashion 784-128-10, batch 64", "--sizes 784,128,10 --batch 64 --epochs 3"),
    "medium": ("Fashion 784-512-512-10, batch 128", "--sizes 784,512,512,10 --batch 128 --epochs 2"),
    "large": ("Fashion 784-1024-1024-10, batch 512", "--sizes 784,1024,1024,10 --batch 512 --epochs 1"),
    "tanh": ("784-128-10 tanh, batch 64", "--sizes 784,128,10 --batch 64 --epochs 3 --activation tanh"),
    "sigmoid": ("784-128-10 sigmoid, batch 64", "--sizes 784,128,10 --batch 64 --epochs 3 --activation sigmoid"),
}
SECTIONS = {
    "start": ("From process start to an accuracy (784-256-128-10, batch 128)", lambda every, peers: to_accuracy(peers)),
    "predict": ("Predictions (784-128-10)", lambda every, peers: predictions([e for e in every if e != "sklearn"])),
    "accuracy": ("Test accuracy after four epochs (784-128-10)", lambda every, peers: accuracies(peers)),
    "stages": ("A step after 15 epochs / a step after 2", lambda every, peers: probe("stages")),
    "copy": ("Fused passes: rate in memory / that of a copy", lambda every, peers: probe("copy")),
    "scaling": ("How the cost of a step grows", lambda every, peers: probe("scaling")),
    "import": ("Seconds to start Python and import", lambda every, peers: probe("import")),
}
ENGINES = ("products", "xmlp", "jax", "torch", "sklearn", "numpy", "xmlp-replay")
OURS = {"xmlp": "with the extra `fast`", "xmlp-replay": "without llvmlite"}
LIBRARIES = {"jax": "jax", "torch": "torch", "sklearn": "sklearn"}


def available(engine):
    return engine not in LIBRARIES or importlib.util.find_spec(LIBRARIES[engine]) is not None


def ping_pong(rounds=3000):
    """Seconds that two threads take to hand a token to and fro."""
    here, there = threading.Semaphore(0), threading.Semaphore(0)

    def other():
        for _ in range(rounds):
            there.acquire()
            here.release()

    thread = threading.Thread(target=other)
    thread.start()
    start = time.perf_counter()
    for _ in range(rounds):
        there.release()
        here.acquire()
    elapsed = time.perf_counter() - start
    thread.join()
    return elapsed


def run(engine, options, **environment):
    command = [sys.executable, str(ROOT / "peers.py"), engine, *options.split()]
    # a processor setting meant for old builds of OpenBLAS would slow the current one
    clean = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    done = subprocess.run(command, capture_output=True, text=True, env={**clean, **environment}, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(options, engines, rounds, figure="us_per_step"):
    """{engine: [figure of each calm round]}."""
    figures, probes = {e: [] for e in engines}, []
    for _ in range(rounds):
        before = ping_pong()
        for engine in engines:
            figures[engine].append(run(engine, options))
        probes.append(max(before, ping_pong()))
    calm = [i for i, p in enumerate(probes) if p <= 3 * min(probes)]
    return {e: [figures[e][i][figure] for i in calm] for e in engines}


def steps(cases, rounds, engines):
    """A table for each of `OURS`: microseconds a step, and ratios to the others."""
    others = [e for e in engines if e not in OURS]
    rows = {ours: [] for ours in OURS}
    for name in cases:
        title, options = CASES[name]
        chosen = [e for e in engines if not (name == "large" and e in ("sklearn", "numpy"))]
        times = measured(options, chosen, rounds)
        median = {e: statistics.median(t) for e, t in times.items()}
        for ours, lines in rows.items():
            ratios = [f"{median[ours] / median[e]:.2f}" if e in median else "-" for e in others]
            lines.append([title, f"{median[ours]:.1f}", *ratios, f"{len(times[ours])} of {rounds}"])
            print(f"{ours}: {' | '.join(lines[-1])}", flush=True)
    head = ["case", "µs a step", *(f"/ {e}" for e in others), "rounds"]
    return {ours: markdown(head, lines) for ours, lines in rows.items()}


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def to_accuracy(engines, seeds=5):
    """Seconds from the start of the process to 0.87 on Fashion-MNIST, with a cold and a warm cache of compiled code."""
    options = "--sizes 784,256,128,10 --batch 128 --epochs 20 --until 0.87 --seed {}"
    rows, results = [], {}
    for seed in range(seeds):
        for engine in engines:
            for cache in ("off", "") if engine == "xmlp" else ("",):
                flags = options.format(seed) + (" --bytes" if engine == "xmlp" else "")
                result = run(engine, flags, XMLP_CACHE=cache) if engine == "xmlp" else run(engine, flags)
                results.setdefault((engine, cache), []).append(result)
    for (engine, cache), found in results.items():
        seconds = statistics.median(r["reached_s"] or float("inf") for r in found)
        name = engine + {"off": ", cold cache", "": ", warm cache" if engine == "xmlp" else ""}[cache]
        rows.append([name, f"{seconds:.2f}", f"{statistics.median(r['peak_mb'] for r in found):.0f}"])
        print(" | ".join(rows[-1]), flush=True)
    return markdown(["engine", "seconds to 0.87 test accuracy", "peak memory, MB"], rows)


def predictions(engines, rounds=3):
    rows = []
    for engine in engines:
        results = [run(engine, "--sizes 784,128,10 --batch 64 --epochs 1 --predict") for _ in range(rounds)]
        one, many = (statistics.median(r[name] for r in results) for name in ("one_us", "many_us"))
        rows.append([engine, f"{one:.1f}", f"{many:.0f}"])
        print(" | ".join(rows[-1]), flush=True)
    return markdown(["engine", "one row, µs", "1000 rows, µs"], rows)


def accuracies(engines, seeds=5):
    """Test accuracy of 784-128-10 on Fashion-MNIST after four epochs: the mean of the seeds and their spread."""
    rows = []
    for engine in engines:
        found = [run(engine, f"--sizes 784,128,10 --batch 64 --epochs 3 --seed {s}")["accuracy"] for s in range(seeds)]
        rows.append([engine, f"{statistics.mean(found):.4f}", f"{statistics.stdev(found):.4f}"])
        print(" | ".join(rows[-1]), flush=True)
    return markdown(["engine", "mean of 5 seeds", "standard deviation"], rows)


def probe(name):
    """A table of what `ci/benchmarks/probes.py` measures of xmlp alone."""
    clean = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    command = [sys.executable, str(ROOT / "probes.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    if name == "scaling":
        rows = [[*row[:4], f"{row[4]:.1f}", "-" if row[5] is None else f"{row[5]:.1f}"] for row in result]
        text = markdown(["what grows", "network", "batch", "rows", "xmlp, µs a step", "products, µs"], rows)
    else:
        text = markdown([*result], [[f"{value:.2f}" for value in result.values()]])
    print(text, flush=True)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join((*CASES, *SECTIONS)))
    parser.add_argument("--require", default="", help="peers that must be there")
    parser.add_argument("--write", help="the file whose measured part is replaced")
    a = parser.parse_args()
    missing = [e for e in a.require.split(",") if e and not available(e)]
    if missing:
        sys.exit(f"required and not installed: {', '.join(missing)}")
    engines = [e for e in ENGINES if available(e)]
    peers = [e for e in engines if e not in ("products", "xmlp-replay")]
    wanted = a.only.split(",")
    if strange := set(wanted) - {*CASES, *SECTIONS}:
        sys.exit(f"unknown: {min(strange)}; there are {', '.join((*CASES, *SECTIONS))}")
    parts = []
    if cases := [name for name in wanted if name in CASES]:
        for ours, text in steps(cases, a.rounds, engines).items():
            parts += [f"### A training step {OURS[ours]}: ratios of medians, smaller is faster", text]
    for name in (name for name in wanted if name in SECTIONS):
        title, measure = SECTIONS[name]
        print(title, flush=True)
        parts += [f"### {title}", measure(engines, peers)]
    names = ["numpy", "llvmlite", "jax", "torch", "scikit-learn"]
    found = [
        f"{n} {metadata.version(n)}" for n in names if importlib.util.find_spec(n.replace("scikit-learn", "sklearn"))
    ]
    machine = f"{os.cpu_count()} cores, {processor()}, Python {platform.python_version()}"
    stamp = f"{date.today()}, {machine}, {', '.join(found)}."
    text = "\n\n".join([stamp, *parts])
    print(text)
    if a.write:
        path = Path(a.write)
        head, mark, rest = path.read_text(encoding="utf-8").partition("<!-- measured -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        path.write_text(f"{head}{mark}{text}\n{end}{tail}", encoding="utf-8")


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
