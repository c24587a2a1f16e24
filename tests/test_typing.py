"""Types as users meet them: a correct program has no error, mistakes are found, names are those of the tables."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import get_args

import pytest

import xmlp
from xmlp import activations, backends, initializers, losses, metrics, optimizers, types
from xmlp.data import datasets
from xmlp.estimators import base
from xmlp.model.mlp import NORMALIZATIONS
from xmlp.network.decisions import SCORES

HERE = Path(__file__).parent / "typing"
CORRECT, MISTAKES = HERE / "correct.py", HERE / "mistakes.py"
LEAST = 20  # of 22
FLAGS = ("--strict", "--config-file=", "--no-incremental", "--no-error-summary", "--follow-imports=silent")


def installed():
    """Whether the package is one of site-packages, where checkers look by themselves."""
    return "site-packages" in Path(xmlp.__file__).parts


def mypy(folder):
    """(file, line, message) of each error."""
    path = {} if installed() else {"MYPYPATH": str(Path(xmlp.__file__).parent.parent)}
    command = [sys.executable, "-m", "mypy", *FLAGS, CORRECT.name, MISTAKES.name]
    ran = subprocess.run(command, cwd=folder, env={**os.environ, **path}, capture_output=True, text=True, timeout=600)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    found = re.findall(r"^(.+?):(\d+): error: (.+)$", ran.stdout, flags=re.MULTILINE)
    return [(Path(file).name, int(line), text) for file, line, text in found]


def pyright(folder):
    if shutil.which("pyright") is None:
        pytest.skip("pyright is not installed")
    path = {} if installed() else {"extraPaths": [str(Path(xmlp.__file__).parent.parent)]}
    (folder / "pyrightconfig.json").write_text(json.dumps({"include": ["."], "pythonVersion": "3.11", **path}))
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return [
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1, found["message"])
        for found in json.loads(ran.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_correct_program_has_no_error_and_mistakes_are_found(checker, tmp_path):
    for file in (CORRECT, MISTAKES):
        shutil.copy(file, tmp_path)
    found = checker(tmp_path)
    assert [error for error in found if error[0] == CORRECT.name] == []
    lines = MISTAKES.read_text(encoding="utf-8").splitlines()
    planted = {number for number, line in enumerate(lines, 1) if re.search(r"# mistake \d+$", line)}
    errors = [error for error in found if error[0] == MISTAKES.name]
    assert len(planted) == 22
    assert [error for error in errors if error[1] not in planted] == []
    missed = planted - {line for _, line, _ in errors}
    print(f"{checker.__name__} finds {22 - len(missed)} of 22 mistakes")
    assert 22 - len(missed) >= LEAST, [lines[number - 1] for number in sorted(missed)]


def test_the_correct_program_runs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(CORRECT))


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (activations.ActivationName, activations.ACTIVATIONS),
        (types.BackendName, [*backends._LIBRARIES, "auto"]),
        (types.DatasetName, ["digits", *datasets._REMEDIES]),
        (initializers.InitializerName, initializers.INITIALIZERS),
        (types.LinkName, losses.LINKS),
        (losses.LossName, losses.LOSSES),
        (metrics.MetricName, metrics.METRICS),
        (types.NormalizationName, NORMALIZATIONS),
        (optimizers.OptimizerName, optimizers.OPTIMIZERS),
        (types.ScheduleName, base._SCHEDULES),
        (types.ThresholdMetricName, SCORES),
    ],
)
def test_names_are_those_of_the_tables(names, table):
    assert sorted(get_args(names)) == sorted(table)
