"""Formulas as expression graphs: traced once, differentiated, simplified, run by any driver. Pure Python, no arrays."""

from xmlp.graph.formula import Formula, elementwise
from xmlp.graph.graph import Graph
from xmlp.graph.trace import TraceError

__all__ = ["Formula", "Graph", "TraceError", "elementwise"]
