"""Rows about what people pass: tables, IDX files and arguments at random end in declared errors, not in a traceback."""

import contextlib
import gzip
import importlib.util
import io
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from click.testing import CliRunner

import xmlp.cli.info
import xmlp.cli.train
import xmlp.data.blocks
import xmlp.verify
from reliability.core import row
from xmlp.cli import main
from xmlp.data import TableSchema, read_csv, read_idx
from xmlp.errors import DataError

CELLS = (
    "1", "-2.5", "1e308", "1e-320", "1e999", "nan", "inf", "-inf", "", " ", "NA", "?", "null", "red", "blue", "=1+1",
    "@SUM(A1)", "1,234.50", "3,14", "$5", "(1)", "5 %", "N/A", "007", "31/12/2024", "2 Jan 24", "10:30", "0x10",
    "1_000", "١٢", "\u2028", "é", "x" * 300, "1.5 ", '"', "'", "True", "2024-01-01", "\x1b[31m",
)  # fmt: skip
PIECES = (b",", b"\n", b"\r", b"\r\n", b'"', b'""', b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b",,", b"\n\n", b"\t")


def tables(rng: np.random.Generator) -> Iterator[bytes]:
    """Endlessly many tables, some of them right, most of them not."""
    while True:
        columns, rows = int(rng.integers(1, 5)), int(rng.integers(0, 12))
        pool = rng.choice(CELLS if rng.random() < 0.5 else CELLS[:4], size=int(rng.integers(1, 6)))
        names = [
            str(rng.choice(["a", "b", "y", "a b", "ü", "=c"])) + str(i if rng.random() < 0.9 else "")
            for i in range(columns)
        ]
        lines = [names, *([str(rng.choice(pool)) for _ in range(columns)] for _ in range(rows))]
        text = "\n".join(",".join(f'"{c}"' if rng.random() < 0.1 else c for c in line) for line in lines) + "\n"
        data = bytearray(text.encode(str(rng.choice(["utf-8"] * 8 + ["utf-16", "latin-1"])), errors="replace"))
        for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.4 else 0):
            at = int(rng.integers(len(data) + 1))
            data[at : at + int(rng.integers(0, 3))] = PIECES[int(rng.integers(len(PIECES)))]
        yield bytes(data)


@row(
    "I1", "tables at random: read and learnt from, or a DataError that names the file", "all", short=2000, long=100_000
)
def random_tables(size: int, folder: Path) -> str:
    rng, path = np.random.default_rng(1), folder / "table.csv"
    found = {"refused": 0, "learnt": 0}
    for data in itertools.islice(tables(rng), size):
        path.write_bytes(data)
        try:
            table = read_csv(path, max_field=1000)
            target = str(rng.choice([*table.columns, *table.columns, "nope"]))
            missing = "mean" if rng.random() < 0.5 else "refuse"
            schema = TableSchema.learn(table, target, missing=missing)
            assert np.isfinite(schema.features(table)).all()
            assert np.isfinite(schema.targets(table.take(schema.labelled(table)))).all()
            assert TableSchema.from_json(schema.to_json()) == schema
            found["learnt"] += 1
        except DataError as error:
            assert str(error).startswith(str(path)), error
            found["refused"] += 1
    assert min(found.values()) > size // 100, found
    return ", ".join(f"{count} {what}" for what, count in found.items())


def idx_files(rng: np.random.Generator) -> Iterator[bytes]:
    """Endlessly many IDX files, plain and packed, most of them damaged."""
    while True:
        shape = rng.integers(0, 5, size=int(rng.integers(1, 4))).tolist()
        code = int(rng.choice([8, 9, 11, 12, 13, 14]))
        size = int(np.prod(shape)) * {8: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8}[code]
        if rng.random() < 0.2:
            shape[0] = int(rng.choice([2**32 - 1, 2**31, 10**6, 65536]))
        data = bytearray(bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + rng.bytes(size))
        if packed := rng.random() < 0.3:
            data = bytearray(gzip.compress(bytes(data), mtime=0))
        for _ in range(int(rng.integers(0, 3))):
            at = int(rng.integers(len(data) + 1))
            match int(rng.integers(3)):
                case 0 if at < len(data):
                    data[at] = int(rng.integers(256))
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        yield bytes(data) + (gzip.compress(bytes(data)) if packed and rng.random() < 0.1 else b"")


@row("I2", "IDX files at random: read, or a DataError that names the file", "all", short=2000, long=100_000)
def random_idx_files(size: int, folder: Path) -> str:
    path, found = folder / "file-idx", {"refused": 0, "read": 0}
    for data in itertools.islice(idx_files(np.random.default_rng(2)), size):
        path.write_bytes(data)
        try:
            array = read_idx(path, max_bytes=10_000)
            assert array.nbytes <= 10_000
            found["read"] += 1
        except DataError as error:
            assert str(error).startswith(f"{path}: "), error
            found["refused"] += 1
    assert min(found.values()) > size // 100, found
    return ", ".join(f"{count} {what}" for what, count in found.items())


