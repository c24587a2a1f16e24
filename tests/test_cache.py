"""The cache of compiled code: read only where nobody else can write, and never trusted further than its checksum."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp.runtime import cache

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="there is no cache without users")
CODE = bytes(range(256)) * 20
PROGRAM = """
import numpy as np, xmlp
x = np.random.default_rng(0).normal(size=(50, 3))
trainer = xmlp.Trainer(xmlp.mlp([3, 7, 2], "gelu"), loss="softmax_cross_entropy", optimizer="adam", planned=True)
trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=3, batch_size=8)
print(trainer.network.theta.tobytes().hex())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMLP_CACHE", str(tmp_path / "code"))
    return tmp_path / "code"


def test_round_trip(folder: Path) -> None:
    assert cache.load("key") is None
    for code in (CODE, b"", b"x"):
        cache.store("key", code)
        assert cache.load("key") == code
    assert cache.load("other") is None
    assert [p.name for p in folder.iterdir()] == ["key"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


def test_the_folder_follows_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XMLP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "xmlp" / "code"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "xmlp" / "code"
    monkeypatch.setenv("XMLP_CACHE", "off")
    assert cache.folder() is None
    cache.store("key", CODE)
    assert cache.load("key") is None
    assert not Path("off").exists()


def test_a_damaged_file_counts_as_missing(folder: Path) -> None:
    cache.store("key", CODE)
    content = (folder / "key").read_bytes()
    damaged = [content[:-1], content + b"\0", content[:31], b"", b"\0" * len(content), content[1:], content[::-1]]
    for at in (0, 31, 32, 100, len(content) - 1):
        damaged.append(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    for bad in damaged:
        (folder / "key").write_bytes(bad)
        assert cache.load("key") is None
    cache.store("key", CODE)
    assert cache.load("key") == CODE


@pytest.mark.parametrize("bits", [0o002, 0o020, 0o022])
def test_what_others_can_write_is_not_read(folder: Path, bits: int) -> None:
    cache.store("key", CODE)
    (folder / "key").chmod(0o600 | bits)
    assert cache.load("key") is None
    (folder / "key").chmod(0o644)
    assert cache.load("key") == CODE
    folder.chmod(0o700 | bits)
    assert cache.folder() is None
    assert cache.load("key") is None
    cache.store("second", CODE)
    assert [p.name for p in folder.iterdir()] == ["key"], "and nothing is written there"
    folder.chmod(0o755)
    assert cache.load("key") == CODE


def test_what_belongs_to_others_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store("key", CODE)
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    assert cache.folder() is None
    assert cache.load("key") is None


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    cache.store("key", CODE)
    (folder / "key").rename(tmp_path / "elsewhere")
    (folder / "key").symlink_to(tmp_path / "elsewhere")
    assert cache.load("key") is None
    cache.store("key", CODE)
    assert not (folder / "key").is_symlink()
    assert cache.load("key") == CODE
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert cache.folder() is None
    assert cache.load("key") is None


def test_what_is_no_file_counts_as_missing(folder: Path) -> None:
    cache.store("other", CODE)
    (folder / "key").mkdir()
    assert cache.load("key") is None
    cache.store("key", CODE)
    assert sorted(p.name for p in folder.iterdir()) == ["key", "other"], "a failed write leaves nothing"


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XMLP_CACHE", str(tmp_path / "file" / "code"))
    assert cache.folder() is None
    cache.store("key", CODE)
    assert cache.load("key") is None


def keys(count: int) -> list[str]:
    return [hashlib.sha256(bytes([i // 256, i % 256])).hexdigest() for i in range(count)]


@pytest.mark.parametrize("most", ["files", "bytes"])
def test_the_folder_holds_so_much_and_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch, most: str) -> None:
    """What was not used for the longest time goes."""
    monkeypatch.setattr(cache, "MOST_FILES", 40 if most == "files" else 10**6)
    monkeypatch.setattr(cache, "MOST_BYTES", 10**9 if most == "files" else 40 * (len(CODE) + 32))
    first, *others = keys(200)
    cache.store(first, CODE)
    for i, key in enumerate(others):
        cache.store(key, CODE)
        os.utime(folder / key, ns=(i * 10**9, 1))
        assert cache.load(first) == CODE, "what is used stays"
        assert len(list(folder.iterdir())) <= 40
    kept = {path.name for path in folder.iterdir()}
    assert len(kept) >= 30
    assert kept - {first} == set(others[-(len(kept) - 1) :]), "the others by their last use"
    assert cache.load(others[0]) is None


def test_only_what_is_ours_goes_and_what_was_abandoned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_FILES", 4)
    key, *others = keys(30)
    cache.store(key, CODE)
    old, new, strange = f"{key}.123.0123abcd", f"{key}.124.0123abcd", [f"{key}.txt", "notes", key[:-1], key.upper()]
    for name in (old, new, *strange):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (0, 0))
    os.utime(folder / new)
    (folder / "inner").mkdir()
    (folder / keys(31)[-1]).mkdir()
    for other in others:
        cache.store(other, CODE)
    names = {path.name for path in folder.iterdir()}
    assert {*strange, "inner", keys(31)[-1]} <= names
    assert old not in names
    assert cache.load(others[-1]) == CODE


WRITER = """
import hashlib, sys
from xmlp.runtime import cache
cache.MOST_FILES = 30
for i in range(150):
    key = hashlib.sha256(f"{i * 7 % 60}".encode()).hexdigest()
    cache.store(key, key.encode() * 50)
    assert cache.load(key) in (key.encode() * 50, None)
print("done")
"""


def test_several_processes_may_tidy_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "XMLP_CACHE": str(tmp_path / "code")}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [writer.communicate(timeout=100)[0].strip() for writer in writers] == ["done"] * 3
    names = [path.name for path in (tmp_path / "code").iterdir()]
    assert len(names) <= 33
    assert all(len(name) == 64 for name in names)


def test_other_versions_have_code_of_their_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("xmlp.runtime.native")
    function = {"f": "define void @f() {\n  ret void\n}\n"}
    for version in ("0.50.0", "0.51.0"):
        monkeypatch.setattr(native.llvmlite, "__version__", version)
        native.Compiler().addresses(function)
    assert len(list(folder.iterdir())) == 2
    native.Compiler().addresses(function)
    assert len(list(folder.iterdir())) == 2


def listed(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def test_a_second_process_uses_the_code_of_the_first(tmp_path: Path, printed: Any) -> None:
    pytest.importorskip("llvmlite")
    folder = tmp_path / "code"
    first = printed(PROGRAM, XMLP_CACHE=str(folder))
    kept = listed(folder)
    assert kept
    assert printed(PROGRAM, XMLP_CACHE=str(folder)) == first
    assert listed(folder) == kept, "nothing was compiled again"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    assert printed(PROGRAM, XMLP_CACHE=str(folder)) == first
    assert {n: c for n, (_, c) in listed(folder).items()} == {n: c for n, (_, c) in kept.items()}, "written anew"
    assert printed(PROGRAM, XMLP_CACHE="off") == first
    assert len(list(tmp_path.iterdir())) == 1


def test_results_do_not_depend_on_the_cache(tmp_path: Path, printed: Any) -> None:
    """Training in this process, whose code is compiled or loaded already, gives the same bits."""
    pytest.importorskip("llvmlite")
    x = np.random.default_rng(0).normal(size=(50, 3))
    trainer = xmlp.Trainer(xmlp.mlp([3, 7, 2], "gelu"), loss="softmax_cross_entropy", optimizer="adam", planned=True)
    trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=3, batch_size=8)
    assert printed(PROGRAM, XMLP_CACHE=str(tmp_path)).strip() == trainer.network.theta.tobytes().hex()
