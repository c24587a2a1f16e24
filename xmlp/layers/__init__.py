"""Layers: frozen descriptions of hyper-parameters with a forward and a backward pass each.

A layer holds no arrays. `forward` returns the value and a cache of what `backward` needs; `backward` turns the gradient
with respect to the value, `dy`, into those with respect to the input, `dx`, and the parameters. Both are pure and use
the standard's names from `ctx.xp` only. A batch is rows: x is (..., N, features).

To write one: subclass `Layer`, declare the arrays in `build`, write `forward`. A `backward` need not be written: it is
derived from the trace of `forward`, for steps that are planned and for those that are not.
"""

from xmlp.layers import dense, dropout, normalization, residual, standardize
from xmlp.layers.base import Layer, LayerLike, Params, ParamSpec, Specs, row
from xmlp.layers.dense import *  # noqa: F403 - each family names in its `__all__` what it offers
from xmlp.layers.dropout import *  # noqa: F403
from xmlp.layers.dropout import random_bits
from xmlp.layers.normalization import *  # noqa: F403
from xmlp.layers.residual import *  # noqa: F403
from xmlp.layers.residual import chain_of
from xmlp.layers.standardize import *  # noqa: F403
from xmlp.layers.standardize import COARSE, centred, check_offsets

__all__ = [
    "COARSE",
    "Layer",
    "LayerLike",
    "ParamSpec",
    "Params",
    "Specs",
    "centred",
    "chain_of",
    "check_offsets",
    "random_bits",
    "row",
]
__all__ += dense.__all__
__all__ += dropout.__all__
__all__ += normalization.__all__
__all__ += residual.__all__
__all__ += standardize.__all__

_FAMILIES = (dense, dropout, normalization, residual, standardize)
LAYERS: dict[str, type[Layer]] = dict(
    sorted((name, getattr(family, name)) for family in _FAMILIES for name in family.__all__)
)
