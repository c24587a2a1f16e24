"""Tools for testing networks, layers and losses of one's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from xmlp.losses import LossLike
from xmlp.model.network import Network
from xmlp.types import Data, HostArray

__all__ = ["GradientReport", "check_gradients"]

Method: TypeAlias = Literal["central", "forward"]


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`.

    Attributes
    ----------
    max_error : float
        Largest difference between the two gradients, relative to the largest entry of the gradient.
    worst : str
        Where it is: layer, parameter and index.
    errors : dict
        The largest error of each parameter, by (layer, name).
    forward_passes : int
        Forward passes that the numerical gradient took: P + 1 one-sided, 2 P central.
    tolerance : float
    """

    max_error: float
    worst: str
    errors: dict[tuple[int, str], float]
    forward_passes: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether no error is above the tolerance."""
        return self.max_error <= self.tolerance

    def __str__(self) -> str:
        verdict = "agree" if self.passed else "DISAGREE"
        return (
            f"gradients {verdict}: largest relative error {self.max_error:.2e} (tolerance {self.tolerance:.0e}), "
            f"at {self.worst}; {self.forward_passes} forward passes"
        )


def check_gradients(
    network: Network,
    x: Data,
    y: Data,
    loss: LossLike,
    *,
    sample_weight: Data | None = None,
    method: Method = "central",
    eps: float | None = None,
    tolerance: float | None = None,
    check: bool = True,
) -> GradientReport:
    """Compare the gradient of a network with finite differences, parameter by parameter.

    One-sided (document 002, eq. 50): dL/dw_j = (L(w + eps e_j) - L(w)) / eps, P + 1 forward passes.
    Central: dL/dw_j = (L(w + eps e_j) - L(w - eps e_j)) / (2 eps), 2 P forward passes and far more exact.

    Parameters
    ----------
    network : Network
        Best in float64; a float32 network gets a step and a tolerance to match.
    x, y, loss, sample_weight
        As in `Network.value_and_grad`.
    method : {"central", "forward"}
    eps : float, optional
        Step; by default 1e-6 in float64 (1e-7 one-sided), 1e-2 in float32.
    tolerance : float, optional
        By default 1e-6 in float64 (1e-4 one-sided), 2e-2 in float32.
    check : bool
        Raise if the gradients disagree; otherwise only report.

    Returns
    -------
    GradientReport

    Raises
    ------
    AssertionError
        Naming the layer, the parameter and the element at fault, with both values.

    Examples
    --------
    >>> import numpy as np, xmlp
    >>> network = xmlp.mlp([3, 4, 2], activation="tanh", dtype="float64")
    >>> x, y = np.random.default_rng(0).normal(size=(5, 3)), np.asarray([0, 1, 1, 0, 1])
    >>> report = xmlp.testing.check_gradients(network, x, y, "softmax_cross_entropy")
    >>> report.passed, report.forward_passes == 2 * network.layout.size
    (True, True)
    """
    if method not in ("central", "forward"):
        raise ValueError(f'method must be "central" or "forward", got {method!r}')
    single = network.dtype == "float32"
    one_sided = method == "forward"
    eps = eps or (1e-2 if single else 1e-7 if one_sided else 1e-6)
    tolerance = tolerance or (2e-2 if single else 1e-4 if one_sided else 1e-6)
    backend = network.backend
    theta = backend.to_host(network.theta).astype(np.float64)
    passes = 0

    def value(at: Any) -> float:
        nonlocal passes
        passes += 1
        return float(backend.to_host(network.loss_value(x, y, loss, sample_weight=sample_weight, theta=at)))

    _, grads = network.value_and_grad(x, y, loss, sample_weight=sample_weight)
    analytic = backend.to_host(grads.flat).astype(np.float64)
    numeric = _differences(value, theta, eps, one_sided)
    report = _compare(network, analytic, numeric, passes, tolerance)
    if check and not report.passed:
        raise AssertionError(str(report))
    return report


def _differences(value: Callable[[HostArray], float], theta: HostArray, eps: float, one_sided: bool) -> HostArray:
    """The difference quotient along each parameter."""
    base = value(theta) if one_sided else 0.0
    numeric = np.empty_like(theta)
    for j in range(theta.size):
        moved = theta.copy()
        moved[j] += eps
        above = value(moved)
        if one_sided:
            numeric[j] = (above - base) / eps
        else:
            moved[j] = theta[j] - eps
            numeric[j] = (above - value(moved)) / (2 * eps)
    return numeric


def _compare(network: Network, analytic: Any, numeric: Any, passes: int, tolerance: float) -> GradientReport:
    scale = max(float(np.abs(numeric).max(initial=0.0)), float(np.abs(analytic).max(initial=0.0)), 1e-12)
    error = np.abs(analytic - numeric) / scale
    error[~np.isfinite(error)] = np.inf
    errors, worst, largest = {}, "none: the network has no parameters", 0.0
    for slot in network.layout.slots:
        part = error[slot.start : slot.stop]
        if part.size == 0:
            continue
        errors[slot.layer, slot.name] = float(part.max())
        if part.max() >= largest:
            largest = float(part.max())
            at = int(part.argmax())
            index = ", ".join(str(int(i)) for i in np.unravel_index(at, slot.spec.shape))
            pair = f"backward says {analytic[slot.start + at]:.6g}, differences say {numeric[slot.start + at]:.6g}"
            worst = f"layer {slot.layer} ({type(network.layers[slot.layer]).__name__}), {slot.name}[{index}]: {pair}"
    return GradientReport(largest, worst, errors, passes, tolerance)
