"""Distinct integers are found by native code, whose results tell extents in mid-step."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("index", [tf.int32, tf.int64])
def test_values_numbers_and_counts_in_the_order_of_first_places(dtype: type, index: tf.DType) -> None:
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(dtype, [None])
        y, places, counts = tf.unique_with_counts(x, index)
        call = session.make_callable([y, places, counts, tf.size(y), y + y], [x])
        for length in (0, 1, 2, 7, 300):
            for distinct in (1, 5, 120):
                given = rng.integers(0, distinct, length).astype(dtype)
                if np.dtype(dtype).itemsize > 2:
                    given *= np.array(1024, dtype)
                found, where, many, size, doubled = call(given)
                values, first, times = np.unique(given, return_index=True, return_counts=True)
                order = np.argsort(first)
                np.testing.assert_array_equal(found, values[order])
                np.testing.assert_array_equal(found[where], given)
                np.testing.assert_array_equal(many, times[order])
                np.testing.assert_array_equal(doubled, found + found)
                assert size == len(values) and found.dtype == dtype
                assert where.dtype == many.dtype == index.as_numpy_dtype


def test_no_python_runs_in_the_step() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.int32, [None])
        call = session.make_callable(tf.reduce_sum(tf.unique(x)[0]), [x])
        assert call(np.array([5, 2, 5], np.int32)) == 7
        assert "host" not in str(call.explain()) and "distinct" in str(call.explain())


def test_the_number_of_values_alone() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.int64, [None])
        call = session.make_callable(tf.size(tf.unique(x)[0]), [x])
        assert [call(np.array(each, np.int64)) for each in ([], [4], [4, 4, -9, 4])] == [0, 1, 2]


def test_in_loops_and_branches() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.int32, [None])
        _, total = tf.while_loop(
            lambda i, t: i < 4, lambda i, t: (i + 1, t + tf.reduce_sum(tf.unique(x // (i + 1))[0])), [0, 0]
        )
        either = tf.cond(x[0] > 1, lambda: tf.reduce_sum(tf.unique(x)[0]), lambda: x[0])
        call = session.make_callable([total, either], [x])
        for given in ([1, 1, 2, 6], [5, 5, 5], [9, 1, 9, 2, 2]):
            array = np.array(given, np.int32)
            sums = [np.unique(array // i).sum() for i in range(1, 5)]
            assert call(array) == [sum(sums), np.unique(array).sum() if given[0] > 1 else given[0]]


def test_distinct_values_of_distinct_values() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.int32, [None])
        y, _ = tf.unique(x)
        z, places = tf.unique(y // 10)
        call = session.make_callable([y, z, places], [x])
        y_, z_, places_ = call(np.array([31, 5, 38, 31, 7, 20], np.int32))
        assert (y_.tolist(), z_.tolist(), places_.tolist()) == ([31, 5, 38, 7, 20], [3, 0, 2], [0, 1, 0, 1, 2])


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean"])
def test_segments_numbered_by_distinct_values(name: str) -> None:
    rng = np.random.default_rng(1)
    with tf.Graph().as_default(), tf.Session() as session:
        x, data = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.float32, [None, 3])
        y, places = tf.unique(x)
        joined = getattr(tf, f"unsorted_segment_{name}")(data, places, tf.size(y))
        call = session.make_callable([y, joined], [x, data])
        given, rows = rng.integers(0, 6, 40, np.int32), rng.normal(size=(40, 3)).astype(np.float32)
        values, found = call(given, rows)
        join = getattr(np, name)
        np.testing.assert_allclose(found, [join(rows[given == each], 0) for each in values], rtol=1e-5)
        assert "host" not in str(call.explain())


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_rows_of_negative_ids_are_left_out(name: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        data, ids = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.int64, [None])
        call = session.make_callable(getattr(tf, f"unsorted_segment_{name}")(data, ids, 2), [data, ids])
        rows = np.array([[2, 3], [4, -1], [7, 7]], np.float32)
        expected = getattr(np, name)(rows[:2], 0)
        np.testing.assert_allclose(call(rows, np.array([1, 1, -5]))[1], expected)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"segment_ids\[2\] = 2 is out of range \[0, 2\)"):
            call(rows, np.array([1, 1, 2]))
