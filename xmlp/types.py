"""Types that all rooms share: arrays, the data that people pass, and the names that they pass as strings.

A program that hands such names on annotates them so, as in ``def train(dtype: xmlp.types.Dtype) -> None``; what comes
from a file or a command line is a `str`, and needs a `typing.cast`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsFloat, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    HostArray: TypeAlias = np.ndarray[Any, Any]

    class AnyArray(HostArray):
        """An array of any library: to a checker like NumPy's, with whatever its own library adds."""

        def __getattr__(self, name: str, /) -> Any: ...

    # Of any library that speaks the Array API standard. What is given as one is not looked at, since the libraries have
    # no type in common; what is returned is an array and no string, number or list.
    Array: TypeAlias = AnyArray | Any
else:
    HostArray = Array = Any  # array libraries are imported where they are needed

# --- names ------------------------------------------------------------------------------------------------------------

Average = Literal["auto", "macro", "micro", "weighted"]
BackendName = Literal["numpy", "cupy", "torch", "jax", "array-api-strict", "auto"]
DatasetName = Literal["digits", "fashion-mnist", "mnist"]
Direction = Literal["auto", "min", "max"]
Dtype = Literal["float32", "float64"]
LinkName = Literal["identity", "sigmoid", "softmax", "event_probability", "class_probability"]
NormalizationName = Literal["batch", "layer"]
OnNonfinite = Literal["skip", "raise"]
Outcome = Literal["number", "event", "class"]
PlacedBackendName = Literal[  # with a device; others are given apart, xmlp.backend(name, device=...)
    "cupy:0", "cupy:1", "cupy:2", "cupy:3", "cupy:4", "cupy:5", "cupy:6", "cupy:7",
    "torch:cpu", "torch:mps", "torch:cuda", "torch:cuda:0", "torch:cuda:1", "torch:cuda:2", "torch:cuda:3",
    "torch:cuda:4", "torch:cuda:5", "torch:cuda:6", "torch:cuda:7", "jax:cpu", "jax:gpu", "jax:tpu",
]  # fmt: skip
Reduction = Literal["mean", "sum", "none"]
ScheduleName = Literal["cosine", "one_cycle"]
ThresholdMetricName = Literal["accuracy", "balanced_accuracy", "f1", "precision", "recall"]

# --- data -------------------------------------------------------------------------------------------------------------

Namespace: TypeAlias = Any  # of a library: a module, whose functions no two libraries annotate alike


class Shaped(Protocol):
    """What has a shape: an array of any library, a data frame, a sparse matrix."""

    @property
    def shape(self) -> Any:
        """Its axes."""


Data: TypeAlias = Shaped | Sequence[SupportsFloat] | Sequence[Sequence[SupportsFloat]]
Labels: TypeAlias = Shaped | Sequence[object]  # lists of whatever tells classes apart
Batches: TypeAlias = Iterable[Sequence[Data | None]]  # (x, y) or (x, y, sample_weight)
ClassWeight: TypeAlias = Mapping[Any, float] | Literal["balanced"]
ClassWeights: TypeAlias = ClassWeight | Sequence[ClassWeight | None]

# --- objects and functions of people's own ----------------------------------------------------------------------------


class Applicable(Protocol):
    """A formula, or whatever else has a value on the arrays of a namespace, as the softmax."""

    def evaluate(self, xp: Namespace, /, *arrays: Any, **scalars: Any) -> Any:
        """The value for these arrays."""


class Differentiable(Protocol):
    """An object with a value and a derivative: of z an activation, of (predictions, targets) a loss."""

    @property
    def fn(self) -> Callable[..., Array]:
        """The value."""

    @property
    def deriv(self) -> Callable[..., Array]:
        """The derivative with respect to the first argument."""


class OnFitBegin(Protocol):
    """A callback that is told of the begin of a fit."""

    def on_fit_begin(self, trainer: Any, /) -> object:
        """Before the first epoch."""


class OnEpochBegin(Protocol):
    """A callback that is told of the begin of an epoch."""

    def on_epoch_begin(self, trainer: Any, /) -> object:
        """Before the first step."""


class OnStepEnd(Protocol):
    """A callback that is told of every step."""

    def on_step_end(self, trainer: Any, /) -> object:
        """After a step."""


class OnProgress(Protocol):
    """A callback that is told of progress within an epoch."""

    def on_progress(self, trainer: Any, /) -> object:
        """After some steps."""


class OnEpochEnd(Protocol):
    """A callback that is told of the end of an epoch."""

    def on_epoch_end(self, trainer: Any, /) -> object:
        """After the last step, with the epoch's row in the history."""


class OnFitEnd(Protocol):
    """A callback that is told of the end of a fit."""

    def on_fit_end(self, trainer: Any, /) -> object:
        """However it ends."""


Callback: TypeAlias = OnFitBegin | OnEpochBegin | OnStepEnd | OnProgress | OnEpochEnd | OnFitEnd
