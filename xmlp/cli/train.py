"""`xmlp train`: a model from a CSV file or from the embedded digits."""

import contextlib
import hashlib
import importlib.util
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from signal import Signals
from typing import Any, Literal, NamedTuple, TypeVar

import click
import numpy as np

import xmlp
from xmlp import callbacks, optimizers, schedules
from xmlp.activations import ActivationName
from xmlp.backends import Backend
from xmlp.backends import backend as backend_named
from xmlp.cli import inspect, jobs, model, options, paths
from xmlp.cli.interrupt import Interrupt
from xmlp.cli.options import between, one_of
from xmlp.cli.progress import Course, Json, Lines, Quiet, View
from xmlp.cli.text import shown
from xmlp.errors import BackendError, DivergenceError
from xmlp.host import files
from xmlp.layers import Standardize
from xmlp.model.mlp import NORMALIZATIONS, mlp
from xmlp.model.network import Network
from xmlp.model.trainer import Trainer
from xmlp.optimizers import OPTIMIZERS, Optimizer, OptimizerName
from xmlp.training.checkpoints import Misfit, steps_in
from xmlp.types import BackendName, Dtype, NormalizationName

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Recipe:
    """How a network is made and trained. None is the optimizer's own default."""

    hidden: tuple[int, ...] = (64, 64)
    activation: ActivationName = "relu"
    dropout: float = 0.0
    normalization: NormalizationName | Literal["none"] = "none"
    optimizer: OptimizerName = "adamw"
    lr: float | None = 3e-3
    weight_decay: float | None = 0.01
    schedule: str = "onecycle"
    epochs: int = 60
    batch_size: int = 32
    validation: float = 0.2
    patience: int | None = None
    clip_norm: float | None = None


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
    if value is None:
        return "none"
    return value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


