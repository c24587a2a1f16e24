import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmlp.data import mean_and_scale


def exact(column):
    """Mean and population variance as fractions."""
    values = [Fraction(value) for value in column.tolist()]
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def relative_errors(x):
    mean, scale = mean_and_scale(x)
    for column, m, s in zip(x.T, mean.tolist(), scale.tolist(), strict=True):
        exact_mean, variance = exact(column)
        yield float(abs(Fraction(m) - exact_mean) / abs(exact_mean))
        yield float(abs(Fraction(s) ** 2 - variance) / variance) / 2


@pytest.mark.parametrize("size", [1.0, 1e300, 1e-300, -1e150])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e8, 1e15])
@pytest.mark.parametrize("n", [2, 3, 17, 5000])
def test_mean_and_scale_are_exact_to_the_last_bits(n, offset, size):
    if abs(offset * size) > 1e308:
        size /= 1e15
    x = (np.random.default_rng(n).standard_normal((n, 3)) + offset) * size
    assert max(relative_errors(x)) < 4e-16


@pytest.mark.parametrize("n", [4097, 40_001])
def test_mean_agrees_with_fsum_where_terms_cancel(n):
    x = np.random.default_rng(0).standard_normal((n, 2)) + 1
    x[:, 1] *= 1e12
    x[-1] = [1e-9, 1e-3] - x[:-1].sum(axis=0)  # what is left of the sum is rounding
    mean, _ = mean_and_scale(x)
    assert mean.tolist() == [math.fsum(column) / n for column in x.T.tolist()]


def test_blocks_are_invisible():
    """70000 rows are many blocks, the last one shorter."""
    x = np.random.default_rng(1).standard_normal((70_000, 1)) + 3
    assert max(relative_errors(x)) < 4e-16


def test_mixed_magnitudes_in_one_matrix():
    x = np.array([[1e300, 1e-300, 5e-324, 1.0], [-1e300, 3e-300, 0.0, 2.0]])
    mean, scale = mean_and_scale(x)
    np.testing.assert_array_equal(mean[[0, 3]], [0.0, 1.5])
    np.testing.assert_allclose(mean[1], 2e-300, rtol=1e-15)
    np.testing.assert_allclose(scale, [1e300, 1e-300, 5e-324, 0.5], rtol=1e-15)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e300, 5e-324, 1 / 3])
@pytest.mark.parametrize("n", [1, 3, 10_007])
def test_a_constant_column_keeps_its_value_and_gets_scale_1(n, value):
    x = np.stack((np.full(n, value), np.arange(n)), axis=1)
    mean, scale = mean_and_scale(x)
    assert (mean[0], scale[0]) == (value, 1.0)


def test_one_deviating_row_is_not_lost():
    x = np.ones((1000, 1))
    x[17] += 2.0**-52
    assert max(relative_errors(x)) < 1e-15


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "uint64", "float16", "float32", "float64", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_real_dtypes_and_orders_give_the_result_of_float64(dtype, order):
    x = np.asarray(np.random.default_rng(2).integers(0, 200, (513, 5)).astype(dtype), order=order)
    x.flags.writeable = False
    for got, expected in zip(mean_and_scale(x), mean_and_scale(x.astype(np.float64, order="C")), strict=True):
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)


def test_integer_images_are_never_copied_to_float64():
    x = np.random.default_rng(3).integers(0, 256, (20_000, 784), dtype=np.uint8)
    tracemalloc.start()
    mean, scale = mean_and_scale(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # a copy would be 125 MB
    np.testing.assert_array_equal(mean, x.sum(axis=0, dtype=np.int64) / len(x))
    np.testing.assert_allclose(scale, x.std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_not_finite_is_named(bad):
    x = np.zeros((5, 3), np.float32)
    x[2, 1] = x[4, 0] = bad
    with pytest.raises(ValueError, match=rf"got {bad} in row 2, column 1 .*; 2 of 15 numbers"):
        mean_and_scale(x)


def test_infinities_of_both_signs_are_refused_without_a_warning():
    with pytest.raises(ValueError, match="got inf in row 0, column 0"):
        mean_and_scale(np.array([[np.inf], [-np.inf]]))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 3, 4), ()])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected x of shape \(N, features\) with N >= 1, got \("):
        mean_and_scale(np.zeros(shape))


@pytest.mark.parametrize("dtype", ["complex128", "object", "U3", "datetime64[s]"])
def test_wrong_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="expected real numbers"):
        mean_and_scale(np.zeros((2, 2), dtype))


def test_no_features_have_no_mean():
    assert [part.shape for part in mean_and_scale(np.zeros((3, 0)))] == [(0,), (0,)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_any_finite_column_gets_a_finite_mean_within_and_a_positive_scale(values):
    mean, scale = mean_and_scale(np.array(values)[:, None])
    spread = max(values) / 2 - min(values) / 2
    assert min(values) <= mean[0] <= max(values)
    assert 0 < scale[0] < math.inf
    assert scale[0] == 1 or scale[0] / 2 <= spread * (1 + 1e-15)
