"""Layers: frozen descriptions of hyper-parameters with a forward and a backward pass each.

A layer holds no arrays. `forward` returns the value and a cache of what `backward` needs; `backward` turns the gradient
with respect to the value, `dy`, into those with respect to the input, `dx`, and the parameters. Both are pure and use
the standard's names from `ctx.xp` only. A batch is rows: x is (..., N, features).

To write one: subclass `Layer`, declare the arrays in `build`, write the two passes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from xmlp import activations
from xmlp.backends.context import Context
from xmlp.errors import unknown
from xmlp.graph import Formula, elementwise
from xmlp.host.scalars import Normalized, normalize
from xmlp.host.settings import count, flag, number
from xmlp.initializers import Initializer
from xmlp.initializers import get as initializer_named
from xmlp.types import Array

__all__ = [
    "Activation", "BatchNorm", "Dense", "Dropout", "Layer", "LayerNorm", "ParamSpec", "Residual", "Standardize",
]  # fmt: skip

Params = Mapping[str, Array]


@dataclass(frozen=True)
class ParamSpec(Normalized):
    """What a layer asks for: one array of parameters.

    Parameters
    ----------
    shape : tuple of int
    initializer : str, float or callable
        See `xmlp.initializers`.
    decay : bool
        Whether weight decay and the penalties l1 and l2 act on it; biases and normalisations usually say no.
    lr_scale : float
        Factor on the learning rate; 0 freezes the array.
    """

    shape: tuple[int, ...]
    initializer: "str | float | Initializer" = "zeros"
    decay: bool = True
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        Normalized.__post_init__(self)
        initializer_named(self.initializer)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in self.shape):
            raise ValueError(f"a parameter's shape is a tuple of integers >= 0, got {self.shape}")
        number(self.lr_scale, "lr_scale")


Specs = dict[str, ParamSpec]


class Layer(Normalized, ABC):
    """One step of a network. Subclasses are frozen dataclasses of hyper-parameters."""

    random = False  # whether forward asks for ctx.bits in training, once
    least_rows: ClassVar[int] = 1  # of a batch from which the layer learns its statistics

    @abstractmethod
    def build(self, in_features: int) -> tuple[int, Specs]:
        """Number of output features and the arrays that the layer learns, by name."""

    @abstractmethod
    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        """y of shape (..., N, out_features), and the cache for backward."""

    @abstractmethod
    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, dict[str, Array]]:
        """dx of the shape of x (None allowed where `ctx.input_gradient` is false), and one gradient per parameter."""

    def random_sites(self) -> list[tuple[int, ...]]:
        """The places below this layer that ask for random bits, as paths of inner layers."""
        return [()] if self.random else []

    def statistics(self, in_features: int) -> Specs:
        """Arrays that the layer keeps but does not learn, by name, with their initial values."""
        return {}

    def next_statistics(self, stats: Params, cache: Any) -> Params:
        """The statistics after a training step."""
        return stats


@dataclass(frozen=True)
class Activation(Layer):
    """y = f(x), dx = dy f'(x) (document 002, eq. 4 and 31; for the softmax the full Jacobian, eq. 28).

    Parameters
    ----------
    function : str, formula, callable, or object with fn and deriv
    """

    function: Any

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        object.__setattr__(self, "function", activations.get(self.function))
        if isinstance(self.function, Formula) and len(self.function.arrays) != 1:
            raise ValueError(f"an activation takes one array, {self.function.name} takes {self.function.arrays}")
        for name, value in getattr(self.function, "scalars", {}).items():
            if not isinstance(value, (bool, int, float)) or not abs(value) < float("inf"):
                raise ValueError(f"the scalar {name} of {self.function.name} must be a finite number, got {value!r}")

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, {}

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        y = ctx.apply(self.function, x)
        reads = self.function.pullback.reads
        return y, (x if reads - {"output", "dy"} else None, y if "output" in reads else None)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        return ctx.apply(self.function.pullback, *cache, dy), {}


def row(xp: Any, values: Array) -> Array:
    """Values (..., columns), one for each column, as (..., 1, columns): beside all rows, and no other axis."""
    return xp.expand_dims(values, axis=-2)


@dataclass(frozen=True)
class Dense(Layer):
    """y = f(x W + b), with x (..., N, I), W (..., I, units), b (..., units) (document 002, eq. 18-20, in rows).

    With dz = dy f'(z): dW = x^T dz, db = sum_n dz_n, dx = dz W^T (eq. 47 and BP3.2, BP4.2).

    Parameters
    ----------
    units : int
    activation : str, formula, callable, or object with fn and deriv; None is the identity
    use_bias : bool
    kernel_initializer : str, float or callable
        "auto" is he_normal before relu-like activations, lecun_normal before selu, glorot_uniform otherwise.
    bias_initializer : str, float or callable

    Examples
    --------
    >>> Dense(3, activation="tanh").build(4)[0]
    3
    """

    units: int
    activation: Any = None
    use_bias: bool = True
    kernel_initializer: "str | float | Initializer" = "auto"
    bias_initializer: "str | float | Initializer" = "zeros"

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        flag(self.use_bias, "Dense(use_bias)")
        object.__setattr__(self, "units", count(self.units, "Dense(units)"))
        object.__setattr__(self, "activation", Activation(self.activation).function)
        if self.kernel_initializer != "auto":
            initializer_named(self.kernel_initializer)
        initializer_named(self.bias_initializer)

    def build(self, in_features: int) -> tuple[int, Specs]:
        kernel = self.kernel_initializer
        if kernel == "auto":
            kernel = _FITTING.get(getattr(self.activation, "name", ""), "glorot_uniform")
        specs = {"W": ParamSpec((in_features, self.units), kernel)}
        if self.use_bias:
            specs["b"] = ParamSpec((self.units,), self.bias_initializer, decay=False)
        return self.units, specs

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        z = x @ params["W"]  # eq. 18
        if self.use_bias:
            z = z + row(ctx.xp, params["b"])
        if self.activation is activations.identity:
            return z, (x, None)
        y, activated = Activation(self.activation).forward({}, z, ctx)  # eq. 20
        return y, (x, activated)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array | None, dict[str, Array]]:
        x, activated = cache
        dz = dy
        if self.activation is not activations.identity:
            dz, _ = Activation(self.activation).backward({}, activated, dy, ctx)
        grads = {"W": ctx.xp.matrix_transpose(x) @ dz}  # BP3.2
        if self.use_bias:
            grads["b"] = ctx.xp.sum(dz, axis=-2)  # BP4.2
        dx = dz @ ctx.xp.matrix_transpose(params["W"]) if ctx.input_gradient else None  # BP2.2
        return dx, grads


_FITTING = {name: "he_normal" for name in ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus")}
_FITTING["selu"] = "lecun_normal"


@elementwise
def random_bits(xp, element: int, *, first: int, second: int):  # type: ignore[no-untyped-def]
    """A hash of the element's number and two keys, in wrapping 32-bit arithmetic: uniform over all int32.

    Two rounds of multiply and shift-xor after Wellons (2018), "Prospecting for hash functions", with the second key
    mixed in between, so that no two keys give permutations of each other.
    """
    h = element ^ first
    h = (h ^ ((h >> 16) & 0xFFFF)) * 0x7FEB352D
    h = (h ^ second ^ ((h >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return h ^ ((h >> 16) & 0xFFFF)


@elementwise
def masked(xp, x, bits: int, *, threshold: int, scale):  # type: ignore[no-untyped-def]
    """x scale where the random bits reach the threshold, else 0."""
    return xp.where(bits >= threshold, x * scale, 0.0)


@dataclass(frozen=True)
class Dropout(Layer):
    """y = x m / (1 - rate) with m = 1 with probability 1 - rate, else 0; in training only (Srivastava et al., 2014).

    The mask is a formula of (seed, layer, step, element), hence the same on every backend; backward makes it again.

    Examples
    --------
    >>> Dropout(0.5).build(8)
    (8, {})
    """

    rate: float
    random = True

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        number(self.rate, "rate", high=1.0)

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, {}

    def _mask(self, x: Array, bits: Array, ctx: Context) -> Array:
        threshold = round(self.rate * 2**32) - 2**31
        return ctx.apply(masked, x, bits, threshold=threshold, scale=1.0 / (1.0 - self.rate))

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        if not ctx.training or self.rate == 0:
            return x, None
        bits = ctx.bits(tuple(x.shape))
        return self._mask(x, bits, ctx), bits

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        return (dy if cache is None else self._mask(dy, cache, ctx)), {}


def _normalized_gradient(xp: Any, normalized: Array, inverse: Array, dn: Array, axis: int) -> Array:
    """dx through n = (x - mean(x)) inverse, inverse = 1 / sqrt(var(x) + eps), both along `axis`.

    dx = inverse (dn - mean(dn) - n mean(dn n)) (Ioffe & Szegedy, 2015, section 3, collected).
    """
    size = dn.shape[axis]
    mean_dn = xp.sum(dn, axis=axis, keepdims=True) / size
    mean_dn_n = xp.sum(dn * normalized, axis=axis, keepdims=True) / size
    return inverse * (dn - mean_dn - normalized * mean_dn_n)


@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) gamma + beta, mean and variance over the features of a row (Ba et al., 2016)."""

    eps: float = 1e-5

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        number(self.eps, "eps")

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, _gamma_beta(in_features)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        xp, size = ctx.xp, x.shape[-1]
        centred = x - xp.sum(x, axis=-1, keepdims=True) / size
        inverse = 1.0 / xp.sqrt(xp.sum(centred * centred, axis=-1, keepdims=True) / size + self.eps)
        normalized = centred * inverse
        return _scaled(xp, normalized, params), (normalized, inverse)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        normalized, inverse = cache
        grads = {"gamma": ctx.xp.sum(dy * normalized, axis=-2), "beta": ctx.xp.sum(dy, axis=-2)}
        return _normalized_gradient(ctx.xp, normalized, inverse, dy * row(ctx.xp, params["gamma"]), -1), grads


