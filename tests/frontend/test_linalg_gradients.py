"""Gradients of decompositions and functions of matrices, against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(11)
ANY = RNG.normal(size=(2, 3, 3))
NEAR_ONE = 2 * np.eye(3) + 0.3 * ANY
TALL, WIDE = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 3, 4))
RHS = RNG.normal(size=(2, 3, 2))


def known_signs(u: Any, v: Any) -> list[Any]:
    """Singular vectors as what doesn't depend on their signs."""
    return [u * u, v * v, tf.matmul(u, v, adjoint_b=True)]


CASES: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
    "qr": (lambda x: list(tf.qr(x)), ANY),
    "qr of tall": (lambda x: list(tf.qr(x)), TALL),
    "qr of wide": (lambda x: list(tf.qr(x)), WIDE),
    "qr, full": (lambda x: list(tf.qr(x, full_matrices=True)), WIDE),
    "singular values": (lambda x: [tf.svd(x, compute_uv=False)], TALL),
    "svd": (lambda x: [(d := tf.svd(x))[0], *known_signs(*d[1:])], ANY),
    "svd of tall": (lambda x: [(d := tf.svd(x))[0], *known_signs(*d[1:])], TALL),
    "svd of wide": (lambda x: [(d := tf.svd(x))[0], *known_signs(*d[1:])], WIDE),
    "svd, full, values only": (lambda x: [tf.svd(x, full_matrices=True)[0]], WIDE),
    "lu": (lambda x: [tf.linalg.lu(x)[0]], ANY),
    "lu solve": (lambda x: [tf.linalg.lu_solve(*tf.linalg.lu(x), RHS)], ANY),
    "least squares": (lambda x: [tf.matrix_solve_ls(x, np.ones((2, 4, 2)), 0.3)], TALL),
    "least squares of wide": (lambda x: [tf.matrix_solve_ls(x, RHS, 0.3)], WIDE),
    "least squares, exact": (lambda x: [tf.matrix_solve_ls(x, np.ones((2, 4, 2)), fast=False)], TALL),
    "least squares of wide, exact": (lambda x: [tf.matrix_solve_ls(x, RHS, fast=False)], WIDE),
    "least squares for": (lambda x: [tf.matrix_solve_ls(WIDE, x, 0.3)], RHS),
    "triangular, one matrix for all": (lambda x: [tf.matrix_triangular_solve(x, RHS)], NEAR_ONE[0]),
    "triangular, one side for all": (lambda x: [tf.matrix_triangular_solve(NEAR_ONE, x)], RHS[0]),
    "exponential": (lambda x: [tf.linalg.expm(x)], ANY),
    "square root": (lambda x: [tf.linalg.sqrtm(x)], NEAR_ONE),
    "logarithm": (lambda x: [tf.real(tf.linalg.logm(tf.cast(x, tf.complex128)))], NEAR_ONE),
    "pseudo-inverse": (lambda x: [tf.linalg.pinv(x)], TALL),
    "spectral norm": (lambda x: [tf.norm(x, 2, axis=[-2, -1])], TALL),
    "three diagonals": (lambda x: [tf.linalg.tridiagonal_solve(x, RHS)], ANY),
    "three diagonals, vector": (lambda x: [tf.linalg.tridiagonal_solve(ANY, x)], RHS[:, :, 0]),
    "product of three diagonals": (lambda x: [tf.linalg.tridiagonal_matmul(x, RHS)], ANY),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str) -> None:
    build, value = CASES[name]
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, value.shape)
        draw = np.random.default_rng(1).normal
        loss = tf.add_n([tf.reduce_sum(y * draw(size=y.shape.as_list())) for y in build(x)])
        (gradient,) = tf.gradients(loss, [x])
        step = session.make_callable(loss, [x])
        want = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            near = [value.copy(), value.copy()]
            for sign, each in zip((1, -1), near, strict=True):
                each[index] += sign * 1e-6
            want[index] = (step(near[0]) - step(near[1])) / 2e-6
        np.testing.assert_allclose(session.run(gradient, {x: value}), want, rtol=1e-5, atol=1e-6)


def test_gradients_that_there_are_not() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float64, [4, 3])
        with pytest.raises(ValueError, match="full_matrices"):
            tf.gradients(tf.svd(x, full_matrices=True)[1], [x])
        with pytest.raises(ValueError, match="full matrices"):
            tf.gradients(tf.qr(x, full_matrices=True)[0], [x])
