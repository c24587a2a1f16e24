import copy
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmlp.data import Column, Table, TableSchema, read_csv
from xmlp.errors import DataError


def table(text, name="t.csv"):
    return read_csv(io.StringIO(text), name=name)


def column_table(*cells, target=None):
    """One column x and a target, without the rules of CSV between."""
    n = len(cells)
    return Table("t.csv", {"x": list(cells), "y": target or ["a", "b"] * (n // 2) + ["a"] * (n % 2)}, range(2, n + 2))


HOUSES = """area,heating,rooms,price
50,gas,2,100.5
80,oil,3,180.25
120,gas,5,300
65,"wood, oil",3,150
"""


def test_numbers_and_categories_become_features_in_the_order_of_the_file():
    schema = TableSchema.learn(table(HOUSES), "price")
    assert (schema.task, schema.classes, schema.target) == ("regression", (), "price")
    assert schema.feature_names == ("area", "heating=gas", "heating=oil", "heating=wood, oil", "rooms")
    x = schema.features(table(HOUSES))
    assert x.dtype == np.float64
    assert schema.in_features == x.shape[1] == 5
    assert x.tolist() == [[50, 1, 0, 0, 2], [80, 0, 1, 0, 3], [120, 1, 0, 0, 5], [65, 0, 0, 1, 3]]
    y = schema.targets(table(HOUSES))
    assert (y.dtype, y.tolist()) == (np.float64, [100.5, 180.25, 300, 150])


def test_columns_are_found_by_name_and_strange_ones_ignored():
    schema = TableSchema.learn(table(HOUSES), "price")
    other = table("note,rooms,heating,area\n?,4,oil,70\n,1,gas,20\n")
    assert schema.features(other).tolist() == [[70, 0, 1, 0, 4], [20, 1, 0, 0, 1]]


def test_a_category_that_was_never_seen_is_all_zeros():
    schema = TableSchema.learn(table(HOUSES), "price")
    assert schema.features(table("area,heating,rooms\n1,solar,1\n")).tolist() == [[1, 0, 0, 0, 1]]


def test_missing_texts_are_categories_like_any_other_and_space_around_means_nothing():
    schema = TableSchema.learn(column_table("red", " ", "NA", "red "), "y")
    assert schema.feature_names == ("x=", "x=NA", "x=red")
    assert schema.features(column_table("  red", "", "\tNA", "?")).tolist() == [
        [0, 0, 1],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 0],
    ]


def test_a_constant_category_is_fine():
    assert TableSchema.learn(column_table("a", "a"), "y").feature_names == ("x=a",)


@pytest.mark.parametrize("cells", [("1", "-2.5"), (" 1 ", "1e3"), ("+0", ".5"), ("1", "")])
def test_what_counts_as_numbers(cells):
    assert TableSchema.learn(column_table(*cells), "y", missing="mean").feature_names == ("x",)


@pytest.mark.parametrize("cells", [("1", "x"), ("1_000", "2"), ("0x10", "1"), ("1,5", "2"), ("inf", "text")])
def test_what_does_not(cells):
    assert len(TableSchema.learn(column_table(*cells), "y").feature_names) == 2


@pytest.mark.parametrize("cell", ["", " ", "NA", "NaN", "nan", "null", "?"])
def test_a_missing_number_is_refused_unless_the_mean_is_asked_for(cell):
    train = column_table("1", "2", cell, "6")
    with pytest.raises(DataError, match=r"t\.csv, line 4, column 'x': a number is missing .*missing='mean'"):
        TableSchema.learn(train, "y")
    schema = TableSchema.learn(train, "y", missing="mean")
    assert schema.columns == (Column("x", mean=3.0),)
    assert schema.features(train)[:, 0].tolist() == [1, 2, 3, 6]
    assert schema.features(column_table(cell, "100"))[:, 0].tolist() == [3, 100]


def test_the_mean_is_learnt_even_when_no_training_number_is_missing():
    schema = TableSchema.learn(column_table("1", "2"), "y", missing="mean")
    assert schema.features(column_table("?", "?"))[:, 0].tolist() == [1.5, 1.5]
    with pytest.raises(DataError, match="line 2, column 'x': a number is missing"):
        TableSchema.learn(column_table("1", "2"), "y").features(column_table("?", "?"))


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "-nan"])
def test_infinite_numbers_are_refused(cell):
    for missing in ("refuse", "mean"):
        with pytest.raises(DataError, match=f"line 3, column 'x': expected a finite number, got '{cell}'"):
            TableSchema.learn(column_table("1", cell), "y", missing=missing)
    with pytest.raises(DataError, match=f"line 2, column 'x': expected a finite number, got '{cell}'"):
        TableSchema.learn(column_table("1", "2"), "y").features(column_table(cell))


