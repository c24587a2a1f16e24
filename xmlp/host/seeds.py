"""Randomness belongs to the seed: host generators and integer keys, made from (seed, purpose, position) alone.

Nothing here keeps state, so a run that is resumed needs none, and each backend sees the same numbers.
"""

from functools import lru_cache

import numpy as np

_PURPOSES = {"weights": 1, "split": 2, "shuffle": 3, "bits": 4}
_BLOCK = 256  # keys are drawn for this many steps at a time


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """A NumPy generator for one purpose at one position (an epoch, a layer).

    >>> [generator(0, "shuffle", epoch).integers(100).item() for epoch in (1, 2, 1)]
    [91, 53, 91]
    """
    return np.random.default_rng([check_seed(seed), _PURPOSES[purpose], *position])


def check_seed(seed: int) -> int:
    """A seed as an integer of Python; others are refused."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    return int(seed)


@lru_cache(maxsize=64)
def _keys(seed: int, layer: int, block: int) -> list[tuple[int, int]]:
    words = np.random.SeedSequence([seed, _PURPOSES["bits"], layer, block]).generate_state(2 * _BLOCK)
    pairs = words.view(np.int32).reshape(-1, 2)
    return [(int(a), int(b)) for a, b in pairs]


def key(seed: int, layer: int, step: int) -> tuple[int, int]:
    """Two signed 32-bit words that key the random bits of one layer in one step."""
    return _keys(seed, layer, step // _BLOCK)[step % _BLOCK]
