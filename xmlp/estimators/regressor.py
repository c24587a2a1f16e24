"""The regressor: one target or several."""

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace, device
from sklearn.base import RegressorMixin

from xmlp import metrics
from xmlp.estimators import arrays
from xmlp.estimators.alone import alone
from xmlp.estimators.base import BaseMLP
from xmlp.estimators.protocol import with_callbacks
from xmlp.estimators.settings import loss_named
from xmlp.estimators.units import Moments, Units, move, none, units_of, with_units
from xmlp.host.arrays import host_array
from xmlp.host.settings import flag
from xmlp.losses import AbsoluteError, Loss, SquaredError
from xmlp.model.network import Network
from xmlp.network.row_weights import product
from xmlp.types import Array, Data

_FAR = 30.0  # mean and deviation of targets beyond which a loss that has a scale of its own is warned of


@dataclass(repr=False, eq=False)
class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that predicts numbers, on scikit-learn's protocol.

    Targets that are missing, NaN or masked, have the weight 0.

    Parameters
    ----------
    scale_targets : "auto" or bool
        Whether to train on targets of mean 0 and variance 1: "auto" does for the squared and the absolute error, whose
        best predictions do not depend on it. `network_`, predictions and metrics are in the units of y; the loss is in
        those of the scaled targets. Mean and deviation are those of all targets of the latest `fit` and of each
        `partial_fit` since, weighted; when they change, the last layer is brought to the new units, so that
        predictions do not.

        Scaled targets are centred, and predictions brought back, in double precision: `predict`, `score` and the
        metrics are exact for targets such as 1e8 + noise in float32 too. `predict` then returns the wider one of the
        dtypes of the network and of y. `network_` alone computes in its own dtype: in float32 it tells numbers around
        1e8 apart by 8.
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

    _: KW_ONLY
    scale_targets: bool | Literal["auto"] = "auto"

    _penalty: ClassVar[float] = 1.5e-3
    _fixed: ClassVar[tuple[str, ...]] = (*BaseMLP._fixed, "scale_targets")

    def __getstate__(self) -> dict[str, Any]:
        """Without the view of `network_`, which is made again."""
        return {name: value for name, value in super().__getstate__().items() if name != "_view"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @alone
    @with_callbacks
    def fit(
        self, X: Data, y: Data, sample_weight: Data | None = None, *,
        validation_data: tuple[Data, Data] | tuple[Data, Data, Data | None] | None = None,
    ) -> "MLPRegressor":  # fmt: skip
        """Train.

        Parameters
        ----------
        X : array (N, features), data frame, or sparse matrix
        y : array (N,) or (N, outputs)
        sample_weight : array (N,) or (N, outputs), optional
            As inverse variances. Their scale has no effect, and a weight k is k repetitions of the row: exactly with
            all rows in one batch, on average in minibatches, whose gradients are divided by their rows.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Measured after each epoch, into `validation_curve_`.
        """
        fresh = not (self.warm_start and hasattr(self, "network_"))
        self._fit(X, y, sample_weight, validation_data, fresh=fresh, partial=False)
        return self

    @alone
    def partial_fit(self, X: Data, y: Data, sample_weight: Data | None = None) -> "MLPRegressor":
        """One pass over these rows, from where the network and the optimizer are.

        Weights are divided by the mean weight of all rows so far, and targets scaled by the mean and deviation of all
        targets so far: so rows may come one by one, and neither the scale of the weights nor that of y matters.
        """
        self._fit(X, y, sample_weight, fresh=not hasattr(self, "network_"), partial=True)
        return self

    def predict(self, X: Data) -> Array:
        """Predictions of the shape of y, through the link if the loss has one."""
        y = self._outputs(X, "predict", self._in_units)
        return y[:, 0] if self._one_dimensional else y

    def _in_units(self, x: Array) -> Array:
        if self._of_network is None or self.network_.dtype == "float64":
            return self.network_.predict_response(x)
        z = self._before_units().predict(x)
        xp = array_namespace(z)
        y = units_of(self.network_, self._of_network).to(z, xp, device(z))
        return y if self._wide else xp.astype(y, z.dtype)

    def _before_units(self) -> Network:
        """`network_` without its last layer, of the same vectors."""
        whole = self.network_
        kept = self.__dict__.get("_view")
        if kept is None or kept[0] is not whole or kept[1].theta is not whole.theta:
            kept = self._view = whole, whole.without_last_layer()
        view: Network = kept[1]
        return view

    def score(self, X: Data, y: Data, sample_weight: Data | None = None) -> float:
        """The coefficient of determination; targets that are missing do not count."""
        truth = arrays.host(y)
        missing = np.ma.getmaskarray(truth) if isinstance(truth, np.ma.MaskedArray) else False
        truth = host_array(np.ma.getdata(truth), "y", gaps=True).astype(np.float64)
        missing = missing | np.isnan(truth)
        weights = None if sample_weight is None else host_array(arrays.host(sample_weight), "sample_weight")
        if missing.any():
            weights = product(weights, 1.0 - missing)
        return metrics.r2(np.where(missing, 0.0, truth), self.predict(X), sample_weight=weights)

    # --- targets ------------------------------------------------------------------------------------------------------

    def _encoded(self, y: Any, fresh: bool) -> Any:
        y = arrays.host(y)
        masked = isinstance(y, np.ma.MaskedArray)
        values = host_array(np.ma.getdata(y) if masked else y, "y", gaps=True)
        before = not fresh and self.__dict__["_wide"]
        self._wide: bool = before or np.result_type(np.float32, values.dtype) != np.float32
        values = values.astype(np.float64)
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

    def _check_settings(self, partial: bool) -> None:
        super()._check_settings(partial)
        if not isinstance(self.scale_targets, str) or self.scale_targets != "auto":
            flag(self.scale_targets, "scale_targets")

    def _begin(self, x: Any) -> None:
        self._moments: Moments | None = None
        self._units: Units | None = none(self.n_outputs_) if self._scales() else None
        super()._begin(x)

    def _scales(self) -> bool:
        if self.scale_targets is True and not self._loss().output_link.is_identity:
            raise ValueError(
                f"scale_targets=True moves and stretches the targets, which the link of the {self._loss().name} "
                'forbids: take "auto" or False'
            )
        if not isinstance(self.scale_targets, str):
            return bool(self.scale_targets)
        return isinstance(self._loss(), (SquaredError, AbsoluteError))

    def _adopt(self) -> None:
        super()._adopt()
        if self._units is not None:
            self._units = units_of(self.network_, self._units)

    def _follow(self, targets: Any, weights: Any, fresh: bool, partial: bool) -> None:
        latest = Moments.of(targets, weights)
        if self._units is None:
            if fresh and isinstance(self.scale_targets, str) and self._loss().output_link.is_identity:
                self._warn_of_scale(latest)
            return
        self._moments = self._moments.joined(latest) if partial and self._moments is not None else latest
        latest_units = self._units.after(self._moments)
        latest_units.check(self._trainer.network.dtype)
        old, self._units = self._units, latest_units
        self._moved = old, self._trainer.steps, move(self._trainer.network, old, self._units)

    def _warn_of_scale(self, moments: Moments) -> None:
        """A loss with a scale of its own is not rescaled behind its back, and may then learn nothing."""
        mean, deviation = float(np.abs(moments.mean).max()), moments.deviation[moments.deviation > 0]
        if deviation.size and (mean > _FAR or deviation.max() > _FAR or deviation.min() < 1 / _FAR):
            spread = f"{deviation.min():.3g} to {deviation.max():.3g}"
            warnings.warn(
                f"the {self._loss().name} is trained on the targets as they are, of a mean of up to {mean:.3g} and "
                f"deviations of {spread}: bring them near 1, or pass scale_targets=True, which has the loss measure in "
                "deviations of y; scale_targets=False does not warn",
                stacklevel=2,
            )

    def _revert(self) -> None:
        if self._units is None:
            return
        old, steps, last = self._moved
        if self._trainer.steps == steps:
            self._trainer.network.parameters[-1].update(last)
        else:
            move(self._trainer.network, self._units, old)

    def _scaled(self, targets: Any) -> Any:
        return targets if self._units is None else (targets - self._units.mean) / self._units.scale

    def _fitted(self) -> dict[str, Any]:
        return {**super()._fitted(), "_of_network": self._units}

    def _finished(self, network: Network) -> Network:
        """The network with a last layer that brings its outputs to the units of y."""
        if self._units is None:
            return network
        return with_units(network, self._units)

    def _metrics(self) -> list[Any]:
        measured = super()._metrics()
        if self._units is None:
            return measured
        return [m._replace(function=_InUnits(m.function, self._units.mean, self._units.scale)) for m in measured]

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
