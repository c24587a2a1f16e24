"""Optimizers. The update rule of each is one elementwise formula of the parameters, the gradient and the state.

What depends on the step alone (the learning rate, bias corrections) is computed on the host in double precision and
enters the formula as a scalar.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from array_api_compat import array_namespace

from xmlp.backends.context import Context, plain
from xmlp.errors import unknown
from xmlp.graph import Formula, elementwise
from xmlp.host.scalars import normalize
from xmlp.host.settings import count, flag, number
from xmlp.schedules import LearningRate, rate
from xmlp.types import Array, Namespace

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSProp"]

State = dict[str, Array]


class Part(NamedTuple):
    """The elements start to stop of theta, and the scalars of their update; none where they are not trained."""

    start: int
    stop: int
    scalars: Mapping[str, Any] | None


class Arrays(Protocol):
    """Where the arrays of all layers lie in theta."""

    @property
    def slots(self) -> Sequence[Any]:
        """Each with `layer`, `name`, `start` and `stop`, in the order of theta; `spec.shape`."""


@dataclass(frozen=True)
class Optimizer(ABC):
    """An update rule: a formula (theta, grad, *state) -> (theta, *state) and the scalars that it takes.

    To write one: a frozen dataclass with the hyper-parameters as fields, `slots` naming the vectors of state, `rule`
    and `scalars`; and `advance`, if it does more than to apply its rule to each element. Fields are checked by their
    annotation: a `bool` is True or False, an `int` a whole number >= 0, a `float` a finite number; those called lr,
    eps, weight_decay, momentum, rho, or beta with a number have the ranges of the optimizers here. What is annotated
    otherwise is the optimizer's own affair.

    Attributes
    ----------
    slots : tuple of str
        The names of the vectors of state.
    decays : bool
        Whether `scalars` depends on `decay`, be it only after some steps. One that says False may save a pass, since
        biases and weights then share their scalars.
    """

    lr: LearningRate
    slots: ClassVar[tuple[str, ...]] = ()
    decays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)

    @property
    @abstractmethod
    def rule(self) -> Formula:
        """The formula of one update."""

    @abstractmethod
    def scalars(self, lr: float, step: int, decay: bool = True) -> dict[str, float]:
        """Values of the formula's scalars for update number `step`, counted from 1.

        `decay` says whether the parameters are among those that weight decay acts on.
        """

    def init(self, theta: Array) -> State:
        """The state before the first update: zeros."""
        xp = array_namespace(theta)
        return {name: xp.zeros_like(theta) for name in self.slots}

    def update(self, theta: Array, grad: Array, state: State, lr: float, step: int) -> tuple[Array, State]:
        """One update of all parameters.

        Parameters
        ----------
        theta, grad : array (P,)
        state : dict of arrays (P,)
        lr : float
        step : int
            Number of this update, counted from 1.

        Returns
        -------
        theta, state
            New arrays; nothing is written into the old ones.

        Examples
        --------
        >>> import numpy as np, xmlp
        >>> sgd = xmlp.optimizers.SGD(0.1)
        >>> theta, state = sgd.update(np.asarray([1.0]), np.asarray([2.0]), {}, 0.1, 1)
        >>> theta.tolist()
        [0.8]
        """
        return self._applied(plain(array_namespace(theta)), theta, grad, state, self.scalars(lr, step))

    def advance(
        self, ctx: Context, theta: Array, grad: Array, state: State, parts: Sequence[Part], layout: Arrays
    ) -> tuple[Array, State]:
        """The update within a training step: a pure function, planned with the step. Here: the rule, part by part.

        Parameters
        ----------
        ctx : Context
            `ctx.xp` has the functions of arrays, `ctx.apply(formula, *arrays, **scalars)` runs a formula.
        theta, grad : array (P,)
        state : dict of arrays (P,)
        parts : sequence of Part
            Slices of theta, in order and without gaps; `scalars_at(parts, i)` are the scalars of element i.
        layout : Arrays
            Where the arrays of the layers lie, for what treats each array as a whole.
        """
        if len(parts) == 1 and parts[0].scalars is not None:
            return self._applied(ctx, theta, grad, state, parts[0].scalars)
        pieces: list[tuple[Array, State]] = []
        for start, stop, scalars in parts:
            piece, kept = theta[start:stop], {name: slot[start:stop] for name, slot in state.items()}
            if scalars is not None:
                piece, kept = self._applied(ctx, piece, grad[start:stop], kept, scalars)
            pieces.append((piece, kept))
        if not pieces:
            return theta, state
        concat = ctx.xp.concat
        return concat([p[0] for p in pieces]), {name: concat([p[1][name] for p in pieces]) for name in state}

    def _applied(
        self, ctx: Context, theta: Array, grad: Array, state: State, scalars: Mapping[str, Any]
    ) -> tuple[Array, State]:
        results = ctx.apply(self.rule, theta, grad, *(state[name] for name in self.slots), **scalars)
        if not self.slots:
            return results, {}
        return results[0], dict(zip(self.slots, results[1:], strict=True))


def scalars_at(parts: Sequence[Part], element: int) -> Mapping[str, Any] | None:
    """The scalars of the part that an element of theta lies in.

    >>> scalars_at([Part(0, 4, {"lr": 0.1}), Part(4, 6, {"lr": 0.2})], 4)
    {'lr': 0.2}
    """
    return next(part.scalars for part in parts if part.start <= element < part.stop)


_RANGES: dict[str, dict[str, Any]] = {
    "lr": {"above": True}, "eps": {}, "weight_decay": {}, "momentum": {"high": 1.0}, "rho": {"high": 1.0},
    "beta": {"high": 1.0},
}  # fmt: skip


def check(optimizer: Optimizer) -> None:
    """Refuse hyper-parameters that make no sense; numbers of other libraries become Python's."""
    normalize(optimizer)
    for field in fields(optimizer):
        value = getattr(optimizer, field.name)
        if field.name == "lr" and callable(value):
            continue
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        checked = _checked(value, f"{type(optimizer).__name__}({field.name})", field.name, kind)
        if checked is not value:
            object.__setattr__(optimizer, field.name, checked)


