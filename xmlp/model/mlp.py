"""The usual network in one line: dense layers with an activation, dropout and normalisation between them."""

from collections.abc import Iterable, Sequence
from typing import Any

from xmlp.activations import ActivationLike, get
from xmlp.backends import BackendLike
from xmlp.errors import unknown
from xmlp.layers import Activation, BatchNorm, Dense, Dropout, Layer, LayerNorm
from xmlp.model.network import Network
from xmlp.network.inputs import count
from xmlp.types import Dtype, NormalizationName

NORMALIZATIONS: dict[NormalizationName, type[Layer]] = {"batch": BatchNorm, "layer": LayerNorm}


def mlp(
    sizes: Sequence[int],
    activation: ActivationLike | Sequence[ActivationLike] = "relu",
    output_activation: ActivationLike = None,
    *,
    dropout: float = 0.0,
    normalization: NormalizationName | None = None,
    backend: BackendLike = "numpy",
    dtype: Dtype = "float32",
    seed: int = 0,
) -> Network:
    """A multilayer perceptron.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units of each hidden layer, outputs: [20, 50, 10] has W of 20 x 50 and 50 x 10.
    activation : str, formula, or a list of them
        Of the hidden layers: one for all, or one for each.
    output_activation : str or formula, optional
        None leaves the outputs raw: the losses from logits want it so.
    dropout : float
        Rate after each hidden layer.
    normalization : {"batch", "layer"}, optional
        Between the product and the activation of each hidden layer, whose bias it replaces.

    Examples
    --------
    >>> import xmlp
    >>> network = xmlp.mlp([20, 50, 10])
    >>> [views["W"].shape for views in network.parameters]
    [(20, 50), (50, 10)]
    """
    if isinstance(sizes, (str, bytes)) or not isinstance(sizes, Iterable):
        raise TypeError(f"sizes is a sequence of integers like [20, 50, 10], got {sizes!r}")
    sizes = [count(_whole(n), "each of the sizes") for n in sizes]
    if len(sizes) < 2:
        raise ValueError(f"sizes needs at least the inputs and the outputs, got {sizes}")
    hidden = len(sizes) - 2
    given: Any = activation
    per_layer = list(given) if isinstance(given, (list, tuple)) else [get(given)] * hidden
    if len(per_layer) != hidden:
        raise ValueError(f"{len(per_layer)} activations for {hidden} hidden layers")
    if normalization is not None and normalization not in NORMALIZATIONS:
        raise ValueError(unknown("normalization", normalization, NORMALIZATIONS))
    after = [Dropout(dropout)] if dropout else []
    layers: list[Layer] = []
    for units, function in zip(sizes[1:-1], map(get, per_layer), strict=True):
        if normalization is None:
            layers.append(Dense(units, activation=function))
        else:
            kernel = Dense(units, activation=function).build(1)[1]["W"].initializer
            layers += [Dense(units, use_bias=False, kernel_initializer=kernel), NORMALIZATIONS[normalization]()]
            layers.append(Activation(function))
        layers += after
    layers.append(Dense(sizes[-1], activation=output_activation))
    return Network(layers, sizes[0], backend=backend, dtype=dtype, seed=seed)


def _whole(value: Any) -> Any:
    """3.0 as 3; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
