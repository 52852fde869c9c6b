"""Slices at indices that the step computes: native, checked, with gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

VALUE = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as g:
        yield g


def numpy_index(at: Any) -> dict[str, Any]:
    every = slice(None)
    return {
        "row": (at,), "column": (every, at), "with a known one": (at, every, 0), "around an ellipsis": (at, ..., at),
        "with a new axis": (at, None), "last but one": (every, at, None),
    }  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", numpy_index(0))
def test_elements(name: str, known: bool) -> None:
    x, i = tf.placeholder(tf.float32, VALUE.shape if known else [None] * 3), tf.placeholder(tf.int32, [])
    part = x[numpy_index(i)[name]]
    (grad,) = tf.gradients(tf.square(part), x)
    with tf.Session() as session:
        call = session.make_callable([part, grad], [x, i])
        for at in (0, 2, -1, -3):
            found, slope = call(VALUE, np.int32(at))
            want = np.zeros_like(VALUE)
            index = numpy_index(at)[name]
            want[index] = 2 * VALUE[index]
            np.testing.assert_array_equal(found, VALUE[index])
            np.testing.assert_array_equal(slope, want)
        (program,) = call.explain().programs
        assert not program.host_ops
        for at in (7, -9):
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"slice index {at} of dimension . out of bounds"):
                call(VALUE, np.int32(at))


def test_parts() -> None:
    x, at = tf.placeholder(tf.float32, [None, None, 4]), tf.placeholder(tf.int32, [3])
    with tf.Session() as session:
        call = session.make_callable(tf.slice(x, at, [2, 1, 4]), [x, at])
        np.testing.assert_array_equal(call(VALUE, np.array([3, 2, 0], np.int32)), VALUE[3:5, 2:3])
        (program,) = call.explain().programs
        assert not program.host_ops
        for begin, text in (
            ([6, 0, 0], r"Expected begin\[0\] in \[0, 5\], but got 6"),
            ([-1, 0, 0], r"Expected begin\[0\] in \[0, 5\], but got -1"),
            ([4, 0, 0], r"Expected size\[0\] in \[0, 1\], but got 2"),
            ([0, 0, 1], r"Expected size\[2\] in \[0, 3\], but got 4"),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match=text):
                call(VALUE, np.array(begin, np.int32))


def test_rows_in_a_loop() -> None:
    x = tf.placeholder(tf.float32, [None, 4])
    count = tf.shape(x)[0]
    _, total = tf.while_loop(lambda k, _: k < count, lambda k, a: (k + 1, 0.5 * a + x[k]), [0, tf.zeros([4])])
    (grad,) = tf.gradients(total, x)
    rows = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)
    want = np.zeros(4)
    for row in rows:
        want = 0.5 * want + row
    with tf.Session() as session:
        call = session.make_callable([total, grad], [x])
        found, slope = call(rows)
        (program,) = call.explain().programs
    np.testing.assert_allclose(found, want, rtol=1e-5)
    np.testing.assert_allclose(slope, np.repeat(0.5 ** np.arange(29, -1, -1), 4).reshape(30, 4), rtol=1e-5)
    assert not program.host_ops
