"""Rows about files: what is saved survives crashes and full disks, and no file does harm."""

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy

import xmlp
from reliability.core import ROOT, row
from reliability.samples import Subject, X, Y, content, listeners, mended, mutations, run_of, same, small, subjects
from xmlp import callbacks
from xmlp.errors import CheckpointError
from xmlp.host import files

GOLDEN = ROOT / "tests" / "golden"


# --- crashes ----------------------------------------------------------------------------------------------------------


def killed_at(number: int, action: Callable[[], None]) -> bool:
    """Run an action in a fork that is killed at its `number`-th event: before or after a call into C. Whether it was.

    A killed process flushes nothing and cleans up nothing: all that remains is what the calls before have done.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads of other libraries do not matter: the child only saves
        child = os.fork()
    if child == 0:
        seen = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal seen
            if event in ("c_call", "c_return"):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(count)
            action()
            sys.setprofile(None)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def crashes(action: Callable[[], None], check: Callable[[], None], stride: int) -> int:
    """Kill an action at every `stride`-th event until it gets through; `check` looks at what is left each time."""
    number = 1
    while killed_at(number, action):
        check()
        number += stride
    check()
    return (number - 1) // stride


@row("C2", "a save that is killed at any call leaves the old file or the new one", "100 %", short=3, long=1)
def killed_saves(stride: int, folder: Path) -> str:
    path, old, new = folder / "model", small(1.0), small(2.0)
    found = {"old": 0, "new": 0}

    def check() -> None:
        network = xmlp.load(path)
        assert same(network, old) or same(network, new)
        found["old" if same(network, old) else "new"] += 1
        for rubbish in folder.glob("model.tmp.*"):
            os.utime(rubbish, (0, 0))
        old.save(path)
        assert [p.name for p in folder.iterdir()] == ["model"], "what a killed save left was not removed"

    old.save(path)
    kills = crashes(lambda: new.save(path), check, stride)
    assert found["old"] > 5
    assert found["new"] > 1
    return f"{kills} kills: {found['old']} left the old file, {found['new']} the new one"


@row("C2c", "a checkpoint that is killed at any call leaves a folder to resume from, at its step or the last", "100 %",
     short=4, long=1)  # fmt: skip
def killed_checkpoints(stride: int, folder: Path) -> str:
    place, template = folder / "run", folder / "template"
    keeper = callbacks.Checkpoint(place, every_epochs=1, keep=2)
    trainer = run_of(small())
    trainer.callbacks.append(keeper)
    trainer.fit(X, Y, epochs=2, batch_size=4)
    shutil.copytree(place, template)
    before = trainer.steps
    trainer.callbacks.remove(keeper)
    trainer.fit(X, Y, epochs=1, batch_size=4)
    trainer.callbacks.append(keeper)
    found = {"old": 0, "new": 0}

    def check() -> None:
        again = [*listeners(), callbacks.Checkpoint(place)]
        resumed = xmlp.Trainer.resume(place, callbacks=again, planned=False)
        assert resumed.steps in (before, trainer.steps)
        found["old" if resumed.steps == before else "new"] += 1
        shutil.rmtree(place)
        shutil.copytree(template, place)

    kills = crashes(lambda: keeper.save(trainer), check, stride)
    assert min(found.values()) > 1, found
    return f"{kills} kills: {found['old']} left the old checkpoint as the latest, {found['new']} the new one"


# --- faults of the disk -----------------------------------------------------------------------------------------------

FAULTS = ("ENOSPC", "EIO", "EROFS", "EDQUOT", "EACCES", "EPERM", "EFBIG")


class Failing:
    """A file whose n-th call fails; half of what is to be written is written before."""

    def __init__(self, file: Any, method: str, error: OSError):
        self._file, self._method, self._error = file, method, error

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if name != self._method:
            return found

        def fail(*args: Any) -> None:
            if name == "write":
                self._file.write(args[0][: len(args[0]) // 2])
            raise self._error

        return fail

    def __enter__(self) -> "Failing":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@contextlib.contextmanager
def fault(where: str, error: OSError) -> Iterator[None]:
    """Make one of the calls of a save fail."""
    kind, _, name = where.partition(".")
    if kind == "os":
        with mock.patch.object(os, name, side_effect=error):
            yield
        return
    usual = open

    def opened(path: Any, mode: str = "r", *args: Any, **kw: Any) -> Any:
        if "x" not in mode:
            return usual(path, mode, *args, **kw)
        if name == "open":
            raise error
        return Failing(usual(path, mode, *args, **kw), name, error)

    with mock.patch("builtins.open", opened):
        yield


def refused_save(path: Path, network: xmlp.Network, code: int) -> None:
    """A save that must fail, say where and how much, keep the old file and leave no other."""
    before = path.read_bytes()
    try:
        network.save(path)
    except OSError as error:
        assert (error.errno, error.filename) == (code, str(path)), error
        told = re.search(r"cannot save (\d+) bytes, the old file is untouched", str(error))
        assert told, error
        assert int(told[1]) > 4 * network.layout.size, error
    else:
        raise AssertionError("the save went through")
    assert path.read_bytes() == before
    xmlp.load(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@row("C4", "a full disk: the old file stays, the error has path and bytes, no temporary file", "all ways")
def full_disks(size: int, folder: Path) -> str:
    disk = folder / "disk"
    disk.mkdir()
    old, large = small(1.0), xmlp.mlp([100, 400, 10])
    ways = []

    old.save(disk / "model")
    usual = open

    def full(path: Any, mode: str = "r", *args: Any, **kw: Any) -> Any:
        return usual("/dev/full", "wb") if "x" in mode else usual(path, mode, *args, **kw)

    with mock.patch("builtins.open", full):
        refused_save(disk / "model", large, errno.ENOSPC)
    ways.append("/dev/full")
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
        refused_save(disk / "model", large, errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    ways.append("a limit on the size of files")
    (disk / "model").unlink()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if (
        mounted
        and not subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], check=False).returncode
    ):
        try:
            old.save(disk / "model")
            refused_save(disk / "model", large, errno.ENOSPC)
            ways.append("a small tmpfs")
        finally:
            subprocess.run(["umount", disk], check=True)
    return ", ".join(ways)


@row("C5", "any call of a save fails with any error: as C4", "all")
def failing_calls(size: int, folder: Path) -> str:
    disk = folder / "disk"
    disk.mkdir()
    path, old, new = disk / "model", small(1.0), small(2.0)
    old.save(path)
    count = 0
    for name in FAULTS:
        code = getattr(errno, name)
        for where in ("file.open", "file.write", "file.flush", "os.fsync", "os.replace", "os.scandir"):
            with fault(where, OSError(code, os.strerror(code))):
                refused_save(path, new, code)
            count += 1
        new.save(path)
        assert same(xmlp.load(path), new)
        old.save(path)
    return f"{count} of {count} faults"


# --- damage -----------------------------------------------------------------------------------------------------------


def outcome(subject: Subject, path: Path, data: bytes, whole: bool) -> str:
    """What loading these bytes does; anything but a refusal or something that works is raised."""
    path.write_bytes(data)
    try:
        loaded = subject.load(path)
    except CheckpointError as error:
        assert str(error)
        return "refused"
    if subject.same(loaded):
        return "the original"
    assert whole, "a damaged file was read"
    subject.use(loaded)
    return "another"


@row("C6", "damaged models and checkpoints: a CheckpointError or the original; slowest load, memory",
     "all, <= 100 x, <= 10 x file + 1 MB", short=20_000, long=100_000)  # fmt: skip
def damaged_files(size: int, folder: Path) -> str:
    told = []
    for subject in subjects(folder):
        path, seen = folder / "damaged", dict.fromkeys(("refused", "the original", "another"), 0)
        seconds: list[tuple[float, bytes]] = []
        most = 0

        def load(data: bytes, whole: bool = True, subject: Subject = subject, path: Path = path) -> str:
            return outcome(subject, path, data, whole)

        files_made = mutations(subject.data, np.random.default_rng(6))
        for i, data in zip(range(size // 2), files_made, strict=False):
            begin = time.perf_counter()
            seen[load(data, whole=i % 2 == 1)] += 1
            seconds.append((time.perf_counter() - begin, data))
            if i % 20 == 0:
                most = max(most, memory_of(lambda data=data: load(data)) - 10 * len(data))
        assert seen["refused"] > size // 5
        assert most < 1_000_000, most
        slowest = sorted(seconds)[-20:]  # again, for the machine may have been busy elsewhere
        again = [min(timed(lambda data=data: load(data)) for _ in range(3)) for _, data in slowest]
        ratio = max(again) / np.median([s for s, _ in seconds])
        assert ratio <= 100, ratio
        counts = ", ".join(f"{count} {kind}" for kind, count in seen.items())
        told.append(f"{subject.name}: {counts}, slowest {ratio:.0f} x, memory 10 x + {max(most, 0) // 1000} kB")
    return "; ".join(told)


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def memory_of(call: Callable[[], Any]) -> int:
    """The most memory that a call has in use at a time, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@row("C7", "every single flipped bit is noticed", "10,000 of 10,000", short=10_000, long=100_000)
