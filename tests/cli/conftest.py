"""Folders to work in, and models trained once for all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cli.command import houses, run, table


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with houses.csv and three models: digits, price (a regression) and kind (a classification)."""
    folder = tmp_path_factory.mktemp("shelf")
    path = table(folder / "houses.csv", houses())
    run("train", "--epochs", 2, "--quiet", "--model", folder / "digits.safetensors")
    for target in ("price", "kind"):
        columns = {name: column for name, column in houses().items() if name not in {"price", "kind"} - {target}}
        own = table(folder / f"{target}.csv", columns)
        model = folder / f"{target}.safetensors"
        run("train", own, "--target", target, "--epochs", 30, "--lr", 0.01, "--quiet", "--model", model)
    assert path.exists()
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The current folder, which is empty when a test begins."""
    assert Path.cwd().samefile(tmp_path)
    return tmp_path


@pytest.fixture
def contents(here: Path) -> Callable[[], dict[str, bytes]]:
    """What is in the folder."""
    return lambda: {str(p.relative_to(here)): p.read_bytes() for p in here.rglob("*") if p.is_file()}
