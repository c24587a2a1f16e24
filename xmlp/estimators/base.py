"""What the estimators share: their settings, fitting, and the way of arrays in and out."""

import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from xmlp import metrics, optimizers
from xmlp.activations import ActivationLike
from xmlp.backends import BackendLike, owner
from xmlp.callbacks import EarlyStopping
from xmlp.errors import unknown
from xmlp.estimators import arrays
from xmlp.estimators.adoption import adopt
from xmlp.estimators.protocol import CallbackSupport, fit_tasks
from xmlp.estimators.settings import Rate, alike, frozen, later
from xmlp.host.arrays import host_array, refuse_containers, refuse_times, spans
from xmlp.host.settings import count, flag, loudness, number
from xmlp.losses import Loss, LossLike
from xmlp.metrics import MetricLike
from xmlp.model.mlp import mlp
from xmlp.model.network import Network
from xmlp.model.trainer import Trainer
from xmlp.network import row_weights as weighting
from xmlp.optimizers import Optimizer, OptimizerLike
from xmlp.schedules import Cosine, LearningRate, OneCycle, rate
from xmlp.training.events import callbacks_of
from xmlp.training.step import Batch
from xmlp.types import Array, Callback, Data, Dtype, LinkName, NormalizationName, ScheduleName

_SCHEDULES = {"cosine": Cosine, "one_cycle": OneCycle}
_FIXED = (
    "hidden_layer_sizes", "activation", "dropout", "normalization", "loss", "backend", "device", "dtype",
    "random_state",
)  # fmt: skip
_CHANGING = ("optimizer", "learning_rate", "l1", "l2", "clip_norm", "metrics", "monitor")
_TAKEN = ("loss", "penalty", "lr", "seconds", "skipped")  # columns of the history


