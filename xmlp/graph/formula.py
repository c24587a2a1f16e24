"""Formulas: elementwise Array API functions, traced into graphs on first use.

A formula is written once. From its graph come its value on any array library, its derivative, its printed form and
whatever a backend's driver makes of it.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from array_api_compat import array_namespace

from xmlp.graph.derivative import OUTPUT, differentiate, in_terms_of_output, through_output
from xmlp.graph.graph import Array, Graph
from xmlp.graph.node import FLOAT, INT, Node, array, scalar, substitute, walk
from xmlp.graph.trace import TRACE, Traced, node_of
from xmlp.scalars import plain


class Formula:
    """An elementwise function with everything that follows from its graph.

    Made by `elementwise`. Positional parameters are arrays, keyword-only parameters are scalars (Python numbers); those
    annotated `int` are int32, all others float. A parameter called `xp` receives the array namespace.
    """

    def __init__(
        self,
        name: str,
        arrays: Sequence[str],
        scalars: Mapping[str, float | None],
        trace: Callable[[], Sequence[Node]],
        doc: str | None = None,
        home: tuple[str, str] | None = None,
    ):
        self.name = self.__name__ = name
        self.arrays = tuple(arrays)
        self.scalars = dict(scalars)  # name -> value, None where the caller must give it
        self._trace = trace
        self._home = home  # the module and the name there, where pickles find it again
        self.__doc__ = doc

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self.scalars.items() if v is not None)
        return f"{self.name}({given})" if given else self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and (self._trace, self.scalars) == (other._trace, other.scalars)

    def __hash__(self) -> int:
        return hash((self.name, self._trace))

    def __deepcopy__(self, memo: Any) -> "Formula":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._home is None or getattr(_found(*self._home), "_trace", None) is not self._trace:
            raise TypeError(
                f"the formula {self.name} cannot be pickled: it is not a name of the module that it was written in. "
                "Define it there, outside of functions, under the name of its function."
            )
        return _bound, (*self._home, self.scalars)

    @cached_property
    def graph(self) -> Graph:
        """The expression graph."""
        return Graph(self.name, self.arrays, tuple(self.scalars), self._trace())

    @property
    def source(self) -> str:
        """The graph as readable text."""
        return str(self.graph)

    @property
    def reads(self) -> frozenset[str]:
        """Names of the arguments that the value depends on."""
        return self.graph.used

    def __call__(self, *arrays: Array, **scalars: float) -> Any:
        """Value on arrays of one library, each output broadcast from the inputs: an array or a tuple of them."""
        if any(isinstance(a, Traced) for a in arrays):
            return self._call_traced(arrays, scalars)
        return self.evaluate(array_namespace(*arrays), *arrays, **{k: plain(v) for k, v in scalars.items()})

    def evaluate(self, xp: Any, *arrays: Array, **scalars: float) -> Any:
        """Value on arrays of namespace `xp`, one operation at a time; an array that is not used may be None."""
        outputs = self.graph.run(xp, self._checked(arrays), self.given(scalars))
        return outputs[0] if len(outputs) == 1 else outputs

    def _checked(self, arrays: Sequence[Any]) -> Sequence[Any]:
        if len(arrays) != len(self.arrays):
            raise TypeError(
                f"{self.name} takes {len(self.arrays)} arrays ({', '.join(self.arrays)}), got {len(arrays)}"
            )
        return arrays

    def given(self, scalars: Mapping[str, Any]) -> dict[str, Any]:
        """All scalars: those given now, the formula's own for the rest."""
        if unknown := scalars.keys() - self.scalars.keys():
            raise TypeError(f"{self.name} has no scalar {sorted(unknown)}; it has {sorted(self.scalars) or 'none'}")
        given: dict[str, Any] = {**self.scalars, **scalars}
        if missing := [k for k, v in given.items() if v is None]:
            raise TypeError(f"{self.name} needs the scalar {missing[0]!r}")
        return given

    def _call_traced(self, arrays: Sequence[Any], scalars: Mapping[str, Any]) -> Any:
        """Inside another formula: the graph with the caller's symbols in it."""
        given = self.given(scalars)
        nodes = [node_of(a) for a in self._checked(arrays)]
        outputs = self._inline(nodes, given)
        symbolic = any(isinstance(v, Traced) for v in given.values())
        if len(outputs) == 1 and not symbolic and outputs[0].args and outputs[0] not in nodes:
            outputs[0].origin = (self.bind(**given), tuple(nodes))
        results = tuple(Traced(o) for o in outputs)
        return results[0] if len(results) == 1 else results

    def _inline(self, nodes: Sequence[Node], given: Mapping[str, Any]) -> list[Node]:
        by_name = dict(zip(self.arrays, nodes, strict=True)) | {n: node_of(v) for n, v in given.items()}
        inputs = [n for n in walk(*self.graph.outputs) if n.op in ("array", "scalar")]
        replacements = {n: by_name[n.value] for n in inputs}
        return [substitute(o, replacements) for o in self.graph.outputs]

    def partial_at(self, argument: str, nodes: Sequence[Node]) -> Node:
        """The derivative with respect to `argument`, with `nodes` for the array arguments."""
        return self.partial(argument)._inline(nodes, self.given({}))[0]

    def bind(self, **scalars: float) -> "Formula":
        """The same formula with other values of its scalars.

        >>> from xmlp.activations import leaky_relu
        >>> leaky_relu.bind(alpha=0.2)
        leaky_relu(alpha=0.2)
        """
        given = {name: plain(value) for name, value in self.given({**self.scalars, **scalars}).items()}
        return Formula(self.name, self.arrays, given, self._trace, self.__doc__, self._home)

    @cached_property
    def _partials(self) -> dict[str, "Formula"]:
        return {}

    def partial(self, argument: str) -> "Formula":
        """The derivative of the first output with respect to one array argument, a formula of the same arguments."""
        if argument not in self._partials:
            if argument not in self.arrays:
                raise ValueError(f"{self.name} has no array argument {argument!r}; it has {', '.join(self.arrays)}")

            def trace() -> list[Node]:
                output, variable = self.graph.outputs[0], array(argument)
                return [in_terms_of_output(output, differentiate(output, variable), variable)]

            name = f"d{self.name}/d{argument}"
            self._partials[argument] = Formula(name, self.arrays, self.scalars, trace)
        return self._partials[argument]

    @property
    def derivative(self) -> "Formula":
        """The derivative with respect to the first argument."""
        return self.partial(self.arrays[0])

    @cached_property
    def pullback(self) -> "Formula":
        """dx = dy f'(x), a formula of (*arguments, output, dy); it reads the output instead of computing it again."""

        def trace() -> list[Node]:
            slope = through_output(self.graph.outputs[0], self.derivative.graph.outputs[0])
            return [(Traced(array("dy")) * Traced(slope)).node]

        return Formula(f"{self.name}_pullback", (*self.arrays, OUTPUT, "dy"), self.scalars, trace)


