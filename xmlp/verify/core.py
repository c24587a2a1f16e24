"""What a check is, the registry of all checks, running them and printing what came out."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from xmlp.backends import Backend, BackendLike, owner
from xmlp.backends import backend as backend_named
from xmlp.errors import unknown
from xmlp.model.network import Network
from xmlp.network.layout import Gradients
from xmlp.types import Array
from xmlp.verify import library
from xmlp.verify.columns import Columns
from xmlp.verify.scalar import Pass, Problem, Stage

FORMS = ("scalar", "example", "batch")


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes
    ----------
    id, title : str
    equations : tuple of int
        The numbered equations of document 002 that the check covers.
    scalar, example, batch : float or None
        The largest error of each form against the reference, relative to the larger of 1 and the number itself; None
        where the form has no meaning.
    tolerance : float
    passed : bool
    detail : str
        What went wrong.
    """

    id: str
    equations: tuple[int, ...]
    title: str
    scalar: float | None
    example: float | None
    batch: float | None
    tolerance: float
    passed: bool
    detail: str


@dataclass(frozen=True)
class Check:
    """A registered check: `run` is called with a `Trial`."""

    id: str
    equations: tuple[int, ...]
    title: str
    tolerance: float
    run: "Callable[[Trial], None]"


CHECKS: dict[str, Check] = {}


def check(
    id: str, *, title: str, equations: Iterable[int] = (), tolerance: float = 1e-12
) -> "Callable[[Callable[[Trial], None]], Callable[[Trial], None]]":
    """Register a function as the check of one requirement."""

    def register(run: "Callable[[Trial], None]") -> "Callable[[Trial], None]":
        if id in CHECKS:
            raise ValueError(f"there are two checks {id}")
        CHECKS[id] = Check(id, tuple(equations), title, tolerance, run)
        return run

    return register


class Trial:
    """What a check is handed: a backend, and the columns that it fills in.

    `scalar`, `example` and `batch` compare what a form got with what the reference says; `require` states anything that
    is true or false.
    """

    def __init__(self, backend: Backend):
        self.backend, self.xp = backend, backend.xp
        self.columns = Columns(backend)
        self.errors: dict[str, float] = {}
        self.required = 0

    # --- claims ----------------------------------------------------------------------------------

    def scalar(self, got: Any, want: Any) -> None:
        """Compare what loops over scalars give."""
        self._compare("scalar", got, want)

    def example(self, got: Any, want: Any) -> None:
        """Compare what matrices give for one example."""
        self._compare("example", got, want)

    def batch(self, got: Any, want: Any) -> None:
        """Compare what the library gives for a batch."""
        self._compare("batch", got, want)

    def _compare(self, form: str, got: Any, want: Any) -> None:
        errors = list(_errors(self.host(got), self.host(want)))
        if not errors:
            raise AssertionError("compared nothing with nothing")
        self.errors[form] = max(self.errors.get(form, 0.0), *errors)

    def require(self, holds: bool, otherwise: str) -> None:
        """Fail with this text unless it holds."""
        self.required += 1
        if not holds:
            raise AssertionError(otherwise)

    def differ(self, one: Any, other: Any, what: str, least: float = 1e-3) -> None:
        """Fail if two things are nearly the same."""
        self.require(max(_errors(self.host(one), self.host(other))) > least, f"{what}: there is no difference")

    def refuses(self, kind: type[Exception], words: str, call: Callable[[], object]) -> None:
        """Fail unless the call raises an exception of this kind that says these words."""
        try:
            call()
        except kind as error:
            self.require(words in str(error), f"the error does not say {words!r}: {error}")
        else:
            self.require(False, f"no {kind.__name__} about {words!r}")

    # --- means -----------------------------------------------------------------------------------

    def put(self, values: Any) -> Array:
        """Nested lists as an array of the backend."""
        return self.backend.from_host(values)

    def host(self, value: Any) -> Any:
        """Arrays, in whatever lists and tuples, as nested lists of floats."""
        if isinstance(value, (list, tuple)):
            return [self.host(v) for v in value]
        if isinstance(value, (bool, int, float, Decimal)):
            return float(value)
        return self.host((value if owner(value) == "numpy" else self.backend.to_host(value)).tolist())

    def network(self, problem: Problem) -> Network:
        """The problem's network."""
        return library.network_of(problem, self.backend)

    def in_columns(self, stages: Sequence[Stage], loss: str, x: Any, y: Any) -> Pass:
        """The pass over one example by products of Jacobians, as nested lists."""
        return Pass(*map(self.host, self.columns.backpropagate(stages, loss, x, y)))

    def backward(self, network: Network, x: Any, dy: Any) -> tuple[Array, Gradients]:
        """Give dx and the gradients of the parameters, from one forward and one backward pass."""
        caches: Any = network.forward(x)[1]
        return network.backward(caches, dy)

    def rows(self, problem: Problem) -> Pass:
        """The library's pass over all examples of a problem."""
        return library.rows(problem, self.backend)


