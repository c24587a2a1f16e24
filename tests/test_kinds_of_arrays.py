"""Numbers in whatever holds numbers give NumPy's result; what only looks like numbers is refused in words."""

import array
import datetime
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest

import xmlp

A = np.asarray([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [1.0, 1.0], [3.0, -2.0]])
COUNTS = np.abs(A) * 4  # whole numbers that are not negative: for each role
Maker = Callable[[Any], Any]


class Kind(NamedTuple):
    """How to hold a NumPy array, and the words that refuse it; none if it gives NumPy's result."""

    made: Maker
    words: str = ""


class OnlyDLPack:
    """An array of a library that nobody knows."""

    def __init__(self, values: Any):
        self._values = values

    def __dlpack__(self, **kw: Any) -> Any:
        return self._values.__dlpack__(**kw)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()


class SparseWithoutSciPy:
    """As the package `sparse` makes them."""

    def __init__(self, values: Any):
        self.shape, self.ndim, self.dtype, self.nnz = values.shape, values.ndim, values.dtype, values.size

    def todense(self) -> None: ...

    def __array__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("cannot convert to dense automatically")

    def __len__(self) -> int:
        return int(self.shape[0])


def lists(function: Callable[[Any], Any]) -> Maker:
    """Nested lists of what the function makes of each number."""
    return lambda a: np.vectorize(function, otypes=[object])(a).tolist()


def library(name: str, made: Callable[[Any, Any], Any]) -> Maker:
    return lambda a: made(pytest.importorskip(name), a)


def frame(dtype: Any = None) -> Maker:
    """A data frame of pandas, or a series."""

    def made(pd: Any, a: Any) -> Any:
        kind = pd.Series(a) if a.ndim == 1 else pd.DataFrame(a, columns=["a", "b"])
        return kind if dtype is None else kind.astype(dtype)

    return library("pandas", made)


def columns(name: str, of_one: Callable[[Any, Any], Any], of_all: Callable[[Any, Any], Any]) -> Maker:
    """Columns of a library, and a table of them: a and b."""

    def made(module: Any, a: Any) -> Any:
        if a.ndim == 1:
            return of_one(module, a)
        return of_all(module, {"a": of_one(module, a[:, 0]), "b": of_one(module, a[:, 1])})

    return library(name, made)


def pandas_columns(of_one: Callable[[Any, Any], Any]) -> Maker:
    return columns("pandas", of_one, lambda pd, named: pd.DataFrame(named))


def polars_columns(of_one: Callable[[Any, Any], Any]) -> Maker:
    return columns("polars", of_one, lambda pl, named: pl.DataFrame(named))


def arrow_columns(of_one: Callable[[Any, Any], Any]) -> Maker:
    return columns("pyarrow", of_one, lambda pa, named: pa.table(named))


def tensor(function: Callable[[Any, Any], Any]) -> Maker:
    return library("torch", function)


def extended(name: str) -> Maker:
    return library("ml_dtypes", lambda ml, a: a.astype(getattr(ml, name)))


def negative(torch: Any, a: Any) -> Any:
    """A view whose memory holds the numbers with the other sign, and a bit that says so."""
    view = torch.tensor(-1j * a, dtype=torch.complex64).conj().imag
    assert view.is_neg()
    return view


