"""map_fn, scan, foldl and foldr."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf

ROWS = np.array([1.0, 2.0, 3.0])


@pytest.fixture(autouse=True)
def session():
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def rows(value=ROWS):
    """A tensor whose number of rows only the step knows."""
    return tf.placeholder_with_default(np.asarray(value), [None, *np.shape(value)[1:]])


def test_map(session):
    assert session.run(tf.map_fn(lambda x: x * x, rows())).tolist() == [1, 4, 9]
    assert session.run(tf.map_fn(lambda x: x * x, tf.zeros([0, 2]))).shape == (0, 2)
    assert session.run(tf.map_fn(lambda x: x * x, rows(np.zeros([0, 2])))).shape == (0, 2)


def test_map_structures(session):
    out = tf.map_fn(lambda e: {"s": e["a"] + e["b"][0], "i": tf.cast(e["a"], tf.int32)},
                    {"a": rows(), "b": [rows() * 10.0]}, dtype={"s": tf.float64, "i": tf.int32})  # fmt: skip
    found = session.run(out)
    assert found["s"].tolist() == [11, 22, 33] and found["i"].tolist() == [1, 2, 3]
    pair = tf.map_fn(lambda x: (x, [x * 2.0]), rows(), dtype=(tf.float64, [tf.float64]))
    assert session.run(pair[1][0]).tolist() == [2, 4, 6]
    assert session.run(tf.map_fn(lambda x: tf.cast(x, tf.int64), rows(), fn_output_signature=tf.int64)).dtype == np.int64


def test_map_shapes(session):
    assert tf.map_fn(lambda x: tf.stack([x, x]), tf.constant(ROWS)).shape.as_list() == [3, 2]
    assert tf.map_fn(lambda x: tf.stack([x, x]), rows()).shape.as_list() == [None, 2]
    width = tf.placeholder(tf.int32, [])
    wide = tf.map_fn(lambda x: tf.fill([width], x), rows())
    assert session.run(wide, {width: 2}).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert session.run(wide, {width: 4}).shape == (3, 4)


def test_rows_of_differing_lengths_fail(session):
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(tf.map_fn(lambda x: tf.ones([tf.cast(x, tf.int32)], tf.float64), rows()))


def test_map_inside_a_branch_and_a_map(session):
    table = rows([[1.0, 2.0], [3.0, 4.0]])
    nested = tf.map_fn(lambda row: tf.map_fn(lambda x: x * 10.0, row), table)
    chosen = tf.cond(tf.placeholder_with_default(True, []), lambda: nested + tf.map_fn(lambda r: r, table), lambda: table)
    assert session.run(chosen).tolist() == [[11, 22], [33, 44]]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: tf.map_fn(3, ROWS), TypeError),
        (lambda: tf.map_fn(lambda x: x, tf.constant(1.0)), ValueError),
        (lambda: tf.map_fn(lambda x: x, []), ValueError),
        (lambda: tf.map_fn(lambda x: (x, x), ROWS), ValueError),
        (lambda: tf.map_fn(lambda x: tf.cast(x, tf.int32), ROWS), ValueError),
        (lambda: tf.map_fn(lambda x: None, ROWS), ValueError),
        (lambda: tf.map_fn(lambda x: x[0], (ROWS, ROWS[:2]), dtype=tf.float64), ValueError),
        (lambda: tf.scan(3, ROWS), TypeError),
        (lambda: tf.scan(lambda a, x: (a, x), ROWS), ValueError),
        (lambda: tf.scan(lambda a, x: tf.stack([a, x]), ROWS, initializer=tf.constant(1.0, tf.float64)), ValueError),
        (lambda: tf.foldl(lambda a, x: (a, x), ROWS), ValueError),
    ],
)
def test_errors(call, error):
    with pytest.raises(error):
        call()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("initializer", [None, 10.0])
def test_scan(session, reverse, initializer):
    start = None if initializer is None else tf.constant(initializer, tf.float64)
    out = tf.scan(lambda a, x: a * 2.0 + x, rows(), initializer=start, reverse=reverse)
    order = ROWS[::-1] if reverse else ROWS
    values, total = [], initializer
    for x in order:
        total = x if total is None else total * 2 + x
        values.append(total)
    assert session.run(out).tolist() == (values[::-1] if reverse else values)


def test_scan_structures(session):
    first, second = tf.scan(lambda a, x: (a[0] + x, a[1] * x), rows(), initializer=(np.float64(0), np.float64(1)))
    assert session.run([first, second])[1].tolist() == [1, 2, 6]
    pair = tf.scan(lambda a, x: (a[0] + x[0], a[1] * x[1]), (rows(), rows()))
    assert session.run(pair)[0].tolist() == [1, 3, 6]


def test_folds(session):
    assert session.run(tf.foldl(lambda a, x: a * 10 + x, rows([1, 2, 3]))) == 123
    assert session.run(tf.foldr(lambda a, x: a * 10 + x, rows([1, 2, 3]))) == 321
    assert session.run(tf.foldl(lambda a, x: a - x, rows(), initializer=np.float64(10))) == 4
    assert tf.foldl(lambda a, x: a + x, tf.ones([3, 2])).shape.as_list() == [2]


def test_nothing_to_begin_with(session):
    empty = rows(np.zeros([0]))
    for out in (tf.scan(lambda a, x: a + x, empty), tf.foldl(lambda a, x: a + x, empty)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(out)
    assert session.run(tf.foldl(lambda a, x: a + x, empty, initializer=np.float64(3))) == 3
    assert session.run(tf.scan(lambda a, x: a + x, empty, initializer=np.float64(3))).shape == (0,)


def test_gradients(session):
    x = rows()
    (of_map,) = tf.gradients(tf.map_fn(lambda v: v * v * v, x), x)
    (of_scan,) = tf.gradients(tf.scan(lambda a, v: a * v, x), x)
    (of_fold,) = tf.gradients(tf.foldr(lambda a, v: a * v, x), x)
    (second,) = tf.gradients(of_map, x)
    found = session.run([of_map, of_scan, of_fold, second])
    assert [each.tolist() for each in found] == [[3, 12, 27], [9, 4, 2], [6, 3, 2], [6, 12, 18]]
    assert all(isinstance(each, tf.Tensor) for each in (of_map, of_scan))
    assert tf.gradients(tf.map_fn(lambda v: v * v, x, back_prop=False), x) == [None]