@dataclass(repr=False, eq=False)
class BaseMLP(CallbackSupport, BaseEstimator):  # type: ignore[misc]
    """Settings and fitting of both estimators.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer.
    activation : str, formula, or a list of them
        Of the hidden layers: one for all, or one for each. Any function under `xmlp.elementwise` will do.
    dropout : float
        Rate after each hidden layer.
    normalization : {"batch", "layer"}, optional
        Before the activation of each hidden layer.
    loss : "auto", Loss, str, formula of (prediction, target), or object with fn and deriv
    optimizer : Optimizer or str
    learning_rate : "auto", float, schedule, "cosine" or "one_cycle"
        "auto" is the optimizer's own. The two named schedules start from the optimizer's rate and end with `max_iter`
        epochs; `partial_fit` beyond that end goes on with the optimizer's rate.
    l1 : float
    l2 : float or "auto"
        Penalties l1 sum |w| + l2 sum w^2, added to the weighted mean of the losses; not on biases and normalisations.
        "auto" is a constant, 1e-4 for a classifier and 1.5e-3 for a regressor: neither the number of rows nor the scale
        of their weights changes it.
    clip_norm : float, optional
        Bound on the norm of the gradient.
    batch_size : int or "auto"
        "auto" is N for up to 64 rows, else N / 32, at least 32 and at most 200; N is the number of rows of the call,
        whatever they weigh.
    max_iter : int
        Epochs of one call of `fit`.
    shuffle : bool
        Whether the rows take a new order in each epoch.
    tol, n_iter_no_change : float, int
        `fit` ends when the training loss has not fallen by more than `tol` for `n_iter_no_change` epochs; with
        `early_stopping` when what `monitor` says has not improved for as many. `tol=None` never ends early.
    early_stopping : bool
        Whether to watch validation data, and to keep the parameters of the best epoch.
    validation_fraction : float
        What early stopping sets aside unless `fit` is given validation data; classes keep their shares, unless one
        has a single row or there are more classes than rows set aside: then all rows are drawn alike.
    monitor : "auto", str or callable
        "loss" or a metric, see `xmlp.metrics`; "auto" is the loss. A function with the attribute
        ``greater_is_better = False`` is minimised.
    metrics : sequence of str or callable
        What else to measure after each epoch, into `history_`.
    callbacks : sequence
        See `xmlp.callbacks`.
    output_weight : array (outputs,), optional
    warm_start : bool
        Whether `fit` goes on from where it was, the optimizer's state included. Settings that were changed meanwhile
        are used from then on; those of the network (layers, loss, backend, dtype, random_state) and the kind of
        optimizer cannot be, and raise a ValueError. The same holds for `partial_fit`. A schedule that is new begins
        when it is first used.
    random_state : int, RandomState or None
        Decides initial weights, splits, the order of rows and dropout masks.
    verbose : bool
        Print a line per epoch.
    backend : str or Backend, optional
        What computes; see `xmlp.backend`. None follows X: its own library under array API dispatch, else NumPy.
    device, dtype : str, optional
        None follows X.

    Attributes
    ----------
    network_ : Network
        The network underneath. What is written into it, or put in its place if that has the same layers, is what
        `partial_fit` and a warm start go on from.
    history_ : History
        All that was measured, per epoch.
    loss_curve_, validation_curve_ : list of float
        The training loss, and what `monitor` says of the validation data if there are any.
    n_iter_ : int
        Epochs made by all calls of `fit` and `partial_fit` since training began; scikit-learn's perceptron counts those
        of the last call.
    best_score_ : float or None
        The best of `validation_curve_`.
    n_features_in_, feature_names_in_, n_outputs_
        Of the data. The names are there if the features came with any.
    """

    hidden_layer_sizes: int | Sequence[int] = (100,)
    activation: ActivationLike | Sequence[ActivationLike] = "relu"
    _: KW_ONLY
    dropout: float = 0.0
    normalization: NormalizationName | None = None
    loss: LossLike | Literal["auto"] = "auto"
    optimizer: OptimizerLike = "adam"
    learning_rate: LearningRate | ScheduleName | Literal["auto"] = "auto"
    l1: float = 0.0
    l2: float | Literal["auto"] = "auto"
    clip_norm: float | None = None
    batch_size: int | Literal["auto"] = "auto"
    max_iter: int = 200
    shuffle: bool = True
    tol: float | None = 1e-4
    n_iter_no_change: int = 10
    early_stopping: bool = False
    validation_fraction: float = 0.1
    monitor: MetricLike | Literal["auto", "loss"] = "auto"
    metrics: MetricLike | Iterable[MetricLike] = ()
    callbacks: Iterable[Callback] = ()
    output_weight: Data | None = None
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None
    verbose: bool | int = False
    backend: BackendLike | None = None
    device: str | None = None
    dtype: Dtype | None = None

    _penalty: ClassVar[float]  # what l2="auto" is
    _fixed: ClassVar[tuple[str, ...]] = _FIXED  # settings of the first call

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        tags.non_deterministic = False
        return tags

    # --- fitting ------------------------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: Any = None, *, fresh: bool, partial: bool) -> None:
        """Train. What fails leaves the estimator as it was; what the user interrupts keeps the epochs made so far."""
        before = dict(self.__dict__)
        try:
            with nullcontext() if fresh else self._trainer.undone():
                self._train(X, y, sample_weight, validation, fresh=fresh, partial=partial)
        except BaseException as error:
            trainer, old = self.__dict__.get("_trainer"), before.get("_trainer") if fresh else None
            trained = trainer is not None and trainer is not old and trainer.history.get("loss")
            if isinstance(error, KeyboardInterrupt) and trained:
                self.__dict__.update(self._fitted())
            else:
                if self.__dict__.get("_moved") is not before.get("_moved"):
                    self._revert()
                kept = {} if fresh else {n: v for n, v in self.__dict__.items() if n in ("_used", "_rate")}
                self.__dict__.clear()
                self.__dict__.update(before | kept)
            raise
        finally:
            self.__dict__.pop("_moved", None)
        self.__dict__.update(self._fitted())

    def _train(self, X: Any, y: Any, sample_weight: Any, validation: Any, *, fresh: bool, partial: bool) -> None:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        self._check_settings(partial)
        x, targets, weights, validation = self._rows(X, y, sample_weight, validation, fresh, partial)
        epochs = 1 if partial else self.max_iter
        if fresh:
            self._begin(x)
        else:
            if "_trainer" in self.__dict__:
                self._trainer.check_free()  # before anything of it is changed
            self._go_on(x.shape[0], partial)
        trainer = self._trainer
        trainer.run.part = partial
        self._follow(targets, weights, fresh, partial)
        trainer.metrics, targets = self._metrics(), self._scaled(targets)
        data = {"X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
        of_fit = [*self._stopping(validation is not None), *fit_tasks(self, epochs, data, self._fitted)]
        trainer.callbacks = [*([] if partial else of_fit), *callbacks_of(self.callbacks)]
        size, more = self._batch_size(x.shape[0]), self._weighting()
        given: Any = {"batch_size": size, "shuffle": self.shuffle, "sample_weight": weights}
        source: Any = _for_network(x, trainer.network)
        if sparse.issparse(x):
            order = arrays.epochs_of(x.shape[0], trainer.seed, trainer.epoch, self.shuffle)
            least = trainer.network.chain.least_rows
            source = arrays.SparseBatches(x, *self._of_rows(targets, weights), size, least, order, self._batch)
            targets, given, more = None, {}, {}
        if validation is not None:
            watched = validation[0].toarray() if sparse.issparse(validation[0]) else validation[0]
            validation = (_for_network(watched, trainer.network), self._scaled(validation[1]), *validation[2:])
        given |= {"validation_data": validation, "verbose": self.verbose, **more}
        try:
            trainer.fit(source, targets, epochs=epochs, **given)
        finally:
            trainer.callbacks = []  # some hold the data, and a pickle of the estimator must not

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, validation: Any, fresh: bool, partial: bool
    ) -> tuple[Any, Any, Any, Any]:
        """Features, targets and weights to train on, and the data to watch, given or set aside, or None."""
        x = self._features(X, "fit", reset=fresh)
        for value, what in ((y, "y"), (sample_weight, "sample_weight")):
            refuse_containers(value, what)
        check_consistent_length(x, y, sample_weight)
        targets = self._encoded(y, fresh)
        weights = self._row_weights(sample_weight, len(targets))
        if validation is not None:
            validation = self._validation(validation)
        elif self.early_stopping and not partial:
            kept, held = self._split(targets, weights)
            whole = (x, targets) if weights is None else (x, targets, weights)
            validation = tuple(arrays.rows(a, held) for a in whole)
            x, targets, *rest = (arrays.rows(a, kept) for a in whole)
            weights = rest[0] if rest else None
        return arrays.dense(x), targets, weights, validation

    def _check_settings(self, partial: bool) -> None:
        """Refuse what would otherwise be taken for something else, or not be looked at."""
        for name in ("shuffle", "early_stopping", "warm_start"):
            flag(getattr(self, name), name)
        loudness(self.verbose)
        for name in ("max_iter", "n_iter_no_change"):
            count(getattr(self, name), name)
        number(self.dropout, "dropout", high=1.0)
        if self.tol is not None:
            number(self.tol, "tol")
        fraction = self.validation_fraction
        if not isinstance(fraction, Real) or not 0 < fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {fraction!r}")
        if partial and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: it sets no rows aside")

    def _begin(self, x: Any) -> None:
        """A network and a trainer for data of this kind."""
        self._like = arrays.empty_like(x)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        hidden = self.hidden_layer_sizes
        hidden = list(hidden) if isinstance(hidden, Iterable) else [hidden]
        activation = list(self.activation) if isinstance(self.activation, (list, tuple)) else self.activation
        backend = arrays.backend_for(x, self.backend, self.device, self.dtype)
        network = mlp(
            [x.shape[1], *hidden, self.n_outputs_], activation, dropout=float(self.dropout),
            normalization=self.normalization, backend=backend, seed=seed,
        )  # fmt: skip
        network.link = self._link()
        optimizer, self._rate = self._optimizer(x.shape[0], 0)
        self._used = self._settings()
        self._trainer = self._trainer_of(network, optimizer, seed)

    def _go_on(self, rows: int, partial: bool) -> None:
        """Use the settings of now, as far as what has been learnt allows; refuse the others."""
        self._adopt()
        settings, used = self._settings(), self.__dict__.get("_used", {})
        changed = [name for name, old in used.items() if not alike(settings[name], old)]
        for name in [name for name in changed if name in self._fixed]:
            raise ValueError(
                f"{name} was {used[name]!r} when training began and cannot become {settings[name]!r} now: fit anew "
                "with warm_start=False, or a fresh clone of the estimator"
            )
        if not changed and self._rate.end is None:
            return
        self._rate, self._used = self._changed(rows, partial), settings

    def _changed(self, rows: int, partial: bool) -> "Rate":
        """Go on with another learning rate, other penalties, another optimizer of the same kind."""
        trainer, before = self._trainer, (self._used["metrics"], self._used["monitor"])
        names = [[metric.name for metric in _measured(*each)] for each in (before, (self.metrics, self.monitor))]
        if names[0] != names[1]:
            raise ValueError(f"metrics and monitor are those of the first fit, {names[0]}; got {names[1]}")
        old, optimizer, latest = trainer.optimizer, *self._optimizer(rows, trainer.steps)
        if type(optimizer) is not type(old) or optimizer.slots != old.slots:
            raise ValueError(
                f"optimizer was {old!r} when training began and cannot become {self.optimizer!r} now, whose state is "
                "another: fit anew with warm_start=False, or a fresh clone of the estimator"
            )
        if alike(latest.wanted, self._rate.wanted):
            optimizer, latest = replace(optimizer, lr=self._same_rate(trainer, self._rate, partial)), self._rate
        else:
            trainer.lr_scale = 1.0  # a callback had scaled the rate of before
        trainer.change(optimizer=optimizer, l1=self.l1, l2=self._l2(), clip_norm=self.clip_norm)
        return latest

    def _settings(self) -> dict[str, Any]:
        """Those that a later call may find changed."""
        return {name: frozen(getattr(self, name)) for name in (*self._fixed, *_CHANGING)}

    def _same_rate(self, trainer: Trainer, latest: "Rate", partial: bool) -> Any:
        """The learning rate where the setting is that of before: what the optimizer has."""
        if latest.end is None:
            return trainer.optimizer.lr
        if not partial:
            raise ValueError(
                f"learning_rate={self.learning_rate!r} ended with the first fit, after max_iter epochs: to go on from "
                "there take a rate or a schedule of your own, or fit anew with warm_start=False"
            )
        return trainer.optimizer.lr if trainer.steps < latest.end else latest.wanted[1]

    def _trainer_of(self, network: Network, optimizer: Optimizer, seed: int) -> Trainer:
        return Trainer(
            network, loss=self._loss(), optimizer=optimizer, metrics=self._metrics(), seed=seed, l1=self.l1,
            l2=self._l2(), clip_norm=self.clip_norm,
        )  # fmt: skip

    def _l2(self) -> Any:
        return self._penalty if isinstance(self.l2, str) and self.l2 == "auto" else self.l2

    def _row_weights(self, sample_weight: Any, rows: int) -> Any:
        """Checked weights (N,) or (N, outputs) on the host, or None."""
        if sample_weight is None:
            return None
        host = host_array(arrays.host(sample_weight), "sample_weight")
        return weighting.given(host, rows, self.n_outputs_ if host.ndim == 2 else 1)

    def _fitted(self) -> dict[str, Any]:
        """The attributes that fitting sets, for the state that the trainer is in."""
        history = self._trainer.history
        watched, better = self._watched()
        curve = history.get(f"val_{watched}", [])
        known = [v for v in curve if math.isfinite(v)]
        return {
            "network_": self._finished(self._trainer.network),
            "history_": history,
            "loss_curve_": list(history.get("loss", [])),
            "validation_curve_": list(curve),
            "best_score_": better(known) if known else None,
            "n_iter_": len(history.get("loss", [])),
        }

    def _finished(self, network: Network) -> Network:
        """The network as users see it."""
        return network

    def _adopt(self) -> None:
        """Go on from what `network_` is now."""
        adopt(self._trainer.network, self.network_)

    def _follow(self, targets: Any, weights: Any, fresh: bool, partial: bool) -> None:
        """Take note of targets before training on them."""

    def _revert(self) -> None:
        """Forget them: training has failed."""

    def _scaled(self, targets: Any) -> Any:
        """Targets in the units that the network is trained in."""
        return targets

    def _of_rows(self, targets: Any, weights: Any) -> tuple[Any, Any]:
        """Targets and weights that can be taken row by row: gaps, classes and outputs are in the weights.

        They are brought to the mean 1 over all rows, or over all that came up to now.
        """
        loss, of_classes = self._loss(), self._weighting().get("class_weight")
        y, present = weighting.without_gaps(targets, "y", self.n_outputs_, loss.elementwise)
        trainer = self._trainer
        together = trainer.network.inputs.weights(
            weighting.product(weights, present), y, loss, self.n_outputs_, self.output_weight, of_classes
        )
        placed, trainer.run.mean = trainer.preparation.weighed(together, len(y), trainer.run.part)
        return y, None if placed is None else arrays.host(placed)

    def _batch(self, x: Any, y: Any, weights: Any) -> Batch:
        """Rows as the trainer takes them; they may all have the weight 0."""
        data, backend = self._trainer.preparation.data((x, y), ("X", "y")), self._trainer.network.backend
        return data if weights is None else data._replace(weights=backend.from_host(weights))

    def _optimizer(self, rows: int, steps_before: int) -> tuple[Optimizer, "Rate"]:
        """The optimizer of the settings, whose schedule begins after the steps `made` so far."""
        optimizer, wanted = optimizers.get(self.optimizer), self.learning_rate
        if isinstance(wanted, str) and wanted != "auto":
            if wanted not in _SCHEDULES:
                raise ValueError(unknown("learning_rate", wanted, ["auto", *_SCHEDULES]))
            steps, start = self.max_iter * len(self._spans(rows)), rate(optimizer.lr, 0)
            schedule = later(_SCHEDULES[wanted](start, total_steps=steps), steps_before)
            return replace(optimizer, lr=schedule), Rate((wanted, start), steps_before + steps)
        if isinstance(wanted, str):
            wanted = optimizer.lr
        return replace(optimizer, lr=later(wanted, steps_before)), Rate(wanted)

    def _spans(self, rows: int) -> list[tuple[int, int]]:
        """Where the batches of an epoch start and stop: a row alone has no variance to normalise by."""
        return spans(rows, self._batch_size(rows), least=2 if self.normalization == "batch" else 1)

    def _batch_size(self, rows: int) -> int:
        if isinstance(self.batch_size, str):
            if self.batch_size != "auto":
                raise ValueError(unknown("batch_size", self.batch_size, ["auto"]))
            return rows if rows <= 64 else min(max(rows // 32, 32), 200)
        return min(count(self.batch_size, "batch_size"), rows)

    # --- what is watched ----------------------------------------------------------------------------------------------

    def _watched(self) -> tuple[str, Any]:
        """The name of what `monitor` asks for, and whether its least or its largest value is the best."""
        monitor = self.monitor
        if monitor == "auto" or monitor == "loss":
            return "loss", min
        metric = metrics.get(monitor)
        return metric.name, min if metric.greater_is_better is False else max

    def _metrics(self) -> list[Any]:
        return _measured(self.metrics, self.monitor)

    def _stopping(self, validated: bool) -> list[Any]:
        patience = sys.maxsize if self.tol is None else count(self.n_iter_no_change, "n_iter_no_change")
        if not (self.early_stopping and validated):
            least = self.tol or 0.0
            return [EarlyStopping("loss", patience=patience, min_delta=least, mode="min", restore_best=False)]
        name, better = self._watched()
        return [EarlyStopping(f"val_{name}", patience=patience, mode=better.__name__)]

    # --- data ---------------------------------------------------------------------------------------------------------

    def _features(self, X: Any, method: str, reset: bool = False) -> Any:
        """Checked features: of NumPy, of scipy.sparse in rows, or under dispatch of the library that they came in."""
        if isinstance(X, np.ma.MaskedArray):
            raise ValueError("X is a masked array; its mask would be lost. Fill it or drop the rows: X.filled(...)")
        if not reset:
            check_is_fitted(self)
            arrays.check_same_kind(X, self._like, type(self).__name__, method)
        return self._validated(X, "X", reset)

    def _validated(self, X: Any, what: str, reset: bool) -> Any:
        X = arrays.readable(X, what)
        xp = array_namespace(X) if arrays.dispatched(X) else np
        try:
            return validate_data(self, X, accept_sparse="csr", dtype=[xp.float64, xp.float32], reset=reset)
        except TypeError:
            refuse_times(X, what)
            raise
        except RuntimeError as error:  # of torch, for a list of tensors
            raise TypeError(f"{what} cannot be read as an array: {error}") from error

    def _validation(self, data: Any) -> tuple[Any, ...]:
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise ValueError("validation_data must be (X, y) or (X, y, sample_weight)")
        x = self._validated(data[0], "X of the validation data", reset=False)
        check_consistent_length(x, *data[1:])
        return x, self._encoded(data[1], False), *(self._row_weights(w, x.shape[0]) for w in data[2:])

    def _split(self, targets: Any, weights: Any) -> tuple[Any, Any]:
        """Numbers of the rows to train on and to watch. Rows without weight are not split: they change nothing."""
        from sklearn.model_selection import train_test_split

        fraction = self.validation_fraction
        _, present = weighting.without_gaps(targets, "y", self.n_outputs_, self._loss().elementwise)
        w = weighting.product(weights, present)
        weighty = np.ones(len(targets), bool) if w is None else w.reshape(len(w), -1).max(axis=1) > 0
        rows = np.flatnonzero(weighty)
        held = math.ceil(fraction * len(rows))
        if not 0 < held < len(rows):
            raise ValueError(
                f"early stopping needs rows to train on and rows to watch: {len(rows)} of some weight are too few for "
                f"validation_fraction={fraction}. Pass validation_data, or use early_stopping=False."
            )
        strata = self._strata(targets[rows])
        if strata is not None:
            sizes = np.unique(strata, return_counts=True)[1]
            strata = strata if sizes.min() > 1 and len(sizes) <= min(held, len(rows) - held) else None
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        _, watched = train_test_split(rows, test_size=held, random_state=seed, stratify=strata)
        return np.setdiff1d(np.arange(len(targets)), watched), np.sort(watched)

    def _outputs(self, X: Any, method: str, function: Any) -> Any:
        """`function` of the features on the network's side, in the library of X."""
        x = self._features(X, method)
        return arrays.like(x, arrays.in_blocks(lambda part: function(_for_network(part, self.network_)), x))

    def input_gradient(self, X: Data, output: int = 0) -> Array:
        """The gradient of one of the network's outputs with respect to the features, for each row.

        Parameters
        ----------
        X : array (N, features)
        output : int
            Which: of a regressor a target, of a classifier a column of the decision function.

        Returns
        -------
        array (N, features)
        """
        check_is_fitted(self)
        network, k = self.network_, int(output)
        if not 0 <= k < network.out_features:
            raise ValueError(f"output must be one of 0 to {network.out_features - 1}, got {output!r}")

        def gradient(x: Any) -> Any:
            y, caches = network.forward(x)
            dy = np.zeros(tuple(y.shape), network.dtype)
            dy[:, k] = 1.0
            return network.backward(caches, dy)[0]

        return self._outputs(X, "input_gradient", gradient)

    # --- what the two estimators say ----------------------------------------------------------------------------------

    def _encoded(self, y: Any, fresh: bool) -> Any:
        """Targets as the loss takes them, on the host; their gaps are still masked or NaN."""
        raise NotImplementedError

    def _loss(self) -> Loss:
        raise NotImplementedError

    def _link(self) -> LinkName:
        return "identity"

    def _strata(self, targets: Any) -> Any:
        """What the two parts of a split should have equal shares of."""
        return None

    def _weighting(self) -> dict[str, Any]:
        """Keywords of `Trainer.fit` that weigh outputs and classes."""
        return {"output_weight": self.output_weight}


def _for_network(x: Any, network: Network) -> Any:
    """Features as the network takes them: device arrays of its own, else on the host."""
    backend = network.backend
    if owner(x) != backend.name or backend.name == "numpy" or backend.device_of(x) != str(backend.device):
        return arrays.host(x)
    return array_namespace(x).astype(x, backend.float_dtype)


def _measured(wanted: Any, monitor: Any) -> list[metrics.Metric]:
    """The metrics that are wanted, and what is monitored if that is one."""
    wanted = [wanted] if isinstance(wanted, str) or callable(wanted) else list(wanted)
    if monitor not in ("auto", "loss"):
        wanted.append(monitor)
    by_name: dict[str, metrics.Metric] = {}
    for metric in map(metrics.get, wanted):
        if metric.name in _TAKEN or by_name.setdefault(metric.name, metric).function is not metric.function:
            raise ValueError(f"the name of the metric {metric.name!r} is taken: give the function another __name__")
    return list(by_name.values())
