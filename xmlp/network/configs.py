"""Layers, losses, optimizers and all that they are made of as JSON, and back.

The names in a file are looked up in closed tables and never turned into an import. What users have written themselves
comes back only if the caller passes it in by name.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from xmlp import activations, initializers, layers, losses, optimizers, schedules
from xmlp.errors import CheckpointError, unknown
from xmlp.graph import Formula
from xmlp.host.scalars import plain

Json = Any

_INITIALIZERS: tuple[type, ...] = (
    initializers.Constant,
    initializers.Normal,
    initializers.VarianceScaling,
    initializers.Orthogonal,
)
_LOSSES: tuple[type, ...] = (*losses.LOSSES.values(), losses.ElementwiseLoss)
_CLASSES: dict[str, Any] = {
    **layers.LAYERS,
    **{c.__name__: c for c in (*_LOSSES, *optimizers.OPTIMIZERS.values())},
    **{f"schedules.{name}": c for name, c in schedules.SCHEDULES.items()},
    **{f"initializers.{c.__name__}": c for c in _INITIALIZERS},
}
_NAMES = {c: name for name, c in _CLASSES.items()}
_DEPTH = 20


def to_json(value: Any) -> Json:
    """A configured object as JSON: {"type": name, field: value, ...}; activations are {"activation": name, ...}."""
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, activations.UserActivation):
        return to_json(value.functions)
    if isinstance(value, Formula):
        given = {k: v for k, v in value.scalars.items() if v is not None}
        own = activations.ACTIVATIONS.get(value.name)
        if own is not None and (not isinstance(own, Formula) or own.scalars.keys() != value.scalars.keys()
                                or own.bind(**given) != value):  # fmt: skip
            raise ValueError(f"the formula {value.name} cannot be saved: xmlp has another of that name. Rename it.")
        return {"activation": value.name, **given}
    if isinstance(value, activations.Softmax):
        return {"activation": value.name}
    kind = type(value)
    if not hasattr(value, "__dataclass_fields__"):
        raise TypeError(
            f"{value!r} cannot be saved: it is not a frozen dataclass, a formula, a number or a string. "
            "Write it as a dataclass whose fields are its settings."
        )
    if kind not in _NAMES and kind.__name__ in _CLASSES:
        raise ValueError(f"the class {kind.__name__} cannot be saved: xmlp has another of that name. Rename it.")
    return {"type": _NAMES.get(kind, kind.__name__), **{f.name: to_json(getattr(value, f.name)) for f in fields(value)}}


def json_value(value: Any, what: str, _depth: int = 0) -> Json:
    """What people attach to a network, as JSON: numbers and arrays of any library, strings, lists, dicts of those.

    Raises
    ------
    TypeError, ValueError
        If JSON cannot hold it; with its place.
    """
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise ValueError(f"{what} is not JSON compliant: it is {value!r}, and a file holds finite numbers")
        return value
    if _depth > 5 * _DEPTH:
        raise ValueError(f"{what} is nested more than {5 * _DEPTH} deep, so it cannot be saved")
    if isinstance(value, Mapping):
        return {_key(k, what): json_value(v, f"{what}[{k!r}]", _depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(v, f"{what}[{i}]", _depth + 1) for i, v in enumerate(value)]
    if hasattr(value, "tolist"):
        return json_value(value.tolist(), what, _depth + 1)
    raise TypeError(
        f"{what} is not JSON serializable: it is {value!r}, of {type(value).__name__}. A file holds numbers, strings, "
        "arrays, lists and dicts: convert it, as with str(...)."
    )


def _key(key: Any, what: str) -> str:
    """The key of an object of JSON, which is a string."""
    key = plain(key)
    if key is None or isinstance(key, (bool, int, float, str)):
        return key if isinstance(key, str) else json.dumps(key)
    raise TypeError(f"{what} is not JSON serializable: its key {key!r} is no string. Take str(...).")


def from_json(data: Json, custom: Mapping[str, Any] | None = None, _depth: int = 0) -> Any:
    """The object that `to_json` described; `custom` adds the caller's own classes and formulas by name.

    Raises
    ------
    CheckpointError
        If a name is not known, a field is missing or too many, or a value is refused by its class.
    """
    if _depth > _DEPTH:
        raise CheckpointError(f"the configuration is nested more than {_DEPTH} deep")
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if isinstance(data, list):
        return tuple(from_json(v, custom, _depth + 1) for v in data)
    if not isinstance(data, dict):
        raise CheckpointError(f"the configuration holds a {type(data).__name__}")
    custom = custom or {}
    values = {k: from_json(v, custom, _depth + 1) for k, v in data.items() if k not in ("type", "activation")}
    if "activation" in data and "type" not in data:
        return _activation(data["activation"], values, custom)
    name = data.get("type")
    known = {**_CLASSES, **{k: v for k, v in custom.items() if inspect.isclass(v)}}
    if not isinstance(name, str) or name not in known:
        raise CheckpointError(_stranger("type", name, known))
    if "activation" in data:  # a field of that name, as in Dense
        values["activation"] = from_json(data["activation"], custom, _depth + 1)
    try:
        return known[name](**values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the configuration of {name} is not valid: {error}") from error


def _activation(name: Any, scalars: dict[str, Any], custom: Mapping[str, Any]) -> Any:
    known = {**activations.ACTIVATIONS, **{k: v for k, v in custom.items() if not inspect.isclass(v)}}
    if not isinstance(name, str) or name not in known:
        raise CheckpointError(_stranger("activation", name, known))
    function: Any = activations.get(known[name])
    if not scalars:
        return function
    try:
        return function.bind(**scalars)
    except (AttributeError, TypeError) as error:
        raise CheckpointError(f"the activation {name} does not take {scalars}: {error}") from error


def _stranger(what: str, name: Any, known: Mapping[str, Any]) -> str:
    return f"{unknown(what, name, known)} If it is your own, pass it: custom={{{str(name)!r}: ...}}."


def settings(value: Any) -> str:
    """The fields of a configured object that differ from their defaults, in words."""
    skip = {"units", "layers", "offset"}
    shown = [f for f in fields(value) if f.name not in skip and getattr(value, f.name) != f.default]
    shown = [f for f in shown if getattr(value, f.name) is not activations.identity]
    return " ".join(f"{f.name}={getattr(value, f.name)!r}" for f in shown)
