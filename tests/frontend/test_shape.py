"""Static shapes: TensorShape, Dimension, and what is inferred through shape arithmetic."""

from __future__ import annotations

import pytest

import stepjit.compat.v1 as tf
from stepjit.framework.apply import apply_op
from stepjit.framework.shape import unknown_shape

S = tf.TensorShape


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def test_tensor_shape():
    assert S([1, None]).is_compatible_with([None, 3])
    assert not S([1]).is_compatible_with([2])
    assert S([1, None]).merge_with([None, 3]).as_list() == [1, 3]
    assert S(None).merge_with([2]).as_list() == [2]
    assert S([2, 3]).num_elements() == 6
    assert S([2, None]).num_elements() is None
    assert S([]).num_elements() == 1
    assert S(None).ndims is None
    assert S(None).rank is None
    assert S([]).ndims == 0
    assert S([2, 3]).is_fully_defined()
    assert S([2]).concatenate([3]).as_list() == [2, 3]
    assert (S([2]) + S([3])).as_list() == [2, 3]
    assert S([2, 3])[1] == 3
    assert S([2, 3])[-1].value == 3
    assert S([2, 3])[0:1].as_list() == [2]
    assert S(None)[3].value is None
    assert S(None)[1:3].as_list() == [None, None]
    assert S(None)[1:].ndims is None
    assert S(3).as_list() == [3]
    assert S(S([1])) == S([1]) == [1]
    assert S([1]) != S(None)
    assert hash(S([1])) == hash(S((1,)))
    assert [d.value for d in S([2, None])] == [2, None]
    assert len(S([2, None])) == 2
    assert unknown_shape(2).as_list() == [None, None]
    assert unknown_shape().ndims is None
    assert S(None).with_rank(2).as_list() == [None, None]
    assert not S(None)
    assert S([])


def test_tensor_shape_errors():
    for wrong in (
        lambda: S([1]).merge_with([2]), lambda: S(None).as_list(), lambda: S([-1]), lambda: S([1]).with_rank(2),
        lambda: S([1]).assert_has_rank(2), lambda: S([None]).assert_is_fully_defined(), lambda: len(S(None)),
        lambda: S([1]).assert_is_compatible_with([2]), lambda: S([1]).with_rank_at_least(2), lambda: list(S(None)),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(TypeError):
        S("ab")


def test_texts():
    assert [str(S(v)) for v in (None, [], [2], [None, 3])] == ["<unknown>", "()", "(2,)", "(?, 3)"]
    assert repr(S([None, 1])) == "TensorShape([Dimension(None), Dimension(1)])"
    assert repr(S(None)) == "TensorShape(None)"


def test_dimension():
    d = tf.Dimension
    assert (d(3) + 1).value == 4
    assert (7 - d(3)).value == 4
    assert (d(3) * d(None)).value is None
    assert (d(7) // 2).value == 3
    assert (d(7) % 4).value == 3
    assert d(3) == 3
    assert d(3) != 4
    assert (d(None) == 3) is None
    assert d(3) < 4
    assert d(3) >= 3
    assert (d(None) > 1) is None
    assert int(d(3)) == 3
    assert list(range(d(2))) == [0, 1]
    assert d(None).merge_with(3).value == 3
    assert str(d(None)) == "?"
    with pytest.raises(ValueError):
        d(-1)
    with pytest.raises(TypeError):
        d(3) / 2


def test_set_shape_narrows():
    p = tf.placeholder(tf.float32, [None, None])
    p.set_shape([2, None])
    p.set_shape([None, 5])
    assert p.shape.as_list() == [2, 5] == p.get_shape().as_list()
    for wrong in ([3, 5], [2]):
        with pytest.raises(ValueError, match="must be equal"):
            p.set_shape(wrong)


# --- Inference through values ---


def shape_of(t):
    return apply_op("Shape", input=t)


def element(t, k):
    return apply_op("StridedSlice", input=t, begin=[k], end=[k + 1], strides=[1], shrink_axis_mask=1)


def zeros(dims):
    return apply_op("Fill", dims=dims, value=0.0).shape.as_list()


def test_shapes_from_shape_arithmetic():
    p = tf.placeholder(tf.float32, [None, 8])
    n = tf.placeholder(tf.int32, [])
    s = shape_of(p)
    assert zeros(s) == [None, 8]
    assert zeros([n, 3]) == [None, 3]
    assert zeros([element(s, 0), element(s, 1), 10]) == [None, 8, 10]
    assert zeros(apply_op("ConcatV2", values=[s, [5]], axis=0)) == [None, 8, 5]
    assert zeros(apply_op("Mul", x=s, y=2)) == [None, 16]
    assert zeros(tf.identity(s)) == [None, 8]
    assert apply_op("Reshape", tensor=p, shape=[element(s, 0), 2, 4]).shape.as_list() == [None, 2, 4]
    assert apply_op("Reshape", tensor=tf.constant([1.0, 2.0]), shape=[n, 2]).shape.as_list() == [1, 2]


def test_axes_from_the_rank():
    p = tf.placeholder(tf.float32, [None, 8])
    axes = apply_op("Range", start=0, limit=apply_op("Rank", input=p), delta=1)
    assert apply_op("Sum", input=p, reduction_indices=axes).shape.as_list() == []


def test_a_shape_narrowed_later_is_seen():
    p = tf.placeholder(tf.float32, [None, 8])
    s = shape_of(p)
    assert zeros(s) == [None, 8]
    p.set_shape([4, None])
    assert zeros(s) == [4, 8]


def test_a_default_is_no_constant():
    assert zeros(tf.placeholder_with_default([2, 3], [2])) == [None, None]


def test_a_long_chain_of_values_needs_no_recursion():
    known, unknown = tf.constant([1]), tf.placeholder(tf.int32, [1])
    for _ in range(3000):
        known, unknown = apply_op("AddV2", x=known, y=[1]), apply_op("AddV2", x=unknown, y=[1])
    assert zeros(known) == [3001]
    assert zeros(unknown) == [None]
