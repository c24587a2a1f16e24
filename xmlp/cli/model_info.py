"""`xmlp info MODEL`: what a model predicts, from what, and how it was trained."""

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from xmlp.cli import model
from xmlp.cli.listing import MOST, by_kind, listed, names_of, wrapped
from xmlp.cli.text import json_line
from xmlp.data import CategoryColumn, Column, DateColumn, TableSchema
from xmlp.model import network as networks
from xmlp.model.network import Network


def tell(path: str, as_json: bool) -> None:
    """Describe a model file; one that `xmlp train` did not write has no columns."""
    network = networks.load(path, "numpy")
    schema = model.schema(path, network) if "table" in network.metadata else None
    if as_json:
        click.echo(json_line(_facts(path, network, schema)))
    else:
        click.echo("\n".join(_screen(path, network, schema, max(30, shutil.get_terminal_size((100, 24)).columns))))


def _training(network: Network) -> dict[str, Any]:
    made = network.metadata.get("training")
    return made if isinstance(made, dict) else {}


def _facts(path: str, network: Network, schema: TableSchema | None) -> dict[str, Any]:
    return {
        "model": path,
        "table": None if schema is None else schema.to_json(),
        "features": None if schema is None else list(schema.feature_names),
        "in_features": network.in_features,
        "out_features": network.out_features,
        "link": network.link,
        "parameters": network.layout.size,
        "dtype": network.dtype,
        "layers": [type(layer).__name__ for layer in network.layers],
        "training": _training(network),
    }


def _screen(path: str, network: Network, schema: TableSchema | None, width: int) -> Iterator[str]:
    if schema is None:
        yield from wrapped(f"{path}: not written by `xmlp train`, so that its inputs have no names", width, "")
    else:
        form = f" ({schema.target_format})" if str(schema.target_format) else ""
        yield from wrapped(f"{path}: a {schema.task}, predicts {schema.target}{form}", width, "")
        if schema.classes:
            yield from wrapped(names_of(schema.classes, 2 * (width - 4)), width, "  ")
        if len(schema.columns) <= MOST:
            yield from listed("from", [(c.name, c.kind, partial(_about, c)) for c in schema.columns], width)
        else:
            yield f"from {len(schema.columns)} columns:"
            yield from by_kind(schema.columns, width)
    layers = ", ".join(type(layer).__name__ for layer in network.layers)
    numbers = f"{network.in_features} features, {network.out_features} outputs, {network.layout.size} parameters"
    yield from wrapped(f"network: {numbers}, {network.dtype}; {layers}", width, "")
    if made := _training(network):
        told = ", ".join(f"{name} {_word(v)}" for name, v in made.items() if name != "data")  # a fingerprint
        yield from wrapped(f"trained: {told}", width, "")


def _about(column: Column, room: int) -> str:
    if isinstance(column, CategoryColumn):
        return names_of(column.categories, room) + "; or missing" * column.gaps
    if isinstance(column, DateColumn):
        parts = f"{column.layout}; {', '.join(('days', *column.parts))}"
        return parts + ("; gaps are refused" if column.strict else "; or missing" * column.gaps)
    gaps = "gaps are refused" if column.mean is None else f"gaps become {column.mean:.6g}"
    return "; ".join(filter(None, (str(column.format), gaps)))


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_word, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
