"""The trainer: repeats the step over minibatches and epochs, and remembers what happened."""

import copy
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from xmlp import initializers, losses, metrics, optimizers
from xmlp.backends import Backend
from xmlp.callbacks import callbacks_of
from xmlp.compiler.planner import Plan
from xmlp.data.batches import split_rows
from xmlp.errors import CheckpointError, unknown
from xmlp.host import seeds
from xmlp.host.settings import count, flag, loudness, number
from xmlp.layers import Dense, LayerNorm
from xmlp.losses import Loss
from xmlp.model.network import Network
from xmlp.network.row_weights import HostArray, Mean
from xmlp.optimizers import Optimizer
from xmlp.schedules import rate
from xmlp.training import divergence, memory
from xmlp.training.history import History
from xmlp.training.measuring import measure
from xmlp.training.planned import runner, trace
from xmlp.training.sources import Chunk, Rows, Stream, fingerprint
from xmlp.training.step import Batch, State, Step

Array = Any


@dataclass(frozen=True)
class Fit:
    """What a `fit` was asked for: `last` is its last epoch, `rows` 0 where batches come from an iterable, `held` the
    number of rows of the validation data.
    """

    last: int
    batch_size: int
    shuffle: bool
    validation_split: float
    rows: int
    held: int = 0