@pytest.mark.parametrize("cell", ["abc", "1_0", "12 kg"])
def test_a_text_among_numbers_at_prediction_is_refused(cell):
    with pytest.raises(DataError, match=f"line 3, column 'x': expected a finite number, got '{cell}'"):
        TableSchema.learn(column_table("1", "2"), "y").features(column_table("1", cell))


def test_a_column_without_any_value_is_refused():
    with pytest.raises(DataError, match=r"t\.csv, column 'x': every cell is missing; remove the column"):
        TableSchema.learn(column_table("", "?", "NA"), "y", missing="mean")


def test_a_thousand_categories_and_no_more():
    names = [f"id{i}" for i in range(1001)]
    assert TableSchema.learn(column_table(*names[:1000]), "y").in_features == 1000
    with pytest.raises(DataError, match=r"column 'x': 1001 categories, more than 1000.*identifier.*'id0' in line 2 is"):
        TableSchema.learn(column_table(*names), "y")
    with pytest.raises(DataError, match=r"'oops' in line 5 is none"):
        TableSchema.learn(column_table("1", "2", "?", "oops", *map(str, range(3, 1100))), "y")


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        (["no", "yes", "no"], "classification", ("no", "yes")),
        (["10", "9", "2"], "classification", ("2", "9", "10")),
        (["-1", " 1", "-1 "], "classification", ("-1", "1")),
        (["2.0", "1.0"], "classification", ("1.0", "2.0")),
        ([str(i) for i in range(20)], "classification", tuple(str(i) for i in range(20))),
        ([str(i) for i in range(21)], "regression", ()),
        (["1", "1.5"], "regression", ()),
        ([f"c{i}" for i in range(30)], "classification", tuple(sorted(f"c{i}" for i in range(30)))),
        (["1", "2", "other"], "classification", ("1", "2", "other")),
    ],
)
def test_the_task_is_inferred_from_the_target(cells, task, classes):
    schema = TableSchema.learn(column_table(*["0"] * len(cells), target=cells), "y")
    assert (schema.task, schema.classes) == (task, classes)


def test_the_task_can_be_given():
    ages = column_table("0", "1", "2", target=["1", "2", "10"])
    as_numbers = TableSchema.learn(ages, "y", "regression")
    assert as_numbers.targets(ages).tolist() == [1, 2, 10]
    years = column_table(*"0" * 42, target=[str(i) for i in range(42)])
    as_classes = TableSchema.learn(years, "y", "classification")
    assert as_classes.targets(years).tolist() == list(range(42))
    assert as_classes.targets(years).dtype == np.int64
    with pytest.raises(ValueError, match=r"unknown task 'regresion'. Did you mean 'regression'"):
        TableSchema.learn(ages, "y", "regresion")
    with pytest.raises(ValueError, match="unknown way with missing numbers 'median'"):
        TableSchema.learn(ages, "y", missing="median")


