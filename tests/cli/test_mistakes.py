"""What users do wrong ends in exit code 2 and one line that says what to do, and changes nothing."""

import importlib.util
import os
import re
import sys

import pytest
from cli.command import houses, run, table

import xmlp
from xmlp.data import TableSchema, read_csv

T = ("train", "good.csv", "--target", "kind")
CASES = {
    # the file
    "no such file": (("train", "nope.csv", "--target", "y"), "No such file or directory: nope.csv"),
    "folder for a file": (("train", "folder", "--target", "y"), "Is a directory: folder"),
    "empty file": (("train", "empty.csv", "--target", "y"), "empty.csv: expected a header line"),
    "header only": (("train", "header.csv", "--target", "b"), "expected rows after the header"),
    "ragged row": (("train", "ragged.csv", "--target", "b"), "ragged.csv, line 3: expected 2 cells"),
    "NaN": (
        ("train", "nan.csv", "--target", "b", "--missing", "refuse"),
        "nan.csv, line 2, column 'a': a number is missing",
    ),
    "infinity": (("train", "inf.csv", "--target", "b"), "inf.csv, line 3, column 'a': expected a finite number"),
    "too large": (("train", "large.csv", "--target", "b"), "line 3, column 'a': 1e+39 is too large for float32"),
    "too large a target": (("train", "large.csv", "--target", "a"), "column 'a': 1e+39 is too large for float32"),
    "too small": (
        ("train", "small.csv", "--target", "b"),
        "column 'a': the column holds no number above 3e-42, which is",
    ),
    "too small a target": (("train", "small.csv", "--target", "a"), "float32. Scale it, or use --dtype float64"),
    "UTF-16": (("train", "utf16.csv", "--target", "b"), "this looks like UTF-16"),
    "Latin-1": (("train", "latin1.csv", "--target", "b"), "this looks like Latin-1"),
    "NUL": (("train", "nul.csv", "--target", "b"), "NUL character"),
    "two columns of one name": (("train", "twice.csv", "--target", "a"), "two columns have this name"),
    "one column": (("train", "one.csv", "--target", "a"), "no columns besides the target"),
    # the target
    "no target named": (("train", "good.csv"), "--target is missing: which column of good.csv"),
    "unknown target": (("train", "good.csv", "--target", "kin"), "Did you mean 'kind'?"),
    "one class": (("train", "constant.csv", "--target", "b"), "all rows are of one class"),
    "one number": (("train", "constant.csv", "--target", "b", "--task", "regression"), "there is nothing to learn"),
    "text as numbers": ((*T, "--task", "regression"), "line 2, column 'kind': expected a finite number"),
    "missing target": (
        ("train", "gap.csv", "--target", "b", "--missing", "refuse"),
        "line 3, column 'b': the target is missing",
    ),
    "too few rows": (("train", "short.csv", "--target", "b"), "leaves none to train on"),
    # columns
    "text among numbers": (
        ("train", "mixture.csv", "--target", "b"),
        "line 4, column 'a': expected a finite number, got '4O', where 5 of 6 cells read so. Mend the cell, or read it "
        "otherwise: --columns a:category,when:category (or :drop). Also column 'when', line 6: '2024-13-01'",
    ),
    "unknown column": (
        (*T, "--columns", "huge:drop"),
        "a column that --columns names: unknown column 'huge'. Did you mean 'hue'?",
    ),
    "unknown kind": ((*T, "--columns", "hue:categry"), "unknown kind of a column 'categry'. Did you mean 'category'?"),
    "no kind": ((*T, "--columns", "hue"), "expected NAME:KIND, as in age:number,id:drop, got 'hue'"),
    "two kinds": (
        (*T, "--columns", "hue:drop", "--columns", "hue:category"),
        "column 'hue' is to be drop and category",
    ),
    "open quote": ((*T, "--columns", '"hue:drop'), 'a quote (") stays open'),
    "target dropped": ((*T, "--columns", "kind:drop"), "the target 'kind' cannot be drop"),
    "target of two tasks": (
        (*T, "--task", "regression", "--columns", "kind:category"),
        "the target 'kind' cannot be category in a regression",
    ),
    "all dropped": (
        (*T, "--columns", "size:drop,rooms:drop,hue:drop,price:drop"),
        "no columns to learn from (size: drop, as asked for;",
    ),
    "text as numbers by name": ((*T, "--columns", "hue:number"), "line 2, column 'hue': expected a finite number, got"),
    "text as dates by name": ((*T, "--columns", "hue:date"), "line 2, column 'hue': expected a date, got"),
    "columns without a file": (("train", "--columns", "a:drop"), "--columns is about a CSV file"),
    "drop": ((*T, "--drop", "hue"), "no such option: --drop. To leave columns out, say --columns NAME:drop"),
    "categorical": ((*T, "--categorical", "hue"), "To say what a column is, say --columns NAME:category"),
    "inspect nothing": (("inspect",), "Missing argument 'CSV'"),
    # options
    "target without a file": (("train", "--target", "y"), "--target is about a CSV file"),
    "missing without a file": (("train", "--missing", "mean"), "--missing is about a CSV file"),
    "hidden 0": ((*T, "--hidden", "0"), "'--hidden': expected sizes of 1 to 1048576"),
    "hidden text": ((*T, "--hidden", "64,lots"), "'--hidden': expected sizes"),
    "hidden gap": ((*T, "--hidden", "64,,64"), "'--hidden': expected sizes"),
    "hidden negative": ((*T, "--hidden=-3"), "'--hidden': expected sizes"),
    "hidden huge": ((*T, "--hidden", "1000000000"), "'--hidden': expected sizes"),
    "lr 0": ((*T, "--lr", "0"), "'--lr': expected a finite number > 0, got 0"),
    "lr negative": ((*T, "--lr", "-1"), "'--lr': expected a finite number > 0, got -1"),
    "lr nan": ((*T, "--lr", "nan"), "'--lr': expected a finite number > 0, got nan"),
    "lr inf": ((*T, "--lr", "inf"), "'--lr': expected a finite number > 0, got inf"),
    "lr text": ((*T, "--lr", "fast"), "'--lr': 'fast' is not a valid float"),
    "epochs 0": ((*T, "--epochs", "0"), "'--epochs': expected a finite number >= 1, got 0"),
    "epochs 1.5": ((*T, "--epochs", "1.5"), "'--epochs': '1.5' is not a valid int"),
    "batch size -1": ((*T, "--batch-size", "-1"), "'--batch-size': expected a finite number >= 1, got -1"),
    "dropout 1": ((*T, "--dropout", "1"), "'--dropout': expected a finite number >= 0 and < 1, got 1"),
    "validation 1": ((*T, "--validation", "1"), "'--validation': expected a finite number >= 0 and < 1"),
    "seed -1": ((*T, "--seed", "-1"), "'--seed': expected a finite number >= 0"),
    "decay negative": ((*T, "--weight-decay", "-0.1"), "'--weight-decay': expected a finite number >= 0"),
    "decay without adamw": ((*T, "--weight-decay", "0.1", "--optimizer", "sgd"), "sgd has no weight_decay"),
    "activation": ((*T, "--activation", "rellu"), "unknown activation 'rellu'. Did you mean 'relu'?"),
    "optimizer": ((*T, "--optimizer", "adamm"), "unknown optimizer 'adamm'. Did you mean 'adam'?"),
    "schedule": ((*T, "--schedule", "oncycle"), "unknown schedule 'oncycle'. Did you mean 'onecycle'?"),
    "normalization": ((*T, "--normalization", "bach"), "Did you mean 'batch'?"),
    "task": ((*T, "--task", "regresion"), "Did you mean 'regression'?"),
    "missing": ((*T, "--missing", "men"), "Did you mean 'mean'?"),
    "backend": ((*T, "--backend", "nunpy"), "unknown backend 'nunpy'. Did you mean 'numpy'?"),
    "cupy": ((*T, "--backend", "cupy"), '.[cuda12]"'),
    "dtype": ((*T, "--dtype", "float16"), "has no 16-bit floats"),
    "quiet and JSON": ((*T, "--quiet", "--json"), "--quiet and --json exclude each other"),
    "unknown option": ((*T, "--epoch", "3"), "Did you mean"),
    "option without a value": ((*T, "--epochs"), "'--epochs' requires an argument"),
    "two files": ((*T, "more.csv"), "unexpected extra argument (more.csv)"),
    "unknown command": (("trian",), "unknown command 'trian'. Did you mean 'train'?"),
    # what would be written
    "model exists": ((*T, "--model", "price.safetensors"), "price.safetensors exists already"),
    "no folder": ((*T, "--model", "no/such/m.safetensors"), "there is no folder no/such"),
    "folder for a model": ((*T, "--model", "folder", "--force"), "folder is not a file"),
    "empty name": ((*T, "--model", ""), "is not a file"),
    "model over its data": ((*T, "--model", "good.csv", "--force"), "good.csv is an input of this command"),
    "predictions over the model": (
        ("predict", "price.safetensors", "good.csv", "-o", "price.safetensors"),
        "is an input",
    ),
    "predictions over the data": (("predict", "price.safetensors", "good.csv", "-o", "good.csv"), "is an input"),
    "predictions in no folder": (
        ("predict", "price.safetensors", "good.csv", "-o", "no/p.csv"),
        "there is no folder no",
    ),
    "predictions in a folder": (("predict", "price.safetensors", "good.csv", "-o", "folder"), "folder is not a file"),
    # models
    "no model named": (("evaluate",), "Missing argument 'MODEL'"),
    "no such model": (("evaluate", "nope.safetensors"), "No such file or directory: nope.safetensors"),
    "text as a model": (("evaluate", "good.csv"), "good.csv is not a safetensors file or is damaged"),
    "half a model": (("evaluate", "half.safetensors"), "half.safetensors is damaged"),
    "flipped bit": (("evaluate", "flipped.safetensors"), "is damaged"),
    "empty model": (("evaluate", "empty.csv"), "is not a safetensors file or is damaged"),
    "folder as a model": (("predict", "folder", "good.csv"), "folder is not a regular file"),
    "model of another program": (("evaluate", "own.safetensors"), "was not written by `xmlp train`"),
    "backend of evaluate": (
        ("evaluate", "price.safetensors", "good.csv", "--backend", "nunpy"),
        "error: unknown backend",
    ),
    "evaluate without data": (("evaluate", "price.safetensors"), "give a CSV file with the column 'price'"),
    "evaluate without the target": (("evaluate", "price.safetensors", "features.csv"), "unknown column 'price'"),
    "evaluate an unknown class": (
        ("evaluate", "kind.safetensors", "mixed.csv"),
        "line 3, column 'kind': unknown class",
    ),
    "predict without a column": (
        ("predict", "price.safetensors", "nan.csv"),
        "cannot find features: unknown column 'size'",
    ),
    "predict text for numbers": (
        ("predict", "price.safetensors", "text.csv"),
        "line 2, column 'size': expected a finite",
    ),
    "predict too large": (("predict", "price.safetensors", "big.csv"), "column 'size': 1e+39 is too large for float32"),
    "predict digits for a table": (("predict", "digits.safetensors", "good.csv"), "unknown column 'pixel_0_0'"),
    "predict nothing": (("predict", "price.safetensors"), "standard input: expected a header line"),
    "verify nothing": (("verify", "--only", "nothing"), "unknown check 'nothing'"),
    "verify nowhere": (("verify", "--backend", "nunpy"), "unknown backend 'nunpy'"),
}
FILES = {
    "empty.csv": b"",
    "header.csv": b"a,b\n",
    "ragged.csv": b"a,b\n1,x\n1,x,3\n",
    "nan.csv": b"a,b\nnan,x\n1,y\n2,x\n",
    "inf.csv": b"a,b\n1,x\ninf,y\n2,x\n",
    "small.csv": b"a,b\n1.5e-42,x\n3e-42,y\n-2e-42,x\n0,y\n1e-42,x\n",
    "large.csv": b"a,b\n1.5,x\n1e39,y\n2,x\n3,y\n4,x\n",
    "utf16.csv": "amount,b\n1,x\n2,y\n".encode("utf-16-le"),  # without the mark that tells what it is
    "latin1.csv": "a,b\n1,\xe9\n2,y\n".encode("latin-1"),
    "nul.csv": b"a,b\n1,x\0\n2,y\n",
    "twice.csv": b"a,a\n1,2\n",
    "one.csv": b"a\n1\n2\n",
    "constant.csv": b"a,b\n1,3\n2,3\n3,3\n4,3\n5,3\n6,3\n",
    "gap.csv": b"a,b\n1,x\n2,\n3,y\n",
    "short.csv": b"a,b\n,2.5\n2,\n3,NA\n",
    "mixture.csv": b"a,when,b\n1,2024-01-02,x\n2,2024-01-03,y\n4O,2024-01-04,x\n3,2024-01-05,y\n4,2024-13-01,x\n5,,y\n",
    "features.csv": b"size,rooms,hue\n1,2,red\n",
    "mixed.csv": b"size,rooms,hue,kind\n1,2,red,big\n1,2,red,bigger\n",
    "text.csv": b"size,rooms,hue\nlarge,2,red\n",
    "big.csv": b"size,rooms,hue\n1e39,2,red\n",
}


