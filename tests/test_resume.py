"""A run that is cut and resumed is the run that was not cut, to the bit; and what a checkpoint holds is checked."""

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Mode

import xmlp
from xmlp import Trainer, optimizers, schedules
from xmlp.callbacks import Checkpoint, EarlyStopping, ReduceOnPlateau
from xmlp.errors import CheckpointError
from xmlp.host import files
from xmlp.layers import BatchNorm, Dense, Dropout

RNG = np.random.default_rng(3)
X = RNG.normal(size=(30, 3))
LABELS = (X[:, 0] + RNG.normal(size=30) > 0).astype(int)
HELD = (X[:7] + 0.5, LABELS[:7])


def network(dtype: str = "float32", backend: Any = "numpy") -> xmlp.Network:
    return xmlp.Network([Dense(6, "tanh"), BatchNorm(), Dropout(0.25), Dense(2)], 3, dtype=dtype, backend=backend)


def listeners() -> list[Any]:
    return [EarlyStopping(patience=2), ReduceOnPlateau(patience=1, factor=0.5)]


def trainer(
    dtype: str = "float32", callbacks: Any = (), planned: bool | None = None, backend: Any = "numpy", **kw: Any
) -> Trainer:
    settings: dict[str, Any] = {"loss": "softmax_cross_entropy", "optimizer": "adam", "metrics": ["accuracy"]}
    return Trainer(network(dtype, backend), callbacks=callbacks, planned=planned, seed=4, **settings | kw)


def state_of(trainer: Trainer) -> dict[str, Any]:
    """All that a run leaves, but for the time that it took."""
    to_host = trainer.network.backend.to_host
    history = {name: [float(v).hex() for v in column] for name, column in trainer.history.items() if name != "seconds"}
    slots = {name: to_host(slot).tobytes() for name, slot in trainer.run.slots.items()}
    arrays = {name: a.tobytes() for name, a in trainer.network.arrays().items()}
    return {**arrays, **slots, **history, "at": trainer.moment, "scale": trainer.lr_scale, "link": trainer.network.link}


