"""The report of `ci/gpu_check`, made of made-up results; and what the command says here, without a device."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xmlp

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("gpu_report", ROOT / "ci" / "make" / "gpu_report.py")
report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(report)

XML = """<testsuites><testsuite><testcase name="test_a"><system-out>
1.2e-07 &lt;= 1e-04  Adam float32
noise
</system-out></testcase><testcase name="test_b"><failure>boom</failure></testcase>
<testcase name="test_c"><skipped>one device</skipped></testcase>
<testcase name="test_d"><system-out>0 synchronisations in 20 steps
18 launches per step &lt;= 20</system-out></testcase></testsuite></testsuites>"""


def test_the_report(tmp_path):
    (tmp_path / "tests.xml").write_text(XML)
    cases = report.tests(tmp_path / "tests.xml")
    assert [(name, outcome) for name, outcome, _ in cases] == [
        ("test_a", "passed"), ("test_b", "failure"), ("test_c", "skipped"), ("test_d", "passed"),
    ]  # fmt: skip
    about = {"date": "2026-01-02", "device": "NVIDIA Test 1", "commit": "abc"}
    table = {"784-128-10, 64": {"xmlp": 50.0, "torch": "failed: no"}}
    path = report.write(tmp_path / "gpu", about, cases, table)
    assert path.name == "2026-01-02-nvidia-test-1.md"
    text = path.read_text()
    for words in ("# NVIDIA Test 1, 2026-01-02", "| commit | abc |", "2 passed, 1 failure, 0 error, 1 skipped.",
                  "* failure: test_b", "1.2e-07 <= 1e-04  Adam float32", "0 synchronisations in 20 steps",
                  "18 launches per step <= 20", "| 784-128-10, 64 | 50.0 | failed: no |"):  # fmt: skip
        assert words in text
    assert "noise" not in text
    assert json.loads(path.with_suffix(".json").read_text())["microseconds per step"] == table


def test_the_jobs_train(monkeypatch):
    """The job that is timed, on numpy and few rows."""
    monkeypatch.setattr(report, "ROWS", 256)
    x, y = report.data()
    assert x.dtype == np.uint8
    assert report.by_xmlp((784, 16, 10), 64, x, y, backend="numpy") > 0


@pytest.mark.skipif("XMLP_CUDA_STATIC" not in os.environ, reason="a part of ci/cuda_static")
def test_the_tests_for_a_device_pass_on_the_emulated_one():
    """All but those that need CuPy itself: at least their logic is right."""
    needs_cupy = "second or full or tf32 or stable or synchron or every_formula or torch"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "cuda_static.as_cupy",
               "-k", f"not ({needs_cupy})", "tests/test_gpu.py"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{Path(xmlp.__file__).parent.parent}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout[-2000:])
    assert done.returncode == 0
    assert re.search(r"^3\d passed, 7 deselected", done.stdout, re.M)


def test_without_a_device_one_line_and_exit_code_2(tmp_path):
    bash = shutil.which("bash")
    if bash is None or not (ROOT / "ci" / "gpu_check").exists():
        pytest.skip("no bash")
    path = tmp_path / "nvidia-smi"  # one that finds nothing, in front of any other
    path.write_text("#!/bin/sh\nexit 9\n")
    path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, str(ROOT / "ci" / "gpu_check")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "ci/gpu_check needs a CUDA device, and nvidia-smi lists none here; nothing was run\n"
