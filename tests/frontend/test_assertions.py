"""Assertions: at once where the graph tells, else when the step runs."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

COMPARED = {
    "assert_equal": operator.eq, "assert_none_equal": operator.ne, "assert_less": operator.lt,
    "assert_less_equal": operator.le, "assert_greater": operator.gt, "assert_greater_equal": operator.ge,
}  # fmt: skip
SIGNED = {
    "assert_negative": operator.lt, "assert_positive": operator.gt, "assert_non_negative": operator.ge,
    "assert_non_positive": operator.le,
}  # fmt: skip


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


def unknown(value: Any) -> Any:
    """A tensor of which the graph knows the rank alone."""
    array = np.asarray(value, np.float32)
    return tf.placeholder_with_default(array, [None] * array.ndim)


def outcome(build: Any) -> str:
    """`fine`, or the message of what building or running raises."""
    try:
        with tf.Session() as session:
            assert session.run(build()) is None
    except tf.errors.InvalidArgumentError as error:
        return error.message
    return "fine"


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("known", [False, True])
def test_comparisons(name: str, known: bool) -> None:
    make = np.float32 if known else unknown
    check = getattr(tf, name)
    for x, y in (([1, 2], [1, 3]), ([3, 2], [2, 1]), ([3, 2], [3, 2]), ([3, 3], 3), ([], 1.0)):
        text = outcome(lambda x=x, y=y: check(make(x), make(y), message="told"))
        holds = all(COMPARED[name](a, b) for a, b in np.broadcast(np.float32(x), np.float32(y)))
        assert (text == "fine") == holds, (x, y, text)
        if not holds:
            assert "told" in text and "did not hold element-wise" in text and "x (" in text
            assert known or "assertion failed: [told]" in text


@pytest.mark.parametrize("name", SIGNED)
def test_signs(name: str) -> None:
    for value in (1.0, 0.0, -1.0):
        for make in (unknown, np.float32):
            text = outcome(lambda make=make, value=value: getattr(tf, name)(make([value])))
            assert (text == "fine") == SIGNED[name](value, 0)


def test_data_and_names() -> None:
    text = outcome(lambda: tf.assert_less(unknown([3]), 1, data=["seen", unknown(7)], name="small"))
    assert "assertion failed: [seen] [7]" in text and "small" in text


def test_near() -> None:
    assert outcome(lambda: tf.assert_near(unknown([1.0]), [1.0000001])) == "fine"
    assert outcome(lambda: tf.assert_near(unknown([1.0]), [1.1], rtol=0.2)) == "fine"
    assert "not equal to tolerance" in outcome(lambda: tf.assert_near(unknown([1.0]), [1.1], atol=0.05))


def test_ranks() -> None:
    vague = tf.placeholder_with_default(np.float32([[1]]), None)
    assert tf.assert_rank(tf.zeros([2, 2]), 2).type == "NoOp"
    for check, right, wrong, text in (
        (tf.assert_rank, 2, 3, "must have rank"),
        (tf.assert_rank_at_least, 1, 3, "must have rank at least"),
        (tf.assert_rank_in, (1, 2), (0, 1), "must have rank in"),
    ):
        assert outcome(lambda check=check, right=right: check(vague, right)) == "fine"
        assert text in outcome(lambda check=check, wrong=wrong: check(vague, wrong))
        with pytest.raises(ValueError, match=f"told.  Tensor zeros.* {text} .*Received rank 2"):
            check(tf.zeros([2, 2]), wrong, message="told")
    with pytest.raises(ValueError, match="Rank must be a scalar"):
        tf.assert_rank(vague, [1, 2])
    with pytest.raises(TypeError, match=r"must be of type tf.int32"):
        tf.assert_rank(vague, 1.5)


def test_types() -> None:
    number = tf.constant(1.0)
    with pytest.raises(TypeError, match='Expected "x" to be integer type'):
        tf.assert_integer(number)
    with pytest.raises(TypeError, match=r"must be of type tf.int32; got tf.float32"):
        tf.assert_type(number, tf.int32)
    assert tf.assert_integer(tf.constant(1)).type == tf.assert_type(number, tf.float32).type == "NoOp"
    assert tf.assert_scalar(number) is number
    with pytest.raises(ValueError, match=r"Expected scalar shape for .*, saw shape: \(1,\)"):
        tf.assert_scalar([1.0])
    assert tf.assert_same_float_dtype([number, None]) is tf.float32
    with pytest.raises(ValueError, match="Expected floating point type"):
        tf.assert_same_float_dtype([tf.constant(1)])
    tf.assert_proper_iterable([number])
    for wrong in (number, "text", np.zeros(2), 5):
        with pytest.raises(TypeError, match="iterable"):
            tf.assert_proper_iterable(wrong)
    assert [tf.is_numeric_tensor(tf.constant(x)) for x in (1, 1.0, "a", True)] == [True, True, False, False]


def test_order() -> None:
    with tf.Session() as session:
        for values, rising, strictly in (([1, 1, 2], True, False), ([1, 2], True, True), ([2, 1], False, False)):
            assert session.run(tf.is_non_decreasing(unknown(values))) == rising
            assert session.run(tf.is_strictly_increasing(unknown(values))) == strictly


def test_all_finite() -> None:
    x = unknown([1.0, np.nan])
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match="told : Tensor had NaN values"):
        session.run(tf.verify_tensor_all_finite(x, "told"))
    assert "Tensor had NaN values" in outcome(tf.add_check_numerics_ops)
