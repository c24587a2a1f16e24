"""Predictions as plans: the forward pass traced once for any number of rows, replayed by the backend."""

from typing import Any

from xmlp.errors import DeviceMemoryError
from xmlp.losses import Link
from xmlp.network.chain import Chain
from xmlp.network.inputs import count
from xmlp.network.planned import PlannedFunction
from xmlp.runtime.programs import Recent
from xmlp.types import Array

_Kind = tuple[Link | None, bool, float]  # of a pass: link, raw, temperature

BLOCK = 2048  # rows that are predicted at a time unless the caller says otherwise
_PASSES = 8  # that are kept, by link, raw and temperature


class Predictor:
    """Outputs of a chain of layers, in inference mode, for rows on the device.

    Where the backend runs plans, passes are planned; what cannot be planned, or has no plan for its arrays, runs plain.
    """

    def __init__(self, chain: Chain):
        self._chain, self._backend = chain, chain.backend
        self._planned = chain.backend.reason_against_plans() is None
        self.passes: Recent[_Kind, PlannedFunction] = Recent(_PASSES)

    def outputs(
        self, theta: Array, stats: Array, x: Array, *, link: Link | None = None, raw: bool = False,
        temperature: float = 1.0, batch_size: int | None = None,
    ) -> Array:  # fmt: skip
        """As they are, raw, or through a link whose logits are divided by a temperature; in blocks of rows.

        What does not fit on the device is computed in halves.
        """
        kind, rows = (link, raw, temperature), x.shape[0]
        size = min(rows, BLOCK) if batch_size is None else count(batch_size, "batch_size")
        if size >= rows:
            return self._whole(kind, theta, stats, x)
        blocks = [x[start : min(start + size, rows), :] for start in range(0, rows, size)]
        return self._backend.xp.concat([self._whole(kind, theta, stats, block) for block in blocks])

    def _whole(self, kind: _Kind, theta: Array, stats: Array, x: Array) -> Array:
        try:
            return self._block(kind, theta, stats, x)
        except self._backend.out_of_memory as error:
            rows = x.shape[0]
            if rows == 1:
                raise DeviceMemoryError(
                    f"a prediction for one row does not fit on {self._backend.device}: "
                    f"{self._backend.free_bytes():,} bytes are free"
                ) from error
        self.passes.clear()  # their buffers are for batches of this size
        self._backend.release()
        halves = [self._whole(kind, theta, stats, x[h, :]) for h in (slice(rows // 2), slice(rows // 2, rows))]
        return self._backend.xp.concat(halves)

    def _block(self, kind: _Kind, theta: Array, stats: Array, x: Array) -> Array:
        if self._planned:
            planned = self.passes.find(kind)
            if planned is None:
                planned = self.passes.add(kind, self.planned_pass(*kind))
            results = planned({"theta": theta, "stats": stats}, {"x": x})
            if results is not None:
                return results["y"]
        return self._forward(kind, self._backend, theta, stats, x)

    def planned_pass(self, link: Link | None, raw: bool, temperature: float) -> PlannedFunction:
        """The pass of one kind, as a plan."""
        kind = (link, raw, temperature)
        return PlannedFunction(
            lambda backend, **arrays: {"y": self._forward(kind, backend, **arrays)},
            self._backend,
            {"y": (None, self._chain.out_features)},
            shared=False,
            told="prediction" if self._chain.built_in else "",
        )

    def _forward(self, kind: _Kind, backend: Any, theta: Array, stats: Array, x: Array) -> Array:
        (link, raw, temperature), chain = kind, self._chain
        if backend is not self._backend:  # being traced
            chain = chain.on(backend)
        x = x if x.dtype == backend.float_dtype else backend.xp.astype(x, backend.float_dtype)
        if link is not None and link.of_logits and temperature != 1.0:
            logits, _ = chain.pass_forward(theta, stats, x, raw=True)
            return backend.apply(link.function, logits / temperature)
        y, _ = chain.pass_forward(theta, stats, x, raw=raw)
        return y if link in (None, chain.output_link) else backend.apply(link.function, y)
