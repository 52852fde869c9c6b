"""Generated matrix products against numpy: shapes, transpositions, dtypes, bounds, and which code is chosen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from products import Compiled, K, M, N, ir_of

from stepjit_compiler.dims import Extent
from stepjit_compiler.lower import matmul
from stepjit_compiler.lower.matmul import Product
from stepjit_runtime import blas, dtypes
from stepjit_runtime.dtypes import DType

TRANSPOSITIONS = list(itertools.product((False, True), repeat=2))
FLOATS = (dtypes.float32, dtypes.float64)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.code)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSITIONS)
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 10, 40), (1, 17, 3), (1, 150, 19), (5, 1, 7), (19, 1, 33), (1, 1, 50),
        (2, 2, 2), (3, 5, 4), (4, 4, 4), (4, 16, 4), (7, 10, 21), (13, 17, 9), (6, 23, 70), (35, 70, 20),
    ],
)  # fmt: skip
def test_known_sizes(sizes: tuple[int, int, int], transpose_a: bool, transpose_b: bool, dtype: DType) -> None:
    Compiled(Product(dtype, *sizes, transpose_a, transpose_b)).check([sizes])


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.code)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSITIONS)
def test_all_sizes_unknown(transpose_a: bool, transpose_b: bool, dtype: DType) -> None:
    extents = (0, 1, 2, 5, 8, 11, 16, 21, 37)
    Compiled(Product(dtype, M, N, K, transpose_a, transpose_b)).check(
        (m, n, k) for m, n, k in itertools.product(extents, repeat=3) if (m + n + k) % 3 or 0 in (m, n, k)
    )


@pytest.mark.parametrize(("n", "k"), [(10, 33), (64, 17), (6, 64), (100, 8), (24, 5)])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_unknown_batch(n: int, k: int, transpose_b: bool) -> None:
    Compiled(Product(dtypes.float32, M, n, k, False, transpose_b)).check((m, n, k) for m in range(0, 45, 1))


@pytest.mark.parametrize(("m", "n"), [(17, 64), (64, 10), (20, 1), (1, 20)])
@pytest.mark.parametrize("transpose_a", [False, True])
def test_unknown_depth(m: int, n: int, transpose_a: bool) -> None:
    depths = [*range(20), 31, 64, 100]
    for transpose_b in (False, True):
        Compiled(Product(dtypes.float32, m, n, K, transpose_a, transpose_b)).check((m, n, k) for k in depths)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_single_row_or_column_of_unknown_length(transpose_b: bool) -> None:
    lengths = [0, 1, 2, 7, 8, 9, 64, 75, 150]
    Compiled(Product(dtypes.float32, 1, N, 20, False, transpose_b)).check((1, n, 20) for n in lengths)
    Compiled(Product(dtypes.float32, M, 1, 20, transpose_b, False)).check((m, 1, 20) for m in lengths)


@pytest.mark.parametrize("code", ["i8", "u8", "i16", "i32", "u32", "i64", "u64"])
def test_integers_wrap(code: str) -> None:
    dtype = dtypes.as_dtype(code)
    for transpose_b in (False, True):
        Compiled(Product(dtype, 5, 19, 12, False, transpose_b)).check([(5, 19, 12)])
    Compiled(Product(dtype, 1, 9, K)).check([(1, 9, k) for k in (0, 3, 20)])


@pytest.mark.parametrize("sizes", [(0, 4, 3), (4, 0, 3), (3, 20, 0), (1, 20, 0), (20, 1, 0), (0, 0, 0)])
def test_no_elements_or_nothing_to_add(sizes: tuple[int, int, int]) -> None:
    for transpose_a, transpose_b in TRANSPOSITIONS:
        Compiled(Product(dtypes.float32, *sizes, transpose_a, transpose_b)).check([sizes])


def test_prefetching_may_look_beyond_the_matrix() -> None:
    Compiled(Product(dtypes.float32, 1, 256, 150)).check([(1, 256, 150)])


@np.errstate(invalid="ignore")
def test_special_values_stay_in_their_row_and_column() -> None:
    for k, transpose_b in itertools.product((5, 11, 20), (False, True)):
        product = Product(dtypes.float32, 3, 10, k, False, transpose_b)
        a, b = np.ones((3, k), "f4"), np.ones((k, 10), "f4")
        a[1, k - 1], b[0, 9] = np.inf, np.nan
        got, laid = np.zeros((3, 10), "f4"), np.ascontiguousarray(b.T if transpose_b else b)
        scratch = np.zeros(1 << 14, "u1")
        Compiled(product).call(*(array.ctypes.data for array in (a, laid, got, scratch)), 3, 10, k)
        np.testing.assert_array_equal(got, a @ b)
        row = Product(dtypes.float32, 1, 10, k, False, transpose_b)
        got = np.zeros((1, 10), "f4")
        Compiled(row).call(*(array.ctypes.data for array in (a[1:2].copy(), laid, got, scratch)), 1, 10, k)
        np.testing.assert_array_equal(got, a[1:2] @ b)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.code)
@pytest.mark.parametrize(("transpose_a", "transpose_b"), TRANSPOSITIONS)
def test_blas_call(transpose_a: bool, transpose_b: bool, dtype: DType) -> None:
    sizes = [(m, n, k) for m in (0, 1, 9) for n in (0, 1, 7) for k in (0, 1, 12)]
    Compiled(Product(dtype, M, N, K, transpose_a, transpose_b), by_blas=True).check(sizes)


def test_blas_threads() -> None:
    assert set(blas.addresses()) == set(blas.SYMBOLS)
    assert all(blas.addresses().values())
    with pytest.raises(ValueError, match="at least 1"):
        blas.set_threads(0)


def test_choice() -> None:
    f32 = dtypes.float32
    assert matmul.choose(Product(f32, 1, 256, 784)) == "generated"
    assert matmul.choose(Product(f32, M, 256, 784)) == "generated"
    assert matmul.choose(Product(f32, 1024, 1024, 1024)) == "blas"
    assert matmul.choose(Product(f32, 256, 256, 256, transpose_a=True)) == "blas"
    assert matmul.choose(Product(dtypes.int32, 1024, 1024, 1024)) == "generated"


def test_text_is_bounded_and_deterministic() -> None:
    shapes: list[tuple[Extent, Extent, Extent]] = [(M, N, K), (M, 256, 784), (100, 100, 100), (1, 300, K), (11, 23, 60)]
    for (m, n, k), (transpose_a, transpose_b) in itertools.product(shapes, TRANSPOSITIONS):
        product = Product(dtypes.float32, m, n, k, transpose_a, transpose_b)
        text = ir_of(product)
        assert text == ir_of(product)
        assert text.count("\n") < 1200
