"""What a step costs, read from its plan: launches, bytes, and nothing that grows."""

import numpy as np
import pytest
from cuda_static.every import Batch, Sums, trace

import xmlp
from xmlp.compiler.calls import Product
from xmlp.compiler.cuda import ONE_BLOCK, lower
from xmlp.compiler.cuda_code import Launch


def plan_of(network, batch, **kw):
    settings = {"loss": "softmax_cross_entropy", "optimizer": "adam", **kw}
    return lower(xmlp.Trainer(network, **settings).plan(batch))


def test_launches_of_the_reference_step():
    """784-512-512-10, ReLU, Adam: 8 products, the rest fused."""
    plan = plan_of(xmlp.mlp([784, 512, 512, 10], "relu"), 128)
    print(plan)
    assert plan.launches == 18 <= 20, "docs/cuda.md has this figure"
    assert sum(isinstance(c, Product) for c in plan.calls) == 8
    parameters = 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    update = plan.calls[-1]
    assert update.bytes == 7 * 4 * parameters, "theta, m, v are read and written once, the gradient read once"
    assert plan.bytes < 33e6
    print(f"{plan.launches} launches <= 20, {plan.bytes:,} bytes per step")


@pytest.mark.parametrize("batch", [1, 32, 128, 1024])
def test_launches_hardly_depend_on_the_batch(batch):
    """Sums that one block cannot make alone cost two launches more."""
    plan = plan_of(xmlp.mlp([784, 512, 512, 10], "relu"), batch)
    assert plan.launches <= 18 + 1 + (2 if batch * 10 > ONE_BLOCK else 0)


def test_bytes_are_taken_as_bytes_and_scaled_in_the_first_kernel():
    layers = [xmlp.layers.Standardize(scale=255.0), xmlp.layers.Dense(16, "relu"), xmlp.layers.Dense(10)]
    trainer = xmlp.Trainer(xmlp.Network(layers, 784), loss="softmax_cross_entropy", optimizer="sgd")
    data = Batch(np.zeros((64, 784), np.uint8), np.zeros(64, np.int32), None, np.arange(64, dtype=np.int32))
    plan = lower(trace(trainer.run.step, trainer.run.state(Sums(*(np.zeros((), "f4"),) * 4)), data).plan)
    (first,) = [c for c in plan.calls if isinstance(c, Launch) and (c.rows, c.columns) == (64, 784)]
    assert first.bytes == 64 * 784 * (1 + 4) + 2 * 4 * 784, "a byte read, a float written; two rows of statistics"
    assert "const unsigned char *__restrict__" in first.source
    assert "list[r]" in first.source


def test_schedules_and_clipping_read_no_device_value():
    """All numbers of a step come from the host's own arithmetic; the norm stays in the plan."""
    schedule = xmlp.schedules.OneCycle(1e-3, 100)
    plan = plan_of(xmlp.mlp([20, 16, 10]), 32, optimizer=xmlp.optimizers.AdamW(schedule), clip_norm=1.0)
    assert set(plan.scalars) <= {
        f"{i}.{name}" for i in (0, 1) for name in xmlp.optimizers.AdamW().scalars(1.0, 1, True)
    } | {"share"} | set(plan.sizes(32))
    for call in plan.calls:
        assert not hasattr(call, "source") or "double" not in call.source
