"""The examples run and do what they say."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name, *args, **kw):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(*args, **kw)


def test_every_example_has_a_test():
    source = Path(__file__).read_text(encoding="utf-8")
    assert [p.stem for p in EXAMPLES.glob("*.py") if f'run("{p.stem}"' not in source] == []


def test_absolute_value():
    exact, learnt, line = run("absolute_value")
    assert exact == 0
    assert learnt < 0.02 < 0.3 < line


def test_regression():
    assert run("regression")["r2"] > 0.98


def test_multilabel(capsys):
    result = run("multilabel")
    assert result["0.5 each"] > 0.93
    printed = capsys.readouterr().out
    assert "precision" in printed


both = pytest.mark.parametrize("backend", ["numpy", "array-api-strict"])


@both
def test_custom_activation(backend, capsys):
    before, after = run("custom_activation", backend)
    assert after < 0.1 * before
    assert "dsnake/dx" in capsys.readouterr().out


@both
def test_custom_layer(backend, capsys):
    passed, before, after = run("custom_layer", backend)
    assert passed
    assert after < 0.2 * before
    assert "same predictions after loading: True" in capsys.readouterr().out


@both
def test_custom_loss(backend):
    assert 0.85 < run("custom_loss", backend) < 0.95


@both
def test_custom_optimizer(backend):
    before, after = run("custom_optimizer", backend)
    assert after < 0.1 * before


@both
def test_custom_callback(backend):
    epochs, loss, norms = run("custom_callback", backend)
    assert loss < 0.01
    assert len(norms) == epochs < 200


def test_two_backends():
    assert run("two_backends") < 1e-5


def test_fashion_mnist():
    try:
        accuracy = run("fashion_mnist", rows=6000, epochs=2)
    except FileNotFoundError as error:
        pytest.skip(str(error).splitlines()[0])
    assert accuracy > 0.75
