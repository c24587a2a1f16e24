"""The examples of the pages in docs/ that are written as a dialogue with Python."""

import doctest
import re
from pathlib import Path

import pytest
from conftest import MANDATORY, missing, require

PAGES = Path(__file__).resolve().parent.parent / "docs"
OPTIONAL = ("jax", "torch")


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
    assert len(parts) == 5
    for heading, section in parts:
        if here(section):
            blocks = "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.S))
            test = doctest.DocTestParser().get_doctest(blocks, names, heading, "docs/research.md", 0)
            doctest.DocTestRunner().run(test, out=failures.append, clear_globs=False)
            names = test.globs
    assert not failures, "".join(failures)