def flipped_bits(size: int, folder: Path) -> str:
    told = []
    for subject in subjects(folder):
        total = 8 * len(subject.data)
        bits = np.random.default_rng(7).choice(total, min(size // 2, total), replace=False).tolist()
        for bit in bits:
            data = bytearray(subject.data)
            data[bit // 8] ^= 1 << bit % 8
            assert outcome(subject, folder / "flipped", bytes(data), whole=False) == "refused", f"bit {bit}"
        told.append(f"{len(bits):,} of {len(bits):,} in a {subject.name} of {total:,} bits")
    return ", ".join(told)


@row("C8", "a model or checkpoint that is cut at any byte, or has something after it, is refused", "all")
def cut_files(size: int, folder: Path) -> str:
    lengths, path = 0, folder / "cut"
    for subject in subjects(folder):
        good = subject.data
        for end in range(len(good)):
            assert outcome(subject, path, good[:end], whole=False) == "refused", f"{end} bytes"
        for data in (
            good + good,
            good + b"\0",
            b"\0" + good,
            good[:8] + b" " + good[8:],
            good[: len(good) // 2] + good,
        ):
            assert outcome(subject, path, data, whole=False) == "refused"
            assert outcome(subject, path, mended(data), whole=False) == "refused"
        lengths += len(good)
    return f"all {lengths} lengths, and 20 joined files"


# --- versions, races, layouts -----------------------------------------------------------------------------------------


@row("C11", "files of every version of the format load, and hold what they held", "all")
def golden_files(size: int, folder: Path) -> str:
    found = sorted(GOLDEN.glob("*.safetensors"))
    for path in found:
        network = xmlp.load(path)
        expected = np.loadtxt(path.with_suffix(".csv"), delimiter=",")
        got = network.predict(X[:, : network.in_features])
        assert np.abs(got - expected).max() < 1e-6, path.name
        assert network.metadata == {"classes": ["a", "ü"], "rate": 0.5}
        if "checkpoint" in path.name:
            trainer = xmlp.Trainer.resume(path, callbacks=listeners())
            assert (trainer.moment, trainer.finished) == ((5, 1, 2), False)
            trainer.fit(X, Y)
            assert (trainer.steps, trainer.history.epochs) == (9, 3)
    assert found
    later = (GOLDEN / "xmlp-1.safetensors").read_bytes().replace(b'"format":"xmlp-1"', b'"format":"xmlp-9"')
    (folder / "later").write_bytes(later)
    with contextlib.suppress(CheckpointError):
        xmlp.load(folder / "later")
        raise AssertionError("a later format was read")
    return ", ".join(path.name for path in found)


RACE = """
import sys, xmlp
from reliability.samples import small
path, value, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
network = small(value)
sys.stdin.readline()
for _ in range(count):
    network.save(path)
"""


@row(
    "C12",
    "two processes that save to one path: each file read is whole and of one of them",
    "all",
    short=100,
    long=1000,
)
def races(size: int, folder: Path) -> str:
    path = folder / "model"
    small(0.0).save(path)
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(Path(xmlp.__file__).parent.parent)])}
    reads, seen = 0, set()
    with contextlib.ExitStack() as stack:
        writers = []
        for value in (1, 2):
            command = [sys.executable, "-c", RACE, str(path), str(value), str(size)]
            writers.append(stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, env=place)))
            stack.callback(writers[-1].kill)
        for writer in writers:
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
        while any(writer.poll() is None for writer in writers):
            values = set(xmlp.load(path).theta.tolist())
            assert len(values) == 1, "a file of two processes"
            seen |= values
            reads += 1
        assert [writer.wait() for writer in writers] == [0, 0]
    assert seen >= {1.0, 2.0}
    assert [p.name for p in folder.iterdir()] == ["model"]
    return f"{2 * size} saves, {reads} loads between them, all whole"