COMMANDS = ("train", "evaluate", "predict", "info", "verify")
VALUES = (
    "a.csv", "model.safetensors", "new.safetensors", "y", "size", "-", "", ".", "..", "nope", "\0", "ü\x1b", "0",
    "1", "-1", "0.5", "1e400", "nan", "inf", "-inf", "3", "8,8", "none", "relu", "rellu", "adam", "sgd", "batch",
    "onecycle", "mean", "classification", "regression", "numpy", "numpy:cpu", "cupy", "array-api-strict", "auto",
    "float32", "float64", "float16", "002-01", "9" * 5000, "x" * 300, "--", "/dev/null", "/", "~", "$HOME", "%s",
    "{0}", "\ud800", "🤖",
)  # fmt: skip


def arguments(rng: np.random.Generator, options: list[str]) -> list[str]:
    """A command line: a command or something else, then options with and without values."""
    args = [str(rng.choice(COMMANDS) if rng.random() < 0.9 else rng.choice(VALUES))]
    if args[0] == "train" and rng.random() < 0.7:
        args += ["a.csv", "--target", "y", "--model", "new.safetensors"]
    for _ in range(int(rng.integers(0, 5))):
        option, value = str(rng.choice(options)), VALUES[int(rng.integers(len(VALUES)))]
        args += [[option, value], [option], [value], [f"{option}={value}"]][
            int(rng.choice(4, p=[0.6, 0.15, 0.15, 0.1]))
        ]
    return args


@row("I3", "command lines at random: exit code 0, 1, 2 or 130, one line that says why, never a traceback", "all",
     short=2000, long=5000)  # fmt: skip
def random_command_lines(size: int, folder: Path) -> str:
    rng, codes = np.random.default_rng(3), {}
    (folder / "a.csv").write_text(
        "size,hue,y\n" + "".join(f"{i},{'rb'[i % 2]},{'no yes'.split()[i % 2]}\n" for i in range(30))
    )
    options = sorted(
        {o for name in COMMANDS for p in main.get_command(None, name).params for o in p.opts if o[:1] == "-"}
    )
    options += ["--help", "--version", "--hiden", "-x"]
    xmlp.verify.verify("numpy", "002-01")
    with contextlib.chdir(folder):
        trained = CliRunner().invoke(main, ["train", "a.csv", "--target", "y", "--epochs", "1", "--quiet"])
        assert trained.exit_code == 0, trained.output
        with (
            mock.patch.object(xmlp.cli.train, "_train", lambda *args, **kw: xmlp.cli.train.Outcome(None, 1)),
            mock.patch.object(xmlp.cli.info, "_self_test", lambda name: "works"),
            mock.patch.object(xmlp.verify, "verify", lambda backend, only: []),
        ):
            for _ in range(size):
                args = arguments(rng, options)
                result = CliRunner().invoke(main, args, input="size,hue\n1,r\n")
                assert isinstance(result.exception, SystemExit | None), (args, repr(result.exception))
                assert result.exit_code in (0, 1, 2, 130), (args, result.exit_code)
                assert "Traceback" not in result.output, args
                if result.exit_code == 2:
                    assert result.output.splitlines()[-1].startswith("error: "), (args, result.output)
                codes[result.exit_code] = codes.get(result.exit_code, 0) + 1
    return ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))


@row("I4", "readers of tables at random: csv, NumPy, polars and pyarrow give one table or one error", "all",
     short=300, long=30_000)  # fmt: skip
def readers_of_tables(size: int, folder: Path) -> str:
    engines = ["csv", "numpy", *(name for name in ("polars", "pyarrow") if importlib.util.find_spec(name))]
    found = {"refused": 0, "read": 0}
    with mock.patch.object(xmlp.data.blocks, "_SHORT", 0):
        for data in itertools.islice(tables(np.random.default_rng(4)), size):
            first, *others = (_contents(data, engine) for engine in engines)
            assert all(other == first for other in others), (data, first, others)
            found["refused" if isinstance(first, str) else "read"] += 1
    assert min(found.values()) > size // 100, found
    return ", ".join(f"{count} {what}" for what, count in found.items()) + f" by {', '.join(engines)}"


def _contents(data: bytes, engine: str) -> object:
    try:
        table = read_csv(io.BytesIO(data), max_field=1000, engine=engine)
    except DataError as error:
        return str(error)
    numbers = {name: table.numbers(name).tobytes() for name in table.columns}
    return dict(table.columns), table.lines, numbers, {name: repr(table.cells(name)) for name in table.columns}
