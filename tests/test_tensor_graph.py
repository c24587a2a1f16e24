"""The traced graph of a step, run plainly, against its plan and against the step itself."""

import sys
from typing import Any

import numpy as np
import pytest
from records import networks

import xmlp
from xmlp.compiler import tensor_graph
from xmlp.compiler.rows import Extent
from xmlp.compiler.tensor import PlanError
from xmlp.training import planned

ROWS = 16


def case(name: str) -> tuple[Any, Any, Any]:
    """A trainer in float64, the state that it is in, and a batch of all its rows."""
    network, y, settings, _ = networks.NETWORKS[name]
    trainer = xmlp.Trainer(network("float64"), planned=False, **settings)
    batch, _ = trainer.preparation.checked((networks.X[:ROWS], y[:ROWS]), ("x", "y"))
    return trainer, trainer.run.state(), batch


def numbers(step: Any, graph: Any) -> dict[str, Any]:
    """What the host gives the third step."""
    given = step.numbers(ROWS, 0.01, 2, seed=4)
    named = {"share": given.share}
    named |= {f"{i}.{name}": value for i, values in enumerate(given.scalars) for name, value in values.items()}
    named |= {f"{site}.{k}": word for site, words in given.keys.items() for k, word in enumerate(words)}
    return named | graph.plan.sizes(ROWS)


def run(graph: Any, step: Any, arrays: dict[str, Any], xp: Any, device: Any = None) -> dict[str, Any]:
    return graph.run(xp, arrays, numbers(step, graph), device)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_graph_is_its_step_and_its_plan_to_the_bit(name, monkeypatch):
    """On NumPy, and without llvmlite, whose machine code sums in another order than NumPy."""
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    trainer, state, batch = case(name)
    step = trainer.run.step
    graph = planned.trace(step, state, batch)
    arrays = planned.arrays_of(state, batch)
    mine = run(graph, step, arrays, np)
    after = planned.arrays_of(step(state, batch, step.numbers(ROWS, 0.01, 2, seed=4)), batch)
    assert {n for n, a in after.items() if n in mine} == set(mine)
    for what, value in mine.items():
        assert np.array_equal(np.asarray(value), np.asarray(after[what])), what

    program = step.backend.program(graph.plan, {n: np.array(a) for n, a in arrays.items() if n != "rows"}, None)
    known = numbers(step, graph)
    program.run(np.asarray([[float(known[n]) for n in graph.plan.scalars]]), np.zeros(0, np.int32), 0)
    for what, value in mine.items():
        assert np.array_equal(program.arrays[what], np.asarray(value)), what


@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "torch", "jax"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_graph_runs_on_every_namespace(name, library):
    pytest.importorskip(library)
    backend = xmlp.backend(library.replace("_", "-"), dtype="float64")
    trainer, state, batch = case(name)
    step = trainer.run.step
    graph = planned.trace(step, state, batch)
    arrays = planned.arrays_of(state, batch)
    right = run(graph, step, arrays, np)
    there = {n: backend.from_host(a, "int32" if a.dtype == np.int32 else None) for n, a in arrays.items()}
    mine = run(graph, step, there, backend.xp, backend.device)
    for what, value in mine.items():
        scale = max(float(np.abs(right[what]).max(initial=0.0)), 1.0)
        assert np.abs(backend.to_host(value) - right[what]).max(initial=0.0) <= 1e-12 * scale, what


def test_inputs_scalars_and_source():
    def energy(backend: Any, x: Any, w: Any) -> dict[str, Any]:
        z = x @ w
        return {"energy": backend.xp.sum(backend.xp.where(z > 0, z, 0.0)) * backend.scalar("half"), "z": z}

    graph = tensor_graph.trace(energy, {"x": ((Extent(3, 1), 2), "float64"), "w": ((2, 1), "float64")})
    assert list(graph.inputs) == ["x", "w"]
    assert graph.scalars == ["half"]
    assert graph.source.splitlines()[:4] == ["x: float64 (3, 2)", "w: float64 (2, 1)", "v0 = x @ w", "v1 = v0 > 0"]
    assert graph.plan.serves(7)
    x, w = np.asarray([[1.0, 2.0], [3.0, -4.0], [0.0, 1.0]]), np.asarray([[1.0], [1.0]])
    assert float(graph.run(np, {"x": x, "w": w}, {"half": 0.5})["energy"]) == 2.0


def test_a_slice_of_elementwise_results_needs_no_room():
    def halves(backend: Any, x: Any) -> dict[str, Any]:
        y = backend.xp.exp(x) * 2.0
        return {"a": y[:4], "b": y[4:] + 1.0}

    graph = tensor_graph.trace(halves, {"x": ((10,), "float64")})
    assert graph.plan.bytes == 2 * 8 * 10, "each number is read and written once"
    x = np.linspace(-1, 1, 10)
    found = graph.run(np, {"x": x}, {})
    assert np.array_equal(found["a"], np.exp(x[:4]) * 2.0)
    assert np.array_equal(found["b"], np.exp(x[4:]) * 2.0 + 1.0)


def taken(backend: Any, table: Any, chosen: Any) -> dict[str, Any]:
    return {"y": backend.xp.take(table, chosen, axis=0) * 2.0}


OTHERWISE = {
    "by what is no list": (taken, ""),
    "from the list": (lambda b, table, chosen: {"y": b.xp.take(chosen, chosen, axis=0)}, "chosen"),
    "the list as numbers": (lambda b, table, chosen: taken(b, table, chosen) | {"z": chosen + 1}, "chosen"),
    "the list as a result": (lambda b, table, chosen: taken(b, table, chosen) | {"z": chosen}, "chosen"),
}
TABLE = {"table": ((5, 2), "float64"), "chosen": ((3,), "int32")}


def test_rows_are_taken_by_the_list_of_the_batch_whatever_its_name():
    graph = tensor_graph.trace(taken, TABLE, listed="chosen")
    arrays = {"table": np.arange(10.0).reshape(5, 2), "chosen": np.asarray([4, 0, 4], np.int32)}
    program = xmlp.backend("numpy").program(graph.plan, {"table": arrays["table"], "y": np.zeros((3, 2))})
    program.run(np.zeros((1, 0)), arrays["chosen"], 3)
    assert np.array_equal(program.arrays["y"], 2 * arrays["table"][arrays["chosen"]])
    assert np.array_equal(program.arrays["y"], graph.run(np, arrays, {})["y"])


@pytest.mark.parametrize("case", OTHERWISE)
def test_the_list_of_the_batch_is_for_nothing_else(case):
    function, listed = OTHERWISE[case]
    with pytest.raises(PlanError, match="list of the batch"):
        print(tensor_graph.trace(function, TABLE, listed=listed).plan)
