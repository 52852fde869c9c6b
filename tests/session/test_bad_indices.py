"""Errors of indices tell the coordinates of the first bad one, as TF's do; no variable changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

ROWS = np.ones((5, 3), np.float32)
PAIRS = [[0, 1], [2, 7]]
WRONG = "indices[1,1] = 7 is not in [0, 5)"

CASES: dict[str, tuple[Callable[[Any, Any], Any], Any, str]] = {
    "gather": (lambda x, i: tf.gather(x, i), PAIRS, WRONG),
    "gather of a vector": (lambda x, i: tf.gather(x, i), [0, 9], "indices[1] = 9 is not in [0, 5)"),
    "gather of a scalar": (lambda x, i: tf.gather(x, i), 9, "indices = 9 is not in [0, 5)"),
    "gather of a negative": (lambda x, i: tf.gather(x, i), [[0, 1, 2], [3, 4, -1]], "indices[1,2] = -1 is not in [0, 5)"),
    "gather along columns": (lambda x, i: tf.gather(x, i, axis=1), PAIRS, "indices[1,1] = 7 is not in [0, 3)"),
    "gather_nd": (
        lambda x, i: tf.gather_nd(x, i, name="picked"), [[[0, 0], [1, 1]], [[4, 2], [3, 4]]],
        "indices[1,1] = [3, 4] does not index into param shape [5,3], node name: picked",
    ),
    "gather_nd of a vector": (
        lambda x, i: tf.gather_nd(x, i, name="picked"), [4, 5],
        "indices = [4, 5] does not index into param shape [5,3], node name: picked",
    ),
    "scatter_nd of rows": (
        lambda x, i: tf.scatter_nd(i, x[:2], [5, 3]), [[0], [9]], "indices[1] = [9] does not index into shape [5,3]",
    ),
    "scatter_nd of elements": (
        lambda x, i: tf.scatter_nd(i, x[:2, 0], [5, 3]), [[0, 0], [4, 3]],
        "indices[1] = [4, 3] does not index into shape [5,3]",
    ),
    "tensor_scatter": (
        lambda x, i: tf.tensor_scatter_nd_add(x, i, x[:1, :2]), [[[0, 1], [9, 1]]],
        "indices[0,1] = [9, 1] does not index into shape [5,3]",
    ),
    "unsorted segments": (
        lambda x, i: tf.unsorted_segment_sum(tf.stack([x[:2], x[:2]]), i, 3), PAIRS,
        "segment_ids[1,1] = 7 is out of range [0, 3)",
    ),
}  # fmt: skip


def refused(fetch: Any, feeds: dict[Any, Any], text: str) -> None:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(tf.global_variables())
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            session.run(fetch, feeds)
        assert text in caught.value.message
        for old, now in zip(before, session.run(tf.global_variables()), strict=True):
            np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_first_bad_index_is_told(name: str, static: bool) -> None:
    build, indices, text = CASES[name]
    with tf.Graph().as_default():
        shape = list(np.shape(indices))
        # The last axis of tuples has to be known for native code.
        lead = shape if static else [None] * (len(shape) - 1) + shape[-1:]
        x, i = tf.placeholder(tf.float32, [5, 3]), tf.placeholder(tf.int32, lead)
        refused(build(x, i), {x: ROWS, i: indices}, text)


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", ["update", "add", "sub", "mul", "div", "min", "max"])
def test_rows_of_variables(name: str, resource: bool) -> None:
    with tf.Graph().as_default():
        v, i = tf.Variable(ROWS, use_resource=resource), tf.placeholder(tf.int32, [None, None])
        refused(getattr(tf, f"scatter_{name}")(v, i, 2.0), {i: PAIRS}, WRONG)


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", ["update", "add", "sub"])
def test_elements_of_variables(name: str, resource: bool) -> None:
    with tf.Graph().as_default():
        v, i = tf.Variable(ROWS, use_resource=resource), tf.placeholder(tf.int32, [2, 2])
        update = getattr(tf, f"scatter_nd_{name}")(v, i, [1.0, 2.0])
        refused(update, {i: [[0, 1], [2, 9]]}, "indices[1] = [2, 9] does not index into shape [5,3]")


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Adagrad": lambda: tf.train.AdagradOptimizer(0.1), "Momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
    "Adadelta": lambda: tf.train.AdadeltaOptimizer(0.1), "RMSProp": lambda: tf.train.RMSPropOptimizer(0.1),
    "Ftrl": lambda: tf.train.FtrlOptimizer(0.1), "ProximalAdagrad": lambda: tf.train.ProximalAdagradOptimizer(0.1),
}  # fmt: skip


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sparse_updates(name: str, resource: bool) -> None:
    with tf.Graph().as_default():
        v, i = tf.Variable(ROWS, use_resource=resource), tf.placeholder(tf.int32, [None])
        update = OPTIMIZERS[name]().apply_gradients([(tf.IndexedSlices(tf.ones([2, 3]), i), v)])
        refused(update, {i: [0, 9]}, "Index 9 at offset 1 in indices is out of range")


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sparse_updates_run_no_python(name: str, resource: bool) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        v, i = tf.Variable(np.ones((6, 2), np.float32), use_resource=resource), tf.placeholder(tf.int32, [None])
        train = OPTIMIZERS[name]().minimize(tf.reduce_sum(tf.square(tf.nn.embedding_lookup(v, i))))
        session.run(tf.global_variables_initializer())
        call = session.make_callable(train, [i])
        call(np.array([1, 4, 1], np.int32))
        assert "host" not in str(call.explain())
        changed = (session.run(v) != 1).any(1)
        assert changed.tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("shape", [[None], None])
@pytest.mark.parametrize("resource", [False, True])
def test_values_of_other_shapes(resource: bool, shape: Any) -> None:
    with tf.Graph().as_default():
        v, p = tf.Variable([1.0, 2.0], use_resource=resource), tf.placeholder(tf.float32, shape)
        wrong = "Expected [2] got [3]" if resource else "lhs shape= [2] rhs shape= [3]"
        refused(tf.assign(v, p), {p: [1.0, 2.0, 3.0]}, wrong)
        wrong = "shape [2] using a Tensor with shape [3]" if resource else "must be the same size"
        refused(tf.assign_add(v, p), {p: [1.0, 2.0, 3.0]}, wrong)
        train = tf.train.AdamOptimizer().apply_gradients([(p, v)])
        refused(train, {p: [1.0, 2.0, 3.0]}, "var and grad do not have the same shape[2] [3]")


def test_shapes_that_never_fit_are_refused_when_the_graph_is_built() -> None:
    with tf.Graph().as_default():
        v = tf.Variable([1.0, 2.0], use_resource=False)
        for build in (
            lambda: tf.assign(v, [1.0, 2.0, 3.0]),
            lambda: tf.assign_sub(v, [1.0, 2.0, 3.0]),
            lambda: tf.train.AdamOptimizer().apply_gradients([(tf.ones([3]), v)]),
        ):
            with pytest.raises(ValueError, match=r"Dimension 0 in both shapes must be equal, but are 2 and 3"):
                build()
        with pytest.raises(ValueError, match="Shapes must be equal rank, but are 1 and 2"):
            tf.assign(v, [[1.0, 2.0]])
