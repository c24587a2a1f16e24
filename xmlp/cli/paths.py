"""Files that a command is going to write: what is wrong with one is said before any work is done."""

import os
from pathlib import Path

import click


def writable(path: str, *inputs: str | None) -> Path:
    """Refuse what could not be written in the end, or should not: no file, no folder, or one of the inputs."""
    file = Path(path)
    if not file.parent.is_dir():
        raise click.UsageError(f"there is no folder {file.parent}")
    if not os.access(file.parent, os.W_OK):
        raise click.UsageError(f"the folder {file.parent} cannot be written to")
    if file.exists():
        if not file.is_file():  # a device would be replaced by a file of its name
            raise click.UsageError(f"{path} is not a file")
        if any(other not in (None, "-") and os.path.exists(other) and file.samefile(other) for other in inputs):
            raise click.UsageError(f"{path} is an input of this command; write to another file")
    return file
