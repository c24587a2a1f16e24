"""Derivatives of a network with respect to what it is given, as functions of arrays on the device.

Each is traced once, for any number of rows, and planned where the backend runs plans; elsewhere its graph is run one
operation at a time.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from operator import add
from typing import Any

from xmlp.compiler.differential import jvp, laplacian, vjp
from xmlp.graph.node import walk
from xmlp.network.chain import Chain
from xmlp.network.planned import PlannedFunction, Shape
from xmlp.network.predictor import BLOCK
from xmlp.types import Array

DIRECTIONS = 16  # that one plan computes side by side; further ones follow


class InputDerivatives:
    """Derivatives of the outputs of a chain of layers with respect to its inputs, in inference mode."""

    def __init__(self, chain: Chain):
        self._chain, self._backend = chain, chain.backend
        self.kept: dict[str, PlannedFunction] = {}

    def jacobian(self, own: Mapping[str, Array], x: Array) -> Array:
        """dy/dx of each row, (N, outputs, inputs), from the side that has fewer directions."""
        outputs, inputs = self._chain.out_features, self._chain.in_features
        reverse, xp = outputs <= inputs, self._backend.xp
        directions, width = (outputs, inputs) if reverse else (inputs, outputs)
        together = min(directions, DIRECTIONS)
        shapes: dict[str, Shape] = {f"d{i}": (None, width) for i in range(together)}
        function = partial(self._along, reverse, together)

        def block(x: Array) -> Array:
            parts: list[Array] = []
            for units in self._units(directions):
                results = self._call("jacobian", function, shapes, own, {"x": x, "units": units})
                parts += [results[name] for name in shapes]
            return xp.stack(parts[:directions], axis=1 if reverse else 2)

        return self._blocks(block, x)

    def laplacian(self, own: Mapping[str, Array], x: Array) -> Array:
        """sum_i d2y/dx_i2 of each row, (N, outputs)."""
        shapes: dict[str, Shape] = {"y": (None, self._chain.out_features)}
        function = partial(self._laplacian, min(self._chain.in_features, DIRECTIONS))

        def block(x: Array) -> Array:
            units = self._units(self._chain.in_features)
            parts = [self._call("laplacian", function, shapes, own, {"x": x, "units": u})["y"] for u in units]
            return reduce(add, parts)

        return self._blocks(block, x)

    def _units(self, n: int) -> list[Array]:
        """All unit vectors of n elements, as many side by side as one plan takes; after the last come zeros."""
        xp, dtype, device = self._backend.xp, self._backend.float_dtype, self._backend.device
        rows = min(n, DIRECTIONS)
        return [xp.reshape(xp.eye(rows, n, k=start, dtype=dtype, device=device), (-1,)) for start in range(0, n, rows)]

    def _blocks(self, function: Callable[[Array], Array], x: Array) -> Array:
        if x.shape[0] <= BLOCK:
            return function(x)
        blocks = [function(x[start : start + BLOCK, :]) for start in range(0, x.shape[0], BLOCK)]
        return self._backend.xp.concat(blocks)

    # --- what is traced -----------------------------------------------------------------------------------------------

    def _outputs(self, backend: Any, theta: Any, stats: Any, x: Any) -> tuple[Any, Any]:
        x = x if x.dtype == backend.float_dtype else backend.xp.astype(x, backend.float_dtype)
        return self._chain.on(backend).pass_forward(theta, stats, x)[0], x

    def _along(
        self, reverse: bool, directions: int, backend: Any, theta: Any, stats: Any, units: Any, x: Any
    ) -> dict[str, Any]:
        y, x = self._outputs(backend, theta, stats, x)
        rows = _rows(backend.xp, units, directions)
        if reverse:
            return {f"d{i}": vjp([y], [e], [x])[0] for i, e in enumerate(rows)}
        return {f"d{i}": jvp([y], [x], [e])[0] for i, e in enumerate(rows)}

    def _laplacian(self, directions: int, backend: Any, theta: Any, stats: Any, units: Any, x: Any) -> dict[str, Any]:
        y, x = self._outputs(backend, theta, stats, x)
        (second,) = laplacian([y], x, _rows(backend.xp, units, directions))
        if second.node.op == "full" and x.node in walk(vjp([y], [1.0], [x])[0].node):
            raise ValueError(
                "the second derivatives of this network are 0 wherever they exist: its activations are piecewise "
                "linear, as relu is. Use smooth ones: tanh, gelu, silu, softplus"
            )
        return {"y": second}

    # --- how it is run ------------------------------------------------------------------------------------------------

    def _call(
        self, name: str, function: Callable[..., dict[str, Any]], outputs: Mapping[str, Shape],
        own: Mapping[str, Array], given: Mapping[str, Array],
    ) -> dict[str, Array]:  # fmt: skip
        fixed = ("theta", "stats", "units")
        kept = self.kept.setdefault(name, PlannedFunction(function, self._backend, outputs, fixed))
        return kept.evaluate(own, given)


def _rows(xp: Any, units: Any, rows: int) -> list[Any]:
    """The rows (1, n) of a matrix that is given as a vector."""
    n = units.shape[0] // rows
    return [xp.reshape(units[i * n : (i + 1) * n], (1, n)) for i in range(rows)]
