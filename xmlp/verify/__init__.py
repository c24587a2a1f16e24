"""Executable proof: one check for each requirement on the mathematics, run on any backend by `xmlp verify`.

The requirements are those of four documents: 000, from scalars to vectors; 001, a small network class; 002, the
numbered equations for a batch; 003, a chapter with Jacobians. Where it makes sense a check is done in three forms, each
written apart from the others: scalar loops in plain Python (`scalar`), one example as vectors and explicit Jacobians
(`columns`), and a batch of rows, which is the library itself (`library`). All three are compared with difference
quotients in decimals of 40 digits. Where a document misprints an equation, the check also refutes the printed form.
"""

from xmlp.verify.core import CHECKS, Check, Result, Trial, check, table, verify
from xmlp.verify.figures import curves, plot_activations

# isort: split
from xmlp.verify import backward, choices, forward, functions, jacobians, parts, small_network, training, vectors  # noqa: F401

__all__ = ["CHECKS", "Check", "Result", "Trial", "check", "curves", "plot_activations", "table", "verify"]
