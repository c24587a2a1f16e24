"""Rows about what is installed and shipped: dependencies, wheel, data, and no network."""

import hashlib
import importlib.resources
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
from packaging.requirements import Requirement

import xmlp
from reliability.core import ROOT, python, row
from xmlp.data import datasets
from xmlp.errors import DataError


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@row("S1", "few dependencies, each with a lower and an upper bound", "<= 8, all bounded")
def dependencies(size: int, folder: Path) -> str:
    base, optional = project()["dependencies"], project()["optional-dependencies"]
    used = [d for name, extra in optional.items() if name != "test" for d in extra]
    for requirement in base + used:
        assert re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+,<\d+(\.\d+)*", requirement), requirement
    assert len(base) <= 8
    return f"{len(base)}, and {len(used)} in extras, all bounded"


LOCKED = ROOT / "ci" / "locked"


def locked(path: Path) -> dict[str, tuple[list[str], int]]:
    """What a file of locked versions lists: versions and number of hashes by distribution."""
    found: dict[str, tuple[list[str], int]] = {}
    for entry in re.sub(r"#.*|\\\n", "", path.read_text(encoding="utf-8")).strip().splitlines():
        name, version = re.match(r"([\w-]+)==([\w.]+)", entry).groups()
        versions, hashes = found.get(name, ([], 99))
        found[name] = [*versions, version], min(hashes, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return found


def audited(path: Path) -> str:
    """What pip-audit says of a file of locked versions, where it is installed and reaches its advisories."""
    if importlib.util.find_spec("pip_audit") is None:
        return "advisories not asked: pip-audit is not installed"
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        path,
        "--require-hashes",
        "--disable-pip",
        "--format=json",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout
    known = [d for d in json.loads(answer)["dependencies"] if "vulns" in d] if answer else []
    bad = [f"{d['name']} {d['version']}: {v['id']}" for d in known for v in d["vulns"]]
    assert not bad, ", ".join(bad)
    return f"no advisory against {len(known)} of them" if known else "advisories not reached"


@row("S2", "demonstration and tests install locked versions, each file checked by its sha256", "all; no advisory")
def locks(size: int, folder: Path) -> str:
    base, optional = project()["dependencies"], project()["optional-dependencies"]
    extras = {"demo": ["fast"], "test": ["test", "fast", "sklearn", "plot"]}
    for name, wanted in extras.items():
        found = locked(LOCKED / f"{name}.txt")
        for requirement in (Requirement(r) for r in base + [r for extra in wanted for r in optional[extra]]):
            assert requirement.name in found, f"{name}: {requirement.name} is not locked"
            for version in found[requirement.name][0]:
                assert version in requirement.specifier, f"{name}: {requirement} has {version}"
        assert all(hashes for _, hashes in found.values()), f"{name}: without a hash"
    return f"all {len(found)}, to the hash; {audited(LOCKED / 'test.txt')}"


@row("S3", "no version that is known to be dangerous is allowed", "none")
def known_bad(size: int, folder: Path) -> str:
    for extra in project()["optional-dependencies"].values():
        for requirement in extra:
            if requirement.startswith("onnx"):
                assert re.search(r">=1\.2[1-9]", requirement), requirement
    return "none; safetensors of any version: its faults are guarded by C7 and C13"


@row("S4", "files of data sets are verified at every load", "changed: refused")
def data_is_verified(size: int, folder: Path) -> str:
    system = folder / "system" / "fashion-mnist"
    system.mkdir(parents=True)
    for name in datasets._IDX_FILES:
        shape = (2, 28, 28) if "images" in name else (2,)
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        (system / name).write_bytes(head + bytes(int(np.prod(shape))))
    with (
        mock.patch.object(datasets, "_SYSTEM", folder / "system"),
        mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder)),
    ):
        for _ in range(2):
            try:
                datasets.load("fashion-mnist")
            except DataError as error:
                assert "sha256" in str(error)
            else:
                raise AssertionError("changed files were loaded")
    return "changed: refused, at every load; nothing is ever downloaded"


@row("S5", "the embedded data are what they claim to be", "class counts and sha256")
def embedded_data(size: int, folder: Path) -> str:
    counts = np.bincount(xmlp.data.load("digits").y_train).tolist()
    assert counts == [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]
    place = importlib.resources.files("xmlp.data") / "files"
    for name, expected in datasets._DIGITS_SHA256.items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == expected
    assert "CC BY 4.0" in (place / "NOTICE").read_text(encoding="utf-8")
    return f"{sum(counts)} and {len(xmlp.data.load('digits').y_test)} rows, counts and sha256 right, licence named"


@row("S6", "the wheel holds the package only, and two builds of it are equal to the byte", "equal")
def wheel(size: int, folder: Path) -> str:
    built, here = [], importlib.util.find_spec("hatchling") is not None
    offline = ["--no-build-isolation"] if here else []
    for name in ("one", "two"):
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--no-cache-dir", *offline, "--wheel-dir", folder / name, ROOT]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        (path,) = (folder / name).glob("*.whl")
        built.append(path)
    sums = {hashlib.sha256(path.read_bytes()).hexdigest() for path in built}
    assert len(sums) == 1, "two builds differ"
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    strange = [
        n for n in names if not re.match(r"xmlp(/|-[\d.]+\.dist-info/)", n) or re.search(r"\.(so|pyc|pyd|dll)$", n)
    ]
    assert strange == []
    assert not any("tests/" in n for n in names)
    assert largest.file_size < 1_000_000
    return (
        f"equal, {built[0].stat().st_size // 1000} kB, {len(names)} files, the largest {largest.file_size // 1000} kB"
    )


OFFLINE = """
import sys
import numpy.testing  # which asks for the kind of processor, in some versions by a command
def refuse(event, arguments):
    if event.startswith("socket.") or event in ("urllib.Request", "subprocess.Popen"):
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(refuse)
import xmlp
from xmlp.cli import main
from click.testing import CliRunner
for args in (["train", "--epochs", "1"], ["evaluate", "model.safetensors"], ["verify", "--only", "002-01"], ["--help"]):
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, (args, result.output, result.exception)
try:
    import socket
    socket.create_connection(("127.0.0.1", 9))
except RuntimeError:
    print("no socket was asked for")
"""


@row("S8", "no network at run time, no telemetry", "no socket")
def offline(size: int, folder: Path) -> str:
    return str(python(OFFLINE, cwd=folder).stdout).strip()
