"""The regressor: one target or several."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from xmlp import metrics
from xmlp.backends.host import host_array
from xmlp.estimators import arrays
from xmlp.estimators.alone import alone
from xmlp.estimators.base import BaseMLP, loss_named
from xmlp.estimators.protocol import with_callbacks
from xmlp.layers import Standardize
from xmlp.losses import AbsoluteError, Loss, SquaredError
from xmlp.network import Network
from xmlp.weights import product

Array = Any


@dataclass(repr=False, eq=False)
class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that predicts numbers, on scikit-learn's protocol.

    Targets that are missing, NaN or masked, have the weight 0.

    Parameters
    ----------
    scale_targets : "auto" or bool
        Whether to train on targets of mean 0 and variance 1: "auto" does for the squared and the absolute error, whose
        best predictions do not depend on it. `network_`, predictions and metrics are in the units of y; the loss is in
        those of the scaled targets.
    **others
        Those of `xmlp.estimators.base.BaseMLP`: `hidden_layer_sizes`, `activation`, `dropout`, `optimizer`, ...

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> x = np.linspace(-2, 2, 200)[:, None]
    >>> model = xmlp.MLPRegressor((32,), learning_rate=0.01, random_state=0).fit(x, 1000 * x[:, 0] ** 2)
    >>> model.score(x, 1000 * x[:, 0] ** 2) > 0.99
    True
    """

    scale_targets: Any = "auto"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @alone
    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> "MLPRegressor":
        """Train.

        Parameters
        ----------
        X : array (N, features), data frame, or sparse matrix
        y : array (N,) or (N, outputs)
        sample_weight : array (N,) or (N, outputs), optional
        validation_data : (X, y) or (X, y, sample_weight), optional
            Measured after each epoch, into `validation_curve_`.
        """
        fresh = not (self.warm_start and hasattr(self, "network_"))
        self._fit(X, y, sample_weight, validation_data, fresh=fresh, partial=False)
        return self

    @alone
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """One pass over these rows, from where the network and the optimizer are.

        The targets are scaled by the mean and deviation of those of the first call.
        """
        self._fit(X, y, sample_weight, fresh=not hasattr(self, "network_"), partial=True)
        return self

    def predict(self, X: Any) -> Array:
        """Predictions of the shape of y."""
        y = self._outputs(X, "predict", lambda x: self.network_.predict(x))
        return y[:, 0] if self._one_dimensional else y

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination; targets that are missing do not count."""
        y = arrays.host(y)
        missing = np.ma.getmaskarray(y) if isinstance(y, np.ma.MaskedArray) else False
        y = host_array(np.ma.getdata(y), "y").astype(np.float64)
        missing = missing | np.isnan(y)
        weights = None if sample_weight is None else host_array(arrays.host(sample_weight), "sample_weight")
        if missing.any():
            weights = product(weights, 1.0 - missing)
        return metrics.r2(np.where(missing, 0.0, y), self.predict(X), sample_weight=weights)

    # --- targets ------------------------------------------------------------------------------------------------------

    def _encoded(self, y: Any, fresh: bool) -> Any:
        y = arrays.host(y)
        masked = isinstance(y, np.ma.MaskedArray)
        values = host_array(np.ma.getdata(y) if masked else y, "y").astype(np.float64)
        if masked:
            values = np.where(np.ma.getmaskarray(y), np.nan, values)
        if np.isinf(values).any():
            raise ValueError("Input y contains infinity.")
        if values.ndim not in (1, 2):
            raise ValueError(f"y must be (N,) or (N, outputs), got the shape {values.shape}")
        if fresh:
            self._one_dimensional = values.ndim == 1
            self.n_outputs_ = 1 if values.ndim == 1 else values.shape[1]
        values = values.reshape(len(values), -1)
        if values.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} outputs, got the shape {values.shape}")
        return values

    def _begin(self, x: Any, targets: Any, weights: Any) -> None:
        self._scale = _mean_and_scale(targets, weights) if self._scales() else None
        super()._begin(x, targets, weights)

    def _scales(self) -> bool:
        if self.scale_targets != "auto":
            return bool(self.scale_targets)
        return isinstance(self._loss(), (SquaredError, AbsoluteError))

    def _scaled(self, targets: Any) -> Any:
        return targets if self._scale is None else (targets - self._scale[0]) / self._scale[1]

    def _finished(self, network: Network) -> Network:
        """The network with a last layer that brings its outputs to the units of y."""
        if self._scale is None:
            return network
        mean, scale = self._scale
        put, layers = network.backend.from_host, [*network.layers, Standardize()]
        whole = Network(layers, network.in_features, backend=network.backend, seed=network.seed)
        whole.theta = network.theta
        whole.statistics = [*network.statistics, {"mean": put(-mean / scale), "scale": put(1.0 / scale)}]
        return whole

    def _metrics(self) -> list[Any]:
        measured = super()._metrics()
        if self._scale is None:
            return measured
        return [m._replace(function=_InUnits(m.function, *self._scale)) for m in measured]

    def _loss(self) -> Loss:
        return loss_named(self.loss, SquaredError())


@dataclass(frozen=True, eq=False)
class _InUnits:
    """A metric of scaled targets in the units of y."""

    function: Any
    mean: Any
    scale: Any

    def __call__(self, targets: Any, predictions: Any, **of_rows: Any) -> float:
        back = (a * self.scale + self.mean for a in (targets, predictions))
        return float(self.function(*back, **of_rows))


def _mean_and_scale(targets: Any, weights: Any) -> tuple[Any, Any]:
    """The weighted mean and deviation of each output, 1 for the deviation of one that does not vary."""
    known = ~np.isnan(targets)
    w: Any = product(weights, known * 1.0)
    y = np.where(known, targets, 0.0)
    unit = np.exp2(np.frexp(np.abs(y).max(axis=0))[1] - 1.0)  # so that no square is too large or too small
    y = y / unit
    total = np.maximum(w.sum(axis=0), np.finfo(float).tiny)
    mean = (w * y).sum(axis=0) / total
    variance = (w * np.where(known, y - mean, 0.0) ** 2).sum(axis=0) / total
    scale = np.sqrt(variance)
    return mean * unit, np.where(scale > 1e-12 * np.abs(mean), scale * unit, 1.0)
