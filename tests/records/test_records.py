"""A change of structure leaves plans, code and trained numbers as they are recorded; see `record.py`."""

import json

import numpy as np
import pytest
from records import networks, record

PLANS = json.loads(record.PLANS.read_text(encoding="utf-8"))
with np.load(record.NUMBERS) as file:
    NUMBERS = dict(file)
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}  # on another machine, over the largest number of the array


@pytest.mark.parametrize("key", PLANS)
def test_plans_and_the_code_of_their_kernels(key):
    name, _, dtype = key.rpartition(", ")
    now = record.plan(name, dtype)
    assert now["plan"] == PLANS[key]["plan"]
    assert now["llvm"] == PLANS[key]["llvm"]
    assert now["cuda"] == PLANS[key]["cuda"]


@pytest.mark.parametrize("way", networks.WAYS)
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_trained_numbers(name, way):
    recorded = {key.rpartition("/")[2]: a for key, a in NUMBERS.items() if key.startswith(f"{name}/{way}/")}
    now, alike = record.numbers(name, way), record.machine() == str(NUMBERS["machine"])
    assert set(now) == set(recorded)
    for what, value in now.items():
        if alike:
            assert np.array_equal(value, recorded[what]), what
        else:
            scale = np.abs(recorded[what]).max(initial=1e-3)
            np.testing.assert_allclose(
                value, recorded[what], atol=scale * TOLERANCE[networks.WAYS[way][0]], err_msg=what
            )


def test_every_network_is_recorded():
    assert set(PLANS) == {f"{n}, {dtype}" for n in networks.NETWORKS for dtype in ("float32", "float64")}
    assert {key.partition("/")[0] for key in NUMBERS} == {*networks.NETWORKS, "machine"}
