"""Rules that the mathematics must keep, and two that the whole package must keep, checked on the syntax tree.

    python ci/checks/lint.py [FILE ...]

Layers, losses, optimizers, activations, the network and the step speak the Array API standard and nothing else; at
the boundary (`network/inputs.py`, `backends/`) NumPy may be met. Each rule has a name; `# lint: allow RULE - reason`
on the line excuses it. With no files, the package is checked.

Two rules are for all files. `unsafe`: nothing that turns data into code may be called or imported, anywhere.
`private`: no file uses an underscore name of another. Two are for the package as a whole, each with a table of what
does not keep to it yet: `size` (sizes.py) and `docstring` (docstrings.py).
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import docstrings
import sizes

PACKAGE = Path(__file__).resolve().parents[2] / "xmlp"
MATHEMATICS = (
    "activations.py", "layers", "losses", "optimizers.py", "schedules.py", "backends/context.py",
    "network/layout.py", "network/chain.py", "network/objective.py", "network/functions.py",
    "network/predictor.py", "model/network.py", "training/step.py", "graph", "compiler",
)  # fmt: skip

LIBRARIES = {"numpy", "cupy", "torch", "jax", "array_api_strict", "numba", "scipy", "sklearn", "tensorflow"}

# https://data-apis.org/array-api/2024.12: functions, constants, dtypes and inspection
STANDARD = frozenset(
    """
    abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and
    bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays broadcast_to can_cast
    ceil clip concat conj copysign cos cosh count_nonzero cumulative_prod cumulative_sum diff divide empty empty_like
    equal exp expand_dims expm1 eye finfo flip floor floor_divide from_dlpack full full_like greater greater_equal
    hypot iinfo imag isdtype isfinite isinf isnan less less_equal linspace log log10 log1p log2 logaddexp logical_and
    logical_not logical_or logical_xor matmul matrix_transpose max maximum mean meshgrid min minimum moveaxis multiply
    negative nextafter nonzero not_equal ones ones_like permute_dims positive pow prod real reciprocal remainder repeat
    reshape result_type roll round searchsorted sign signbit sin sinh sort sqrt square squeeze stack std subtract sum
    take take_along_axis tan tanh tensordot tile tril triu trunc unique_all unique_counts unique_inverse unique_values
    unstack var vecdot where zeros zeros_like e inf nan newaxis pi bool int8 int16 int32 int64 uint8 uint16 uint32
    uint64 float32 float64 complex64 complex128 isdtype __array_namespace_info__ __array_api_version__
    """.split()
)
# allowed by the standard, but slow or synchronising on a device, or of a shape that depends on data
BANNED = {
    "clip": "synchronises on CuPy: minimum(maximum(x, low), high)",
    "sign": "synchronises on CuPy: two comparisons in where",
    "nonzero": "its shape depends on data",
    "unique_all": "its shape depends on data",
    "unique_counts": "its shape depends on data",
    "unique_inverse": "its shape depends on data",
    "unique_values": "its shape depends on data",
    "mean": "of integers is not in the standard, and hides its division: sum(x) / n",
    "std": "hides its formula",
    "var": "hides its formula",
}
ARRAY_METHODS = frozenset(
    """
    sum mean max min argmax argmin astype reshape ravel flatten dot transpose copy item tolist fill clip squeeze cumsum
    prod std var any all round sort repeat take nonzero swapaxes cpu numpy detach
    """.split()
)
METHOD_OWNERS = {"xp", "self", "cls", "kw", "data", "values", "config", "custom", "known", "np", "activations", "given"}


# what turns data into code, or has done so in other libraries
UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "yaml",
    "dill",
    "cloudpickle",
    "joblib",
    "jsonpickle",
    "code",
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
UNSAFE_ATTRIBUTES = {
    ("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"),
    ("tempfile", "mktemp"), ("builtins", "eval"), ("builtins", "exec"), ("np", "load"), ("np", "fromregex"),
    ("torch", "load"), ("importlib", "exec_module"),
}  # fmt: skip
UNSAFE_KEYWORDS = {"allow_pickle", "shell"}


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def check(source: str, path: str) -> list[Finding]:
    """The findings in one file of the mathematics."""
    return _found(source, path, _findings)


def check_safety(source: str, path: str) -> list[Finding]:
    """What could turn data into code, in any file."""
    return _found(source, path, _unsafe)


OF_NAMED_TUPLES = {"_replace", "_asdict", "_fields", "_make"}


def check_private(source: str, path: str) -> list[Finding]:
    """Names with an underscore that belong to another file: what they are about is nobody else's affair."""
    own = {name for node in ast.walk(ast.parse(source)) for name in _defined(node)} | OF_NAMED_TUPLES
    return _found(source, path, lambda node: _private(node, own))


