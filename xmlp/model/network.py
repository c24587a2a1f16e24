"""A network: a chain of layers with its parameters, for people: what they call is checked, and comes back their way."""

import copy
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from array_api_compat import array_namespace

from xmlp import losses as loss_functions
from xmlp.backends import Backend, BackendLike
from xmlp.backends import backend as backend_named
from xmlp.backends.views import Views
from xmlp.errors import CheckpointError, OutOfMemoryError
from xmlp.host import files, memory, seeds
from xmlp.host.scalars import plain
from xmlp.host.settings import number
from xmlp.layers import COARSE, Layer, LayerLike, Standardize, centred, chain_of
from xmlp.losses import Link, Loss, LossLike
from xmlp.metrics import MetricLike
from xmlp.network import configs, decisions, saved
from xmlp.network.calculus import InputDerivatives
from xmlp.network.chain import Chain
from xmlp.network.decisions import Score
from xmlp.network.functions import Functions, Rows
from xmlp.network.inputs import Inputs, count, fitting_loss
from xmlp.network.layout import Gradients, Layout
from xmlp.network.loss_functions import LossFunctions
from xmlp.network.objective import Objective
from xmlp.network.predictor import Predictor
from xmlp.network.summary import summary
from xmlp.network.vectors import Vectors
from xmlp.optimizers import OptimizerLike
from xmlp.types import (
    Array,
    Batches,
    Callback,
    ClassWeights,
    Data,
    Dtype,
    LinkName,
    OnNonfinite,
    ThresholdMetricName,
)  # fmt: skip

if TYPE_CHECKING:
    from xmlp.training.history import History


class Caches(list[Any]):
    """What `Network.forward` keeps for `Network.backward`: one cache per layer."""

    def __init__(self, caches: list[Any], training: bool):
        super().__init__(caches)
        self.training = training