def _errors(got: Any, want: Any) -> Iterable[float]:
    """|got - want| / max(1, |want|), number by number; infinite for nan and for unequal infinities."""
    if isinstance(got, list) and isinstance(want, list):
        if len(got) != len(want):
            raise AssertionError(f"{len(got)} values where the reference has {len(want)}")
        for g, w in zip(got, want, strict=True):
            yield from _errors(g, w)
    elif isinstance(got, list) or isinstance(want, list):
        raise AssertionError(f"the shape of {got} is not that of {want}")
    elif got == want:
        yield 0.0
    else:
        error = abs(got - want) / max(1.0, abs(want))
        yield error if error < float("inf") else float("inf")


def verify(backend: BackendLike = "numpy", only: str | Iterable[str] | None = None) -> list[Result]:
    """Execute the checks on a backend, in float64.

    Parameters
    ----------
    backend : str or Backend
    only : str or iterable of str, optional
        Ids, or the beginnings of ids, of the checks to execute; default all.

    Returns
    -------
    list of Result
        In the order of their ids. A check that raises has failed, with the exception's text as its detail.

    Examples
    --------
    >>> [result.passed for result in verify(only=["002-18", "003-16"])]
    [True, True]
    """
    here = backend_named(backend, dtype="float64")
    if here.dtype != "float64":
        raise ValueError(f"the checks need float64, the backend computes in {here.dtype}")
    wanted = [""] if only is None else [only] if isinstance(only, str) else list(only)
    if not wanted:
        raise ValueError("`only` names no check; leave it out to execute all")
    for beginning in wanted:
        if not any(id.startswith(beginning) for id in CHECKS):
            raise ValueError(unknown("check", beginning, CHECKS))
    return [_run(c, here) for _, c in sorted(CHECKS.items()) if c.id.startswith(tuple(wanted))]


def _run(check: Check, backend: Backend) -> Result:
    trial = Trial(backend)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # an overflow or an invalid operation is a failure
            check.run(trial)
        wrong = [f"{form}: {e:.1e}" for form, e in trial.errors.items() if not e <= check.tolerance]
        detail = f"more than {check.tolerance:.0e} off: {', '.join(wrong)}" if wrong else ""
        if not trial.errors and not trial.required:
            detail = "checked nothing"
    except AssertionError as error:
        detail = str(error)
    except Exception as error:  # a row of the table, whatever it is
        detail = f"{type(error).__name__}: {error}"
    errors = {form: trial.errors.get(form) for form in FORMS}
    return Result(
        check.id, check.equations, check.title, **errors, tolerance=check.tolerance, passed=not detail, detail=detail
    )


def table(results: Sequence[Result]) -> str:
    """The results as aligned text, one line a check, and a line with their number.

    >>> print(table([Result("002-18", (32, 33), "delta = a - y", 0.0, 1e-16, None, 1e-12, True, "")]))
    id      eq.    scalar  example  batch
    002-18  32-33   0e+00    1e-16      -  ok    delta = a - y
    1 check, all ok
    """
    lines = [("id", "eq.", *FORMS, "", ""), *map(_cells, results)]
    widths = [max(len(line[k]) for line in lines) for k in range(6)]
    text = []
    for line in lines:
        aligned = (
            cell.rjust(w) if 2 <= k < 5 else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=False))
        )
        text.append("  ".join([*aligned, line[-1]]).rstrip())
    failed = sum(not r.passed for r in results)
    counted = f"{len(results)} check{'s' * (len(results) != 1)}"
    return "\n".join([*text, f"{counted}, {f'{failed} FAILED' if failed else 'all ok'}"])


def _cells(r: Result) -> tuple[str, ...]:
    errors = ("-" if e is None else f"{e:.0e}" for e in (r.scalar, r.example, r.batch))
    what = r.title if r.passed else f"{r.title}: {' '.join(r.detail.split())}"
    return r.id, _ranges(r.equations), *errors, "ok  " if r.passed else "FAIL", what


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1-3 7"."""
    ordered = sorted(numbers)
    breaks = [k for k, (a, b) in enumerate(pairwise(ordered), 1) if b > a + 1]
    runs = [ordered[i:j] for i, j in pairwise([0, *breaks, len(ordered)]) if ordered]
    return " ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
