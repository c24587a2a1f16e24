"""Checkpoints: the whole state of a trainer in one file, and a trainer from a file."""

import math
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import xmlp
from xmlp.backends import Backend
from xmlp.callbacks import steps_in
from xmlp.errors import CheckpointError
from xmlp.host import files
from xmlp.host.scalars import plain
from xmlp.model.network import Network
from xmlp.model.trainer import Fit, Trainer
from xmlp.network import configs
from xmlp.network.row_weights import Mean
from xmlp.training.history import History
from xmlp.training.sources import fingerprint
from xmlp.training.step import State

if TYPE_CHECKING:
    from xmlp.metrics import Metric

_OWN = ("loss", "optimizer", "metrics")  # what may be a function or class of the caller's own
_PLAIN = ("l1", "l2", "clip_norm", "on_nonfinite", "seed")
_COUNTERS = ("steps", "epoch", "position", "lr_scale")


def save(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """See `Trainer.save`."""
    network, to_host = trainer.network, trainer.network.backend.to_host
    arrays = {**network.arrays(), "sums": np.stack([to_host(s) for s in trainer._sums])}
    arrays.update({f"slot.{name}": to_host(slot) for name, slot in trainer._slots.items()})
    arrays["history"] = np.asarray([*trainer.history.values()], dtype=np.float64)
    memories = []
    for i, callback in enumerate(_remembering(trainer.callbacks)):
        values, kept = {}, callback.state()
        for name, value in zip(kept, plain([*kept.values()]), strict=True):
            if value is None or isinstance(value, (bool, int, float, str)):
                values[name] = value
            else:
                arrays[f"callback.{i}.{name}"] = value if isinstance(value, np.ndarray) else to_host(value)
        memories.append({"type": type(callback).__name__, "values": values})
    pure, fit = trainer._pure, trainer._fit
    config = {
        "loss": _described(trainer.loss),
        "optimizer": _described(trainer.optimizer),
        "metrics": [_metric(m) for m in trainer.metrics],
        **{"l1": pure.l1, "l2": pure.l2, "clip_norm": pure.clip_norm},
        **{"on_nonfinite": trainer.on_nonfinite, "seed": trainer.seed},
        **{name: plain(getattr(trainer, name)) for name in _COUNTERS},
        "weights": trainer._mean._asdict(),
        "fit": fit and asdict(fit),
        "order": fit and fit.rows and fingerprint(fit.rows, trainer.seed, trainer.epoch, fit.shuffle),
        "history": [*trainer.history],
        "callbacks": memories,
        "versions": {"xmlp": xmlp.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    config = {"network": network.config(), "trainer": config}
    files.write(path, arrays, config, any_numbers=("history",))


def _remembering(callbacks: Sequence[Any], known: Sequence[str] = ()) -> list[Any]:
    """Those with something to remember, or of a type that had."""
    return [c for c in callbacks if hasattr(c, "state") and (c.state() or type(c).__name__ in known)]


def _described(value: Any) -> Any:
    """JSON of an object, or the name of what only its owner can make again."""
    try:
        return configs.to_json(value)
    except (TypeError, ValueError):
        return {"own": type(value).__name__}


def _metric(metric: "Metric") -> Any:
    from xmlp import metrics

    try:
        known = metrics.get(metric.name).function is metric.function
    except ValueError:
        known = False
    return metric.name if known else {"own": metric.name}


def resume(
    path: str | os.PathLike[str], *, backend: str | Backend = "numpy", callbacks: Sequence[Any] = (), loss: Any = None,
    optimizer: Any = None, metrics: Sequence[Any] | None = None, custom: Mapping[str, Any] | None = None,
    planned: bool | None = None,
) -> Trainer:  # fmt: skip
    """See `Trainer.resume`."""
    path, given = Path(path), {"loss": loss, "optimizer": optimizer, "metrics": metrics}
    if not path.is_dir():
        return _resumed(path, backend, callbacks, given, custom, planned)
    candidates = steps_in(path)
    for i, candidate in enumerate(candidates):
        try:
            return _resumed(candidate, backend, callbacks, given, custom, planned)
        except Misfit:
            raise
        except CheckpointError as error:
            if i + 1 == len(candidates):
                raise
            warnings.warn(f"going back to the checkpoint before the latest: {error}", stacklevel=3)
    raise CheckpointError(f"the folder {path} holds no checkpoint, no file step-....safetensors")


class Misfit(CheckpointError):
    """The file is sound, but what the caller passes does not go with it: an older one would not either."""


def _resumed(
    path: Path, backend: str | Backend, callbacks: Sequence[Any], given: dict[str, Any],
    custom: Mapping[str, Any] | None, planned: bool | None,
) -> Trainer:  # fmt: skip
    arrays, config = files.read(path, any_numbers=("history",))
    if set(config) != {"network", "trainer"}:
        raise CheckpointError(f"{path} is not a checkpoint of training but the model alone: use xmlp.load")
    parts: dict[str, Any] = {name: arrays.pop(name) for name in ("theta", "stats") if name in arrays}
    saved = config["trainer"]
    network = Network.from_config(config["network"], parts, backend=backend, custom=custom)
    try:
        own = {name: _made(path, name, saved[name], given[name], custom) for name in _OWN}
        settings = {name: saved[name] for name in _PLAIN}
        trainer = Trainer(network, callbacks=callbacks, planned=planned, **own, **settings)
        _fill(trainer, arrays, saved, path)
    except CheckpointError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} does not describe a trainer: {type(error).__name__}: {error}") from error
    return trainer


def _made(path: Path, name: str, saved: Any, given: Any, custom: Mapping[str, Any] | None) -> Any:
    """The loss, the optimizer or the metrics: what the caller gives, else what the file describes."""
    if given is not None:
        return given
    for part in saved if isinstance(saved, list) else [saved]:
        if isinstance(part, dict) and "own" in part:
            raise Misfit(f"{path}: the run had {name} of its own, {part['own']!r}: pass {name}= to Trainer.resume")
    return configs.from_json(saved, custom)


def _fill(trainer: Trainer, arrays: dict[str, Any], saved: dict[str, Any], path: Path) -> None:
    """Put the saved state into a new trainer."""
    backend, network = trainer.network.backend, trainer.network
    for name in ("steps", "epoch", "position"):
        setattr(trainer, name, _whole(saved, name))
    if type(saved["lr_scale"]) not in (int, float) or not 0 <= saved["lr_scale"] < math.inf:
        raise ValueError(f"lr_scale is {saved['lr_scale']!r}")
    trainer.lr_scale = float(saved["lr_scale"])
    trainer._mean = _mean(saved.get("weights", {"rows": 0, "value": 0.0}))  # version 1 knew nothing of it
    sums = _array(arrays, "sums", (len(trainer._sums),), network.dtype)
    slots = {n: _array(arrays, f"slot.{n}", (network.layout.size,), network.dtype) for n in trainer._slots}
    moved = {name: backend.from_host(slot) for name, slot in slots.items()}
    trainer._commit(State(network.theta, moved, network.stats, ()))
    trainer._sums = tuple(backend.from_host(s) for s in sums)
    history = arrays.pop("history")
    if history.dtype != np.float64 or history.shape[:1] != (len(saved["history"]),):
        raise ValueError("the history does not fit its names")
    columns = ([*map(float, column)] for column in history)
    trainer.history = History(zip(map(str, saved["history"]), columns, strict=True))
    if trainer.history.epochs != trainer.epoch:
        raise ValueError(f"the history has {trainer.history.epochs} epochs, the counter says {trainer.epoch}")
    fit = saved["fit"]
    if fit is not None:
        trainer._fit = Fit(**fit)
        sizes = [_whole(fit, name) for name in ("last", "batch_size", "rows")]
        split = fit["validation_split"]
        if "held" in fit:
            _whole(fit, "held")
        if not sizes[1] or type(fit["shuffle"]) is not bool or type(split) is not float or not 0 <= split < 1:
            raise ValueError(f"the fit is {fit}")
    if trainer.position:
        trainer._order = saved["order"]
    memories = [{**m["values"]} for m in saved["callbacks"]]
    kinds = [m["type"] for m in saved["callbacks"]]
    for name in [name for name in arrays if name.startswith("callback.")]:
        _, number, key = name.split(".", 2)
        memories[int(number)][key] = arrays.pop(name)
    if arrays:
        raise ValueError(f"the file holds {min(arrays)!r}, which does not belong there")
    listeners = _remembering(trainer.callbacks, kinds)
    if [type(c).__name__ for c in listeners] != kinds:
        raise Misfit(
            f"{path} holds the memory of these callbacks: {', '.join(kinds) or 'none'}. "
            "Pass callbacks of these kinds, in this order."
        )
    for callback, memory in zip(listeners, memories, strict=True):
        callback.restore(memory)


def _mean(saved: Any) -> Mean:
    rows, value = _whole(saved, "rows"), saved["value"]
    if type(value) is not float or not 0 <= value < math.inf:
        raise ValueError(f"the mean weight is {value!r}")
    return Mean(rows, value)


def _whole(values: dict[str, Any], name: str) -> int:
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