DATES, DAY = "holds dates", np.datetime64("2024-01-01")
KINDS: dict[str, Kind] = {
    "list": Kind(lambda a: a.tolist()),
    "tuple": Kind(lambda a: tuple(map(tuple, a)) if a.ndim == 2 else tuple(a)),
    "objects": Kind(lambda a: a.astype(object)),
    "texts of numbers": Kind(lambda a: a.astype(str)),
    "Decimal": Kind(lists(lambda x: Decimal(str(x)))),
    "Fraction": Kind(lists(Fraction)),
    "memoryview": Kind(lambda a: memoryview(np.ascontiguousarray(a))),
    "array.array": Kind(lambda a: [array.array("d", row) for row in a] if a.ndim == 2 else array.array("d", a)),
    "long double": Kind(lambda a: a.astype(np.longdouble)),
    "other byte order": Kind(lambda a: a.astype(a.dtype.newbyteorder())),
    "columns first": Kind(np.asfortranarray),
    "unsigned": Kind(lambda a: (a * 1).astype(np.uint64)),
    "bfloat16": Kind(extended("bfloat16")),
    "float8": Kind(extended("float8_e5m2")),
    "DLPack alone": Kind(OnlyDLPack),
    "pandas": Kind(frame()),
    "pandas Float64": Kind(frame("Float64")),
    "pandas Int64": Kind(frame("Int64")),
    "pandas categories": Kind(pandas_columns(lambda pd, a: pd.Series(pd.Categorical(a)))),
    "pandas sparse": Kind(library("pandas", lambda pd, a: frame(pd.SparseDtype("float"))(a))),
    "polars": Kind(polars_columns(lambda pl, a: pl.Series(a))),
    "polars Int64": Kind(polars_columns(lambda pl, a: pl.Series(a.astype(int)))),
    "polars Decimal": Kind(polars_columns(lambda pl, a: pl.Series([Decimal(str(x)) for x in a]))),
    "Arrow": Kind(arrow_columns(lambda pa, a: pa.array(a))),
    "Arrow in chunks": Kind(arrow_columns(lambda pa, a: pa.chunked_array([a[:2], a[2:]]))),
    "Arrow int32": Kind(arrow_columns(lambda pa, a: pa.array(a.astype(np.int32)))),
    "torch": Kind(tensor(lambda torch, a: torch.tensor(a, dtype=torch.float32))),
    "torch int64": Kind(tensor(lambda torch, a: torch.tensor(a).to(torch.int64))),
    "torch with a gradient": Kind(tensor(lambda torch, a: torch.tensor(a.astype("f4"), requires_grad=True))),
    "torch transposed": Kind(tensor(lambda torch, a: torch.tensor(a.T.copy(), dtype=torch.float32).mT if a.ndim == 2
                                    else torch.tensor(a.astype("f4")))),
    "torch negative": Kind(tensor(negative)),
    "jax": Kind(library("jax.numpy", lambda jnp, a: jnp.asarray(a, dtype="float32"))),
    # --- refused ---
    "dates": Kind(lambda a: DAY + a.astype("m8[D]"), DATES),
    "durations": Kind(lambda a: a.astype("m8[s]"), DATES),
    "datetimes in a list": Kind(lists(lambda _: datetime.datetime(2024, 1, 1)), DATES),
    "dates among numbers": Kind(lists(lambda x: datetime.date(2024, 1, 1) if x == 4 else x), DATES),
    "pandas dates": Kind(pandas_columns(lambda pd, a: pd.Series(pd.date_range("2024", periods=len(a)))), DATES),
    "pandas time zone": Kind(
        pandas_columns(lambda pd, a: pd.Series(pd.date_range("2024", periods=len(a), tz="UTC"))), DATES
    ),
    "pandas durations": Kind(
        pandas_columns(lambda pd, a: pd.Series(pd.timedelta_range("1D", periods=len(a)))), DATES
    ),
    "pandas periods": Kind(pandas_columns(lambda pd, a: pd.Series(pd.period_range("2024", periods=len(a)))), DATES),
    "pandas timestamps": Kind(library("pandas", lambda pd, a: lists(lambda _: pd.Timestamp("2024"))(a)), DATES),
    "polars dates": Kind(polars_columns(lambda pl, a: pl.Series([datetime.date(2024, 1, 1)] * len(a))), DATES),
    "polars datetimes": Kind(polars_columns(lambda pl, a: pl.Series([datetime.datetime(2024, 1, 1)] * len(a))), DATES),
    "polars durations": Kind(polars_columns(lambda pl, a: pl.Series([datetime.timedelta(1)] * len(a))), DATES),
    "Arrow dates": Kind(arrow_columns(lambda pa, a: pa.array([datetime.date(2024, 1, 1)] * len(a))), DATES),
    "Arrow timestamps": Kind(arrow_columns(lambda pa, a: pa.array([datetime.datetime(2024, 1, 1)] * len(a))), DATES),
    "polars lazily": Kind(library("polars", lambda pl, a: pl.DataFrame(a).lazy()), r"rows are not computed.*collect"),
    "complex": Kind(lambda a: a + 1j, "(?i)complex"),
    "torch complex": Kind(tensor(lambda torch, a: torch.tensor(a + 1j)), "(?i)complex"),
    "torch conjugate": Kind(tensor(lambda torch, a: torch.tensor(a + 1j).conj()), "(?i)complex"),
    "torch sparse": Kind(tensor(lambda torch, a: torch.tensor(a).to_sparse()), r"sparse tensor .*to_dense\(\)"),
    "sparse of another package": Kind(SparseWithoutSciPy, r"sparse matrix; pass .*\.todense\(\)"),
    "generator": Kind(lambda a: (row for row in a), "is a generator, which gives its items one by one"),
    "map": Kind(lambda a: map(np.asarray, a), "is a map, which gives its items one by one"),
    "iterator": Kind(lambda a: iter(a.tolist()), "is a list_iterator, which gives its items one by one"),
    "capsule": Kind(lambda a: np.ascontiguousarray(a).__dlpack__(), "is a DLPack capsule"),
    "set": Kind(lambda a: set(a.reshape(-1)), "is a set, which has no order"),
    "values of a dict": Kind(lambda a: dict(enumerate(a)).values(), "is a dict_values, which has no order"),
    "dict": Kind(lambda a: {"a": a}, "a dict, to an array"),
    "words": Kind(lists(lambda _: "word"), "could not convert string to float"),
    "polars words": Kind(polars_columns(lambda pl, a: pl.Series(["word"] * len(a))), "convert string to float"),
    "pandas word categories": Kind(
        pandas_columns(lambda pd, a: pd.Series(pd.Categorical(["word"] * len(a)))), "convert string to float"
    ),
}  # fmt: skip


