"""Small matrices in native code: every algorithm against numpy, sizes and batches, what is singular, where it stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native_steps import Failed, build, check, native

from stepjit_compiler.ops.linalg import LARGEST

SIZES = [1, 2, 3, 4, 5, 8, 9, 17]


def matrices(size: int, batch: tuple[int, ...] = (), dtype: Any = np.float64) -> np.ndarray:
    drawn = np.random.default_rng(size).normal(size=(*batch, size, size))
    return (drawn + np.diag(np.arange(size) - size / 2)).astype(dtype)


def positive(size: int, batch: tuple[int, ...] = (), dtype: Any = np.float64) -> np.ndarray:
    a = matrices(size, batch)
    return (a @ a.swapaxes(-1, -2) + np.eye(size)).astype(dtype)


@pytest.mark.parametrize("size", SIZES)
def test_inverse(size: int) -> None:
    for adjoint in (False, True):
        check([matrices(size)], lambda b, x, adjoint=adjoint: b.op("MatrixInverse", x, adjoint=adjoint), rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_solve(size: int) -> None:
    for columns, adjoint in ((1, False), (3, True), (11, False)):
        rhs = np.random.default_rng(1).normal(size=(size, columns))
        check([matrices(size), rhs],
              lambda b, x, y, adjoint=adjoint: b.op("MatrixSolve", x, y, adjoint=adjoint), rtol=1e-9)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_triangular_solve_reads_one_triangle(size: int) -> None:
    rhs = np.random.default_rng(1).normal(size=(size, 3))
    for lower in (False, True):
        for adjoint in (False, True):
            given = positive(size)
            other = np.triu_indices(size, 1) if lower else np.tril_indices(size, -1)
            given[other] = np.nan

            def make(b: Any, x: Any, y: Any, lower: bool = lower, adjoint: bool = adjoint) -> Any:
                return b.op("MatrixTriangularSolve", x, y, lower=lower, adjoint=adjoint)

            (got,) = native(build([given, rhs], make, False))(given, rhs)
            triangle = np.tril(given) if lower else np.triu(given)
            want = np.linalg.solve(triangle.T if adjoint else triangle, rhs)
            np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_cholesky_reads_the_lower_triangle(size: int) -> None:
    given = positive(size)
    want = np.linalg.cholesky(given)
    given[np.triu_indices(size, 1)] = np.nan
    (got,) = native(build([given], lambda b, x: b.op("Cholesky", x), False))(given)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_determinant(size: int) -> None:
    check([matrices(size, (4,))], lambda b, x: b.op("MatrixDeterminant", x), rtol=1e-9)
    check([np.ones((size, size))], lambda b, x: b.op("MatrixDeterminant", x))
    check([np.eye(size)[::-1].copy()], lambda b, x: b.op("MatrixDeterminant", x))
    check([np.zeros((size, size))], lambda b, x: b.op("MatrixDeterminant", x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [3, 6])
def test_batches_of_any_extent(size: int, dtype: Any) -> None:
    for batch in ((0,), (1,), (5,), (2, 3)):
        a, rhs = matrices(size, batch, dtype), np.ones((*batch, size, 2), dtype)
        spd = positive(size, batch, dtype)
        rtol = 1e-3 if dtype is np.float32 else 1e-9
        check([a], lambda b, x: b.op("MatrixInverse", x), symbolic=True, rtol=rtol)
        check([a, rhs], lambda b, x, y: b.op("MatrixSolve", x, y), symbolic=True, rtol=rtol)
        check([spd], lambda b, x: b.op("Cholesky", x), symbolic=True, rtol=rtol)
        check([a], lambda b, x: b.op("MatrixDeterminant", x), symbolic=True, rtol=rtol)


def test_triangular_batches_broadcast() -> None:
    a, rhs = positive(3, (2, 1)), np.random.default_rng(1).normal(size=(4, 3, 2))
    check([a, rhs], lambda b, x, y: b.op("MatrixTriangularSolve", x, y), rtol=1e-9)


def test_a_triangular_zero_divides() -> None:
    check([np.array([[1.0, 0], [1, 0]]), np.array([[1.0], [2]])], lambda b, x, y: b.op("MatrixTriangularSolve", x, y))


SINGULAR = [
    np.zeros((1, 1)), np.ones((2, 2)), np.array([[1.0, 2], [3, 6]]), np.array([[np.nan, 1], [1, 1]]),
    np.array([[1.0, np.nan], [0, 1]]), np.diag([1.0, 0, 1]), np.ones((7, 7)), np.diag([*np.ones(8), 0.0]),
]  # fmt: skip


@pytest.mark.parametrize("given", SINGULAR, ids=range(len(SINGULAR)))
def test_singular_matrices_end_the_step(given: np.ndarray) -> None:
    for batch in (given, np.stack([np.eye(len(given)), given])):
        for op, arrays in (("MatrixInverse", [batch]), ("MatrixSolve", [batch, np.ones_like(batch)])):
            with pytest.raises(Failed):
                native(build(arrays, lambda b, *xs, op=op: b.op(op, *xs), False))(*arrays)


@pytest.mark.parametrize("size", [2, 6])
def test_what_is_not_positive_definite_ends_the_step(size: int) -> None:
    for bad in (-1.0, 0.0, np.nan):
        given = np.eye(size)
        given[-1, -1] = bad
        with pytest.raises(Failed):
            native(build([given], lambda b, x: b.op("Cholesky", x), False))(given)


def test_larger_matrices_run_in_lapack() -> None:
    size = LARGEST + 1
    given = matrices(size)
    step = build([given], lambda b, x: b.op("MatrixInverse", x), False)
    assert step.nodes[-1].host
    assert not build([given[:-1, :-1].copy()], lambda b, x: b.op("MatrixInverse", x), False).nodes[-1].host