def _defined(node: ast.AST) -> Iterator[str]:
    """The names that a statement gives to functions, classes, variables and attributes."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        yield node.id if isinstance(node, ast.Name) else node.attr
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (name.asname or name.name for name in node.names if not name.name.startswith("_"))


def _private(node: ast.AST, own: set[str]) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xmlp"):
        names = [name.name for name in node.names]
    elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") not in ("self", "cls"):
        names = [node.attr]
    else:
        return
    for name in names:
        if name.startswith("_") and not name.endswith("__") and name not in own:
            yield node.lineno, "private", f"{name} belongs to another file; give it a name without an underscore"


def _found(source: str, path: str, rules: Callable[[ast.AST], Iterator[tuple[int, str, str]]]) -> list[Finding]:
    tree = ast.parse(source)
    allowed = {i: re.findall(r"lint: allow (\w+)", line) for i, line in enumerate(source.splitlines(), 1)}
    found = (f for node in ast.walk(tree) for f in rules(node))
    return [Finding(path, line, rule, text) for line, rule, text in found if rule not in allowed.get(line, [])]


def _findings(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.Import):
        for name in node.names:
            if name.name.partition(".")[0] in LIBRARIES:
                yield node.lineno, "library", f"imports {name.name}; take xp from the context"
    elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LIBRARIES:
        yield node.lineno, "library", f"imports from {node.module}; take xp from the context"
    elif isinstance(node, ast.Attribute) and _is_namespace(node.value):
        if node.attr not in STANDARD:
            yield node.lineno, "standard", f"xp.{node.attr} is not a name of the Array API standard 2024.12"
        elif node.attr in BANNED:
            yield node.lineno, "banned", f"xp.{node.attr} {BANNED[node.attr]}"
    elif isinstance(node, ast.Call):
        yield from _call(node)
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Compare):
        yield node.lineno, "mask", "boolean indexing; use where"


def _unsafe(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    names = []
    if isinstance(node, ast.Import):
        names = [name.name for name in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
    elif isinstance(node, ast.Name) and node.id in UNSAFE_CALLS:
        yield node.lineno, "unsafe", f"{node.id} turns data into code"
    elif isinstance(node, ast.Attribute):
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if (owner, node.attr) in UNSAFE_ATTRIBUTES:
            yield node.lineno, "unsafe", f"{owner}.{node.attr} runs or reads what it is given as code"
    elif isinstance(node, ast.keyword) and node.arg in UNSAFE_KEYWORDS and ast.unparse(node.value) != "False":
        yield node.value.lineno, "unsafe", f"{node.arg} is not False"
    for name in names:
        if name.partition(".")[0] in UNSAFE_MODULES or tuple(name.rsplit(".", 1)) in UNSAFE_ATTRIBUTES:
            yield node.lineno, "unsafe", f"imports {name}, which turns data into code"


def _call(node: ast.Call) -> Iterator[tuple[int, str, str]]:
    function = node.func
    if not isinstance(function, ast.Attribute):
        return
    if _is_namespace(function.value):
        if function.attr == "where" and len(node.args) == 1:
            yield node.lineno, "mask", "where with one argument has a shape that depends on data"
        if function.attr in ("sum", "max", "min", "concat", "stack", "take") and len(node.args) > 2 - (
            function.attr not in ("take",)
        ):
            yield node.lineno, "keyword", f"xp.{function.attr} takes its axis by keyword"
        return
    root = function.value
    while isinstance(root, (ast.Attribute, ast.Subscript, ast.Call)):
        root = root.func if isinstance(root, ast.Call) else root.value
    owner = root.id if isinstance(root, ast.Name) else ""
    if function.attr in ARRAY_METHODS and owner not in METHOD_OWNERS:
        yield node.lineno, "method", f".{function.attr}() is an array method; use xp.{function.attr}"


def _is_namespace(node: ast.AST) -> bool:
    """`xp`, or something whose attribute is xp, as in ctx.xp."""
    return (isinstance(node, ast.Name) and node.id == "xp") or (isinstance(node, ast.Attribute) and node.attr == "xp")


def sources() -> dict[str, str]:
    """The text of every module by its path within the package."""
    return {p.relative_to(PACKAGE).as_posix(): p.read_text(encoding="utf-8") for p in sorted(PACKAGE.rglob("*.py"))}


def check_package(sources: dict[str, str]) -> list[Finding]:
    """Files and functions that are too large, and definitions without a docstring, in all modules together."""
    return [Finding(f"xmlp/{path}", *rest) for rule in (sizes, docstrings) for path, *rest in rule.check(sources)]


def files() -> list[Path]:
    """The files of the mathematics."""
    found = []
    for name in MATHEMATICS:
        path = PACKAGE / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def main() -> int:
    paths = [Path(p) for p in sys.argv[1:]] or files()
    findings = [f for p in paths for f in check(p.read_text(encoding="utf-8"), str(p))]
    everywhere = paths if sys.argv[1:] else sorted(PACKAGE.rglob("*.py"))
    for rule in (check_safety, check_private):
        findings += [f for p in everywhere for f in rule(p.read_text(encoding="utf-8"), str(p))]
    if not sys.argv[1:]:
        findings += check_package(sources())
    print(*findings, sep="\n" if findings else "")
    print(f"{len(findings)} findings in {len(everywhere)} files, {len(paths)} of them of the mathematics")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
