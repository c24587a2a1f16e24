"""The classifier: two classes, several, or several labels a row."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.base import ClassifierMixin
from sklearn.utils import _safe_indexing
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from xmlp import losses
from xmlp.estimators import arrays
from xmlp.estimators.alone import alone
from xmlp.estimators.base import BaseMLP
from xmlp.estimators.protocol import with_callbacks
from xmlp.estimators.settings import loss_named
from xmlp.host.arrays import host_array, refuse_containers
from xmlp.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from xmlp.metrics.base import of_classes
from xmlp.network.row_weights import by_class
from xmlp.types import Array, ClassWeights, Data, Labels, LinkName


@dataclass(repr=False, eq=False)
class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that predicts classes, on scikit-learn's protocol.

    Two classes have one output with a sigmoid, several classes a softmax, several labels a row (a matrix of 0 and 1) an
    output with a sigmoid each. Labels that are missing have the weight 0: masked in a NumPy masked array, or NaN in a
    matrix.

    Parameters
    ----------
    class_weight : dict of label to weight, "balanced", or a list of those, optional
        Labels that a dict leaves out have the weight 1. One that is no class is an error, unless all classes have
        weights, as scikit-learn has it. Several labels a row take a list, one for each output, or one
        for all.
    **others
        Those of `xmlp.estimators.base.BaseMLP`: `hidden_layer_sizes`, `activation`, `dropout`, `optimizer`, ...

    Attributes
    ----------
    classes_ : array (classes,)
        The labels; of several labels a row their numbers.

    Examples
    --------
    >>> import xmlp
    >>> data = xmlp.data.load("digits")
    >>> model = xmlp.MLPClassifier((32,), max_iter=20, random_state=0).fit(data.x_train / 16, data.y_train)
    >>> float(model.score(data.x_test / 16, data.y_test)) > 0.9
    True
    """

    _: KW_ONLY
    class_weight: ClassWeights | None = None

    _penalty: ClassVar[float] = 1e-4

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @alone
    @with_callbacks
    def fit(
        self, X: Data, y: Labels, sample_weight: Data | None = None, *,
        validation_data: tuple[Data, Labels] | tuple[Data, Labels, Data | None] | None = None,
    ) -> "MLPClassifier":  # fmt: skip
        """Train.

        Parameters
        ----------
        X : array (N, features), data frame, or sparse matrix
        y : array (N,) of labels, or (N, outputs) of 0 and 1
        sample_weight : array (N,), optional
            For several labels a row also (N, outputs). Their scale has no effect, and a weight k is k repetitions of
            the row: exactly with all rows in one batch, on average in minibatches, whose gradients are divided by their
            rows. Of 20,000 rows with 40 of a rarer class that are balanced, a batch of 32 with one of these has a
            gradient 16 times as large as one without.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Measured after each epoch, into `validation_curve_`.
        """
        fresh = not (self.warm_start and hasattr(self, "network_"))
        self._fit(X, y, sample_weight, validation_data, fresh=fresh, partial=False)
        return self

    @alone
    def partial_fit(
        self, X: Data, y: Labels, classes: Labels | None = None, sample_weight: Data | None = None
    ) -> "MLPClassifier":  # fmt: skip
        """One pass over these rows, from where the network and the optimizer are.

        Parameters
        ----------
        classes : array, optional
            All labels that will ever occur; needed in the first call, unless the rows have several labels.
        sample_weight : array (N,) or (N, outputs), optional
            Divided by the mean weight of all rows so far: their scale has no effect, also where rows come one by one.
        """
        fresh = not hasattr(self, "network_")
        each = self.class_weight if isinstance(self.class_weight, (list, tuple)) else [self.class_weight]
        if any(isinstance(weight, str) for weight in each):
            raise ValueError('class_weight="balanced" needs all rows at once: give partial_fit the weights as a dict')
        if fresh and classes is None and arrays.axes(y) < 2:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        known = None if classes is None else unique_labels(arrays.host(classes))
        if known is not None and not fresh and not np.array_equal(known, self.classes_):
            raise ValueError(f"the classes are {self.classes_}, those of the first call; got {classes}")
        self._known = known
        try:
            self._fit(X, y, sample_weight, fresh=fresh, partial=True)
        finally:
            self.__dict__.pop("_known", None)
        return self

    def score(self, X: Data, y: Labels, sample_weight: Data | None = None) -> float:
        """The share of the rows whose labels are all predicted; rows of which a label is missing do not count.

        Parameters
        ----------
        X : array (N, features)
        y : array (N,) or (N, outputs)
        sample_weight : array (N,) or (N, outputs), optional
        """
        if arrays.axes(sample_weight) == 2:
            sample_weight = host_array(arrays.host(sample_weight), "sample_weight").mean(axis=1)
        labels = _labels(y)
        missing = _missing(labels).reshape(len(labels), -1).any(axis=1)
        if getattr(getattr(y, "dtype", None), "kind", "") == "O" and labels.dtype.kind in "biuf":
            y = np.ma.getdata(labels)  # numbers among objects are numbers, as in `fit`
        if missing.any():
            known = np.flatnonzero(~missing)
            X, y = _safe_indexing(X, known), np.ma.getdata(labels)[known]
            sample_weight = None if sample_weight is None else _safe_indexing(sample_weight, known)
        return float(super().score(X, y, sample_weight))

    def predict(self, X: Data) -> Array:
        """Labels (N,), or (N, outputs) of 0 and 1; with the thresholds of the network, if it has any."""
        decided = arrays.host(self._outputs(X, "predict", self._decided))
        labels = decided if self._task == "multilabel" else self.classes_[decided]
        return arrays.like(X, labels) if labels.dtype.kind in "biuf" else labels

    def _decided(self, x: Any) -> Array:
        """Numbers of classes (N,), or 0 and 1 for each of several labels."""
        if self._task == "multiclass":
            return arrays.host(self.network_.predict(x)).argmax(axis=1)
        if self.network_.thresholds is not None:
            return arrays.host(self.network_.predict_label(x)).astype(np.int64)
        positive = (arrays.host(self.network_.predict(x)) > self._half).astype(np.int64)
        return positive[:, 0] if self._task == "binary" else positive

    @property
    def _half(self) -> float:
        """The output of a network that holds two outcomes for equally probable."""
        link = self.network_.link_object
        return 0.0 if link.of_logits else link.threshold

    def decision_function(self, X: Data) -> Array:
        """The raw outputs, positive where a label is likelier than not: (N,) for two classes, else (N, outputs)."""
        z = self._outputs(X, "decision_function", lambda x: self.network_.predict(x) - self._half)
        return z[:, 0] if self._task == "binary" else z

    def predict_proba(self, X: Data) -> Array:
        """Probabilities (N, classes), or (N, outputs) of each label; after `network_.calibrate` the calibrated ones."""
        return self._outputs(X, "predict_proba", lambda x: np.exp(self._log_probabilities(x)))

    def predict_log_proba(self, X: Data) -> Array:
        """The logarithms of `predict_proba`, exact where those round to 0 or 1."""
        return self._outputs(X, "predict_log_proba", self._log_probabilities)

    def _log_probabilities(self, x: Any) -> Array:
        z = arrays.host(self.network_.predict(x)) / np.asarray(self.network_.temperature, self.network_.dtype)
        if not self.network_.link_object.of_logits:
            return _log_shares(z, self._task)
        if self._task == "binary":
            z = np.concatenate([-z, z], axis=1)
        if self.network_.link == "sigmoid":
            log_p = -np.logaddexp(np.zeros((), z.dtype), -z)
            if self._task != "multiclass":
                return log_p
            z = log_p  # one output by itself for each class: as shares of their sum
        return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

    # --- targets ------------------------------------------------------------------------------------------------------

    def _encoded(self, y: Any, fresh: bool) -> Any:
        y = _labels(y)
        missing = _missing(y)
        filled = np.ma.getdata(y)
        if missing.any():
            if missing.all():
                raise ValueError("Input y contains no label: every one of them is missing")
            filled = np.where(missing, filled[~missing][0], filled)
        if fresh:
            self._set_task(filled)
        if self._task == "multilabel":
            if filled.ndim != 2 or filled.shape[1] != self.n_outputs_:
                raise ValueError(f"y must be (N, {self.n_outputs_}), labels of 0 and 1, got the shape {filled.shape}")
            return np.where(missing, np.nan, filled)
        labels = column_or_1d(filled, warn=True)
        encoded = np.minimum(np.searchsorted(self.classes_, labels), len(self.classes_) - 1)
        if (strange := self.classes_[encoded] != labels).any():
            raise ValueError(
                f"y holds the label {labels[strange].tolist()[0]!r}; the classes are {self.classes_.tolist()}"
            )
        targets = encoded
        if not isinstance(self._loss(), SoftmaxCrossEntropy):
            targets = encoded[:, None] if self._task == "binary" else np.eye(len(self.classes_))[encoded]
        if not missing.any():
            return targets
        gaps = missing.reshape(-1, *[1] * (targets.ndim - 1))
        return np.ma.masked_array(targets, np.broadcast_to(gaps, targets.shape))

    def _set_task(self, y: Any) -> None:
        """What kind of labels there are, and which."""
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multilabel-indicator" or (y.ndim == 2 and y.shape[1] > 1 and set(np.unique(y)) <= {0, 1}):
            self._task, self.n_outputs_ = "multilabel", y.shape[1]
            self.classes_ = np.arange(self.n_outputs_)
            return
        if kind == "multiclass-multioutput":
            raise ValueError("y has several columns of classes; give one column, or labels of 0 and 1")
        known = self.__dict__.get("_known")
        self.classes_ = np.unique(column_or_1d(y)) if known is None else known
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_.tolist()[0]!r}; at least 2 classes are needed")
        self._task = "binary" if len(self.classes_) == 2 else "multiclass"
        self.n_outputs_ = 1 if self._task == "binary" else len(self.classes_)

    def _loss(self) -> Loss:
        several = self._task == "multiclass"
        loss = loss_named(self.loss, SoftmaxCrossEntropy() if several else BinaryCrossEntropy())
        if isinstance(loss, SoftmaxCrossEntropy) and not several:
            kind = "two classes have one output" if self._task == "binary" else "each label has an output of its own"
            raise ValueError(f'{kind}, a sigmoid: take loss="binary_cross_entropy" instead of {loss.name}')
        link = loss.output_link
        if not (link.is_identity or link.of_logits):
            raise ValueError(
                f"a classifier has raw outputs, and the {loss.name} is of outputs through the link {link.name!r}: "
                'take loss="auto"'
            )
        return loss

    def _metrics(self) -> list[Any]:
        """Of one-hot outputs those of the class with the largest, as `predict` decides."""
        measured = super()._metrics()
        if self._task != "multiclass" or not self._loss().elementwise:
            return measured
        return [m._replace(function=_OfClass(m.function), needs="outputs") if m.needs == "labels" else m
                for m in measured]  # fmt: skip

    def _link(self) -> LinkName:
        several, loss = self._task == "multiclass", self._loss()
        if loss.output_link.is_identity and type(loss) in losses.LOSSES.values():  # of 0 and 1 as numbers
            return "class_probability" if several else "event_probability"
        return "softmax" if several else "sigmoid"

    def _strata(self, targets: Any) -> Any:
        if self._task == "multilabel":
            return None
        y = np.ma.getdata(targets)
        return y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)

    def _weighting(self) -> dict[str, Any]:
        return {"output_weight": self.output_weight, "class_weight": self._class_weights()}

    def _class_weights(self) -> Any:
        """`class_weight` by the numbers of the classes."""
        given = self.class_weight
        if self._task == "multilabel" and isinstance(given, (list, tuple)):
            return [_of_labels(w, [0, 1]) for w in given]
        return _of_labels(given, [0, 1] if self._task == "multilabel" else self.classes_.tolist())


