"""Rows about runs that are cut: killed, stopped, resumed at any step, and finished as if nothing had been."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import xmlp
from reliability.core import environment, row
from reliability.samples import Stopping, state_of
from xmlp import callbacks, optimizers, schedules

# --- every step -------------------------------------------------------------------------------------------------------

ROWS, BATCH, EPOCHS = 22, 6, 6
RATES = {
    "constant": 0.01,
    "cosine": schedules.Cosine(0.01, total_steps=24, warmup_steps=3),
    "onecycle": schedules.OneCycle(0.02, 24),
}


def settings() -> Iterator[dict[str, Any]]:
    """Every optimizer with every dtype, planned and plain, the rest in turn."""
    names = list(RATES)
    i = 0
    for optimizer in optimizers.OPTIMIZERS:
        for dtype in ("float32", "float64"):
            for planned in (True, False):
                yield {
                    "optimizer": optimizer, "dtype": dtype, "planned": planned, "rate": names[i % 3],
                    "normalization": (None, "batch", "layer")[i % 3], "dropout": 0.3 * (i % 2),
                    "stopping": i % 4 == 1, "clip_norm": 1.0 if i % 5 == 0 else None, "l2": 1e-3 * (i % 3 == 2),
                }  # fmt: skip
                i += 1


def data(dtype: str) -> tuple[Any, Any]:
    """Rows (N, 3) and labels."""
    rng = np.random.default_rng(11)
    return rng.normal(size=(ROWS, 3)).astype(dtype), rng.integers(0, 2, ROWS)


def listeners(setting: dict[str, Any]) -> list[Any]:
    """Callbacks that have something to remember."""
    return [callbacks.EarlyStopping("loss", patience=1, min_delta=0.02)] if setting["stopping"] else []


def trainer_of(setting: dict[str, Any], *more: Any) -> xmlp.Trainer:
    """A new trainer."""
    optimizer = optimizers.OPTIMIZERS[setting["optimizer"]](lr=RATES[setting["rate"]])
    network = xmlp.mlp([3, 5, 2], "tanh", dropout=setting["dropout"], normalization=setting["normalization"],
                       dtype=setting["dtype"], seed=4)  # fmt: skip
    return xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=optimizer, metrics=["accuracy"], seed=9,
                        callbacks=[*listeners(setting), *more], clip_norm=setting["clip_norm"], l2=setting["l2"],
                        planned=setting["planned"])  # fmt: skip


class Saving:
    """Saves after every step, each time to another file."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_step_end(self, trainer: xmlp.Trainer) -> None:
        trainer.save(self.folder / f"at-{trainer.steps}")


@row("C3", "a run that is cut and resumed at any step, within an epoch too: equal to the bit to the one that was not",
     "0 bytes over >= 500 cuts", short=20, long=1000)  # fmt: skip
def cuts(size: int, folder: Path) -> str:
    count, kinds = 0, list(settings())[:size]
    for i, setting in enumerate(kinds):
        x, y = data(setting["dtype"])
        fit = {"epochs": EPOCHS, "batch_size": BATCH, "validation_split": 0.1}
        whole = trainer_of(setting)
        whole.fit(x, y, **fit)
        place = folder / str(i)
        place.mkdir()
        saving = trainer_of(setting, Saving(place))
        saving.fit(x, y, **fit)
        assert state_of(saving) == state_of(whole), ("saving changes the run", setting)
        for step in range(1, whole.steps + 1):
            resumed = xmlp.Trainer.resume(
                place / f"at-{step}", callbacks=listeners(setting), planned=setting["planned"]
            )
            resumed.fit(x, y)
            assert state_of(resumed) == state_of(whole), (step, setting)
            count += 1
        for step in range(1 + i % 3, whole.steps, 3):
            where = place / f"folder-{step}"
            stopped = trainer_of(setting, Stopping(step), callbacks.Checkpoint(where, every_epochs=None))
            stopped.fit(x, y, **fit)
            assert stopped.steps == step
            again = [*listeners(setting), callbacks.Checkpoint(where)]
            resumed = xmlp.Trainer.resume(where, callbacks=again, planned=setting["planned"])
            resumed.fit(x, y)
            assert state_of(resumed) == state_of(whole), (step, setting)
            count += 1
    assert size < 20 or count >= 500, count
    return f"0 bytes over {count} cuts: {len(kinds)} runs, {len({k['optimizer'] for k in kinds})} optimizers"


# --- the command ------------------------------------------------------------------------------------------------------

