"""Model files: one safetensors file with the arrays, the whole configuration as JSON, and a checksum over every byte.

Files are untrusted. Whatever is wrong with one is a `CheckpointError`, and nothing in it is ever imported or executed.
"""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import safetensors
import safetensors.numpy

from xmlp.errors import CheckpointError, OutOfMemoryError
from xmlp.types import HostArray

FORMAT = "xmlp-1"
MAX_CONFIG = 1 << 20  # bytes of JSON
MAX_HEADER = 5 * MAX_CONFIG // 2  # bytes of a file's header, in which the configuration stands with quotes escaped
MAX_FILE = 1 << 36  # bytes

_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
_KINDS = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}
_CHECKSUM = b'"sha256":"'  # stands once in a header: a quote within a string of JSON is escaped
_ZEROS = b"0" * 64  # in the place of the checksum while it is computed
_STALE = 2  # seconds after which a temporary file that nobody writes is rubbish


def write(
    path: str | os.PathLike[str], arrays: dict[str, HostArray], config: dict[str, Any], any_numbers: Container[str] = ()
) -> None:
    """Write a file so that a crash at any moment leaves either the old one or the new one.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and replace the old file in one step.
    Arrays must be finite, but for those named in `any_numbers`.
    """
    text = json.dumps(config, allow_nan=False, sort_keys=True)
    if len(text) > MAX_CONFIG:
        raise ValueError(f"the configuration takes {len(text)} bytes of JSON; the limit is {MAX_CONFIG}")
    if (strange := _not_finite(arrays, any_numbers)) is not None:
        raise ValueError(f"{strange} holds numbers that are not finite, so it is not saved; {path} is untouched")
    pieces = _packed(arrays, {"format": FORMAT, "config": text})
    with ThreadPoolExecutor(1) as pool:  # which works while the disk is busy
        checksum = pool.submit(_sha256, pieces)
        at = 8 + bytes(pieces[1]).index(_CHECKSUM + _ZEROS) + len(_CHECKSUM)
        replace_file(Path(path), *pieces, last=lambda: (at, checksum.result()))


def _not_finite(arrays: dict[str, HostArray], exempt: Container[str]) -> str | None:
    """The name of the first array that is not finite."""
    checked = (name for name, array in arrays.items() if array.dtype.kind == "f" and name not in exempt)
    return next((name for name in checked if not np.isfinite(arrays[name]).all()), None)


def read(path: str | os.PathLike[str], any_numbers: Container[str] = ()) -> tuple[dict[str, HostArray], dict[str, Any]]:
    """The arrays and the configuration of a file, checked.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is not a file of this format, is damaged, or holds numbers that are not finite.
    OutOfMemoryError
        If it does not fit in memory.
    """
    path = Path(path)
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            metadata = _metadata(file, size)
        except _DAMAGE as error:
            raise CheckpointError(f"{path} is not a safetensors file or is damaged: {error}") from error
        if metadata.get("format") != FORMAT:
            raise CheckpointError(_other_format(path, metadata.get("format")))
        file.seek(0)
        try:
            content = file.read(size)
        except MemoryError as error:
            raise _too_large(path, size) from error
    if not _is_whole(content, metadata.get("sha256", "")):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its content")
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, *_DAMAGE) as error:
        raise CheckpointError(f"{path} is not a safetensors file or is damaged: {error}") from error
    except MemoryError as error:
        raise _too_large(path, len(content)) from error
    if (strange := _not_finite(tensors, any_numbers)) is not None:
        raise CheckpointError(f"{path}: {strange} holds numbers that are not finite")
    return tensors, _configuration(path, metadata.get("config", ""))


def _opened(path: Path) -> BinaryIO:
    """A regular file, open; whatever else the path leads to is not waited for."""

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    try:
        file = open(path, "rb", opener=at_once)  # noqa: SIM115 - whoever asked for it closes it
    except IsADirectoryError:
        raise CheckpointError(f"{path} is not a regular file") from None
    info = os.fstat(file.fileno())
    if stat.S_ISREG(info.st_mode) and info.st_size <= MAX_FILE:
        return file
    file.close()
    if not stat.S_ISREG(info.st_mode):
        raise CheckpointError(f"{path} is not a regular file")
    raise CheckpointError(f"{path} has {info.st_size} bytes; the limit is {MAX_FILE}")


def _too_large(path: Path, size: int) -> OutOfMemoryError:
    return OutOfMemoryError(f"{path} does not fit in memory: loading it takes {2 * size} bytes", 2 * size)