class SaveAt:
    """Saves at every step, each time to another file."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_step_end(self, trainer: Trainer) -> None:
        trainer.save(self.folder / f"{trainer.steps}.safetensors")


RULES: dict[str, Callable[[], Any]] = {
    "adam": lambda: optimizers.Adam(schedules.OneCycle(0.02, 20)),
    "sgd": lambda: optimizers.SGD(0.05, momentum=0.9),
    "adamw": lambda: optimizers.AdamW(schedules.Cosine(0.02, 30), weight_decay=0.1),
}


@pytest.mark.parametrize("planned", [None, False])
@pytest.mark.parametrize("rule", RULES)
def test_cut_anywhere(rule: str, dtype: str, planned: bool | None, tmp_path: Path) -> None:
    setting = {"optimizer": RULES[rule](), "clip_norm": 1.0, "l2": 1e-3}
    whole = trainer(dtype, [*listeners(), SaveAt(tmp_path)], planned, **setting)
    whole.fit(X, LABELS, epochs=4, batch_size=8, validation_data=HELD)
    cuts = 0
    for path in tmp_path.iterdir():
        resumed = Trainer.resume(path, callbacks=listeners(), planned=planned)
        resumed.fit(X, LABELS, validation_data=HELD)
        assert state_of(resumed) == state_of(whole), path.name
        cuts += 1
    assert cuts == whole.steps >= 12


def test_cut_by_a_stop_and_finished_by_the_same_trainer() -> None:
    class Stop:
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.steps == 6:
                trainer.stop()

    whole, cut = trainer(), trainer(callbacks=[Stop()])
    for one in (whole, cut):
        one.fit(X, LABELS, epochs=3, batch_size=8)
    assert cut.moment == (6, 1, 2)
    assert cut.history.epochs == 1
    cut.fit(X, LABELS)
    assert state_of(cut) == state_of(whole)
    assert cut.fit(X, LABELS).epochs == 3, "there is nothing left to finish"


def test_another_backend_goes_on_within_rounding(mode: Mode, tmp_path: Path) -> None:
    whole = trainer("float64", callbacks=[SaveAt(tmp_path)])
    whole.fit(X, LABELS, epochs=2, batch_size=8)
    if "float64" not in mode.dtypes:
        pytest.skip("has no float64")
    resumed = Trainer.resume(tmp_path / "5.safetensors", backend=mode.backend("float64"))
    resumed.fit(X, LABELS)
    assert np.abs(resumed.network.arrays()["theta"] - whole.network.arrays()["theta"]).max() < 1e-12


def test_an_iterable_goes_on_where_it_was(tmp_path: Path) -> None:
    batches = [(X[i : i + 5], LABELS[i : i + 5]) for i in range(0, 30, 5)]
    whole = trainer(callbacks=[SaveAt(tmp_path)])
    whole.fit(batches, epochs=2)
    resumed = Trainer.resume(tmp_path / "8.safetensors")
    resumed.fit(batches)
    assert state_of(resumed) == state_of(whole)


def test_a_checkpoint_is_a_model_as_well(tmp_path: Path) -> None:
    one = trainer()
    one.fit(X, LABELS, epochs=1)
    one.save(tmp_path / "a.safetensors")
    assert (xmlp.load(tmp_path / "a.safetensors").predict(X) == one.network.predict(X)).all()


def test_a_new_fit_after_a_cut_starts_an_epoch(tmp_path: Path) -> None:
    whole = trainer(callbacks=[SaveAt(tmp_path)])
    whole.fit(X, LABELS, epochs=2, batch_size=8)
    resumed = Trainer.resume(tmp_path / "6.safetensors")
    resumed.fit(X, LABELS, epochs=1, batch_size=30)
    assert (resumed.moment, resumed.history.epochs) == ((7, 2, 0), 2)


def test_what_does_not_fit_the_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no earlier fit to finish"):
        trainer().fit(X, LABELS)
    trainer(callbacks=[SaveAt(tmp_path)]).fit(X, LABELS, epochs=1, batch_size=8)
    resumed = Trainer.resume(tmp_path / "2.safetensors")
    before = state_of(resumed)
    with pytest.raises(ValueError, match="had 30 rows to train on, this one has 29 rows"):
        resumed.fit(X[1:], LABELS[1:])
    with pytest.raises(ValueError, match="had batch_size=8, got 4"):
        resumed.fit(X, LABELS, batch_size=4)
    resumed.run.order = "another"
    with pytest.raises(CheckpointError, match="order of rows"):
        resumed.fit(X, LABELS)
    assert state_of(resumed) == before


def test_own_parts_are_passed_again(tmp_path: Path) -> None:
    def error(targets: Any, predictions: Any, *, sample_weight: Any = None) -> float:
        return 0.5

    class Own:
        @staticmethod
        def fn(predictions: Any, targets: Any) -> Any:
            return (predictions - targets) ** 2

        @staticmethod
        def deriv(predictions: Any, targets: Any) -> Any:
            return 2.0 * (predictions - targets)

    own = {"loss": Own(), "metrics": [error]}
    one = trainer(optimizer=optimizers.SGD(lambda step: 0.1 / (step + 1)), **own)
    one.fit(X, X[:, :2], epochs=1)
    path = tmp_path / "a.safetensors"
    one.save(path)
    for name in ("loss", "optimizer", "metrics"):
        given = {"loss": own["loss"], "optimizer": one.optimizer, "metrics": [error]}
        del given[name]
        with pytest.raises(CheckpointError, match=f"pass {name}= to Trainer.resume"):
            Trainer.resume(path, **given)
    resumed = Trainer.resume(path, loss=own["loss"], optimizer=one.optimizer, metrics=[error])
    assert state_of(resumed) == state_of(one)


def test_callbacks_of_other_kinds_are_refused(tmp_path: Path) -> None:
    one = trainer(callbacks=[*listeners(), SaveAt(tmp_path)])
    one.fit(X, LABELS, epochs=1, validation_data=HELD)
    for callbacks in ([], listeners()[:1], listeners()[::-1]):
        with pytest.raises(CheckpointError, match="memory of these callbacks: EarlyStopping, ReduceOnPlateau"):
            Trainer.resume(tmp_path / "1.safetensors", callbacks=callbacks)


# --- folders ----------------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    best = []

    class Watch:
        def on_epoch_end(self, trainer: Trainer) -> None:
            best.append((trainer.history["val_loss"][-1], trainer.steps))

    rule = optimizers.SGD(lambda step: 0.1 if step < 9 else 3.0)
    one = trainer(optimizer=rule, callbacks=[Checkpoint(tmp_path, best="val_loss"), Watch()])
    one.fit(X, LABELS, epochs=6, batch_size=10, validation_data=HELD)
    assert names(tmp_path) == ["best.safetensors", "step-0000000015.safetensors", "step-0000000018.safetensors"]
    assert files.read(tmp_path / "best.safetensors", ("history",))[1]["trainer"]["steps"] == min(best)[1] < 18


def test_a_broken_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    one = trainer(callbacks=[Checkpoint(tmp_path)])
    one.fit(X, LABELS, epochs=3, batch_size=8)
    newest = tmp_path / names(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"going back to the checkpoint before.*{newest.name}.*damaged"):
        resumed = Trainer.resume(tmp_path, callbacks=[Checkpoint(tmp_path)])
    assert resumed.moment == (8, 2, 0)
    resumed.fit(X, LABELS)
    assert state_of(resumed) == state_of(one)
    assert Trainer.resume(tmp_path, callbacks=[Checkpoint(tmp_path)]).moment == (12, 3, 0)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="going back"), pytest.raises(CheckpointError):
        Trainer.resume(tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        Trainer.resume(tmp_path)


def test_another_run_is_not_overwritten(tmp_path: Path) -> None:
    trainer(callbacks=[Checkpoint(tmp_path)]).fit(X, LABELS, epochs=2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds checkpoints of another run"):
        trainer(callbacks=[Checkpoint(tmp_path)]).fit(X, LABELS, epochs=1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_by_time_and_at_a_stop(tmp_path: Path) -> None:
    class Stop:
        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.steps == 5:
                trainer.stop()

    rare = Checkpoint(tmp_path / "rare", every_epochs=None)
    often = Checkpoint(tmp_path / "often", every_epochs=None, every_seconds=0, keep=9)
    for checkpoint in (rare, often):
        trainer(callbacks=[checkpoint, Stop()]).fit(X, LABELS, epochs=9, batch_size=10)
    assert names(tmp_path / "rare") == ["step-0000000000.safetensors", "step-0000000005.safetensors"]
    assert names(tmp_path / "often") == [f"step-{n:010d}.safetensors" for n in range(6)]


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *pieces: bytes, **kw: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    warned, strict = trainer(callbacks=[Checkpoint(tmp_path)]), Checkpoint(tmp_path / "b", on_error="raise")
    warned.fit(X, LABELS, epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(files, "replace_file", full)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warned.fit(X, LABELS, epochs=1)
    for step, warning in zip(
        (1, 2, 2), told, strict=True
    ):  # as fit begins, as the epoch ends, and once more at the end
        assert f"no checkpoint at step {step}, training goes on: [Errno 28] No space" in str(warning.message)
    assert warned.epoch == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(OSError, match="No space left"):
        trainer(callbacks=[strict]).fit(X, LABELS, epochs=1)


# --- untrusted --------------------------------------------------------------------------------------------------------


def saved(tmp_path: Path) -> Path:
    one = trainer(callbacks=[*listeners(), SaveAt(tmp_path)])
    one.fit(X, LABELS, epochs=2, batch_size=16, validation_data=HELD)
    return tmp_path / "3.safetensors"


HOSTILE: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "no steps": lambda t, a: t.pop("steps"),
    "negative steps": lambda t, a: t.update(steps=-1),
    "steps in words": lambda t, a: t.update(steps="3"),
    "huge position": lambda t, a: t.update(position=2**70),
    "scale in words": lambda t, a: t.update(lr_scale="1"),
    "an optimizer to import": lambda t, a: t.update(optimizer={"type": "os.system", "command": "true"}),
    "a loss that is a list": lambda t, a: t.update(loss=[1]),
    "an own loss": lambda t, a: t.update(loss={"own": "x"}),
    "metrics by number": lambda t, a: t.update(metrics=[3]),
    "a strange fit": lambda t, a: t.update(fit={"last": 2}),
    "a fit in words": lambda t, a: t["fit"].update(rows="many"),
    "no slots": lambda t, a: a.pop("slot.m"),
    "a short slot": lambda t, a: a.update({"slot.m": a["slot.m"][1:]}),
    "another dtype": lambda t, a: a.update({"slot.m": a["slot.m"].astype("f8")}),
    "one more array": lambda t, a: a.update(more=np.zeros(3)),
    "a callback too many": lambda t, a: a.update({"callback.9.best": np.zeros(3)}),
    "a callback without name": lambda t, a: a.update({"callback.x": np.zeros(3)}),
    "a history of other length": lambda t, a: a.update(history=a["history"][:, :0]),
    "a history of other names": lambda t, a: t.update(history=["loss"]),
    "callbacks as numbers": lambda t, a: t.update(callbacks=[1, 2]),
    "a callback's memory lost": lambda t, a: t["callbacks"][0].update(values={}),
    "not a trainer": lambda t, a: t.clear(),
    "two sums": lambda t, a: a.update(sums=a["sums"][:2]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_state_of_a_run(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    arrays, config = files.read(path, ("history",))
    HOSTILE[name](config["trainer"], arrays)
    files.write(path, arrays, config, ("history",))
    with pytest.raises(CheckpointError):
        Trainer.resume(path, callbacks=listeners())


def test_models_and_checkpoints_are_told_apart(tmp_path: Path) -> None:
    network().save(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"the model alone: use xmlp\.load"):
        Trainer.resume(tmp_path / "model.safetensors")
    path = saved(tmp_path)
    arrays, config = files.read(path, ("history",))
    assert json.dumps(config, allow_nan=False)
    files.write(path, arrays, {**config, "network": [1]}, ("history",))
    for read in (xmlp.load, Trainer.resume):
        with pytest.raises(CheckpointError):
            read(path)


def test_a_history_that_is_not_finite_comes_back(tmp_path: Path) -> None:
    def nothing(targets: Any, predictions: Any, *, sample_weight: Any = None) -> float:
        return math.nan

    one = trainer(metrics=[nothing])
    one.fit(X, LABELS, epochs=1)
    one.save(tmp_path / "a.safetensors")
    resumed = Trainer.resume(tmp_path / "a.safetensors", metrics=[nothing])
    assert math.isnan(resumed.history["nothing"][0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.fit(X, LABELS, epochs=1)


def test_validation_data_are_part_of_the_run(tmp_path: Path) -> None:
    one = trainer(callbacks=[EarlyStopping(), SaveAt(tmp_path)])
    one.fit(X, LABELS, epochs=2, batch_size=8, validation_data=HELD)
    resumed = Trainer.resume(tmp_path / "5.safetensors", callbacks=[EarlyStopping()])
    with pytest.raises(ValueError, match="had 7 rows of validation data, this one has none"):
        resumed.fit(X, LABELS)
    resumed.fit(X, LABELS, validation_data=HELD)
    assert state_of(resumed) == state_of(one)


def test_a_resumed_run_is_saved_again(mode: Mode, tmp_path: Path) -> None:
    one = trainer(callbacks=[EarlyStopping("loss"), Checkpoint(tmp_path)], backend=mode.backend())
    one.fit(X, LABELS, epochs=2)
    for _ in range(2):
        resumed = Trainer.resume(
            tmp_path, backend=mode.backend(), callbacks=[EarlyStopping("loss"), Checkpoint(tmp_path)]
        )
        resumed.save(tmp_path / f"step-{resumed.steps:010d}.safetensors")
    assert state_of(resumed) == state_of(one)


def test_a_memory_that_is_empty_at_first(tmp_path: Path) -> None:
    class Keep:
        def __init__(self) -> None:
            self.seen: dict[str, Any] = {}

        def on_epoch_end(self, trainer: Trainer) -> None:
            self.seen["epoch"] = trainer.epoch

        def state(self) -> dict[str, Any]:
            return self.seen

        def restore(self, state: dict[str, Any]) -> None:
            self.seen = state

    trainer(callbacks=[Keep(), Checkpoint(tmp_path)]).fit(X, LABELS, epochs=2)
    kept = Keep()
    Trainer.resume(tmp_path, callbacks=[kept, Checkpoint(tmp_path)])
    assert kept.seen == {"epoch": 2}


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; a Checkpoint writes several"):
        trainer(callbacks=[Checkpoint(tmp_path / "file")]).fit(X, LABELS, epochs=1)
    with pytest.raises(ValueError, match="two Checkpoints write to"):
        trainer(callbacks=[Checkpoint(tmp_path), Checkpoint(tmp_path, keep=1)]).fit(X, LABELS, epochs=1)
