"""Checkpoints: the whole state of training in one file, and what a file holds."""

import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xmlp import metrics
from xmlp.errors import CheckpointError
from xmlp.host import files
from xmlp.host.scalars import plain
from xmlp.metrics import Metric
from xmlp.network import configs
from xmlp.network.saved import VECTORS
from xmlp.training.run import Run
from xmlp.version import __version__

M = TypeVar("M")
T = TypeVar("T")

OWN = ("loss", "optimizer", "metrics")  # what may be a function or class of the caller's own
PLAIN = ("l1", "l2", "clip_norm", "on_nonfinite", "seed")


class Misfit(CheckpointError):
    """The file is sound, but what the caller passes does not go with it: an older one would not either."""


class Checkpoint(NamedTuple):
    """What a file holds: the model, settings by name, the state of the run, and what callbacks remember."""

    path: Path
    model: dict[str, Any]  # configuration
    vectors: dict[str, Any]  # of the model
    saved: dict[str, Any]
    arrays: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """What the file at `path` holds."""
        arrays, config = files.read(path, any_numbers=("history",))
        if set(config) != {"network", "trainer"}:
            raise CheckpointError(f"{path} is not a checkpoint of training but the model alone: use xmlp.load")
        vectors: dict[str, Any] = {name: arrays.pop(name) for name in VECTORS if name in arrays}
        return cls(path, config["network"], vectors, config["trainer"], arrays)

    def settings(self, given: Mapping[str, Any], custom: Mapping[str, Any] | None) -> dict[str, Any]:
        """Those of the trainer: what the caller gives, else what the file describes."""
        own = {name: self._own(name, given[name], custom) for name in OWN}
        return own | {name: self.saved[name] for name in PLAIN}

    def _own(self, name: str, given: Any, custom: Mapping[str, Any] | None) -> Any:
        saved = self.saved[name]
        if given is not None:
            return given
        for part in saved if isinstance(saved, list) else [saved]:
            if isinstance(part, dict) and "own" in part:
                raise Misfit(
                    f"{self.path}: the run had {name} of its own, {part['own']!r}: pass {name}= to Trainer.resume"
                )
        return configs.from_json(saved, custom)

    def fill(self, run: Run, callbacks: Sequence[Any]) -> None:
        """Give a new run and its callbacks the state that was saved.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the file does not describe one.
        """
        arrays = dict(self.arrays)
        run.fill(self.saved, arrays)
        memories = [{**m["values"]} for m in self.saved["callbacks"]]
        kinds = [m["type"] for m in self.saved["callbacks"]]
        for name in [name for name in arrays if name.startswith("callback.")]:
            _, position, key = name.split(".", 2)
            memories[int(position)][key] = arrays.pop(name)
        if arrays:
            raise ValueError(f"the file holds {min(arrays)!r}, which does not belong there")
        listeners = _remembering(callbacks, kinds)
        if [type(c).__name__ for c in listeners] != kinds:
            raise Misfit(
                f"{self.path} holds the memory of these callbacks: {', '.join(kinds) or 'none'}. "
                "Pass callbacks of these kinds, in this order."
            )
        for callback, memory in zip(listeners, memories, strict=True):
            callback.restore(memory)


def write(
    path: str | os.PathLike[str], model: tuple[dict[str, Any], dict[str, Any]], run: Run, settings: Mapping[str, Any],
    callbacks: Sequence[Any],
) -> None:  # fmt: skip
    """Write a checkpoint of a model, given as its vectors and its configuration, of its run and of what goes with it.

    Parameters
    ----------
    settings : dict
        The names of `OWN` and `PLAIN`.
    """
    vectors, config = model
    memories, memory_arrays = _memories(callbacks, run.model.backend.to_host)
    described = {
        "loss": _described(settings["loss"]),
        "optimizer": _described(settings["optimizer"]),
        "metrics": [_metric(metric) for metric in settings["metrics"]],
        **{name: settings[name] for name in PLAIN},
        **run.config(),
        "callbacks": memories,
        "versions": {"xmlp": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    arrays = {**vectors, **run.to_arrays(), **memory_arrays}
    files.write(path, arrays, {"network": config, "trainer": described}, any_numbers=("history",))


def _memories(callbacks: Sequence[Any], to_host: Callable[[Any], Any]) -> tuple[list[Any], dict[str, Any]]:
    """What callbacks remember: as JSON, and its arrays."""
    memories, arrays = [], {}
    for i, callback in enumerate(_remembering(callbacks)):
        values, kept = {}, callback.state()
        for name, value in zip(kept, plain([*kept.values()]), strict=True):
            if value is None or isinstance(value, (bool, int, float, str)):
                values[name] = value
            else:
                arrays[f"callback.{i}.{name}"] = value if isinstance(value, np.ndarray) else to_host(value)
        memories.append({"type": type(callback).__name__, "values": values})
    return memories, arrays


def _remembering(callbacks: Sequence[Any], known: Sequence[str] = ()) -> list[Any]:
    """Those with something to remember, or of a type that had."""
    return [c for c in callbacks if hasattr(c, "state") and (c.state() or type(c).__name__ in known)]


def _described(value: Any) -> Any:
    """JSON of an object, or the name of what only its owner can make again."""
    try:
        return configs.to_json(value)
    except (TypeError, ValueError):
        return {"own": type(value).__name__}


def _metric(metric: Metric) -> Any:
    try:
        known = metrics.get(metric.name).function is metric.function  # type: ignore[arg-type]  # or no name
    except ValueError:
        known = False
    return metric.name if known else {"own": metric.name}


def resumed(path: str | os.PathLike[str], model: Callable[[Checkpoint], M], make: Callable[[Checkpoint, M], T]) -> T:
    """What `make` makes of a checkpoint and its model, or in a folder of the latest checkpoint that can be read."""
    path = Path(path)
    if not path.is_dir():
        return _made(path, model, make)
    candidates = steps_in(path)
    for i, candidate in enumerate(candidates):
        try:
            return _made(candidate, model, make)
        except Misfit:
            raise
        except CheckpointError as error:
            if i + 1 == len(candidates):
                raise
            warnings.warn(f"going back to the checkpoint before the latest: {error}", stacklevel=3)
    raise CheckpointError(f"the folder {path} holds no checkpoint, no file step-....safetensors")


def _made(path: Path, model: Callable[[Checkpoint], M], make: Callable[[Checkpoint, M], T]) -> T:
    checkpoint = Checkpoint.read(path)
    its_model = model(checkpoint)
    try:
        return make(checkpoint, its_model)
    except CheckpointError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} does not describe a trainer: {type(error).__name__}: {error}") from error


def steps_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder, latest first."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)