class Snapshot(NamedTuple):
    """All that training changes, copied."""

    steps: int
    position: int
    lr_scale: float
    link: str
    mean: Mean
    state: State


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
        Objects with some of on_fit_begin, on_epoch_begin, on_step_end, on_progress, on_epoch_end, on_fit_end, each
        called with the trainer; see `xmlp.callbacks`.
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
        Whether steps run as a plan: by default where that is possible (numpy and cupy). Where a part of a step makes
        it impossible, a warning says so, and `plan_reason` why.

    Attributes
    ----------
    steps, epoch : int
        Updates made and epochs completed.
    position : int
        Steps made in the epoch under way; 0 between epochs.
    lr_scale : float
        Multiplies the learning rate of the optimizer; 1 unless a callback changes it.
    resumed : bool
        Whether the `fit` under way goes on with an earlier one.
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
        self._loss = losses.get(loss)
        self._optimizer = optimizers.get(optimizer)
        self.metrics = metrics
        self.callbacks = callbacks_of(callbacks)
        self.seed = seeds.check_seed(seed)
        if on_nonfinite not in ("skip", "raise"):
            raise ValueError(unknown("on_nonfinite", on_nonfinite, ("skip", "raise")))
        if self.loss.reduction == "none":
            raise ValueError('training needs a loss with reduction "mean" or "sum", got "none"')
        _warn_of_equal_units(network)
        _warn_of_constant_norms(network)
        self.on_nonfinite = on_nonfinite
        self.steps = 0
        self.epoch = 0
        self.position = 0
        self.lr_scale = 1.0
        self.resumed = False
        self.history = History()
        self._planned = None if planned is None else flag(planned, "planned")
        self._pure = Step(network, self.loss, self.optimizer, *_penalties(l1, l2, clip_norm))
        self._runner = runner(self._pure, self._planned)
        self._slots = self.optimizer.init(network.theta)
        self._inputs = network._inputs
        self._sums = self._no_sums()
        self._fit: Fit | None = None
        self._mean = Mean()  # of the weights of all rows so far
        self._part = False  # whether the rows of a `fit` are a part of a stream, and not a data set
        self._order: Any = None  # the fingerprint of the order of an epoch that was cut, from a checkpoint
        self._busy = network.in_training
        self._stop = False

    def __getstate__(self) -> dict[str, Any]:
        """All of the state, with arrays on the host; what is bound to this process is made again elsewhere."""
        to_host = self.network.backend.to_host
        state = {name: value for name, value in self.__dict__.items() if name not in ("_runner", "_busy")}
        state["_slots"] = {name: to_host(slot) for name, slot in self._slots.items()}
        return {**state, "_sums": tuple(map(to_host, self._sums))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        from_host = self.network.backend.from_host
        self._slots = {name: from_host(np.array(slot)) for name, slot in self._slots.items()}
        self._sums = tuple(from_host(np.array(s)) for s in self._sums)
        self._runner, self._busy = runner(self._pure, self._planned), self.network.in_training

    def __copy__(self) -> "Trainer":
        """A second trainer in the same state, with a network of its own: two that share one spoil each other's."""
        return copy.deepcopy(self)

    # --- settings -----------------------------------------------------------------------------------------------------

    @property
    def loss(self) -> Loss:
        """What is trained; fixed, since what has been measured and remembered is about it."""
        return self._loss

    @loss.setter
    def loss(self, value: Any) -> None:
        raise AttributeError(f"a trainer keeps its loss, {self._loss!r}: make another trainer of the same network")

    @property
    def optimizer(self) -> Optimizer:
        """The update rule; another of the same kind may take its place, and goes on with its vectors."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        new, old = optimizers.get(value), self._optimizer
        if type(new) is not type(old) or new.slots != old.slots:
            raise AttributeError(
                f"a trainer goes on with an optimizer of the kind that it has, {old!r}, whose vectors it keeps; got "
                f"{new!r}: make another trainer of the same network"
            )
        self._go_on_with(new, self.l1, self.l2, self.clip_norm)

    @property
    def l1(self) -> float:
        """Penalty l1 sum |w|."""
        return self._pure.l1

    @l1.setter
    def l1(self, value: float) -> None:
        self._go_on_with(self._optimizer, value, self.l2, self.clip_norm)

    @property
    def l2(self) -> float:
        """Penalty l2 sum w^2."""
        return self._pure.l2

    @l2.setter
    def l2(self, value: float) -> None:
        self._go_on_with(self._optimizer, self.l1, value, self.clip_norm)

    @property
    def clip_norm(self) -> float | None:
        """Bound on the norm of the gradient."""
        return self._pure.clip_norm

    @clip_norm.setter
    def clip_norm(self, value: float | None) -> None:
        self._go_on_with(self._optimizer, self.l1, self.l2, value)

    @property
    def metrics(self) -> "list[metrics.Metric]":
        """What is measured after each epoch."""
        return self._measures

    @metrics.setter
    def metrics(self, value: Sequence[Any]) -> None:
        self._measures = _metrics(value)

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

    def _snapshot(self) -> Snapshot:
        copy, now = self.network.backend.copy, self._state(self._sums)
        slots = {name: copy(slot) for name, slot in now.slots.items()}
        kept = State(copy(now.theta), slots, copy(now.stats), tuple(map(copy, now.sums)))
        return Snapshot(self.steps, self.position, self.lr_scale, self.network.link, self._mean, kept)

    def _restore(self, snapshot: Snapshot) -> None:
        self.steps, self.position, self.lr_scale, self.network.link, self._mean, state = snapshot
        self._sums = state.sums
        self._commit(state)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """What fails within leaves the trainer as it was before; what the user interrupts keeps what was made."""
        before, snapshot, history = dict(self.__dict__), self._snapshot(), {n: [*c] for n, c in self.history.items()}
        try:
            yield
        except Exception:
            self.__dict__.update(before)
            self._restore(snapshot)
            self.history.clear()
            self.history.update(history)
            raise

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self.rate(self.steps)

    def rate(self, step: int) -> float:
        """The learning rate after `step` updates."""
        return rate(self.optimizer.lr, step) * self.lr_scale

    @property
    def plan_reason(self) -> str | None:
        """Why the steps so far did not run as a plan; None if they did."""
        return self._runner.reason

    @property
    def moment(self) -> tuple[int, int, int]:
        """Where training stands: steps, epochs, and steps within the epoch under way."""
        return self.steps, self.epoch, self.position

    @property
    def finished(self) -> bool:
        """Whether all epochs of the last `fit` are done."""
        return self._fit is not None and self.epoch >= self._fit.last

    @property
    def stopping(self) -> bool:
        """Whether `fit` was told to stop before its last epoch."""
        return self._stop

    def stop(self) -> None:
        """End `fit` after the current step; for callbacks and signal handlers.

        An epoch that is cut short stands in the history only once it is finished: by `fit` without `epochs`.
        """
        self._stop = True

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state of training to a file from which `Trainer.resume` goes on, to the bit.

        Everything that the trainer itself has is in it, but not the data, and of callbacks what they return from
        `state()`. The file is also one of the network: `xmlp.load` reads it.

        Raises
        ------
        OSError
            If the file cannot be written; what was there before is untouched.
        ValueError
            If a parameter is not finite.
        """
        from xmlp.training import checkpoints

        checkpoints.save(self, path)

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], *, backend: str | Backend = "numpy", callbacks: Sequence[Any] = (),
        loss: Any = None, optimizer: Any = None, metrics: Sequence[Any] | None = None,
        custom: Mapping[str, Any] | None = None, planned: bool | None = None,
    ) -> "Trainer":  # fmt: skip
        """The trainer that `save` wrote: `fit(x, y)` without `epochs` then finishes the run, as if it had not been cut.

        On the same backend, machine and number of threads the finished run is the uninterrupted one bit for bit.

        Parameters
        ----------
        path : path
            A checkpoint, or a folder of them: the latest one that can be read, with a warning for those that cannot.
        backend : str or Backend
        callbacks : sequence
            The same kinds in the same order as before, of those that keep a state.
        loss, optimizer, metrics : optional
            Needed where they were functions or classes of your own.
        custom : dict, optional
            Your own layers, losses, optimizers and activations by name; nothing in a file is ever imported.
        planned : bool, optional

        Raises
        ------
        CheckpointError
            If the file is damaged, not a checkpoint, or does not fit what is passed.

        Examples
        --------
        >>> import numpy as np, os, tempfile, xmlp
        >>> x, path = np.linspace(-1, 1, 64)[:, None], os.path.join(tempfile.mkdtemp(), "a.safetensors")
        >>> class Cut:
        ...     def on_step_end(self, trainer):
        ...         if trainer.steps == 3:
        ...             trainer.save(path)
        >>> setting = {"loss": "squared_error", "optimizer": "adam"}
        >>> whole = xmlp.Trainer(xmlp.mlp([1, 8, 1]), callbacks=[Cut()], **setting)
        >>> history = whole.fit(x, x**2, epochs=2)
        >>> resumed = xmlp.Trainer.resume(path)
        >>> resumed.steps, resumed.epoch
        (3, 1)
        >>> resumed.fit(x, x**2)["loss"] == history["loss"]
        True
        """
        from xmlp.training import checkpoints

        return checkpoints.resume(
            path, backend=backend, callbacks=callbacks, loss=loss, optimizer=optimizer, metrics=metrics, custom=custom,
            planned=planned,
        )  # fmt: skip

    # --- one step -----------------------------------------------------------------------------------------------------

    def step(self, x: Any, y: Any, sample_weight: Any = None) -> Array:
        """One update from one batch. Returns the loss before it, a 0-d array that stays on the device.

        The loss of a step that `clip_norm` leaves out, since its gradient is not finite, is nan. Weights are divided by
        the mean weight of all rows that this trainer has seen, this batch included.

        Raises
        ------
        RuntimeError
            If a `fit` or a `step` of this trainer is under way, in another thread or in the calling callback.
        """
        self._acquire()
        try:
            chunk = self._chunk(*self._checked((x, y, sample_weight), ("x", "y")))
            total, weight, _, skipped = self._advance(chunk, self._no_sums())
            assert chunk.mean is not None
            self._mean = chunk.mean
        finally:
            self._busy.release()
        if self.loss.reduction == "sum":
            return total
        if self._pure.clip_norm is None and sample_weight is None:
            return total / weight
        xp = self.network.backend.xp
        return xp.where(skipped > 0, math.nan, total / xp.where(weight > 0, weight, 1.0))

    def _acquire(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(
                "this trainer, or another of its network, is in a fit already: wait for it to end, or train a copy of "
                "the network, copy.deepcopy(network)"
            )

    def _check_free(self) -> None:
        self._acquire()
        self._busy.release()

    @np.errstate(all="ignore")  # what is not finite is found and told of
    def _advance(self, chunk: Chunk, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        """Make the steps of a chunk. Returns the epoch's sums with theirs added."""
        rates = [self.rate(self.steps + i) for i in range(chunk.steps)]
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
        y = self._empty_targets(batch_size)
        rows = np.zeros(batch_size, np.int32)
        sums = (np.zeros((), network.dtype),) * 4
        return trace(self._pure, self._state(sums), Batch(x, y, None, rows))

    def _empty_targets(self, rows: int) -> Array:
        """Labels if the loss takes them, else reals."""
        try:
            targets = self.loss.prepare(np.zeros(rows, np.int32), self.network.out_features)
        except (TypeError, ValueError):
            targets = np.zeros((rows, self.network.out_features))
        return targets.astype(np.int32 if targets.ndim == 1 else self.network.dtype)

    def memory(self, batch_size: int = 32, rows: int = 0) -> int:
        """Bytes that training on `rows` rows takes besides the data, at its peak, where steps are planned.

        The parameters, the statistics and the optimizer's vectors, twice, since an epoch that diverges is undone; and
        the buffers of the steps. NumPy without the extra `fast` adds some megabytes of blocks; steps that are not
        planned hold their activations side by side and take more.

        Examples
        --------
        >>> import xmlp
        >>> trainer = xmlp.Trainer(xmlp.mlp([784, 100, 10]), loss="softmax_cross_entropy", optimizer="adam")
        >>> trainer.memory(1024) > trainer.memory(32) > 6 * 4 * trainer.network.layout.size
        True

        Raises
        ------
        PlanError
            If the step uses an operation that cannot be planned.
        """
        return memory.needed(self, count(batch_size, "batch_size"), rows)

    def _link(self) -> str:
        """The link that the loss asks for; the network's own if it asks for none."""
        return self.loss.link if self.loss.link != "identity" else self.network.link

    # --- many steps ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float | None = None,
        sample_weight: Any = None,
        output_weight: Any = None,
        class_weight: Any = None,
        shuffle: bool | None = None,
        verbose: bool = False,
    ) -> History:
        """Train for a number of epochs. A second call goes on from where the first one ended.

        Parameters
        ----------
        x : array (N, in_features), or an iterable of batches (x, y) or (x, y, sample_weight)
            An iterable is gone through once per epoch, in its own order; `y` is left out then.
        y : array
            Integer labels, one-hot rows, or reals, as the loss takes them.
        epochs : int, optional
            None finishes a `fit` that was stopped or resumed, on the same data, within an epoch where it was cut there;
            the settings below are then those of that `fit`.
        batch_size : int
            Default 32. The last batch of an epoch may be smaller; with batch normalisation a single row that is left
            over joins the batch before.
        validation_data : (x, y) or (x, y, sample_weight), optional
        validation_split : float
            Fraction of the rows to hold out instead; default 0.
        sample_weight : array (N,) or (N, outputs), optional
            A weight k is the row repeated k times, 0 the row removed; (N, outputs) weighs each target by itself. A
            target that is missing has the weight 0: NaN among reals, or what is masked in a NumPy masked array. Batch
            normalisation counts rows, whatever they weigh.

            Their scale has no effect unless the reduction of the loss is "sum": they are divided by their mean over all
            rows, in double precision, and the gradient of a step is their weighted sum over the batch divided by its
            rows. So a batch of all rows has exactly the gradient of the repeated rows, and a smaller one has it on
            average: of 20,000 rows of which 40 weigh 250 and the others 0.501, the batches of 32 that hold one of
            the 40 have a gradient 16 times as large as the others. An iterable is not known beforehand: the weights of
            each batch are divided by the mean weight of all rows up to it, those of earlier fits and steps included.
        output_weight : array (outputs,), optional
            Multiplies the sample weights, of the validation data too.
        class_weight : dict of label to weight, or "balanced", optional
            Multiplies the sample weights, not of `validation_data`. "balanced" is W / (classes * W_c) with the weight W
            of all rows and W_c of the class. For several labels a row also a list of them, one per output.
        shuffle : bool
            Default True.
        verbose : bool
            Print a line per epoch.

        Returns
        -------
        History
            Of all epochs of this trainer.

        Raises
        ------
        DivergenceError
            If the loss of an epoch or a parameter is not finite; the state before that epoch is restored.
        OutOfMemoryError
            If the steps do not fit in memory: what is needed, what is free, and a batch size that would fit.
        RuntimeError
            If a `fit` or a `step` of this trainer or network is under way, in another thread or in a callback.
        """
        verbose = loudness(verbose)
        self._acquire()
        began, mean = self.steps, self._mean
        try:
            self.callbacks = callbacks_of(self.callbacks)
            source, validation = self._begin(
                x, y, epochs, batch_size, validation_data, validation_split, sample_weight, shuffle,
                {"output_weight": output_weight}, {"class_weight": class_weight},
            )  # fmt: skip
            self._stop = False
            try:
                self._call("on_fit_begin")
                with memory.explained(self):
                    while not (self._stop or self.finished):
                        if self._epoch(source, validation) and verbose:
                            print(_line(self.epoch, self.history), flush=True)
            except BaseException as error:
                if self.steps == began:  # the rows that were not learnt from do not count
                    self._mean = mean
                self._end(error)
                raise
            self._end(None)
        finally:
            self._runner.release()
            self._busy.release()
        return self.history

    def _end(self, error: BaseException | None) -> None:
        """Tell all callbacks that `fit` ends, whatever one of them does; the first error is the one to be seen."""
        failed = None
        for callback in self.callbacks:
            try:
                if hasattr(callback, "on_fit_end"):
                    callback.on_fit_end(self)
            except Exception as another:
                if error is not None:
                    error.add_note(f"{type(callback).__name__}.on_fit_end failed as well: {another}")
                failed = failed or another
        if error is None and failed is not None:
            raise failed

    def _begin(
        self, x: Any, y: Any, epochs: int | None, batch_size: int | None, validation_data: Any,
        validation_split: float | None, sample_weight: Any, shuffle: bool | None, of_outputs: dict[str, Any],
        of_classes: dict[str, Any],
    ) -> tuple[Rows | Stream, Batch | None]:  # fmt: skip
        """Check what `fit` was called with; returns where batches come from, and the validation data."""
        shuffle = None if shuffle is None else flag(shuffle, "shuffle")
        if epochs is None:
            fit = self._unfinished(batch_size=batch_size, validation_split=validation_split, shuffle=shuffle)
        else:
            fraction = 0.0 if validation_split is None else validation_split
            if isinstance(fraction, bool) or not isinstance(fraction, Real):
                raise ValueError(f"validation_split must be a number between 0 and 1, got {validation_split!r}")
            size = count(32 if batch_size is None else batch_size, "batch_size")
            fit = Fit(self.epoch + count(epochs, "epochs"), size, shuffle is not False, float(fraction), 0)
        if validation_data is not None and fit.validation_split:
            raise ValueError("give validation_data or validation_split, not both")
        validation, mean = None, self._mean
        if y is None and not hasattr(x, "shape"):
            if sample_weight is not None or of_classes["class_weight"] is not None or fit.validation_split:
                raise ValueError(
                    "with an iterable of batches, weights come in the batches and validation_split has no rows"
                )
            source: Rows | Stream = Stream(x, self, of_outputs)
        elif y is None:
            raise ValueError("fit needs y, the targets of the rows of x; only an iterable of batches goes without")
        else:
            whole, weights = self._checked((x, y, sample_weight), ("x", "y"), **of_outputs, **of_classes)
            (data, mean), validation = self._split(whole, weights, fit.validation_split)
            source = Rows(data, fit.batch_size, fit.shuffle, self)
        if validation_data is not None:
            validation = self._data(validation_data, ("validation x", "validation y"), **of_outputs)
        rows = source.data.x.shape[0] if isinstance(source, Rows) else 0
        if epochs is None and rows != fit.rows:
            told = [f"{n} rows to train on" if n else "an iterable of batches" for n in (fit.rows, rows)]
            raise ValueError(f"the unfinished fit had {told[0]}, this one has {told[1]}: it needs the same data")
        if epochs is None and self._order is not None and self.position and fit.rows:
            if self._order != fingerprint(rows, self.seed, self.epoch, fit.shuffle):
                raise CheckpointError(
                    "the checkpoint was saved within an epoch whose order of rows this version of NumPy does not give: "
                    "use the version that it was saved with"
                )
            self._order = None
        held = 0 if validation is None else int(validation.x.shape[0])
        if epochs is None and fit.held != held:
            raise ValueError(
                f"the unfinished fit had {fit.held or 'no'} rows of validation data, this one has {held or 'none'}: "
                "it needs the same data"
            )
        if rows and not self._part:  # a stream may give a single row, which batch normalisation then bears
            _check_rows(self.network, min(fit.batch_size, rows), rows)
        self.resumed = epochs is None
        self._fit = replace(fit, rows=rows, held=held)
        if not self.resumed:
            self.position, self._sums, self._mean = 0, self._no_sums(), mean
        return source, validation

    def _unfinished(self, **given: Any) -> Fit:
        """The settings of the `fit` to finish, with which those that are given must agree."""
        if self._fit is None:
            raise ValueError("fit needs epochs: there is no earlier fit to finish")
        for name, value in given.items():
            if value is not None and value != getattr(self._fit, name):
                raise ValueError(f"the fit to finish had {name}={getattr(self._fit, name)!r}, got {value!r}")
        return self._fit

    def _epoch(self, source: Rows | Stream, validation: Batch | None) -> bool:
        """An epoch, or what is left of it; returns whether it was completed."""
        start, before = time.perf_counter(), self._snapshot()
        self._call("on_epoch_begin")
        limit = 1 if any(hasattr(c, "on_step_end") for c in self.callbacks) else None
        try:
            for chunk in source.epoch(self.epoch, self.position, limit):
                if self._stop:
                    return False
                self._sums = self._advance(chunk, self._rescaled(chunk.mean))
                self.position += chunk.steps
                if limit:
                    self._call("on_step_end")
                self._call("on_progress")
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt, perhaps between a step and its count
                self._restore(before)
            raise
        if self.position == 0:
            raise ValueError(
                f"the iterable of batches gave none in epoch {self.epoch + 1}; pass one that can be gone through again"
            )
        row = self._measured(source, before)
        row["lr"] = self.rate(self.steps - 1)
        assert self._fit is not None
        size = max(self._fit.batch_size, 1024)
        if self.metrics and isinstance(source, Rows):
            row.update(self._evaluate(source.data, size, loss=False))
        if validation is not None:
            row.update({f"val_{name}": value for name, value in self._evaluate(validation, size).items()})
        row["seconds"] = time.perf_counter() - start
        self.epoch, self.position, self._sums = self.epoch + 1, 0, self._no_sums()
        self.history.append(row)
        self._call("on_epoch_end")
        return True

    def _rescaled(self, mean: Mean | None) -> tuple[Array, ...]:
        """The epoch's sums where the weights of a stream are counted by its new mean."""
        old, self._mean = self._mean, self._mean if mean is None else mean
        if not old.rows or old.value == self._mean.value:
            return self._sums
        factor, asarray = old.value / (self._mean.value or 1.0), self.network.backend.xp.asarray
        return (*(asarray(s * factor) for s in self._sums[:2]), *self._sums[2:])

    @np.errstate(all="ignore")  # what is not finite is found and told of
    def _measured(self, source: Rows | Stream, before: Snapshot) -> dict[str, float]:
        """The epoch's sums, read from the device: the one crossing of an epoch."""
        backend, network = self.network.backend, self.network
        sums = (*self._sums, *(backend.xp.sum(0.0 * vector) for vector in (network.theta, network.stats)))
        total, weight, cost, skipped, *nans = map(float, backend.to_host(backend.xp.stack(sums)))
        finite = all(map(math.isfinite, (total, cost, *nans))) and skipped < self.position
        if not finite or (skipped and self.on_nonfinite == "raise"):
            raise divergence.error(self, source, before, total / weight if weight else math.nan)
        row = {"loss": total / (weight or 1.0) if self.loss.reduction == "mean" else total}
        if self._pure.l1 or self._pure.l2:
            row["penalty"] = cost / (self.position - skipped)
        if skipped:
            row["skipped"] = skipped
        return row

    # --- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(
        self, x: Any, y: Any, *, sample_weight: Any = None, output_weight: Any = None, batch_size: int = 1024
    ) -> dict[str, float]:
        """The loss and the metrics on data, in inference mode."""
        data = self._data((x, y, sample_weight), ("x", "y"), output_weight=output_weight)
        return self._evaluate(data, count(batch_size, "batch_size"))

    def _evaluate(self, data: Batch, batch_size: int, loss: bool = True) -> dict[str, float]:
        return measure(self.network, data, batch_size, loss=self.loss, metrics=self.metrics, with_loss=loss)

    # --- data ---------------------------------------------------------------------------------------------------------

    def _data(self, data: tuple[Any, ...], what: tuple[str, str], **weighting: Any) -> Batch:
        """A data set of its own, its weights of mean 1."""
        batch, weights = self._checked(data, what, **weighting)
        return batch._replace(weights=self._inputs.placed(weights, self.loss))

    def _checked(
        self, data: tuple[Any, ...], what: tuple[str, str], **weighting: Any
    ) -> tuple[Batch, HostArray | None]:
        """x and y on the device, and their weights on the host."""
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise ValueError(f"{what[0].partition(' ')[0]} data must be (x, y) or (x, y, sample_weight)")
        x, y, weights = data if len(data) == 3 else (*data, None)
        outputs = self.network.out_features
        x, y, weights = self._inputs.batch(x, y, weights, self.loss, outputs, what, **weighting)
        return Batch(x, y, None, None), weights

    def _weighed(self, weights: HostArray | None, rows: int, part: bool) -> tuple[Array | None, Mean]:
        """Weights on the device, of a data set or a part of a stream, and the mean of all rows up to these."""
        mean = self._mean.after(weights, rows) if self.loss.reduction == "mean" else self._mean
        if part and weights is None and mean.rows and mean.value != 1.0:
            weights = np.ones(rows)
        return self._inputs.placed(weights, self.loss, mean if part else None), mean

    def _chunk(self, batch: Batch, weights: HostArray | None) -> Chunk:
        """One step with a batch of a stream."""
        placed, mean = self._weighed(weights, batch.x.shape[0], part=True)
        return Chunk(batch._replace(weights=placed), None, 0, 1, mean)

    def _split(
        self, data: Batch, weights: HostArray | None, fraction: float
    ) -> tuple[tuple[Batch, Mean], Batch | None]:
        """The rows to train on, with the mean weight up to these, and those that are held out."""
        if not fraction:
            placed, mean = self._weighed(weights, data.x.shape[0], self._part)
            return (data._replace(weights=placed), mean), None
        train, held = split_rows(data.x.shape[0], fraction, self.seed)
        of_train = None if weights is None else weights[train]
        if of_train is not None and of_train.max() == 0:
            raise ValueError("validation_split left no row of any weight to train on: nothing would be learnt")
        placed, mean = self._weighed(of_train, len(train), self._part)
        of_held = None if weights is None else self._inputs.placed(weights[held], self.loss)
        return (self._rows(data, train, placed), mean), self._rows(data, held, of_held)

    def _rows(self, data: Batch, rows: Any, weights: Array | None) -> Batch:
        backend = self.network.backend
        index = backend.from_host(rows, "int32")
        x, y = (backend.xp.take(a, index, axis=0) for a in (data.x, data.y))
        return Batch(x, y, weights, None)

    def _go_on_with(self, optimizer: Optimizer, l1: Any, l2: Any, clip_norm: Any) -> None:
        """Other settings from the next step on; the optimizer's vectors stay."""
        l1, l2, clip_norm = _penalties(l1, l2, clip_norm)
        step = replace(self._pure, optimizer=optimizer, l1=l1, l2=l2, clip_norm=clip_norm)
        as_before = replace(step, optimizer=replace(optimizer, lr=self._pure.optimizer.lr))
        self._optimizer = optimizer
        if as_before != self._pure:  # programs do not depend on the learning rate
            self._pure, self._runner = step, runner(step, self._planned)

    def _call(self, event: str) -> None:
        for callback in self.callbacks:
            if hasattr(callback, event):
                getattr(callback, event)(self)


