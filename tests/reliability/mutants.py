"""Row G7: whether the tests of gradients notice mistakes in the backward passes, made one by one by a machine."""

import ast
import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import xmlp
from reliability.core import ROOT, row

PACKAGE = Path(xmlp.__file__).parent
TARGETS = {  # the functions and tables that make gradients
    "layers/dense.py": ("backward",),
    "layers/normalization.py": ("backward", "_normalized_gradient"),
    "layers/residual.py": ("backward",),
    "losses/base.py": ("reduced", "_weighted"),
    "losses/cross_entropy.py": ("terms_and_gradient",),
    "activations.py": ("SoftmaxPullback",),
    "network/chain.py": ("pass_backward",),
    "graph/derivative.py": ("PARTIALS", "_chain"),
}
TESTS = ("tests/test_gradients.py", "tests/test_formulas.py", "tests/test_numerics.py")
CHOSEN = "complex_step or central or subgradient or (formulas and not keep and not everywhere) or numerics"
SWAPS: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
TURNED: dict[type, type] = {ast.Gt: ast.Lt, ast.Lt: ast.Gt}


def variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The mistakes that can be made at a node, each as what stands there instead."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        other = SWAPS[type(node.op)]()
        yield "another operator", ast.BinOp(node.left, other, node.right)
        yield "the right operand dropped", node.left
        if isinstance(node.op, (ast.Add, ast.Mult)):
            yield "the left operand dropped", node.right
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        yield "the power dropped", node.left
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and ast.unparse(node) != "-1":  # often an axis
        yield "the sign dropped", node.operand
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("matrix_transpose"):
        yield "the transpose dropped", node.args[0]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("xp.where"):
        yield "the cases swapped", ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], node.keywords)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
        yield "the comparison turned", ast.Compare(node.left, [TURNED[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.Constant) and type(node.value) is float and node.value:
        yield "twice the number", ast.Constant(2 * node.value)


class Change(ast.NodeTransformer):
    """Puts something in the place of the node number `at`."""

    def __init__(self, at: int, new: ast.AST):
        self._left, self._new = at, new

    def visit(self, node: ast.AST) -> ast.AST:
        self._left -= 1
        return copy.deepcopy(self._new) if self._left == -1 else self.generic_visit(node)


def numbered(root: ast.AST) -> list[ast.AST]:
    """The nodes in the order in which `Change` meets them."""
    seen: list[ast.AST] = []

    class Count(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            seen.append(node)
            return self.generic_visit(node)

    Count().visit(copy.deepcopy(root))
    return seen


def is_target(node: ast.AST, names: tuple[str, ...]) -> bool:
    """Whether a statement is one of the functions, classes and tables."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return node.name in names
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in names


def mutants() -> list[tuple[str, str, str]]:
    """Every mutant: file, what was done where, and the source."""
    found = []
    for file, names in TARGETS.items():
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        inside = {id(n) for top in ast.walk(tree) if is_target(top, names) for n in ast.walk(top)}
        flags = [id(n) in inside for n in _in_order(tree)]
        for at, node in enumerate(numbered(tree)):
            if flags[at]:
                for what, new in variants(node):
                    changed = ast.fix_missing_locations(Change(at, new).visit(copy.deepcopy(tree)))
                    text = f"{file}:{node.lineno}: {what} in {ast.unparse(node)}"  # type: ignore[attr-defined]
                    found.append((file, text, ast.unparse(changed)))
    return found


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """Depth first, as a `NodeTransformer` goes."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def killed(folder: Path) -> bool:
    """Whether the tests fail with the package in this folder."""
    tests = [str(ROOT / name) for name in TESTS]
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        CHOSEN,
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(ROOT),
    ]
    checked = f"import xmlp; assert xmlp.__file__.startswith({str(folder)!r}), xmlp.__file__"
    code = f"{checked}; import pytest, sys; sys.exit(pytest.main({options + tests!r}))"
    place = {**os.environ, "PYTHONPATH": str(folder), "XMLP_TEST_BACKENDS": "numpy"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=place, capture_output=True, text=True, timeout=300
    )
    assert done.returncode in (0, 1, 2), done.stdout[-2000:] + done.stderr[-2000:]
    return done.returncode != 0


@row("G7", "mistakes made by a machine in the backward passes are noticed by the tests of gradients", ">= 95 %",
     short=4, long=1000)  # fmt: skip
def machine_made_mistakes(size: int, folder: Path) -> str:
    shutil.copytree(PACKAGE, folder / "xmlp", ignore=shutil.ignore_patterns("__pycache__"))
    everything = mutants()
    chosen = [everything[i] for i in np.linspace(0, len(everything) - 1, min(size, len(everything)), dtype=int)]
    if size > 100:
        assert not killed(folder), "the tests fail without a mistake"
    survivors = []
    for file, text, source in chosen:
        path = folder / "xmlp" / file
        right = path.read_text(encoding="utf-8")
        path.write_text(source, encoding="utf-8")
        if not killed(folder):
            survivors.append(text)
        path.write_text(right, encoding="utf-8")
    share = 1 - len(survivors) / len(chosen)
    assert share >= 0.95, survivors
    rest = f"; not: {'; '.join(survivors)}" if survivors else ""
    return f"{len(chosen) - len(survivors)} of {len(chosen)} ({share:.0%}){rest}"
