"""Mean and deviation of targets: the units in which a regressor is trained, and how they may change under way.

A network whose outputs z stand for y = mean + scale z says the same in other units once its last layer is brought to
them: W <- W scale / scale', b <- (b scale + mean - mean') / scale' (van Hasselt et al., 2016, "Learning values across
many orders of magnitude", equation 4).
"""

from typing import Any, NamedTuple

import numpy as np

from xmlp.layers import Standardize
from xmlp.model.network import Network
from xmlp.network.row_weights import product
from xmlp.types import HostArray


class Moments(NamedTuple):
    """The weight, the mean and the deviation of each output's targets so far; all (outputs,), float64."""

    weight: HostArray
    mean: HostArray
    deviation: HostArray

    @classmethod
    def of(cls, targets: HostArray, weights: HostArray | None) -> "Moments":
        """Those of targets (N, outputs), of which NaN is none, with weights (N,) or (N, outputs)."""
        w: Any = product(weights, ~np.isnan(targets) * 1.0)
        known = w > 0
        y = np.where(known, targets, 0.0)
        unit = np.exp2(np.frexp(np.abs(y).max(axis=0))[1] - 1.0)  # so that no square is too large or too small
        peak = float(w.max()) or 1.0
        y, first, w = y / unit, known.argmax(axis=0), w / peak
        start = y[first, np.arange(y.shape[1])]  # one of the targets: what does not vary then has the deviation 0
        total = w.sum(axis=0)
        divisor = np.where(total > 0, total, 1.0)
        offset = np.where(known, y - start, 0.0)
        shift = (w * offset).sum(axis=0) / divisor
        variance = (w * np.where(known, offset - shift, 0.0) ** 2).sum(axis=0) / divisor
        return cls(total * peak, (start + shift) * unit, np.sqrt(variance) * unit)

    def joined(self, other: "Moments") -> "Moments":
        """Those of both together (Chan et al., 1983, equation 2.1)."""
        weight = self.weight + other.weight
        part = other.weight / np.where(weight > 0, weight, 1.0)
        step = other.mean - self.mean
        unit = np.maximum(np.maximum(np.abs(step), self.deviation), other.deviation)
        unit = np.where(unit > 0, unit, 1.0)
        squares = [(1 - part) * (self.deviation / unit) ** 2, part * (other.deviation / unit) ** 2]
        squares.append(part * (1 - part) * (step / unit) ** 2)
        return Moments(weight, self.mean + part * step, np.sqrt(sum(squares)) * unit)


class Units(NamedTuple):
    """y = mean + scale z for each output; `known` says whether the targets have told a scale."""

    mean: HostArray
    scale: HostArray
    known: HostArray

    def after(self, moments: Moments) -> "Units":
        """The units of these moments; targets that do not vary leave the scale as it was."""
        varies = moments.deviation > 0
        return Units(moments.mean, np.where(varies, moments.deviation, self.scale), self.known | varies)

    def check(self, dtype: str) -> None:
        """Refuse a scale that a network of this dtype, which keeps its reciprocal, cannot hold."""
        least, most = (float(limit) for limit in (np.finfo(dtype).smallest_normal, np.finfo(dtype).max))
        with np.errstate(over="ignore"):
            held = (1 / self.scale <= most) & (1 / self.scale >= least)
        if not held.all():
            deviation = float(self.scale[int(held.argmin())])
            hint = ', or pass dtype="float64"' * (dtype == "float32" and 1e-308 < deviation < 1e307)
            raise ValueError(
                f"y has the deviation {deviation:.3g}, from which a network of {dtype} cannot bring its outputs back "
                f"to the units of y. Scale y{hint}."
            )

    def to(self, z: Any, xp: Any, place: Any) -> Any:
        """Outputs z of a network, in units of y and in double precision."""
        mean, scale = (xp.asarray(a, dtype=xp.float64, device=place) for a in (self.mean, self.scale))
        return xp.astype(z, xp.float64) * scale + mean


def with_units(network: Network, units: Units) -> Network:
    """The network with one layer more, which brings its outputs to the units of y."""
    put, layers = network.backend.from_host, [*network.layers, Standardize()]
    stats = np.zeros(network.stats_layout.size + 2 * len(units.mean))
    vectors = {"theta": network.theta, "stats": stats}
    whole = Network.of_vectors(layers, network.in_features, network.backend, network.seed, vectors, network.settings())
    whole.statistics = [*network.statistics, {name: put(value) for name, value in _layer(units).items()}]
    return whole


def _layer(units: Units) -> dict[str, HostArray]:
    """What the last layer keeps."""
    return {"mean": -units.mean / units.scale, "scale": 1.0 / units.scale}


def units_of(network: Network, units: Units) -> Units:
    """The units of a network's last layer: these, to the last bit, unless others have been written into it."""
    get, dtype = network.backend.to_host, network.dtype
    kept = {name: get(value) for name, value in network.statistics[-1].items()}
    if all(np.array_equal(kept[name], value.astype(dtype)) for name, value in _layer(units).items()):
        return units
    scale = 1.0 / kept["scale"].astype(np.float64)
    return Units(-kept["mean"] * scale, scale, np.ones_like(units.known))


def none(outputs: int) -> Units:
    """Before there are any targets."""
    return Units(np.zeros(outputs), np.ones(outputs), np.zeros(outputs, bool))


def move(network: Network, old: Units, new: Units) -> dict[str, Any]:
    """Bring the last layer from old units to new ones, so that the network says the same in units of y.

    Returns the parameters that the layer had before.

    Where no scale was known there were no units yet: what the layer starts from is taken to be in the new ones.
    """
    factor = np.where(old.known, old.scale / new.scale, 1.0)
    shift = np.where(old.known, (old.mean - new.mean) / new.scale, 0.0)
    last = {name: network.backend.to_host(a).astype(np.float64) for name, a in network.parameters[-1].items()}
    if (factor != 1.0).any() or (shift != 0.0).any():
        network.parameters[-1].update(W=last["W"] * factor, b=last["b"] * factor + shift)
    return last