def _warn_of_constant_norms(network: Network) -> None:
    """A row of one feature less its mean is 0."""
    for i, layer in enumerate(network.layers):
        if isinstance(layer, LayerNorm) and network._features[i] == 1:
            warnings.warn(
                f"layer {i}, LayerNorm, normalises the one feature of each row by itself: its output does not depend "
                'on its input, and nothing before it learns. Use BatchNorm, normalization="batch", or more units.',
                stacklevel=3,
            )


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


def _penalties(l1: Any, l2: Any, clip_norm: Any) -> tuple[float, float, float | None]:
    bound = None if clip_norm is None else number(clip_norm, "clip_norm", above=True)
    return number(l1, "l1"), number(l2, "l2"), bound


def _check_rows(network: Network, size: int, rows: int) -> None:
    """Refuse batches that all have too few rows for a layer to learn its statistics from them."""
    for i, layer in enumerate(network.layers):
        if size < layer.least_rows:
            remedy = f"pass a larger batch_size than {size}" if rows > size else "pass more rows than one at once"
            raise ValueError(
                f"layer {i}, {type(layer).__name__}, takes the mean and the variance of the rows of a batch, and one "
                f'row has no variance: {remedy}, or use LayerNorm, normalization="layer"'
            )


def _metrics(wanted: Sequence[Any]) -> list[metrics.Metric]:
    if isinstance(wanted, str) or callable(wanted):
        wanted = [wanted]
    if not isinstance(wanted, Iterable):
        raise TypeError(f"metrics is a sequence of names and functions, got {wanted!r}")
    return [metrics.get(m) for m in wanted]


def _line(epoch: int, history: History) -> str:
    values = [f"{name} {column[-1]:.4g}" for name, column in history.items() if name != "lr"]
    return f"epoch {epoch}  " + "  ".join(values)


def fitting_loss(network: Network, y: Any) -> str:
    """What the output activation asks for, softmax cross-entropy for labels of several classes, else squared error."""
    if network.link == "sigmoid":
        return "binary_cross_entropy"
    if network.link == "softmax":
        return "softmax_cross_entropy"
    labels = y is not None and network.out_features > 1 and np.ndim(y) == 1
    return "softmax_cross_entropy" if labels else "squared_error"