def _scaled(xp: Any, normalized: Array, params: Params) -> Array:
    """Normalized gamma + beta."""
    return normalized * row(xp, params["gamma"]) + row(xp, params["beta"])


def _gamma_beta(features: int) -> Specs:
    return {"gamma": ParamSpec((features,), "ones", decay=False), "beta": ParamSpec((features,), "zeros", decay=False)}


@dataclass(frozen=True)
class BatchNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) gamma + beta (Ioffe & Szegedy, 2015, algorithm 1).

    In training, mean and (biased) variance are those of the batch's rows, and the statistics move towards them:
    running = momentum running + (1 - momentum) batch, with the unbiased variance N / (N - 1) var. Otherwise they are
    the running ones, and so in training for a batch of one row, which has no variance: it leaves the statistics alone.
    """

    momentum: float = 0.9
    eps: float = 1e-5
    least_rows: ClassVar[int] = 2

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        number(self.momentum, "momentum", high=1.0)
        number(self.eps, "eps")

    def build(self, in_features: int) -> tuple[int, Specs]:
        return in_features, _gamma_beta(in_features)

    def statistics(self, in_features: int) -> Specs:
        return {"mean": ParamSpec((in_features,), "zeros"), "var": ParamSpec((in_features,), "ones")}

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        xp, rows = ctx.xp, x.shape[-2]
        mean, var, batch = ctx.stats["mean"], ctx.stats["var"], None
        if ctx.training and rows >= self.least_rows:
            mean = xp.sum(x, axis=-2) / rows
            centred = x - row(xp, mean)
            var = xp.sum(centred * centred, axis=-2) / rows
            batch = {"mean": mean, "var": var * (rows / (rows - 1))}
        else:
            centred = x - row(xp, mean)
        inverse = 1.0 / xp.sqrt(row(xp, var) + self.eps)
        normalized = centred * inverse
        return _scaled(xp, normalized, params), (normalized, inverse, batch)

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        normalized, inverse, batch = cache
        grads = {"gamma": ctx.xp.sum(dy * normalized, axis=-2), "beta": ctx.xp.sum(dy, axis=-2)}
        dn = dy * row(ctx.xp, params["gamma"])
        if batch is None:
            return dn * inverse, grads
        return _normalized_gradient(ctx.xp, normalized, inverse, dn, -2), grads

    def next_statistics(self, stats: Params, cache: Any) -> Params:
        batch = cache[2]
        if batch is None:
            return stats
        return {name: self.momentum * stats[name] + (1.0 - self.momentum) * batch[name] for name in batch}


COARSE = 2.0**-13  # of a deviation: how far apart neighbouring numbers of the dtype may be at the mean


@dataclass(frozen=True)
class Standardize(Layer):
    """y = (x - mean) / scale per feature, with numbers that are kept with the model and not learned.

    `Network.adapt(x)` sets them from data; until then they are the given constants. `Standardize(scale=255.0)` brings
    image bytes to [0, 1].

    Parameters
    ----------
    mean, scale : float
    offset : tuple of (int, float)
        Of the first layer: features and what is taken off them in double precision before they get the network's dtype,
        which could not tell such numbers apart, as seconds since 1970 in float32. Whoever passes x to a network has it
        done; to the pure passes (`pass_forward`) x comes without it. The kept "mean" is then the mean of the remainder.
    """

    mean: float = 0.0
    scale: float = 1.0
    offset: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        Layer.__post_init__(self)
        if isinstance(self.mean, bool) or not isinstance(self.mean, (int, float)) or not abs(self.mean) < float("inf"):
            raise ValueError(f"mean must be a finite number, got {self.mean!r}")
        number(self.scale, "scale", above=True)
        for feature, value in self.offset:
            if isinstance(feature, bool) or not isinstance(feature, int) or not abs(value) < float("inf"):
                raise ValueError(f"offset must be pairs of a feature's number and a finite number, got {self.offset!r}")

    def build(self, in_features: int) -> tuple[int, Specs]:
        if strange := [feature for feature, _ in self.offset if not 0 <= feature < in_features]:
            raise ValueError(f"offset names the feature {strange[0]}, there are {in_features}")
        return in_features, {}

    def statistics(self, in_features: int) -> Specs:
        shape, less = (in_features,), dict(self.offset)
        mean: Any = float(self.mean)
        if less:
            means = [mean - less.get(feature, 0.0) for feature in range(in_features)]
            mean = lambda rng, shape: means  # noqa: E731
        return {"mean": ParamSpec(shape, mean), "scale": ParamSpec(shape, float(self.scale))}

    def centred(self, in_features: int, eps: float) -> "Standardize":
        """With the mean as the offset where numbers of the resolution `eps` are too coarse for it."""
        if self.offset or abs(self.mean) * eps <= COARSE * self.scale:
            return self
        return replace(self, offset=tuple((feature, float(self.mean)) for feature in range(in_features)))

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        return (x - row(ctx.xp, ctx.stats["mean"])) / row(ctx.xp, ctx.stats["scale"]), None

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        return dy / row(ctx.xp, ctx.stats["scale"]), {}


@dataclass(frozen=True)
class Residual(Layer):
    """y = x + f(x), f being a chain of layers that keeps the number of features (He et al., 2016, eq. 1).

    Examples
    --------
    >>> Residual([Dense(8, activation="relu"), Dense(4)]).build(4)[0]
    4
    """

    layers: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", chain_of(self.layers))
        check_offsets(self.layers)

    @property
    def least_rows(self) -> int:  # type: ignore[override]
        return max(int(layer.least_rows) for layer in self.layers)

    def random_sites(self) -> list[tuple[int, ...]]:
        return [(i, *path) for i, layer in enumerate(self.layers) for path in layer.random_sites()]

    def build(self, in_features: int) -> tuple[int, Specs]:
        specs, features = {}, in_features
        for i, layer in enumerate(self.layers):
            features, inner = layer.build(features)
            specs.update({f"{i}.{name}": spec for name, spec in inner.items()})
        if features != in_features:
            raise ValueError(
                f"Residual: the inner layers turn {in_features} features into {features}; x + f(x) needs as many"
            )
        return in_features, specs

    def statistics(self, in_features: int) -> Specs:
        specs, features = {}, in_features
        for i, layer in enumerate(self.layers):
            specs.update({f"{i}.{name}": spec for name, spec in layer.statistics(features).items()})
            features = layer.build(features)[0]
        return specs

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Any]:
        y, caches = x, []
        for i, layer in enumerate(self.layers):
            y, cache = layer.forward(_part(params, i), y, self._inner(ctx, i))
            caches.append(cache)
        return x + y, caches

    def backward(self, params: Params, cache: Any, dy: Array, ctx: Context) -> tuple[Array, dict[str, Array]]:
        grads, dx = {}, dy
        for i, layer in reversed(list(enumerate(self.layers))):
            dx, inner = layer.backward(_part(params, i), cache[i], dx, self._inner(ctx, i).but(input_gradient=True))
            grads.update({f"{i}.{name}": g for name, g in inner.items()})
        return dy + dx, grads

    def next_statistics(self, stats: Params, cache: Any) -> Params:
        new = {}
        for i, layer in enumerate(self.layers):
            new.update({f"{i}.{n}": v for n, v in layer.next_statistics(_part(stats, i), cache[i]).items()})
        return new

    def _inner(self, ctx: Context, i: int) -> Context:
        """The context of the i-th inner layer: its own statistics, and random bits that no sibling shares."""
        return ctx.but(stats=_part(ctx.stats, i), bits=lambda shape, *path: ctx.bits(shape, i, *path))


def _part(named: Params, i: int) -> dict[str, Array]:
    prefix = f"{i}."
    return {name.removeprefix(prefix): a for name, a in named.items() if name.startswith(prefix)}


LAYERS: dict[str, type[Layer]] = {
    c.__name__: c for c in (Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual, Standardize)
}


def check_offsets(layers: Iterable[Layer]) -> None:
    """Refuse an offset that nobody would take off the layer's input."""
    if any(isinstance(layer, Standardize) and layer.offset for layer in layers):
        raise ValueError("only a Standardize that is the first layer of a network has an offset: take offset=()")


def chain_of(layers: Iterable[Any]) -> tuple[Layer, ...]:
    """Check a sequence of layers; a name is an activation."""
    if isinstance(layers, (str, Layer)) or not isinstance(layers, Iterable):
        raise TypeError(f"expected a sequence of layers, got {layers!r}. Put it in a list.")
    chain = tuple(Activation(layer) if isinstance(layer, (str, Formula)) else layer for layer in layers)
    if not chain:
        raise ValueError("expected at least one layer, got none")
    for i, layer in enumerate(chain):
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise TypeError(f"layer {i} is the class {layer.__name__}, not an instance: write {layer.__name__}(...)")
        if not isinstance(layer, Layer):
            raise TypeError(f"layer {i} is {layer!r}, not a Layer. {unknown('layer', type(layer).__name__, LAYERS)}")
        if hasattr(layer, "__dataclass_fields__"):  # of the user's own, whose __post_init__ may not call the base's
            normalize(layer)
    return chain
