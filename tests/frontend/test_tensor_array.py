"""TensorArray: writing, reading, many at once, errors, loops, gradients."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def session():
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def array(size, dtype=tf.float32, **options):
    return tf.TensorArray(dtype, size, **options)


def test_write_and_read(session):
    ta = array(3).write(2, [3.0]).write(0, [1.0])
    assert session.run(ta.stack()).tolist() == [[1], [0], [3]], "what was not written is zero"
    assert session.run([ta.read(2), ta.size()])[0].tolist() == [3]
    assert ta.stack().shape.as_list() == [3, 1] and ta.read(0).shape.as_list() == [1]
    assert session.run(ta.gather([2, 2, 0])).tolist() == [[3], [3], [1]]
    assert session.run(ta.concat()).tolist() == [1, 0, 3]
    assert session.run(ta.identity().stack()).tolist() == [[1], [0], [3]]
    assert session.run(ta.close()) is None


def test_writes_give_new_arrays(session):
    ta = array(2, tf.int32)
    one, two = ta.write(0, 1), ta.write(0, 2)
    assert [each.tolist() for each in session.run([one.stack(), two.stack()])] == [[1, 0], [2, 0]]


def test_attributes():
    ta = array(3, element_shape=[2, None], dynamic_size=True)
    assert ta.dtype == tf.float32 and ta.dynamic_size and ta.element_shape.as_list() == [2, None]
    assert array(3).element_shape.ndims is None
    assert array(3).write(0, [1.0]).element_shape.as_list() == [1]


def test_unstack(session):
    assert session.run(array(3, tf.int32).unstack([4, 5, 6]).read(1)) == 5
    assert session.run(array(5, tf.int32).unstack([4, 5]).stack()).tolist() == [4, 5, 0, 0, 0]
    assert session.run(array(0, tf.int32, dynamic_size=True).unstack([4, 5]).size()) == 2
    x = tf.placeholder(tf.float32, [None, 2])
    assert session.run(array(tf.shape(x)[0]).unstack(x).read(1), {x: [[1, 2], [3, 4]]}).tolist() == [3, 4]


def test_scatter(session):
    assert session.run(array(3, tf.int32).scatter([2, 0], [7, 8]).stack()).tolist() == [8, 0, 7]
    assert session.run(array(1, tf.int32, dynamic_size=True).scatter([2, 0], [7, 8]).stack()).tolist() == [8, 0, 7]


def test_split(session):
    even = array(2, tf.int32).split([1, 2, 3, 4], [2, 2])
    assert session.run(even.stack()).tolist() == [[1, 2], [3, 4]]
    ragged = array(2, tf.int32, infer_shape=False).split([1, 2, 3], [1, 2])
    assert session.run(ragged.read(1)).tolist() == [2, 3] and session.run(ragged.read(0)).tolist() == [1]
    assert session.run(ragged.concat()).tolist() == [1, 2, 3]


def test_elements_of_differing_lengths(session):
    ta = array(2, infer_shape=False).write(0, [1.0]).write(1, [2.0, 3.0])
    assert session.run(ta.read(0)).tolist() == [1] and session.run(ta.read(1)).tolist() == [2, 3]
    assert session.run(ta.concat()).tolist() == [1, 2, 3]
    with pytest.raises(tf.errors.InvalidArgumentError, match="inconsistent shapes"):
        session.run(ta.stack())


def test_growing(session):
    ta = array(1, tf.int32, dynamic_size=True).write(3, 5)
    assert session.run(ta.stack()).tolist() == [0, 0, 0, 5] and session.run(ta.size()) == 4


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: array(2).write(5, 1.0).flow, "index 5"),
        (lambda: array(2).write(-1, 1.0).stack(), "index -1"),
        (lambda: array(2).write(0, 1.0).write(0, 2.0).stack(), "index 0 because it has already been written to"),
        (lambda: array(2, dynamic_size=True).write(0, 1.0).write(0, 2.0).stack(), "already been written to"),
        (lambda: array(3).scatter([1, 1], [1.0, 2.0]).stack(), "index 1 because it has already been written to"),
        (lambda: array(2).unstack([1.0, 2.0]).write(0, 1.0).stack(), "already been written to"),
        (lambda: array(2).unstack([1.0, 2.0]).read(2), "index 2 but array size is: 2"),
        (lambda: array(2).unstack([1.0, 2.0, 3.0]).stack(), "must be < array size"),
        (lambda: array(3).split([1.0, 2.0], [1, 1]).stack(), "size of lengths"),
        (lambda: array(2).split([1.0, 2.0, 3.0], [1, 2]).stack(), "inferred element shape"),
        (lambda: array(2).stack(), "not fully defined"),
    ],
)
def test_errors_of_the_step(session, build, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        session.run(build())


def test_shapes_that_only_the_step_knows(session):
    a, b = (tf.placeholder(tf.float32, [None]) for _ in range(2))
    out = array(2).write(0, a).write(1, b).stack()
    assert session.run(out, {a: [1, 2], b: [3, 4]}).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="inferred element shape"):
        session.run(out, {a: [1, 2], b: [3]})


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: tf.TensorArray(tf.float32), ValueError),
        (lambda: tf.TensorArray(tf.float32, 3, handle=array(3).handle), ValueError),
        (lambda: array(3).write(0, [1.0]).write(1, [1.0, 2.0]), ValueError),
        (lambda: array(3, element_shape=[3]).write(0, [1.0]), ValueError),
        (lambda: array(3).write(0, tf.constant(1)), ValueError),
        (lambda: array(3).write([0], 1.0), ValueError),
        (lambda: array(3).write(0.0, 1.0), TypeError),
    ],
)
def test_errors_of_building(build, error):
    with pytest.raises(error):
        build()


# --- Loops and branches ---


def test_loop(session):
    n = tf.placeholder(tf.int32, [])
    ta = tf.while_loop(lambda i, t: i < n, lambda i, t: (i + 1, t.write(i, i * i)), (0, array(n, tf.int32)))[1]
    assert session.run(ta.stack(), {n: 4}).tolist() == [0, 1, 4, 9]
    assert session.run(ta.stack(), {n: 0}).tolist() == []


def test_loop_finds_the_shape_of_elements(session):
    ta = tf.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t.write(i, [1.0, 2.0])), (0, array(3)))[1]
    assert ta.stack().shape.as_list() == [3, 2]
    x = tf.placeholder(tf.float32, [None])
    _, ta, _ = tf.while_loop(lambda i, t, a: i < 3, lambda i, t, a: (i + 1, t.write(i, a), a * 2.0), (0, array(3), x))
    assert session.run(ta.stack(), {x: [1, 2]}).tolist() == [[1, 2], [2, 4], [4, 8]]
    assert session.run(ta.stack(), {x: [1]}).tolist() == [[1], [2], [4]]


def test_loop_that_grows_an_array(session):
    grown = array(0, tf.int32, dynamic_size=True)
    ta = tf.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t.write(i, [i, i])), (0, grown))[1]
    assert session.run(ta.stack()).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_loop_that_writes_in_a_branch(session):
    def body(i, t):
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: t.write(i // 2, [i, i]), lambda: t)

    ta = tf.while_loop(lambda i, t: i < 4, body, (0, array(2, tf.int32)))[1]
    assert session.run(ta.stack()).tolist() == [[0, 0], [2, 2]]


def test_loop_that_writes_twice(session):
    ta = tf.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t.write(i // 2, i)), (0, array(2, tf.int32)))[1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="index 0 because it has already been written to"):
        session.run(ta.stack())


def test_array_from_a_branch(session):
    p = tf.placeholder(tf.bool, [])
    ta = tf.cond(p, lambda: array(2).unstack([1.0, 2.0]), lambda: array(2).write(0, 5.0))
    assert session.run(ta.stack(), {p: True}).tolist() == [1, 2]
    assert session.run(ta.stack(), {p: False}).tolist() == [5, 0]


# --- Gradients ---


def test_gradients(session):
    x = tf.constant([1.0, 2.0, 3.0])
    ta = array(3).unstack(x * x)
    written = array(2).write(0, x[0] * x[1]).write(1, x[2])
    y = ta.read(0) + 2.0 * ta.read(2) + tf.reduce_sum(written.stack() * [3.0, 4.0])
    assert session.run(tf.gradients(y, x)[0]).tolist() == [2 + 6, 3, 12 + 4]
    assert isinstance(tf.gradients(y, x)[0], tf.Tensor)


def test_gradients_through_a_loop(session):
    x = tf.constant([1.0, 2.0, 3.0])
    rows = array(3).unstack(x)

    def body(i, out, s):
        return i + 1, out.write(i, rows.read(i) * s), s * 2.0

    out = tf.while_loop(lambda i, out, s: i < 3, body, (0, array(3), x[0]))[1]
    (first,) = tf.gradients(out.stack(), x)
    assert session.run(first).tolist() == [18, 2, 4]
    assert session.run(tf.gradients(first * first, x)[0]).tolist() == [2 * (18 * 2 + 2 * 2 + 4 * 4), 2 * 18 * 2, 2 * 18 * 4]


def test_gradients_of_an_array_read_and_written(session):
    x = tf.constant(3.0)
    begun = array(4, clear_after_read=False).write(0, x)
    out = tf.while_loop(lambda i, t: i < 4, lambda i, t: (i + 1, t.write(i, t.read(i - 1) * x)), (1, begun))[1]
    assert session.run(tf.gradients(out.read(3), x)) == [108.0]
    assert session.run(tf.gradients(out.stack(), x)) == [1 + 6 + 27 + 108.0]


def test_array_of_gradients(session):
    ta = array(2).unstack([1.0, 2.0])
    grads = ta.grad("g").write(0, 5.0).write(0, 2.0)
    assert session.run(grads.stack()).tolist() == [7, 0]


def test_strings(session):
    ta = array(2, tf.string).write(1, "b")
    assert session.run(ta.stack()).tolist() == [b"", b"b"]
    assert np.asarray(session.run(ta.read(1))).item() == b"b"


def test_sizes_that_are_none() -> None:
    with pytest.raises(ValueError, match="Shape must be rank 0"):
        tf.TensorArray(tf.float32, [2])
    with pytest.raises(ValueError, match="slice index 0"):
        tf.TensorArray(tf.float32, 2).unstack(tf.constant(1.0))
    lengths = tf.placeholder_with_default([1, 1], [2])
    parts = tf.TensorArray(tf.float32, 2, infer_shape=False).split([1.0, 2.0, 3.0], lengths)
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match="sum of lengths"):
        session.run(parts.concat())