@click.command(
    "train",
    cls=options.Command,
    short_help="Train a network on a CSV file, or on the embedded digits.",
    epilog="xmlp train\nxmlp train houses.csv --target price --hidden 128,64 --model houses.safetensors",
)
@click.argument("csv", metavar="[CSV]", required=False)
@click.option("--target", metavar="NAME", help="The column to predict.")
@inspect.task_option
@inspect.columns_option
@inspect.missing_option
@options.separator
@options.encoding
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
@_setting("validation", "FRACTION", "Of the rows, held out to tell the best epoch.", float, between(0, 1))
@_setting("patience", "N", "Epochs without a lower validation loss that end training.", int, between(1))
@_setting("clip_norm", "X", "Bound on the norm of the gradient.", float, between(0, above=True))
@click.option(
    "--seed", metavar="N", default=0, show_default=True, type=int, callback=between(0), help="For all randomness."
)
@options.backend
@click.option("--dtype", metavar="NAME", default="float32", show_default=True, help="float32 or float64.")
@click.option("--deterministic", is_flag=True, help="One thread: the same bits whatever the number of processors.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@options.as_json
@click.option("--force", is_flag=True, help="Overwrite the model file, and forget an unfinished run.")
@click.option(
    "--resume", is_flag=True, help="Go on with a run that was cut short; the other options must be the same as before."
)
@click.option(
    "--checkpoints", "folder", metavar="FOLDER",
    help="Where the state is kept until training is done. [default: FILE.checkpoints]",
)  # fmt: skip
@click.option(
    "--save-every", metavar="SECONDS", default=30.0, show_default=True, type=float, callback=between(0),
    help="Time between checkpoints.",
)  # fmt: skip
def command(
    csv: str | None, target: str | None, task: str | None, columns: dict[str, str], missing: str | None,
    separator: str | None, encoding: str | None, path: str, seed: int,
    backend: BackendName, dtype: Dtype, deterministic: bool, quiet: bool, as_json: bool, force: bool, resume: bool,
    folder: str | None, save_every: float, **settings: Any,
) -> None:  # fmt: skip
    """Train a network on a CSV file with a header line, - for standard input.

    Columns of numbers are standardised, dates become numbers, other columns categories, which stay 0 and 1; what was
    decided about each is printed, as by `xmlp inspect`. The task is classification or regression, as the target asks
    for. The model has the weights of the epoch with the lowest loss on the rows that are held out, of the last one
    where none are. Without CSV the network learns the embedded digits: trained on the digits of 30 people, tested on
    those of 13 others. Ctrl-C ends training and keeps the model; the same command with --resume finishes the run, to
    the same model file as if it had not been cut.
    """
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other")
    about = {"--target": target, "--task": task, "--columns": columns or None, "--missing": missing}
    options.refuse_without_file(csv, {**about, "--separator": separator, "--encoding": encoding})
    run = _run(csv, path, folder, save_every, force, resume)
    recipe = _recipe(DIGITS if csv is None else TABLE, {name: v for name, v in settings.items() if v is not None})
    _optimizer(recipe, 1)
    device = _backend(backend, dtype)
    if csv is None:
        job = jobs.digits(recipe.validation, seed)
    else:
        how = {"separator": separator, "encoding": encoding}
        job = jobs.table(csv, target, task, missing or "mean", columns, recipe.validation, seed, dtype, **how)
    if resume and not run.saved and _is_finished(run, path, recipe, seed, device.dtype, job):
        return
    if resume and not run.saved and not quiet:
        click.echo(f"no unfinished run in {shown(run.folder)}: a new one begins", err=True)
    trainer = run.trainer(job, recipe, device, seed)
    if job.survey is not None:
        inspect.tell(job.survey, quiet=quiet, as_json=as_json)
    report = _reporter(quiet, as_json)(_course(job, recipe))
    try:
        with xmlp.deterministic() if deterministic else contextlib.nullcontext():
            ended = _train(trainer, job, recipe, report, path)
    except DivergenceError:
        run.forget()  # from here it would diverge again
        raise
    if ended.signal is None:
        run.forget()
        return
    if not quiet:
        _tell_how_to_go_on(trainer, job, recipe, ended, path)
    click.get_current_context().exit(128 + ended.signal)


def _run(csv: str | None, path: str, folder: str | None, save_every: float, force: bool, resume: bool) -> "Run":
    """The run that the options ask for, if its files allow it."""
    if force and resume:
        raise click.UsageError("--force and --resume exclude each other")
    exists = paths.writable(path, csv).exists()
    run = Run(Path(folder or f"{path}.checkpoints"), save_every, force)
    run.check(resume)
    if exists and not (force or resume):
        raise click.UsageError(f"{path} exists already: choose another --model, or overwrite it with --force")
    return run


def _course(job: jobs.Job, recipe: Recipe) -> Course:
    held = 0 if job.validation is None else len(job.validation.x)
    return Course(recipe.epochs, len(job.train.x), recipe.batch_size, job.metric, held)


def _reporter(quiet: bool, as_json: bool) -> type[Quiet]:
    """What tells how training goes."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return Quiet if quiet else Json if as_json else View if terminal else Lines


def _tell_how_to_go_on(trainer: Trainer, job: jobs.Job, recipe: Recipe, ended: "Outcome", path: str) -> None:
    """Say where a signal has cut training short, what the model is, and by which command it is finished."""
    assert ended.signal is not None
    chosen = job.validation is not None and ended.kept
    weights = f"the weights of epoch {ended.kept}, the best," if chosen else "the weights so far"
    where = f"in epoch {trainer.epoch + 1} of {recipe.epochs}; {weights} are in {shown(path)}"
    arguments = click.get_current_context().meta["arguments"]
    again = [word for word in arguments if word not in ("--force", "--resume")]
    click.echo(f"stopped by {ended.signal.name} {where}", err=True)
    click.echo(f"to go on: xmlp train {shown(shlex.join([*again, '--resume']))}", err=True)


def _is_finished(run: "Run", path: str, recipe: Recipe, seed: int, dtype: str, job: jobs.Job) -> bool:
    """Whether a run without checkpoints needs none, as its model is there; the model of another one is refused."""
    if not Path(path).exists():
        return False
    if not _made_so(path, recipe, seed, dtype, job):
        raise click.UsageError(f"there is nothing to resume: {run.folder} holds no checkpoint, and {path} exists")
    click.echo(f"nothing to resume: {shown(path)} is the model of such a run that was finished", err=True)
    run.forget()  # what a save left that was killed
    return True


def _made_so(path: str, recipe: Recipe, seed: int, dtype: str, job: jobs.Job) -> bool:
    """Whether a model came out of a run with these settings and data.

    How many epochs one with patience takes is not known.
    """
    wanted = json.loads(json.dumps({**asdict(recipe), "seed": seed, "data": _fingerprint(job)}))
    if recipe.patience is not None:
        del wanted["epochs"]
    network = xmlp.load(path)
    made = network.metadata.get("training")
    return (
        network.dtype == dtype
        and isinstance(made, dict)
        and all(made.get(name) == value for name, value in wanted.items())
    )


@dataclass
class Run:
    """A run that can be cut short: its checkpoints in a folder, from which it goes on."""

    folder: Path
    save_every: float
    force: bool

    @property
    def saved(self) -> list[Path]:
        """The checkpoints in the folder."""
        return steps_in(self.folder)

    def check(self, resume: bool) -> None:
        """Look for checkpoints before any work is done."""
        if self.folder.exists() and not self.folder.is_dir():
            raise click.UsageError(f"{self.folder} is not a folder: choose another for --checkpoints")
        if self.saved and not (resume or self.force):
            raise click.UsageError(
                f"{self.folder} holds an unfinished run: go on with it by --resume, or forget it by --force"
            )

    def trainer(self, job: jobs.Job, recipe: Recipe, backend: Backend, seed: int) -> Trainer:
        """The trainer of the run that was cut short, else a new one."""
        listeners: list[Any] = [callbacks.Checkpoint(self.folder, every_epochs=None, every_seconds=self.save_every)]
        if job.validation is not None:  # without --patience nothing but the best epoch is kept
            listeners.append(callbacks.EarlyStopping(patience=recipe.patience or recipe.epochs))
        elif recipe.patience is not None:
            raise click.UsageError("--patience needs rows that are held out: --validation must be more than 0")
        course = {**asdict(recipe), "seed": seed, "dtype": backend.dtype, "data": _fingerprint(job)}
        course = json.loads(json.dumps(course))
        if self.force:
            self.forget()
        if self.saved:
            try:
                trainer = Trainer.resume(self.folder, backend=backend, callbacks=listeners)
            except Misfit:
                raise click.UsageError(
                    f"the run in {self.folder} had another --validation or another version of xmlp: use the same to "
                    "resume it, or forget it by --force"
                ) from None
            before = trainer.network.metadata.get("run")
            if not isinstance(before, dict) or before.keys() != course.keys():
                raise click.UsageError(f"the checkpoints in {self.folder} are not those of a run of xmlp train")
            for name, value in course.items():
                if before[name] != value:
                    what = "data" if name == "data" else f"--{name.replace('_', '-')}"
                    raise click.UsageError(f"the run in {self.folder} had another {what}: use the same to resume it")
            return trainer
        network = _network(job, recipe, backend, seed)
        network.metadata["run"] = course
        steps = recipe.epochs * -(-len(job.train.x) // recipe.batch_size)
        return Trainer(
            network, loss=job.loss, optimizer=_optimizer(recipe, steps), metrics=[job.metric], seed=seed,
            callbacks=listeners, clip_norm=recipe.clip_norm,
        )  # fmt: skip

    def forget(self) -> None:
        """Remove the checkpoints: a run that is done needs none."""
        for path in [*self.saved, *self.folder.glob("step-*.safetensors.tmp.*")]:  # the latter of killed saves
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _fingerprint(job: jobs.Job) -> str:
    digest = hashlib.sha256()
    for rows in (job.train, job.validation or ()):
        for array in rows:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


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


def _backend(name: BackendName, dtype: Dtype) -> Backend:
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
    network = Network([Standardize(), *plain.layers], sizes[0], backend=backend, seed=seed)
    job.adapt(network)
    network.metadata = {"table": job.schema.to_json(), **job.metadata}
    if len(json.dumps(network.config())) > files.MAX_CONFIG - 4096:
        raise ValueError(f"{job.name}: the names of its columns and categories do not fit in a model file; remove some")
    return network


class Outcome(NamedTuple):
    """How a run ended: the signal that cut it short, if one did, and the epoch whose weights the model has."""

    signal: Signals | None
    kept: int


def _train(trainer: Trainer, job: jobs.Job, recipe: Recipe, report: Quiet, path: str) -> Outcome:
    """Train, save, and tell."""
    network, began = trainer.network, time.perf_counter()
    _announce(trainer, job, recipe, report)
    validation = None if job.validation is None else job.standardized(job.validation)
    settings: dict[str, Any] = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    if trainer.steps:  # of the run that is resumed
        settings = {}
        report.say(f"going on after {trainer.steps} steps, in epoch {trainer.epoch + 1}")
    with Interrupt(trainer) as interrupt, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: report.warn(message)
        trainer.callbacks += [interrupt, report]
        with report, np.errstate(all="ignore"):  # what is not finite is a DivergenceError at the end of the epoch
            x, y = job.standardized(job.train)
            trainer.fit(x, y, validation_data=validation, **settings)
        kept = _keep_best(trainer)
        data = network.metadata.pop("run")["data"]
        job.finish(network)
        made = {**asdict(recipe), "epochs": trainer.epoch, "seed": trainer.seed, "xmlp": xmlp.__version__, "data": data}
        network.metadata["training"] = {**made, "kept_epoch": kept}
        network.save(path)
    ended = Outcome(interrupt.signal, kept)
    _conclude(trainer, job, report, path, ended, time.perf_counter() - began)
    return ended


def _announce(trainer: Trainer, job: jobs.Job, recipe: Recipe, report: Quiet) -> None:
    """Tell what is going to be done, before it takes time."""
    network, held = trainer.network, "none" if job.validation is None else len(job.validation.x)
    report.say(f"{shown(job.name)}: {len(job.train.x)} rows to train on, {held} held out")
    sizes = "-".join(map(str, (network.in_features, *recipe.hidden, network.out_features)))
    device = f"{network.backend.name} on {network.backend.device}, {network.dtype}"
    report.say(f"network {sizes}, {network.layout.size} parameters; {device}")
    report.say(shown(job.decided))


def _keep_best(trainer: Trainer) -> int:
    """Give the network the weights of its best epoch, if one is known, and tell which epoch's it has.

    A run that was cut short has written its last checkpoint before, with the weights to go on with.
    """
    for callback in trainer.callbacks:
        if isinstance(callback, callbacks.EarlyStopping) and callback.best_epoch:
            callback.give_best(trainer.network)
            return callback.best_epoch
    return trainer.epoch


def _conclude(trainer: Trainer, job: jobs.Job, report: Quiet, path: str, ended: Outcome, seconds: float) -> None:
    """Tell how it ended and how good the model is."""
    signal = ended.signal and ended.signal.name
    result = {"model": path, "epochs": trainer.epoch, "kept_epoch": ended.kept, "steps": trainer.steps}
    part, rows = ("validation", job.validation) if job.test is None else ("test", job.test)
    if signal is None:
        report.say(report.course.kept(trainer.history, ended.kept))
    if rows is not None and signal is None:
        result[part] = found = model.scores(trainer.network, job.schema, *rows)
        result["baseline"] = (base := model.baseline(job.schema, rows.y)).scores
        report.say(f"{part}: {model.told(found)}")
        report.say(f"{base.words}: {model.told(base.scores)}")
    if signal is None:
        report.say(f"saved {shown(path)}")
    report.end({**result, "stopped": signal, "seconds": seconds})