@pytest.fixture
def desk(shelf, here):
    """A folder with all that the cases name."""
    for name, content in FILES.items():
        (here / name).write_bytes(content)
    table(here / "good.csv", houses(40))
    (here / "folder").mkdir()
    for name in ("digits", "price", "kind"):
        (here / f"{name}.safetensors").write_bytes((shelf / f"{name}.safetensors").read_bytes())
    content = bytearray((shelf / "price.safetensors").read_bytes())
    (here / "half.safetensors").write_bytes(content[: len(content) // 2])
    content[-100] ^= 1
    (here / "flipped.safetensors").write_bytes(content)
    xmlp.mlp([2, 2]).save(here / "own.safetensors")
    return here


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(desk, contents, case):
    args, fragment = CASES[case]
    if case == "cupy" and importlib.util.find_spec("cupy"):
        pytest.skip("CuPy is here")
    before = contents()
    result = run(*args, code=2)
    assert fragment in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert contents() == before


def test_the_traceback_can_be_asked_for(here, monkeypatch, capsys):
    monkeypatch.setenv("XMLP_TRACEBACK", "1")
    from click.testing import CliRunner

    from xmlp.cli import main

    result = CliRunner().invoke(main, ["evaluate", "nope"])
    assert result.exit_code == 2
    assert "Traceback" in result.output
    assert result.output.splitlines()[-1] == "error: No such file or directory: nope"


def test_a_name_cannot_write_to_the_terminal_what_it_likes(here):
    result = run("evaluate", "\x1b[31mred\n\u202e", code=2)
    assert result.stderr == "error: No such file or directory: \\x1b[31mred \\u202e\n"


def test_too_little_memory_is_a_mistake_of_the_user(here):
    result = run("train", "--hidden", "1,1048576,1048576", code=2)
    said = r"error: \d+ parameters need 8.8 TB, .* is free: use smaller layers\n"
    assert re.fullmatch(said, result.stderr)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_never_replaced_by_one(shelf, here):
    """As a device would be by a program of root."""
    os.mkfifo("pipe")
    assert "is not a file" in run("train", "--model", "pipe", "--force", code=2).stderr
    assert "is not a file" in run("predict", shelf / "price.safetensors", "-o", "pipe", code=2).stderr
    assert not os.path.isfile("pipe")


def test_a_folder_that_cannot_be_written_to_is_said_before_training(here, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written to" in run("train", code=2).stderr


def test_more_names_than_a_model_file_holds_are_said_before_training(here):
    columns = {f"{i:03}" + "x" * 3000: [1.5, 2.5, 3.5, 4.5] for i in range(400)}
    path = table(here / "a.csv", {**columns, "y": ["a", "b", "a", "b"]})
    assert "do not fit in a model file" in run("train", path, "--target", "y", "--epochs", 1, code=2).stderr
    assert [p.name for p in here.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "inspect", "info", "verify"])
def test_help_is_short_and_has_an_example(command):
    lines = run(command, "--help").stdout.splitlines()
    assert lines[0].startswith(f"Usage: main {command} ")
    assert any(line.startswith(f"  xmlp {command}") for line in lines[lines.index("Examples:") :])
    assert all(len(line) <= 100 for line in lines)
    assert f"  {command} " in run().stdout


def test_the_version():
    assert run("--version").stdout == f"xmlp {xmlp.__version__}\n"


def test_nothing_heavy_is_imported_early(here):
    """Not even rich, unless there is something to draw."""
    import subprocess

    from cli.command import environment

    heavy = ("rich", "matplotlib", "cupy", "sklearn", "torch", "jax")
    code = f"""
import sys
from xmlp.cli import main
assert "numpy" not in sys.modules
try:
    main(sys.argv[1:])
except SystemExit as exit:
    assert not exit.code, exit.code
print([name for name in {heavy} if name in sys.modules])
"""
    for args in ((), ("train", "--epochs", "1", "--backend", "numpy"), ("evaluate", "model.safetensors")):
        command = [sys.executable, "-c", code, *args]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


Y = [0.5, 1.5, 2.5, 3.5]
TWO_WORDS = {  # file, what Python is given, what the command is given, what each says of the way out
    "latin-1": ("größe,y\n1,2\n".encode("latin-1"), {}, (), "encoding='cp1252'", "--encoding cp1252"),
    "UTF-16": ("größe,y\n1,2\n".encode("utf-16-le"), {}, (), "encoding='utf-16-le'", "--encoding utf-16-le"),
    "wrong encoding": ("é,y\n1,2\n", {"encoding": "ascii"}, ("--encoding", "ascii"), "encoding='utf-8'",
                       "--encoding utf-8"),
    "odd cell": (
        {"a": ["1", "2", "3", "4O"], "b, c": ["1", "2", "3", "x="], "y": Y}, {}, (),
        "columns={'a': 'category', 'b, c': 'category'} (or 'drop')",
        "--columns 'a:category,\"b, c\":category' (or :drop)",
    ),
    "missing": ({"a": ["1", "2", "3", ""], "y": Y}, {"missing": "refuse"}, ("--missing", "refuse"), "missing='mean'",
                "--missing mean"),
    "nothing to learn": ({"a": ["1"] * 4, "y": Y}, {}, (), "columns={'NAME': 'category'}", "--columns NAME:category"),
    "dates": ({"a": Y, "y": ["2024-01-02", "2024-01-03"] * 2}, {}, (), "task='classification'",
              "--task classification"),
    "no such column": ({"a": Y, "y": Y}, {"columns": {"b": "drop"}}, ("--columns", "b:drop"), "columns= names",
                       "--columns names"),
}  # fmt: skip


def learnt(path, encoding=None, **given):
    return TableSchema.learn(read_csv(path, encoding=encoding), "y", **given)


@pytest.mark.parametrize("case", TWO_WORDS)
def test_the_library_speaks_of_arguments_and_the_command_of_options(here, case):
    content, given, options, argument, option = TWO_WORDS[case]
    if isinstance(content, dict):
        table(here / "a.csv", content)
    else:
        (here / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(xmlp.errors.DataError) as raised:
        learnt("a.csv", **given)
    assert argument in str(raised.value)
    assert "--" not in str(raised.value)
    told = run("train", "a.csv", "--target", "y", *options, code=2).stderr
    assert option in told
    assert argument not in told


def test_what_a_cell_says_is_not_taken_for_a_setting(here):
    cell = "columns={'a': 'b'}"
    table(here / "a.csv", {"a": ["1", "2", "3", cell], "y": Y})
    assert repr(cell) in run("train", "a.csv", "--target", "y", code=2).stderr
