"""What people hold: the network, the trainer, and what gives a trainer its batches."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name not in ("mlp", "network", "stream", "trainer"):
        raise AttributeError(f"module 'xmlp.model' has no attribute {name!r}")
    return importlib.import_module(f"xmlp.model.{name}")
