"""Corners of the session's rules: each expected value was seen on TensorFlow and is written down here."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture
def s() -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


class _Two(int):
    pass


class _Level(enum.IntEnum):
    HIGH = 300


# --- feeds ---
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (tf.string, 3), (tf.string, True), (tf.string, np.int32), (tf.bool, _Two(2)), (tf.uint8, _Level.HIGH),
        (tf.int32, 2**40), (tf.int8, -129),
    ],
)  # fmt: skip
def test_integers_that_do_not_fit(s: Any, dtype: Any, value: Any) -> None:
    p = tf.placeholder(dtype)
    if value is np.int32:
        with pytest.raises(tf.errors.InternalError, match="Unsupported object type"):
            s.run(tf.identity(p), {p: value(3)})
        return
    with pytest.raises(TypeError, match="is not compatible with Tensor type"):
        s.run(tf.identity(p), {p: value})


@pytest.mark.parametrize("value", [[1, 2], np.array([1, 2]), ["a", 1], memoryview(b"ab")])
def test_strings_are_checked_for_their_shape_first(s: Any, value: Any) -> None:
    p = tf.placeholder(tf.string, [])
    with pytest.raises(ValueError, match="Cannot feed value of shape \\(2,\\)"):
        s.run(tf.identity(p), {p: value})


def test_text_without_a_code(s: Any) -> None:
    p = tf.placeholder(tf.string)
    with pytest.raises(tf.errors.InternalError, match="Unable to convert element to UTF-8"):
        s.run(tf.identity(p), {p: "\ud800"})


def test_a_mapping_as_the_value_of_a_tuple(s: Any) -> None:
    p, q = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    assert s.run([p + 0, q + 0], {(p, q): {"a": 1.0, "b": 2.0}}) == [1, 2]


def test_the_tuple_of_top_k(s: Any) -> None:
    assert type(s.run(tf.nn.top_k([1.0, 3.0], 1))).__name__ == "TopKV2"


# --- texts of failing kernels: extents that only the feeds tell are numbers ---
KERNELS: list[tuple[Callable[..., Any], list[Any], str]] = [
    (lambda x: tf.slice(x, [2], [4]), [[1.0, 2, 3]], "Expected size[0] in [0, 1], but got 4"),
    (lambda x: tf.slice(x, [5], [1]), [[1.0, 2, 3]], "Expected begin[0] in [0, 3], but got 5"),
    (lambda x: x[-4], [[1.0, 2, 3]], "slice index -1 of dimension 0 out of bounds"),
    (lambda x: x[7], [[1.0, 2, 3]], "slice index 7 of dimension 0 out of bounds"),
    (lambda x: tf.split(x, 2)[0], [[1.0, 2, 3]], "evenly divide the split dimension, but got split_dim 0 (size = 3)"),
    (lambda x: tf.nn.top_k(x, 5)[0], [[1.0, 2, 3]], "must have at least k columns. Had 3, needed 5"),
    (lambda x: tf.space_to_depth(x, 2), [np.ones((1, 3, 5, 1))], "Image width 5 and height 3 should be divisible by"),
    (lambda x: tf.gather(x, [5]), [[1.0, 2, 3]], "indices[0] = 5 is not in [0, 3)"),
    (lambda x, y: x + y, [np.ones((2, 3)), np.ones((3, 2))], "Incompatible shapes: [2,3] vs. [3,2]"),
]


@pytest.mark.parametrize("how", ["run", "callable", "traced"])
@pytest.mark.parametrize(("build", "values", "text"), KERNELS, ids=[text[:24] for *_, text in KERNELS])
def test_texts(s: Any, how: str, build: Callable[..., Any], values: list[Any], text: str) -> None:
    feeds = [tf.placeholder(tf.float32) for _ in values]
    found = tf.identity(build(*feeds))
    if how == "callable":
        step = s.make_callable(found, feeds)
    else:
        traced = how == "traced"
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE) if traced else None
        metadata = tf.RunMetadata() if traced else None
        step = lambda *args: s.run(found, dict(zip(feeds, args)), options, metadata)  # noqa: E731
    with pytest.raises(tf.errors.InvalidArgumentError) as failed:
        step(*values)
    assert text in failed.value.message
    assert failed.value.op.graph is s.graph and failed.value.error_code == 3


# --- loops that never end ---
LOOPS: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
    (lambda i: True, lambda i: i),
    (lambda i: tf.constant(True), lambda i: i + 1),
    (lambda i: i < 1, lambda i: i),
    (lambda i: i >= 0, lambda i: tf.abs(i * 3)),
]


@pytest.mark.parametrize(("condition", "body"), LOOPS)
def test_time_limit_of_endless_loops(s: Any, condition: Any, body: Any) -> None:
    with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out") as failed:
        s.run(tf.while_loop(condition, body, [0]), options=tf.RunOptions(timeout_in_ms=100))
    assert failed.value.op is None and failed.value.error_code == 4
    assert s.run(tf.constant(1)) == 1


def test_a_variable_that_stays_waits_for_its_loop(s: Any) -> None:
    stays, _ = tf.while_loop(lambda i, j: i < 1, lambda i, j: (i, j + 1), [0, 0])
    with pytest.raises(tf.errors.DeadlineExceededError):
        s.run(stays, options=tf.RunOptions(timeout_in_ms=100))


def test_loops_that_are_not_entered_are_over(s: Any) -> None:
    assert s.run(tf.while_loop(lambda i: i > 5, lambda i: i, [0])) == 0
    same, counted = tf.while_loop(lambda i, j: j < 3, lambda i, j: (i, j + 1), [7, 0])
    assert s.run([same, counted]) == [7, 3]


# --- variables ---
@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize("shape", [None, [None]], ids=["unknown", "rank 1"])
def test_assigned_values_of_shapes_that_only_the_step_knows(s: Any, resource: bool, shape: Any) -> None:
    v = tf.get_variable("v", initializer=[1.0, 2.0], use_resource=resource)
    p = tf.placeholder(tf.float32, shape)
    assign = tf.assign(v, p)
    s.run(v.initializer)
    assert s.run(assign, {p: [3.0, 4.0]}).tolist() == [3, 4]
    with pytest.raises(tf.errors.InvalidArgumentError):
        s.run(assign, {p: [3.0]})
    with pytest.raises(tf.errors.InvalidArgumentError):
        s.run(assign.op, {p: [3.0, 4.0, 5.0]})
    assert s.run(v).tolist() == [3, 4]
    assert s.make_callable(assign, [p])([5, 6]).tolist() == [5, 6]


# --- queues, operators, errors ---
def test_a_queue_needs_components() -> None:
    with pytest.raises(ValueError, match="component_types"):
        tf.FIFOQueue(5, [])


OPERATORS: list[Callable[[Any], Any]] = [
    lambda x: x + 1.5, lambda x: x - 2.5, lambda x: x * 1.5, lambda x: x // 2.5, lambda x: x % 2.5, lambda x: x + "a",
    lambda x: x + [1.5],  # noqa: RUF005
]  # fmt: skip


@pytest.mark.parametrize("apply", OPERATORS)
def test_operators_name_both_dtypes(s: Any, apply: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="does not match type int32") as failed:
        apply(tf.constant(1))
    assert "Expected int32" in str(failed.value)


def test_the_old_block_around_steps() -> None:
    with tf.errors.raise_exception_on_not_ok_status():
        pass


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (np.int64(0), np.int64(10)), ([0, 2], [10, 3])])
def test_integers_at_equal_distances_become_float64(s: Any, start: Any, stop: Any) -> None:
    found = s.run(tf.linspace(start, stop, 3))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.linspace(start, stop, 3))
