"""The derived backward pass of a function that is written forward only: traced, differentiated, and run where it is."""

from collections.abc import Callable, Mapping
from typing import Any

from array_api_compat import device

import xmlp.backends.context as contexts
from xmlp.backends.context import Context
from xmlp.compiler import tensor_graph
from xmlp.compiler.differential import vjp
from xmlp.compiler.tensor import PlanError, Tensor
from xmlp.compiler.tensor_graph import TensorGraph
from xmlp.runtime.programs import Recent
from xmlp.types import Array

_GRAPHS: Recent[Any, tuple[Any, TensorGraph]] = Recent(256)
DY = "dy"  # the name of the cotangent among the inputs of a graph


def pullback(
    function: Callable[..., Array], owner: object, ctx: Context, dy: Array | float, inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
) -> dict[str, Array]:  # fmt: skip
    """sum_k dy_k dy_k/dx for each of the inputs, by name.

    Parameters
    ----------
    function : callable
        ``function(ctx, **inputs, **constants) -> y``, of operations that can be traced.
    owner : object
        What the function is of: traces are kept for it.
    dy : array or float
        What broadcasts to the shape of y.
    """
    first = next(iter(inputs.values()))
    if isinstance(first, Tensor):
        return _gradients(function(ctx, **inputs, **constants), dy, inputs)
    arrays = {**inputs, **constants, **({} if isinstance(dy, float) else {DY: dy})}
    shapes = {name: (tuple(a.shape), str(a.dtype).rpartition(".")[2]) for name, a in arrays.items()}
    key = id(owner), ctx.training, dy if isinstance(dy, float) else None, tuple(inputs), tuple(shapes.items())
    kept = _GRAPHS.find(key)
    if kept is None:
        kept = _GRAPHS.add(key, (owner, _traced(function, owner, ctx.training, dy, shapes, [*inputs])))
    results = kept[1].run(ctx.xp, arrays, {}, device(first))
    return {name.removeprefix("d."): a for name, a in results.items()}


def _gradients(y: Any, dy: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(inputs, vjp([y], [dy], [*inputs.values()]), strict=True))


def _traced(
    function: Callable[..., Array], owner: Any, training: bool, given: Any, shapes: Mapping[str, Any], wanted: list[str]
) -> TensorGraph:
    def backward(backend: Any, **arrays: Any) -> dict[str, Any]:
        dy = arrays.pop(DY, given)
        y = function(contexts.of(backend, training=training), **arrays)
        gradients = _gradients(y, dy, {name: arrays[name] for name in wanted})
        return {f"d.{name}": gradient for name, gradient in gradients.items()}

    try:
        return tensor_graph.trace(backward, shapes, shapes[wanted[0]][1])
    except PlanError as error:
        raise PlanError(f"{owner!r} has no written derivative, and none can be derived: {error}") from error
