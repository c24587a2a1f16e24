"""The trainer: repeats the step over minibatches and epochs, and remembers what happened."""

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import xmlp.context as contexts
from xmlp import initializers, losses, metrics, optimizers
from xmlp.backends import seeds
from xmlp.backends.host import host_array
from xmlp.data.batches import batch_order, split_rows
from xmlp.errors import DivergenceError, unknown
from xmlp.graph.plan import Plan
from xmlp.inputs import Inputs, count
from xmlp.layers import Dense
from xmlp.losses import Loss
from xmlp.network import Network
from xmlp.optimizers import Optimizer
from xmlp.schedules import rate
from xmlp.training.history import History
from xmlp.training.planned import runner, trace
from xmlp.training.step import Batch, State, Step

Array = Any
EVENTS = ("on_fit_begin", "on_epoch_begin", "on_step_end", "on_epoch_end", "on_fit_end")


class Trainer:
    """Trains one network.

    Parameters
    ----------
    network : Network
    loss : Loss, str, or object with fn and deriv
    optimizer : Optimizer or str
    metrics : sequence of str or callable
        Measured after each epoch on the training and validation data; see `xmlp.metrics`.
    callbacks : sequence
        Objects with some of on_fit_begin, on_epoch_begin, on_step_end, on_epoch_end, on_fit_end, each called with the
        trainer.
    seed : int
        Decides splits, the order of rows and dropout masks.
    l1, l2 : float
        Penalties l1 sum |w| + l2 sum w^2, added to the loss; not on biases and normalisations.
    clip_norm : float, optional
        Bound on the norm of the gradient.
    on_nonfinite : {"skip", "raise"}
        With `clip_norm`: whether a step whose gradient is not finite is left out and counted in history["skipped"], or
        ends training with `DivergenceError`.
    planned : bool, optional
        Whether steps run as a plan in machine code: by default where that is possible (numpy, with the extra `fast`).

    Attributes
    ----------
    steps, epoch : int
        Updates made and epochs completed.
    history : History

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> trainer = xmlp.Trainer(xmlp.mlp([1, 16, 1]), loss="squared_error", optimizer=xmlp.optimizers.Adam(0.01))
    >>> history = trainer.fit(x, x**2, epochs=50)
    >>> history["loss"][-1] < 0.1 * history["loss"][0]
    True
    """

    def __init__(
        self,
        network: Network,
        *,
        loss: Loss | str | Any,
        optimizer: Optimizer | str,
        metrics: Sequence[Any] = (),
        callbacks: Sequence[Any] = (),
        seed: int = 0,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        on_nonfinite: str = "skip",
        planned: bool | None = None,
    ):
        if not isinstance(network, Network):
            raise TypeError(f"a Trainer takes a Network, got {type(network).__name__}")
        self.network = network
        self.loss = losses.get(loss)
        self.optimizer = optimizers.get(optimizer)
        self.metrics = _metrics(metrics)
        self.callbacks = _callbacks(callbacks)
        self.seed = seeds.check_seed(seed)
        for name, value in (("l1", l1), ("l2", l2)):
            if not _is_number(value) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
        if clip_norm is not None and not (_is_number(clip_norm) and 0 < clip_norm < math.inf):
            raise ValueError(f"clip_norm must be a finite number > 0, got {clip_norm!r}")
        if on_nonfinite not in ("skip", "raise"):
            raise ValueError(unknown("on_nonfinite", on_nonfinite, ("skip", "raise")))
        if self.loss.reduction == "none":
            raise ValueError('training needs a loss with reduction "mean" or "sum", got "none"')
        _warn_of_equal_units(network)
        self.on_nonfinite = on_nonfinite
        self.steps = 0
        self.epoch = 0
        self.history = History()
        self._pure = Step(network, self.loss, self.optimizer, l1, l2, clip_norm)
        self._runner = runner(self._pure, planned)
        self._slots = self.optimizer.init(network.theta)
        self._inputs = Inputs(network.backend, network.in_features)
        self._stop = False

    # --- state --------------------------------------------------------------------------------------------------------

    def _state(self, sums: tuple[Array, ...]) -> State:
        return State(self.network.theta, self._slots, self.network.stats, sums)

    def _commit(self, state: State) -> None:
        """Make the result of a step the network's and the optimizer's own."""
        assign, network = self.network.backend.assign, self.network
        network._theta = assign(network._theta, state.theta)
        network._stats = assign(network._stats, state.stats)
        self._slots = {name: assign(self._slots[name], value) for name, value in state.slots.items()}

    def _no_sums(self) -> tuple[Array, ...]:
        backend = self.network.backend
        zero = backend.xp.zeros((), dtype=backend.float_dtype, device=backend.device)
        return (zero, zero, zero, zero)

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return rate(self.optimizer.lr, self.steps)

    def stop(self) -> None:
        """End `fit` after the current step; for callbacks and signal handlers."""
        self._stop = True

    # --- one step -----------------------------------------------------------------------------------------------------

    def step(self, x: Any, y: Any, sample_weight: Any = None) -> Array:
        """One update from one batch. Returns the loss before it, a 0-d array that stays on the device."""
        x, targets, weights = self._inputs.batch(x, y, sample_weight, self.loss, self.network.out_features)
        sums = self._advance(Chunk(Batch(x, targets, weights, None), None, 0, 1), self._no_sums())
        return sums[0] / sums[1] if self.loss.reduction == "mean" else sums[0]

    def _advance(self, chunk: "Chunk", sums: tuple[Array, ...]) -> tuple[Array, ...]:
        """Make the steps of a chunk. Returns the epoch's sums with theirs added."""
        rates = [rate(self.optimizer.lr, self.steps + i) for i in range(chunk.steps)]
        state = self._runner.run(self._state(sums), chunk.data, chunk.order, chunk.size, rates, self.steps, self.seed)
        self._commit(state)
        self.network.link = self._link()
        self.steps += chunk.steps
        return state.sums

    def plan(self, batch_size: int = 32) -> Plan:
        """The plan of a training step with this batch size: print it to see calls, FLOPs, bytes and shares of the time.

        Raises
        ------
        PlanError
            If the step uses an operation that cannot be planned; it then runs the plain way.
        """
        network, batch_size = self.network, count(batch_size, "batch_size")
        x = np.zeros((batch_size, network.in_features), network.dtype)
        labels = self.loss.link == "softmax"
        y = np.zeros(batch_size, np.int32) if labels else np.zeros((batch_size, network.out_features), network.dtype)
        rows = np.zeros(batch_size, np.int32)
        sums = (np.zeros((), network.dtype),) * 4
        return trace(self._pure, self._state(sums), Batch(x, y, None, rows))

    def _link(self) -> str:
        """The link that the loss asks for; the network's own if it asks for none."""
        return self.loss.link if self.loss.link != "identity" else self.network.link

    # --- many steps ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int = 32,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | str | None = None,
        shuffle: bool = True,
        verbose: bool = False,
    ) -> History:
        """Train for a number of epochs. A second call goes on from where the first one ended.

        Parameters
        ----------
        x : array (N, in_features), or an iterable of batches (x, y) or (x, y, sample_weight)
            An iterable is gone through once per epoch, in its own order; `y` is left out then.
        y : array
            Integer labels, one-hot rows, or reals, as the loss takes them.
        epochs, batch_size : int
            The last batch of an epoch may be smaller.
        validation_data : (x, y) or (x, y, sample_weight), optional
        validation_split : float
            Fraction of the rows to hold out instead.
        sample_weight : array (N,), optional
        class_weight : dict of label to weight, or "balanced", optional
            Multiplies the sample weights. "balanced" is N / (classes * count of the class).
        shuffle : bool
        verbose : bool
            Print a line per epoch.

        Returns
        -------
        History
            Of all epochs of this trainer.

        Raises
        ------
        DivergenceError
            If the loss of an epoch is not finite; the state before that epoch is restored.
        """
        epochs, batch_size = count(epochs, "epochs"), count(batch_size, "batch_size")
        if not _is_number(validation_split):
            raise ValueError(f"validation_split must be a number between 0 and 1, got {validation_split!r}")
        if validation_data is not None and validation_split:
            raise ValueError("give validation_data or validation_split, not both")
        validation = None
        if y is None and not hasattr(x, "shape"):
            if sample_weight is not None or class_weight is not None or validation_split:
                raise ValueError(
                    "with an iterable of batches, weights come in the batches and validation_split has no rows"
                )
            source: _Rows | _Stream = _Stream(x, self)
        elif y is None:
            raise ValueError("fit needs y, the targets of the rows of x; only an iterable of batches goes without")
        else:
            data, held = self._prepared(x, y, validation_split, sample_weight, class_weight)
            source = _Rows(data, batch_size, shuffle, self)
            validation = held
        if validation_data is not None:
            validation = self._data(validation_data, ("validation x", "validation y"))
        self._stop = False
        self._call("on_fit_begin")
        try:
            for _ in range(epochs):
                self._epoch(source, validation, batch_size)
                if verbose:
                    print(_line(self.epoch, self.history), flush=True)
                if self._stop:
                    break
        finally:
            self._call("on_fit_end")
        return self.history

    def _epoch(self, source: "_Rows | _Stream", validation: Batch | None, batch_size: int) -> None:
        start, before = time.perf_counter(), self._snapshot()
        self._call("on_epoch_begin")
        per_step = any(hasattr(c, "on_step_end") for c in self.callbacks)
        sums, batches = self._no_sums(), 0
        try:
            for chunk in source.epoch(self.epoch, 1 if per_step else None):
                sums = self._advance(chunk, sums)
                batches += chunk.steps
                if per_step:
                    self._call("on_step_end")
                if self._stop:
                    break
        except KeyboardInterrupt:  # perhaps between a step and its count
            self._restore(before)
            raise
        if batches == 0:
            raise ValueError(
                f"the iterable of batches gave none in epoch {self.epoch + 1}; pass one that can be gone through again"
            )
        row = self._measured(sums, batches, before)
        row["lr"] = rate(self.optimizer.lr, self.steps - 1)
        size = max(batch_size, 1024)
        if self.metrics and isinstance(source, _Rows):
            row.update(self._evaluate(source.data, size, loss=False))
        if validation is not None:
            row.update({f"val_{name}": value for name, value in self._evaluate(validation, size).items()})
        row["seconds"] = time.perf_counter() - start
        self.epoch += 1
        self.history.append(row)
        self._call("on_epoch_end")

    def _measured(self, sums: tuple[Array, ...], batches: int, before: tuple[Any, ...]) -> dict[str, float]:
        """The epoch's sums, read from the device: the one crossing of an epoch."""
        backend = self.network.backend
        total, weight, cost, skipped = map(float, backend.to_host(backend.xp.stack(sums)))
        finite = math.isfinite(total) and math.isfinite(cost) and skipped < batches
        if not finite or (skipped and self.on_nonfinite == "raise"):
            steps, loss = self.steps, total / weight if weight else math.nan
            self._restore(before)
            raise DivergenceError(
                f"training diverged in epoch {self.epoch + 1}, by step {steps}: the loss is {loss:g}. "
                "The state before this epoch is restored. Lower the learning rate, or set clip_norm.",
                step=steps,
                loss=loss,
            )
        row = {"loss": total / weight if self.loss.reduction == "mean" else total}
        if self._pure.l1 or self._pure.l2:
            row["penalty"] = cost / (batches - skipped)
        if skipped:
            row["skipped"] = skipped
        return row

    def _snapshot(self) -> tuple[Any, ...]:
        xp = self.network.backend.xp
        copies = [xp.asarray(a, copy=True) for a in (self.network.theta, self.network.stats)]
        return self.steps, self.network.link, *copies, {n: xp.asarray(a, copy=True) for n, a in self._slots.items()}

    def _restore(self, snapshot: tuple[Any, ...]) -> None:
        self.steps, self.network.link, theta, stats, slots = snapshot
        self._commit(State(theta, slots, stats, ()))

    # --- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(self, x: Any, y: Any, *, sample_weight: Any = None, batch_size: int = 1024) -> dict[str, float]:
        """The loss and the metrics on data, in inference mode."""
        return self._evaluate(self._data((x, y, sample_weight), ("x", "y")), count(batch_size, "batch_size"))

    def _evaluate(self, data: Batch, batch_size: int, loss: bool = True) -> dict[str, float]:
        network, backend = self.network, self.network.backend
        fused, raw = network.loss_at(self.loss)
        total, weight, outputs = 0.0, 0.0, []
        count = data.x.shape[0]
        for start in range(0, count, batch_size):
            rows = slice(start, min(start + batch_size, count))
            y = network.compute(data.x[rows, :], raw=raw)
            w = None if data.weights is None else data.weights[rows]
            t = data.y[rows] if data.y.ndim == 1 else data.y[rows, :]
            part, part_weight, _ = fused.parts(contexts.of(backend), y, t, w)
            total, weight = total + part, weight + part_weight
            outputs.append(y)
        result = {}
        if loss:
            sums = [float(backend.to_host(s)) if not isinstance(s, float) else s for s in (total, weight)]
            mean = sums[0] / sums[1] if sums[1] else math.nan
            result["loss"] = mean if self.loss.reduction == "mean" else sums[0]
        if self.metrics:
            joined = backend.to_host(outputs[0] if len(outputs) == 1 else backend.xp.concat(outputs))
            w = None if data.weights is None else backend.to_host(data.weights)
            result.update(self._metric_values(joined, raw, backend.to_host(data.y), w))
        return result

    def _metric_values(self, outputs: Any, raw: bool, targets: Any, weights: Any) -> dict[str, float]:
        link = self._link()
        if link == "softmax":
            labels, truth = outputs.argmax(-1), targets if targets.ndim == 1 else targets.argmax(-1)
        else:
            limit = 0.0 if raw or self.network._output_link == "identity" else 0.5
            labels = (outputs > limit).astype(np.int32)
            truth = targets if targets.ndim == 1 else (targets > 0.5).astype(np.int32)
            labels, truth = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (labels, truth))
        values = {}
        for name, function, needs in self.metrics:
            pair = (truth, labels) if needs == "labels" else (targets, outputs)
            values[name] = float(function(*pair, sample_weight=weights))
        return values

    # --- data ---------------------------------------------------------------------------------------------------------

    def _data(self, data: tuple[Any, ...], what: tuple[str, str]) -> Batch:
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise ValueError(f"{what[0].partition(' ')[0]} data must be (x, y) or (x, y, sample_weight)")
        x, y, weights = data if len(data) == 3 else (*data, None)
        return Batch(*self._inputs.batch(x, y, weights, self.loss, self.network.out_features, what), None)

    def _prepared(
        self, x: Any, y: Any, fraction: float, sample_weight: Any, class_weight: Any
    ) -> tuple[Batch, Batch | None]:
        data = self._data((x, y, sample_weight), ("x", "y"))
        if class_weight is not None:
            weights = self._class_weights(data, class_weight)
            data = data._replace(weights=self._inputs.weights(weights, data.x.shape[0], "class_weight"))
        if not fraction:
            return data, None
        train, held = split_rows(data.x.shape[0], fraction, self.seed)
        return self._rows(data, train), self._rows(data, held)

    def _rows(self, data: Batch, rows: Any) -> Batch:
        backend = self.network.backend
        index = backend.from_host(rows, "int32")
        taken = [None if a is None else backend.xp.take(a, index, axis=0) for a in data[:3]]
        return Batch(taken[0], taken[1], taken[2], None)

    def _class_weights(self, data: Batch, class_weight: Mapping[int, float] | str) -> Any:
        labels = self.network.backend.to_host(data.y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1 or (labels != np.round(labels)).any():
            raise ValueError("class_weight needs integer class labels as y; use sample_weight instead")
        labels = labels.astype(np.int64)
        base = (
            np.ones(len(labels))
            if data.weights is None
            else self.network.backend.to_host(data.weights).astype(np.float64)
        )
        if class_weight == "balanced":
            counts = np.bincount(labels, weights=base)
            present = counts > 0
            return base * (base.sum() / (present.sum() * np.where(present, counts, 1.0)))[labels]
        if isinstance(class_weight, str):
            raise ValueError(unknown("class_weight", class_weight, ("balanced",)))
        if not isinstance(class_weight, Mapping):
            raise TypeError(f'class_weight is a dict of label to weight or "balanced", got {class_weight!r}')
        if missing := set(np.unique(labels).tolist()) - set(class_weight):
            raise ValueError(f"class_weight has no weight for the label {min(missing)}")
        return base * host_array([class_weight[k] for k in labels.tolist()], "class_weight")

    def _call(self, event: str) -> None:
        for callback in self.callbacks:
            if hasattr(callback, event):
                getattr(callback, event)(self)


class Chunk(NamedTuple):
    """Steps that are made together: of `size` rows each, in the given order; one step with all rows if it is None."""

    data: Batch
    order: Array | None
    size: int
    steps: int


class _Rows:
    """Minibatches of rows of one data set, reshuffled each epoch."""

    def __init__(self, data: Batch, batch_size: int, shuffle: bool, trainer: Trainer):
        self.data, self.batch_size, self.shuffle = data, batch_size, shuffle
        self.trainer = trainer

    def epoch(self, number: int, limit: int | None) -> Iterator[Chunk]:
        rows, size, trainer = self.data.x.shape[0], self.batch_size, self.trainer
        order = trainer.network.backend.from_host(batch_order(rows, trainer.seed, number, self.shuffle), "int32")
        start, whole = 0, rows // size * size
        while start < whole:
            steps = min(limit or trainer._runner.chunk, (whole - start) // size)
            yield Chunk(self.data, order[start : start + steps * size], size, steps)
            start += steps * size
        if start < rows:
            yield Chunk(self.data, order[start:rows], rows - start, 1)


class _Stream:
    """Batches that the caller's iterable gives."""

    def __init__(self, batches: Iterable[Any], trainer: Trainer):
        if not isinstance(batches, Iterable) or isinstance(batches, (str, bytes, dict)):
            raise TypeError(
                f"fit takes arrays x and y, or an iterable of batches (x, y); got x of {type(batches).__name__}, no y"
            )
        self.batches, self.trainer = batches, trainer

    def epoch(self, number: int, limit: int | None) -> Iterator[Chunk]:
        for i, batch in enumerate(self.batches):
            if isinstance(batch, Batch):  # of a Stream: checked, and on the device
                yield Chunk(batch, None, 0, 1)
                continue
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise TypeError(f"batch {i} must be (x, y) or (x, y, sample_weight), got {type(batch).__name__}")
            yield Chunk(self.trainer._data(tuple(batch), (f"batch {i}: x", f"batch {i}: y")), None, 0, 1)


def _warn_of_equal_units(network: Network) -> None:
    """Hidden units that start from equal weights get equal gradients and stay equal."""
    for i, layer in enumerate(network.layers[:-1]):
        if isinstance(layer, Dense) and layer.units > 1:
            start = network.layout.spec(i, "W").initializer
            if isinstance(initializers.get(start), initializers.Constant):
                w = network.backend.to_host(network.parameters[i]["W"])
                if (w == w[:, :1]).all():
                    warnings.warn(
                        f"layer {i}: the weights of its {layer.units} units are all equal, so they will stay equal. "
                        f'Use a random kernel_initializer, as "he_normal" or "glorot_uniform".',
                        stacklevel=3,
                    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _callbacks(wanted: Sequence[Any]) -> list[Any]:
    if not isinstance(wanted, Iterable) or isinstance(wanted, type):
        raise TypeError(f"callbacks is a sequence of objects, got {wanted!r}. Put it in a list.")
    callbacks = list(wanted)
    for callback in callbacks:
        if isinstance(callback, type):
            raise TypeError(
                f"the callback is the class {callback.__name__}, not an instance: write {callback.__name__}()"
            )
    return callbacks


def _metrics(wanted: Sequence[Any]) -> list[tuple[str, Any, str]]:
    if isinstance(wanted, str) or callable(wanted):
        wanted = [wanted]
    if not isinstance(wanted, Iterable):
        raise TypeError(f"metrics is a sequence of names and functions, got {wanted!r}")
    return [metrics.get(m) for m in wanted]


def _line(epoch: int, history: History) -> str:
    values = [f"{name} {column[-1]:.4g}" for name, column in history.items() if name != "lr"]
    return f"epoch {epoch}  " + "  ".join(values)


def fit(network: Network, x: Any, y: Any = None, *, loss: Any = None, optimizer: Any = "adam", **kw: Any) -> History:
    """`Trainer(network, ...).fit(x, y, ...)` with the keywords of both; a loss not given follows from the targets."""
    names = ("metrics", "callbacks", "seed", "l1", "l2", "clip_norm", "on_nonfinite", "planned")
    of_trainer = {name: kw.pop(name) for name in names if name in kw}
    trainer = Trainer(network, loss=loss or _fitting_loss(network, y), optimizer=optimizer, **of_trainer)
    return trainer.fit(x, y, epochs=kw.pop("epochs", 10), **kw)


def _fitting_loss(network: Network, y: Any) -> str:
    """What the output activation asks for, softmax cross-entropy for labels of several classes, else squared error."""
    if network.link == "sigmoid":
        return "binary_cross_entropy"
    if network.link == "softmax":
        return "softmax_cross_entropy"
    labels = y is not None and network.out_features > 1 and host_array(y, "y").ndim == 1
    return "softmax_cross_entropy" if labels else "squared_error"
