"""From a CSV file to a model, and from there to metrics and predictions."""

import csv
import json

import numpy as np
import pytest
from cli.command import HUES, houses, read_csv, run, table

import xmlp
from xmlp.cli.jobs import Job, Rows
from xmlp.data import NumberColumn, TableSchema
from xmlp.errors import CheckpointError


def shuffled(columns, order):
    """The columns in another order, with one that nobody asked for."""
    return {"id": [f"=evil({i})" for i in range(len(columns["size"]))], **{name: columns[name] for name in order}}


def test_a_regression_predicts_in_the_targets_unit(shelf):
    found = json.loads(run("evaluate", shelf / "price.safetensors", shelf / "houses.csv", "--json").stdout)
    assert found["rows"] == 300
    assert found["r2"] > 0.999
    columns = houses(50, seed=1)
    new = {name: columns[name] for name in ("size", "rooms", "hue")}
    predicted = read_csv(run("predict", shelf / "price.safetensors", table(shelf / "new.csv", new)).stdout)
    assert predicted.keys() == {"prediction"}
    errors = np.asarray(predicted["prediction"], float) - columns["price"]
    assert np.abs(errors).max() < 0.02 * np.mean(columns["price"])


def test_standardised_predictions_are_turned_back_by_the_last_layer(rng):
    schema = TableSchema("y", "regression", (), (NumberColumn("a"), NumberColumn("b")))
    x, y = rng.normal(size=(20, 2)), rng.normal(size=20) * 300 + 7000
    network = xmlp.mlp([2, 3, 1], "tanh", dtype="float64")
    network.theta = rng.normal(size=network.theta.shape)
    job, before = Job("test", schema, Rows(x, y), None), network.predict(x)
    _, standardised = job.standardized(job.train)
    assert (standardised.mean(), standardised.std()) == pytest.approx((0, 1), abs=1e-12)
    job.finish(network)
    assert network.predict(x) == pytest.approx(before * y.std() + y.mean(), rel=1e-12)


def test_a_linear_network_finds_the_linear_law(here):
    path = table(here / "a.csv", {k: v for k, v in houses(300).items() if k != "kind"})
    settings = ["--hidden", "none", "--lr", 0.1, "--weight-decay", 0, "--epochs", 100, "--dtype", "float64"]
    run("train", path, "--target", "price", "--quiet", *settings)
    found = json.loads(run("evaluate", "model.safetensors", path, "--json").stdout)
    assert found["r2"] == pytest.approx(1, abs=1e-9)
    assert found["rmse"] < 1  # of prices of about 700000


def test_a_classification_gives_names_and_probabilities(shelf):
    columns = houses(100, seed=2)
    path = table(shelf / "new.csv", shuffled(columns, ("hue", "rooms", "size")))
    predicted = read_csv(run("predict", shelf / "kind.safetensors", path).stdout)
    assert list(predicted) == ["prediction", "p_big", "p_small"]
    p = np.asarray([predicted["p_big"], predicted["p_small"]], float)
    assert p.sum(0) == pytest.approx(1, abs=1e-6)
    assert predicted["prediction"] == ["big" if big >= small else "small" for big, small in p.T]
    right = np.mean(np.asarray(predicted["prediction"]) == columns["kind"])
    assert right > 0.9


def test_columns_are_found_by_name_in_any_order(shelf):
    columns = houses(20, seed=3)
    outputs = set()
    for order in (("size", "rooms", "hue"), ("hue", "size", "rooms"), ("rooms", "hue", "size", "kind", "price")):
        path = table(shelf / "new.csv", shuffled(columns, order))
        outputs.add(run("predict", shelf / "price.safetensors", path).stdout)
    assert len(outputs) == 1


def test_evaluate_tells_what_predict_says(shelf):
    columns = houses(80, seed=4)
    path = table(shelf / "new.csv", columns)
    names = read_csv(run("predict", shelf / "kind.safetensors", path).stdout)["prediction"]
    found = json.loads(run("evaluate", shelf / "kind.safetensors", path, "--json").stdout)
    truth, labels = ([("big", "small").index(name) for name in column] for column in (columns["kind"], names))
    assert found["classes"] == ["big", "small"]
    assert found["accuracy"] == pytest.approx(np.mean(np.equal(truth, labels)))
    assert found["confusion_matrix"] == xmlp.metrics.confusion_matrix(truth, labels).tolist()
    for name in ("precision", "recall", "f1"):
        assert found[name] == pytest.approx(getattr(xmlp.metrics, name)(truth, labels, average="macro"))