def _checked(value: Any, what: str, name: str, kind: str) -> Any:
    """The value of a field; `kind` is the name of the type that it is annotated with."""
    wanted = _RANGES.get("beta" if name.removeprefix("beta").isdigit() else name)
    if wanted is not None or kind == "float":
        return number(value, what, **({"low": -math.inf} if wanted is None else wanted))
    if kind == "bool":
        return flag(value, what)
    return count(value, what, least=0) if kind == "int" else value


def flushed(xp: Namespace, moment: Array, least: Any = 1e-30) -> Array:
    """`moment` with what is smaller than `least` set to 0.

    The running mean of a gradient that has become zero decays into subnormal numbers, which processors handle slowly.
    """
    return xp.where(xp.abs(moment) < least, 0.0, moment)


def flushed_square(xp: Namespace, moment: Array, eps: Any) -> Array:
    """The same for the running mean of a square, which is not negative: what is left out is nothing beside eps."""
    return xp.where(moment < (1e-10 * eps) ** 2, 0.0, moment)


def guarded(xp: Namespace, step: Array, root: Array) -> Array:
    """Step / root, 0 where a gradient that is 0, or too small to be squared, leaves 0 below; for rules without eps."""
    return xp.where(root > 0, step / root, 0.0)


@elementwise
def sgd(xp, theta, grad, *, lr):  # type: ignore[no-untyped-def]
    """theta - lr grad."""
    return theta - lr * grad


@elementwise
def sgd_momentum(xp, theta, grad, v, *, lr, momentum):  # type: ignore[no-untyped-def]
    """V' = momentum v + grad; theta - lr v'."""
    v = flushed(xp, momentum * v + grad)
    return theta - lr * v, v


@elementwise
def sgd_nesterov(xp, theta, grad, v, *, lr, momentum):  # type: ignore[no-untyped-def]
    """V' = momentum v + grad; theta - lr (grad + momentum v')."""
    v = flushed(xp, momentum * v + grad)
    return theta - lr * (grad + momentum * v), v


