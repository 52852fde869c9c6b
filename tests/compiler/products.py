"""Runs emitted matrix products on buffers that end, or begin, at a page that nobody may touch."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np

from stepjit_compiler import dims, native
from stepjit_compiler.lower import matmul
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.matmul import Product
from stepjit_runtime import blas, dtypes

M, N, K = (dims.symbol(name) for name in "mnk")
Sizes = tuple[int, int, int]


def ir_of(product: Product, by_blas: bool = False) -> str:
    """A function of (a, b, c, scratch, m, n, k) which adds the product to c, or by BLAS writes it there."""
    b = Builder()
    a, bb, c, scratch = (Value(f"%{name}", None) for name in ("a", "b", "c", "scratch"))

    def extent(of: dims.Extent) -> Value:
        return b.int64(of) if isinstance(of, int) else Value(f"%{of}", dtypes.int64)

    def finish(inner: Builder, acc: Value, row: Value, col: Value) -> None:
        assert acc.lanes in (1, 2, 4, 8)
        place = inner.offset(c, product.dtype, inner.add(inner.mul(row, extent(product.n)), col))
        inner.store(inner.add(inner.load(place, product.dtype, acc.lanes), acc), place)

    if by_blas:
        matmul.emit_blas(b, product, a, bb, c, extent)
    else:
        matmul.emit_product(b, product, a, bb, extent, finish, scratch)
    head = "define void @product(ptr %a, ptr %b, ptr %c, ptr %scratch, i64 %m, i64 %n, i64 %k) {\nentry:"
    return "\n".join([*sorted(b.intrinsics | b.externals), head, *b.lines, "  ret void\n}\n"])


class Compiled:
    """A product in native code, called with numpy arrays."""

    def __init__(self, product: Product, by_blas: bool = False) -> None:
        self.product = product
        code = native.compile_module(ir_of(product, by_blas))
        if by_blas:
            for symbol, address in blas.addresses().items():
                llvm.add_symbol(symbol, address)
        machine = llvm.Target.from_default_triple().create_target_machine()
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self.engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self.engine.finalize_object()
        kinds = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 3
        self._function = ctypes.CFUNCTYPE(None, *kinds)(self.engine.get_function_address("product"))

    def call(self, *arguments: int) -> None:
        """Run on the addresses of a, b, c and scratch, and the sizes m, n, k."""
        self._function(*arguments)

    def check(self, sizes: Iterable[Sizes]) -> None:
        """Compare with numpy at each of the sizes, with every buffer flush with a forbidden page on either side."""
        for m, n, k in sizes:
            a, b, expected = operands(self.product, m, n, k)
            needed = dims.evaluate(matmul.scratch_bytes(self.product), {"m": m, "n": n, "k": k})
            for at_end in (True, False):
                buffers = [Guarded(size, at_end) for size in (a.nbytes, b.nbytes, expected.nbytes, needed)]
                buffers[0].write(a)
                buffers[1].write(b)
                self.call(*(buffer.address for buffer in buffers), m, n, k)
                got = buffers[2].read(expected.dtype).reshape(m, n)
                bound = tolerance(self.product, k)
                np.testing.assert_allclose(got, expected, rtol=bound, atol=bound * 10, err_msg=f"{self.product}")
                assert buffers[0].read(a.dtype).tobytes() == a.tobytes(), "an operand was written to"
                for buffer in buffers:
                    buffer.close()


def operands(product: Product, m: int, n: int, k: int) -> tuple[Any, Any, Any]:
    """Random a and b as they lie in memory, and their product computed in float64 (ints: exactly)."""
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    shapes = (k, m) if product.transpose_a else (m, k), (n, k) if product.transpose_b else (k, n)
    kind = product.dtype.np
    if kind.kind == "f":
        a, b = (rng.standard_normal(shape).astype(kind) for shape in shapes)
        wide_a, wide_b = a.astype("f8"), b.astype("f8")
    else:
        a, b = (rng.integers(0, 100, shape).astype(kind) for shape in shapes)
        wide_a, wide_b = a, b
    expected = (wide_a.T if product.transpose_a else wide_a) @ (wide_b.T if product.transpose_b else wide_b)
    return a, b, expected.astype(kind)


def tolerance(product: Product, k: int) -> float:
    """What rounding may do to a sum of k terms; nothing for ints."""
    return float(np.finfo(product.dtype.np).eps) * (4 + k) if product.dtype.is_floating else 0.0


class Guarded:
    """Bytes between two pages without access, flush with the upper one (`at_end`) or the lower one."""

    def __init__(self, size: int, at_end: bool) -> None:
        page = mmap.PAGESIZE
        self.size, inner = size, max(1, -(-size // page)) * page
        self.memory = mmap.mmap(-1, inner + 2 * page)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None)
        for edge in (self.base, self.base + page + inner):
            assert libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
        self.offset = page + (inner - size if at_end else 0)
        self.address = self.base + self.offset

    def write(self, array: Any) -> None:
        self.memory[self.offset : self.offset + self.size] = array.tobytes()

    def read(self, kind: Any) -> Any:
        return np.frombuffer(self.memory[self.offset : self.offset + self.size], kind)

    def close(self) -> None:
        self.memory.close()
