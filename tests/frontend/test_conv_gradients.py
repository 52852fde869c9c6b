"""Gradients of convolution, pooling and normalisation functions against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def distinct(*shape: int) -> np.ndarray:
    """Numbers well apart from each other, so that which is the largest does not change by a small step."""
    return RNG.permutation(int(np.prod(shape))).reshape(shape) * 0.1


CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "conv1d": (lambda x, k: tf.nn.conv1d(x, k, 2, "SAME"), [normal(2, 5, 2), normal(3, 2, 3)]),
    "conv2d": (lambda x, k: tf.nn.conv2d(x, k, [1, 2, 1, 1], "SAME"), [normal(1, 4, 5, 2), normal(3, 2, 2, 3)]),
    "conv2d explicit": (
        lambda x, k: tf.nn.conv2d(x, k, 1, [[0, 0], [1, 0], [2, 1], [0, 0]], dilations=[1, 2, 1, 1]),
        [normal(1, 4, 3, 2), normal(2, 2, 2, 2)],
    ),
    "conv2d channels first": (
        lambda x, k: tf.nn.conv2d(x, k, 1, "VALID", data_format="NCHW"), [normal(1, 2, 4, 3), normal(2, 2, 2, 2)]
    ),
    "conv2d many batches": (lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), [normal(2, 1, 3, 3, 2), normal(2, 2, 2, 2)]),
    "conv3d": (lambda x, k: tf.nn.conv3d(x, k, [1, 1, 2, 1, 1], "SAME"), [normal(1, 2, 3, 3, 1), normal(2, 2, 2, 1, 2)]),
    "conv2d_transpose": (
        lambda x, k: tf.nn.conv2d_transpose(x, k, [1, 6, 4, 3], [1, 2, 2, 1]), [normal(1, 3, 2, 2), normal(3, 2, 3, 2)]
    ),
    "conv3d_transpose": (
        lambda x, k: tf.nn.conv3d_transpose(x, k, [1, 2, 3, 3, 1], 1), [normal(1, 2, 3, 3, 2), normal(2, 2, 1, 1, 2)]
    ),
    "conv1d_transpose": (
        lambda x, k: tf.nn.conv1d_transpose(x, k, [1, 6, 2], 2), [normal(1, 3, 2), normal(3, 2, 2)]
    ),
    "atrous": (lambda x, k: tf.nn.atrous_conv2d(x, k, 2, "VALID"), [normal(1, 5, 4, 2), normal(2, 2, 2, 2)]),
    "depthwise": (
        lambda x, k: tf.nn.depthwise_conv2d(x, k, [1, 2, 2, 1], "SAME"), [normal(1, 4, 3, 2), normal(2, 3, 2, 2)]
    ),
    "separable": (
        lambda x, k, p: tf.nn.separable_conv2d(x, k, p, [1, 1, 1, 1], "VALID"),
        [normal(1, 3, 3, 2), normal(2, 2, 2, 1), normal(1, 1, 2, 3)],
    ),
    "max_pool": (lambda x: tf.nn.max_pool(x, 3, 2, "SAME"), [distinct(1, 5, 4, 2)]),
    "max_pool explicit": (lambda x: tf.nn.max_pool(x, 2, 1, [[0, 0], [1, 0], [0, 1], [0, 0]]), [distinct(1, 3, 4, 2)]),
    "max_pool1d": (lambda x: tf.nn.max_pool1d(x, 2, 2, "VALID"), [distinct(2, 4, 2)]),
    "max_pool_with_argmax": (
        lambda x: tf.nn.max_pool_with_argmax(x, [1, 2, 2, 1], [1, 1, 2, 1], "SAME")[0], [distinct(2, 3, 4, 2)]
    ),
    "avg_pool": (lambda x: tf.nn.avg_pool(x, [1, 3, 2, 1], [1, 1, 2, 1], "SAME"), [normal(1, 4, 5, 2)]),
    "avg_pool3d": (lambda x: tf.nn.avg_pool3d(x, 2, 1, "SAME"), [normal(1, 3, 2, 3, 1)]),
    "dilated pool": (
        lambda x: tf.nn.pool(x, [2, 2], "AVG", "VALID", dilation_rate=[2, 1]), [normal(1, 5, 4, 2)]
    ),
    "dilation2d": (
        lambda x, k: tf.nn.dilation2d(x, k, [1, 1, 1, 1], [1, 1, 1, 1], "SAME"), [distinct(1, 3, 3, 2), normal(2, 2, 2) * 0.01]
    ),
    "bias_add": (lambda x, b: tf.nn.bias_add(x, b, data_format="NCHW"), [normal(1, 3, 2, 2), normal(3)]),
    "batch_normalization": (
        lambda x, m, v, o, s: tf.nn.batch_normalization(x, m, v, o, s, 1e-3),
        [normal(2, 3), normal(3), np.abs(normal(3)) + 0.5, normal(3), normal(3)],
    ),
}  # fmt: skip

SINGLE: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "fused training": (lambda x, s, o: tf.nn.fused_batch_norm(x, s, o)[0], [normal(2, 2, 3, 2), normal(2), normal(2)]),
    "fused channels first": (
        lambda x, s, o: tf.nn.fused_batch_norm(x, s, o, data_format="NCHW")[0],
        [normal(2, 2, 3, 2), normal(2), normal(2)],
    ),
    "fused inference": (
        lambda x, s, o: tf.nn.fused_batch_norm(x, s, o, [0.1, 0.2], [1.0, 3.0], is_training=False)[0],
        [normal(2, 2, 3, 2), normal(2), normal(2)],
    ),
    "lrn": (lambda x: tf.nn.lrn(x, 1, 1.0, 0.5, 0.75), [normal(1, 2, 2, 4)]),
    "max_pool3d": (lambda x: tf.nn.max_pool3d(x, 2, 1, "VALID"), [distinct(1, 3, 2, 3, 2)]),
}


def compare(build: Callable[..., Any], arrays: list[np.ndarray], dtype: Any, step: float, tolerance: float) -> None:
    """Gradients of a weighted sum of squares, and gradients of those gradients along a direction."""
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [tf.placeholder(dtype, array.shape) for array in arrays]
        y = build(*feeds)
        weights = RNG.standard_normal(y.shape.as_list())
        loss = tf.reduce_sum(tf.cast(y, tf.float64) ** 2.0 * weights)
        grads = tf.gradients(loss, feeds)
        value = session.make_callable(loss, feeds)
        found = session.run(grads, dict(zip(feeds, arrays)))
        for k, array in enumerate(arrays):
            want = np.zeros(array.shape)
            for at in np.ndindex(array.shape):
                ends = []
                for sign in (1, -1):
                    moved = [each.copy() for each in arrays]
                    moved[k][at] += sign * step
                    ends.append(value(*[each.astype(dtype.as_numpy_dtype) for each in moved]))
                want[at] = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(found[k], want, rtol=tolerance, atol=tolerance * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    build, arrays = CASES[name]
    compare(build, arrays, tf.float64, 1e-5, 1e-6)


@pytest.mark.parametrize("name", SINGLE)
def test_gradients_in_single_precision(name: str) -> None:
    build, arrays = SINGLE[name]
    compare(build, arrays, tf.float32, 1e-2, 2e-2)


SECOND = ("conv2d", "conv3d", "depthwise", "max_pool", "avg_pool", "fused training", "fused inference")


@pytest.mark.parametrize("name", SECOND)
def test_second_order(name: str) -> None:
    """The gradient of |gradient|² moves as central differences of |gradient|² say."""
    build, arrays = CASES.get(name) or SINGLE[name]
    single = name in SINGLE
    kind, step = (tf.float32, 1e-2) if single else (tf.float64, 1e-5)
    with tf.Graph().as_default(), tf.Session() as session:
        feeds = [tf.placeholder(kind, array.shape) for array in arrays]
        y = build(*feeds)
        weights = tf.constant(RNG.standard_normal(y.shape.as_list()), kind)
        norm = tf.add_n([tf.reduce_sum(g * g) for g in tf.gradients(y * y * weights, feeds)])
        found = session.run(tf.gradients(norm, feeds[0])[0], dict(zip(feeds, arrays)))
        way = RNG.standard_normal(arrays[0].shape)
        ends = [session.run(norm, dict(zip(feeds, [arrays[0] + sign * step * way, *arrays[1:]]))) for sign in (1, -1)]
    np.testing.assert_allclose((found * way).sum(), (ends[0] - ends[1]) / (2 * step), rtol=3e-2 if single else 1e-5)


def test_shapes_that_only_feeds_tell() -> None:
    """Gradients take the shapes of fed images."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, None, None, 2])
        kernel = tf.constant(normal(3, 3, 2, 4), tf.float32)
        y = tf.nn.avg_pool(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), 2, 2, "SAME")
        grad = tf.gradients(y, x)[0]
        assert y.shape.as_list() == [None, None, None, 4]
        for shape in ((2, 5, 4, 2), (1, 3, 3, 2), (2, 6, 7, 2)):
            assert session.run(grad, {x: normal(*shape)}).shape == shape
