"""What the command does by itself: categories as 0 and 1, the best epoch, and what it says about both."""

import json
import re
import signal

import numpy as np
import pytest
from cli.command import houses, read_csv, run, table

import xmlp
from xmlp.cli.progress import Quiet


def noise(rows=60, seed=0):
    """A number and a rare category that say little about the target: what is learnt of them by heart is wrong."""
    rng = np.random.default_rng(seed)
    hue = np.where(rng.uniform(size=rows) < 0.1, "rare", "usual").tolist()
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    return {"a": a.tolist(), "hue": hue, "b": b.tolist(), "y": (a + 2 * rng.normal(size=rows)).tolist()}


OVERFIT = ("--target", "y", "--epochs", 40, "--lr", 0.02, "--schedule", "constant", "--hidden", "64,64")


def told(*args):
    """The objects of the epochs and of the end."""
    rows = [json.loads(line) for line in run("train", *args, "--json").stdout.splitlines()]
    return [row for row in rows if row.get("event") == "epoch"], rows[-1]


def first_layer(path="model.safetensors"):
    """Mean and scale of the features by name."""
    network = xmlp.load(path)
    schema = xmlp.data.TableSchema.from_json(network.metadata["table"])
    first = {name: np.asarray(value) for name, value in network.statistics[0].items()}
    return {name: (first["mean"][i], first["scale"][i]) for i, name in enumerate(schema.feature_names)}


# --- categories -------------------------------------------------------------------------------------------------------


