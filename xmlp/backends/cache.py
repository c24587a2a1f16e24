"""Compiled code kept between processes, in a folder that nobody but the user can write.

Machine code is executed, so it is read only from a folder and a file that belong to this user and that others cannot
write, and only if its checksum fits. Anything else counts as not being there: a cold cache is safe, only slower.
`XMLP_CACHE=off` turns it off; `XMLP_CACHE=/some/folder` moves it.
"""

import hashlib
import os
import secrets
import stat
from pathlib import Path

_HEAD = 32  # bytes of sha256 before the code


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
            if not _private(os.fstat(file.fileno()), stat.S_ISREG):
                return None
            content = file.read()
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
    except OSError:
        temporary.unlink(missing_ok=True)
