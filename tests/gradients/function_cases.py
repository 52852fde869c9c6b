"""Cases of functions that consist of several ops, or that leave some out."""

from __future__ import annotations

from typing import Any

import numpy as np
from differences import Case
from samples import CUBE, POS, SQUARE, UNIT, X, Y, normal

import stepjit.compat.v1 as tf

SHARES = POS / POS.sum(1, keepdims=True)
TALL, WIDE, RHS = normal(2, 4, 3), normal(2, 3, 4), normal(2, 3, 2)


def through(note: str, build: Any, *arrays: Any, **options: Any) -> Case:
    """The case of a function, called what `note` says."""
    return Case("", build, tuple(np.asarray(array) for array in arrays), note, **options)


def _training(x: Any) -> Any:
    """A value that training steps inside the graph lead to: gradients of gradients."""
    y = x * x * x
    (slope,) = tf.gradients(tf.tanh(y) * tf.sigmoid(x) * tf.rsqrt(x * x + 1.0), x)
    return y - 0.1 * slope


CASES: list[Case] = [
    through("log_sigmoid", tf.math.log_sigmoid, X),
    through("crelu", tf.nn.crelu, X),
    through("swish", tf.nn.swish, X),
    through("reduce_logsumexp", lambda x: tf.reduce_logsumexp(x, 1), X),
    through("reduce_variance", lambda x: tf.math.reduce_variance(x, 1), X),
    through("reduce_std", tf.math.reduce_std, X),
    through("norms", lambda x: [tf.norm(x, axis=1), tf.norm(x, 1, axis=1), tf.norm(x, np.inf, axis=1)], X),
    through("spectral norm", lambda x: tf.norm(x, 2, axis=[-2, -1]), TALL),
    through("global_norm", lambda x, y: tf.global_norm([x, y]), X, Y),
    through("trace", tf.trace, SQUARE),
    through("tensordot", lambda x, y: tf.tensordot(x, y, [[0], [0]]), X, Y),
    through("tensordot of all", lambda x, y: tf.tensordot(x, y, 2), X, Y),
    through("einsum", lambda x: tf.einsum("bij,bjk,bk->ik", x, x, x[:, 0]), SQUARE),
    through("einsum, diagonal", lambda x: tf.einsum("bii->b", x), SQUARE),
    through("einsum, ellipsis", lambda x: tf.einsum("...ij,jk->...ik", x, x[0]), SQUARE),
    through("mean by segment", lambda x: tf.unsorted_segment_mean(x, [1, 0, 1], 2), X),
    through("clip_by_norm", lambda x: tf.clip_by_norm(x, 1.0), X),
    through("clip_by_average_norm", lambda x: tf.clip_by_average_norm(x, 0.01), X),
    through("clip_by_global_norm", lambda x, y: tf.clip_by_global_norm([x, y], 1.0)[0], X, Y),
    through("l2_normalize", lambda x: tf.nn.l2_normalize(x, 1), X),
    through("moments", lambda x: [*tf.nn.moments(x, [0]), tf.nn.moments(x, [1], keep_dims=True)[0]], X, second=None),
    through("batch_normalization", lambda x, m, v, o, s: tf.nn.batch_normalization(x, m, v, o, s, 1e-3),
            X, normal(5), POS[0], normal(5), normal(5)),
    through("sigmoid_xent", lambda x, y: tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=x), X, UNIT),
    through("weighted_xent", lambda x, y: tf.nn.weighted_cross_entropy_with_logits(y, x, 2.0), X, UNIT),
    through("softmax_xent", lambda x, y: tf.nn.softmax_cross_entropy_with_logits_v2(y, x), X, SHARES),
    through("softmax_xent, labels fixed", lambda x, y: tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=x), X,
            SHARES, none=(1,)),
    through("log_poisson_loss", lambda x: tf.nn.log_poisson_loss(tf.constant(POS), x, True), X),
    through("xw_plus_b", lambda x, w, b: tf.nn.xw_plus_b(x, w, b), X, normal(5, 2), normal(2)),
    through("indexing", lambda x: x[::-2, tf.newaxis, 1:] + x[1, 2], X),
    through("one_hot values", lambda a, b: tf.one_hot([0, 2], 3, on_value=a, off_value=b), np.array(1.5), np.array(0.2),
            none=(0, 1)),
    through("matrix products of three diagonals", lambda x: tf.linalg.tridiagonal_matmul(x, RHS), SQUARE),
    through("three diagonals, vector", lambda x: tf.linalg.tridiagonal_solve(SQUARE + 2 * np.eye(3)[1:2].T, x), RHS[:, :, 0]),
    through("expm", tf.linalg.expm, SQUARE),
    through("lu_solve", lambda x: tf.linalg.lu_solve(*tf.linalg.lu(x), RHS), SQUARE),
    through("pinv", tf.linalg.pinv, TALL),
    through("conv1d", lambda x, k: tf.nn.conv1d(x, k, 2, "SAME"), normal(2, 5, 2), normal(3, 2, 3)),
    through("conv2d, channels first", lambda x, k: tf.nn.conv2d(x, k, 1, "VALID", data_format="NCHW"), normal(1, 2, 4, 3),
            normal(2, 2, 2, 2)),
    through("conv2d of many batches", lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), normal(2, 1, 3, 3, 2),
            normal(2, 2, 2, 2)),
    through("conv2d_transpose", lambda x, k: tf.nn.conv2d_transpose(x, k, [1, 6, 4, 3], [1, 2, 2, 1]), normal(1, 3, 2, 2),
            normal(3, 2, 3, 2)),
    through("conv3d_transpose", lambda x, k: tf.nn.conv3d_transpose(x, k, [1, 2, 3, 3, 1], 1), normal(1, 2, 3, 3, 2),
            normal(2, 2, 1, 1, 2)),
    through("conv1d_transpose", lambda x, k: tf.nn.conv1d_transpose(x, k, [1, 6, 2], 2), normal(1, 3, 2), normal(3, 2, 2)),
    through("atrous_conv2d", lambda x, k: tf.nn.atrous_conv2d(x, k, 2, "VALID"), normal(1, 5, 4, 2), normal(2, 2, 2, 2)),
    through("separable_conv2d", lambda x, k, p: tf.nn.separable_conv2d(x, k, p, [1, 1, 1, 1], "VALID"), normal(1, 3, 3, 2),
            normal(2, 2, 2, 1), normal(1, 1, 2, 3)),
    through("max_pool1d", lambda x: tf.nn.max_pool1d(x, 2, 2, "VALID"), CUBE),
    through("max_pool, explicit", lambda x: tf.nn.max_pool(x, 2, 1, [[0, 0], [1, 0], [0, 1], [0, 0]]),
            normal(1, 3, 4, 2), second=False),
    through("pool, dilated", lambda x: tf.nn.pool(x, [2, 2], "AVG", "VALID", dilation_rate=[2, 1]), normal(1, 5, 4, 2)),
    through("a gradient", _training, X),
]  # fmt: skip
