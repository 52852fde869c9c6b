"""Matrix products: which are generated and which are left to BLAS, and the code for either.

C[m, n] = op(A)[m, k] op(B)[k, n], all dense and row-major; op transposes, so A then lies in memory as [k, m]. The
caller finishes every vector of results (bias, activation, store) through a callback, so a product needs no pass of
its own over C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stepjit_compiler.dims import Extent
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.gemm_tile import BUFFER_VECTORS, Finish, Job, Plan, Size, emit_tiles
from stepjit_compiler.lower.gemv import emit_vector
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

VECTOR_BYTES = 32
TYPICAL_SYMBOLIC = 128
"""What a symbolic extent, mostly a batch, is taken for when code is chosen."""
GENERATED_WORK = 26_000_000
"""Multiply-adds up to which generated code was measured to be as fast as BLAS on one thread, or faster."""
ACROSS = 192
"""A transposed A is read a cache line per k and row tile: beyond so many k, BLAS, which packs A, is faster."""
BLAS_SYMBOLS = {dtypes.float32: "scipy_cblas_sgemm64_", dtypes.float64: "scipy_cblas_dgemm64_"}
_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112


@dataclass(frozen=True)
class Product:
    """C[m, n] of op(A)[m, k] and op(B)[k, n]; extents are ints or dims."""

    dtype: DType
    m: Extent
    n: Extent
    k: Extent
    transpose_a: bool = False
    transpose_b: bool = False


def choose(product: Product) -> str:
    """`generated` or `blas`, by sizes; for dtypes that BLAS lacks always `generated`."""
    if product.dtype not in BLAS_SYMBOLS:
        return "generated"
    m, n, k = (_typical(extent) for extent in (product.m, product.n, product.k))
    if product.transpose_a and min(m, n) > 1 and k > ACROSS:
        return "blas"
    return "generated" if m * n * k <= GENERATED_WORK else "blas"


def scratch_bytes(product: Product, heavy: bool = False) -> Extent:
    """Bytes of scratch that `emit_product` needs, 64-byte aligned for speed; 0 for none."""
    if product.m == 0 or product.n == 0:
        return 0
    plan = _plan(product, heavy)
    if not (plan.buffered or plan.packed):
        return 0
    panel = product.k * (plan.vectors * plan.lanes) if plan.packed else 0
    return (panel + BUFFER_VECTORS * plan.lanes) * product.dtype.itemsize


def emit_product(
    b: Builder,
    product: Product,
    a: Value,
    bb: Value,
    extent: Callable[[Extent], Value],
    finish: Finish,
    scratch: Value | None = None,
    heavy: bool = False,
) -> None:
    """Emit loops that call `finish(b, acc, row, col)` for vectors of C, each summed over all of k.

    `acc` has a power of two of lanes, for consecutive columns from `col` on. Every element is finished exactly once.
    `scratch` points to `scratch_bytes(product, heavy)` bytes that no operand or result overlaps. With `heavy`, `finish`
    writes much code, which is not to be repeated for every register of a tile.
    """
    if product.m == 0 or product.n == 0:
        return

    def size(of: Extent) -> Size:
        return of if isinstance(of, int) else extent(of)

    m, n, k = size(product.m), size(product.n), size(product.k)
    plan = _plan(product, heavy)
    assert scratch is not None or scratch_bytes(product, heavy) == 0
    flags = product.transpose_a, product.transpose_b
    job = Job(b, product.dtype, m, n, k, *flags, a, bb, finish, scratch, plan)
    (emit_vector if m == 1 or n == 1 else emit_tiles)(job)


def emit_blas(b: Builder, product: Product, a: Value, bb: Value, c: Value, extent: Callable[[Extent], Value]) -> None:
    """Emit the call that writes the product of floats to c[m, n]; with k = 0 it writes zeros, as BLAS has it."""
    symbol = BLAS_SYMBOLS[product.dtype]
    real = "float" if product.dtype is dtypes.float32 else "double"
    b.externals.add(
        f"declare void @{symbol}(i32, i32, i32, i64, i64, i64, {real}, ptr, i64, ptr, i64, {real}, ptr, i64)"
    )
    m, n, k = (
        extent(each) if not isinstance(each, int) else b.int64(each) for each in (product.m, product.n, product.k)
    )

    def stride(width: Value) -> str:
        return repr(b.maximum(width, b.int64(1)))  # BLAS refuses a stride of 0

    layout = [_ROW_MAJOR, *(_TRANSPOSED if t else _PLAIN for t in (product.transpose_a, product.transpose_b))]
    one, zero = (repr(b.const(number, product.dtype)) for number in (1, 0))
    arguments = [f"i32 {number}" for number in layout] + [repr(m), repr(n), repr(k), one]
    arguments += [repr(a), stride(m if product.transpose_a else k), repr(bb), stride(k if product.transpose_b else n)]
    arguments += [zero, repr(c), stride(n)]
    b.raw(f"call void @{symbol}({', '.join(arguments)})")


# --- plans ---


def _typical(extent: Extent) -> int:
    return extent if isinstance(extent, int) else TYPICAL_SYMBOLIC


def _plan(product: Product, heavy: bool) -> Plan:
    lanes = min(8, VECTOR_BYTES // product.dtype.itemsize)
    k = product.k
    if product.m == 1 or product.n == 1:
        results = product.n if product.m == 1 else product.m
        direct = isinstance(results, int) and (results < 8 * lanes or _typical(k) <= 64)
        if product.n == 1:
            direct = isinstance(results, int) and results <= 4
        return Plan(lanes, 1, 1, packed=False, direct=direct, buffered=not direct)
    rows, vectors = _tile_shape(product, lanes)
    tiny = isinstance(product.n, int) and isinstance(k, int) and product.n <= lanes and product.n * k <= 64
    packed = not isinstance(product.n, int)
    if product.transpose_b:
        packed = not tiny
    elif isinstance(product.n, int) and product.n >= 64:
        packed = _typical(product.m) >= 32
    direct = isinstance(product.m, int) and isinstance(k, int) and k <= 64 and isinstance(product.n, int)
    direct = direct and not heavy
    return Plan(lanes, rows, vectors, packed=packed, direct=direct, buffered=not direct)


def _tile_shape(product: Product, lanes: int) -> tuple[int, int]:
    """Rows and vectors per row of a full tile: about twelve sums, few rows wide and many rows narrow."""
    rows = product.m if isinstance(product.m, int) else 6
    vectors = {2: 4, 3: 4, 4: 3}.get(rows, 2)
    if isinstance(product.n, int):
        have = -(-product.n // lanes)
        vectors = min(vectors, have)
        if have == 3:
            vectors = 3
    most = min(rows, 12 // vectors, 8)
    if isinstance(product.m, int) and vectors > 1:
        # A height that divides the rows needs code for one kind of tile only.
        most = next((height for height in range(most, 3, -1) if product.m % height == 0), most)
    return most, vectors
