"""The order in which rows are visited: made from the seed and the epoch, on the host, the same for every backend."""

from typing import Any

import numpy as np

from xmlp.host.seeds import generator

Order = np.ndarray[Any, Any]


def batch_order(rows: int, seed: int, epoch: int, shuffle: bool = True) -> Order:
    """Row numbers (rows,) int32 in the order of one epoch, counted from 0.

    >>> batch_order(5, seed=0, epoch=0).tolist() == batch_order(5, seed=0, epoch=0).tolist()
    True
    """
    if not shuffle:
        return np.arange(rows, dtype=np.int32)
    return generator(seed, "shuffle", epoch).permutation(rows).astype(np.int32)


def split_rows(rows: int, fraction: float, seed: int) -> tuple[Order, Order]:
    """Row numbers of a training and a validation part, both ascending; the validation part is drawn by the seed.

    >>> train, validation = split_rows(10, 0.2, seed=0)
    >>> len(train), len(validation)
    (8, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"validation_split must lie between 0 and 1, got {fraction!r}")
    held = max(round(rows * fraction), 1)
    if held >= rows:
        raise ValueError(f"validation_split={fraction} of {rows} rows leaves none to train on")
    order = generator(seed, "split").permutation(rows)
    return np.sort(order[held:]), np.sort(order[:held])
