"""The pages in docs/ that are made from the code, and the examples of those written as a dialogue with Python."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest
from conftest import MANDATORY, missing, require

import xmlp

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs"
spec = importlib.util.spec_from_file_location("docs", ROOT / "ci" / "make" / "docs.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)
OPTIONAL = ("jax", "torch")


@pytest.mark.parametrize("page", docs.MADE)
def test_a_page_that_is_made_is_fresh(page):
    """Else: python ci/make/docs.py."""
    assert (PAGES / page).read_text(encoding="utf-8") == docs.MADE[page]()


@pytest.mark.parametrize("page", docs.REPLAYED)
def test_the_answers_of_a_page_are_fresh(page):
    """Else: python ci/make/docs.py."""
    text = (PAGES / page).read_text(encoding="utf-8")
    assert text == docs.replayed(text)


def test_answers_that_are_not_fresh_are_seen():
    page = "```python\n>>> a = 1\n>>> for i in range(2):\n...     print(i + a)\n{}```\n"
    assert docs.replayed(page.format("0\n")) == docs.replayed(page.format("")) == page.format("1\n2\n")


def test_a_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", text, flags=re.M) == [xmlp.__version__]


def test_the_hooks_run_what_the_lint_runs():
    lint = (ROOT / "ci" / "lint").read_text(encoding="utf-8")
    hooks = re.findall(r"entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), flags=re.M)
    commands = [line for line in lint.splitlines() if line.startswith(("ruff", "mypy", "python"))]
    assert len(commands) == 4
    assert [line.removesuffix(" .").replace(" --check", "") for line in commands] == hooks[:4]


def sections(page):
    """The headings of a page and the examples below each, in order."""
    text = (PAGES / page).read_text(encoding="utf-8")
    return [(part.partition("\n")[0], part) for part in re.split(r"^## ", text, flags=re.M)[1:] if ">>> " in part]


def here(section):
    """Whether the libraries that the examples import are installed; one that is mandatory must be."""
    wanted = [library for library in OPTIONAL if f"import {library}" in section]
    for library in set(wanted) & set(MANDATORY):
        require(library)
    return all(missing(library) is None for library in wanted)


def test_the_page_for_research():
    pytest.importorskip("scipy")
    names, failures, parts = {}, [], sections("research.md")
    assert len(parts) == 7
    for heading, section in parts:
        if here(section):
            blocks = "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.S))
            test = doctest.DocTestParser().get_doctest(blocks, names, heading, "docs/research.md", 0)
            doctest.DocTestRunner().run(test, out=failures.append, clear_globs=False)
            names = test.globs
    assert not failures, "".join(failures)
