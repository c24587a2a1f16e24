"""scikit-learn's callback protocol where the installed version has it, and nothing where it has not."""

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])

try:
    import sklearn.callback as theirs
except ImportError:  # before 1.9
    theirs = None


class NoSupport:
    """In the place of scikit-learn's base class."""


CallbackSupport: Any = NoSupport if theirs is None else theirs.CallbackSupportMixin


def with_callbacks(method: Method) -> Method:
    """Let callbacks clean up when the method ends, in whatever way."""
    return method if theirs is None else theirs.with_callbacks(method)


class FitTasks:
    """Tells scikit-learn's callbacks of each epoch, and stops when one of them asks for it."""

    def __init__(self, estimator: Any, epochs: int, data: dict[str, Any], fitted: Callable[[], dict[str, Any]]):
        self._estimator, self._data, self._fitted = estimator, data, fitted
        self._fit = estimator._init_callback_context(max_subtasks=epochs)  # lint: allow private - of scikit-learn
        self._epoch: Any = None

    def on_fit_begin(self, trainer: Any) -> None:
        self._fit.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def on_epoch_begin(self, trainer: Any) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(estimator=self._estimator, **self._data)

    def on_epoch_end(self, trainer: Any) -> None:
        if self._epoch.call_on_fit_task_end(
            estimator=self._estimator, **self._data, reconstruction_attributes=self._fitted
        ):
            trainer.stop()

    def on_fit_end(self, trainer: Any) -> None:
        self._fit.call_on_fit_task_end(estimator=self._estimator, **self._data, reconstruction_attributes=self._fitted)


def fit_tasks(estimator: Any, epochs: int, data: dict[str, Any], fitted: Callable[[], dict[str, Any]]) -> list[Any]:
    """The callback that hands over to those of scikit-learn, if any are set."""
    return [FitTasks(estimator, epochs, data, fitted)] if getattr(estimator, "_skl_callbacks", None) else []
