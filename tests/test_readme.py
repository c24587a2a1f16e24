"""The Python blocks of the README and of the estimators' page run, one after another, as a reader would type them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)


def run(page):
    names = {}
    for block in blocks_of(page):
        exec(compile(block, page, "exec"), names)
    return names


def test_the_readme_runs(tmp_path, capsys):
    pytest.importorskip("sklearn")
    assert len(blocks_of("README.md")) == 6
    names = run("README.md")
    assert names["history"]["val_accuracy"][-1] > 0.95
    assert (tmp_path / "digits.safetensors").exists()
    assert "product 32 x 64 x 128" in capsys.readouterr().out


def test_the_page_of_the_estimators_runs(capsys):
    pytest.importorskip("sklearn")
    assert len(blocks_of("docs/estimators.md")) == 3
    names = run("docs/estimators.md")
    assert names["model"].score(names["x"], names["y"]) > 0.8
    assert len(capsys.readouterr().out.splitlines()) == 4
