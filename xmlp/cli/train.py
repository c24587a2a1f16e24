"""`xmlp train`: a model from a CSV file or from the embedded digits."""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from signal import Signals
from typing import Any, TypeVar

import click
import numpy as np

import xmlp
from xmlp import files, optimizers, schedules
from xmlp.backends import Backend
from xmlp.backends import backend as backend_named
from xmlp.cli import jobs, model, options, paths
from xmlp.cli.interrupt import Interrupt
from xmlp.cli.options import between, one_of
from xmlp.cli.progress import Course, Json, Lines, Quiet, View
from xmlp.cli.text import shown
from xmlp.data.table import TASKS
from xmlp.errors import BackendError
from xmlp.layers import Standardize
from xmlp.network import Network
from xmlp.optimizers import OPTIMIZERS, Optimizer
from xmlp.perceptron import NORMALIZATIONS, mlp
from xmlp.training import Trainer

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained. None is the optimizer's own default."""

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    dropout: float = 0.0
    normalization: str = "none"
    optimizer: str = "adamw"
    lr: float | None = 3e-3
    weight_decay: float | None = 0.01
    schedule: str = "onecycle"
    epochs: int = 60
    batch_size: int = 32
    validation: float = 0.2


TABLE = Recipe()
DIGITS = Recipe(
    hidden=(256, 256), dropout=0.4, normalization="batch", lr=1e-2, weight_decay=0.2, batch_size=64, validation=0.1
)
_SCHEDULES: dict[str, Any] = {"constant": None, "onecycle": schedules.OneCycle, "cosine": schedules.Cosine}


