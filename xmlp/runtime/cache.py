"""Compiled code kept between processes, in a folder that nobody but the user can write.

Machine code is executed, so it is read only from a folder and a file that belong to this user and that others cannot
write, and only if its checksum fits. Anything else counts as not being there: a cold cache is safe, only slower.
`XMLP_CACHE=off` turns it off; `XMLP_CACHE=/some/folder` moves it.

The folder holds at most `MOST_FILES` files and `MOST_BYTES` bytes: what was not used for the longest time goes first.
"""

import hashlib
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

MOST_FILES = 1000
MOST_BYTES = 1 << 26
_HEAD = 32  # bytes of sha256 before the code
_ABANDONED = 3600.0  # seconds, after which nobody writes to a temporary file any more
_OURS = re.compile(r"[0-9a-f]{64}(\.\d+\.[0-9a-f]{8})?")  # code, or with the number of a process a temporary file


def folder() -> Path | None:
    """The folder, made if need be; None if there is no safe one."""
    chosen = os.environ.get("XMLP_CACHE", "")
    if chosen == "off" or not hasattr(os, "getuid"):
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(chosen) if chosen else Path(base) / "xmlp" / "code"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _private(path.lstat(), stat.S_ISDIR) else None
    except OSError:
        return None


def _private(info: os.stat_result, kind: object) -> bool:
    return kind(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022  # type: ignore[operator]


def load(key: str) -> bytes | None:
    """The code stored under `key`."""
    where = folder()
    if where is None:
        return None
    try:
        with open(os.open(where / key, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not _private(status, stat.S_ISREG):
                return None
            content = file.read()
            os.utime(file.fileno(), ns=(time.time_ns(), status.st_mtime_ns))  # the latest use
    except OSError:
        return None
    code = content[_HEAD:]
    return code if hashlib.sha256(code).digest() == content[:_HEAD] else None


def store(key: str, code: bytes) -> None:
    """Keep `code` under `key`, if that can be done."""
    where = folder()
    if where is None:
        return
    temporary = where / f"{key}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(temporary, where / key)
        _tidy(where)
    except OSError:
        temporary.unlink(missing_ok=True)


def _tidy(where: Path) -> None:
    """Remove what is too much, a quarter at a time, and what writers have abandoned. Others may do so at the same time:
    a reader who comes too late compiles.
    """
    kept: list[tuple[int, int, str]] = []  # latest use, size, path
    with os.scandir(where) as entries:
        for entry in entries:
            ours, status = _OURS.fullmatch(entry.name), _status(entry)
            if ours and status and ours[1] and status.st_mtime < time.time() - _ABANDONED:
                _remove(entry.path)
            elif ours and status:
                kept.append((status.st_atime_ns, status.st_size, entry.path))
    kept.sort(reverse=True)
    total = sum(size for _, size, _ in kept)
    if len(kept) <= MOST_FILES and total <= MOST_BYTES:
        return
    while kept and (len(kept) > MOST_FILES * 3 // 4 or total > MOST_BYTES * 3 // 4):
        _, size, path = kept.pop()
        total -= size
        _remove(path)


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """Of a file; None for what is none, or has just gone."""
    try:
        return entry.stat(follow_symlinks=False) if entry.is_file(follow_symlinks=False) else None
    except OSError:
        return None


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
