"""Names of types that all rooms share."""

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    HostArray: TypeAlias = np.ndarray[Any, Any]
else:
    HostArray = Any  # array libraries are imported where they are needed

Array: TypeAlias = Any  # of any library that speaks the Array API standard
Namespace: TypeAlias = Any  # of such a library
Dtype = Literal["float32", "float64"]
Reduction = Literal["mean", "sum", "none"]


class Applicable(Protocol):
    """A formula, or whatever else has a value on the arrays of a namespace, as the softmax."""

    def evaluate(self, xp: Namespace, /, *arrays: Array, **scalars: Any) -> Any:
        """The value for these arrays."""