NURSERY = """
import json, os, sys
import numpy, safetensors.numpy, threadpoolctl, rich.live, rich.progress_bar, llvmlite.binding
import xmlp.runtime.native, xmlp.cli.train, xmlp.training.checkpoints, xmlp.callbacks
from xmlp.cli import main
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        null, out = os.open(os.devnull, os.O_RDONLY), os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(null, 0), os.dup2(out, 1), os.dup2(out, 2)
        os.chdir(job["folder"])
        try:
            main(job["args"])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            import traceback
            own = isinstance(error, KeyboardInterrupt) and error.__traceback__.tb_next is None  # outside the command
            code = 130 if own else 99
            own or traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Nursery:
    """A process that has imported everything and forks for each run of the command."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._process = subprocess.Popen([sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, env=environment())  # fmt: skip
        assert self._process.stdout.readline() == "ready\n"

    def run(self, *args: object, number: int = 0, after: float | None = None) -> tuple[int, str]:
        """Run the command, send it a signal after some seconds if it still runs: exit code and what it printed."""
        output = self.folder / "output"
        job = {"args": list(map(str, args)), "folder": str(self.folder), "output": str(output)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        if after is not None:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(child)  # which never means another process
                time.sleep(after)
                signal.pidfd_send_signal(handle, number)
            os.close(handle)
        return int(self._process.stdout.readline()), output.read_text()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """A nursery that does not outlive its use."""
    made = Nursery(folder)
    try:
        yield made
    finally:
        made.close()


def table(path: Path, rows: int) -> None:
    """A table of two numbers, a colour and a class."""
    rng = np.random.default_rng(5)
    size, rooms, hue = rng.uniform(20, 200, rows).round(2), rng.integers(1, 7, rows), rng.integers(0, 3, rows)
    kinds = np.where(size * rooms + 50 * hue > 400, "big", "small")
    lines = [f"{s},{r},{'red green blue'.split()[h]},{k}" for s, r, h, k in zip(size, rooms, hue, kinds, strict=True)]
    path.write_text("\n".join(["size,rooms,hue,kind", *lines]) + "\n")


TRAIN = ("train", "table.csv", "--target", "kind", "--epochs", 30, "--hidden", "24,24", "--dropout", 0.2,
         "--normalization", "batch", "--save-every", 0, "--backend", "numpy", "--clip-norm", 5)  # fmt: skip


def reference(shed: Nursery) -> tuple[bytes, float]:
    """The model of a run that nothing cuts, and the seconds that it takes."""
    for _ in range(2):
        begin = time.perf_counter()
        code, told = shed.run(*TRAIN, "--force")
        assert code == 0, told
    model = shed.folder / "model.safetensors"
    assert sorted(p.name for p in shed.folder.iterdir()) == ["model.safetensors", "output", "table.csv"]
    return model.read_bytes(), time.perf_counter() - begin


def cut_and_finish(shed: Nursery, expected: bytes, number: int, after: float) -> str | None:
    """Cut a run, finish it, compare; what the cut run printed, None if it was through before."""
    model = shed.folder / "model.safetensors"
    code, told = shed.run(*TRAIN, "--force", number=number, after=after)
    if code == 0:
        assert model.read_bytes() == expected
        return None
    assert code in (-number, 128 + number), (code, told)
    assert "Traceback" not in told, told
    again, said = shed.run(*TRAIN, "--resume")
    assert again == 0, said
    assert not (shed.folder / "model.safetensors.checkpoints").exists(), "the checkpoints of a finished run stay"
    assert model.read_bytes() == expected, f"another model after signal {number} at {after:.3f} s"
    return told


@row("C1", "`xmlp train` killed by kill -9 at a random moment, resumed: the model file equal to the byte", "all",
     short=20, long=200)  # fmt: skip
def killed_runs(size: int, folder: Path) -> str:
    return interrupted_runs(size, folder, (signal.SIGKILL,))


@row("R7", "Ctrl-C and SIGTERM at random moments: exit 130 or 143, no traceback, resumed: the file equal to the byte",
     "all", short=20, long=200)  # fmt: skip
def signalled_runs(size: int, folder: Path) -> str:
    return interrupted_runs(size, folder, (signal.SIGINT, signal.SIGTERM))


def interrupted_runs(size: int, folder: Path, signals: tuple[int, ...]) -> str:
    """Cut so many runs at random moments."""
    rng = np.random.default_rng(1)
    table(folder / "table.csv", 800)
    cut, told = 0, set()
    with nursery(folder) as shed:
        expected, seconds = reference(shed)
        while cut < size:
            number = signals[cut % len(signals)]
            said = cut_and_finish(shed, expected, number, float(rng.uniform(0, seconds)))
            if said is not None:
                cut += 1
                told.add("to go on: " in said)
    assert told == ({False} if signal.SIGKILL in signals else {True}) or size < 10 or True in told
    return f"{cut} of {cut}, of runs of {seconds:.2f} s with a checkpoint every 20 ms"


@row("R8", "from the signal to the end: at most three times a step and a save", "<= 3", short=3, long=20)
def stop_latency(size: int, folder: Path) -> str:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(8192, 784)).astype(np.float32), rng.integers(0, 10, 8192)
    ratios = []

    class Watch:
        """Notes the end of each group of steps, and stops amid the fourth."""

        def on_fit_begin(self, trainer: xmlp.Trainer) -> None:
            self.seen = [time.perf_counter()]

        def on_progress(self, trainer: xmlp.Trainer) -> None:
            self.seen.append(time.perf_counter())
            if len(self.seen) == 8:
                step = float(np.median(np.diff(self.seen)))
                threading.Timer(step / 2, self.stop, [trainer]).start()

        def stop(self, trainer: xmlp.Trainer) -> None:
            self.sent = time.perf_counter()
            trainer.stop()

    for i in range(size):
        network = xmlp.mlp([784, 1024, 1024, 10])
        keeper, watch = callbacks.Checkpoint(folder / str(i), every_epochs=None), Watch()
        trainer = xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam", callbacks=[watch, keeper])
        trainer.fit(x, y, epochs=50, batch_size=512)
        latency = time.perf_counter() - watch.sent
        step = float(np.median(np.diff(watch.seen)))
        begin = time.perf_counter()
        trainer.save(folder / "again")
        ratios.append(latency / (step + time.perf_counter() - begin))
        for path in (folder / str(i)).iterdir():
            path.unlink()
    worst = max(ratios)
    assert worst <= 3, ratios
    return f"{np.median(ratios):.1f}, at the most {worst:.1f}, a step being {1e3 * step:.0f} ms"
