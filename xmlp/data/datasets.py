"""Data sets by name: one that comes with the library, and two that are read from the machine's own files."""

import gzip
import hashlib
import importlib.resources
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xmlp.data.idx import read_idx
from xmlp.errors import DataError, unknown
from xmlp.types import DatasetName

_DIGITS_SHA256 = {
    "optdigits-train.csv.gz": "956d1dd8a4262d179538b23e3f270c3d68c1fbe8729d1a2d613e4d409f213955",
    "optdigits-test.csv.gz": "0f622aac121cc3fc5d83397199887f8019d6db33381d033e73e300a2ce17c1ed",
}
# Of the unpacked numbers after the header, so that packing them anew makes no difference.
_SYSTEM_SHA256 = {
    "fashion-mnist": {
        "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
}
_IDX_FILES = tuple(_SYSTEM_SHA256["fashion-mnist"])
_SYSTEM = Path("/usr/share/datasets")
_REMEDIES = {
    "fashion-mnist": "on Debian and Ubuntu: apt install dataset-fashion-mnist; elsewhere take the files from "
    "https://github.com/zalandoresearch/fashion-mnist",
    "mnist": "xmlp does not come with MNIST because of its licence (CC BY-SA): use files of your own",
}


class Dataset(NamedTuple):
    """Training and test part of a data set; rows are examples."""

    x_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int64]


def load(name: DatasetName) -> Dataset:
    """Load a data set of labelled pictures as ``(x_train, y_train, x_test, y_test)``.

    ``"digits"`` comes with the library: handwritten digits, 64 counts of 0 to 16 each, by E. Alpaydin and
    C. Kaynak (UCI, CC BY 4.0), where the test part was written by other people than the training part.

    ``"fashion-mnist"`` and ``"mnist"`` are 28 x 28 pixels of 0 to 255, read from the four IDX files
    ``{train,t10k}-{images-idx3,labels-idx1}-ubyte``, each plain or with ``.gz``. The first of these folders
    that has all four is taken: ``$XMLP_DATA/<name>``, ``$XMLP_DATA``, ``xmlp/<name>`` in the user's cache
    folder (``$XDG_CACHE_HOME``, or ``~/.cache``), ``/usr/share/datasets/<name>``. Files in the last are the
    system's, and their checksum must be the known one. Nothing is ever downloaded.

    Parameters
    ----------
    name : {"digits", "fashion-mnist", "mnist"}
        Which data set.

    Returns
    -------
    Dataset
        ``x`` is uint8 of shape (N, 64) or (N, 784), ``y`` is int64 of shape (N,).

    Raises
    ------
    ValueError
        No data set has this name.
    FileNotFoundError
        The files are nowhere; the message lists the places and how to get them.
    DataError
        The files are damaged, or are not pictures with labels of 0 to 9.

    Examples
    --------
    >>> x_train, y_train, x_test, y_test = load("digits")
    >>> x_train.shape, x_test.shape, y_test[:4]
    ((3823, 64), (1797, 64), array([0, 1, 2, 3]))
    """
    if name == "digits":
        return Dataset(*_embedded("optdigits-train.csv.gz"), *_embedded("optdigits-test.csv.gz"))
    if name not in _REMEDIES:
        raise ValueError(unknown("data set", name, ("digits", *_REMEDIES)))
    folder = _folder(name)
    sha256 = _SYSTEM_SHA256.get(name, {}) if folder.parent == _SYSTEM else {}
    parts = (_IDX_FILES[:2], _IDX_FILES[2:])
    train, test = (_pictures(folder, part, sha256, _REMEDIES[name]) for part in parts)
    return Dataset(*train, *test)


def _embedded(name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    packed = (importlib.resources.files("xmlp.data") / "files" / name).read_bytes()
    if hashlib.sha256(packed).hexdigest() != _DIGITS_SHA256[name]:
        raise DataError(f"{name}: this file of xmlp has been changed or damaged. Install xmlp again.")
    rows = np.loadtxt(gzip.decompress(packed).decode("ascii").splitlines()[1:], dtype=np.uint8, delimiter=",")
    return np.ascontiguousarray(rows[:, :-1]), rows[:, -1].astype(np.int64)


def _folder(name: str) -> Path:
    """Find the first folder that has all four files of a data set."""
    own = os.environ.get("XMLP_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    folders = [Path(own) / name, Path(own)] if own else []
    folders += [cache / "xmlp" / name, _SYSTEM / name]
    missing = {folder: [file for file in _IDX_FILES if _find(folder, file) is None] for folder in folders}
    for folder, files in missing.items():
        if not files:
            return folder
    places = "\n".join(
        f"  {folder}: " + ("nothing there" if len(files) == len(_IDX_FILES) else f"lacks {', '.join(files)}")
        for folder, files in missing.items()
    )
    raise FileNotFoundError(
        f"the data set {name!r} is not on this machine. Looked for {', '.join(_IDX_FILES)} "
        f"(plain or .gz) in\n{places}\n"
        f"To get it: {_REMEDIES[name]}; then name their folder in the environment variable XMLP_DATA."
    )


def _find(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def _pictures(
    folder: Path, files: tuple[str, ...], sha256: dict[str, str], remedy: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    arrays: list[npt.NDArray[Any]] = []
    for file in files:
        path = _find(folder, file) or folder / file
        array = read_idx(path)
        if file in sha256 and hashlib.sha256(array.data).hexdigest() != sha256[file]:
            raise DataError(
                f"{path}: changed or damaged, its data's sha256 is not the known one. Get it again: {remedy}."
            )
        arrays.append(array)
    (images, labels), where = arrays, f"{folder}: {files[0]} and {files[1]}"
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or not len(images):
        raise DataError(f"{where}: expected pictures (N, 28, 28) uint8, got {images.shape} {images.dtype}.")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{where}: expected a uint8 label for each of {len(images)} pictures, got {labels.shape} {labels.dtype}."
        )
    if labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise DataError(f"{where}: expected labels of 0 to 9, got {labels[row]} in row {row}.")
    return images.reshape(len(images), -1), labels.astype(np.int64)
