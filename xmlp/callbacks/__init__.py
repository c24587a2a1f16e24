"""Callbacks: what happens while a network trains, besides training.

A callback is any object with some of these methods, each called with the trainer:

- `on_fit_begin`, `on_fit_end`: around a `fit`, the second however it ends;
- `on_epoch_begin`, `on_epoch_end`: around an epoch; at its end the epoch's row stands in `trainer.history`;
- `on_step_end`: after every single step;
- `on_progress`: now and then within an epoch, some fifty times a second at most: for what need not see every step,
  which then run in groups.

It may read the trainer (`history`, `steps`, `epoch`, `lr`, `network`), call `trainer.stop()`, change
`trainer.lr_scale` or assign `trainer.network.theta`. What it must remember when a run is cut and resumed, it returns
from `state()`, a dict of numbers, strings, None and arrays, and takes back in `restore(state)`; one whose state is an
empty dict has nothing to remember.

Examples
--------
>>> import numpy as np, xmlp
>>> class Print:
...     def on_epoch_end(self, trainer):
...         print(f"epoch {trainer.epoch}: {trainer.history['loss'][-1]:.1f}")
>>> x = np.linspace(-1, 1, 32)[:, None]
>>> history = xmlp.mlp([1, 8, 1]).fit(x, 3 * x, epochs=2, callbacks=[Print()])
epoch 1: 5.1
epoch 2: 5.0
"""

from xmlp.callbacks import checkpoint, limits, loggers, monitors
from xmlp.callbacks.base import Callback
from xmlp.callbacks.checkpoint import *  # noqa: F403 - each family names in its `__all__` what it offers
from xmlp.callbacks.limits import *  # noqa: F403
from xmlp.callbacks.loggers import *  # noqa: F403
from xmlp.callbacks.monitors import *  # noqa: F403

__all__ = ["Callback"]
__all__ += checkpoint.__all__
__all__ += limits.__all__
__all__ += loggers.__all__
__all__ += monitors.__all__
