"""Model files: one safetensors file with the arrays, the whole configuration as JSON, and a checksum over both.

Files are untrusted. Whatever is wrong with one is a `CheckpointError`, and nothing in it is ever imported or executed.
"""

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from xmlp.errors import CheckpointError

FORMAT = "xmlp-1"
MAX_CONFIG = 1 << 20  # bytes of JSON
MAX_HEADER = 4 * MAX_CONFIG  # bytes of a file's header, in which the configuration stands with every quote escaped
MAX_FILE = 1 << 36  # bytes

HostArray = np.ndarray[Any, Any]
_DAMAGE = (KeyError, ValueError, TypeError, OverflowError, RecursionError, MemoryError)


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
    # safetensors writes the memory of strided arrays as it lies, so copies in C order
    tensors = {name: np.array(a, order="C", copy=True) for name, a in arrays.items()}
    if (strange := _not_finite(tensors, any_numbers)) is not None:
        raise ValueError(f"{strange} holds numbers that are not finite, so it is not saved; {path} is untouched")
    metadata = {"format": FORMAT, "config": text, "sha256": _digest(text, tensors)}
    replace_file(Path(path), _ordered(safetensors.numpy.save(tensors, metadata=metadata)))


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
    """
    path = Path(path)
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise CheckpointError(f"{path} is not a regular file")
    if info.st_size > MAX_FILE:
        raise CheckpointError(f"{path} has {info.st_size} bytes; the limit is {MAX_FILE}")
    try:
        content = path.read_bytes()
        metadata = _metadata(content)
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, *_DAMAGE) as error:
        raise CheckpointError(f"{path} is not a safetensors file or is damaged: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(_other_format(path, metadata.get("format")))
    text = metadata.get("config", "")
    if len(text) > MAX_CONFIG:
        raise CheckpointError(f"{path}: the configuration takes {len(text)} bytes; the limit is {MAX_CONFIG}")
    try:
        if metadata.get("sha256") != _digest(text, tensors):
            raise CheckpointError(f"{path} is damaged: its checksum does not fit its content")
        config = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(f"{path}: the configuration is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: the configuration is not a JSON object")
    if (strange := _not_finite(tensors, any_numbers)) is not None:
        raise CheckpointError(f"{path}: {strange} holds numbers that are not finite")
    return tensors, config


def _ordered(content: bytes) -> bytes:
    """The same file with its header in alphabetical order: safetensors writes the metadata in a random one."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the arrays are aligned
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(content)[start:]))


def _metadata(content: bytes) -> dict[str, str]:
    """The free-form part of a safetensors header, which the NumPy reader does not return."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise ValueError("the header is cut off")
    if size > MAX_HEADER:
        raise ValueError(f"the header takes {size} bytes; the limit is {MAX_HEADER}")
    header = json.loads(content[8 : 8 + size].decode(), object_pairs_hook=_once, parse_constant=_no_number)
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError("the header holds no metadata")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({k for k, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _other_format(path: Path, found: str | None) -> str:
    if found is None:
        return f"{path} is a safetensors file, but not one of xmlp"
    return f"{path} has the format {found}; this version reads {FORMAT}. A newer xmlp may read it."


def _digest(text: str, tensors: dict[str, HostArray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` in the place of the file at `path`, all of it or nothing; a link is followed."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "cannot save to what is not a regular file", str(path))
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"cannot save {len(content)} bytes, the old file is untouched: {reason}", str(path)
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
