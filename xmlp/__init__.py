"""xmlp: multilayer perceptrons written once against the Python Array API standard, run on NumPy, CuPy and others.

>>> import numpy as np, xmlp
>>> network = xmlp.mlp([2, 16, 2], seed=1)
>>> x = np.random.default_rng(0).normal(size=(200, 2))
>>> history = network.fit(x, (x[:, 0] * x[:, 1] > 0).astype(int), epochs=40, loss="softmax_cross_entropy")
>>> history["loss"][-1] < history["loss"][0]
True
"""

import importlib
from typing import TYPE_CHECKING, Any

from xmlp.version import __version__ as __version__

# Everything is imported when it is first used: `import xmlp` costs no more than it must.
_HOMES = {
    "BackendError": "xmlp.errors",
    "CheckpointError": "xmlp.errors",
    "DataError": "xmlp.errors",
    "DeviceMemoryError": "xmlp.errors",
    "DivergenceError": "xmlp.errors",
    "History": "xmlp.training.history",
    "MLPClassifier": "xmlp.estimators",
    "MLPRegressor": "xmlp.estimators",
    "Network": "xmlp.model.network",
    "TraceError": "xmlp.graph",
    "Trainer": "xmlp.model.trainer",
    "OutOfMemoryError": "xmlp.errors",
    "available_backends": "xmlp.backends",
    "backend": "xmlp.backends",
    "deterministic": "xmlp.runtime.threads",
    "elementwise": "xmlp.graph",
    "load": "xmlp.model.network",
    "mlp": "xmlp.model.mlp",
}
_MODULES = (
    "activations", "callbacks", "data", "initializers", "layers", "losses", "metrics", "optimizers", "schedules",
    "testing", "verify",
)  # fmt: skip

__all__ = [
    "BackendError", "CheckpointError", "DataError", "DeviceMemoryError", "DivergenceError", "History", "MLPClassifier",
    "MLPRegressor", "Network", "OutOfMemoryError", "TraceError", "Trainer", "activations", "available_backends",
    "backend", "callbacks", "data", "deterministic", "elementwise", "initializers", "layers", "load", "losses",
    "metrics", "mlp", "optimizers", "schedules", "testing", "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from xmlp import (
        activations,
        callbacks,
        data,
        initializers,
        layers,
        losses,
        metrics,
        optimizers,
        schedules,
        testing,
        verify,
    )
    from xmlp.backends import available_backends, backend
    from xmlp.errors import (
        BackendError,
        CheckpointError,
        DataError,
        DeviceMemoryError,
        DivergenceError,
        OutOfMemoryError,
    )
    from xmlp.estimators import MLPClassifier, MLPRegressor
    from xmlp.graph import TraceError, elementwise
    from xmlp.model.mlp import mlp
    from xmlp.model.network import Network, load
    from xmlp.model.trainer import Trainer
    from xmlp.runtime.threads import deterministic
    from xmlp.training.history import History


if not TYPE_CHECKING:  # a checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        elif name in _MODULES:
            value = importlib.import_module(f"xmlp.{name}")
        else:
            raise AttributeError(f"module 'xmlp' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """What is public, and what every module has: none of the imports above."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