@row("C13", "arrays of every memory layout come back to the bit", "all")
def layouts(size: int, folder: Path) -> str:
    base = np.random.default_rng(1).normal(size=(6, 8))
    readonly = base.copy()
    readonly.flags.writeable = False
    arrays = {
        "fortran": np.asfortranarray(base), "strided": base[::2, 1::3], "reversed": base[::-1, ::-1],
        "transposed": base.T, "readonly": readonly, "broadcast": np.broadcast_to(base[:1], (5, 8)),
        "big_endian": base.astype(">f8"), "big_endian_32": base.astype(">f4"), "empty": np.zeros((0, 3)),
        "scalar": np.asarray(2.5), "float32": np.float32(base)[:, ::2], "integers": np.arange(12).reshape(3, 4).T,
        "bytes": np.arange(7, dtype=np.uint8)[::-1], "flags": base > 0, "words": np.arange(5, dtype=np.uint32),
    }  # fmt: skip
    files.write(folder / "arrays", arrays, {})
    for got in (files.read(folder / "arrays")[0], safetensors.numpy.load_file(folder / "arrays")):
        for name, array in arrays.items():
            assert got[name].shape == array.shape, name
            assert got[name].dtype == array.dtype.newbyteorder("="), name
            assert got[name].tobytes() == array.astype(got[name].dtype).tobytes(), name
    return f"{len(arrays)} layouts, read by xmlp and by safetensors"


@row("C14", "saving costs at most twice a bare write and fsync of the same bytes", "<= 2", short=3, long=15)
def cost(size: int, folder: Path) -> str:
    network = xmlp.mlp([1024, 2048, 2048, 10])
    data = content(network, folder)
    bare, saved = [], []
    for i in range(size):
        begin = time.perf_counter()
        with open(folder / f"bare{i}", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        bare.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        network.save(folder / f"saved{i}")
        saved.append(time.perf_counter() - begin)
        (folder / f"bare{i}").unlink()
        (folder / f"saved{i}").unlink()
    ratio = float(np.median(saved) / np.median(bare))
    assert size < 10 or ratio <= 2, ratio
    return f"{ratio:.2f} of {1e3 * np.median(bare):.0f} ms for {len(data) / 1e6:.0f} MB"
