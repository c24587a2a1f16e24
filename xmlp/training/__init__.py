"""Training: the step, the trainer that repeats it, and what it remembers."""

from xmlp.training.history import History
from xmlp.training.streaming import Stream
from xmlp.training.trainer import Trainer

__all__ = ["History", "Stream", "Trainer"]
