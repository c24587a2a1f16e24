"""A plan for any number of rows, for one of them: numbers in the place of all that depends on it."""

from dataclasses import replace

from xmlp.compiler.calls import Place
from xmlp.compiler.planner import Plan
from xmlp.compiler.rows import at
from xmlp.compiler.tensor import TensorNode


def for_rows(plan: Plan, rows: int) -> Plan:
    """The plan for so many rows, which it must serve, as if it had been made for them."""
    starts = plan.layout.starts(rows)
    nodes: dict[TensorNode, TensorNode] = {}

    def node_at(node: TensorNode) -> TensorNode:
        if node not in nodes:
            args, shape = tuple(map(node_at, node.args)), tuple(at(n, rows) for n in node.shape)
            nodes[node] = TensorNode(node.op, args, node.attr, shape, node.dtype)
        return nodes[node]

    def place_at(place: Place) -> Place:
        work = place.buffer == "work"
        return Place("work", plan.layout.moved(place.offset, starts)) if work else place

    calls = [call.sized(rows).moved(place_at, node_at) for call in plan.calls]
    return replace(plan, calls=calls, work_bytes=starts[-1], rows=None, together=0)
