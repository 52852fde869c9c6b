"""Inverses, solutions and decompositions: against numpy, gradients against central differences, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(7)
ANY = RNG.normal(size=(2, 3, 3))
SPD = ANY @ ANY.swapaxes(1, 2) + 3 * np.eye(3)
TALL = RNG.normal(size=(2, 4, 3))
RHS = RNG.normal(size=(2, 3, 2))
COMPLEX = ANY + 1j * SPD


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


def run(fetches: Any, feed_dict: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(fetches, feed_dict)


def adjoint(a: Any) -> Any:
    return np.conj(a).swapaxes(-1, -2)


VALUES: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "inverse": (tf.matrix_inverse, ANY, np.linalg.inv(ANY)),
    "inverse of the adjoint": (lambda x: tf.matrix_inverse(x, adjoint=True), COMPLEX, np.linalg.inv(adjoint(COMPLEX))),
    "determinant": (tf.matrix_determinant, ANY, np.linalg.det(ANY)),
    "logarithm of the determinant": (tf.linalg.logdet, SPD, np.log(np.linalg.det(SPD))),
    "solve": (lambda x: tf.matrix_solve(x, RHS), ANY, np.linalg.solve(ANY, RHS)),
    "solve with the adjoint": (
        lambda x: tf.matrix_solve(x, RHS + 0j, adjoint=True), COMPLEX, np.linalg.solve(adjoint(COMPLEX), RHS)
    ),
    "lower": (lambda x: tf.matrix_triangular_solve(x, RHS), SPD, np.linalg.solve(np.tril(SPD), RHS)),
    "upper, adjoint": (
        lambda x: tf.matrix_triangular_solve(x, RHS, lower=False, adjoint=True), SPD,
        np.linalg.solve(np.triu(SPD).swapaxes(1, 2), RHS),
    ),
    "least squares": (
        lambda x: tf.matrix_solve_ls(x, np.ones((2, 4, 1))), TALL, np.linalg.pinv(TALL) @ np.ones((2, 4, 1))
    ),
    "cholesky": (tf.cholesky, SPD, np.linalg.cholesky(SPD)),
    "cholesky solve": (lambda x: tf.cholesky_solve(tf.cholesky(x), RHS), SPD, np.linalg.solve(SPD, RHS)),
    "eigenvalues": (tf.self_adjoint_eigvals, SPD, np.linalg.eigvalsh(SPD)),
    "singular values": (lambda x: tf.svd(x, compute_uv=False), TALL, np.linalg.svd(TALL, compute_uv=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    build, value, want = VALUES[name]
    x = tf.placeholder(value.dtype, [None, *value.shape[1:]])
    y = build(x)
    got = run(y, {x: value})
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    assert got.dtype == want.dtype and y.shape.is_compatible_with(got.shape)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("value", [TALL, TALL.swapaxes(1, 2)], ids=["tall", "wide"])
def test_factors(value: Any, full: bool) -> None:
    x = tf.placeholder(tf.float64, value.shape)
    q, r = tf.qr(x, full_matrices=full)
    s, u, v = tf.svd(x, full_matrices=full)
    found = run([q, r, s, u, v], {x: value})
    for tensor, array in zip((q, r, s, u, v), found, strict=True):
        assert tensor.shape == array.shape
    inner = min(value.shape[1:])
    np.testing.assert_allclose(found[0] @ found[1], value, atol=1e-12)
    left, right = found[3][..., :inner], found[4][..., :inner]
    np.testing.assert_allclose((left * found[2][:, None]) @ right.swapaxes(1, 2), value, atol=1e-12)


DIFFERENTIABLE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "inverse": (tf.matrix_inverse, ANY),
    "inverse of the adjoint": (lambda x: tf.matrix_inverse(x, adjoint=True), ANY),
    "determinant": (tf.matrix_determinant, ANY),
    "slogdet": (lambda x: tf.linalg.slogdet(x)[1], ANY),
    "logdet": (lambda x: tf.linalg.logdet((x + tf.matrix_transpose(x)) / 2), SPD),
    "solve": (lambda x: tf.matrix_solve(x, RHS), ANY),
    "solve with the adjoint": (lambda x: tf.matrix_solve(x, RHS, adjoint=True), ANY),
    "solve for": (lambda x: tf.matrix_solve(ANY, x), RHS),
    "lower": (lambda x: tf.matrix_triangular_solve(x, RHS), SPD),
    "upper, adjoint": (lambda x: tf.matrix_triangular_solve(x, RHS, lower=False, adjoint=True), SPD),
    "cholesky": (lambda x: tf.cholesky((x + tf.matrix_transpose(x)) / 2), SPD),
    "eigenvalues": (lambda x: tf.self_adjoint_eigvals((x + tf.matrix_transpose(x)) / 2), SPD),
    "eigenvectors": (lambda x: tf.self_adjoint_eig((x + tf.matrix_transpose(x)) / 2)[1] ** 2, SPD),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str) -> None:
    build, value = DIFFERENTIABLE[name]
    x = tf.placeholder(tf.float64, value.shape)
    y = build(x)
    weights = np.random.default_rng(1).normal(size=y.shape.as_list())
    loss = tf.reduce_sum(y * weights)
    (gradient,) = tf.gradients(loss, [x])
    with tf.Session() as session:
        step = session.make_callable(loss, [x])
        want = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            near = [value.copy(), value.copy()]
            for sign, each in zip((1, -1), near, strict=True):
                each[index] += sign * 1e-6
            want[index] = (step(near[0]) - step(near[1])) / 2e-6
        np.testing.assert_allclose(session.run(gradient, {x: value}), want, rtol=1e-5, atol=1e-7)


def test_half_and_empty() -> None:
    assert run(tf.matrix_inverse(tf.constant(np.eye(2), tf.float16))).dtype == np.float16
    assert run(tf.matrix_inverse(tf.zeros([0, 0]))).shape == (0, 0)
    assert run(tf.matrix_determinant(tf.zeros([3, 0, 0]))).tolist() == [1, 1, 1]


def test_errors() -> None:
    x = tf.placeholder(tf.float64, None)
    zeros = np.zeros((2, 2))
    for build, text in (
        (tf.matrix_inverse, "Input is not invertible"),
        (lambda x: tf.matrix_solve(x, zeros), "Input matrix is not invertible"),
        (tf.cholesky, "Cholesky decomposition was not successful"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            run(build(x), {x: zeros})
    for build in (tf.matrix_inverse, tf.cholesky, tf.matrix_determinant, tf.self_adjoint_eigvals):
        with pytest.raises(ValueError, match="Dimensions must be equal"):
            build(tf.zeros([2, 3]))
        with pytest.raises(ValueError, match="rank 2"):
            build(tf.zeros([3]))
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be square"):
            run(build(x), {x: np.zeros((2, 3))})
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        tf.matrix_solve(tf.zeros([2, 2]), tf.zeros([3, 1]))
