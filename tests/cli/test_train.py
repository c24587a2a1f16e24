import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli.command import houses, read_csv, run, table

import xmlp
from xmlp.cli.train import DIGITS


def test_digits_are_learnt_and_the_file_predicts(here):
    lines = run("train", "--epochs", 2).stdout.splitlines()
    _, _, x_test, y_test = xmlp.data.load("digits")
    held = round(3823 * DIGITS.validation)
    sizes = "-".join(map(str, (64, *DIGITS.hidden, 10)))
    assert lines[0] == f"digits: {3823 - held} rows to train on, {held} held out"
    assert re.fullmatch(rf"network {sizes}, \d+ parameters; \S+ on .*, float32", lines[1])
    epochs = [line for line in lines if line.startswith("epoch")]
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert all(re.search(r"loss \S+  validation loss \S+  validation accuracy \S+  \S+ samples/s$", e) for e in epochs)
    assert lines[-1] == "saved model.safetensors"
    assert re.fullmatch(r"always \d: accuracy 0\.10\d+", lines[-2])
    network = xmlp.load("model.safetensors")
    accuracy = (network.predict_label(x_test) == y_test).mean()
    assert accuracy > 0.8
    assert f"test: accuracy {accuracy:.4g}  " in lines[-3]
    assert network.metadata["dataset"] == "digits"
    assert network.metadata["training"]["epochs"] == 2
    assert [p.name for p in here.iterdir()] == ["model.safetensors"]


