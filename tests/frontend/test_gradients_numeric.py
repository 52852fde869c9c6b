"""Gradients against central differences, for every differentiable op that has a function."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(7)
X = RNG.standard_normal((3, 4)) * 0.8 + 0.05
POS = np.abs(X) + 0.3
SMALL = X * 0.3
SQUARE = RNG.standard_normal((2, 3, 3))
Y = RNG.standard_normal((3, 4)) + 0.1
ROW = RNG.standard_normal((1, 4)) + 2.0

UNARY = {
    "abs": X, "negative": X, "sign": X, "square": X, "sqrt": POS, "rsqrt": POS, "reciprocal": POS, "exp": X,
    "expm1": X, "log": POS, "log1p": POS, "sin": X, "cos": X, "tan": SMALL, "asin": SMALL, "acos": SMALL, "atan": X,
    "sinh": X, "cosh": X, "tanh": X, "asinh": X, "acosh": POS + 1.0, "atanh": SMALL, "erf": X, "erfc": X,
    "lgamma": POS, "digamma": POS, "sigmoid": X, "floor": X, "ceil": X, "round": X, "zeros_like": X,
    "math.log_sigmoid": X, "math.erfinv": SMALL, "nn.relu": X, "nn.relu6": X * 5, "nn.elu": X, "nn.selu": X,
    "nn.leaky_relu": X, "nn.crelu": X, "nn.swish": X, "nn.softplus": X, "nn.softsign": X, "nn.softmax": X,
    "nn.log_softmax": X, "nn.l2_loss": X, "identity": X, "transpose": X, "matrix_transpose": X, "matrix_diag": X,
    "reduce_logsumexp": X, "reduce_prod": X, "reduce_max": X, "reduce_min": X, "reduce_mean": X, "cumsum": X,
    "cumprod": POS, "global_norm": [X], "real": X, "imag": X, "conj": X,
}  # fmt: skip

BINARY = {
    "add": (X, Y), "subtract": (X, Y), "multiply": (X, Y), "divide": (X, POS), "div": (X, POS), "pow": (POS, Y),
    "maximum": (X, Y), "minimum": (X, Y), "squared_difference": (X, Y), "div_no_nan": (X, POS), "atan2": (X, POS),
    "math.xlogy": (X, POS), "math.xdivy": (X, POS), "math.xlog1py": (X, POS), "math.multiply_no_nan": (X, Y),
    "floormod": (POS, np.full_like(POS, 0.7)), "igamma": (POS, POS + 0.4), "igammac": (POS, POS + 0.4),
}  # fmt: skip

OTHERS = {
    "sum axis": (lambda x: tf.reduce_sum(x, 0) ** 2.0, X),
    "sum keepdims": (lambda x: tf.reduce_sum(x, [1], keepdims=True) * x, X),
    "mean axis": (lambda x: tf.reduce_mean(x, -1) ** 2.0, X),
    "max axis": (lambda x: tf.reduce_max(x, 1), X),
    "prod with a zero": (lambda x: tf.reduce_prod(x * [1.0, 0.0, 1.0, 1.0], 1), X),
    "variance": (lambda x: tf.math.reduce_variance(x, 1), X),
    "std": (lambda x: tf.math.reduce_std(x), X),
    "norms": (lambda x: tf.norm(x, axis=1) + tf.norm(x, 1, axis=1) + tf.norm(x, np.inf, axis=1), X),
    "trace": (lambda x: tf.trace(x) ** 2.0, SQUARE),
    "matmul aa": (lambda x: tf.matmul(x, x, transpose_a=True), X),
    "matmul ab": (lambda x: tf.matmul(x, tf.constant(Y), transpose_b=True) ** 2.0, X),
    "matmul both": (lambda x: tf.matmul(x, tf.constant(SQUARE[0]), True, True) ** 2.0, X),
    "batch matmul": (lambda x: tf.matmul(x, tf.matmul(x, x, transpose_b=True), transpose_a=True), SQUARE),
    "batch broadcast": (lambda x: tf.matmul(x[:1], tf.constant(SQUARE)) ** 2.0, SQUARE),
    "tensordot": (lambda x: tf.tensordot(x, x, [[0], [0]]), X),
    "tensordot all": (lambda x: tf.tensordot(x, tf.constant(Y), 2) ** 2.0, X),
    "einsum": (lambda x: tf.einsum("bij,bjk,bk->ik", x, x, x[:, 0]), SQUARE),
    "einsum diagonal": (lambda x: tf.einsum("bii->b", x) ** 2.0, SQUARE),
    "einsum ellipsis": (lambda x: tf.einsum("...ij,jk->...ik", x, x[0]), SQUARE),
    "bias_add": (lambda x: tf.nn.bias_add(tf.constant(X), x) ** 2.0, Y[0]),
    "reshape": (lambda x: tf.reshape(x, [2, -1]) ** 2.0, X),
    "transpose perm": (lambda x: tf.transpose(x, [2, 0, 1]) ** 2.0, SQUARE),
    "concat": (lambda x: tf.concat([x, x * 2.0, x[:, :1]], 1) ** 2.0, X),
    "split": (lambda x: tf.split(x, [1, 3], 1)[1] ** 2.0, X),
    "split equal": (lambda x: tf.split(x, 3)[2] ** 2.0, X),
    "stack": (lambda x: tf.stack([x, x**2.0], 1), X),
    "unstack": (lambda x: tf.unstack(x, axis=1)[2] ** 2.0, X),
    "slice": (lambda x: tf.slice(x, [1, 0], [2, 3]) ** 2.0, X),
    "indexing": (lambda x: x[::-2, tf.newaxis, 1:] ** 2.0 + x[1, 2], X),
    "expand and squeeze": (lambda x: tf.squeeze(tf.expand_dims(x, 1), [1]) ** 2.0, X),
    "tile": (lambda x: tf.tile(x, [2, 3]) ** 2.0, X),
    "pad": (lambda x: tf.pad(x, [[1, 0], [0, 2]]) ** 2.0, X),
    "pad value": (lambda c: tf.pad(tf.constant(X), [[1, 0], [0, 2]], constant_values=c) ** 2.0, np.array(2.0)),
    "mirror": (lambda x: tf.pad(x, [[1, 1], [2, 2]], "SYMMETRIC") ** 2.0, X),
    "reverse": (lambda x: tf.reverse(x, [0]) ** 2.0 * x, X),
    "reverse_sequence": (lambda x: tf.reverse_sequence(x, [1, 4, 2], seq_axis=1, batch_axis=0) ** 2.0 * x, X),
    "roll": (lambda x: tf.manip.roll(x, 1, 1) * x if hasattr(tf, "manip") else tf.roll(x, 1, 1) * x, X),
    "broadcast_to": (lambda x: tf.broadcast_to(x, [2, 3, 4]) ** 2.0, X),
    "gather": (lambda x: tf.gather(x, [2, 0, 2]) ** 2.0, X),
    "gather axis": (lambda x: tf.gather(x, [[3, 3], [0, 1]], axis=1) ** 2.0, X),
    "gather batch": (lambda x: tf.gather(x, [[3, 3], [0, 1], [2, 0]], batch_dims=1) ** 2.0, X),
    "gather_nd": (lambda x: tf.gather_nd(x, [[0, 1], [2, 2], [0, 1]]) ** 2.0, X),
    "gather_nd rows": (lambda x: tf.gather_nd(x, [[0], [2], [0]]) ** 2.0, X),
    "scatter_nd": (lambda x: tf.scatter_nd([[4], [1], [4]], x, [6, 4]) ** 2.0, X),
    "scatter into tensor": (lambda x: tf.tensor_scatter_update(x, [[1]], x[:1] * 2.0) ** 2.0, X),
    "boolean_mask": (lambda x: tf.boolean_mask(x, X > 0) ** 2.0, X),
    "where": (lambda x: tf.where(tf.constant(X > 0), x**2.0, x * 3.0), X),
    "where_v2": (lambda x: tf.where_v2(tf.constant(X > 0), x[:1] ** 2.0, x), X),
    "one_hot values": (lambda x: tf.one_hot([0, 2], 3, on_value=x, off_value=x * x), np.array(1.5)),
    "fill": (lambda x: tf.fill([2, 3], x) ** 2.0, np.array(1.5)),
    "diag": (lambda x: tf.diag_part(tf.diag(x)) ** 2.0, X[0]),
    "matrix_set_diag": (lambda x: tf.matrix_set_diag(x, x[:, 0]) ** 2.0, SQUARE),
    "matrix_diag_part": (lambda x: tf.matrix_diag_part(x) ** 2.0, SQUARE),
    "matrix_band_part": (lambda x: tf.matrix_band_part(x, 1, 0) ** 2.0, SQUARE),
    "cumsum back": (lambda x: tf.cumsum(x, 1, exclusive=True, reverse=True) ** 2.0, X),
    "clip_by_value": (lambda x: tf.clip_by_value(x, -0.5, 0.5), X),
    "clip_by_norm": (lambda x: tf.clip_by_norm(x, 1.0), X),
    "clip_by_average_norm": (lambda x: tf.clip_by_average_norm(x, 0.01), X),
    "clip_by_global_norm": (lambda x: tf.clip_by_global_norm([x, x * 2.0], 1.0)[0][1], X),
    "softmax axis": (lambda x: tf.nn.softmax(x, axis=0), X),
    "l2_normalize": (lambda x: tf.nn.l2_normalize(x, 1), X),
    "moments": (lambda x: tf.nn.moments(x, [0])[1] * tf.nn.moments(x, [1], keep_dims=True)[0], X),
    "batch_normalization": (lambda x: tf.nn.batch_normalization(x, *tf.nn.moments(x, [0]), 0.5, x[0], 1e-3) ** 3.0, X),
    "softmax_xent logits": (lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(tf.nn.softmax(tf.constant(Y)), x), X),
    "softmax_xent labels": (lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(x, tf.constant(Y)), POS),
    "sparse_xent": (lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 3, 1], logits=x), X),
    "sigmoid_xent": (lambda x: tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.sigmoid(x), logits=x), X),
    "weighted_xent": (lambda x: tf.nn.weighted_cross_entropy_with_logits(tf.sigmoid(x), x, 2.0), X),
    "log_poisson": (lambda x: tf.nn.log_poisson_loss(tf.constant(POS), x, True), X),
    "segment_sum": (lambda x: tf.segment_sum(x, [0, 0, 1]) ** 2.0, X),
    "segment_mean": (lambda x: tf.segment_mean(x, [0, 0, 1]) ** 2.0, X),
    "segment_max": (lambda x: tf.segment_max(x, [0, 0, 1]) ** 2.0, X),
    "unsorted_segment_sum": (lambda x: tf.unsorted_segment_sum(x, [1, -1, 1], 2) ** 2.0, X),
    "unsorted_segment_max": (lambda x: tf.unsorted_segment_max(x, [1, 0, 1], 2) ** 2.0, X),
    "unsorted_segment_prod": (lambda x: tf.unsorted_segment_prod(x, [1, 0, 1], 2), X),
    "unsorted_segment_mean": (lambda x: tf.unsorted_segment_mean(x, [1, 0, 1], 2) ** 2.0, X),
    "sparse_segment_sum": (lambda x: tf.sparse_segment_sum(x, [2, 0, 2], [0, 0, 1]) ** 2.0, X),
    "sparse_segment_mean": (lambda x: tf.sparse_segment_mean(x, [2, 0, 2], [0, 0, 1]) ** 2.0, X),
    "dynamic_partition": (lambda x: tf.dynamic_partition(x, [0, 1, 0], 2)[0] ** 2.0, X),
    "dynamic_stitch": (lambda x: tf.dynamic_stitch([[0, 2], [1, 3, 4]], [x[:2], x**2.0]) ** 2.0, X),
    "top_k": (lambda x: tf.nn.top_k(x, 2).values ** 2.0, X),
    "add_n": (lambda x: tf.add_n([x, x, x * x]), X),
    "casts": (lambda x: tf.cast(tf.complex(x, x * 2.0), tf.complex128), X),
    "xw_plus_b": (lambda x: tf.nn.xw_plus_b(x, tf.constant(Y.T), x[:, 0]) ** 2.0, X),
    "second order": (lambda x: tf.gradients(tf.tanh(x) * tf.sigmoid(x) * tf.rsqrt(x * x + 1.0), x)[0], X),
    "second order relu": (lambda x: tf.gradients(tf.nn.relu(x * x * x) + tf.nn.elu(x * x), x)[0], X),
}  # fmt: skip


def check(build, start):
    """Compare the symbolic gradient of a weighted sum of build(x) with central differences."""
    start = np.asarray(start, np.float64)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, start.shape)
        y = build(x)
        y = tf.real(y) + 2.0 * tf.imag(y) if y.dtype.is_complex else y
        weights = np.cos(np.arange(y.shape.num_elements() or 1)).reshape(y.shape if y.shape.is_fully_defined() else [1])
        loss = tf.reduce_sum(tf.cast(y, tf.float64) * weights if y.shape.is_fully_defined() else y)
        (found,) = tf.gradients(loss, x)
        if found is None:
            found = tf.zeros_like(x)
        evaluate = session.make_callable(loss, [x])
        got = session.run(tf.convert_to_tensor(found), {x: start})
        want, step = np.zeros_like(start), 1e-6
        for index in np.ndindex(start.shape):
            high, low = start.copy(), start.copy()
            high[index] += step
            low[index] -= step
            want[index] = (evaluate(high) - evaluate(low)) / (2 * step)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


def function(name):
    found = tf
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", sorted(UNARY))
def test_unary(name):
    if name == "global_norm":
        check(lambda x: tf.global_norm([x, x * 2.0]), X)
    else:
        check(lambda x: function(name)(x) * 1.0 if name != "real" else tf.real(x), UNARY[name])


@pytest.mark.parametrize("side", ["x", "y", "broadcast"])
@pytest.mark.parametrize("name", sorted(BINARY))
def test_binary(name, side):
    first, second = BINARY[name]
    apply = function(name)
    if name.startswith("igamma") and side == "x":
        pytest.skip("no derivative by the first argument")
    if side == "x":
        check(lambda x: apply(x, tf.constant(second)), first)
    elif side == "y":
        check(lambda y: apply(tf.constant(first), y), second)
    else:
        # A row against the whole: its gradient is summed over the rows.
        check(lambda y: apply(tf.constant(first), y), second[:1] + 0.01)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_other(name):
    check(*OTHERS[name])


def test_unknown_shapes_reduce_in_the_step():
    with tf.Graph().as_default(), tf.Session() as s:
        a, b = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None])
        got = s.run(tf.gradients(a * b, [a, b]), {a: np.ones((2, 3)), b: [1, 2, 3]})
        np.testing.assert_array_equal(got[0], [[1, 2, 3]] * 2)
        np.testing.assert_array_equal(got[1], [2, 2, 2])
        got = s.run(tf.gradients(a * b, [a, b]), {a: np.ones((2, 1)), b: [1, 2, 3]})
        np.testing.assert_array_equal(got[0], [[6], [6]])


def test_unknown_rank():
    with tf.Graph().as_default(), tf.Session() as s:
        x = tf.placeholder(tf.float32)
        (g,) = tf.gradients(tf.reduce_mean(x * x, axis=tf.placeholder_with_default([0], [None])), x)
        np.testing.assert_allclose(s.run(g, {x: [[1.0, 2.0], [3.0, 4.0]]}), [[1, 2], [3, 4]])


def test_ties():
    with tf.Graph().as_default(), tf.Session() as s:
        x = tf.constant([1.0, 3.0, 3.0])
        y = tf.constant([1.0, 1.0, 1.0])
        assert s.run(tf.gradients(tf.maximum(x[:1], y[:1]), [x, y]))[1].tolist() == [0, 0, 0]
        assert s.run(tf.gradients(tf.reduce_max(x), x)[0]).tolist() == [0, 0.5, 0.5]
        assert s.run(tf.gradients(tf.nn.relu(x - x), x)[0]).tolist() == [0, 0, 0]


def test_custom_gradient_and_override():
    @tf.custom_gradient
    def doubled(x):
        return x * 2.0, lambda dy: dy * 100.0

    with tf.Graph().as_default(), tf.Session() as s:
        x = tf.constant(3.0)
        y = doubled(x)
        assert s.run([y, tf.gradients(y, x)[0]]) == [6.0, 100.0]


def test_hessians():
    with tf.Graph().as_default(), tf.Session() as s:
        x = tf.constant([1.0, 2.0])
        (h,) = tf.hessians(x[0] ** 2.0 * x[1], x)
        np.testing.assert_allclose(s.run(h), [[4, 2], [2, 0]], atol=1e-6)


def test_gradient_of_a_long_chain():
    with tf.Graph().as_default(), tf.Session() as s:
        x = tf.constant([0.5])
        y = x
        for _ in range(300):
            y = y * 1.001
        np.testing.assert_allclose(s.run(tf.gradients(y, x)[0]), [1.001**300], rtol=1e-4)
