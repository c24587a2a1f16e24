"""A network as two vectors and JSON, and back: what files, pickles and copies hold."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from xmlp.errors import CheckpointError
from xmlp.losses import LINKS, Link
from xmlp.network import configs
from xmlp.types import Dtype

FIELDS = ("layers", "in_features", "dtype", "seed", "link", "metadata")  # of a configuration
DECISIONS = {"temperature": 1.0, "thresholds": None}  # which it has where they differ from these
VECTORS = ("theta", "stats")


class Description(NamedTuple):
    """What a configuration says, checked."""

    layers: Any  # JSON
    in_features: Any
    dtype: Dtype
    seed: Any
    settings: dict[str, Any]


def described(config: Mapping[str, Any], arrays: Mapping[str, Any]) -> Description:
    """The description in a configuration and the arrays that come with it.

    Raises
    ------
    CheckpointError
        If they lack something, hold something else, or do not fit together.
    """
    _check_names("configuration", config, FIELDS, (*FIELDS, *DECISIONS))
    _check_names("file", arrays, VECTORS, VECTORS)
    dtype = config["dtype"]
    if dtype not in ("float32", "float64") or any(str(a.dtype) != dtype for a in arrays.values()):
        kinds = ", ".join(f"{name} of {a.dtype}" for name, a in arrays.items())
        raise CheckpointError(f"the dtype of the network is {dtype!r}; the file holds {kinds}")
    if not isinstance(config["metadata"], dict):
        raise CheckpointError(f"metadata is not an object but {type(config['metadata']).__name__}")
    settings = {name: config[name] for name in ("link", "metadata", *DECISIONS) if name in config}
    return Description(config["layers"], config["in_features"], dtype, config["seed"], settings)


def _check_names(what: str, given: Mapping[str, Any], needed: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    if missing := set(needed) - set(given):
        raise CheckpointError(f"the {what} lacks {min(missing)!r}")
    if strange := set(given) - set(allowed):
        raise CheckpointError(f"the {what} holds {min(map(str, strange))!r}, which does not belong there")


def link_of(name: Any, custom: Mapping[str, Any] | None) -> Link:
    """The link of that name; one that xmlp does not have is looked up in `custom` alone."""
    known = {**(custom or {}), **LINKS}
    link = known.get(name) if isinstance(name, str) else None
    if not isinstance(link, Link):
        raise CheckpointError(f"unknown link {name!r}: pass a link of your own as custom={{name: link}}")
    return link


def layers_of(description: Description, custom: Mapping[str, Any] | None) -> Any:
    """The layers; a class or formula that xmlp does not have is looked up in `custom` alone."""
    return configs.from_json(description.layers, custom)


def parts(arrays: dict[str, Any], config: dict[str, Any], path: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the network, in a file of a network or a checkpoint of training."""
    if set(config) != {"network", "trainer"}:
        return arrays, config
    if not isinstance(config["network"], dict):
        raise CheckpointError(f"{path}: the configuration of the network is not a JSON object")
    return {name: a for name, a in arrays.items() if name in VECTORS}, config["network"]
