"""The sizes that files and functions of the package keep to, and those that are still larger.

An entry of a table is a debt: it may shrink, not grow, and goes once it is paid. Lines of docstrings do not count: a
long one is no fault.
"""

import ast
from collections.abc import Iterator, Mapping

FILE, FUNCTION = 450, 40  # lines

LARGER_FILES: dict[str, int] = {}
LARGER_FUNCTIONS: dict[str, int] = {}

Owner = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Found = tuple[str, int, str, str]  # path, line, rule, text


def check(
    sources: Mapping[str, str],
    larger_files: Mapping[str, int] = LARGER_FILES,
    larger_functions: Mapping[str, int] = LARGER_FUNCTIONS,
) -> list[Found]:
    """What is too large among all modules of a package, by their paths within it, and entries that have no use."""
    files = {path: (1, _lines_of_code(source)) for path, source in sources.items()}
    functions = {f"{path} {name}": (line, size) for path, s in sources.items() for name, line, size in _functions(s)}
    return [*_judged(files, larger_files, FILE, "file"), *_judged(functions, larger_functions, FUNCTION, "function")]


def _judged(sizes: Mapping[str, tuple[int, int]], larger: Mapping[str, int], most: int, kind: str) -> Iterator[Found]:
    for name, (line, size) in sizes.items():
        allowed = max(larger.get(name, most), most)
        if size > allowed:
            more = "it grew" if name in larger else "cut it where the second idea begins"
            yield name.partition(" ")[0], line, "size", f"{kind} {name}: {size} lines, more than {allowed}: {more}"
    for name in larger:
        if sizes.get(name, (1, 0))[1] <= most:
            yield (
                name.partition(" ")[0],
                1,
                "size",
                f"{kind} {name} is not larger than {most} any more: take its entry out",
            )


def _functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Name, line and size of every function, those of classes and of other functions too."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{prefix}{child.name}."
                if not isinstance(child, ast.ClassDef):
                    yield name[:-1], child.lineno, _lines(child) - _docstring_lines(child)
            yield from below(child, name)

    return below(ast.parse(source), "")


def _lines_of_code(source: str) -> int:
    owners = [n for n in ast.walk(ast.parse(source)) if isinstance(n, Owner)]
    return len(source.splitlines()) - sum(map(_docstring_lines, owners))


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_lines(node: Owner) -> int:
    return _lines(node.body[0]) if ast.get_docstring(node) is not None else 0
