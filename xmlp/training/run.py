"""The state of a training run: what steps, epochs and fits change, and nothing else.

A run can be copied, taken back to an earlier moment, and written as named arrays and JSON: that is all that
checkpoints, divergence and the undoing of a failed fit need to know of training.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from xmlp.backends import Backend
from xmlp.compiler.planner import Plan
from xmlp.host.scalars import plain
from xmlp.losses import Link
from xmlp.network.chain import Chain
from xmlp.network.row_weights import Mean
from xmlp.schedules import rate
from xmlp.training.history import History
from xmlp.training.planned import runner, trace
from xmlp.training.sources import Chunk, fingerprint
from xmlp.training.step import Batch, State, Step, Sums
from xmlp.types import Array


class Model(Protocol):
    """What is trained: layers with their two vectors."""

    link_object: Link

    @property
    def chain(self) -> Chain:
        """The layers."""

    @property
    def backend(self) -> Backend:
        """What they compute with."""

    @property
    def theta(self) -> Array:
        """All parameters, (P,)."""

    @property
    def stats(self) -> Array:
        """All statistics, (S,)."""

    @property
    def vectors(self) -> dict[str, Array]:
        """Both by name."""

    def commit(self, theta: Array, stats: Array) -> None:
        """Take the result of training."""


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
    link: Link
    mean: Mean
    state: State


@dataclass
class Run:
    """Training of one model by one step.

    Attributes
    ----------
    slots : dict of str to array (P,)
        The optimizer's vectors.
    sums : Sums
        Of the epoch under way.
    steps, epoch, position : int
        Updates made, epochs completed, and steps of the epoch under way.
    mean : Mean
        Of the weights of all rows so far.
    part : bool
        Whether the rows of a `fit` are a part of a stream, and not a data set.
    fit : Fit, optional
        The one under way, or the last one.
    order : str, optional
        The fingerprint of the order of an epoch that was cut, from a checkpoint.
    """

    model: Model
    step: Step
    seed: int
    planned: bool | None
    steps: int = 0
    epoch: int = 0
    position: int = 0
    lr_scale: float = 1.0
    mean: Mean = field(default_factory=Mean)
    part: bool = False
    history: History = field(default_factory=History)
    fit: Fit | None = None
    order: str | None = None

    def __post_init__(self) -> None:
        self.slots = self.step.optimizer.init(self.model.theta)
        self.sums = self.no_sums()
        self.runner = runner(self.step, self.planned)

    def __getstate__(self) -> dict[str, Any]:
        """All of the state, with arrays on the host; what is bound to this process is made again elsewhere."""
        to_host = self.model.backend.to_host
        state = {name: value for name, value in self.__dict__.items() if name != "runner"}
        slots = {name: to_host(slot) for name, slot in self.slots.items()}
        return {**state, "slots": slots, "sums": [*map(to_host, self.sums)]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        from_host = self.model.backend.from_host
        self.slots = {name: from_host(np.array(slot)) for name, slot in self.slots.items()}
        self.sums = Sums(*(from_host(np.array(s)) for s in self.sums))
        self.runner = runner(self.step, self.planned)

    def take(self, step: Step) -> None:
        """Go on with another step, whose optimizer takes the vectors of the present one."""
        optimizer = replace(step.optimizer, lr=self.step.optimizer.lr)
        if replace(step, optimizer=optimizer) != self.step:  # programs do not depend on the learning rate
            self.runner = runner(step, self.planned, self.runner)
        self.step = step

    def rate(self, step: int) -> float:
        """The learning rate after `step` updates."""
        return rate(self.step.optimizer.lr, step) * self.lr_scale

    # --- steps --------------------------------------------------------------------------------------------------------

    def no_sums(self) -> Sums:
        """Those of an epoch that begins."""
        backend = self.model.backend
        zero = backend.xp.zeros((), dtype=backend.float_dtype, device=backend.device)
        return Sums(zero, zero, zero, zero)

    def state(self, sums: Sums | None = None) -> State:
        """What the next step changes, with the sums of this epoch unless others are given."""
        return State(self.model.theta, self.slots, self.model.stats, self.sums if sums is None else sums)

    def commit(self, state: State) -> None:
        """Make the result of steps the model's and the optimizer's own."""
        assign = self.model.backend.assign
        self.model.commit(state.theta, state.stats)
        self.slots = {name: assign(self.slots[name], value) for name, value in state.slots.items()}

    @np.errstate(all="ignore")  # what is not finite is found and told of
    def advance(self, chunk: Chunk, sums: Sums) -> Sums:
        """Make the steps of a chunk. Returns the sums with theirs added."""
        rates = [self.rate(self.steps + i) for i in range(chunk.steps)]
        state = self.runner.run(self.state(sums), chunk.data, chunk.order, chunk.size, rates, self.steps, self.seed)
        self.commit(state)
        link = self.step.objective.link
        self.model.link_object = self.model.link_object if link.is_identity else link
        self.steps += chunk.steps
        return state.sums

    def weigh(self, mean: Mean | None) -> Sums:
        """Go on with another mean weight; returns the sums of the epoch where its weights are divided by that."""
        old, self.mean = self.mean, self.mean if mean is None else mean
        if not old.rows or old.value == self.mean.value:
            return self.sums
        factor, asarray = old.value / (self.mean.value or 1.0), self.model.backend.xp.asarray
        return self.sums._replace(loss=asarray(self.sums.loss * factor), weight=asarray(self.sums.weight * factor))

    def end_epoch(self, row: dict[str, float]) -> None:
        """Count an epoch, of which this is the row of the history."""
        self.epoch, self.position, self.sums = self.epoch + 1, 0, self.no_sums()
        self.history.append(row)

    def plan(self, batch_size: int) -> Plan:
        """The plan of a step with this batch size; see `Trainer.plan`."""
        chain, dtype = self.step.objective.chain, self.model.backend.dtype
        x, rows = np.zeros((batch_size, chain.in_features), dtype), np.zeros(batch_size, np.int32)
        sums = Sums(*(np.zeros((), dtype),) * 4)
        batch = Batch(x, self.no_targets(batch_size), None, rows)
        return self.model.backend.lower(trace(self.step, self.state(sums), batch).plan)

    def no_targets(self, rows: int) -> Array:
        """Zeros for targets: labels if the loss takes them, else reals."""
        outputs, loss = self.step.objective.chain.out_features, self.step.objective.loss
        try:
            targets = loss.prepare(np.zeros(rows, np.int32), outputs)
        except (TypeError, ValueError):
            targets = np.zeros((rows, outputs))
        return targets.astype(np.int32 if targets.ndim == 1 else self.model.backend.dtype)

    # --- back to a moment ---------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """A copy of all that training changes."""
        copy, now = self.model.backend.copy, self.state()
        slots = {name: copy(slot) for name, slot in now.slots.items()}
        kept = State(copy(now.theta), slots, copy(now.stats), Sums(*map(copy, now.sums)))
        return Snapshot(self.steps, self.position, self.lr_scale, self.model.link_object, self.mean, kept)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a moment."""
        self.steps, self.position, self.lr_scale, self.model.link_object, self.mean, state = snapshot
        self.sums = state.sums
        self.commit(state)

    # --- to a file and back -------------------------------------------------------------------------------------------

    def to_arrays(self) -> dict[str, Any]:
        """The vectors that are saved, on the host; those of the model are its own affair."""
        to_host = self.model.backend.to_host
        arrays = {"sums": np.stack([to_host(s) for s in self.sums])}
        arrays |= {f"slot.{name}": to_host(slot) for name, slot in self.slots.items()}
        return {**arrays, "history": np.asarray([*self.history.values()], dtype=np.float64)}

    def config(self) -> dict[str, Any]:
        """The rest, as JSON."""
        fit, counters = self.fit, ("steps", "epoch", "position", "lr_scale")
        return {
            **{name: plain(getattr(self, name)) for name in counters},
            "weights": self.mean._asdict(),
            "fit": fit and asdict(fit),
            "order": fit and fit.rows and fingerprint(fit.rows, self.seed, self.epoch, fit.shuffle),
            "history": [*self.history],
        }

    def fill(self, config: Mapping[str, Any], arrays: dict[str, Any]) -> None:
        """Take the state of `config()` and `to_arrays()`, which loses what is taken.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are not sound.
        """
        backend, size = self.model.backend, self.step.objective.chain.layout.size
        for name in ("steps", "epoch", "position"):
            setattr(self, name, _whole(config, name))
        self.lr_scale = _positive(config, "lr_scale")
        weights = config.get("weights", {"rows": 0, "value": 0.0})  # version 1 knew nothing of it
        self.mean = Mean(_whole(weights, "rows"), _positive(weights, "value"))
        sums = _array(arrays, "sums", (len(Sums._fields),), backend.dtype)
        slots = {name: _array(arrays, f"slot.{name}", (size,), backend.dtype) for name in self.slots}
        moved = {name: backend.from_host(slot) for name, slot in slots.items()}
        self.commit(State(self.model.theta, moved, self.model.stats, self.sums))
        self.sums = Sums(*(backend.from_host(s) for s in sums))
        self.history = _history(config["history"], arrays.pop("history"))
        if self.history.epochs != self.epoch:
            raise ValueError(f"the history has {self.history.epochs} epochs, the counter says {self.epoch}")
        self.fit = None if config["fit"] is None else _fit(config["fit"])
        self.order = config["order"] if self.position else None


def _history(names: list[str], columns: Any) -> History:
    if columns.dtype != np.float64 or columns.shape[:1] != (len(names),):
        raise ValueError("the history does not fit its names")
    return History(zip(map(str, names), ([*map(float, column)] for column in columns), strict=True))


def _fit(saved: Mapping[str, Any]) -> Fit:
    sizes = {name: _whole(saved, name) for name in ("last", "batch_size", "rows", "held") if name in saved}
    split = saved["validation_split"]
    if not sizes["batch_size"] or type(saved["shuffle"]) is not bool or type(split) is not float or not 0 <= split < 1:
        raise ValueError(f"the fit is {saved}")
    return Fit(**saved)


def _positive(values: Mapping[str, Any], name: str) -> float:
    value = values[name]
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value!r}")
    return float(value)


def _whole(values: Mapping[str, Any], name: str) -> int:
    """A count that is not absurd."""
    value = values[name]
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{name} is {value!r}")
    return value


def _array(arrays: dict[str, Any], name: str, shape: tuple[int, ...], dtype: str) -> Any:
    array = arrays.pop(name)
    if array.shape != shape or str(array.dtype) != dtype:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {dtype} {shape}")
    return array
