"""Losses. The terms of one example are summed over its outputs, then averaged over the batch.

From a loss the training step takes three things: the sum of the weighted terms, the sum of the weights, and the
gradient of the first with respect to the predictions. The two sums travel separately, so that batches of any sizes add
up exactly.
"""

from typing import Literal, TypeAlias

from xmlp.errors import unknown
from xmlp.graph import Formula
from xmlp.host.once import once
from xmlp.host.scalars import normalize
from xmlp.losses import cross_entropy, elementwise
from xmlp.losses.base import Loss, UserLoss
from xmlp.losses.cross_entropy import *  # noqa: F403 - each family names in its `__all__` what it offers
from xmlp.losses.elementwise import *  # noqa: F403
from xmlp.losses.elementwise import ElementwiseLoss
from xmlp.losses.links import LINKS, Link, link
from xmlp.losses.targets import reals
from xmlp.types import Differentiable

__all__ = ["LINKS", "Link", "Loss", "LossLike", "LossName", "UserLoss", "link", "reals"]
__all__ += cross_entropy.__all__
__all__ += elementwise.__all__

LossName = Literal[elementwise.Names, cross_entropy.Names]
LOSSES: dict[str, type[Loss]] = {**elementwise.LOSSES, **cross_entropy.LOSSES}


@once
def _with_defaults(kind: type[Loss]) -> Loss:
    return kind()


LossLike: TypeAlias = LossName | Loss | Formula | Differentiable


def get(loss: LossLike) -> Loss:
    """The loss of that name; a loss is itself; a formula of (prediction, target) becomes one; `fn` and `deriv` too."""
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(unknown("loss", loss, LOSSES))
        return _with_defaults(LOSSES[loss])
    if isinstance(loss, Loss):
        if hasattr(loss, "__dataclass_fields__"):  # of the user's own, whose __post_init__ may not call the base's
            normalize(loss)
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"the loss is the class {loss.__name__}, not an instance: write {loss.__name__}()")
    if isinstance(loss, Formula):
        return ElementwiseLoss(loss)
    if hasattr(loss, "fn") and hasattr(loss, "deriv"):
        return UserLoss(loss)
    raise TypeError(
        f"a loss is a name, a Loss, a formula of (prediction, target), or an object with fn and deriv, got {loss!r}"
    )
