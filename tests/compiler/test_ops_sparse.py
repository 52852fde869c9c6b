"""Sparse ops: references against dense numpy, shape rules, and what each refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_ops_array import ref

from stepjit_runtime.errors import INTERNAL, OpFailure

Coo = tuple[np.ndarray, np.ndarray, np.ndarray]
RNG = np.random.default_rng(3)


def coo(dense: Any) -> Coo:
    """Indices, values and shape of what is not zero."""
    array = np.asarray(dense)
    return np.argwhere(array != 0), array[array != 0], np.array(array.shape, np.int64).reshape(array.ndim)


def dense(indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Elements in any order, repeated ones added up."""
    found = np.zeros(shape.tolist(), values.dtype)
    if not shape.size:
        return values.sum()
    np.add.at(found, tuple(indices.T), values)
    return found


def holes(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array of which about half is zero."""
    array = RNG.integers(-4, 5, shape)
    return (array * RNG.integers(0, 2, shape)).astype(dtype)


def shuffled(parts: Coo) -> Coo:
    order = RNG.permutation(len(parts[1]))
    return parts[0][order], parts[1][order], parts[2]


M, N, CUBE = holes(4, 5), holes(4, 5), holes(3, 2, 4)
EMPTY = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize("array", [M, CUBE, EMPTY, holes(7), holes(3, 4, dtype=np.complex64), np.zeros((0, 3))])
def test_to_dense(array: np.ndarray) -> None:
    indices, values, shape = coo(array)
    zero = np.zeros((), array.dtype)
    np.testing.assert_array_equal(ref("SparseToDense", indices, shape, values, zero), array)
    filled = ref("SparseToDense", indices, shape, values, zero + 9)
    np.testing.assert_array_equal(filled, np.where(array == 0, zero + 9, array))


def test_to_dense_of_vectors_and_scalars() -> None:
    one, zero = np.float32(1), np.float32(0)
    assert ref("SparseToDense", np.array([1, 3]), np.array([4]), one, zero).tolist() == [0, 1, 0, 1]
    assert ref("SparseToDense", np.array(2), np.array([4]), one, zero).tolist() == [0, 0, 1, 0]
    texts = ref("SparseToDense", np.array([[1]]), np.array([2]), np.array([b"a"], object), np.array(b"", object))
    assert texts.tolist() == [b"", b"a"]


def test_to_dense_without_validation_takes_the_last() -> None:
    indices, values = np.array([[1], [0], [1]]), np.array([1, 2, 3], np.float32)
    found = ref("SparseToDense", indices, np.array([2]), values, np.float32(0), validate_indices=False)
    assert found.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([[0, 1], [5, 0]], r"indices\[1\] = \[5,0\] is out of bounds: need 0 <= index < \[2,3\]"),
        ([[-1, 1], [1, 0]], r"indices\[0\] = \[-1,1\] is out of bounds"),
        ([[1, 1], [0, 0]], r"indices\[1\] = \[0,0\] is out of order"),
        ([[1, 1], [1, 1]], r"indices\[1\] = \[1,1\] is repeated"),
        ([[1, 1], [1, 1], [0, 0]], r"indices\[1\] = \[1,1\] is repeated"),
    ],
)
def test_to_dense_validates(indices: Any, text: str) -> None:
    with pytest.raises(OpFailure, match=text):
        ref("SparseToDense", np.array(indices), np.array([2, 3]), np.ones(len(indices)), np.float64(0))


@pytest.mark.parametrize("adjoint_a", [False, True])
@pytest.mark.parametrize("adjoint_b", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.complex128])
def test_matmul(adjoint_a: bool, adjoint_b: bool, dtype: Any) -> None:
    a = holes(4, 5, dtype=dtype) * dtype(2)
    if dtype is np.complex128:
        a = a * (1 + 2j)
    right = RNG.integers(-3, 4, (4 if adjoint_a else 5, 3)).astype(dtype)
    b = right.conj().T.copy() if adjoint_b else right
    indices, values, shape = shuffled(coo(a))
    found = ref("SparseTensorDenseMatMul", indices, values, shape, b, adjoint_a=adjoint_a, adjoint_b=adjoint_b)
    np.testing.assert_allclose(found, (a.conj().T if adjoint_a else a) @ right, rtol=1e-6)


def test_matmul_adds_repeated_elements_and_takes_none() -> None:
    b = np.eye(3, 2, dtype=np.float32)
    twice = ref("SparseTensorDenseMatMul", np.array([[1, 0], [1, 0]]), np.ones(2, np.float32), np.array([2, 3]), b)
    assert twice.tolist() == [[0, 0], [2, 0]]
    nothing = ref("SparseTensorDenseMatMul", np.zeros((0, 2), np.int64), np.ones(0, np.float32), np.array([2, 3]), b)
    assert nothing.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("indices", "shape", "b", "text"),
    [
        ([[5, 0]], [2, 3], (3, 2), r"m \(5\) from index\[0,0\] out of bounds \(>=2\)"),
        ([[0, 3]], [2, 3], (3, 2), r"k \(3\) from index\[0,1\] out of bounds \(>=3\)"),
        ([[0, 0]], [2, 3], (4, 2), "inner dimension does not match: 3 vs. 4"),
        ([[0, 0]], [2, 3, 4], (3, 2), "'a_shape' must have 2 elements"),
        ([[0, 0], [1, 1]], [2, 3], (3, 2), "Number of rows of a_indices"),
        ([[0, 0]], [2, 3], (3,), "'b' is not a matrix"),
    ],
)
def test_matmul_refuses(indices: Any, shape: Any, b: Any, text: str) -> None:
    with pytest.raises(OpFailure, match=text):
        ref("SparseTensorDenseMatMul", np.array(indices), np.ones(1), np.array(shape), np.ones(b))


def test_reorder() -> None:
    parts = shuffled(coo(CUBE))
    indices, values = ref("SparseReorder", *parts)
    np.testing.assert_array_equal(indices, np.argwhere(CUBE != 0))
    np.testing.assert_array_equal(values, CUBE[CUBE != 0])


@pytest.mark.parametrize("target", [[24], [4, -1], [2, 3, 2, 2], [-1], [24, 1, 1]])
def test_reshape(target: list[int]) -> None:
    indices, values, shape = coo(CUBE)
    found, new = ref("SparseReshape", indices, shape, np.array(target))
    np.testing.assert_array_equal(dense(found, values, new), CUBE.reshape(target))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ([4, 4], "a tensor with 24 dense values, but the requested shape has 16"),
        ([-1, 5], "requires a multiple of 5"),
        ([-1, -1], "only one output dimension may be -1"),
        ([-2, 12], "must be non-negative"),
        ([0, -1], "cannot infer the missing"),
    ],
)
def test_reshape_refuses(target: list[int], text: str) -> None:
    indices, _, shape = coo(CUBE)
    with pytest.raises(OpFailure, match=text):
        ref("SparseReshape", indices, shape, np.array(target))


def test_slice_and_its_gradient() -> None:
    parts = coo(CUBE)
    start, size = np.array([1, 0, 1]), np.array([5, 1, 2])
    indices, values, shape = ref("SparseSlice", *parts, start, size)
    np.testing.assert_array_equal(dense(indices, values, shape), CUBE[1:6, :1, 1:3])
    grad = np.arange(1, len(values) + 1, dtype=np.float32)
    back = ref("SparseSliceGrad", grad, parts[0], start, indices)
    inside = np.zeros_like(CUBE)
    inside[1:6, :1, 1:3] = dense(indices, grad, shape)
    np.testing.assert_array_equal(dense(parts[0], back, parts[2]), inside)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_and_split(axis: int) -> None:
    a, b = shuffled(coo(M)), coo(N)
    indices, values, shape = ref("SparseConcat", a[0], b[0], a[1], b[1], a[2], b[2], concat_dim=axis)
    whole = np.concatenate([M, N], axis)
    np.testing.assert_array_equal(dense(indices, values, shape), whole)
    np.testing.assert_array_equal(indices, np.argwhere(whole != 0))
    parts = ref("SparseSplit", np.array(axis), indices, values, shape, num_split=3)
    for k, want in enumerate(np.array_split(whole, 3, axis)):
        np.testing.assert_array_equal(dense(*parts[k::3]), want)


def test_concat_and_split_refuse() -> None:
    a, b = coo(M), coo(M[:, :3])
    with pytest.raises(OpFailure, match="expected 5 for dimension 1 but got 3 at position 1"):
        ref("SparseConcat", a[0], b[0], a[1], b[1], a[2], b[2], concat_dim=0)
    with pytest.raises(OpFailure, match="Concat dimension must be in range"):
        ref("SparseConcat", a[0], a[0], a[1], a[1], a[2], a[2], concat_dim=2)
    with pytest.raises(OpFailure, match="between 1 and the splitting dimension size"):
        ref("SparseSplit", np.array(0), *a, num_split=9)


def test_fill_empty_rows_and_its_gradient() -> None:
    array = np.array([[0, 0], [1, 2], [0, 0], [3, 0]], np.float32)
    indices, values, empty, back = ref("SparseFillEmptyRows", *coo(array), np.float32(7))
    assert indices.tolist() == [[0, 0], [1, 0], [1, 1], [2, 0], [3, 0]]
    assert values.tolist() == [7, 1, 2, 7, 3]
    assert empty.tolist() == [True, False, True, False]
    assert back.tolist() == [1, 2, 4]
    given, default = ref("SparseFillEmptyRowsGrad", back, np.array([1, 2, 3, 4, 5], np.float32))
    assert (given.tolist(), default) == ([2, 3, 5], 5)
    with pytest.raises(OpFailure, match=r"indices\(0, 0\) is invalid: 4 >= 4"):
        ref("SparseFillEmptyRows", np.array([[4, 0]]), np.ones(1), np.array([4, 2]), np.float64(0))


@pytest.mark.parametrize("axes", [[], [0], [1], [-1], [0, 2], [2, 1], [0, 1, 2]])
@pytest.mark.parametrize("keep", [False, True])
def test_reductions(axes: list[int], keep: bool) -> None:
    parts = shuffled(coo(CUBE))
    over = np.array(axes, np.int32)
    want = CUBE.sum(tuple(axes), keepdims=keep)
    np.testing.assert_allclose(ref("SparseReduceSum", *parts, over, keep_dims=keep), want)
    found = ref("SparseReduceSumSparse", *parts, over, keep_dims=keep)
    np.testing.assert_allclose(dense(*found), want)
    lowest = np.where(CUBE == 0, -np.inf, CUBE).max(tuple(axes), keepdims=keep)
    largest = np.where(np.isinf(lowest), 0, lowest)
    np.testing.assert_array_equal(ref("SparseReduceMax", *parts, over, keep_dims=keep), largest)
    np.testing.assert_array_equal(dense(*ref("SparseReduceMaxSparse", *parts, over, keep_dims=keep)), largest)


def test_reductions_refuse() -> None:
    with pytest.raises(OpFailure, match="Invalid reduction dimension 2"):
        ref("SparseReduceSum", *coo(M), np.array([2], np.int32))
    with pytest.raises(OpFailure, match="outside of bounds") as found:
        ref("SparseReduceSum", np.array([[9, 0]]), np.ones(1), np.array([2, 3]), np.array([1], np.int32))
    assert found.value.code == INTERNAL


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_add_and_its_gradient(dtype: Any) -> None:
    a, b = coo(M.astype(dtype)), coo(N.astype(dtype))
    indices, values, shape = ref("SparseAdd", *a, *b, dtype(0))
    np.testing.assert_array_equal(dense(indices, values, shape), (M + N).astype(dtype))
    np.testing.assert_array_equal(indices, np.argwhere((M != 0) | (N != 0)))
    grad = np.arange(1, len(values) + 1).astype(dtype)
    of_a, of_b = ref("SparseAddGrad", grad, a[0], b[0], indices)
    spread = dense(indices, grad, shape)
    np.testing.assert_array_equal(of_a, spread[M != 0])
    np.testing.assert_array_equal(of_b, spread[N != 0])


def test_add_drops_small_sums() -> None:
    found = ref("SparseAdd", *coo(M), *coo(-M), np.float32(0.5))
    assert found[0].shape == (0, 2)
    assert found[1].shape == (0,)
    with pytest.raises(OpFailure, match="do not match: got 4 and 5 for dimension 0"):
        ref("SparseAdd", *coo(M), *coo(holes(5, 5)), np.float32(0))


def test_maximum_minimum_and_dense_sum() -> None:
    for name, function in (("Maximum", np.maximum), ("Minimum", np.minimum)):
        indices, values = ref(f"SparseSparse{name}", *coo(M), *coo(N))
        np.testing.assert_array_equal(dense(indices, values, np.array(M.shape)), function(M, N))
    np.testing.assert_array_equal(ref("SparseTensorDenseAdd", *coo(M), N), M + N)
    with pytest.raises(OpFailure, match="invalid index on dimension 0"):
        ref("SparseTensorDenseAdd", np.array([[9, 0]]), np.ones(1, np.float32), np.array([4, 5]), N)


@pytest.mark.parametrize("shape", [(4, 5), (5,), (1, 5), (4, 1), ()])
@pytest.mark.parametrize(("name", "function"), [("Add", np.add), ("Mul", np.multiply), ("Div", np.divide)])
def test_with_a_dense_tensor(name: str, function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    other = RNG.integers(1, 5, shape).astype(np.float32)
    found = ref(f"SparseDenseCwise{name}", *coo(M), other)
    np.testing.assert_allclose(found, function(M, other)[M != 0])


def test_with_a_dense_tensor_refuses() -> None:
    with pytest.raises(OpFailure, match=r"broadcasts dense to sparse only; got incompatible shapes: \[4,5\] vs. \[3\]"):
        ref("SparseDenseCwiseMul", *coo(M), np.ones(3, np.float32))
    with pytest.raises(OpFailure, match="Integer division by zero"):
        ref("SparseDenseCwiseDiv", *coo(M.astype(np.int32)), np.zeros(5, np.int32))


def test_softmax() -> None:
    parts = shuffled(coo(CUBE))
    powers = np.where(CUBE == 0, 0, np.exp(CUBE))
    sums = powers.sum(-1, keepdims=True)
    want = np.divide(powers, sums, out=np.zeros_like(powers), where=sums > 0)
    np.testing.assert_allclose(dense(parts[0], ref("SparseSoftmax", *parts), parts[2]), want, rtol=1e-6)
    assert ref("SparseSoftmax", *coo(EMPTY)).shape == (0,)


BAD_PARTS = {
    "SparseReorder": (), "SparseSlice": (np.array([0, 0]), np.array([1, 1])), "SparseSoftmax": (),
    "SparseFillEmptyRows": (np.float64(0),), "SparseReduceSum": (np.array([0], np.int32),),
    "SparseDenseCwiseMul": (np.ones((2, 3)),), "SparseTensorDenseAdd": (np.ones((2, 3)),),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PARTS)
@pytest.mark.parametrize(("count", "rank"), [(3, 2), (2, 3)])
def test_parts_that_do_not_fit_together(name: str, count: int, rank: int) -> None:
    indices, values, shape = np.array([[0, 1], [1, 0]]), np.ones(count), np.full(rank, 3)
    with pytest.raises(OpFailure):
        ref(name, indices, values, shape, *BAD_PARTS[name])
