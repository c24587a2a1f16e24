"""`xmlp info`: what is installed here and whether it works. Nothing is imported early, and nothing may fail.

`xmlp info MODEL`: what a model predicts, from what, and how it was trained.
"""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

import xmlp
from xmlp.cli import options
from xmlp.cli.text import columns, json_line
from xmlp.types import BackendName

_PACKAGES = ("numpy", "array-api-compat", "safetensors", "click", "rich", "threadpoolctl", "llvmlite")
_BACKENDS: tuple[BackendName, ...] = ("numpy", "cupy", "torch", "jax", "array-api-strict")


@click.command(
    "info",
    cls=options.Command,
    short_help="Show versions and which backends work here, or what a model is.",
    epilog="xmlp info --json\nxmlp info model.safetensors",
)
@click.argument("path", metavar="[MODEL]", required=False)
@options.as_json
def command(path: str | None, as_json: bool) -> None:
    """Show versions, the BLAS and its threads, and which backends work here.

    Each backend makes a tiny training step, after which its loss must be lower.

    With MODEL: what it predicts, from which columns, and how it was trained.
    """
    if path is not None:
        from xmlp.cli.model_info import tell

        tell(path, as_json)
        return
    facts = {
        "xmlp": xmlp.__version__,
        "python": _tried(platform.python_version),
        "platform": _tried(platform.platform),
        "cpus": _tried(os.cpu_count),
        **{name: _tried(partial(_version, name)) for name in _PACKAGES},
        "blas": _tried(_blas),
    }
    tests = {name: _tried(partial(_self_test, name)) for name in _BACKENDS}
    backends = {name: {"works": text.startswith("works"), "detail": text} for name, text in tests.items()}
    if as_json:
        click.echo(json_line({**facts, "backends": backends}))
    else:
        results = [(f"backend {name}", text) for name, text in tests.items()]
        click.echo(columns([*facts.items(), ("", ""), *results], "<"))


def _tried(question: Callable[[], Any]) -> str:
    """The answer, or why there is none: whatever an installation that is broken may raise."""
    try:
        return str(question())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"unavailable: {str(error) or type(error).__name__}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    import numpy  # noqa: F401  threadpoolctl sees only what is loaded
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool.get("user_api") == "blas"]
    return ", ".join(f"{p['internal_api']} {p['version']}, threads: {p['num_threads']}" for p in pools) or "unknown"


def _self_test(name: BackendName) -> str:
    """Train for one step and compare the losses."""
    from xmlp.backends import backend
    from xmlp.model.mlp import mlp
    from xmlp.model.trainer import Trainer
    from xmlp.optimizers import SGD

    chosen = backend(name)
    x, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
    network = mlp([2, 8, 2], "tanh", backend=chosen)
    trainer = Trainer(network, loss="softmax_cross_entropy", optimizer=SGD(0.1))
    before = trainer.evaluate(x, y)["loss"]
    trainer.step(x, y)
    after = trainer.evaluate(x, y)["loss"]
    version = getattr(sys.modules.get(name.replace("-", "_")), "__version__", "of unknown version")
    verdict = "works" if after < before else "gives WRONG results"
    return f"{verdict}: {version} on {chosen.device}, a training step takes the loss from {before:.4f} to {after:.4f}"
