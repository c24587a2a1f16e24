"""`xmlp info`, which never fails, and `xmlp verify`."""

import importlib.metadata
import json
import sys

import numpy as np
import pytest
from cli.command import run

import xmlp
from xmlp.cli import info


@pytest.fixture
def two_backends(monkeypatch):
    """For speed: importing JAX and torch takes seconds."""
    monkeypatch.setattr(info, "_BACKENDS", ("numpy", "array-api-strict"))


def test_info_tells_versions_and_tests_backends(two_backends):
    found = json.loads(run("info", "--json").stdout)
    assert found["xmlp"] == xmlp.__version__
    assert found["python"] == sys.version.split()[0]
    assert found["numpy"] == np.__version__
    assert found["array-api-compat"] == importlib.metadata.version("array-api-compat")
    assert "threads: " in found["blas"]
    assert all(test["works"] for test in found["backends"].values())
    assert found["backends"]["numpy"]["detail"].startswith(
        f"works: {np.__version__} on cpu, a training step takes the loss"
    )
    text = run("info").stdout
    assert f"numpy                     {np.__version__}\n" in text
    assert "backend array-api-strict  works" in text


class Broken:
    """A module whose import ends in a given way."""

    def __init__(self, error):
        self.error = error

    def find_spec(self, name, path=None, target=None):
        if name in ("cupy", "threadpoolctl", "torch"):
            raise self.error
        return None


@pytest.mark.parametrize(
    "error",
    [ImportError("libcublas.so.12 is missing"), OSError("WinError 126"), SystemExit(3), RuntimeError(), MemoryError()],
)
def test_info_never_fails(monkeypatch, error):
    xmlp.backends._make.cache_clear()  # backends that another test has made
    monkeypatch.setattr(info, "_BACKENDS", ("numpy", "cupy", "torch"))
    for name in ("cupy", "threadpoolctl", "torch", "xmlp.backends._cupy", "xmlp.backends._torch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(error), *sys.meta_path])
    monkeypatch.setattr(importlib.metadata, "version", lambda name: 1 / 0)
    found = json.loads(run("info", "--json").stdout)
    assert found["backends"]["numpy"]["works"]
    for said in (found["blas"], *(found["backends"][name]["detail"] for name in ("cupy", "torch"))):
        assert said.startswith("unavailable: ")
    assert found["numpy"] == "unavailable: division by zero"
    assert "unavailable" in run("info").stdout


def test_info_notices_a_backend_that_computes_nonsense(monkeypatch, two_backends):
    monkeypatch.setattr(xmlp.Trainer, "step", lambda trainer, x, y: None)
    found = json.loads(run("info", "--json").stdout)["backends"]["numpy"]
    assert not found["works"]
    assert found["detail"].startswith("gives WRONG results")


def test_verify_prints_a_table():
    lines = run("verify", "--only", "002-01").stdout.splitlines()
    assert lines[1].startswith("002-01")
    assert len(lines) == 3


def test_verify_fails_with_1(monkeypatch):
    from dataclasses import replace

    from xmlp import verify

    (good,) = verify.verify("numpy", "002-01")
    bad = replace(good, passed=False, detail="planted")
    monkeypatch.setattr(verify, "verify", lambda backend, only: [good, bad])
    assert "planted" in run("verify", code=1).stdout


def test_verify_runs_on_the_backend_that_is_named(monkeypatch):
    from xmlp import verify

    asked = []
    monkeypatch.setattr(verify, "verify", lambda *args: asked.append(args) or [])
    run("verify", "--backend", "array-api-strict", "--only", "002-05")
    run("verify")
    assert asked == [("array-api-strict", "002-05"), ("numpy", None)]
