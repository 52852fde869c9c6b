"""tf.sets, between dense and sparse tensors alike, against Python's sets; edit distances; searches in sorted rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(11)
A, B = RNG.integers(0, 6, (2, 3, 4)), RNG.integers(0, 6, (2, 3, 5))
KINDS = {"intersection": set.intersection, "union": set.union, "difference": set.difference}


def _run(build: Callable[[], Any]) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())


def _sparse(array: np.ndarray) -> Any:
    return tf.SparseTensor(np.argwhere(np.ones(array.shape, bool)), array.reshape(-1), array.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [tf.constant, _sparse])
@pytest.mark.parametrize("second", [tf.constant, _sparse])
@pytest.mark.parametrize("texts", [False, True])
def test_operations(kind: str, first: Any, second: Any, texts: bool) -> None:
    a, b = (A.astype("S1").astype(object), B.astype("S1").astype(object)) if texts else (A, B)
    out = _run(lambda: getattr(tf.sets, f"set_{kind}")(first(a), second(b)))
    want = [sorted(KINDS[kind](set(x), set(y))) for x, y in zip(a.reshape(6, 4), b.reshape(6, 5), strict=True)]
    assert out.dense_shape.tolist() == [2, 3, max(map(len, want))]
    assert out.values.tolist() == [each for row in want for each in row]
    places = [[*divmod(k, 3), column] for k, row in enumerate(want) for column in range(len(row))]
    assert out.indices.tolist() == places


def test_the_other_difference_and_sizes() -> None:
    sizes, back = _run(lambda: (tf.sets.size(_sparse(A)), tf.sets.difference(_sparse(A), tf.constant(B), aminusb=False)))
    assert sizes.tolist() == [[len(set(row)) for row in rows] for rows in A]
    assert back.values.tolist() == [v for x, y in zip(A.reshape(6, 4), B.reshape(6, 5)) for v in sorted(set(y) - set(x))]
    empty = _run(lambda: tf.sets.intersection(tf.constant([[1]]), tf.constant([[2]])))
    assert (empty.indices.shape, empty.dense_shape.tolist()) == ((0, 2), [1, 0])


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="invalid dtype"):
        _run(lambda: tf.sets.union(tf.constant([[1.0]]), tf.constant([[1.0]])))
    with pytest.raises(ValueError, match="at least rank 2"):
        _run(lambda: tf.sets.union(tf.constant([1]), tf.constant([1])))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Mismatched shapes \[2\] vs \[1\]"):
        _run(lambda: tf.sets.union(tf.constant([[1], [2]]), tf.constant([[1]])))
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of order"):
        _run(lambda: tf.sets.size(tf.SparseTensor([[1, 0], [0, 0]], [1, 2], [2, 2])))


# --- edit distances ---


def _words(*rows: str) -> Any:
    places = [[k, column] for k, row in enumerate(rows) for column in range(len(row))]
    shape = [len(rows), max(map(len, rows))]
    return tf.SparseTensor(np.array(places).reshape(-1, 2), [char for row in rows for char in row], shape)


@pytest.mark.parametrize(
    ("mine", "truth", "want"),
    [("kitten", "sitting", 3), ("abc", "abc", 0), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edit_distance(mine: str, truth: str, want: int) -> None:
    got = _run(lambda: tf.edit_distance(_words(mine, "x"), _words(truth, "x"), normalize=False))
    assert got.tolist() == [want, 0]
    ratio = _run(lambda: tf.edit_distance(_words(mine, "x"), _words(truth, "x")))
    np.testing.assert_allclose(ratio, [want / len(truth) if truth else np.inf, 0])


def test_edit_distance_takes_sparse_tensors_of_rank_2() -> None:
    with pytest.raises(TypeError, match="Hypothesis must be a SparseTensor"):
        _run(lambda: tf.edit_distance(tf.constant([1]), _words("a")))
    line = tf.SparseTensorValue([[0]], [1], [1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="rank at least 2"):
        _run(lambda: tf.edit_distance(line, line))


# --- positions ---


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(side: Any) -> None:
    rows, values = np.sort(RNG.integers(0, 9, (2, 3, 5))), RNG.integers(0, 9, (2, 3, 4))
    got = _run(lambda: tf.searchsorted(tf.constant(rows), tf.constant(values), side))
    want = [np.searchsorted(row, wanted, side) for row, wanted in zip(rows.reshape(6, 5), values.reshape(6, 4))]
    np.testing.assert_array_equal(got, np.reshape(want, (2, 3, 4)))
    with pytest.raises(ValueError, match="must be either"):
        tf.searchsorted([1], [1], "middle")


def test_image_patches_give_their_gradient_back() -> None:
    array = RNG.standard_normal((2, 4, 5, 3))
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, [None, 4, 5, 3])
        patches = tf.extract_image_patches(x, [1, 2, 3, 1], [1, 2, 2, 1], [1, 1, 2, 1], "SAME")
        weights = tf.constant(RNG.standard_normal((2, 2, 3, 18)))
        (grad,) = tf.gradients(patches * weights, x)
        got, total = session.run([grad, tf.reduce_sum(patches * weights)], {x: array})
    # The map is linear, so the gradient tells the whole.
    np.testing.assert_allclose((got * array).sum(), total)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("narrow", [False, True])
def test_fake_quantisation(bits: int, narrow: bool) -> None:
    low, high, steps = -3.0, 5.0, 2**bits - 1 - narrow
    x = np.linspace(-5, 7, 40).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        fixed = tf.constant(x)
        y = tf.fake_quant_with_min_max_args(fixed, low, high, bits, narrow)
        ends = [tf.constant(low), tf.constant(high)]
        z = tf.fake_quant_with_min_max_vars(fixed, *ends, num_bits=bits, narrow_range=narrow)
        got, same, grad, *of_ends = session.run([y, z, tf.gradients(y, fixed)[0], *tf.gradients(z, ends)])
        with pytest.raises(tf.errors.InvalidArgumentError, match="min has to be smaller than max"):
            session.run(tf.fake_quant_with_min_max_args(fixed, 1.0, 0.0))
    step = (high - low) / steps
    np.testing.assert_allclose(got / step, np.round(got / step), atol=1e-4)
    inside = grad == 1
    assert np.abs(got - x)[inside].max() <= step * 0.501
    assert (got[~inside & (x < 0)] == got.min()).all()
    np.testing.assert_array_equal(got, same)
    assert of_ends == [(~inside & (x < 0)).sum(), (~inside & (x > 0)).sum()]
