"""What a metric is."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """A metric as the training loop uses it.

    Attributes
    ----------
    name : str
    function : callable
        ``(targets, predictions, *, sample_weight=None) -> float``.
    needs : {"labels", "predictions", "outputs"}
        What it compares with the targets; outputs are predictions before the link.
    greater_is_better : bool or None
        None if that is not known.
    title : str
        What people read.
    """

    name: str
    function: Callable[..., Any]
    needs: str
    greater_is_better: bool | None = None
    title: str = ""


NEEDS = ("labels", "predictions", "outputs")


def of_classes(function: Callable[..., Any], classes: int) -> Callable[..., Any]:
    """The function with the number of classes bound to its parameter of that name, if it has one that is not set yet.

    >>> from xmlp.metrics import f1
    >>> of_classes(f1, 3)([0, 0, 0, 1], [0, 0, 0, 0]) == f1([0, 0, 0, 1], [0, 0, 0, 0], average="macro")
    True
    """
    try:
        parameter = inspect.signature(function).parameters.get("classes")
    except (TypeError, ValueError):  # of something built in, which has no signature
        return function
    return function if parameter is None or parameter.default is not None else partial(function, classes=classes)