def _configuration(path: Path, text: str) -> dict[str, Any]:
    if len(text) > MAX_CONFIG:
        raise CheckpointError(f"{path}: the configuration takes {len(text)} bytes; the limit is {MAX_CONFIG}")
    try:
        config = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except _DAMAGE as error:
        raise CheckpointError(f"{path}: the configuration is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: the configuration is not a JSON object")
    return config


# --- the layout of the bytes ------------------------------------------------------------------------------------------


def _packed(arrays: dict[str, HostArray], metadata: dict[str, str]) -> list[bytes | memoryview]:
    """A safetensors file in pieces: the size of the header, the header, the arrays in C order.

    The same arrays and metadata always give the same bytes. In the place of the checksum are zeros: it is the checksum
    of this.
    """
    header: dict[str, Any] = {"__metadata__": {**metadata, "sha256": _ZEROS.decode()}}
    pieces, end = [], 0
    for name in sorted(arrays, key=lambda n: (-arrays[n].dtype.itemsize, n)):  # so that each array is aligned
        array = arrays[name]
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _kind(array.dtype), "shape": array.shape, "data_offsets": [start, end]}
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        pieces.append(plain.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *pieces]


def _kind(dtype: np.dtype[Any]) -> str:
    """What safetensors calls a dtype."""
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise TypeError(f"expected arrays of real numbers to save, got {dtype}")
    return "BOOL" if dtype.kind == "b" else f"{_KINDS[dtype.kind]}{8 * dtype.itemsize}"


def _sha256(pieces: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode()


def _is_whole(content: bytes, checksum: str) -> bool:
    """Whether the checksum is that of the content with zeros in its place."""
    size = 8 + int.from_bytes(content[:8], "little")
    start = content.find(_CHECKSUM, 0, size) + len(_CHECKSUM)
    stop = start + len(_ZEROS)
    whole = memoryview(content)
    return content[start:stop] == checksum.encode() == _sha256([whole[:start], _ZEROS, whole[stop:]])


def _metadata(file: BinaryIO, whole: int) -> dict[str, str]:
    """The free-form part of the header of a file of `whole` bytes, which the NumPy reader does not return."""
    head = file.read(8)
    size = int.from_bytes(head, "little")
    if len(head) < 8 or size > whole - 8:
        raise ValueError("the header is cut off")
    if size > MAX_HEADER:
        raise ValueError(f"the header takes {size} bytes; the limit is {MAX_HEADER}")
    header = json.loads(file.read(size).decode(), object_pairs_hook=_once, parse_constant=_no_number)
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError("the header holds no metadata")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits)


def _other_format(path: Path, found: str | None) -> str:
    if found is None:
        return f"{path} is a safetensors file, but not one of xmlp"
    return f"{path} has the format {found}; this version reads {FORMAT}. A newer xmlp may read it."


# --- all or nothing ---------------------------------------------------------------------------------------------------


def replace_file(path: Path, *pieces: bytes | memoryview, last: Callable[[], tuple[int, bytes]] | None = None) -> None:
    """Put the pieces in the place of the file at `path`, all of them or nothing; a link is followed.

    Parameters
    ----------
    last : callable, optional
        Called when all is written; gives a position and the bytes to put there.

    Raises
    ------
    OSError
        With the path and the number of bytes; the old file is as it was, and no other is left.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "cannot save to what is not a regular file", str(path))
    stem = path.name.encode()[:128].decode(errors="ignore")  # a name may be as long as the system lets it
    temporary = path.with_name(f"{stem}.tmp.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        _sweep(path.parent, stem)
        with open(temporary, "xb") as file:
            _lock(file)
            for piece in pieces:
                file.write(piece)
            if last is not None:
                at, piece = last()
                file.seek(at)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        size, reason = sum(map(len, pieces)), error.strerror or str(error)
        told = f"cannot save {size} bytes, the old file is untouched: {reason}"
        raise OSError(error.errno, told, str(path)) from error
    _flush_folder(path)


def _flush_folder(path: Path) -> None:
    """Make the new name as lasting as the bytes, where folders can be flushed."""
    if os.name != "posix":
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP):
            told = f"saved, but a power failure may undo it: the folder was not flushed: {error.strerror}"
            raise OSError(error.errno, told, str(path)) from error


def _sweep(folder: Path, stem: str) -> None:
    """Remove what saves that were killed have left behind."""
    temporary = re.compile(re.escape(stem) + r"\.tmp\.\d+\.[0-9a-f]{8}")
    for entry in os.scandir(folder):
        if temporary.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            with suppress(OSError), open(entry.path, "rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > _STALE and _lock(file):
                    os.unlink(entry.path)


def _lock(file: BinaryIO) -> bool:
    """Lock a file for as long as it is open: whether that could be done. A process that is killed holds no locks."""
    if sys.platform == "win32":  # where nobody can remove a file that is open
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
