"""JAX: the training step is compiled as a whole by `jax.jit`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as xp
import numpy as np

from xmlp.backends.base import Backend
from xmlp.backends.views import LayerViews, Views
from xmlp.errors import BackendError
from xmlp.types import Array, Dtype, HostArray

version = jax.__version__


def _tree(views: Views) -> tuple[list[Array], tuple[str, ...]]:
    names = tuple(sorted(views))
    return [views[name] for name in names], names


# the parameters of a network are trees to JAX, which makes plain dicts and lists of them
jax.tree_util.register_pytree_node(Views, _tree, lambda names, arrays: dict(zip(names, arrays, strict=True)))
jax.tree_util.register_pytree_node(LayerViews, lambda layers: (layers, None), lambda _, layers: list(layers))


class JaxBackend(Backend):
    name = "jax"
    in_place = False

    def __init__(self, device: str | None, dtype: Dtype):
        if dtype == "float64" and not jax.config.read("jax_enable_x64"):
            raise BackendError(
                'jax computes in float32 unless told otherwise: call jax.config.update("jax_enable_x64", True) '
                "at the start of the program, or set JAX_ENABLE_X64=1"
            )
        kind, _, number = (device or "").partition(":")
        try:
            devices = jax.devices(kind or None)
            place = devices[int(number or 0)]
        except (RuntimeError, IndexError, ValueError) as error:
            raise BackendError(f"jax has no device {device!r}: {error}") from None
        super().__init__(xp, place, dtype)

    def _to_device(self, array: HostArray) -> Array:
        return jax.device_put(np.array(array), self.device)

    def _to_host(self, array: Array) -> HostArray:
        return np.array(array)

    def device_of(self, array: Array) -> str:
        return str(next(iter(array.devices())))

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        jitted: Callable[..., Any] = jax.jit(function)
        return jitted

    def index(self, n: int) -> Array:
        with jax.ensure_compile_time_eval():  # what is kept between calls must not be a symbol of one trace
            return super().index(n)

    def assign(self, old: Array, new: Array) -> Array:
        return new


make = JaxBackend