def test_categories_stay_0_and_1_and_numbers_are_standardised(here):
    path = table(here / "a.csv", noise(100))
    run("train", path, "--target", "y", "--epochs", 1, "--validation", 0, "--quiet")
    found, a = first_layer(), np.asarray(noise(100)["a"])
    assert found["hue=rare"] == found["hue=usual"] == (0, 1)
    assert found["a"] == pytest.approx((a.mean(), a.std()), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_table_of_nothing_but_categories_is_not_standardised_at_all(here, dtype):
    columns = {name: noise(60)[name] for name in ("hue", "y")}
    run("train", table(here / "a.csv", columns), "--target", "y", "--epochs", 1, "--quiet", "--dtype", dtype)
    assert set(first_layer().values()) == {(0, 1)}


def test_numbers_that_are_0_and_1_are_numbers(here):
    columns = {**noise(60), "b": [0, 1, 1, 0, 1, 1] * 10}
    run("train", table(here / "a.csv", columns), "--target", "y", "--epochs", 1, "--validation", 0, "--quiet")
    assert first_layer()["b"] == pytest.approx((2 / 3, np.sqrt(2) / 3), rel=1e-6)


def test_the_other_backends_get_the_same_first_layer(here):
    path = table(here / "a.csv", noise(60))
    for backend in ("numpy", "array-api-strict"):
        settings = ["--epochs", 1, "--quiet", "--backend", backend, "--model", f"{backend}.safetensors"]
        run("train", path, "--target", "y", *settings)
    assert first_layer("numpy.safetensors") == first_layer("array-api-strict.safetensors")


def test_a_model_that_standardises_categories_still_predicts(here):
    """As models did that were trained before categories stayed as they are."""
    path = table(here / "a.csv", noise(60))
    run("train", path, "--target", "y", "--epochs", 1, "--quiet")
    network = xmlp.load("model.safetensors")
    first, *rest = network.statistics
    network.statistics = [{"mean": first["mean"] + 0.1, "scale": first["scale"] * 0.3}, *rest]
    network.save("before.safetensors")
    x = np.asarray([[a, hue == "rare", hue == "usual", b] for a, hue, b, _ in zip(*noise(60).values(), strict=True)])
    predicted = np.asarray(run("predict", "before.safetensors", path).stdout.split()[1:], float)
    assert predicted == pytest.approx(network.predict(x)[:, 0], rel=1e-6)


# --- the best epoch ---------------------------------------------------------------------------------------------------


def test_the_best_epoch_is_kept_and_told(here):
    path = table(here / "a.csv", noise())
    epochs, end = told(path, *OVERFIT)
    losses = [row["val_loss"] for row in epochs]
    best = int(np.argmin(losses)) + 1
    assert 1 <= best < 30, "this table is to be learnt by heart"
    assert (end["epochs"], end["kept_epoch"]) == (40, best)
    assert end["validation"]["r2"] == pytest.approx(epochs[best - 1]["val_r2"], abs=1e-6)
    assert xmlp.load("model.safetensors").metadata["training"]["kept_epoch"] == best
    lines = run("train", path, *OVERFIT, "--force").stdout.splitlines()
    kept, last = epochs[best - 1], epochs[-1]
    expected = f"best epoch {best} of 40 kept: loss {kept['val_loss']:#.4g}, R2 {kept['val_r2']:#.4g}; "
    assert expected + f"last {last['val_loss']:#.4g}, {last['val_r2']:#.4g}" in lines


def test_a_classification_keeps_the_epoch_of_the_least_validation_loss(here):
    columns = noise()
    columns["y"] = ["yes" if y > 0 else "no" for y in columns["y"]]
    epochs, end = told(table(here / "a.csv", columns), *OVERFIT)
    assert end["kept_epoch"] == int(np.argmin([row["val_loss"] for row in epochs])) + 1 < 40
    assert end["validation"]["accuracy"] == pytest.approx(epochs[end["kept_epoch"] - 1]["val_accuracy"])


def test_with_batch_normalisation_its_statistics_are_those_of_the_best_epoch(here):
    path = table(here / "a.csv", noise())
    epochs, end = told(path, *OVERFIT, "--normalization", "batch")
    assert end["kept_epoch"] < 40
    assert end["validation"]["r2"] == pytest.approx(epochs[end["kept_epoch"] - 1]["val_r2"], abs=1e-6)


def test_an_epoch_that_is_best_and_last_is_told_as_such(here):
    columns = {k: v for k, v in houses(100).items() if k != "kind"}
    lines = run("train", table(here / "a.csv", columns), "--target", "price", "--epochs", 3).stdout.splitlines()
    assert any(re.fullmatch(r"best epoch 3 of 3 kept, the last: loss \S+, R2 \S+", line) for line in lines)


def test_patience_ends_training_and_keeps_the_same_epoch(here):
    path = table(here / "a.csv", noise())
    whole = json.loads(run("train", path, *OVERFIT, "--json").stdout.splitlines()[-1])
    args = ["train", path, *OVERFIT, "--patience", 5, "--json", "--force"]
    ended = json.loads(run(*args).stdout.splitlines()[-1])
    assert ended["epochs"] == ended["kept_epoch"] + 5 < 40
    assert ended["kept_epoch"] <= whole["kept_epoch"]


def test_without_rows_to_validate_on_the_last_epoch_is_kept_and_that_is_said(here):
    lines = run("train", table(here / "a.csv", noise()), *OVERFIT, "--validation", 0).stdout.splitlines()
    assert "last epoch, 40, kept: no rows are held out to tell which is best" in lines
    assert xmlp.load("model.safetensors").metadata["training"]["kept_epoch"] == 40


@pytest.mark.parametrize("more", [(), ("--dropout", 0.2, "--normalization", "batch"), ("--validation", 0)])
@pytest.mark.parametrize("cut", [2, 30])
def test_the_best_epoch_survives_a_cut(here, monkeypatch, cut, more):
    path = table(here / "a.csv", noise())
    run("train", path, *OVERFIT, *more, "--quiet", "--model", "whole.safetensors")
    with monkeypatch.context() as patch:
        stop = lambda report, trainer: trainer.epoch == cut and signal.raise_signal(signal.SIGINT)  # noqa: E731
        patch.setattr(Quiet, "on_epoch_end", stop, raising=False)
        run("train", path, *OVERFIT, *more, "--quiet", code=130)
    early = xmlp.load("model.safetensors")
    assert early.metadata["training"]["epochs"] == cut
    run("train", path, *OVERFIT, *more, "--quiet", "--resume")
    whole, resumed = xmlp.load("whole.safetensors"), xmlp.load("model.safetensors")
    assert np.array_equal(whole.theta, resumed.theta)
    assert np.array_equal(whole.stats, resumed.stats)
    kept = whole.metadata["training"]["kept_epoch"]
    assert resumed.metadata["training"]["kept_epoch"] == kept
    if kept <= cut:  # a run that is cut gives its best epoch so far
        assert np.array_equal(early.theta, whole.theta)


@pytest.mark.parametrize(("before", "after"), [(0, 0.2), (0.2, 0), (0.2, 0.3)])
def test_a_run_is_not_resumed_with_other_rows_to_validate_on(here, monkeypatch, before, after):
    path = table(here / "a.csv", noise())
    with monkeypatch.context() as patch:
        stop = lambda report, trainer: signal.raise_signal(signal.SIGINT)  # noqa: E731
        patch.setattr(Quiet, "on_epoch_end", stop, raising=False)
        run("train", path, *OVERFIT, "--validation", before, "--quiet", code=130)
    told = run("train", path, *OVERFIT, "--validation", after, "--resume", code=2).stderr
    assert "had another --validation" in told
    assert "callbacks" not in told


def test_resume_without_a_run_says_that_a_new_one_begins(here):
    path = table(here / "a.csv", noise())
    told = run("train", path, "--target", "y", "--epochs", 1, "--resume").stderr
    assert told == "no unfinished run in model.safetensors.checkpoints: a new one begins\n"
    result = run("train", path, "--target", "y", "--epochs", 1, "--resume", "--quiet", "--model", "b.safetensors")
    assert result.stderr == ""


# --- what it is measured against --------------------------------------------------------------------------------------


def test_a_classification_is_told_beside_its_most_frequent_class(here):
    columns = houses(100)
    columns["kind"] = ["yes" if i % 10 == 0 else "no" for i in range(100)]
    path = table(here / "a.csv", columns)
    lines = run("train", path, "--target", "kind", "--epochs", 1).stdout.splitlines()
    assert any(re.fullmatch(r"classification of kind: no \d\d, yes \d+", line) for line in lines)
    share = re.fullmatch(r"always no: accuracy (\S+)", lines[-2])[1]
    assert float(share) in {n / 20 for n in range(10, 21)}
    assert run("evaluate", "model.safetensors", path).stdout.splitlines()[5] == "always no: accuracy 0.9"
    assert json.loads(run("evaluate", "model.safetensors", path, "--json").stdout)["baseline"] == {"accuracy": 0.9}


def test_a_regression_is_told_beside_the_median_and_the_mean(here):
    columns = {"a": [1, 2, 3, 4, 5] * 4, "y": [0, 0, 0, 5, 10] * 4}
    path = table(here / "a.csv", columns)
    run("train", path, "--target", "y", "--task", "regression", "--epochs", 1, "--quiet")
    last = run("evaluate", "model.safetensors", path).stdout.splitlines()[-1]
    assert last == "always their median or mean: MAE 3  RMSE 4"
    found = json.loads(run("evaluate", "model.safetensors", path, "--json").stdout)["baseline"]
    assert found == {"mae": 3.0, "rmse": 4.0}


def test_many_classes_are_told_by_their_number(here):
    columns = {**noise(60), "y": [f"class {i % 12}" for i in range(60)]}
    lines = run("train", table(here / "a.csv", columns), "--target", "y", "--epochs", 1).stdout.splitlines()
    assert any(re.fullmatch(r"classification of y: 12 classes of \d to \d rows", line) for line in lines)


def test_r2_of_one_row_is_undefined(here):
    columns = {k: v for k, v in houses(30).items() if k != "kind"}
    path = table(here / "a.csv", columns)
    lines = run("train", path, "--target", "price", "--epochs", 2, "--validation", 0.03).stdout.splitlines()
    assert any(line.endswith("29 rows to train on, 1 held out") for line in lines)
    assert not any("R2 0" in line for line in lines)
    assert any(line.startswith("validation: R2 undefined  MAE ") for line in lines)
    table(here / "b.csv", {name: column[:1] for name, column in columns.items()})
    assert run("evaluate", "model.safetensors", "b.csv").stdout.splitlines()[1].split() == ["R2", "undefined"]
    assert json.loads(run("evaluate", "model.safetensors", "b.csv", "--json").stdout)["r2"] is None
    rows = run("train", path, "--target", "price", "--epochs", 1, "--validation", 0.03, "--json", "--force").stdout
    assert [json.loads(row)["val_r2"] for row in rows.splitlines() if '"epoch"' in row and '"val_r2"' in row] == [None]


# --- features ---------------------------------------------------------------------------------------------------------


def test_features_are_held_in_the_networks_dtype_unless_that_is_too_coarse():
    from xmlp.cli.jobs import _rows
    from xmlp.data import Table, TableSchema

    rows = 20_000
    columns = {"t": [str(1_700_000_000 + i) for i in range(rows)], "h": ["a", "b"] * (rows // 2), "c": ["0.1"] * rows}
    whole = Table("a.csv", {**columns, "y": [str(i) for i in range(rows)]}, range(2, rows + 2))
    part = np.arange(1, rows, 2)
    fine = _rows(TableSchema.learn(whole, "y"), whole.take(part), "float32")
    assert fine.x.dtype == np.float64
    assert np.array_equal(fine.x[:, 0], 1_700_000_000.0 + part)
    small = Table("a.csv", {**whole.columns, "t": columns["t"][:1] * rows}, whole.lines)
    assert _rows(TableSchema.learn(small, "y"), small.take(part), "float32").x.dtype == np.float32
    assert np.array_equal(fine.y, part)


# --- words ------------------------------------------------------------------------------------------------------------


def test_settings_have_the_names_of_options_in_messages(here):
    path = table(here / "a.csv", {**houses(50), "batch_size": [1] * 49 + ["?"]})
    told = run("train", path, "--target", "kind", "--epochs", 1, "--missing", "refuse", code=2).stderr
    assert "column 'batch_size'" in told
    assert "--missing mean" in told
    path = table(here / "b.csv", houses(50))
    settings = ["--optimizer", "sgd", "--lr", 1e9, "--schedule", "constant", "--epochs", 3]
    told = run("train", path, "--target", "price", *settings, code=2).stderr
    assert told.endswith("Nothing is saved. Lower --lr, or bound the gradient with --clip-norm.\n")
    table(here / "c.csv", {name: column[:2] for name, column in houses(50).items()})
    told = run("train", "c.csv", "--target", "price", "--task", "regression", "--validation", 0.9, code=2).stderr
    assert "--validation 0.9 of 2 rows leaves none to train on" in told


def test_nothing_but_public_names_is_listed():
    listed = {name for name in dir(xmlp) if not name.startswith("__")}
    assert listed == set(xmlp.__all__)


def test_a_target_far_from_0_for_its_spread_is_told_of(here):
    columns = {"a": list(range(60)), "y": [1e8 + i % 30 for i in range(60)]}
    path = table(here / "a.csv", columns)
    told = run("train", path, "--target", "y", "--epochs", 1, "--quiet").stderr
    assert re.fullmatch(
        r"note: y varies by 8\.\d+ around 1000000\d\d\S*, where float32 has steps of 8: .*float64.*\n", told
    )
    again = ["--epochs", 1, "--quiet", "--force", "--dtype", "float64"]
    assert run("train", path, "--target", "y", *again).stderr == ""


# --- predictions ------------------------------------------------------------------------------------------------------


def test_predict_keeps_columns_in_front(here):
    columns = {"id, old": [f"A-{i}" for i in range(40)], "key": [str(i % 3) for i in range(40)], **noise(40)}
    path = table(here / "a.csv", {n: c for n, c in columns.items() if n not in ("id, old", "key")})
    run("train", path, "--target", "y", "--epochs", 1, "--quiet")
    table(here / "b.csv", columns)
    plain = read_csv(run("predict", "model.safetensors", "b.csv").stdout)
    for keep in (["--keep", "id, old", "--keep", "key"], ["--keep", "id, old", "--keep", " key ,y"]):
        kept = read_csv(run("predict", "model.safetensors", "b.csv", *keep).stdout)
        assert [*kept][:2] == ["id, old", "key"]
        assert (kept["id, old"], kept["key"]) == (columns["id, old"], columns["key"])
        assert kept["prediction"] == plain["prediction"]
    assert "unknown column 'kee'. Did you mean 'key'?" in run(
        "predict", "model.safetensors", "b.csv", "--keep", "kee", code=2
    ).stderr  # fmt: skip
    table(here / "c.csv", {**columns, "prediction": columns["key"]})
    told = run("predict", "model.safetensors", "c.csv", "--keep", "prediction", code=2).stderr
    assert "the predictions have a column of this name" in told


def test_predictions_are_plain_numbers(here):
    columns = {"a": list(range(60)), "y": [3e8 * i + 1 for i in range(60)]}
    path = table(here / "a.csv", columns)
    run("train", path, "--target", "y", "--epochs", 1, "--quiet")
    predicted = read_csv(run("predict", "model.safetensors", path).stdout)["prediction"]
    network = xmlp.load("model.safetensors")
    values = network.predict(np.arange(60.0)[:, None])[:, 0]
    assert not any("e" in text for text in predicted)
    assert [np.float32(text) for text in predicted] == values.tolist()


# --- what is the same in all rows to train on -------------------------------------------------------------------------


def test_what_never_varies_in_the_rows_to_train_on_counts_for_nothing(here):
    """A column, a category and a gap that only rows without a target have: as a test part that was put to it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    columns = {
        "a": [f"{v:.3f}" for v in x], "c": ["0"] * 50 + [str(4000 + 100 * i) for i in range(10)],
        "h": ["red", "blue"] * 25 + ["green"] * 10, "y": [f"{2 * v + 1:.3f}" for v in x[:50]] + [""] * 10,
    }  # fmt: skip
    told = run("train", table(here / "a.csv", columns), "--target", "y", "--epochs", 40).stderr
    assert "note: nothing is learnt of c: the same in all rows to train on" in told
    rows = {"a": ["0.5"] * 3, "c": ["0", "4900", "-1e6"], "h": ["red"] * 3}
    same = read_csv(run("predict", "model.safetensors", table(here / "b.csv", rows)).stdout)["prediction"]
    assert len(set(same)) == 1
    strange = {"a": ["0.5"] * 2, "c": ["0"] * 2, "h": ["green", "never seen"]}
    alike = read_csv(run("predict", "model.safetensors", table(here / "d.csv", strange)).stdout)["prediction"]
    assert len(set(alike)) == 1


@pytest.mark.parametrize("changed", ["file", "dtype", "columns", "target"])
def test_a_finished_run_is_not_taken_for_another(here, changed):
    columns = {"a": [str(i % 7) for i in range(60)], "b": [f"{i / 3:.2f}" for i in range(60)]}
    columns |= {"y": [f"{i / 4:.2f}" for i in range(60)]}
    train = ["train", table(here / "a.csv", columns), "--target", "y", "--epochs", 2]
    run(*train)
    assert "nothing to resume" in run(*train, "--resume").stderr
    if changed == "file":
        table(here / "a.csv", {**columns, "b": columns["b"][::-1]})
    train = [*train[:3], "b", *train[4:]] if changed == "target" else train
    more = {"dtype": ["--dtype", "float64"], "columns": ["--columns", "b:drop"]}.get(changed, [])
    assert "there is nothing to resume" in run(*train, *more, "--resume", code=2).stderr
