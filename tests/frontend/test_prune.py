"""prune: what of a graph becomes a step, and how state turns into values."""

from __future__ import annotations

from typing import Any

import pytest

import stepjit.compat.v1 as tf
from stepjit_compiler import dims
from stepjit_compiler.ir import Type
from stepjit_compiler.passes.needed import StepError
from stepjit_compiler.passes.prune import Request, prune
from stepjit_compiler.step_text import to_text
from stepjit_compiler.verify import verify


@pytest.fixture(autouse=True)
def _fresh_graph() -> None:
    tf.reset_default_graph()


def pruned(fetches: list[Any], feeds: list[Any] = (), targets: list[Any] = ()) -> str:  # type: ignore[assignment]
    types = tuple(
        Type(
            feed.dtype,
            tuple(dims.symbol(f"s{j}_{a}") if extent is None else extent for a, extent in enumerate(feed.dims)),
        )
        for j, feed in enumerate(feeds)
    )
    step = prune(Request(tuple(fetches), tuple(targets), tuple(feeds), types)).step
    verify(step)
    return to_text(step, names=False)


def test_only_what_the_fetch_needs() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.square(x)
    tf.exp(y)
    assert pruned([y], [x]) == (
        "feed 0 : f32[s0_0,3]\n%0 = _Feed {index=0} : f32[s0_0,3]\n%1 = Square %0 {T=f32} : f32[s0_0,3]\nfetch %1\n"
    )


def test_cut_at_a_fed_intermediate() -> None:
    y = tf.square(tf.placeholder(tf.float32, [3]))
    assert "Square" not in pruned([tf.negative(y)], [y])


def test_an_assignment_is_a_write_and_later_reads_see_it() -> None:
    v = tf.Variable([1.0, 2.0])
    before = v.read_value()
    with tf.control_dependencies([before]):
        update = tf.assign_add(v, [3.0, 4.0])
    with tf.control_dependencies([update]):
        after = v.read_value()
    text = pruned([before, after])
    assert text.count("_Read") == 1 and text.count("AddV2") + text.count("Add ") == 1
    assert text.endswith("fetch %1, %4\nwrite 0 = %3\n")


def test_a_plain_assignment_reads_nothing() -> None:
    v = tf.Variable([1.0])
    assert "_Read" not in pruned([], targets=[v.initializer])


def test_two_writes_leave_the_last() -> None:
    v = tf.Variable(1.0)
    first = tf.assign(v, 2.0)
    with tf.control_dependencies([first]):
        second = tf.assign(v, 3.0)
    assert pruned([], targets=[second.op]).count("write") == 1


def test_the_same_model_in_two_graphs_has_one_text() -> None:
    def model(extra: bool) -> str:
        with tf.Graph().as_default():
            if extra:
                tf.constant(5.0, name="unused")
            x = tf.placeholder(tf.float32, [None, 4], name="other" if extra else None)
            w = tf.Variable([[1.0]] * 4)
            return pruned([tf.matmul(x, w)], [x])

    assert model(False) == model(True)


def test_missing_feed() -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    with pytest.raises(StepError, match=r"must feed a value for placeholder tensor 'x' with dtype float and shape \[\?,2\]"):
        pruned([x * 2.0])


def test_extents_known_to_be_equal_are_one_symbol() -> None:
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    text = pruned([x + y], [x, y])
    assert "check" in text and "f32[s1_0]" not in text.split("fetch")[0].split("%1")[-1]
