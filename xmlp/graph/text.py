"""Readable text of graphs."""

from collections import Counter

from xmlp.graph.node import OPS, Node, walk

_PRECEDENCE = {
    "|": 1, "^": 2, "&": 3, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4,
    "<<": 5, ">>": 5, "+": 6, "-": 6, "*": 7, "/": 7, "**": 9,
}  # fmt: skip
_TIGHT = 10


def number(value: bool | int | float) -> str:
    """The shortest spelling: 1.0 reads 1."""
    return repr(int(value)) if isinstance(value, float) and value == int_or_nan(value) else repr(value)


def int_or_nan(value: float) -> float:
    """A number cut to a whole one; nan from 1e15 on."""
    return float(int(value)) if abs(value) < 1e15 else float("nan")


def expression(root: Node, names: dict[Node, str] | None = None) -> str:
    """One node as an expression; nodes in `names` are written by name."""
    return _write(root, names or {}, top=True)[0]


Node.written = expression


def _write(node: Node, names: dict[Node, str], top: bool = False) -> tuple[str, int]:
    """The text of `node` and how tightly it binds."""
    if node in names and not top:
        return names[node], _TIGHT
    if node.op == "const":
        text = number(node.value)
        return text, 8 if text.startswith("-") else _TIGHT
    if not node.args:
        return str(node.value), _TIGHT
    op = OPS[node.op]
    if op.symbol and op.arity == 2:
        binds = _PRECEDENCE[op.symbol]
        left, right = (_write(a, names) for a in node.args)
        loose_right = right[1] < binds or (right[1] == binds and op.symbol not in "+*")
        return (
            f"{_bracket(left[0], left[1] < binds)} {op.symbol} {_bracket(right[0], loose_right)}",
            binds,
        )
    if op.symbol:
        inner = _write(node.args[0], names)
        return f"{op.symbol}{_bracket(inner[0], inner[1] < 8)}", 8
    return f"{node.op}({', '.join(_write(a, names)[0] for a in node.args)})", _TIGHT


def _bracket(text: str, needed: bool) -> str:
    return f"({text})" if needed else text


def listing(title: str, outputs: tuple[Node, ...]) -> str:
    """A graph as a small function: one line for every value that is used more than once, then the result."""
    uses = Counter(a for node in walk(*outputs) for a in node.args)
    names: dict[Node, str] = {}
    lines = []
    for node in walk(*outputs):
        if node.args and uses[node] > 1:
            lines.append(f"    t{len(names)} = {expression(node, names)}")
            names[node] = f"t{len(names)}"
    results = ", ".join(names.get(o) or expression(o, names) for o in outputs)
    return "\n".join([f"{title}:", *lines, f"    return {results}"])
