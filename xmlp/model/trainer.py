"""The trainer: repeats the step over minibatches and epochs, and remembers what happened."""

import copy
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import numpy as np

from xmlp import initializers, losses, metrics, optimizers
from xmlp.backends import BackendLike
from xmlp.compiler.planner import Plan
from xmlp.errors import unknown
from xmlp.host import seeds
from xmlp.host.settings import count, flag, loudness, number
from xmlp.layers import Dense, LayerNorm
from xmlp.losses import Loss, LossLike
from xmlp.metrics import MetricLike
from xmlp.model.network import Network
from xmlp.network.objective import Objective
from xmlp.optimizers import Optimizer, OptimizerLike
from xmlp.training import checkpoints, divergence, memory
from xmlp.training.events import callbacks_of, tell, tell_end
from xmlp.training.history import History
from xmlp.training.measuring import measure
from xmlp.training.prepare import Given, Preparation
from xmlp.training.run import Run, Snapshot
from xmlp.training.sources import Rows, Stream
from xmlp.training.step import Batch, Step
from xmlp.types import Array, Batches, Callback, ClassWeights, Data, OnNonfinite


class Changes(TypedDict, total=False):
    """What `Trainer.change` takes."""

    optimizer: OptimizerLike
    l1: float
    l2: float
    clip_norm: float | None


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
        loss: LossLike,
        optimizer: OptimizerLike,
        metrics: MetricLike | Iterable[MetricLike] = (),
        callbacks: Iterable[Callback] = (),
        seed: int = 0,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        on_nonfinite: OnNonfinite = "skip",
        planned: bool | None = None,
    ):
        if not isinstance(network, Network):
            raise TypeError(f"a Trainer takes a Network, got {type(network).__name__}")
        loss = losses.get(loss)
        if on_nonfinite not in ("skip", "raise"):
            raise ValueError(unknown("on_nonfinite", on_nonfinite, ("skip", "raise")))
        if loss.reduction == "none":
            raise ValueError('training needs a loss with reduction "mean" or "sum", got "none"')
        self.network = network
        self.metrics = metrics
        self.callbacks = callbacks_of(callbacks)
        self.on_nonfinite = on_nonfinite
        self.resumed = False
        l1, l2, clip_norm = _penalties(l1, l2, clip_norm)
        step = Step(Objective(network.chain, loss, l1, l2), optimizers.get(optimizer), clip_norm)
        self.run = Run(network, step, seeds.check_seed(seed), None if planned is None else flag(planned, "planned"))
        self.preparation = Preparation(network.inputs, self.run)
        self._stop = False
        _warn_of_equal_units(network)
        _warn_of_constant_norms(network)

    def __copy__(self) -> "Trainer":
        """A second trainer in the same state, with a network of its own: two that share one spoil each other's."""
        return copy.deepcopy(self)

    # --- settings -----------------------------------------------------------------------------------------------------

    @property
    def loss(self) -> Loss:
        """What is trained; fixed, since what has been measured and remembered is about it."""
        return self.run.step.objective.loss

    @loss.setter
    def loss(self, value: LossLike) -> None:
        raise AttributeError(f"a trainer keeps its loss, {self.loss!r}: make another trainer of the same network")

    @property
    def optimizer(self) -> Optimizer:
        """The update rule; another of the same kind may take its place, and goes on with its vectors."""
        return self.run.step.optimizer

    @optimizer.setter
    def optimizer(self, value: OptimizerLike) -> None:
        self.change(optimizer=value)

    @property
    def l1(self) -> float:
        """Penalty l1 sum |w|."""
        return self.run.step.objective.l1

    @l1.setter
    def l1(self, value: float) -> None:
        self.change(l1=value)

    @property
    def l2(self) -> float:
        """Penalty l2 sum w^2."""
        return self.run.step.objective.l2

    @l2.setter
    def l2(self, value: float) -> None:
        self.change(l2=value)

    @property
    def clip_norm(self) -> float | None:
        """Bound on the norm of the gradient."""
        return self.run.step.clip_norm

    @clip_norm.setter
    def clip_norm(self, value: float | None) -> None:
        self.change(clip_norm=value)

    def change(self, **settings: Unpack[Changes]) -> None:
        """Other settings from the next step on: optimizer, l1, l2, clip_norm; the optimizer's vectors stay.

        Raises
        ------
        AttributeError
            If the optimizer is of another kind than the one before.
        """
        old = self.run.step
        now: Any = {"optimizer": old.optimizer, "l1": self.l1, "l2": self.l2, "clip_norm": old.clip_norm, **settings}
        new = optimizers.get(now["optimizer"])
        if type(new) is not type(old.optimizer) or new.slots != old.optimizer.slots:
            raise AttributeError(
                f"a trainer goes on with an optimizer of the kind that it has, {old.optimizer!r}, whose vectors it "
                f"keeps; got {new!r}: make another trainer of the same network"
            )
        l1, l2, clip_norm = _penalties(now["l1"], now["l2"], now["clip_norm"])
        self.run.take(replace(old, objective=replace(old.objective, l1=l1, l2=l2), optimizer=new, clip_norm=clip_norm))

    @property
    def metrics(self) -> "list[metrics.Metric]":
        """What is measured after each epoch."""
        return self._measures

    @metrics.setter
    def metrics(self, value: MetricLike | Iterable[MetricLike]) -> None:
        self._measures = _metrics(value)

    # --- state --------------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Updates made."""
        return self.run.steps

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.run.epoch

    @property
    def position(self) -> int:
        """Steps made in the epoch under way; 0 between epochs."""
        return self.run.position

    @property
    def seed(self) -> int:
        """Decides splits, the order of rows and dropout masks."""
        return self.run.seed

    @property
    def history(self) -> History:
        """What happened, epoch by epoch."""
        return self.run.history

    @property
    def lr_scale(self) -> float:
        """Multiplies the learning rate of the optimizer; 1 unless a callback changes it."""
        return self.run.lr_scale

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        self.run.lr_scale = value

    @contextmanager
    def undone(self) -> Iterator[None]:
        """What fails within leaves the trainer as it was before; what the user interrupts keeps what was made."""
        before, snapshot = dict(self.__dict__), self.run.snapshot()
        of_run, history = dict(self.run.__dict__), {name: [*column] for name, column in self.history.items()}
        try:
            yield
        except Exception:
            self.__dict__.update(before)
            self.run.__dict__.update(of_run)
            self.run.restore(snapshot)
            self.history.clear()
            self.history.update(history)
            raise

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return self.rate(self.steps)

    def rate(self, step: int) -> float:
        """The learning rate after `step` updates."""
        return self.run.rate(step)

    @property
    def plan_reason(self) -> str | None:
        """Why the steps so far did not run as a plan; None if they did."""
        return self.run.runner.reason

    @property
    def reason_for_sizes(self) -> str | None:
        """Why plans of the steps are each for one number of rows, so that each size has its own; else None."""
        return self.run.runner.reason_for_sizes

    @property
    def moment(self) -> tuple[int, int, int]:
        """Where training stands: steps, epochs, and steps within the epoch under way."""
        return self.steps, self.epoch, self.position

    @property
    def finished(self) -> bool:
        """Whether all epochs of the last `fit` are done."""
        return self.run.fit is not None and self.epoch >= self.run.fit.last

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
        settings = {name: getattr(self, name) for name in (*checkpoints.OWN, *checkpoints.PLAIN)}
        model = self.network.arrays(), self.network.config()
        checkpoints.write(path, model, self.run, settings, self.callbacks)

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], *, backend: BackendLike = "numpy", callbacks: Iterable[Callback] = (),
        loss: LossLike | None = None, optimizer: OptimizerLike | None = None,
        metrics: MetricLike | Iterable[MetricLike] | None = None,
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
        given = {"loss": loss, "optimizer": optimizer, "metrics": metrics}

        def model(checkpoint: checkpoints.Checkpoint) -> Network:
            return Network.from_config(checkpoint.model, checkpoint.vectors, backend=backend, custom=custom)

        def make(checkpoint: checkpoints.Checkpoint, network: Network) -> "Trainer":
            settings = checkpoint.settings(given, custom)
            trainer = cls(network, callbacks=callbacks, planned=planned, **settings)
            checkpoint.fill(trainer.run, trainer.callbacks)
            return trainer

        return checkpoints.resumed(path, model, make)

    # --- one step -----------------------------------------------------------------------------------------------------

    def step(self, x: Data, y: Data, sample_weight: Data | None = None) -> Array:
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
            chunk = self.preparation.chunk((x, y, sample_weight), ("x", "y"))
            sums = self.run.advance(chunk, self.run.no_sums())
            assert chunk.mean is not None
            self.run.mean = chunk.mean
        finally:
            self._busy.release()
        if self.loss.reduction == "sum":
            return sums.loss
        if self.clip_norm is None and sample_weight is None:
            return sums.loss / sums.weight
        xp, known = self.network.backend.xp, sums.weight > 0
        return xp.where(sums.skipped > 0, math.nan, sums.loss / xp.where(known, sums.weight, 1.0))

    @property
    def _busy(self) -> Any:
        return self.network.in_training

    def _acquire(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(
                "this trainer, or another of its network, is in a fit already: wait for it to end, or train a copy of "
                "the network, copy.deepcopy(network)"
            )

    def check_free(self) -> None:
        """Refuse, with RuntimeError, where a `fit` or a `step` is under way."""
        self._acquire()
        self._busy.release()

    def plan(self, batch_size: int = 32) -> Plan:
        """The plan of a training step with this batch size: print it to see calls, FLOPs, bytes and shares of the time.

        Raises
        ------
        PlanError
            If the step uses an operation that cannot be planned; it then runs the plain way.
        """
        return self.run.plan(count(batch_size, "batch_size"))

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
        return memory.Demand(self.run).of(count(batch_size, "batch_size"), rows)

    # --- many steps ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Data | Batches,
        y: Data | None = None,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_data: Sequence[Data | None] | None = None,
        validation_split: float | None = None,
        sample_weight: Data | None = None,
        output_weight: Data | None = None,
        class_weight: ClassWeights | None = None,
        shuffle: bool | None = None,
        verbose: bool | int = False,
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
            Multiplies the sample weights, not of `validation_data`. Classes that a dict leaves out have the weight 1;
            a label that is no class is an error, unless all classes have weights. "balanced" is W / (classes * W_c)
            with the weight W of all rows and W_c of the class. For several labels a row also a list of them, one per
            output.
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
        given = Given(x, y, sample_weight, output_weight, class_weight, validation_data)
        self._acquire()
        began, mean, run = self.steps, self.run.mean, self.run
        try:
            self.callbacks = callbacks_of(self.callbacks)
            source, validation = self._begin(given, epochs, batch_size, validation_split, shuffle)
            try:
                tell(self.callbacks, "on_fit_begin", self)
                with memory.explained(run):
                    while not (self._stop or self.finished):
                        if self._epoch(source, validation) and verbose:
                            print(self.history.latest, flush=True)
            except BaseException as error:
                if self.steps == began:  # the rows that were not learnt from do not count
                    run.mean = mean
                tell_end(self.callbacks, self, error)
                raise
            tell_end(self.callbacks, self, None)
        finally:
            run.runner.release()
            self._busy.release()
        return self.history

    def _begin(
        self, given: Given, epochs: int | None, batch_size: int | None, validation_split: float | None,
        shuffle: bool | None,
    ) -> tuple[Rows | Stream, Batch | None]:  # fmt: skip
        """Check what `fit` was called with, then begin; returns where batches come from, and the validation data."""
        shuffle, run = None if shuffle is None else flag(shuffle, "shuffle"), self.run
        fit = self.preparation.settings(epochs, batch_size, validation_split, shuffle)
        prepared = self.preparation.fit(given, fit, goes_on=epochs is None)
        self.resumed, self._stop = epochs is None, False
        run.fit, run.order = prepared.fit, None
        if not self.resumed:
            run.position, run.sums, run.mean = 0, run.no_sums(), prepared.mean
        return prepared.source, prepared.validation

    def _epoch(self, source: Rows | Stream, validation: Batch | None) -> bool:
        """An epoch, or what is left of it; returns whether it was completed."""
        start, before, run = time.perf_counter(), self.run.snapshot(), self.run
        tell(self.callbacks, "on_epoch_begin", self)
        if not self._steps(source, before):
            return False
        if run.position == 0:
            raise ValueError(
                f"the iterable of batches gave none in epoch {self.epoch + 1}; pass one that can be gone through again"
            )
        row = self._measured(source, before)
        row["lr"] = self.rate(self.steps - 1)
        assert run.fit is not None
        size = max(run.fit.batch_size, 1024)
        if self.metrics and isinstance(source, Rows):
            row.update(self._evaluate(source.data, size, loss=False))
        if validation is not None:
            row.update({f"val_{name}": value for name, value in self._evaluate(validation, size).items()})
        row["seconds"] = time.perf_counter() - start
        run.end_epoch(row)
        tell(self.callbacks, "on_epoch_end", self)
        return True

    def _steps(self, source: Rows | Stream, before: Snapshot) -> bool:
        """The steps of an epoch; returns whether all were made."""
        run = self.run
        limit = 1 if any(hasattr(c, "on_step_end") for c in self.callbacks) else None
        try:
            for chunk in source.epoch(run.epoch, run.position, limit):
                if self._stop:
                    return False
                run.sums = run.advance(chunk, run.weigh(chunk.mean))
                run.position += chunk.steps
                if limit:
                    tell(self.callbacks, "on_step_end", self)
                tell(self.callbacks, "on_progress", self)
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt, perhaps between a step and its count
                run.restore(before)
            raise
        return True

    @np.errstate(all="ignore")  # what is not finite is found and told of
    def _measured(self, source: Rows | Stream, before: Snapshot) -> dict[str, float]:
        """The epoch's sums, read from the device: the one crossing of an epoch."""
        backend, network, run = self.network.backend, self.network, self.run
        sums = (*run.sums, *(backend.xp.sum(0.0 * vector) for vector in (network.theta, network.stats)))
        total, weight, cost, skipped, *nans = map(float, backend.to_host(backend.xp.stack(sums)))
        finite = all(map(math.isfinite, (total, cost, *nans))) and skipped < run.position
        if not finite or (skipped and self.on_nonfinite == "raise"):
            raise divergence.error(run, source, before, total / weight if weight else math.nan)
        row = {"loss": total / (weight or 1.0) if self.loss.reduction == "mean" else total}
        if self.l1 or self.l2:
            row["penalty"] = cost / (run.position - skipped)
        if skipped:
            row["skipped"] = skipped
        return row

    # --- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Data,
        y: Data,
        *,
        sample_weight: Data | None = None,
        output_weight: Data | None = None,
        batch_size: int = 1024,
    ) -> dict[str, float]:
        """The loss and the metrics on data, in inference mode."""
        data = self.preparation.data((x, y, sample_weight), ("x", "y"), output_weight=output_weight)
        return self._evaluate(data, count(batch_size, "batch_size"))

    def _evaluate(self, data: Batch, batch_size: int, loss: bool = True) -> dict[str, float]:
        objective = self.run.step.objective
        return measure(self.network, data, batch_size, objective=objective, metrics=self.metrics, with_loss=loss)


def _warn_of_constant_norms(network: Network) -> None:
    """A row of one feature less its mean is 0."""
    for i, layer in enumerate(network.layers):
        if isinstance(layer, LayerNorm) and network.chain.widths[i] == 1:
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


def _metrics(wanted: Any) -> list[metrics.Metric]:
    if isinstance(wanted, str) or callable(wanted):
        wanted = [wanted]
    if not isinstance(wanted, Iterable):
        raise TypeError(f"metrics is a sequence of names and functions, got {wanted!r}")
    return [metrics.get(m) for m in wanted]
