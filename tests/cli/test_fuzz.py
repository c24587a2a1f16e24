"""Whatever the arguments are: exit code 0 or 2, and never a traceback. Nothing is trained."""

import itertools

import pytest
from cli.command import houses, table
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xmlp.cli.info
import xmlp.cli.train
from xmlp.cli import main

COMMANDS = ("train", "evaluate", "predict", "inspect", "info", "verify")
OPTIONS = (
    *(
        "--target",
        "--task",
        "--model",
        "--hidden",
        "--activation",
        "--dropout",
        "--normalization",
        "--optimizer",
        "--lr",
    ),
    *("--weight-decay", "--schedule", "--epochs", "--batch-size", "--validation", "--seed", "--backend", "--dtype"),
    *(
        "--missing",
        "--columns",
        "--drop",
        "--quiet",
        "--json",
        "--force",
        "--only",
        "--output",
        "-o",
        "--help",
        "--version",
        "--hiden",
        "-x",
        "--",
    ),
)
VALUES = (
    *(
        "houses.csv",
        "price.safetensors",
        "new.safetensors",
        "price",
        "kind",
        "hue",
        "-",
        "",
        ".",
        "nope",
        "\0",
        "ü\x1b",
    ),
    *("0", "1", "-1", "0.5", "1e400", "nan", "3", "8,8", "none", "relu", "adam", "sgd", "batch", "onecycle", "mean"),
    *("classification", "regression", "numpy", "array-api-strict", "float32", "float64", "float16", "002-01"),
)
tokens = st.sampled_from(OPTIONS) | st.sampled_from(VALUES) | st.text(max_size=5)
pairs = st.lists(st.tuples(st.sampled_from(OPTIONS[:18]), st.sampled_from(VALUES)).map(list), max_size=4)
arguments = st.one_of(
    st.lists(tokens, max_size=6),
    st.tuples(st.sampled_from(COMMANDS), st.lists(tokens, max_size=6)).map(lambda t: [t[0], *t[1]]),
    pairs.map(lambda given: ["train", "houses.csv", "--target", "kind", "--model", "new", *itertools.chain(*given)]),
)


@pytest.fixture
def tame(here, shelf, monkeypatch):
    table(here / "houses.csv", houses(30))
    (here / "price.safetensors").write_bytes((shelf / "price.safetensors").read_bytes())
    monkeypatch.setattr(xmlp.cli.train, "_train", lambda *args: xmlp.cli.train.Outcome(None, 0))
    monkeypatch.setattr(xmlp.cli.info, "_self_test", lambda name: "works")
    xmlp.verify.verify("numpy", "002-01")
    monkeypatch.setattr(xmlp.verify, "verify", lambda backend, only: [])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments)
def test_any_arguments_end_in_0_or_2(tame, args):
    result = CliRunner().invoke(main, args, input="size,rooms\n1,2\n")
    assert isinstance(result.exception, SystemExit | None), (args, repr(result.exception))
    assert result.exit_code in (0, 2), args
    assert "Traceback" not in result.output
    if result.exit_code == 2:
        assert result.output.splitlines()[-1].startswith("error: "), args