@dataclass(frozen=True)
class SGD(Optimizer):
    """theta <- theta - lr v with v <- momentum v + grad (Sutskever et al., 2013).

    With momentum 0 v is the gradient and nothing is kept; `nesterov` looks ahead:
    theta <- theta - lr (grad + momentum v).
    """

    lr: LearningRate
    momentum: float = 0.0
    nesterov: bool = False
    decays: ClassVar[bool] = False

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD(nesterov=True) needs a momentum > 0")

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v",) if self.momentum else ()

    @property
    def rule(self) -> Formula:
        return sgd_nesterov if self.nesterov else sgd_momentum if self.momentum else sgd

    def scalars(self, lr: float, step: int, decay: bool = True) -> dict[str, float]:
        return {"lr": lr, "momentum": self.momentum} if self.momentum else {"lr": lr}


@elementwise
def adagrad(xp, theta, grad, v, *, lr, eps):  # type: ignore[no-untyped-def]
    """V' = v + grad^2; theta - lr grad / (sqrt(v') + eps)."""
    v = v + grad**2
    return theta - lr * grad / (xp.sqrt(v) + eps), v


@elementwise
def adagrad_without_eps(xp, theta, grad, v, *, lr, eps):  # type: ignore[no-untyped-def]
    """The same with eps = 0."""
    v = v + grad**2
    return theta - guarded(xp, lr * grad, xp.sqrt(v)), v


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """theta <- theta - lr grad / (sqrt(v) + eps) with v <- v + grad^2 (Duchi et al., 2011)."""

    lr: LearningRate = 0.01
    eps: float = 1e-10
    slots: ClassVar[tuple[str, ...]] = ("v",)
    decays: ClassVar[bool] = False

    @property
    def rule(self) -> Formula:
        return adagrad if self.eps else adagrad_without_eps

    def scalars(self, lr: float, step: int, decay: bool = True) -> dict[str, float]:
        return {"lr": lr, "eps": self.eps}


@elementwise
def rmsprop(xp, theta, grad, v, *, lr, rho, one_minus_rho, eps):  # type: ignore[no-untyped-def]
    """V' = rho v + (1 - rho) grad^2; theta - lr grad / (sqrt(v') + eps)."""
    v = flushed_square(xp, rho * v + (one_minus_rho**0.5 * grad) ** 2, eps)
    return theta - lr * grad / (xp.sqrt(v) + eps), v


@elementwise
def rmsprop_without_eps(xp, theta, grad, v, *, lr, rho, one_minus_rho, eps):  # type: ignore[no-untyped-def]
    """The same with eps = 0, where nothing is too small to count."""
    v = rho * v + (one_minus_rho**0.5 * grad) ** 2
    return theta - guarded(xp, lr * grad, xp.sqrt(v)), v


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """theta <- theta - lr grad / (sqrt(v) + eps) with v <- rho v + (1 - rho) grad^2 (Tieleman & Hinton, 2012)."""

    lr: LearningRate = 1e-2
    rho: float = 0.99
    eps: float = 1e-8
    slots: ClassVar[tuple[str, ...]] = ("v",)
    decays: ClassVar[bool] = False

    @property
    def rule(self) -> Formula:
        return rmsprop if self.eps else rmsprop_without_eps

    def scalars(self, lr: float, step: int, decay: bool = True) -> dict[str, float]:
        return {"lr": lr, "rho": self.rho, "one_minus_rho": 1.0 - self.rho, "eps": self.eps}


def moments(xp: Namespace, grad: Array, m: Array, v: Array, beta1: Any, rest1: Any, beta2: Any, rest2: Any) -> Any:
    """The running means of the gradient and its square; scaled before it is squared, the square overflows later."""
    return beta1 * m + rest1 * grad, beta2 * v + (rest2**0.5 * grad) ** 2


@elementwise
def adam(xp, theta, grad, m, v, *, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, eps):  # type: ignore[no-untyped-def]
    """Moments m, v and the update; `lr` and `eps` hold the bias corrections (Kingma & Ba, 2015, end of section 2)."""
    m, v = moments(xp, grad, m, v, beta1, one_minus_beta1, beta2, one_minus_beta2)
    m, v = flushed(xp, m, 1e-22 * eps), flushed_square(xp, v, eps)
    return theta - lr * m / (xp.sqrt(v) + eps), m, v


