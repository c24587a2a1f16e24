"""Calls that are shared among threads: the same numbers, whoever does which share, and a BLAS left as it was."""

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xmlp
from xmlp import optimizers
from xmlp.compiler.planner import plan
from xmlp.compiler.tensor import XP, Tracer
from xmlp.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual, Standardize

native = pytest.importorskip("xmlp.runtime.native")
team = pytest.importorskip("xmlp.runtime.team")
RNG = np.random.default_rng(0)
X = RNG.integers(0, 255, (150, 40)).astype(np.uint8)
LABELS = RNG.integers(0, 10, 150)
WEIGHTS = RNG.random(150)

NETWORKS: dict[str, list[Any]] = {
    "dense": [Dense(70, "relu"), Dense(33, "tanh"), Dense(10)],
    "normalised": [Standardize(mean=100.0, scale=50.0), Dense(64), BatchNorm(), LayerNorm(), Dense(10)],
    "random": [Dropout(0.1), Dense(48, "gelu"), Dropout(0.5), Residual([Dense(48, "silu")]), Dense(10)],
}
RULES = [optimizers.Adam(1e-3), optimizers.SGD(0.01, momentum=0.9), optimizers.AdamW(1e-3, weight_decay=0.1)]


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Everything that can be shared is, among as many threads as the test says."""
    library = native.blas()
    if library is None or library.threads is None:
        pytest.skip("this BLAS does not tell of its threads")
    monkeypatch.setattr(team, "_FLOPS", 0)
    monkeypatch.setattr(team, "_BYTES", 0)

    def use(number: int) -> None:
        monkeypatch.setattr(team.Threads, "number", property(lambda self: number))

    return use


def trained(layers: str, rule: Any = RULES[0], planned: bool | None = True, **kw: Any) -> tuple[Any, xmlp.Trainer]:
    network = xmlp.Network(NETWORKS[layers], 40, seed=1, dtype="float64")
    trainer = xmlp.Trainer(
        network, loss="softmax_cross_entropy", optimizer=rule, planned=planned, l2=1e-4, clip_norm=5.0
    )
    trainer.fit(X, LABELS, epochs=3, batch_size=64, sample_weight=WEIGHTS, **kw)
    return network.theta.copy(), trainer


def shared_calls(trainer: Any) -> int:
    programs = trainer.run.runner._programs.values()
    return sum(len(tables) > 1 for program in programs for tables in program._tables)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("layers", NETWORKS)
@pytest.mark.parametrize("number", [2, 3, 8])
def test_shared_steps_are_the_plain_ones(lanes: Any, number: int, layers: str, rule: Any) -> None:
    plain, _ = trained(layers, rule, planned=False)
    lanes(number)
    theta, trainer = trained(layers, rule)
    assert shared_calls(trainer) >= 8
    assert np.abs(theta - plain).max() < 1e-8


def scaled(a: Any) -> Any:
    return a["full"] * a["row"] + a["column"]


def taken(a: Any) -> Any:
    return XP.take(a["table"], a["rows"], axis=0) * a["row"]


CUTS: dict[str, tuple[Any, tuple[int, int], list[tuple[int, int]]]] = {
    "along the longer side": (scaled, (300, 50), [(150, 50), (150, 50)]),
    "columns if they are more": (scaled, (50, 300), [(50, 192), (50, 108)]),
    "one row": (scaled, (1, 500), [(1, 256), (1, 244)]),
    "rows for sums along them": (lambda a: XP.sum(scaled(a), axis=-1), (50, 300), [(25, 300), (25, 300)]),
    "columns for sums over rows": (lambda a: XP.sum(scaled(a), axis=0), (300, 100), [(300, 64), (300, 36)]),
    "whole rows are taken": (taken, (50, 300), [(25, 300), (25, 300)]),
    "sums of what is taken": (lambda a: XP.sum(taken(a), axis=0), (50, 300), [(50, 192), (50, 108)]),
    "a list that is taken": (lambda a: XP.take(a["row"], a["rows"], axis=0) * 2.0, (1, 500), [(1, 256), (1, 244)]),
    "whole where the parts would meet": (lambda a: XP.sum(scaled(a)), (300, 50), [(300, 50)]),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_pass_is_cut_where_its_parts_do_not_meet(lanes: Any, cut: str) -> None:
    function, (rows, columns), expected = CUTS[cut]
    given = {
        "full": RNG.normal(size=(rows, columns)), "row": RNG.normal(size=columns), "column": RNG.normal(size=(rows, 1)),
        "table": RNG.normal(size=(90, columns)), "rows": RNG.integers(0, 90, rows).astype(np.int32),
    }  # fmt: skip
    if cut == "a list that is taken":
        given["rows"] = RNG.integers(0, columns, columns).astype(np.int32)
    tracer = Tracer()
    symbols = {name: tracer.input(name, a.shape, str(a.dtype)) for name, a in given.items() if name != "rows"}
    result = function(symbols | {"rows": tracer.list("rows", given["rows"].shape)})
    made = plan([("out", result.node)])
    assert [share[:2] for share in team.kernel_shares(made.calls[-1], 2, False)] == expected
    found = set()
    for number in (1, 2, 5):
        lanes(number)
        out = np.full(result.shape, np.nan)
        native.Program(made, {**given, "out": out}).run(np.zeros((1, 0)), given["rows"], 0)
        assert np.isfinite(out).all()
        found.add(out.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("layers", NETWORKS)
def test_chance_decides_nothing(lanes: Any, layers: str) -> None:
    """More threads than processors, and calls of different numbers of shares one after another."""
    lanes(5)
    first, _ = trained(layers)
    assert all((trained(layers)[0] == first).all() for _ in range(20))


def test_without_helpers_the_caller_does_all_shares(lanes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes(3)
    theta, _ = trained("dense")
    with team._teams[3].called():  # by somebody else
        assert (trained("dense")[0] == theta).all()


def test_trainers_in_several_threads(lanes: Any) -> None:
    lanes(2)
    alone = {name: trained(name)[0] for name in NETWORKS}
    found: dict[tuple[str, int], Any] = {}
    threads = [
        threading.Thread(target=lambda n=name, i=i: found.update({(n, i): trained(n)[0]}))
        for name in NETWORKS
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 6
    assert all((theta == alone[name]).all() for (name, _), theta in found.items())


def test_the_blas_has_its_threads_back(lanes: Any) -> None:
    threads = native.blas().threads
    before, seen = threads._get(), []
    lanes(2)

    class Look:
        def on_progress(self, trainer: Any) -> None:
            seen.append(threads._get())

    xmlp.Network(NETWORKS["dense"], 40).fit(X, LABELS, epochs=1, callbacks=[Look()])
    with threads.single():
        with threads.single():
            assert threads._get() == 1
        assert threads._get() == 1
    assert {threads._get(), *seen} == {before}


def test_another_number_of_threads_is_seen(lanes: Any) -> None:
    lanes(1)
    single, trainer = trained("dense")
    assert shared_calls(trainer) == 0
    lanes(2)
    trainer.fit(X, LABELS, epochs=1, batch_size=64)
    assert shared_calls(trainer) > 0
    lanes(team.MOST + 1)
    trainer.fit(X, LABELS, epochs=1, batch_size=64)
    assert shared_calls(trainer) == 0
    assert np.isfinite(single).all()


def test_small_calls_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team.Threads, "number", property(lambda self: 2))
    trainer = xmlp.Trainer(xmlp.mlp([40, 16, 10]), loss="softmax_cross_entropy", optimizer="adam")
    trainer.fit(X, LABELS, epochs=1)
    assert shared_calls(trainer) == 0
    trainer.fit(np.resize(X, (2048, 40)), np.resize(LABELS, 2048), epochs=1, batch_size=2048)
    assert shared_calls(trainer) > 0


@pytest.mark.filterwarnings("ignore")  # of libraries with threads, which do not like forks
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_forked_child_makes_a_team_of_its_own(lanes: Any) -> None:
    lanes(2)
    theta, _ = trained("dense")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert (pool.apply_async(_trained_theta).get(60) == theta).all()


def _trained_theta() -> Any:
    return trained("dense")[0]
