"""The loss of a network on given rows as functions of its parameters alone, for the optimizers of other libraries."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xmlp.backends import context
from xmlp.compiler.differential import jvp, vjp
from xmlp.errors import unknown
from xmlp.network.functions import Rows, taken, value, value_and_grad
from xmlp.network.inputs import Inputs
from xmlp.network.objective import Objective
from xmlp.network.planned import PlannedFunction, Shape
from xmlp.types import Array, Data, HostArray

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

OperatorName = Literal["hessian", "gauss_newton"]
_FIXED = ("theta", "stats", "v")


class LossFunctions:
    """F(theta), the loss of given rows, and its derivatives: functions of host arrays (P,), which give fresh ones.

    They are of the network in inference mode (no dropout, statistics as they are), with the weights of the rows and the
    penalties l1 sum |w| + l2 sum w^2 that were given, and change nothing. They keep copies of rows and statistics: what
    becomes of the arrays or of the network later does not matter. Any number of threads may call them.

    Parameters
    ----------
    objective : Objective
    inputs : Inputs
        What checks the vectors that come.
    stats : array (S,)
    rows : Rows
    """

    def __init__(self, objective: Objective, inputs: Inputs, stats: Array, rows: Rows):
        self._objective, self._inputs = objective, inputs
        self._backend = objective.chain.backend
        copy = self._backend.copy
        self._stats = copy(stats)
        self._rows = {name: copy(array) for name, array in rows._asdict().items() if array is not None}
        self._size = objective.chain.layout.size
        columns = objective.chain.out_features
        self._kinds = {
            "value": self._function(value, {"value": ()}),
            "value_and_grad": self._function(value_and_grad, {"value": (), "gradient": (self._size,)}),
            "hvp": self._function(_hvp, {"product": (self._size,)}),
            "gnvp": self._function(_gnvp, {"product": (self._size,)}),
            "residuals": self._function(_residuals, {"residuals": (None, columns)}),
            "along": self._function(_along, {"residuals": (None, columns)}),
        }

    def value(self, theta: Data) -> float:
        """F(theta)."""
        return float(self._call("value", theta)["value"])

    def value_and_grad(self, theta: Data) -> tuple[float, HostArray]:
        """F and its gradient (P,), as `scipy.optimize.minimize(..., jac=True)` takes them."""
        results = self._call("value_and_grad", theta)
        return float(results["value"]), results["gradient"]

    def hvp(self, theta: Data, v: Data) -> HostArray:
        """H v, (P,), with H the Hessian of F: forward over reverse (Pearlmutter, 1994)."""
        return self._call("hvp", theta, v)["product"]

    def gnvp(self, theta: Data, v: Data) -> HostArray:
        """J^T B J v, (P,), with J the Jacobian of the outputs and B the Hessian of F with respect to them: the
        generalized Gauss-Newton matrix (Schraudolph, 2002), with the Hessian of the penalties.
        """
        return self._call("gnvp", theta, v)["product"]

    def residuals(self, theta: Data) -> HostArray:
        """r, of which F = 1/2 sum r^2, as `scipy.optimize.least_squares` takes them.

        Those of the rows, one output after another, then those of the penalty l2.

        Raises
        ------
        TypeError
            If the loss is no sum of squares, or l1 is not 0.
        """
        own = self._call("residuals", theta)["residuals"].reshape(-1)
        at = self._backend.to_host(self._vector(theta, "theta"))
        return np.concatenate([own, *(self._root * at[part] for part in self._decayed)])

    def jacobian(self, theta: Data) -> HostArray:
        """dr/dtheta of the residuals, (residuals, P)."""
        columns = [self._call("along", theta, e)["residuals"].reshape(-1) for e in self._units()]
        penalty = self._root * np.eye(self._size, dtype=self._backend.dtype)
        return np.concatenate([np.stack(columns, axis=1), *(penalty[part] for part in self._decayed)])

    def hessian(self, theta: Data) -> HostArray:
        """H, (P, P)."""
        return np.stack([self.hvp(theta, e) for e in self._units()])

    def operator(self, name: OperatorName, theta: Data) -> "LinearOperator":
        """The Hessian or the Gauss-Newton matrix at theta as a symmetric linear operator of SciPy.

        Parameters
        ----------
        name : {"hessian", "gauss_newton"}
        """
        from scipy.sparse.linalg import LinearOperator

        products = {"hessian": self.hvp, "gauss_newton": self.gnvp}
        if name not in products:
            raise ValueError(unknown("operator", name, products))
        at = self._vector(theta, "theta")
        product = partial(products[name], at)
        dtype = np.dtype(self._backend.dtype)
        return LinearOperator((self._size, self._size), product, product, dtype=dtype)

    # --- how it is run ------------------------------------------------------------------------------------------------

    @cached_property
    def _scale(self) -> Array:
        """What the residuals of each row are multiplied by, (N, 1) or (N, outputs): the root of its share."""
        objective, rows, xp = self._objective, self._rows, self._backend.xp
        if self._objective.l1:
            raise TypeError("the penalty l1 is no sum of squares: residuals are of the loss with l1=0")
        weights, like = rows.get("weights"), rows["x"][:, :1]
        counts = xp.ones_like(like, dtype=self._backend.float_dtype) if weights is None else weights
        outputs = self._backend.from_host(np.zeros((like.shape[0], objective.chain.out_features)))
        _, weight, _ = objective.parts(outputs, rows["y"], weights)
        shares = objective.loss.reduced(xp, counts, weight, counts)[0]
        return xp.sqrt(shares if shares.ndim == 2 else xp.expand_dims(shares, axis=-1))

    @cached_property
    def _decayed(self) -> list[slice]:
        """The parts of theta on which the penalty acts, if there is one."""
        groups = self._objective.chain.layout.groups if self._objective.l2 else []
        return [slice(g.start, g.stop) for g in groups if g.decay]

    @property
    def _root(self) -> float:
        return float(np.sqrt(2.0 * self._objective.l2))

    def _units(self) -> Iterator[HostArray]:
        for i in range(self._size):
            yield np.eye(1, self._size, i, dtype=self._backend.dtype)[0]

    def _vector(self, vector: Data, name: str) -> Array:
        return self._inputs.vector(vector, name, self._size)

    def _function(self, function: Callable[..., Any], outputs: Mapping[str, Shape]) -> PlannedFunction:
        return PlannedFunction(partial(function, self._objective), self._backend, outputs, _FIXED)

    def _call(self, name: str, theta: Data, v: Data | None = None) -> dict[str, HostArray]:
        given = {**self._rows, "theta": self._vector(theta, "theta")}
        if v is not None:
            given["v"] = self._vector(v, "v")
        if name in ("residuals", "along"):
            given["scale"] = self._scale
        results = self._kinds[name].evaluate({"stats": self._stats}, given)
        return {key: np.array(self._backend.to_host(array)) for key, array in results.items()}


# --- what is traced ---------------------------------------------------------------------------------------------------


def _hvp(objective: Objective, backend: Any, v: Any, theta: Any, **rows: Any) -> dict[str, Any]:
    gradient: Any = value_and_grad(objective, backend, theta, **rows)["gradient"]
    return {"product": jvp([gradient], [theta], [v])[0]}


def _gnvp(
    objective: Objective, backend: Any, v: Any, theta: Any, stats: Any, x: Any, y: Any, weights: Any = None
) -> dict[str, Any]:
    here, x = taken(objective, backend, x)
    outputs: Any = here.chain.pass_forward(theta, stats, x, raw=here.raw)[0]
    total, weight, summed = here.parts(outputs, y, weights)
    slope: Any
    _, slope = objective.loss.reduced(backend.xp, total, weight, summed)
    bent = jvp([slope], [outputs], jvp([outputs], [theta], [v]))
    (product,) = vjp([outputs], bent, [theta])
    penalty: Any = here.penalized(theta, backend.xp.zeros_like(theta))[1]
    return {"product": product + jvp([penalty], [theta], [v])[0]}


def _residuals(
    objective: Objective, backend: Any, scale: Any, theta: Any, stats: Any, x: Any, y: Any, weights: Any = None
) -> dict[str, Any]:
    here, x = taken(objective, backend, x)
    outputs: Any = here.chain.pass_forward(theta, stats, x, raw=here.raw)[0]
    return {"residuals": objective.loss.residuals(context.of(backend), outputs, y) * scale}


def _along(objective: Objective, backend: Any, v: Any, theta: Any, **rows: Any) -> dict[str, Any]:
    residuals = _residuals(objective, backend, theta=theta, **rows)["residuals"]
    return {"residuals": jvp([residuals], [theta], [v])[0]}