class Network:
    """A chain of layers on one backend.

    Parameters
    ----------
    layers : sequence of Layer
        A string is an activation.
    in_features : int
    backend : str or Backend
    dtype : {"float32", "float64"}
    seed : int
        Initial weights follow from it alone: the same on every backend.

    Attributes
    ----------
    chain : Chain
        The layers as pure functions of arrays.
    theta : array (P,)
        All parameters: first the arrays of all layers that decay, then those that do not; `layout.slots` says where
        each lies. Assigning copies the values in.
    stats : array (S,)
        Statistics that layers keep but do not learn.
    link : str
        The name of what turns the raw outputs into predictions, as "identity", "sigmoid" or "softmax". Set by the loss
        at training; assign a name or a `xmlp.losses.Link`. The link itself is `link_object`.
    metadata : dict
        Anything JSON can hold; saved and loaded with the network.
    temperature : float
        What logits are divided by on the way to probabilities; set by `calibrate`.
    thresholds : list of float, optional
        The decision thresholds of the outputs unless the caller gives others; set by `tune_thresholds`.

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> network = xmlp.Network([xmlp.layers.Dense(8, activation="tanh"), xmlp.layers.Dense(1)], in_features=2)
    >>> network.predict(np.zeros((5, 2))).shape
    (5, 1)
    """

    trained_by: ClassVar[Any] = None  # the class of trainers that `fit` makes

    def __init__(
        self, layers: Sequence[LayerLike], in_features: int, *, backend: BackendLike = "numpy",
        dtype: Dtype = "float32", seed: int = 0,
    ):  # fmt: skip
        there = backend_named(backend, dtype=dtype)
        eps = float(there.xp.finfo(there.float_dtype).eps)
        self._describe(centred(chain_of(layers), count(in_features, "in_features"), eps), in_features, there, seed)
        try:
            put = self.backend.from_host
            theta, stats = put(self.layout.initial(self.seed)), put(self.stats_layout.initial(self.seed))
            self._vectors = Vectors(self.chain, self.inputs, theta, stats)
        except MemoryError as error:
            needed, free = 8 * self.layout.size, memory.free()  # they are drawn in double precision
            told = f"{self.layout.size} parameters need {memory.shown(needed)}, {memory.shown(free)} is free"
            raise OutOfMemoryError(f"{told}: use smaller layers", needed, free) from error

    def _describe(self, layers: Sequence[LayerLike], in_features: int, backend: Backend, seed: int) -> None:
        """Everything but the vectors: nothing here takes memory in proportion to the sizes of the layers."""
        self.chain = Chain(layers, in_features, backend)
        self.seed = seeds.check_seed(seed)
        self.link_object = self.chain.output_link
        self.metadata: dict[str, Any] = {}
        self._temperature = 1.0
        self._thresholds: list[float] | None = None
        self.predictor = Predictor(self.chain)
        self.evaluations = Functions(self.chain)
        self._input_derivatives = InputDerivatives(self.chain)
        self.inputs = Inputs(backend, self.in_features, getattr(self.layers[0], "offset", ()))
        self.in_training = threading.Lock()  # held by the trainer that is in a fit

    # --- what it is -------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.chain.widths))
        return f"Network({sizes}, parameters={self.layout.size}, backend={self.backend.name!r}, dtype={self.dtype!r})"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the inputs to the outputs."""
        return self.chain.layers

    @property
    def in_features(self) -> int:
        """Columns of x."""
        return self.chain.in_features

    @property
    def out_features(self) -> int:
        """Columns of what `predict` gives."""
        return self.chain.out_features

    @property
    def layout(self) -> Layout:
        """Where in theta the arrays of each layer lie."""
        return self.chain.layout

    @property
    def stats_layout(self) -> Layout:
        """Where in stats the arrays of each layer lie."""
        return self.chain.stats_layout

    @property
    def backend(self) -> Backend:
        """What it computes with."""
        return self.chain.backend

    @property
    def dtype(self) -> Dtype:
        """Of all its numbers."""
        return self.backend.dtype

    @property
    def theta(self) -> Array:
        """All parameters, (P,); assigning copies the values in."""
        return self._vectors.theta

    @theta.setter
    def theta(self, value: Data) -> None:
        self._vectors.assign("theta", value)

    @property
    def stats(self) -> Array:
        """All statistics, (S,); assigning copies the values in."""
        return self._vectors.stats

    @stats.setter
    def stats(self, value: Data) -> None:
        self._vectors.assign("stats", value)

    @property
    def vectors(self) -> dict[str, Array]:
        """theta and stats by name."""
        return self._vectors.named()

    @property
    def link(self) -> str:
        """The name of what turns raw outputs into predictions."""
        return self.link_object.name

    @link.setter
    def link(self, value: LinkName | Link) -> None:
        self.link_object = loss_functions.link(value)

    @property
    def temperature(self) -> float:
        """What logits are divided by on the way to probabilities."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._temperature = number(plain(value), "temperature", above=True)

    @property
    def thresholds(self) -> list[float] | None:
        """The decision thresholds of the outputs, if they were tuned."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, value: float | Data | None) -> None:
        self._thresholds = None if value is None else self.inputs.thresholds(value, self.out_features)

    @property
    def parameters(self) -> list[Views]:
        """Per layer the named arrays: views of theta where the library has views. Assigning copies the values in."""
        return self._vectors.views("theta")

    @parameters.setter
    def parameters(self, value: Sequence[Mapping[str, Array]]) -> None:
        for views, arrays in zip(self.parameters, value, strict=True):
            views.update(arrays)

    @property
    def statistics(self) -> list[Views]:
        """Per layer the arrays that are kept but not learned. Assigning copies the values in."""
        return self._vectors.views("stats")

    @statistics.setter
    def statistics(self, value: Sequence[Mapping[str, Array]]) -> None:
        self._vectors.pack("stats", value)

    def commit(self, theta: Array, stats: Array) -> None:
        """Take the result of training, arrays of the backend, as the network's own."""
        self._vectors.commit(theta, stats)

    def summary(self) -> str:
        """A table of the layers: outputs, parameters, settings.

        >>> import xmlp
        >>> print(xmlp.mlp([2, 3, 1]).summary())
        layer          outputs  parameters
        0 Dense              3           9  activation=relu
        1 Dense              1           4
        link identity                   13
        """
        return summary(self.chain, self.link)

    # --- for people -------------------------------------------------------------------------------------------------

    def predict(self, x: Data, batch_size: int | None = None) -> Array:
        """Raw outputs (N, out_features), through no link; see `predict_response` and `predict_proba`.

        Parameters
        ----------
        x : array (N, in_features) or (in_features,)
            A host array gives a host array, a device array of this backend a device array.
        batch_size : int, optional
            Rows that are computed at a time.
        """
        return self._outputs(x, batch_size, None)

    def predict_response(self, x: Data, batch_size: int | None = None) -> Array:
        """The raw outputs through the link, (N, out_features): probabilities after a cross-entropy, means after a loss
        with a link of its own, and the outputs as they are without one.
        """
        return self._outputs(x, batch_size, self.link_object)

    def predict_proba(self, x: Data, batch_size: int | None = None) -> Array:
        """Probabilities (N, out_features): the raw outputs through the link."""
        if not self.link_object.probabilities:
            raise ValueError(
                f'this network has link "{self.link}": it was not trained with a cross-entropy. '
                'Use predict, or set network.link to "sigmoid" or "softmax".'
            )
        return self._outputs(x, batch_size, self.link_object)

    def _outputs(self, x: Data, batch_size: int | None, link: Link | None) -> Array:
        features, to_caller = self.inputs.features(x)
        return to_caller(self.compute(features, link=link, batch_size=batch_size))

    def compute(
        self, x: Array, *, link: Link | None = None, raw: bool = False, batch_size: int | None = None
    ) -> Array:  # fmt: skip
        """The outputs for checked rows on the device, in inference mode: raw, as they are, or through a link.

        They are computed in blocks of `batch_size` rows; what does not fit on the device in halves.
        """
        return self.predictor.outputs(
            self.theta, self.stats, x, link=link, raw=raw, temperature=self._temperature, batch_size=batch_size
        )

    def predict_label(
        self, x: Data, thresholds: float | Data | None = None, batch_size: int | None = None
    ) -> Array:  # fmt: skip
        """Decisions: the class with the largest output (N,), or for a sigmoid link 1 where p > threshold, else 0.

        Parameters
        ----------
        thresholds : float or array (out_features,), optional
            For a sigmoid link, one for all or one per output; by default those of `tune_thresholds`, else 0.5. The
            comparison is strict (document 002, eq. 8). The result is (N, out_features) integers, (N,) for one output.
        """
        if self.link_object.outcome == "class":
            if thresholds is not None:
                raise ValueError("thresholds belong to a sigmoid link; a softmax decides for the largest output")
            y = self.predict(x, batch_size)
            xp = array_namespace(y)
            return xp.argmax(y, axis=-1)
        p = self.predict_proba(x, batch_size)
        xp = array_namespace(p)
        kept = self.link_object.threshold if self.thresholds is None else self.thresholds
        limits = self.inputs.thresholds(kept if thresholds is None else thresholds, self.out_features)
        decided = [xp.astype(p[:, k] > limits[k], xp.int32) for k in range(self.out_features)]
        return decided[0] if len(decided) == 1 else xp.stack(decided, axis=-1)

    def tune_thresholds(
        self,
        x: Data,
        y: Data,
        metric: ThresholdMetricName | Score = "f1",
        *,
        sample_weight: Data | None = None,
        batch_size: int | None = None,
    ) -> list[float]:
        """Find for each output the threshold whose decisions on this data score best; `predict_label` then uses them.

        Every threshold that makes a difference is tried. Take data that the network was not trained on, and tune again
        after more training or another `calibrate`.

        Parameters
        ----------
        x : array (N, in_features)
        y : array (N, out_features)
            0 and 1; what is missing (NaN, masked) does not count.
        metric : str or callable
            "f1", "accuracy", "balanced_accuracy", "precision", "recall", or a function of the counts of all thresholds
            at once, ``(tp, fp, fn, tn) -> scores``.
        sample_weight : array (N,) or (N, out_features), optional

        Returns
        -------
        list of float
            The thresholds, which are also kept in the attribute `thresholds` and saved with the network.

        Raises
        ------
        ValueError
            If the network has no sigmoid link.
        """
        if self.link_object.outcome != "event":
            raise ValueError(f"thresholds belong to a sigmoid link, this network has {self.link!r}")
        score = decisions.score_named(metric)
        x, truth, weights = self.inputs.outcomes(x, y, sample_weight, self.link_object, self.out_features)
        p = self.backend.to_host(self.compute(x, link=self.link_object, batch_size=batch_size))
        self.thresholds = decisions.best_thresholds(p, truth > 0.5, weights, score)
        return list(self.thresholds)

    def calibrate(
        self, x: Data, y: Data, *, sample_weight: Data | None = None, batch_size: int | None = None
    ) -> float:  # fmt: skip
        """Find the temperature T for which the probabilities link(z / T) fit this data best; `predict_proba` uses it.

        The negative log-likelihood of the data does not become worse. Thresholds are forgotten: they were tuned for
        other probabilities. Take data that the network was not trained on.

        Parameters
        ----------
        x : array (N, in_features)
        y : array
            Labels, one-hot rows, or 0 and 1, as the cross-entropy takes them.
        sample_weight : array (N,), optional
            For a sigmoid link also (N, out_features).

        Returns
        -------
        float
            T, which is also kept in the attribute `temperature` and saved with the network.

        Raises
        ------
        ValueError
            If the network has no sigmoid or softmax link.
        """
        if not self.link_object.of_logits:
            raise ValueError(f'a network with link "{self.link}" has no probabilities to calibrate')
        x, targets, weights = self.inputs.outcomes(x, y, sample_weight, self.link_object, self.out_features)
        logits = self.backend.to_host(self.compute(x, raw=self.chain.output_link.probabilities, batch_size=batch_size))
        self.temperature = decisions.best_temperature(logits, targets, weights, self.link_object)
        self.thresholds = None
        return self.temperature

    def forward(self, x: Data, training: bool = False, *, seed: int = 0, step: int = 0) -> tuple[Array, Caches]:
        """y and the caches for `backward`; (seed, step) choose the dropout masks in training."""
        keys = self.chain.keys(seed, step) if training else None
        x = self.inputs.floats(self.inputs.features(x)[0])
        y, caches = self.chain.pass_forward(self.theta, self.stats, x, training=training, keys=keys)
        return y, Caches(caches, training)

    def pass_forward(self, theta: Array, stats: Array, x: Array, **options: Any) -> tuple[Array, list[Any]]:
        """The forward pass as a pure function of arrays of the backend, for transformations of other libraries; see
        `xmlp.network.chain.Chain.pass_forward`.
        """
        return self.chain.pass_forward(theta, stats, x, **options)

    def backward(self, caches: Caches, dy: Data) -> tuple[Array, Gradients]:
        """dx and the gradients of the parameters, from the gradient with respect to the outputs."""
        if not isinstance(caches, Caches) or len(caches) != len(self.layers):
            raise ValueError(
                "backward needs the caches that forward returned: call y, caches = network.forward(x) first"
            )
        dy = self.inputs.matrix(dy, "dy", self.out_features)
        dx, grads = self.chain.pass_backward(self.theta, self.stats, caches, dy, training=caches.training)
        assert dx is not None
        return dx, grads

    def value_and_grad(
        self, x: Data, y: Data, loss: LossLike, *, sample_weight: Data | None = None, theta: Data | None = None
    ) -> tuple[Array, Gradients]:
        """The loss of a batch, a 0-d array, and its gradient with respect to all parameters.

        Parameters
        ----------
        x : array (N, in_features)
        y : array
            Targets as the loss takes them.
        loss : Loss, str, or object with fn and deriv
        sample_weight : array (N,), optional
        theta : array (P,), optional
            Parameters to use instead of the network's own.

        Returns
        -------
        loss, grads
            `grads` is nested as `parameters`; `grads.flat` is the vector.
        """
        loss, rows, theta = self._problem(x, y, loss, sample_weight, theta)
        value, flat = self.evaluations.value_and_grad(loss, self.vectors, rows, theta)
        return value, Gradients(self.layout, flat)

    def loss_value(
        self, x: Data, y: Data, loss: LossLike, *, sample_weight: Data | None = None, theta: Data | None = None
    ) -> Array:  # fmt: skip
        """The loss of a batch, a 0-d array: one forward pass; the arguments are those of `value_and_grad`."""
        loss, rows, theta = self._problem(x, y, loss, sample_weight, theta)
        return self.evaluations.value(loss, self.vectors, rows, theta)

    def _problem(
        self, x: Data, y: Data, loss: LossLike, sample_weight: Data | None, theta: Data | None
    ) -> tuple[Loss, Rows, Array | None]:  # fmt: skip
        """The checked arguments of a loss."""
        loss = loss_functions.get(loss)
        x, targets, weights = self.inputs.batch(x, y, sample_weight, loss, self.out_features)
        if theta is not None:
            theta = self.inputs.vector(theta, "theta", self.layout.size)
        return loss, Rows(x, targets, self.inputs.placed(weights, loss)), theta

    def functions(
        self, x: Data, y: Data, loss: LossLike, *, sample_weight: Data | None = None, l1: float = 0.0, l2: float = 0.0
    ) -> LossFunctions:
        """The loss of these rows and its derivatives as functions of theta (P,), on host arrays, ready for SciPy.

        ``value``, ``value_and_grad``, ``hvp`` and ``gnvp`` (products with the Hessian and the Gauss-Newton matrix),
        ``hessian``, ``operator``; for the squared error ``residuals`` and their ``jacobian``. They are of the network
        in inference mode, with the penalties l1 sum |w| + l2 sum w^2, and do not change it.

        Parameters
        ----------
        x, y, loss, sample_weight
            As for `value_and_grad`.
        l1, l2 : float
            Penalties on the parameters that decay.

        Examples
        --------
        >>> import numpy as np, xmlp
        >>> x = np.linspace(-1, 1, 50)[:, None]
        >>> network = xmlp.mlp([1, 8, 1], activation="tanh", dtype="float64", seed=0)
        >>> f = network.functions(x, np.sin(3 * x), "squared_error")
        >>> value, gradient = f.value_and_grad(network.theta)
        >>> f.hvp(network.theta, gradient).shape, f.jacobian(network.theta).shape
        ((25,), (50, 25))
        """
        loss, rows, _ = self._problem(x, y, loss, sample_weight, None)
        penalties = {"l1": number(l1, "l1"), "l2": number(l2, "l2")}
        return LossFunctions(Objective(self.chain, loss, **penalties), self.inputs, self.stats, rows)

    def jacobian(self, x: Data) -> Array:
        """The derivatives dy/dx of the outputs of `predict`, (N, out_features, in_features), in inference mode.

        Row n holds the Jacobian of the network at x[n], in numerator layout (document 003). It is derived from the
        layers' forward passes alone, from the side that has fewer directions: backward for each output, or forward for
        each input (Griewank & Walther, Evaluating Derivatives, 2008, sections 3.1 and 3.2).

        Parameters
        ----------
        x : array (N, in_features) or (in_features,)
            A host array gives a host array, a device array of this backend a device array.

        Raises
        ------
        PlanError
            If a layer of one's own uses an operation that has no derivative.

        Examples
        --------
        >>> import xmlp
        >>> network = xmlp.mlp([3, 4, 2], activation="tanh", dtype="float64", seed=0)
        >>> network.jacobian([[0.1, 0.2, 0.3]]).shape
        (1, 2, 3)
        """
        features, to_caller = self.inputs.features(x)
        return to_caller(self._input_derivatives.jacobian(self.vectors, features))

    def laplacian(self, x: Data) -> Array:
        """The sums of second derivatives sum_i d2y/dx_i2 of the outputs of `predict`, (N, out_features).

        They come from one forward pass, in inference mode, that carries first and second derivatives (Li et al., 2023,
        A forward Laplacian).

        Parameters
        ----------
        x : array (N, in_features) or (in_features,)
            A host array gives a host array, a device array of this backend a device array.

        Raises
        ------
        ValueError
            If the activations are piecewise linear, as relu is: what is 0 almost everywhere says nothing.

        Examples
        --------
        >>> import xmlp
        >>> network = xmlp.mlp([2, 8, 1], activation="tanh", dtype="float64", seed=0)
        >>> network.laplacian([[0.1, 0.2], [0.3, 0.4]]).shape
        (2, 1)
        """
        features, to_caller = self.inputs.features(x)
        return to_caller(self._input_derivatives.laplacian(self.vectors, features))

    def adapt(self, x: Data) -> "Network":
        """Set the mean and scale of the Standardize layers at the head of the network from data.

        Columns that do not vary get the scale 1. What the dtype is too coarse for, as seconds since 1970 in float32,
        has an offset taken off in double precision before it is cast, here and whenever x is passed: see
        `xmlp.layers.Standardize`.
        """
        from xmlp.data.standardize import centred_mean_and_scale

        leading = [i for i, layer in enumerate(self.layers) if isinstance(layer, Standardize)]
        if leading != [0]:
            raise ValueError(f"adapt sets a Standardize that is the first layer and the only one; found at {leading}")
        xp = self.backend.xp
        limits = xp.finfo(self.backend.float_dtype)
        mean, scale, offset = centred_mean_and_scale(self.inputs.table(x), float(limits.eps), COARSE)
        mean, scale = self.backend.from_host(mean), self.backend.from_host(scale)
        first = {"mean": mean, "scale": xp.where(scale < float(limits.smallest_normal), 1.0, scale)}
        self.chain.take_off(offset)  # for all that share the vectors
        self.inputs.offset = offset
        self.statistics = [first, *self.statistics[1:]]
        return self

    def fit(
        self, x: Data | Batches, y: Data | None = None, *, loss: LossLike | None = None,
        optimizer: OptimizerLike = "adam", metrics: MetricLike | Iterable[MetricLike] = (),
        callbacks: Iterable[Callback] = (), seed: int = 0, l1: float = 0.0, l2: float = 0.0,
        clip_norm: float | None = None, on_nonfinite: OnNonfinite = "skip", planned: bool | None = None,
        epochs: int = 10, batch_size: int | None = None, validation_data: Sequence[Data | None] | None = None,
        validation_split: float | None = None, sample_weight: Data | None = None, output_weight: Data | None = None,
        class_weight: ClassWeights | None = None, shuffle: bool | None = None, verbose: bool | int = False,
    ) -> "History":  # fmt: skip
        """Train: the keywords of `xmlp.Trainer` and of its `fit`, in one call.

        A loss that is not given follows from the output activation and the targets: binary cross-entropy for a sigmoid,
        softmax cross-entropy for a softmax and for labels of several classes, else the squared error.
        """
        loss = loss_functions.LOSSES[fitting_loss(self.link_object, self.out_features, y)]() if loss is None else loss
        trainer = self.trained_by(
            self, loss=loss, optimizer=optimizer, metrics=metrics,
            callbacks=callbacks, seed=seed, l1=l1, l2=l2, clip_norm=clip_norm, on_nonfinite=on_nonfinite,
            planned=planned,
        )  # fmt: skip
        history: History = trainer.fit(
            x, y, epochs=epochs, batch_size=batch_size, validation_data=validation_data,
            validation_split=validation_split, sample_weight=sample_weight, output_weight=output_weight,
            class_weight=class_weight, shuffle=shuffle, verbose=verbose,
        )  # fmt: skip
        return history

    # --- elsewhere and later ----------------------------------------------------------------------------------------

    def to(self, backend: BackendLike, *, dtype: Dtype | None = None) -> "Network":
        """A copy on another backend."""
        kept = backend.dtype if isinstance(backend, Backend) else self.dtype
        there = backend_named(backend, dtype=dtype or kept)
        return self.of_vectors(self.layers, self.in_features, there, self.seed, self.arrays(), self.settings())

    def __copy__(self) -> "Network":
        """Another view of the same vectors."""
        view = Network.__new__(Network)
        view.__dict__.update(self.__dict__, _vectors=copy.copy(self._vectors))  # lint: allow method - of the vectors
        return view

    def __deepcopy__(self, memo: Any) -> "Network":
        settings = copy.deepcopy(self.settings(), memo)
        return self.of_vectors(self.layers, self.in_features, self.backend, self.seed, self.arrays(), settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds the layers, the name of the backend, and the vectors on the host."""
        described = self.layers, self.in_features, self.backend, self.seed, self.arrays(), self.settings()
        return self.of_vectors, described

    def settings(self) -> dict[str, Any]:
        """Link, metadata, and the decisions that were made from data."""
        known = {name: (getattr(self, name), default) for name, default in saved.DECISIONS.items()}
        changed = {name: value for name, (value, default) in known.items() if value != default}
        link = self.link if self.link in loss_functions.LINKS else self.link_object
        return {"link": link, "metadata": self.metadata, **changed}

    @classmethod
    def of_vectors(
        cls, layers: Sequence[LayerLike], in_features: int, backend: Backend, seed: int, arrays: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> "Network":  # fmt: skip
        """A network of given vectors. Their sizes are compared before anything of the size is made."""
        network = cls.__new__(cls)
        network._describe(layers, in_features, backend, seed)
        network._vectors = Vectors.of(network.chain, network.inputs, arrays)
        for name, value in settings.items():
            setattr(network, name, dict(value) if name == "metadata" else value)
        return network

    def without_last_layer(self) -> "Network":
        """The network before its last layer, of the same vector of parameters; that layer must have none."""
        network = Network.__new__(Network)
        network._describe(self.layers[:-1], self.in_features, self.backend, self.seed)
        stats = network.stats_layout.pack(self.backend.xp, [dict(s) for s in self.statistics[:-1]], self.stats[:0])
        network._vectors = Vectors(network.chain, network.inputs, self.theta, stats)
        return network

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one safetensors file: parameters, statistics, configuration, metadata, checksum."""
        files.write(path, self.arrays(), self.config())

    def arrays(self) -> dict[str, Any]:
        """The vectors that are saved, on the host."""
        return {"theta": self.backend.to_host(self.theta), "stats": self.backend.to_host(self.stats)}

    def config(self) -> dict[str, Any]:
        """All that is needed to build the network again, as JSON."""
        return {
            "layers": configs.to_json(self.layers),
            "in_features": self.in_features,
            "dtype": self.dtype,
            "seed": self.seed,
            **self.settings(),
            "link": self.link,
            "metadata": configs.json_value(self.metadata, "metadata"),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], arrays: Mapping[str, Any], *, backend: BackendLike = "numpy",
        custom: Mapping[str, Any] | None = None,
    ) -> "Network":  # fmt: skip
        """The network of `config()` and `arrays()`.

        Raises
        ------
        CheckpointError
            If they lack something, hold something else, or do not fit together.
        """
        description = saved.described(config, arrays)
        dtype = description.dtype
        there = backend_named(backend, dtype=dtype)
        if there.dtype != dtype:
            raise ValueError(
                f"the file holds {dtype}, the backend computes in {there.dtype}: pass {there.name!r} instead"
            )
        try:
            layers, (_, in_features, _, seed, settings) = saved.layers_of(description, custom), description
            settings["link"] = saved.link_of(settings["link"], custom)
            return cls.of_vectors(layers, in_features, there, seed, arrays, settings)
        except CheckpointError:
            raise
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(f"the file does not describe a network: {error}") from error


def load(
    path: str | os.PathLike[str], backend: BackendLike = "numpy", *, custom: Mapping[str, Any] | None = None
) -> Network:
    """Read a network from a file that `Network.save` wrote, or from a checkpoint of `Trainer.save`.

    Parameters
    ----------
    custom : dict, optional
        Your own layers, activations and links by name; nothing in a file is ever imported.

    Raises
    ------
    CheckpointError
        If the file is damaged, not one of ours, or does not describe a network.
    """
    arrays, config = saved.parts(*files.read(path, any_numbers=("history",)), path)
    return Network.from_config(config, arrays, backend=backend, custom=custom)
