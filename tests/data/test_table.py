import copy
import io
import json
import math
import re
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmlp.data import CategoryColumn, NumberColumn, Survey, Table, TableSchema, read_csv
from xmlp.errors import DataError


def table(text, name="t.csv"):
    return read_csv(io.StringIO(text), name=name)


def column_table(*cells, target=None):
    """One column x and a target, without the rules of CSV between."""
    n = len(cells)
    return Table("t.csv", {"x": list(cells), "y": target or ["a", "b"] * (n // 2) + ["a"] * (n % 2)}, range(2, n + 2))


def numbers(count):
    """Numbers that come twice, so that they are no names of rows."""
    return [str(i // 2) for i in range(count)] if count > 2 else ["3", "4"]


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


def test_missing_texts_are_one_category_and_space_around_means_nothing():
    schema = TableSchema.learn(column_table("red", " ", "NA", "red ", "blue"), "y")
    assert schema.feature_names == ("x=blue", "x=red", "x is missing")
    assert schema.features(column_table("  red", "", "\tNA", "?", "none", "green")).tolist() == [
        [0, 1, 0],
        *[[0, 0, 1]] * 4,
        [0, 0, 0],
    ]


def test_codes_and_classes_that_went_through_a_spreadsheet_are_known():
    columns = {"zip": ["02935", "10001", "02935"], "y": ["1", "0", "1"]}
    schema = TableSchema.learn(Table("t.csv", columns, [2, 3, 4]), "y")
    later = Table("t.csv", {"zip": ["2935", "10001.0", "7"], "y": ["1.0", "0.0", "01"]}, [2, 3, 4])
    x, remarks, _ = schema.encode(later)
    assert x.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert remarks == ["column 'zip': 1 of 3 rows hold no category of the training, such as '7'"]
    assert schema.targets(later).tolist() == [1, 0, 1]
    twice = TableSchema("y", "classification", ("a", "b"), (CategoryColumn("zip", ("1", "1.0")),))
    assert twice.features(Table("t.csv", {"zip": ["1", "1.0", "01"]}, [2, 3, 4])).tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("word", ["unknown", "None", "none", "missing", "Na"])
def test_words_among_words_are_categories(word):
    schema = TableSchema.learn(column_table("red", word, "red", word), "y")
    assert set(schema.feature_names) == {"x=red", f"x={word}"}


@pytest.mark.parametrize("cells", [("1", "-2.5"), (" 1 ", "1e3"), ("+0", ".5"), ("1,5", "2")])
def test_what_counts_as_numbers(cells):
    assert TableSchema.learn(column_table(*cells), "y").feature_names == ("x",)


@pytest.mark.parametrize("cells", [("1", "x"), ("1_000", "2"), ("0x10", "1"), ("inf", "text")])
def test_what_does_not(cells):
    assert len(TableSchema.learn(column_table(*cells), "y").feature_names) == 2


@pytest.mark.parametrize("cell", ["", " ", "NA", "NaN", "nan", "null", "?", "N/A", "None", "-", "-nan", "unknown"])
def test_a_missing_number_becomes_the_mean_and_a_feature_unless_it_is_refused(cell):
    train = column_table("1", "2", cell, "6")
    with pytest.raises(DataError, match=r"t\.csv, line 4, column 'x': a number is missing .*learn with missing='mean'"):
        TableSchema.learn(train, "y", missing="refuse")
    schema = TableSchema.learn(train, "y")
    assert schema.columns == (NumberColumn("x", mean=3.0, gaps=True),)
    assert schema.features(train).tolist() == [[1, 0], [2, 0], [3, 1], [6, 0]]
    assert schema.features(column_table(cell, "100")).tolist() == [[3, 1], [100, 0]]


def test_the_mean_is_learnt_even_when_no_training_number_is_missing():
    schema = TableSchema.learn(column_table("1", "2"), "y")
    x, remarks, _ = schema.encode(column_table("?", "4"))
    assert x.tolist() == [[1.5], [4]]
    assert remarks == ["column 'x': 1 of 2 rows have no value, as none had in training; the mean is taken"]
    with pytest.raises(DataError, match="line 2, column 'x': a number is missing"):
        TableSchema.learn(column_table("1", "2"), "y", missing="refuse").features(column_table("?", "?"))


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999"])
def test_infinite_numbers_are_refused(cell):
    for missing in ("refuse", "mean"):
        with pytest.raises(DataError, match=f"line 3, column 'x': expected a finite number, got '{cell}'"):
            TableSchema.learn(column_table("1", cell), "y", missing=missing)
    with pytest.raises(DataError, match=f"line 2, column 'x': expected a finite number, got '{cell}'"):
        TableSchema.learn(column_table("1", "2"), "y").features(column_table(cell))


@pytest.mark.parametrize("cell", ["abc", "1_0", "12 kg", "1,234", "$5", "3%"])
def test_a_text_among_numbers_at_prediction_is_refused(cell):
    with pytest.raises(DataError, match=f"line 3, column 'x': expected a finite number, got {re.escape(repr(cell))}"):
        TableSchema.learn(column_table("1", "2"), "y").features(column_table("1", cell))


@pytest.mark.parametrize("cells", [("", "?", "NA"), ("a", "a", "a"), ("1", "1", "1")])
def test_columns_that_say_nothing_are_left_out(cells):
    with pytest.raises(DataError, match=r"t\.csv: no columns to learn from \(x: (empty|constant), .*columns=\{'NAME'"):
        TableSchema.learn(column_table(*cells), "y")
    both = {"x": cells, "size": ["1", "2", "3"], "y": ["a", "b", "a"]}
    assert TableSchema.learn(Table("t.csv", both, [2, 3, 4]), "y").feature_names == ("size",)


def test_a_thousand_categories_and_no_more():
    names = [f"name {i}" for i in range(1001)]
    assert TableSchema.learn(column_table(*names[:1000] * 2), "y").in_features == 1000
    with pytest.raises(DataError, match=r"x: text, 1001 different texts, more than 1000 categories"):
        TableSchema.learn(column_table(*names * 2), "y")
    most = TableSchema.learn(column_table(*names * 2, *names[:1000]), "y", columns={"x": "category"})
    assert most.feature_names == tuple(f"x={name}" for name in sorted(names[:1000]))


def test_a_text_among_numbers_is_refused_with_its_line_and_the_way_out():
    cells = ["1", "2", "?", "oops", *map(str, range(3, 1100))]
    said = r"line 5, column 'x': .* got 'oops', where 1099 of 1100 cells .*columns={'x': 'category'}"
    with pytest.raises(DataError, match=said):
        TableSchema.learn(column_table(*cells), "y")


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
    schema = TableSchema.learn(column_table(*numbers(len(cells)), target=cells), "y")
    assert (schema.task, schema.classes) == (task, classes)


def test_the_task_can_be_given():
    ages = column_table("0", "1", "5", target=["1", "2", "10"])
    as_numbers = TableSchema.learn(ages, "y", "regression")
    assert as_numbers.targets(ages).tolist() == [1, 2, 10]
    years = column_table(*numbers(42), target=[str(i) for i in range(42)])
    as_classes = TableSchema.learn(years, "y", "classification")
    assert as_classes.targets(years).tolist() == list(range(42))
    assert as_classes.targets(years).dtype == np.int64
    with pytest.raises(ValueError, match=r"unknown task 'regresion'. Did you mean 'regression'"):
        TableSchema.learn(ages, "y", "regresion")
    with pytest.raises(ValueError, match="unknown way with missing values 'median'"):
        TableSchema.learn(ages, "y", missing="median")


@pytest.mark.parametrize(
    ("cells", "task", "words"),
    [
        (["", "?", "NA"], None, "column 'y': no row has a target"),
        (["2024-01-02", "2024-01-03"], None, "column 'y': the target is of dates"),
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
        TableSchema.learn(column_table(*numbers(len(cells)), target=cells), "y", task)


@pytest.mark.parametrize(
    ("cells", "line"), [(["a", "", "b", "a"], 3), (["1.5", "2", "unknown", "7"], 4), (["1", "2", "?", "1"], 4)]
)
def test_rows_without_a_target_are_left_out_or_refused(cells, line):
    rows = column_table(*numbers(len(cells)), target=cells)
    found = Survey.of(rows, "y")
    assert found.kept.tolist() == [i for i in range(4) if i != line - 2]
    assert len(TableSchema.learn(rows, "y").targets(rows.take(found.kept))) == 3
    with pytest.raises(DataError, match=f"line {line}, column 'y': the target is missing; remove the row"):
        TableSchema.learn(rows, "y", missing="refuse")


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


@pytest.mark.parametrize("cell", ["", "NA", " - "])
@pytest.mark.parametrize(
    ("cells", "what"),
    [(["red", "blue"], "category"), (["1.5", "2.5"], "number"), (["2024-01-05", "2024-02-06"], "date")],
)
def test_what_was_to_be_refused_in_training_is_refused_later(cells, what, cell):
    strict = TableSchema.learn(column_table(*cells), "y", missing="refuse")
    later = column_table(cells[0], cell)
    with pytest.raises(DataError, match=rf"line 3, column 'x': a {what} is missing \('{cell}'\), which is refused"):
        strict.features(later)
    assert TableSchema.learn(column_table(*cells), "y").features(later).shape[0] == 2


def test_a_category_that_was_never_seen_is_no_missing_one():
    strict = TableSchema.learn(column_table("red", "blue"), "y", missing="refuse")
    found = strict.encode(column_table("red", "unknown"))
    assert found.x.tolist() == [[0, 1], [0, 0]]
    assert len(found.remarks) == 1


def test_a_model_from_before_categories_could_be_strict_is_read():
    schema = TableSchema.learn(column_table("red", "blue"), "y")
    data = schema.to_json()
    del data["columns"][0]["strict"]
    assert TableSchema.from_json(data) == schema


def test_kinds_come_from_the_whole_table_and_means_from_the_rows_to_train_on():
    columns = {"x": ["1", "2", "NA", "300"], "hue": ["red", "red", "blue", ""], "y": ["a", "b", "a", "c"]}
    rows = Table("t.csv", columns, [2, 3, 4, 5])
    schema = TableSchema.of(Survey.of(rows, "y"), rows.take([0, 1]))
    assert schema.columns == (NumberColumn("x", 1.5, gaps=True), CategoryColumn("hue", ("blue", "red"), gaps=True))
    assert schema.classes == ("a", "b", "c")
    assert schema.features(rows.take([2])).tolist() == [[1.5, 1, 1, 0, 0]]


def test_the_features_that_are_0_or_1_are_known():
    columns = {"x": ["1", "2", "NA"], "hue": ["red", "blue", "red"], "when": ["2024-01-05", "2024-03-05", ""]}
    schema = TableSchema.learn(Table("t.csv", {**columns, "y": ["a", "b", "a"]}, [2, 3, 4]), "y")
    x = schema.features(Table("t.csv", columns, [2, 3, 4]))
    plain = [name for name, true in zip(schema.feature_names, schema.indicators, strict=True) if not true]
    assert plain == ["x", "when"]
    assert np.isin(x[:, schema.indicators], (0, 1)).all()


def test_no_rows_make_arrays_without_rows():
    schema = TableSchema.learn(table(HOUSES), "price")
    assert schema.features(table(HOUSES).take([])).shape == (0, 5)
    assert schema.targets(table(HOUSES).take([])).shape == (0,)


MIXED = """a,hue,when,kind,y
"1,5 €",NA,2.1.2024 10:00,big,"1.234,5"
"2,5 €",red,,small,"7,1"
"3,5 €",red,31.1.2024,big,"0,25"
"""
SCHEMAS = [
    TableSchema.learn(table(HOUSES), "price"),
    TableSchema.learn(table(HOUSES), "heating", missing="refuse"),
    TableSchema.learn(column_table("ü", "=x"), "y"),
    TableSchema.learn(table(MIXED), "y"),
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
        (["target"], "hue"),
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
        (["version"], 1),
        (["version"], "2"),
        (["version"], True),
        (["target_format"], None),
        (["target_format", "decimal"], ";"),
        (["target_format", "group"], "_"),
        (["target_format", "unit"], "x" * 31),
        (["target_format", "more"], 1),
        (["columns", 0], {"name": "a"}),
        (["columns", 0, "kind"], "sound"),
        (["columns", 0, "kind"], None),
        (["columns", 0, "more"], 1),
        (["columns", 0, "name"], "hue"),
        (["columns", 0, "name"], ""),
        (["columns", 0, "name"], 5),
        (["columns", 0, "mean"], 1),
        (["columns", 0, "mean"], True),
        (["columns", 0, "mean"], "1.0"),
        (["columns", 0, "mean"], math.nan),
        (["columns", 0, "mean"], math.inf),
        (["columns", 0, "gaps"], 1),
        (["columns", 0, "format"], None),
        (["columns", 0, "format", "decimal"], ["."]),
        (["columns", 0, "format", "group"], "\ud800"),
        (["columns", 1, "gaps"], None),
        (["columns", 1, "categories"], []),
        (["columns", 1, "categories"], ["b", "a"]),
        (["columns", 1, "categories"], ["a", "a"]),
        (["columns", 1, "categories"], ["a", 1]),
        (["columns", 1, "categories"], ["a", ["b"]]),
        (["columns", 1, "categories"], "ab"),
        (["columns", 1, "categories"], [f"{i:05}" for i in range(1001)]),
        (["columns", 2, "layout"], "%Y"),
        (["columns", 2, "layout"], ["time"]),
        (["columns", 2, "origin"], None),
        (["columns", 2, "origin"], 10**400),
        (["columns", 2, "origin"], 1e300),
        (["columns", 2, "parts"], ["hour", "year"]),
        (["columns", 2, "parts"], ["second"]),
        (["columns", 2, "parts"], [["year"]]),
        (["columns", 2, "strict"], 0),
        (["more"], 1),
    ],
)
def test_json_that_is_not_a_schema_is_refused(path, value):
    good = TableSchema.learn(table(MIXED), "kind").to_json()
    TableSchema.from_json(good)
    with pytest.raises(ValueError, match=r"^table schema: "):
        TableSchema.from_json(at(good, path, value))


def test_json_of_the_first_version_is_read():
    """It had no version, numbers only as computers write them, and few spellings of missing."""
    columns = [
        {"name": "a", "categories": None, "mean": 1.5},
        {"name": "b", "categories": ["", "NA", "red"], "mean": None},
        {"name": "c", "categories": None, "mean": None},
    ]
    data = {"target": "y", "task": "classification", "classes": ["-", "N/A"], "columns": columns}
    schema = TableSchema.from_json(data)
    rows = Table("t.csv", {"a": ["NA", "2"], "b": ["", "None"], "c": ["1", "2"], "y": ["-", "N/A"]}, [2, 3])
    assert schema.features(rows).tolist() == [[1.5, 1, 0, 0, 1], [2, 0, 0, 0, 2]]
    assert schema.targets(rows).tolist() == [0, 1]
    assert schema.labelled(rows).tolist() == [0, 1]
    with pytest.raises(DataError, match="line 2, column 'c': a number is missing"):
        schema.features(Table("t.csv", {"a": ["1"], "b": [""], "c": ["NA"]}, [2]))
    for bad in ({**columns[0], "more": 1}, {**columns[1], "mean": 1.0}, {**columns[1], "categories": []}, columns[1:]):
        with pytest.raises(ValueError, match=r"^table schema: "):
            TableSchema.from_json({**data, "columns": [bad]})


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


TEXTS = (
    "",
    "1",
    "-2.5",
    "?",
    "inf",
    "nan",
    "red",
    " blue",
    "1_0",
    "1e999",
    "=1",
    "1,5",
    "$1,234.50",
    "(3)",
    "5 %",
    "007",
)
DATES = (
    "2024-01-02",
    "31/12/2024",
    "12/31/2024",
    "10:30",
    "2024-01-02T10:00:00Z",
    "2 Jan 2024",
    "20240102",
    "0000-00-00",
)
CELLS = st.sampled_from(TEXTS + DATES) | st.text(max_size=3)


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
    features, targets = schema.features(data), schema.targets(data.take(schema.labelled(data)))
    assert features.shape == (len(rows), len(schema.feature_names))
    assert np.isfinite(features).all()
    assert np.isfinite(targets).all()
    assert TableSchema.from_json(schema.to_json()) == schema


def test_cells_that_read_in_two_ways_are_told():
    """A file that went through another program: one row alone reads as in training, with another beside it plainly."""
    written = ["1.234,50", "2.000,25", "900,00", "1.100,75"]
    schema = TableSchema.learn(column_table(*written), "y")
    for cells, said in (
        (["900.125"], "is read as in training (decimal comma, points between thousands): 900.125 is 900125"),
        (["900.125", "2500.5"], "is read plainly, unlike in training: 900.125 is 900.125"),
        (["2500.5"], "is read plainly, unlike in training: 2500.5 is 2500.5"),
    ):
        _, remarks, _ = schema.encode(column_table(*cells))
        assert any(said in remark for remark in remarks), remarks
    assert not schema.encode(column_table("1.234,50", "3,25")).remarks
    assert not schema.encode(column_table("900", "12")).remarks


@pytest.mark.parametrize(
    ("learnt", "later", "odd"),
    [
        (["5%", "7%"], ["5%", "0.12"], "0.12"),
        (["5%", "7%"], ["0.12", "5%", "6 %", "7%"], "0.12"),
        (["0.12", "0.5"], ["0.12", "5%"], "5%"),
        (["5 kg", "7 kg"], ["8 kg", "9 g"], "9 g"),
        (["5%", "7%"], ["1.5", "2 €"], "2 €"),
    ],
)
def test_a_mixture_of_units_is_refused_at_prediction(learnt, later, odd):
    schema = TableSchema.learn(column_table(*learnt), "y")
    line = 2 + later.index(odd)
    with pytest.raises(DataError, match=rf"line {line}, column 'x': expected a finite number.* got '{re.escape(odd)}'"):
        schema.features(column_table(*later))


@pytest.mark.parametrize("later", [["5%", "12 %"], ["5", "12"], ["5%", "NA", "12%"]])
def test_a_column_may_have_the_unit_of_the_training_or_none(later):
    schema = TableSchema.learn(column_table("5%", "7%"), "y")
    assert schema.features(column_table(*later))[[0, -1], 0].tolist() == [5, 12]


NO, NEW = (
    "have no value, as none had in training; no category is taken",
    "hold no category of the training, such as 'pink'",
)
WORD = "hold a word such as 'unknown', which counts as missing"
WITHOUT, WITH = ("red", "blue", "red", "blue"), ("red", "blue", "NA", "red")


@pytest.mark.parametrize("by", ["library", "file"])
@pytest.mark.parametrize(
    ("training", "new", "features", "remarks"),
    [
        (WITHOUT, ("red", "blue"), [[0, 1], [1, 0]], []),
        (WITHOUT, ("", "blue"), [[0, 0], [1, 0]], ["1 of 2 rows " + NO]),
        (WITHOUT, ("pink", "blue"), [[0, 0], [1, 0]], ["1 of 2 rows " + NEW]),
        (WITHOUT, ("pink", "NA", "-"), [[0, 0]] * 3, ["2 of 3 rows " + NO, "1 of 3 rows " + NEW]),
        (WITH, ("red", "blue"), [[0, 1, 0], [1, 0, 0]], []),
        (WITH, ("", "blue"), [[0, 0, 1], [1, 0, 0]], []),
        (WITH, ("pink", "blue"), [[0, 0, 0], [1, 0, 0]], ["1 of 2 rows " + NEW]),
        (WITH, ("pink", "NA", "-"), [[0, 0, 0], [0, 0, 1], [0, 0, 1]], ["1 of 3 rows " + NEW]),
        (
            WITH,
            ("pink", "", "unknown"),
            [[0, 0, 0], [0, 0, 1], [0, 0, 1]],
            ["1 of 3 rows " + WORD, "1 of 3 rows " + NEW],
        ),
        (WITHOUT, ("pink", "+", "-"), [[0, 0]] * 3, ["1 of 3 rows " + NO, "2 of 3 rows " + NEW]),
        (WITH, ("pink", "+", "-"), [[0, 0, 0], [0, 0, 0], [0, 0, 1]], ["2 of 3 rows " + NEW]),
        (("+", "red") * 2, ("-", "", "red"), [[0, 0], [0, 0], [0, 1]], ["1 of 3 rows " + NO, "1 of 3 rows " + NEW]),
        (("+", "", "+"), ("-", "", "+"), [[0, 0], [0, 1], [1, 0]], ["1 of 3 rows " + NEW]),
    ],
)
def test_gaps_and_new_categories_are_one_thing_each_whatever_stands_beside_them(by, training, new, features, remarks):
    """A gap is 1 in the feature for gaps or nowhere, a new category nowhere; both are told, one after the other."""
    schema = TableSchema.learn(column_table(*training), "y")
    later = column_table(*new)
    if by == "file":
        later = read_csv(io.StringIO("x,y\n" + "".join(f"{cell},a\n" for cell in new)))
    found = schema.encode(later)
    assert found.x.tolist() == features
    assert [re.sub("such as '[-+]'", "such as 'pink'", text) for text in found.remarks] == [
        f"column 'x': {r}" for r in remarks
    ]
    strict = TableSchema.from_json(json.loads(json.dumps(schema.to_json())))
    if training is WITHOUT:
        strict = TableSchema.learn(column_table(*training), "y", missing="refuse")
        gap = any(NO in remark for remark in remarks)
        with pytest.raises(DataError, match="column 'x': a category is missing") if gap else nullcontext():
            assert strict.encode(later).remarks == found.remarks
        return
    assert strict.encode(later).x.tolist() == features


def test_a_word_that_counts_as_a_missing_category_is_said():
    schema = TableSchema.learn(column_table("red", "blue", "", "red"), "y")
    found = schema.encode(column_table("red", "unknown", "NA", "None", "pink"))
    assert found.x.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert found.remarks == [
        "column 'x': 2 of 5 rows hold a word such as 'unknown', which counts as missing",
        "column 'x': 1 of 5 rows hold no category of the training, such as 'pink'",
    ]
    assert not schema.encode(column_table("red", "NA")).remarks
    known = TableSchema.learn(column_table("red", "unknown", "", "red"), "y")
    assert known.encode(column_table("unknown", "NA")).remarks == []
    assert known.features(column_table("unknown", "NA")).tolist() == [[0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("cells", "classes", "labelled"),
    [
        (("(3)", "0000-00-00", "1"), ("(3)", "1"), [0, 2]),
        (("3 %", "unknown", "1 %"), ("1 %", "3 %"), [0, 2]),
        (("3", "none", "1", "3"), ("1", "3"), [0, 2, 3]),
        (("red", "none", "blue"), ("blue", "none", "red"), [0, 1, 2]),
        (("red", "", "blue"), ("blue", "red"), [0, 2]),
    ],
)
def test_what_has_no_class_in_training_is_not_labelled_either(cells, classes, labelled):
    """Words such as `none` say that there is no number, however the numbers are written; among words they are words."""
    table = column_table(*map(str, range(len(cells))), target=list(cells))
    schema = TableSchema.learn(table, "y", "classification")
    assert schema.classes == classes
    assert schema.labelled(table).tolist() == labelled
    assert len(schema.targets(table.take(schema.labelled(table)))) == len(labelled)
