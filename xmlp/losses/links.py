"""Links: what turns the raw outputs of a network into predictions, and what kind of thing is predicted."""

import math
from dataclasses import dataclass
from typing import get_args

from xmlp.activations import identity, sigmoid, softmax
from xmlp.errors import unknown
from xmlp.host.settings import number
from xmlp.types import Applicable, LinkName, Outcome

OUTCOMES = get_args(Outcome)


@dataclass(frozen=True, eq=False)
class Link:
    """predictions = function(raw outputs), the inverse of the link function of a generalized linear model (McCullagh
    and Nelder, 1989, section 2.2).

    Parameters
    ----------
    name : str
        What `network.link` shows and files hold.
    function : Formula
        Elementwise, or the softmax.
    outcome : {"number", "event", "class"}
        What is predicted: a number; for each output the probability of an event of its own, which a threshold decides;
        the probabilities of classes, of which the largest decides.
    loss : str, optional
        The name of the loss that a network with this link is trained with unless another is given.
    threshold : float
        Events whose prediction is larger are decided to be.

    Examples
    --------
    >>> import xmlp
    >>> exp = xmlp.losses.Link("exp", xmlp.elementwise(lambda xp, z: xp.exp(z)))
    >>> exp.probabilities, xmlp.losses.link("sigmoid").outcome
    (False, 'event')
    """

    name: str
    function: Applicable
    outcome: Outcome = "number"
    loss: str | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"the name of a link is a string, got {self.name!r}")
        if self.outcome not in OUTCOMES:
            raise ValueError(unknown("outcome", self.outcome, OUTCOMES))
        object.__setattr__(self, "threshold", number(self.threshold, "threshold", low=-math.inf))
        if not hasattr(self.function, "evaluate"):
            raise TypeError(f"the function of a link is a formula (xmlp.elementwise), got {self.function!r}")

    @property
    def probabilities(self) -> bool:
        """Whether its predictions are probabilities."""
        return self.outcome != "number"

    @property
    def is_identity(self) -> bool:
        """Whether raw outputs are the numbers that are predicted."""
        return not self.probabilities and self.function is identity

    @property
    def of_logits(self) -> bool:
        """Whether raw outputs become probabilities by it, so that they have a temperature."""
        return self.probabilities and self.function is not identity


IDENTITY = Link("identity", identity, loss="squared_error")
SIGMOID = Link("sigmoid", sigmoid, "event", "binary_cross_entropy")
SOFTMAX = Link("softmax", softmax, "class", "softmax_cross_entropy")
# of losses at probabilities, for networks whose outputs are so already
EVENT = Link("event_probability", identity, "event", "binary_cross_entropy")
CLASS = Link("class_probability", identity, "class", "softmax_cross_entropy")
LINKS = {link.name: link for link in (IDENTITY, SIGMOID, SOFTMAX, EVENT, CLASS)}


def link(value: LinkName | Link) -> Link:
    """The link of that name; a link is itself."""
    if isinstance(value, Link):
        return value
    if value not in LINKS:
        raise ValueError(unknown("link", value, LINKS))
    return LINKS[value]
