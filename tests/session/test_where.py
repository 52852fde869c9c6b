"""Where conditions hold, and masks: native, whatever the rank, with extents that only the values tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

SHAPES = [(0,), (7,), (3, 4), (2, 0), (5, 6, 7), (2, 3, 2, 2)]


def values(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    found = np.random.default_rng(0).integers(0, 3, shape).astype(dtype)
    if found.size and found.dtype.kind == "f":
        found.flat[0] = np.nan
    return found


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.bool_, np.float32, np.int64, np.uint8])
def test_where_and_masks(dtype: Any, shape: tuple[int, ...], known: bool) -> None:
    tf.reset_default_graph()
    x = tf.placeholder(dtype, shape if known else [None] * len(shape))
    hits = x if dtype is np.bool_ else tf.not_equal(x, 0)
    given = values(shape, dtype)
    with tf.Session() as session:
        call = session.make_callable([tf.where(x), tf.boolean_mask(x, hits)], [x])
        places, masked = call(given)
        (program,) = call.explain().programs
    np.testing.assert_array_equal(places, np.argwhere(given))
    np.testing.assert_array_equal(masked, given[given != 0])
    assert places.dtype == np.int64 and places.shape[1] == len(shape)
    assert not program.host_ops


@pytest.mark.parametrize("shape", [(), (1,) * 9])
def test_ranks_that_have_no_places(shape: tuple[int, ...]) -> None:
    tf.reset_default_graph()
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match="Unhandled input dimensions"):
        session.run(tf.where(tf.ones(shape)))


def test_what_a_mask_leaves_goes_on_natively() -> None:
    tf.reset_default_graph()
    x = tf.placeholder(tf.float32, [None, 3])
    kept = tf.boolean_mask(x, x[:, 0] > 0)
    total = tf.reduce_sum(tf.square(kept), 1)
    grad = tf.convert_to_tensor(tf.gradients(total, x)[0])
    given = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    with tf.Session() as session:
        call = session.make_callable([total, tf.shape(kept), grad], [x])
        sums, shape, slope = call(given)
        none = call(-np.abs(given))
    rows = given[given[:, 0] > 0]
    np.testing.assert_allclose(sums, np.square(rows).sum(1), rtol=1e-6)
    assert shape.tolist() == [len(rows), 3]
    np.testing.assert_array_equal(slope, np.where(given[:, :1] > 0, 2 * given, 0))
    assert none[0].shape == (0,) and not none[2].any()


@pytest.mark.parametrize(
    ("repeats", "axis"), [(2, None), ([1, 2], 0), (2, 1), ([1, 0, 3], -1), ([0], 1), ([2, 0, 1, 1, 0, 5], None)]
)
def test_repeat(repeats: Any, axis: int | None) -> None:
    tf.reset_default_graph()
    x = tf.placeholder(tf.int32, [None, 3])
    given = np.arange(6).reshape(2, 3)
    with tf.Session() as session:
        result = session.run(tf.repeat(x, repeats, axis), {x: given})
    expected = np.repeat(given, repeats, axis)
    np.testing.assert_array_equal(result, expected)
    if isinstance(repeats, int):
        assert tf.repeat(tf.zeros([2, 3]), repeats, axis).shape == expected.shape


def test_repeats_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="incompatible"):
        tf.repeat(tf.zeros([3]), [1, 2])
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        tf.repeat(tf.zeros([3, 1]), 2, axis=2)
