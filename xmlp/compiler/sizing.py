"""A plan for any number of rows, for one of them: numbers in the place of all that depends on it."""

from dataclasses import replace
from typing import Any

from xmlp.compiler.planner import Copy, Kernel, Operand, Place, Plan
from xmlp.compiler.rows import at
from xmlp.compiler.tensor import TensorNode


def for_rows(plan: Plan, rows: int) -> Plan:
    """The plan for so many rows, which it must serve, as if it had been made for them."""
    return _Sizing(plan, rows).plan()


class _Sizing:
    def __init__(self, plan: Plan, rows: int):
        self._plan, self._rows = plan, rows
        self._starts = plan.layout.starts(rows)
        self._nodes: dict[TensorNode, TensorNode] = {}

    def plan(self) -> Plan:
        calls = [self._call(call) for call in self._plan.calls]
        return replace(self._plan, calls=calls, work_bytes=self._starts[-1], rows=None, together=0)

    def _call(self, call: Any) -> Any:
        sized = call.sized(self._rows)
        if isinstance(call, Kernel):
            nodes = [self._node(n) for n in call.nodes]  # in the order of the calls: what they read was made before
            loads, stores = ({self._node(n): self._operand(o) for n, o in d.items()} for d in (call.loads, call.stores))
            return replace(sized, nodes=nodes, loads=loads, stores=stores)
        names = ("source", "target") if isinstance(call, Copy) else ("a", "b", "out")
        return replace(sized, **{name: self._place(getattr(call, name)) for name in names})

    def _node(self, node: TensorNode) -> TensorNode:
        if node not in self._nodes:
            args, shape = tuple(map(self._node, node.args)), tuple(at(n, self._rows) for n in node.shape)
            self._nodes[node] = TensorNode(node.op, args, node.attr, shape, node.dtype)
        return self._nodes[node]

    def _operand(self, operand: Operand) -> Operand:
        return Operand(self._node(operand.node), self._place(operand.place), operand.pattern)

    def _place(self, place: Place) -> Place:
        if place.buffer != "work":
            return place
        return Place("work", self._plan.layout.moved(place.offset, self._starts))
