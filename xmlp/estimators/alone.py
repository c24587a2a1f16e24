"""One fit at a time: what two threads write into one estimator would be of neither."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from xmlp.host.once import Lock

Method = TypeVar("Method", bound=Callable[..., Any])

_under_way: set[int] = set()  # ids of the estimators that are being fitted
_looking = Lock()


def alone(method: Method) -> Method:
    """A method that fits; `RuntimeError` where a fit of the same estimator is under way."""

    @wraps(method)
    def fit(estimator: Any, *arguments: Any, **keywords: Any) -> Any:
        with _looking:
            if id(estimator) in _under_way:
                raise RuntimeError(
                    f"this {type(estimator).__name__} is in a fit already, in another thread or in the calling "
                    "callback: wait for it to end, or fit a clone, sklearn.base.clone(estimator)"
                )
            _under_way.add(id(estimator))
        try:
            return method(estimator, *arguments, **keywords)
        finally:
            _under_way.discard(id(estimator))

    return fit  # type: ignore[return-value]