def _setting(
    name: str, metavar: str, help: str, type: Any = str, callback: Any = None
) -> Callable[[Decorated], Decorated]:
    """An option for a field of the recipe."""
    table, digits = (getattr(recipe, name) for recipe in (TABLE, DIGITS))
    default = _word(table) if table == digits else f"{_word(table)}; digits: {_word(digits)}"
    option = f"--{name.replace('_', '-')}"
    return click.option(
        option, name, metavar=metavar, type=type, callback=callback, help=f"{help} [default: {default}]"
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


@click.command(
    "train",
    cls=options.Command,
    short_help="Train a network on a CSV file, or on the embedded digits.",
    epilog="xmlp train\nxmlp train houses.csv --target price --hidden 128,64 --model houses.safetensors",
)
@click.argument("csv", metavar="[CSV]", required=False)
@click.option("--target", metavar="NAME", help="The column to predict.")
@click.option("--task", metavar="|".join(TASKS), callback=one_of("task", TASKS), help="[default: as the target looks]")
@click.option(
    "--model", "path", metavar="FILE", default="model.safetensors", show_default=True, help="The file to write."
)
@_setting("hidden", "128,64", "Sizes of the hidden layers; none for a linear model.", callback=options.sizes)
@_setting("activation", "NAME", "Of the hidden layers.")
@_setting("dropout", "RATE", "After each hidden layer.", float, between(0, 1))
@_setting(
    "normalization", "batch|layer", "In the hidden layers.", str, one_of("normalization", ("none", *NORMALIZATIONS))
)
@_setting("optimizer", "NAME", f"One of {', '.join(OPTIMIZERS)}.")
@_setting("lr", "RATE", "Learning rate, at the peak of the schedule.", float, between(0, above=True))
@_setting("weight_decay", "X", "With adamw.", float, between(0))
@_setting("schedule", "|".join(_SCHEDULES), "Of the learning rate.", str, one_of("schedule", _SCHEDULES))
@_setting("epochs", "N", "Passes over the training rows.", int, between(1))
@_setting("batch_size", "N", "Rows in a step.", int, between(1))
@_setting("validation", "FRACTION", "Of the rows, held out and measured after each epoch.", float, between(0, 1))
@click.option(
    "--seed", metavar="N", default=0, show_default=True, type=int, callback=between(0), help="For all randomness."
)
@click.option(
    "--missing", metavar="refuse|mean", callback=one_of("way with missing numbers", ("refuse", "mean")),
    help="What is done about missing numbers. [default: refuse]",
)  # fmt: skip
@options.backend
@click.option("--dtype", metavar="NAME", default="float32", show_default=True, help="float32 or float64.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@options.as_json
@click.option("--force", is_flag=True, help="Overwrite the model file.")
def command(
    csv: str | None, target: str | None, task: str | None, path: str, missing: str | None, seed: int, backend: str,
    dtype: str, quiet: bool, as_json: bool, force: bool, **settings: Any,
) -> None:  # fmt: skip
    """Train a network on a CSV file with a header line, - for standard input.

    Columns of numbers are standardised, other columns become categories. The task is classification or regression, as
    the target asks for. Without CSV the network learns the embedded digits: trained on the digits of 30 people, tested
    on those of 13 others. Ctrl-C ends training and keeps the model.
    """
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other")
    for name, value in (("--target", target), ("--task", task), ("--missing", missing)):
        if csv is None and value is not None:
            raise click.UsageError(f"{name} is about a CSV file, and none is given")
    if paths.writable(path, csv).exists() and not force:
        raise click.UsageError(f"{path} exists already: choose another --model, or overwrite it with --force")
    recipe = _recipe(DIGITS if csv is None else TABLE, {name: v for name, v in settings.items() if v is not None})
    _optimizer(recipe, 1)
    device = _backend(backend, dtype)
    if csv is None:
        job = jobs.digits(recipe.validation, seed)
    else:
        job = jobs.table(csv, target, task, missing or "refuse", recipe.validation, seed, dtype)
    network = _network(job, recipe, device, seed)
    course = Course(recipe.epochs, len(job.train.x), recipe.batch_size, job.metric)
    optimizer = _optimizer(recipe, course.epochs * course.steps)
    trainer = Trainer(network, loss=job.loss, optimizer=optimizer, metrics=[job.metric], seed=seed)
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    report = (Quiet if quiet else Json if as_json else View if terminal else Lines)(course)
    signal = _train(trainer, job, recipe, report, path)
    if signal is not None:
        if not quiet:
            where = f"in epoch {trainer.epoch} of {recipe.epochs}; the weights so far are in {shown(path)}"
            click.echo(f"stopped by {signal.name} {where}", err=True)
        click.get_current_context().exit(128 + signal)


def _recipe(recipe: Recipe, given: dict[str, Any]) -> Recipe:
    """The recipe with what the user wants; another optimizer comes with a learning rate and decay of its own."""
    if given.get("optimizer", recipe.optimizer) != recipe.optimizer:
        given = {"lr": None, "weight_decay": None, **given}
    return replace(recipe, **given)


def _optimizer(recipe: Recipe, steps: int) -> Optimizer:
    found: Any = optimizers.get(recipe.optimizer)
    settings = {name: v for name, v in (("lr", recipe.lr), ("weight_decay", recipe.weight_decay)) if v is not None}
    if unknown := settings.keys() - {f.name for f in fields(found)}:
        raise click.UsageError(f"the optimizer {recipe.optimizer} has no {min(unknown)}; adamw has")
    found = replace(found, **settings)
    schedule = _SCHEDULES[recipe.schedule]
    return found if schedule is None else replace(found, lr=schedule(found.lr, steps))  # type: ignore[no-any-return]


def _backend(name: str, dtype: str) -> Backend:
    """The backend; that "auto" does without a CUDA device although CuPy is installed is worth a word."""
    chosen = backend_named(name, dtype=dtype)
    if name == "auto" and chosen.name != "cupy" and importlib.util.find_spec("cupy") is not None:
        try:
            backend_named("cupy", dtype=dtype)
        except BackendError as error:
            click.echo(f"note: computing on {chosen.name}: {shown(error)}", err=True)
    return chosen


def _network(job: jobs.Job, recipe: Recipe, backend: Backend, seed: int) -> Network:
    """The network, whose first layer standardises as the training rows ask for."""
    sizes = [job.schema.in_features, *recipe.hidden, job.outputs]
    kind = None if recipe.normalization == "none" else recipe.normalization
    plain = mlp(sizes, recipe.activation, dropout=recipe.dropout, normalization=kind, backend=backend, seed=seed)
    network = Network([Standardize(), *plain.layers], sizes[0], backend=backend, seed=seed).adapt(job.train.x)
    network.metadata = {"table": job.schema.to_json(), **job.metadata}
    if len(json.dumps(network.config())) > files.MAX_CONFIG - 4096:
        raise ValueError(f"{job.name}: the names of its columns and categories do not fit in a model file; remove some")
    return network


def _train(trainer: Trainer, job: jobs.Job, recipe: Recipe, report: Quiet, path: str) -> Signals | None:
    """Train, save, and tell; returns the signal that cut it short, if one did."""
    network, began = trainer.network, time.perf_counter()
    held = "none" if job.validation is None else len(job.validation.x)
    report.say(f"{shown(job.name)}: {len(job.train.x)} rows to train on, {held} held out")
    sizes = "-".join(map(str, (network.in_features, *recipe.hidden, network.out_features)))
    device = f"{network.backend.name} on {network.backend.device}, {network.dtype}"
    report.say(f"network {sizes}, {network.layout.size} parameters; {device}")
    validation = None if job.validation is None else job.standardized(job.validation)
    with Interrupt(trainer) as interrupt:
        trainer.callbacks += [interrupt, report]
        with report, np.errstate(all="ignore"):  # what is not finite is a DivergenceError at the end of the epoch
            x, y = job.standardized(job.train)
            trainer.fit(x, y, epochs=recipe.epochs, batch_size=recipe.batch_size, validation_data=validation)
        job.finish(network)
        made = {**asdict(recipe), "epochs": trainer.epoch, "seed": trainer.seed, "xmlp": xmlp.__version__}
        network.metadata["training"] = made
        network.save(path)
    signal = interrupt.signal
    result = {"model": path, "epochs": trainer.epoch, "steps": trainer.steps, "stopped": signal and signal.name}
    part, rows = ("validation", job.validation) if job.test is None else ("test", job.test)
    if rows is not None and signal is None:
        result[part] = found = model.scores(network, job.schema, *rows)
        report.say(f"{part}: " + "  ".join(f"{model.NAMES[name]} {value:.4g}" for name, value in found.items()))
    if signal is None:
        report.say(f"saved {shown(path)}")
    report.end({**result, "seconds": time.perf_counter() - began})
    return signal
