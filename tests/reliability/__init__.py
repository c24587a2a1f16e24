"""What is promised about reliability, as rows that can be run: each promise is one function with a size.

Tests run every row at its short size, `ci/nightly` at its long one. A row raises `AssertionError` where the promise is
broken, and else returns the figure that it saw.
"""

from reliability.core import ROWS, Row, row

__all__ = ["ROWS", "Row", "row"]
