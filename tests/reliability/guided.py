"""Row C6g: files that a fuzzer makes, led by which lines of the reader they reach."""

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import xmlp
from reliability.core import ROOT, python, row
from reliability.malicious import cases
from reliability.samples import listeners, mended, mutations, packed, small, subjects
from xmlp.errors import CheckpointError

READERS = (
    "files.py",
    "configs.py",
    "chain.py",
    "network.py",
    "dense.py",
    "normalization.py",
    "residual.py",
    "standardize.py",
    "layout.py",
    "checkpoints.py",
    "monitors.py",
    "checkpoint.py",
)


def load(path: Path, data: bytes) -> None:
    """Load these bytes, their checksum mended: nothing but a network or a CheckpointError comes of it."""
    path.write_bytes(mended(data))
    with contextlib.suppress(CheckpointError):
        network = xmlp.load(path)
        network.predict(np.zeros((1, network.in_features)))
    with contextlib.suppress(CheckpointError):
        xmlp.Trainer.resume(path, callbacks=listeners(), planned=False)


def seeds() -> Iterator[bytes]:
    """Files to begin with: a right one, and small malicious ones."""
    yield packed(small().config())
    yield from (data for _, data in cases() if len(data) < 5000)
    with tempfile.TemporaryDirectory() as folder:
        yield subjects(Path(folder))[1].data


def traced(call: Callable[[], Any]) -> frozenset[tuple[str, int, int]]:
    """The steps from line to line that a call makes in the readers."""
    steps: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        name = os.path.basename(frame.f_code.co_filename)
        if name not in READERS:
            return None
        last = frame.f_lineno

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            steps.add((name, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return frozenset(steps)


def own_loop(seconds: float, folder: Path) -> None:
    """Keep what reaches something new, and change it further."""
    rng, path = np.random.default_rng(8), folder / "model"
    kept: list[bytes] = []
    seen: set[tuple[str, int, int]] = set()
    runs = 0

    def run(data: bytes) -> None:
        nonlocal runs
        runs += 1
        new = traced(lambda: load(path, data)) - seen
        if new:
            seen.update(new)
            kept.append(data)

    for data in seeds():
        run(data)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _, data in zip(range(4), mutations(kept[int(rng.integers(len(kept)))], rng), strict=False):
            run(data)
    print(json.dumps({"runs": runs, "reached": len(seen), "by": "a loop of our own"}))


def atheris_loop(seconds: float, folder: Path) -> None:
    """The same by libFuzzer, which ends the process."""
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir()
    for i, data in enumerate(seeds()):
        (corpus / str(i)).write_bytes(data)
    atheris.instrument_all()
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={max(round(seconds), 1)}", "-max_len=8192", "-verbosity=1",
         "-print_final_stats=1", f"-artifact_prefix={folder}/", str(corpus)],
        lambda data: load(folder / "model", data),
    )  # fmt: skip
    atheris.Fuzz()


@row("C6g", "files led by the lines of the reader that they reach: a CheckpointError or a network that predicts", "all",
     short=3, long=600)  # fmt: skip
def guided(seconds: int, folder: Path) -> str:
    found = importlib.util.find_spec("atheris") is not None
    loop = "atheris_loop" if found else "own_loop"
    code = f"import sys, pathlib, reliability.guided as g; g.{loop}(float(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    path = os.pathsep.join([str(ROOT / "tests"), str(Path(xmlp.__file__).parent.parent), *sys.path])
    done = python(code, seconds, folder, env={**os.environ, "PYTHONPATH": path}, timeout=seconds + 300)
    if found:
        counts = dict(
            line.removeprefix("stat::").split(":") for line in done.stderr.splitlines() if line.startswith("stat::")
        )
        return f"{int(counts['number_of_executed_units']):,} files in {seconds} s by atheris"
    counts = json.loads(done.stdout.splitlines()[-1])
    return f"{counts['runs']:,} files in {seconds} s by {counts['by']}, {counts['reached']} steps between lines reached"
