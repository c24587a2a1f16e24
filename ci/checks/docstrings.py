"""Public definitions without a docstring.

Public is a name without an underscore in a module without one, outside of functions. There need none: a method that
takes the place of a documented one, or of a field, of a base class; the setter of a property; what has a title in its
decorator; the events of callbacks, `on_...`, of which the trainer says what they are; what only type checkers see.
"""

import ast
from collections.abc import Iterator, Mapping

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
Owner = ast.Module | ast.ClassDef
Bases = Mapping[str, ast.ClassDef]


Found = tuple[str, int, str, str]  # path, line, rule, text

WITHOUT: dict[str, set[str]] = {}  # still without one, by file


def check(sources: Mapping[str, str], without: Mapping[str, set[str]] = WITHOUT) -> list[Found]:
    """What has no docstring among all modules of a package, by their paths within it, and entries that have no use."""
    trees = {path: ast.parse(source) for path, source in sources.items()}
    bases = {n.name: n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
    found: list[Found] = []
    for path, tree in trees.items():
        bare = dict(_missing(tree, "", bases)) if is_public(path) else {}
        known = without.get(path, set())
        found += [(path, line, "docstring", f"{n} has none") for n, line in bare.items() if n not in known]
        found += [(path, 1, "docstring", f"{n} has one: take its entry out") for n in sorted(known - set(bare))]
    return found + [(path, 1, "docstring", "no such file: take its entry out") for path in set(without) - set(trees)]


def is_public(path: str) -> bool:
    """Whether nothing on the way to a module has a name with an underscore; `__init__` and `__main__` have none."""
    parts = path.replace("\\", "/").removesuffix(".py").split("/")
    return not any(part.startswith("_") and not part.endswith("__") for part in parts)


def _missing(owner: Owner, prefix: str, bases: Bases) -> Iterator[tuple[str, int]]:
    """Name, with those of the classes around it, and line."""
    for node in _definitions(owner.body):
        if node.name.startswith("_"):
            continue
        if not (ast.get_docstring(node) or _is_excused(node, owner, bases)):
            yield prefix + node.name, node.lineno
        if isinstance(node, ast.ClassDef):
            yield from _missing(node, f"{prefix}{node.name}.", bases)


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Those of a module or class, under conditions too, but not those within functions."""
    for node in body:
        if isinstance(node, Definition):
            yield node
        elif isinstance(node, (ast.If, ast.Try, ast.With)) and "TYPE_CHECKING" not in ast.unparse(node).split("\n")[0]:
            yield from _definitions([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])


def _is_excused(node: Definition, owner: Owner, bases: Bases) -> bool:
    for decorator in node.decorator_list:
        keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
        if ast.unparse(decorator).endswith((".setter", "overload")) or any(k.arg == "title" for k in keywords):
            return True
    if isinstance(owner, ast.Module) or isinstance(node, ast.ClassDef):
        return False
    return node.name.startswith("on_") or _overrides(node, owner, bases)


def _overrides(node: Function, owner: ast.ClassDef, bases: Bases) -> bool:
    """Whether a class above has a documented method, or field, of that name."""
    for base in owner.bases:
        above = bases.get(ast.unparse(base).partition("[")[0].rpartition(".")[2])
        if above is None or above is owner:
            continue
        same = [other for other in _definitions(above.body) if other.name == node.name]
        if any(map(ast.get_docstring, same)) or node.name in _fields(above) or _overrides(node, above, bases):
            return True
    return False


def _fields(node: ast.ClassDef) -> set[str]:
    """The names that a class gives to values, which its docstring is about."""
    plain = [target for s in node.body if isinstance(s, ast.Assign) for target in s.targets]
    annotated = [s.target for s in node.body if isinstance(s, ast.AnnAssign)]
    return {target.id for target in [*plain, *annotated] if isinstance(target, ast.Name)}