def test_the_digits_recipe_stands_in_one_place(here):
    x, *_ = xmlp.data.load("digits")
    row = json.loads(run("train", "--json", "--epochs", 1).stdout.splitlines()[-1])
    train = len(x) - round(len(x) * DIGITS.validation)
    assert row["steps"] == -(-train // DIGITS.batch_size)
    assert xmlp.load("model.safetensors").metadata["training"]["hidden"] == list(DIGITS.hidden)


def test_the_seed_decides_everything(here):
    path = table(here / "a.csv", houses(50))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = ["--epochs", 1, "--dropout", 0.5, "--quiet", "--seed", seed, "--model", f"{name}.safetensors"]
        run("train", path, "--target", "kind", *settings)
    a, b, c = (xmlp.load(f"{name}.safetensors").theta for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_validation_rows_take_no_part(shelf, here):
    """Neither the scaling nor the weights depend on them; only kinds and categories come from all rows."""
    path = table(here / "a.csv", houses(60))
    settings = ["--target", "price", "--epochs", 1, "--validation", 0.2, "--quiet", "--model"]
    run("train", path, *settings, "a.safetensors")
    held = xmlp.data.batches.split_rows(60, 0.2, 0)[1]
    columns = houses(60)
    for row in held:
        columns["size"][row] *= 1000
        columns["price"][row] *= 3
        columns["hue"][row] = columns["hue"][0]
    run("train", table(path, columns), *settings, "b.safetensors")
    a, b = xmlp.load("a.safetensors"), xmlp.load("b.safetensors")
    assert np.array_equal(a.theta, b.theta)
    assert np.array_equal(a.stats, b.stats)


def test_a_class_in_one_row_is_learnt_and_not_held_out(here):
    columns = houses(40)
    columns["kind"] = ["odd" if row in xmlp.data.batches.split_rows(40, 0.2, 0)[1][:1] else "even" for row in range(40)]
    path = table(here / "a.csv", columns)
    lines = run("train", path, "--target", "kind", "--epochs", 1, "--validation", 0.2).stdout.splitlines()
    assert any(line.endswith("33 rows to train on, 7 held out") for line in lines)


@pytest.mark.parametrize(
    "settings",
    [
        ["--optimizer", "sgd", "--schedule", "constant"],
        ["--optimizer", "adam", "--lr", "0.01", "--schedule", "cosine", "--hidden", "8"],
        ["--normalization", "batch", "--dropout", "0.1", "--activation", "gelu", "--hidden", "8,8"],
        ["--normalization", "layer", "--weight-decay", "0", "--dtype", "float64", "--backend", "array-api-strict"],
        ["--hidden", "none", "--validation", "0", "--batch-size", "1000"],
        ["--missing", "mean", "--task", "classification", "--seed", "3"],
    ],
    ids=lambda settings: " ".join(settings),
)
def test_every_option_is_obeyed(here, settings):
    path = table(here / "a.csv", houses(50))
    run("train", path, "--target", "kind", "--epochs", 2, "--quiet", *settings)
    network = xmlp.load("model.safetensors")
    made = network.metadata["training"]
    given = dict(zip(settings[::2], settings[1::2], strict=True))
    for option, value in given.items():
        name = option[2:].replace("-", "_")
        if name in made:
            expected = [] if value == "none" else [int(v) for v in value.split(",")] if name == "hidden" else value
            assert made[name] == (float(value) if isinstance(made[name], float | int) else expected)
    layers = [type(layer).__name__ for layer in network.layers]
    assert layers.count("Dense") == 1 + len(made["hidden"])
    assert ("BatchNorm" in layers, "LayerNorm" in layers) == tuple(
        given.get("--normalization") == kind for kind in ("batch", "layer")
    )
    assert network.dtype == given.get("--dtype", "float32")


def test_missing_numbers_become_the_mean_of_the_training_rows(here):
    columns = houses(50)
    columns["size"][3] = "NA"
    path = table(here / "a.csv", columns)
    strict = run("train", path, "--target", "kind", "--epochs", 1, "--missing", "refuse", code=2)
    assert "line 5, column 'size': a number is missing ('NA')" in strict.stderr
    run("train", path, "--target", "kind", "--epochs", 1, "--quiet")
    columns["size"] = [""] * 50
    assert len(read_csv(run("predict", "model.safetensors", table(path, columns)).stdout)["prediction"]) == 50


def test_json_is_an_object_a_line(here):
    path = table(here / "a.csv", houses(50))
    result = run("train", path, "--target", "price", "--epochs", 3, "--json")
    table_, *epochs, end = map(json.loads, result.stdout.splitlines())
    assert (table_["event"], table_["task"], len(table_["columns"])) == ("table", "regression", 4)
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    assert all(
        row.keys() >= {"loss", "val_loss", "r2", "val_r2", "lr", "seconds", "samples_per_second"} for row in epochs
    )
    assert end["event"] == "end"
    assert (end["model"], end["epochs"], end["stopped"]) == ("model.safetensors", 3, None)
    assert end["validation"].keys() == {"r2", "mae", "rmse"}
    assert result.stderr == ""


def test_quiet_prints_nothing(here):
    result = run("train", "--epochs", 1, "--quiet")
    assert (result.stdout, result.stderr) == ("", "")
    assert Path("model.safetensors").exists()


def test_force_overwrites(here):
    Path("model.safetensors").write_bytes(b"old")
    assert "--force" in run("train", "--epochs", 1, code=2).stderr
    assert Path("model.safetensors").read_bytes() == b"old"
    run("train", "--epochs", 1, "--quiet", "--force")
    assert xmlp.load("model.safetensors").in_features == 64


@pytest.mark.parametrize("backend", ["numpy", "array-api-strict"])
def test_divergence_is_an_error_and_saves_nothing(here, backend):
    path = table(here / "a.csv", houses(50))
    settings = ["--optimizer", "sgd", "--lr", 1e9, "--schedule", "constant", "--epochs", 3, "--backend", backend]
    result = run("train", path, "--target", "price", *settings, code=2)
    assert re.fullmatch(r"error: training diverged in epoch \d at step \d+: .*\n", result.stderr)
    assert [p.name for p in here.iterdir()] == ["a.csv"]


def test_a_table_on_standard_input(here):
    text = table(here / "a.csv", houses(50)).read_text()
    assert run("train", "-", "--target", "kind", "--epochs", 1, stdin=text).stdout.startswith("standard input: ")
    by_pipe = run("predict", "model.safetensors", stdin=text).stdout
    assert by_pipe == run("predict", "model.safetensors", "-", stdin=text).stdout
    assert by_pipe == run("predict", "model.safetensors", "a.csv").stdout
    assert run("evaluate", "model.safetensors", "-", stdin="\ufeff" + text).stdout.startswith("rows")


def test_auto_says_why_it_is_not_a_device_where_cupy_is_installed(here, monkeypatch):
    import importlib.util

    import xmlp.cli.train

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object() if name == "cupy" else find(name, *a))

    def backend(name: str, *, dtype: str) -> object:
        if name == "cupy":
            raise xmlp.BackendError("no driver")
        return xmlp.backend("numpy", dtype=dtype)

    monkeypatch.setattr(xmlp.cli.train, "backend_named", backend)
    assert run("train", "--epochs", 1, "--quiet").stderr == "note: computing on numpy: no driver\n"


def test_nothing_to_resume_overwrites_nothing(here, contents):
    path = table(here / "a.csv", houses(50))
    setting = ["train", path, "--target", "price", "--quiet"]
    run(*setting, "--epochs", 2)
    before = contents()
    told = run(*setting, "--epochs", 1, "--resume", code=2).stderr
    assert "there is nothing to resume: model.safetensors.checkpoints holds no checkpoint" in told
    assert contents() == before
    killed = here / "model.safetensors.checkpoints" / "step-000000000000.safetensors.tmp.1.00000000"
    killed.parent.mkdir()  # as of a run that was killed during its first save
    killed.touch()
    assert "is the model of such a run that was finished" in run(*setting, "--epochs", 2, "--resume").stderr
    assert contents() == before
    assert not killed.parent.exists()


def test_an_unfinished_run_is_told_of_before_its_model(here, contents):
    path = table(here / "a.csv", houses(50))
    run("train", path, "--target", "price", "--epochs", 1, "--quiet")
    (here / "model.safetensors.checkpoints").mkdir()
    (here / "model.safetensors.checkpoints" / "step-000000000001.safetensors").touch()
    told = run("train", path, "--target", "price", "--epochs", 1, "--quiet", code=2).stderr
    assert "go on with it by --resume" in told


def test_force_forgets_a_run_only_when_another_begins(here, contents):
    (here / "run").mkdir()
    (here / "run" / "step-0000000001.safetensors").write_bytes(b"")
    before = contents()
    run("train", "missing.csv", "--target", "price", "--checkpoints", "run", "--force", code=2)
    assert contents() == before
    run("train", "--epochs", 1, "--checkpoints", "run", "--quiet", code=2)
    assert contents() == before
    run("train", "--epochs", 1, "--checkpoints", "run", "--quiet", "--force")
    assert [p.name for p in here.iterdir()] == ["model.safetensors"]