@dataclass(frozen=True)
class _OfClass:
    """A metric of labels, of one-hot targets and the outputs for each class."""

    function: Any

    def __call__(self, targets: Any, outputs: Any, **of_rows: Any) -> float:
        of_rows = {name: w.mean(axis=1) if w is not None and w.ndim == 2 else w for name, w in of_rows.items()}
        function = of_classes(self.function, outputs.shape[1])
        return float(function(targets.argmax(axis=1), outputs.argmax(axis=1), **of_rows))


def _log_shares(outputs: Array, task: str) -> Array:
    """Logarithms of probabilities, from outputs that were fitted to 0 and 1: between them, and of classes shares."""
    p = np.clip(outputs, 0.0, 1.0)
    if task == "binary":
        p = np.concatenate([1.0 - p, p], axis=1)
    elif task == "multiclass":
        total = p.sum(axis=1, keepdims=True)
        p = np.where(total > 0, p / np.where(total > 0, total, 1.0), np.asarray(1.0 / p.shape[1], p.dtype))
    with np.errstate(divide="ignore"):
        return np.log(p)


def _labels(y: Any) -> Any:
    """Labels on the host, an array or a masked one."""
    refuse_containers(y, "y")
    y = arrays.host(y.toarray() if sparse.issparse(y) else y, "y")
    y = y if isinstance(y, np.ma.MaskedArray) else np.asarray(y)
    if y.dtype.kind != "O":
        return y
    _refuse_missing(y)
    numbers = y if isinstance(y, np.ma.MaskedArray) else np.asarray(y.tolist())
    return numbers if numbers.dtype.kind in "biuf" and numbers.shape == y.shape else y


def _refuse_missing(labels: Any) -> None:
    """Refuse None and NaN among objects: they have no order among the labels, and would be a class of their own."""
    known = np.ma.getdata(labels).reshape(-1)
    hidden = np.ma.getmaskarray(labels).reshape(-1)
    for row, label in enumerate(known):
        if not hidden[row] and (label is None or type(label).__name__ in ("NAType", "NaTType") or label != label):
            raise ValueError(
                f"y holds a missing label, {label!r}, in row {row // (labels.size // len(labels))}. Drop such rows, or "
                "mask the labels: numpy.ma.masked_array(y, missing)."
            )


def _of_labels(given: Any, labels: list[Any]) -> Any:
    """Weights by the number of the label."""
    if not isinstance(given, Mapping):
        return given
    return dict(enumerate(by_class(given, labels)))


def _missing(y: Any) -> Any:
    """Where labels are masked, or NaN in a matrix."""
    missing = np.array(np.ma.getmaskarray(y))
    if y.ndim == 2 and y.dtype.kind == "f" and y.shape[1] > 1:
        missing = missing | np.isnan(np.ma.getdata(y))
    return missing
