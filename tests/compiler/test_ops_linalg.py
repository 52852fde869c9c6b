"""Linear algebra's references against what they are defined by, in every dtype; shapes; what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stepjit_compiler import opdef
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import StepFailure, Type
from stepjit_compiler.ops.matrix_functions import exponential, logarithm, square_root
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.errors import OpFailure

RNG = np.random.default_rng(3)
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def run(name: str, *arrays: Any, **attrs: Any) -> list[np.ndarray]:
    """The op on fed arrays, checked against its shape rule by the interpreter."""
    inputs = [np.asarray(array) for array in arrays]
    builder = StepBuilder([Type(dtypes.as_dtype(each.dtype), each.shape) for each in inputs])
    made: Any = builder.op(name, *(builder.feed(i) for i in range(len(inputs))), **attrs)
    results, _ = interpret(builder.finish([made] if hasattr(made, "node") else list(made)), inputs, [])
    return list(results)


def draw(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    drawn = RNG.normal(size=shape)
    return (drawn + 1j * RNG.normal(size=shape) if np.dtype(dtype).kind == "c" else drawn).astype(dtype)


def adjoint(a: np.ndarray) -> np.ndarray:
    return np.conj(a).swapaxes(-1, -2)


def near(got: np.ndarray, want: Any, dtype: Any) -> None:
    tolerance = 1e-4 if np.dtype(dtype).itemsize // (1 + (np.dtype(dtype).kind == "c")) == 4 else 1e-10
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_solutions(dtype: Any) -> None:
    a, rhs = draw(2, 4, 4, dtype=dtype), draw(2, 4, 3, dtype=dtype)
    near(run("MatrixInverse", a)[0] @ a, np.broadcast_to(np.eye(4), a.shape), dtype)
    near(a @ run("MatrixSolve", a, rhs)[0], rhs, dtype)
    near(adjoint(a) @ run("MatrixSolve", a, rhs, adjoint=True)[0], rhs, dtype)
    for lower in (True, False):
        triangle = (np.tril(a) if lower else np.triu(a)) + 3 * np.eye(4, dtype=dtype)
        a_full = a + 3 * np.eye(4, dtype=dtype)
        near(triangle @ run("MatrixTriangularSolve", a_full, rhs, lower=lower)[0], rhs, dtype)
        near(adjoint(triangle) @ run("MatrixTriangularSolve", a_full, rhs, lower=lower, adjoint=True)[0], rhs, dtype)
    spd = a @ adjoint(a) + np.eye(4, dtype=dtype)
    (factor,) = run("Cholesky", spd)
    near(factor @ adjoint(factor), spd, dtype)
    assert not np.triu(factor, 1).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3)])
def test_decompositions(shape: tuple[int, ...], dtype: Any) -> None:
    a = draw(*shape, dtype=dtype)
    for full in (False, True):
        q, r = run("Qr", a, full_matrices=full)
        near(q @ r, a, dtype)
        s, u, v = run("Svd", a, full_matrices=full)
        k = s.shape[-1]
        near((u[..., :k] * s[..., None, :]) @ adjoint(v[..., :k]), a, dtype)
    only, *nothing = run("Svd", a, compute_uv=False)
    near(only, s, dtype)
    assert [each.shape for each in nothing] == [(0,), (0,)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_eigenvalues_and_lu(dtype: Any) -> None:
    a = draw(2, 4, 4, dtype=dtype)
    whole = np.tril(a) + adjoint(np.tril(a, -1))
    whole[..., range(4), range(4)] = whole[..., range(4), range(4)].real
    e, v = run("SelfAdjointEigV2", np.tril(whole))
    near((v * e[..., None, :]) @ adjoint(v), whole, dtype)
    near(run("SelfAdjointEigV2", whole, compute_v=False)[0], e, dtype)
    packed, rows = run("Lu", a, output_idx_type=dtypes.int64)
    assert rows.dtype == np.int64
    lower = np.tril(packed, -1) + np.eye(4, dtype=dtype)
    near(lower @ np.triu(packed), np.take_along_axis(a, rows[..., None], -2), dtype)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_functions_of_matrices(size: int) -> None:
    a = draw(size, size)
    values, vectors = np.linalg.eig(a)
    np.testing.assert_allclose(exponential(a), ((vectors * np.exp(values)) @ np.linalg.inv(vectors)).real, rtol=1e-9)
    np.testing.assert_allclose(exponential(np.zeros((size, size))), np.eye(size))
    spread = a + 4 * np.eye(size)
    np.testing.assert_allclose(square_root(spread) @ square_root(spread), spread, atol=1e-11)
    np.testing.assert_allclose(exponential(logarithm(spread.astype(complex))), spread, atol=1e-10)
    small = a * (2 / np.abs(a).sum())
    np.testing.assert_allclose(logarithm(exponential(small.astype(complex))), small, atol=1e-11)
    large = 50 * np.diag(np.arange(size, dtype=float))
    np.testing.assert_allclose(np.diag(exponential(large)), np.exp(np.diag(large)), rtol=1e-9)


def test_functions_of_matrices_without_a_full_set_of_eigenvectors() -> None:
    block = np.array([[1.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(exponential(block), np.e * block, rtol=1e-12)
    np.testing.assert_allclose(square_root(block), [[1, 0.5], [0, 1]], rtol=1e-12)
    np.testing.assert_allclose(logarithm(block.astype(complex)), [[0, 1], [0, 0]], atol=1e-12)
    assert np.isnan(square_root(np.array([[-1.0]]))).all()
    np.testing.assert_allclose(square_root(np.array([[-1.0 + 0j]])), [[1j]])


def test_least_squares() -> None:
    for rows, columns in ((5, 3), (3, 5)):
        a, b = draw(2, rows, columns), draw(2, rows, 2)
        shortest = np.linalg.pinv(a) @ b
        for fast in (False, True):
            near(run("MatrixSolveLs", a, b, np.float64(0), fast=fast)[0], shortest, np.float64)
        damped = np.linalg.solve(adjoint(a) @ a + 0.5 * np.eye(columns), adjoint(a) @ b)
        near(run("MatrixSolveLs", a, b, np.float64(0.5))[0], damped, np.float64)


def test_three_diagonals() -> None:
    diagonals, x = draw(3, 5), draw(5, 2)
    matrix = np.diag(diagonals[1]) + np.diag(diagonals[0, :-1], 1) + np.diag(diagonals[2, 1:], -1)
    near(run("TridiagonalSolve", diagonals, matrix @ x)[0], x, np.float64)
    parts = [diagonals[None, k] for k in range(3)]
    near(run("TridiagonalMatMul", *parts, x)[0], matrix @ x, np.float64)


EMPTY: dict[str, tuple[Sequence[Any], Sequence[tuple[int, ...]]]] = {
    "MatrixInverse": ([np.zeros((2, 0, 0))], [(2, 0, 0)]),
    "MatrixSolve": ([np.zeros((2, 2)), np.zeros((2, 0))], [(2, 0)]),
    "MatrixTriangularSolve": ([np.zeros((0, 2, 2)), np.zeros((0, 2, 3))], [(0, 2, 3)]),
    "MatrixDeterminant": ([np.zeros((3, 0, 0))], [(3,)]),
    "Cholesky": ([np.zeros((0, 2, 2))], [(0, 2, 2)]),
    "Qr": ([np.zeros((2, 0))], [(2, 0), (0, 0)]),
    "Lu": ([np.zeros((0, 2, 2))], [(0, 2, 2), (0, 2)]),
    "MatrixExponential": ([np.zeros((0, 2, 2))], [(0, 2, 2)]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_do(name: str) -> None:
    arrays, shapes = EMPTY[name]
    assert [each.shape for each in run(name, *arrays)] == list(shapes)


@pytest.mark.parametrize("name", ["MatrixInverse", "Cholesky", "Lu", "SelfAdjointEigV2", "MatrixExponential"])
def test_only_squares(name: str) -> None:
    for shape, text in (((2, 3), "square"), ((3,), "rank")):
        with pytest.raises((OpFailure, StepFailure), match=text):
            run(name, np.ones(shape))
        op = opdef.lookup(name)
        assert op is not None and op.reference is not None
        attrs = {attr.name: attr.default for attr in op.attrs}
        with pytest.raises(OpFailure, match=text):
            op.reference(opdef.Call(name, attrs, [dtypes.float64] * 2), np.ones(shape))
