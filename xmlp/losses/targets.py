"""Targets as losses take them: reals for each output, or class labels; what is wrong is refused with its place."""

from collections.abc import Callable

from array_api_compat import array_namespace

from xmlp.types import Array, Namespace


def reals(targets: Array, outputs: int) -> Array:
    """Targets as (N, outputs) reals; (N,) is accepted where there is one output."""
    xp = array_namespace(targets)
    if targets.ndim == 1 and outputs == 1:
        targets = xp.reshape(targets, (-1, 1))
    if targets.ndim != 2 or targets.shape[1] != outputs:
        expected = f"(N, {outputs})" + (" or (N,)" if outputs == 1 else "")
        hint = " For class labels use SoftmaxCrossEntropy." if targets.ndim == 1 and outputs > 1 else ""
        raise ValueError(f"targets must have the shape {expected}, got {tuple(targets.shape)}.{hint}")
    if targets.dtype != xp.float32 and targets.dtype != getattr(xp, "float64", xp.float32):
        targets = xp.astype(targets, getattr(xp, "float64", xp.float32))
    refuse(xp, targets, lambda v: ~xp.isfinite(v), "must be finite", "targets")
    return targets


def class_labels(xp: Namespace, targets: Array, outputs: int) -> Array:
    """Class labels (N,), whole numbers from 0 to outputs - 1."""
    if xp.isdtype(targets.dtype, "real floating"):
        refuse(xp, targets, lambda v: ~xp.isfinite(v) | (v != xp.round(v)), "must be whole numbers", "class labels")
    if xp.isdtype(targets.dtype, "bool"):
        targets = xp.astype(targets, xp.int32)
    refuse(xp, targets, lambda v: (v < 0) | (v >= outputs), f"must lie in 0..{outputs - 1}", "class labels")
    return xp.astype(targets, xp.int32) if xp.isdtype(targets.dtype, "real floating") else targets


def refuse(xp: Namespace, values: Array, wrong: Callable[[Array], Array], rule: str, what: str) -> None:
    """Raise for the first element that is wrong, naming its place."""
    bad = wrong(values)
    if xp.any(bad):
        count = int(xp.sum(xp.astype(bad, xp.int32)))
        first = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), xp.int32)))
        columns = values.shape[1] if values.ndim == 2 else 1
        place = f"row {first // columns}" + (f", output {first % columns}" if values.ndim == 2 else "")
        value = xp.reshape(values, (-1,))[first]
        number = int(value) if xp.isdtype(values.dtype, "integral") else float(value)
        more = f" ({count} such)" if count > 1 else ""
        raise ValueError(f"{what}: targets {rule}, got {number!r} in {place}{more}")