def test_evaluate_prints_a_table(shelf):
    lines = run("evaluate", shelf / "kind.safetensors", shelf / "houses.csv").stdout.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["rows", "accuracy", "precision", "recall", "F1"]
    assert lines[-3].split() == ["big", "small"]
    counts = [int(n) for line in lines[-2:] for n in line.split()[1:]]
    assert sum(counts) == 300
    lines = run("evaluate", shelf / "price.safetensors", shelf / "houses.csv").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["rows", "R2", "MAE", "RMSE", "always"]


def test_digits_are_measured_without_a_csv(shelf):
    _, _, x, y = xmlp.data.load("digits")
    found = json.loads(run("evaluate", shelf / "digits.safetensors", "--json").stdout)
    network = xmlp.load(shelf / "digits.safetensors")
    assert found["rows"] == 1797
    assert found["accuracy"] == pytest.approx((network.predict_label(x) == y).mean())


def test_a_digits_model_reads_tables_of_pixels(shelf):
    _, _, x, y = xmlp.data.load("digits")
    network = xmlp.load(shelf / "digits.safetensors")
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    columns = {**dict(zip(names, x[:50].T.tolist(), strict=True)), "digit": y[:50].tolist()}
    path = table(shelf / "new.csv", columns)
    predicted = read_csv(run("predict", shelf / "digits.safetensors", path).stdout)["prediction"]
    assert [int(name) for name in predicted] == network.predict_label(x[:50]).tolist()


@pytest.mark.parametrize("target", ["price", "kind"])
def test_another_backend_needs_only_the_file(shelf, target):
    model, path = shelf / f"{target}.safetensors", shelf / "houses.csv"
    here, there = (
        json.loads(run("evaluate", model, path, "--json", "--backend", name).stdout)
        for name in ("numpy", "array-api-strict")
    )
    assert {k: pytest.approx(v, rel=1e-5) if isinstance(v, float) else v for k, v in here.items()} == there
    one, other = (
        read_csv(run("predict", model, path, "--backend", name).stdout) for name in ("numpy", "array-api-strict")
    )
    numbers = [name for name in one if name.startswith("p_") or target == "price"]
    for name in numbers:
        assert np.asarray(one[name], float) == pytest.approx(np.asarray(other[name], float), rel=1e-4, abs=1e-6)


def test_a_category_that_was_never_seen_is_none_of_the_known(shelf):
    columns = houses(5)
    columns["hue"] = ["violet"] * 5
    predicted = read_csv(run("predict", shelf / "price.safetensors", table(shelf / "new.csv", columns)).stdout)
    network = xmlp.load(shelf / "price.safetensors")
    x = np.asarray([[columns["size"][i], columns["rooms"][i], 0, 0, 0] for i in range(5)], float)
    assert len(HUES) == 3
    assert np.asarray(predicted["prediction"], float) == pytest.approx(network.predict(x)[:, 0])


def test_names_of_classes_are_quoted_and_cannot_be_formulas(here):
    columns = houses(40)
    names = {"big": '=cmd|"/c calc"!A1', "small": "small, or\nless"}
    columns["kind"] = [names[kind] for kind in columns["kind"]]
    path = table(here / "a.csv", columns)
    run("train", path, "--target", "kind", "--epochs", 2, "--quiet")
    with open("out.csv", "w", newline="") as file:
        file.write(run("predict", "model.safetensors", path).stdout)
    with open("out.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["prediction", "p_" + names["small"], "p_" + names["big"]][:1] + [
        "p_" + n for n in sorted(names.values())
    ]
    assert {row[0] for row in rows} <= {"'" + names["big"], names["small"]}
    text = run("evaluate", "model.safetensors", path).stdout
    assert "small, or\\nless" in text


def test_a_model_cannot_write_to_the_terminal_what_it_likes(here):
    columns = houses(40)
    columns["kind"] = [f"\x1b[31m{kind}" for kind in columns["kind"]]
    path = table(here / "a.csv", columns)
    run("train", path, "--target", "kind", "--epochs", 1, "--quiet")
    result = run("evaluate", "model.safetensors", path)
    assert "\x1b" not in result.stdout
    assert "\\x1b[31mbig" in result.stdout