@pytest.mark.parametrize(
    ("cells", "task", "words"),
    [
        (["a", "", "b"], None, "line 3, column 'y': the target is missing; remove the row"),
        (["1", "2", "?"], None, "line 4, column 'y': the target is missing"),
        (["a", "a", "a "], None, "column 'y': all rows are of one class, 'a'"),
        (["1", "1", "1"], None, "column 'y': all rows are of one class, '1'"),
        (["1", "2", "x"], "regression", "line 4, column 'y': expected a finite number, got 'x'"),
        (["1", "inf", "2"], None, "line 3, column 'y': expected a finite number, got 'inf'"),
        (["1", "1.0", "2"], None, "column 'y': two classes are one number in two spellings"),
        ([f"c{i}" for i in range(10_001)], None, "column 'y': 10001 classes in 10001 rows, more than 10000"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(cells, task, words):
    with pytest.raises(DataError, match=r"t\.csv, " + words):
        TableSchema.learn(column_table(*["0"] * len(cells), target=cells), "y", task)


def test_absent_columns_are_named_with_a_guess():
    houses = table(HOUSES)
    with pytest.raises(
        DataError, match=r"the target: unknown column 'prices'. Did you mean 'price'\? Known: area, heat"
    ):
        TableSchema.learn(houses, "prices")
    schema = TableSchema.learn(houses, "price")
    with pytest.raises(
        DataError, match=r"unknown column 'heating'. Did you mean 'heatin'.* 2 columns .*: heating, rooms"
    ):
        schema.features(table("area,heatin\n1,gas\n"))
    with pytest.raises(DataError, match="cannot find the target: unknown column 'price'"):
        schema.targets(table("area\n1\n"))
    with pytest.raises(DataError, match="column 'a': no columns besides the target"):
        TableSchema.learn(table("a\n1\n2\n"), "a")
    with pytest.raises(DataError, match="no rows to learn from"):
        TableSchema.learn(houses.take([]), "price")


def test_the_message_about_a_column_of_a_very_wide_table_is_short():
    wide = Table("w.csv", {f"c{i}": ["1"] for i in range(100_000)}, [2])
    for target in ("zzz", "c_99"):
        with pytest.raises(DataError) as caught:
            TableSchema.learn(wide, target)
        assert len(str(caught.value)) < 1000
    assert "Did you mean 'c99'" in str(caught.value)


def test_a_class_that_was_never_seen_is_refused():
    schema = TableSchema.learn(column_table("1", "2", target=["cat", "dog"]), "y")
    with pytest.raises(DataError, match="line 3, column 'y': unknown class 'cow'"):
        schema.targets(column_table("1", "2", target=["dog", "cow"]))
    with pytest.raises(DataError, match="line 2, column 'y': the target is missing"):
        schema.targets(column_table("1", "2", target=["?", "cat"]))
    assert schema.targets(column_table("1", "2", target=["dog ", "cat"])).tolist() == [1, 0]


def test_learning_sees_only_the_rows_taken():
    rows = column_table("1", "2", "300", "red", target=["a", "b", "a", "c"])
    schema = TableSchema.learn(rows.take([0, 1]), "y", missing="mean")
    assert (schema.columns, schema.classes) == ((Column("x", mean=1.5),), ("a", "b"))
    with pytest.raises(DataError, match="line 5, column 'x'"):
        schema.features(rows.take([2, 3]))


def test_no_rows_make_arrays_without_rows():
    schema = TableSchema.learn(table(HOUSES), "price")
    assert schema.features(table(HOUSES).take([])).shape == (0, 5)
    assert schema.targets(table(HOUSES).take([])).shape == (0,)


SCHEMAS = [
    TableSchema.learn(table(HOUSES), "price", missing="mean"),
    TableSchema.learn(table(HOUSES), "heating"),
    TableSchema.learn(column_table("ü", "=x"), "y"),
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_json_holds_everything(schema):
    data = schema.to_json()
    assert TableSchema.from_json(data) == TableSchema.from_json(json.loads(json.dumps(data))) == schema


def at(data, path, value):
    data = copy.deepcopy(data)
    *parents, last = path
    place = data
    for key in parents:
        place = place[key]
    place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["target"], None),
        (["target"], " "),
        (["target"], "area"),
        (["target"], "\ud800"),
        (["task"], "ranking"),
        (["task"], ["classification"]),
        (["task"], "regression"),
        (["classes"], ["gas"]),
        (["classes"], []),
        (["classes"], None),
        (["classes"], "gas"),
        (["classes"], {"gas": 1, "oil": 2}),
        (["classes"], ["gas", "gas"]),
        (["classes"], ["gas", 1]),
        (["classes"], ["gas", "?"]),
        (["classes"], ["gas", " oil"]),
        (["classes"], [str(i) for i in range(10_001)]),
        (["columns"], []),
        (["columns"], {}),
        (["columns"], [1]),
        (["columns", 0], {"name": "area"}),
        (["columns", 0], {"name": "area", "categories": None, "mean": None, "more": 1}),
        (["columns", 0, "name"], "rooms"),
        (["columns", 0, "name"], ""),
        (["columns", 0, "name"], 5),
        (["columns", 0, "mean"], 1),
        (["columns", 0, "mean"], True),
        (["columns", 0, "mean"], "1.0"),
        (["columns", 0, "mean"], math.nan),
        (["columns", 0, "mean"], math.inf),
        (["columns", 0, "categories"], []),
        (["columns", 0, "categories"], ["b", "a"]),
        (["columns", 0, "categories"], ["a", "a"]),
        (["columns", 0, "categories"], ["a", 1]),
        (["columns", 0, "categories"], ["a", ["b"]]),
        (["columns", 0, "categories"], "ab"),
        (["columns", 0, "categories"], [f"{i:05}" for i in range(1001)]),
        (["columns", 0], {"name": "area", "categories": ["a"], "mean": 1.0}),
        (["more"], 1),
    ],
)
def test_json_that_is_not_a_schema_is_refused(path, value):
    good = TableSchema.learn(table(HOUSES), "heating").to_json()
    TableSchema.from_json(good)
    with pytest.raises(ValueError, match=r"^table schema: "):
        TableSchema.from_json(at(good, path, value))


def test_json_of_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"^table schema: the task is 'ranking', not one of classification, reg"):
        TableSchema.from_json({**SCHEMAS[0].to_json(), "task": "ranking"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["target", "task", "classes", "columns", "name", "categories", "mean"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([[], ["target"], ["classes"], ["columns"], ["columns", 0], ["columns", 0, "categories"]]),
    JSON,
)
def test_any_json_is_a_schema_or_refused(path, value):
    data = at(TableSchema.learn(table(HOUSES), "heating").to_json(), path, value) if path else value
    try:
        schema = TableSchema.from_json(data)
    except ValueError as error:
        assert str(error).startswith("table schema: ")  # noqa: PT017
    else:
        assert TableSchema.from_json(schema.to_json()) == schema


CELLS = st.sampled_from(["", "1", "-2.5", "?", "inf", "nan", "red", " blue", "1_0", "1e999", "=1"]) | st.text(
    max_size=3
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from(["refuse", "mean"]))
def test_any_cells_become_finite_arrays_or_are_refused(rows, missing):
    x, y = zip(*rows, strict=True)
    data = Table("t.csv", {"x": x, "y": y}, range(2, len(rows) + 2))
    try:
        schema = TableSchema.learn(data, "y", missing=missing)
    except DataError as error:
        assert str(error).startswith("t.csv")  # noqa: PT017
        return
    features, targets = schema.features(data), schema.targets(data)
    assert features.shape == (len(rows), len(schema.feature_names))
    assert np.isfinite(features).all()
    assert np.isfinite(targets).all()
    assert TableSchema.from_json(schema.to_json()) == schema
