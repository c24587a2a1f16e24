"""Formulas: elementwise Array API functions, traced into graphs on first use.

A formula is written once. From its graph come its value on any array library, its derivative, its printed form and
whatever a backend's driver makes of it.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from numbers import Real
from typing import Any

from array_api_compat import array_namespace

from xmlp.graph.derivative import OUTPUT, differentiate, in_terms_of_output, through_output
from xmlp.graph.graph import Graph
from xmlp.graph.node import FLOAT, INT, Node, array, scalar, substitutions, walk
from xmlp.graph.trace import CALLS, TRACE, Calls, Traced, explained, node_of
from xmlp.host.once import once
from xmlp.host.scalars import plain
from xmlp.types import Array


class Definition:
    """What a formula and its bindings have in common: the graph and all that follows from it, each made once.

    Parameters
    ----------
    name : str
    arrays, scalars : sequence of str
        The names of the arguments.
    trace : callable
        `trace() -> (outputs, calls)`: the nodes of the outputs, and which nodes are calls of other formulas.
    source : callable or tuple
        What a pickle holds: the author's function, or the definition that this one was derived from and the argument
        of the derivative, None for the pullback.
    """

    def __init__(
        self, name: str, arrays: Sequence[str], scalars: Sequence[str],
        trace: Callable[[], tuple[Sequence[Node], Calls]], source: Any, doc: str | None = None,
    ):  # fmt: skip
        self.name, self.arrays, self.scalars = name, tuple(arrays), tuple(scalars)
        self.source, self.doc = source, doc
        self._traced = once(trace)
        self.partial = once(self._partial)
        self.pullback = once(self._pullback)
        self._graph = once(lambda: Graph(self.name, self.arrays, self.scalars, self._traced()[0]))

    @property
    def graph(self) -> Graph:
        """The graph of the function, traced at the first use."""
        return self._graph()

    @property
    def calls(self) -> Calls:
        """The formulas that the function calls."""
        return self._traced()[1]

    def _partial(self, argument: str) -> "Definition":
        if argument not in self.arrays:
            raise ValueError(f"{self.name} has no array argument {argument!r}; it has {', '.join(self.arrays)}")

        def trace() -> tuple[list[Node], Calls]:
            output, variable, calls = self.graph.outputs[0], array(argument), dict(self.calls)
            derivative = differentiate(output, variable, self.calls, calls)
            return [in_terms_of_output(output, derivative, variable)], calls

        return Definition(f"d{self.name}/d{argument}", self.arrays, self.scalars, trace, (self, argument))

    def _pullback(self) -> "Definition":
        def trace() -> tuple[list[Node], Calls]:
            slope = self.partial(self.arrays[0])
            node = through_output(self.graph.outputs[0], slope.graph.outputs[0])
            return [(Traced(array("dy")) * Traced(node)).node], slope.calls

        return Definition(f"{self.name}_pullback", (*self.arrays, OUTPUT, "dy"), self.scalars, trace, (self, None))

    def inlined(self, nodes: Sequence[Node], scalars: Mapping[str, Any], calls: Calls) -> list[Node]:
        """The outputs with `nodes` for the arrays; what they call is written into `calls`."""
        by_name = dict(zip(self.arrays, nodes, strict=True)) | {n: node_of(v) for n, v in scalars.items()}
        below = list(walk(*self.graph.outputs))
        replaced = substitutions({n: by_name[n.value] for n in below if n.op in ("array", "scalar")})
        outputs = [replaced(o) for o in self.graph.outputs]
        for node in below:
            if node in self.calls:
                formula, arguments = self.calls[node]
                calls.setdefault(replaced(node), (formula, tuple(map(replaced, arguments))))
        return outputs


class Formula:
    """An elementwise function with everything that follows from its graph.

    Made by `elementwise`. Positional parameters are arrays, keyword-only parameters are scalars (Python numbers); those
    annotated `int` are int32, all others float. A parameter called `xp` receives the array namespace.

    Formulas are equal if their names, graphs and scalars are. A pickle names the formula where another process can
    import it. One of the main program or a notebook, one that was made in a function, or a lambda, travels by value,
    with the package cloudpickle, which comes with scikit-learn.
    """

    def __init__(self, definition: Definition, scalars: Mapping[str, float | None]):
        self._definition = definition
        self.name = self.__name__ = definition.name
        self.arrays = definition.arrays
        self.scalars = dict(scalars)  # name -> value, None where the caller must give it
        self.__doc__ = definition.doc

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self.scalars.items() if v is not None)
        return f"{self.name}({given})" if given else self.name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Formula):
            return NotImplemented
        if (self.name, self.arrays, self.scalars) != (other.name, other.arrays, other.scalars):
            return False
        mine, its = self._definition, other._definition
        if mine is its:
            return True
        try:
            return mine.graph.outputs == its.graph.outputs  # nodes are equal if they are the same
        except Exception:  # whatever a function raises that cannot be traced
            return False

    def __hash__(self) -> int:
        return hash((self.name, self.arrays, *self.scalars))

    def __copy__(self) -> "Formula":
        return self

    def __deepcopy__(self, memo: Any) -> "Formula":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        source = self._definition.source
        if isinstance(source, tuple):
            return _derived, (Formula(source[0], self.scalars), source[1])
        home = source.__module__, getattr(source, "__qualname__", "")
        reachable = getattr(_found(*home), "_definition", None) is self._definition
        library = None if reachable and _importable(home[0]) else _cloudpickle()
        if library is not None:
            return _of_value, (sys.version_info[:2], library.loads, library.dumps(source), self.scalars)
        if reachable:
            return _named, (*home, self.scalars)
        raise TypeError(
            f"the formula {self.name} cannot be pickled: it is not a name of the module that it was written in. "
            "Define it there, outside of functions, under the name of its function, or install cloudpickle."
        )

    @property
    def graph(self) -> Graph:
        """The expression graph."""
        return self._definition.graph

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
        given, calls = self.given(scalars), CALLS.get({})
        nodes = [node_of(a) for a in self._checked(arrays)]
        outputs = self._definition.inlined(nodes, given, calls)
        symbolic = any(isinstance(v, Traced) for v in given.values())
        if len(outputs) == 1 and not symbolic and outputs[0].args and outputs[0] not in nodes:
            calls[outputs[0]] = (self.bind(**given), tuple(nodes))
        results = tuple(Traced(o) for o in outputs)
        return results[0] if len(results) == 1 else results

    def partial_at(self, argument: str, nodes: Sequence[Node], calls: Calls) -> Node:
        """The derivative with respect to `argument`, with `nodes` for the array arguments."""
        return self._definition.partial(argument).inlined(nodes, self.given({}), calls)[0]

    def bind(self, **scalars: float) -> "Formula":
        """The same formula with other values of its scalars.

        >>> from xmlp.activations import leaky_relu
        >>> leaky_relu.bind(alpha=0.2)
        leaky_relu(alpha=0.2)
        """
        given = self.given({**self.scalars, **scalars})
        return Formula(self._definition, {name: _number(self.name, name, value) for name, value in given.items()})

    def partial(self, argument: str) -> "Formula":
        """The derivative of the first output with respect to one array argument, a formula of the same arguments."""
        return Formula(self._definition.partial(argument), self.scalars)

    @property
    def derivative(self) -> "Formula":
        """The derivative with respect to the first argument."""
        return self.partial(self.arrays[0])

    @cached_property
    def pullback(self) -> "Formula":
        """dx = dy f'(x), a formula of (*arguments, output, dy); it reads the output instead of computing it again."""
        return Formula(self._definition.pullback(), self.scalars)


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
    name, parameters = _name(function), _parameters(function)
    arrays = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY and p.name != "xp"]
    defaults = {p.name: None if p.default is p.empty else p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    scalars = {n: value if value is None else _number(name, n, value) for n, value in defaults.items() if n != "xp"}
    if not arrays:
        raise TypeError(f"{name}: a formula needs at least one array argument (positional)")
    if reserved := {OUTPUT, "dy"} & {*arrays, *scalars}:
        raise TypeError(f"{name}: the name {reserved.pop()!r} is taken by derivatives; choose another")
    trace = partial(_trace, function, parameters)
    return Formula(Definition(name, arrays, tuple(scalars), trace, function, function.__doc__), scalars)


def _name(function: Callable[..., Any]) -> str:
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a function that can be traced."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        parameters = []
    if not parameters or type(function).__name__ == "ufunc":
        raise TypeError(
            f"{_name(function)} is a function of arrays that no formula can be made of: write the function with the "
            f"namespace that it is given, as in lambda xp, x: xp.{_name(function)}(x)"
        )
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise TypeError(f"{_name(function)}: a formula names each of its arguments, got {p}")
    return parameters


def _trace(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> tuple[list[Node], Calls]:
    """The outputs of a function of symbols, and which of its nodes are calls of other formulas."""
    symbols: dict[str, Any] = {}
    for p in parameters:
        dtype, make = INT if p.annotation in (int, "int") else FLOAT, scalar if p.kind is p.KEYWORD_ONLY else array
        symbols[p.name] = TRACE if p.name == "xp" else Traced(make(p.name, dtype))
    positional = [symbols[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
    keyword = {p.name: symbols[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    calls: Calls = {}
    before = CALLS.set(calls)
    try:
        result = function(*positional, **keyword)
    except Exception as error:
        told = explained(error)
        raise told from (error if told is not error else error.__cause__)
    finally:
        CALLS.reset(before)
    results = result if isinstance(result, tuple) else (result,)
    for r in results:
        if not isinstance(r, (Traced, Real)):
            raise TypeError(f"{_name(function)}: a formula returns arrays, got {type(r).__name__}")
    return [node_of(r) for r in results], calls


def _number(formula: str, name: str, value: Any) -> bool | int | float:
    """A scalar as a Python number."""
    number = plain(value)
    if type(number) not in (bool, int, float):
        raise ValueError(f"the scalar {name} of {formula} must be a number, got {value!r}")
    return number  # type: ignore[no-any-return]


# --- pickles ----------------------------------------------------------------------------------------------------------


def _found(module: str, name: str) -> Any:
    """What a module holds under a dotted name, None if nothing."""
    try:
        value: Any = importlib.import_module(module)
    except ImportError:
        return None
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _importable(module: str) -> bool:
    """Whether other processes have a module of that name, of the same content."""
    return module not in ("__main__", "__mp_main__")


def _cloudpickle() -> Any:
    """What pickles functions by value, None if it is not installed. Whoever loads a pickle trusts it as a program."""
    for name in ("cloudpickle", "joblib.externals.cloudpickle"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _named(module: str, name: str, scalars: Mapping[str, float]) -> Formula:
    """The formula of that name as it comes out of a pickle: the object itself, unless its scalars differ."""
    formula = _found(module, name)
    if not isinstance(formula, Formula):
        raise AttributeError(
            f"the module {module} has no formula {name}; another process finds formulas by their names in modules that "
            "it can import: define it in one, or install cloudpickle"
        )
    return formula if formula.scalars == scalars else formula.bind(**scalars)


def _of_value(python: tuple[int, int], loads: Callable[[bytes], Any], code: bytes, scalars: Any) -> Formula:
    """The formula of a function that travelled by value."""
    if python != sys.version_info[:2]:
        raise ValueError(
            "a pickle holds a formula by value, as code for Python {}.{}, but this is Python {}.{}: define the formula "
            "in a module, where both find it by name".format(*python, *sys.version_info[:2])
        )
    formula = elementwise(loads(code))
    return formula if formula.scalars == scalars else formula.bind(**scalars)


def _derived(formula: Formula, argument: str | None) -> Formula:
    return formula.pullback if argument is None else formula.partial(argument)
