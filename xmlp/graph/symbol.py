"""What stands for an array while a function is traced: a value whose operators extend a graph."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any


def _binary(op: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return (lambda a, b: a.operate(op, a, b)), (lambda a, b: a.operate(op, b, a))


class Symbol(ABC):
    """The operators of the standard, by the names of its functions."""

    __slots__ = ()

    @abstractmethod
    def operate(self, op: str, *args: Any) -> Any:
        """The symbol of `op` applied to symbols and Python numbers."""

    __add__, __radd__ = _binary("add")
    __sub__, __rsub__ = _binary("subtract")
    __mul__, __rmul__ = _binary("multiply")
    __truediv__, __rtruediv__ = _binary("divide")
    __pow__, __rpow__ = _binary("pow")
    __and__, __rand__ = _binary("bitwise_and")
    __or__, __ror__ = _binary("bitwise_or")
    __xor__, __rxor__ = _binary("bitwise_xor")
    __lshift__, __rlshift__ = _binary("bitwise_left_shift")
    __rshift__, __rrshift__ = _binary("bitwise_right_shift")
    __lt__, __gt__ = _binary("less")[0], _binary("greater")[0]
    __le__, __ge__ = _binary("less_equal")[0], _binary("greater_equal")[0]
    __eq__, __ne__ = _binary("equal")[0], _binary("not_equal")[0]

    def __neg__(self) -> Any:
        return self.operate("negative", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.operate("abs", self)

    def __invert__(self) -> Any:
        return self.operate("bitwise_invert", self)