def test_many_classes_leave_out_the_matrix(here):
    columns = houses(200)
    columns["kind"] = [f"c{i % 40}" for i in range(200)]
    path = table(here / "a.csv", columns)
    run("train", path, "--target", "kind", "--epochs", 1, "--quiet")
    assert len(run("evaluate", "model.safetensors", path).stdout.splitlines()) == 6
    assert np.sum(json.loads(run("evaluate", "model.safetensors", path, "--json").stdout)["confusion_matrix"]) == 200


def test_output_goes_to_a_file_whole(shelf, here):
    expected = run("predict", shelf / "price.safetensors", shelf / "houses.csv").stdout
    for _ in range(2):  # a second time over the first
        result = run("predict", shelf / "price.safetensors", shelf / "houses.csv", "-o", "out.csv")
        assert result.stdout == ""
        assert (here / "out.csv").read_text() == expected
    before = (here / "out.csv").read_bytes()
    (here / "bad.csv").write_text("size,rooms,hue\n1,2,red\n1,two,red\n")
    run("predict", shelf / "price.safetensors", "bad.csv", "-o", "out.csv", code=2)
    assert (here / "out.csv").read_bytes() == before
    assert sorted(p.name for p in here.iterdir()) == ["bad.csv", "out.csv"]


@pytest.mark.parametrize("damage", ["schema", "width", "classes", "link"])
def test_a_table_that_does_not_fit_its_network_is_refused(shelf, here, damage):
    network = xmlp.load(shelf / "kind.safetensors")
    schema = network.metadata["table"]
    if damage == "schema":
        schema["columns"] = "many"
    elif damage == "width":
        schema["columns"].pop()
    elif damage == "classes":
        schema["classes"].append("third")
    else:
        network.link = "identity"
    network.save("model.safetensors")
    result = run("evaluate", "model.safetensors", shelf / "houses.csv", code=2)
    assert "do not fit" in result.stderr or "table schema" in result.stderr
    from xmlp.cli import model

    with pytest.raises(CheckpointError):
        model.load("model.safetensors", "numpy")


def test_kept_columns_have_any_name(shelf):
    columns = {**houses(5), "x,y": range(5), 'a "b"': range(5)}
    path = table(shelf / "names.csv", columns)
    for keep in (['"x,y","a ""b"""'], ["x,y", "--keep", 'a "b"'], [' "x,y" , "a ""b"""']):
        kept = read_csv(run("predict", shelf / "price.safetensors", path, "--keep", *keep).stdout)
        assert [*kept] == ["x,y", 'a "b"', "prediction"]
    told = run("predict", shelf / "price.safetensors", path, "--keep", '"x,y', code=2).stderr
    assert told.startswith('error: --keep: a quote (") stays open')


def test_files_of_other_encodings_and_separators(here):
    text = "größe:ort:y\n" + "".join(f"{i}.5:{'Köln' if i % 2 else 'Bonn'}:{i}.25\n" for i in range(50))
    (here / "a.csv").write_bytes(text.encode("cp1252"))
    how = ("--separator", ":", "--encoding", "cp1252")
    told = run("inspect", "a.csv", code=2).stderr
    assert told.endswith("Save the file as UTF-8, or read it with --encoding cp1252.\n")
    assert "Köln" in run("inspect", "a.csv", "--target", "y", *how).stdout
    run("train", "a.csv", "--target", "y", "--epochs", 1, "--quiet", *how)
    predicted = read_csv(run("predict", "model.safetensors", "a.csv", "--keep", "ort", *how).stdout)
    assert predicted["ort"][:2] == ["Bonn", "Köln"]
    assert json.loads(run("evaluate", "model.safetensors", "a.csv", "--json", *how).stdout)["rows"] == 50
    (here / "b.csv").write_bytes(text.replace(":", "\t").encode("cp1252"))
    for word in ("tab", "\t", "\\t"):
        assert "2 more" not in run("inspect", "b.csv", "--encoding", "cp1252", "--separator", word).stdout


@pytest.mark.parametrize(
    ("option", "wrong", "right", "words"),
    [("--separator", "ab", ";", "one character"), ("--encoding", "utf-9", "cp1252", "'utf-9'")],
)
def test_what_is_no_separator_or_encoding_is_refused(shelf, option, wrong, right, words):
    assert words in run("inspect", shelf / "houses.csv", option, wrong, code=2).stderr
    for without in (("train",), ("evaluate", "digits.safetensors")):
        assert f"{option} is about a CSV file" in run(*without, option, right, code=2).stderr


def test_a_message_about_separators_names_the_option(here):
    (here / "a.csv").write_text("a\n1\n2,3\n")
    assert "by --separator" in run("inspect", "a.csv", code=2).stderr