def network() -> xmlp.Network:
    return xmlp.mlp([2, 3, 1], "tanh", seed=1)


ROLES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "predict": (lambda x: network().predict(x), COUNTS),
    "x of a loss": (lambda x: network().loss_value(x, A[:, :1], "squared_error"), COUNTS),
    "y of a loss": (lambda y: network().loss_value(COUNTS, y, "squared_error"), COUNTS[:, 0]),
    "weights of a loss": (
        lambda w: network().loss_value(COUNTS, A[:, 0], "squared_error", sample_weight=w), COUNTS[:, 0]
    ),
    "X of an estimator": (lambda x: regressor().fit(x, A[:, 0]).predict(x), COUNTS),
    "y of an estimator": (lambda y: regressor().fit(COUNTS, y).predict(COUNTS), COUNTS[:, 0]),
    "weights of an estimator": (
        lambda w: regressor().fit(COUNTS, A[:, 0], sample_weight=w).predict(COUNTS), COUNTS[:, 0]
    ),
}  # fmt: skip


def regressor() -> xmlp.MLPRegressor:
    return xmlp.MLPRegressor((3,), max_iter=1, random_state=0, dtype="float64")


def host(result: Any) -> Any:
    return result.detach().numpy() if hasattr(result, "detach") else np.asarray(result)


def mixed(role: str, kind: str) -> bool:
    """Whether the call would mix arrays of two libraries, which a network refuses."""
    return role in ("x of a loss", "y of a loss") and kind.startswith(("torch", "jax"))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_or_words(kind: str, role: str) -> None:
    (made, words), (call, values) = KINDS[kind], ROLES[role]
    if mixed(role, kind):
        pytest.skip("x and y of two libraries")
    if kind == "DLPack alone" and role in ("y of an estimator", "weights of an estimator"):
        words = "Expected sequence or array-like"  # of scikit-learn
    given = made(values)
    if words:
        with pytest.raises((TypeError, ValueError), match=words) as caught:
            call(given)
        assert type(caught.value) in (TypeError, ValueError)
        return
    assert np.allclose(host(call(given)), host(call(values)), rtol=1e-4, atol=1e-5)


