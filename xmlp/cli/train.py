"""`xmlp train`: a model from a CSV file or from the embedded digits."""

import importlib.util
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

import xmlp
from xmlp import __version__, files, optimizers, schedules
from xmlp.backends import Backend
from xmlp.cli import jobs, model, options
from xmlp.cli.interrupt import Interrupt
from xmlp.cli.progress import Course, Json, Lines, Quiet, View
from xmlp.cli.text import quantity
from xmlp.data.table import TASKS
from xmlp.errors import BackendError
from xmlp.layers import Standardize
from xmlp.network import Network
from xmlp.optimizers import Optimizer
from xmlp.training import Trainer


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained."""

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    dropout: float = 0.0
    normalization: str = "none"
    optimizer: str = "adamw"
    lr: float | None = 3e-3
    weight_decay: float | None = None
    schedule: str = "onecycle"
    epochs: int = 60
    batch_size: int = 32
    validation: float = 0.2


TABLE = Recipe()
DIGITS = Recipe(hidden=(256,), dropout=0.2, epochs=40, batch_size=64, validation=0.1)
_SCHEDULES = {"constant": None, "onecycle": schedules.OneCycle, "cosine": schedules.Cosine}


def _default(name: str) -> str:
    """The default of an option, for the help text."""
    ours = [getattr(recipe, name) for recipe in (TABLE, DIGITS)]
    texts = [",".join(map(str, v)) if isinstance(v, tuple) else f"{v:g}" if isinstance(v, float) else str(v) for v in ours]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]}; digits: {texts[1]}"


def _setting(name: str, help: str, **settings: Any) -> Any:
    """An option for a field of the recipe."""
    option = f"--{name.replace('_', '-')}"
    return click.option(option, name, help=f"{help} [default: {_default(name)}]", **settings)


@click.command("train")
@click.argument("csv", metavar="[CSV]", required=False)
@click.option("--target", metavar="NAME", help="The column to predict.")
@click.option(
    "--task", metavar="|".join(TASKS), callback=options.one_of("task", TASKS), help="[default: by what the target looks like]"
)
@click.option("--model", "path", metavar="FILE", default="model.safetensors", show_default=True, help="Where the model goes.")
@_setting("hidden", "Sizes of the hidden layers; none for a linear model.", metavar="128,64", callback=options.sizes)
@_setting("activation", "Of the hidden layers.", metavar="NAME")
@_setting("dropout", "Rate after each hidden layer.", metavar="RATE", type=float, callback=options.between(0, 1))
@_setting(
    "normalization", "batch, layer or none.", metavar="NAME", callback=options.one_of("normalization", ("batch", "layer", "none"))
)
@_setting("optimizer", f"{', '.join(optimizers.OPTIMIZERS)}.", metavar="NAME")
@_setting("lr", "Learning rate, at the peak of the schedule.", metavar="RATE", type=float, callback=options.between(0, above=True))
@click.option("--weight-decay", metavar="X", type=float, callback=options.between(0), help="For adamw. [default: 0.01]")
@_setting("schedule", f"{', '.join(_SCHEDULES)}.", metavar="NAME", callback=options.one_of("schedule", _SCHEDULES))
@_setting("epochs", "Passes over the training rows.", metavar="N", type=click.IntRange(min=1))
@_setting("batch_size", "Rows in a step.", metavar="N", type=click.IntRange(min=1))
@_setting(
    "validation", "Share of the rows that is held out and measured.", metavar="SHARE", type=float, callback=options.between(0, 1)
)
@click.option("--seed", metavar="N", default=0, type=click.IntRange(min=0), help="Decides everything random. [default: 0]")
@click.option(
    "--missing", metavar="refuse|mean", callback=options.one_of("way with missing numbers", ("refuse", "mean")),
    help="What becomes of a missing number. [default: refuse]",
)  # fmt: skip
@options.backend
@click.option("--dtype", metavar="NAME", default="float32", help="float32 or float64. [default: float32]")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@options.as_json
@click.option("--force", is_flag=True, help="Overwrite the model file.")
def command(
    csv: str | None, target: str | None, task: str | None, path: str, missing: str | None, seed: int, backend: str,
    dtype: str, quiet: bool, as_json: bool, force: bool, **settings: Any,
) -> None:  # fmt: skip
    """Train a network on a CSV file with a header line, - for standard input.

    Columns of numbers are standardised, other columns become categories. The task is classification or regression, as
    the target asks for. Without CSV the network learns the embedded digits (the official split: trained on the
    digits of 30 people, tested on those of 13 others). Ctrl-C ends training and keeps the model.

    \b
    xmlp train
    xmlp train houses.csv --target price --hidden 128,64 --model houses.safetensors
    """
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other")
    _check_destination(path, force, csv)
    given = {name: value for name, value in settings.items() if value is not None}
    recipe = replace(DIGITS if csv is None else TABLE, **given)
    if "optimizer" in given and "lr" not in given and given["optimizer"] != ...:
        recipe = replace(recipe, lr=None)