@elementwise
def adam_without_eps(xp, theta, grad, m, v, *, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, eps):  # type: ignore[no-untyped-def]
    """The same with eps = 0, where nothing is too small to count."""
    m, v = moments(xp, grad, m, v, beta1, one_minus_beta1, beta2, one_minus_beta2)
    return theta - guarded(xp, lr * m, xp.sqrt(v)), m, v


@elementwise
def adamw(xp, theta, grad, m, v, *, keep, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, eps):  # type: ignore[no-untyped-def]
    """Adam from keep theta; `keep` is 1 - lr weight_decay."""
    betas = {"beta1": beta1, "one_minus_beta1": one_minus_beta1, "beta2": beta2, "one_minus_beta2": one_minus_beta2}
    return adam(keep * theta, grad, m, v, lr=lr, eps=eps, **betas)


@elementwise
def adamw_without_eps(xp, theta, grad, m, v, *, keep, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, eps):  # type: ignore[no-untyped-def]
    """The same with eps = 0."""
    betas = {"beta1": beta1, "one_minus_beta1": one_minus_beta1, "beta2": beta2, "one_minus_beta2": one_minus_beta2}
    return adam_without_eps(keep * theta, grad, m, v, lr=lr, eps=eps, **betas)


@dataclass(frozen=True)
class Adam(Optimizer):
    """theta <- theta - lr m_hat / (sqrt(v_hat) + eps) (Kingma & Ba, 2015, algorithm 1).

    m and v are running means of the gradient and its square, m_hat = m / (1 - beta1^t) and v_hat = v / (1 - beta2^t).
    """

    lr: LearningRate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    slots: ClassVar[tuple[str, ...]] = ("m", "v")
    decays: ClassVar[bool] = False

    @property
    def rule(self) -> Formula:
        return adam if self.eps else adam_without_eps

    def scalars(self, lr: float, step: int, decay: bool = True) -> dict[str, float]:
        root = (1.0 - self.beta2**step) ** 0.5
        return {
            "lr": lr / (1.0 - self.beta1**step) * root,
            "beta1": self.beta1,
            "one_minus_beta1": 1.0 - self.beta1,
            "beta2": self.beta2,
            "one_minus_beta2": 1.0 - self.beta2,
            "eps": self.eps * root,
        }


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled decay: theta <- (1 - lr weight_decay) theta before the step (Loshchilov & Hutter, 2019).

    Biases and normalisations do not decay.
    """

    lr: LearningRate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    @property
    def decays(self) -> bool:  # type: ignore[override]
        return self.weight_decay > 0

    @property
    def rule(self) -> Formula:
        return adamw if self.eps else adamw_without_eps

    def scalars(self, lr: float, step: int, decay: bool = True) -> dict[str, float]:
        keep = 1.0 - lr * self.weight_decay if decay else 1.0
        return {"keep": keep, **Adam(self.lr, self.beta1, self.beta2, self.eps).scalars(lr, step)}


OptimizerName = Literal["sgd", "adagrad", "rmsprop", "adam", "adamw"]
OPTIMIZERS: dict[OptimizerName, type[Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
}


OptimizerLike: TypeAlias = OptimizerName | Optimizer


def get(optimizer: OptimizerLike) -> Optimizer:
    """The optimizer of that name with its default rate (SGD: 0.01); an optimizer is itself."""
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(unknown("optimizer", optimizer, OPTIMIZERS))
        return SGD(0.01) if optimizer == "sgd" else OPTIMIZERS[optimizer]()  # type: ignore[call-arg]
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise TypeError(
            f"the optimizer is the class {optimizer.__name__}, not an instance: write {optimizer.__name__}(...)"
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"an optimizer is a name or an Optimizer, got {optimizer!r}")
    check(optimizer)  # one of the caller's own may not have done so
    rate(optimizer.lr, 0)
    return optimizer
