"""What the library's callbacks have in common."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmlp.model.trainer import Trainer


class Callback(ABC):
    """A callback of the library; one's own may be any object with some of the methods."""

    @abstractmethod
    def on_fit_begin(self, trainer: "Trainer") -> None:
        """Before the first epoch of a `fit`."""