def test_missing_values_of_pandas() -> None:
    """As features they are refused with their place, as targets they are missing, as NaN is."""
    pd = pytest.importorskip("pandas")
    known = np.asarray([1.0, np.nan, 3.0, 4.0, 5.0])
    for dtype in ("Float64", "Int64"):
        y = pd.Series([1, None, 3, 4, 5], dtype=dtype)
        expected = network().loss_value(COUNTS, known, "squared_error")
        assert float(network().loss_value(COUNTS, y, "squared_error")) == float(expected)
        assert np.array_equal(
            regressor().fit(COUNTS, y).predict(COUNTS), regressor().fit(COUNTS, known).predict(COUNTS)
        )
        x = pd.DataFrame({"a": y, "b": 1.0})
        with pytest.raises(ValueError, match=r"x holds a missing value, <NA>, in row 1, column 'a'\. Drop"):
            network().predict(x)
        with pytest.raises(ValueError, match="NaN"):
            regressor().fit(x, known)


@pytest.mark.parametrize("missing", [None, float("nan"), "pandas"])
def test_missing_labels_among_words(missing: Any) -> None:
    missing = pytest.importorskip("pandas").NA if missing == "pandas" else missing
    y = np.asarray(["cat", "dog", missing, "cat", "dog"], object)
    with pytest.raises(
        ValueError, match=r"y holds a missing label, (None|nan|<NA>), in row 2\. Drop such rows, or mask"
    ):
        xmlp.MLPClassifier((3,), max_iter=1).fit(COUNTS, y)
    masked = np.ma.masked_array(y, [False, False, True, False, False])
    found = xmlp.MLPClassifier((3,), max_iter=1, random_state=0).fit(COUNTS, masked)
    assert found.classes_.tolist() == ["cat", "dog"]


@pytest.mark.parametrize("labels", [["cat", "dog"] * 3, [True, False] * 3, [3, 5] * 3])
def test_labels_of_any_kind(labels: Any) -> None:
    pd, x = pytest.importorskip("pandas"), np.arange(12.0).reshape(6, 2)
    expected = xmlp.MLPClassifier((3,), max_iter=1, random_state=0).fit(x, np.asarray(labels))
    kinds = [labels, pd.Series(labels), pd.Series(pd.Categorical(labels)), np.asarray(labels, object)]
    for module in ("polars", "pyarrow"):
        try:
            library = __import__(module)
        except ImportError:
            continue
        kinds.append(library.Series(labels) if module == "polars" else library.array(labels))
    for y in kinds:
        found = xmlp.MLPClassifier((3,), max_iter=1, random_state=0).fit(x, y)
        assert found.classes_.tolist() == expected.classes_.tolist()
        assert np.array_equal(found.predict_proba(x), expected.predict_proba(x))


def test_names_of_features_of_other_frames() -> None:
    pl = pytest.importorskip("polars")
    x = pl.DataFrame({"a": COUNTS[:, 0], "b": COUNTS[:, 1]})
    assert regressor().fit(x, A[:, 0]).feature_names_in_.tolist() == ["a", "b"]


def test_batches_of_other_libraries() -> None:
    """A stream of tensors, as a loader gives them."""
    torch = pytest.importorskip("torch")
    batches = [(torch.tensor(COUNTS, dtype=torch.float32), torch.tensor(A[:, :1], dtype=torch.float32))]
    plain = [(COUNTS, A[:, :1])]
    one, other = network(), network()
    one.fit(batches, epochs=2, loss="squared_error")
    other.fit(plain, epochs=2, loss="squared_error")
    assert np.allclose(one.theta, other.theta, atol=1e-6)


def test_metrics_read_them_too() -> None:
    torch = pytest.importorskip("torch")
    expected = xmlp.metrics.mae(COUNTS, A)
    assert xmlp.metrics.mae(negative(torch, COUNTS), torch.tensor(A)) == pytest.approx(expected)