def elementwise(function: Callable[..., Any]) -> Formula:
    """Make a formula of an elementwise Array API function.

    Parameters
    ----------
    function : callable
        Written with operators and the functions of the namespace `xp`. Positional parameters are arrays, keyword-only
        parameters are scalars; those annotated `int` are int32, all others float. A parameter called `xp` receives the
        namespace. Several outputs are a tuple.

    Raises
    ------
    TraceError
        On first use, if the function branches on data, calls methods or uses names outside the vocabulary; the
        message names the line.

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> @xmlp.elementwise
    ... def bump(xp, x, *, width=1.0):
    ...     return xp.exp(-(x / width) ** 2)
    >>> bump(np.asarray([0.0, 1.0])).round(4).tolist()
    [1.0, 0.3679]
    >>> print(bump.derivative.source)
    dbump/dx(x, *, width):
        t0 = x / width
        return -(exp(-t0 ** 2) * 2 * t0 / width)
    """
    if isinstance(function, Formula):
        return function
    parameters = inspect.signature(function).parameters.values()
    arrays, scalars = [], {}
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise TypeError(f"{function.__name__}: a formula names each of its arguments, got {p}")
        if p.name == "xp":
            continue
        if p.kind is p.KEYWORD_ONLY:
            scalars[p.name] = None if p.default is p.empty else plain(p.default)
        else:
            arrays.append(p.name)
    if not arrays:
        raise TypeError(f"{function.__name__}: a formula needs at least one array argument (positional)")
    namespace = [p for p in parameters if p.name == "xp"]
    dtypes = {p.name: INT if p.annotation in (int, "int") else FLOAT for p in parameters}
    if reserved := {OUTPUT, "dy"} & dtypes.keys():
        raise TypeError(f"{function.__name__}: the name {reserved.pop()!r} is taken by derivatives; choose another")

    @lru_cache(maxsize=1)
    def trace() -> list[Node]:
        symbols = {n: Traced(array(n, dtypes[n])) for n in arrays}
        symbols.update({n: Traced(scalar(n, dtypes[n])) for n in scalars})
        if namespace:
            symbols["xp"] = TRACE  # type: ignore[assignment]
        positional = [symbols[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
        keyword = {p.name: symbols[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
        result = function(*positional, **keyword)
        results = result if isinstance(result, tuple) else (result,)
        for r in results:
            if not isinstance(r, (Traced, bool, int, float)):
                raise TypeError(f"{function.__name__}: a formula returns arrays, got {type(r).__name__}")
        return [node_of(r) for r in results]

    home = function.__module__, function.__qualname__
    return Formula(function.__name__, arrays, scalars, trace, function.__doc__, home)


def _found(module: str, name: str) -> Any:
    """What a module holds under a dotted name, None if nothing."""
    value: Any = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _bound(module: str, name: str, scalars: Mapping[str, float]) -> Formula:
    """The formula of that name as it comes out of a pickle: the object itself, unless its scalars differ."""
    found = _found(module, name)
    if not isinstance(found, Formula):
        raise AttributeError(
            f"the module {module} has no formula {name}; another process finds formulas by their names in modules that "
            "it can import: define it in one"
        )
    return found if found.scalars == scalars else found.bind(**scalars)
