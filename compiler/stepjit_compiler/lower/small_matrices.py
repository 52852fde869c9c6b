"""Kernels on batches of small square matrices: elimination, substitution and Cholesky factors, one matrix at a time.

The arithmetic is that of the plain algorithms, without FMA: a matrix that is singular in exact steps is found to be.
Up to UNROLLED rows everything is written out and lives in registers; above, rows are swept in vectors by loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Union

from stepjit_compiler import opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower.builder import Value, memory_type
from stepjit_compiler.lower.checks import fail_if
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.kernel_code import Failure
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.sweep import serial
from stepjit_compiler.lowering import Matrices
from stepjit_runtime.dtypes import DType

UNROLLED = 4
VECTOR_BYTES = 32

Number = Union[int, Value]
"""A row or a column: known when the code is written, or an i64."""


class Work:
    """A matrix in memory of the kernel's own, with right sides beside it; rows are whole vectors."""

    def __init__(self, point: Point, dtype: DType, size: int, beside: int, unrolled: bool) -> None:
        self.point, self.b, self.dtype, self.size, self.beside = point, point.b, dtype, size, beside
        self.unrolled = unrolled
        self.lanes = 1 if unrolled else VECTOR_BYTES // dtype.itemsize
        self.right = _round_up(size, self.lanes)
        """The column at which right sides begin."""
        self.stride = self.right + _round_up(beside, self.lanes)
        point.allocas.append(f"  %work = alloca [{size * self.stride} x {memory_type(dtype)}], align 64")
        self.memory = Value("%work", None)

    def at(self, row: Number, column: Number) -> Value:
        b = self.b
        if isinstance(row, int) and isinstance(column, int):
            return b.offset(self.memory, self.dtype, b.int64(row * self.stride + column))
        first = b.int64(row * self.stride) if isinstance(row, int) else b.mul(row, b.int64(self.stride))
        return b.offset(self.memory, self.dtype, b.add(first, self.number(column)))

    def get(self, row: Number, column: Number, lanes: int = 1) -> Value:
        return self.b.load(self.at(row, column), self.dtype, lanes)

    def put(self, value: Value, row: Number, column: Number) -> None:
        self.b.store(value, self.at(row, column))

    def number(self, x: Number) -> Value:
        return self.b.int64(x) if isinstance(x, int) else x

    def plus(self, x: Number, step: int) -> Number:
        return x + step if isinstance(x, int) else self.b.add(x, self.b.int64(step))

    def from_end(self, x: Number) -> Number:
        """The row as far from the last as x is from the first."""
        last = self.size - 1
        return last - x if isinstance(x, int) else self.b.sub(self.b.int64(last), x)

    def each(self, start: Number, stop: Number, body: Callable[[Number], None]) -> None:
        """`body` for start ... stop - 1, in a loop unless all is written out."""
        if self.unrolled:
            assert isinstance(start, int) and isinstance(stop, int)
            for k in range(start, stop):
                body(k)
            return
        loop = self.b.begin_loop(self.number(start), self.number(stop), 1)
        body(loop.index)
        self.b.end_loop(loop)

    def vectors(self, start: Number, stop: int, body: Callable[[Number], None]) -> None:
        """`body` for the vectors of columns from the one that holds `start` on."""
        if self.unrolled:
            self.each(start, stop, body)
            return
        b = self.b
        first = b.and_(self.number(start), b.int64(-self.lanes))
        loop = b.begin_loop(first, b.int64(_round_up(stop, self.lanes)), self.lanes)
        body(loop.index)
        b.end_loop(loop)

    def subtract(self, row: Number, column: Number, factor: Value, source: Number) -> None:
        """A vector of `row` less `factor` times that of row `source`."""
        b = self.b
        product = b.exact_mul(b.splat(factor, self.lanes), self.get(source, column, self.lanes))
        self.put(b.exact_sub(self.get(row, column, self.lanes), product), row, column)

    def clear(self) -> None:
        """Zeros in the columns that fill up vectors."""
        if not self.unrolled:
            zero = self.b.const(0, self.dtype, self.lanes)
            self.each(0, self.size, lambda i: self.vectors(0, self.stride, lambda j: self.put(zero, i, j)))


def _round_up(x: int, to: int) -> int:
    return -(-x // to) * to


class _Operands:
    """The op of the kernel: where its matrices lie, for the batch position at hand."""

    def __init__(self, point: Point, message: str) -> None:
        self.point, self.node = point, point.kernel.nodes[0]
        self.out = Ref(self.node, 0)
        self.inputs: Sequence[Ref] = point.step.nodes[self.node].inputs
        self.call = point.call(self.node)
        self.message = message
        self.batch: tuple[Index, ...] = ()

    def read(self, i: int, row: Number, column: Number) -> Value:
        ref = self.inputs[i]
        own = self.point.step.type(ref).dims[:-2]
        skip = len(self.batch) - len(own)
        where = tuple(self.point.zero() if e == 1 else self.batch[k + skip] for k, e in enumerate(own))
        type_ = self.point.step.type(ref)
        return self.point.element(ref, self.point.linear(type_, (*where, self._index(row), self._index(column))))

    def write(self, value: Value, *place: Number) -> None:
        self.point.store(self.out, value, (*self.batch, *map(self._index, place)))

    def _index(self, x: Number) -> Index:
        return self.point.zero() + x if isinstance(x, int) else self.point.var(LoopVar(x))

    def require(self, condition: Value) -> None:
        """End the step where the condition does not hold."""
        point = self.point
        if not point.failures:
            point.failures.append(Failure(self.message, point.step.nodes[self.node].origin))
        zero = point.b.int64(0)
        fail_if(point.b, point.b.not_(condition), (zero, zero, zero, zero))


def emit_matrices(point: Point) -> Extent:
    """The op's result for one matrix after another; those of a determinant's batch are scalars."""
    i = point.kernel.nodes[0]
    node = point.step.nodes[i]
    op = opdef.lookup(node.op)
    assert op is not None and isinstance(op.lower, Matrices)
    lower, dims = op.lower, node.types[0].dims
    operands = _Operands(point, lower.message)
    (_, size) = (int(extent) for extent in point.step.type(node.inputs[0]).dims[-2:])  # type: ignore[arg-type]
    leading = dims if lower.kind == "determinant" else dims[:-2]
    beside = {"inverse": size, "cholesky": 0, "determinant": 0}.get(lower.kind)
    if beside is None:
        beside = int(dims[-1])  # type: ignore[arg-type]
    unrolled = size <= UNROLLED and beside <= 2 * UNROLLED
    work = Work(point, node.types[0].dtype, size, beside, unrolled)

    def level(k: int, batch: tuple[Index, ...]) -> None:
        if k == len(leading):
            operands.batch = batch
            _EMIT[lower.kind](operands, work)
            return

        def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
            level(k + 1, (*batch, point.var(var)))
            return carried

        serial(point, leading[k], turn)

    level(0, ())
    return 0


# --- what is read and written ---


def _load(operands: _Operands, work: Work, adjoint: bool) -> None:
    def row(i: Number) -> None:
        work.each(0, work.size, lambda j: work.put(operands.read(0, *((j, i) if adjoint else (i, j))), i, j))

    work.clear()
    work.each(0, work.size, row)


def _load_beside(operands: _Operands, work: Work) -> None:
    def row(i: Number) -> None:
        work.each(0, work.beside, lambda j: work.put(operands.read(1, i, j), i, work.plus(j, work.right)))

    work.each(0, work.size, row)


def _store(operands: _Operands, work: Work) -> None:
    def row(i: Number) -> None:
        work.each(0, work.beside, lambda j: operands.write(work.get(i, work.plus(j, work.right)), i, j))

    work.each(0, work.size, row)


# --- algorithms ---


def _eliminate(work: Work, check: Callable[[Value], None] | None, swapped: Callable[[Value], None] | None) -> None:
    """Make the matrix upper triangular by rows with the largest pivot; right sides go along."""
    b = work.b

    def step(k: Number) -> None:
        _pivot(work, k, swapped)
        pivot = work.get(k, k)
        nonzero = b.compare("gt", b.abs(pivot), b.const(0, work.dtype))
        if check is not None:
            check(nonzero)

        def row(i: Number) -> None:
            factor = b.div(work.get(i, k), pivot)
            if check is None:  # below a pivot of 0 there are zeros only; NaN stays
                is_zero = b.compare("eq", pivot, b.const(0, work.dtype))
                factor = b.select(is_zero, b.const(0, work.dtype), factor)
            work.vectors(work.plus(k, 1), work.stride, lambda j: work.subtract(i, j, factor, k))

        work.each(work.plus(k, 1), work.size, row)

    work.each(0, work.size, step)


def _pivot(work: Work, k: Number, swapped: Callable[[Value], None] | None) -> None:
    """Bring the largest of column k, from row k on, to row k."""
    b = work.b
    if work.unrolled:
        assert isinstance(k, int)
        for i in range(k + 1, work.size):
            larger = b.compare("gt", b.abs(work.get(i, k)), b.abs(work.get(k, k)))
            if swapped is not None:
                swapped(larger)
            for j in range(k, work.stride):
                upper, lower = work.get(k, j), work.get(i, j)
                work.put(b.select(larger, lower, upper), k, j)
                work.put(b.select(larger, upper, lower), i, j)
        return
    at = work.number(k)
    start = [b.abs(work.get(k, k)), at]
    loop = b.begin_loop(b.add(at, b.int64(1)), b.int64(work.size), 1, start)
    size = b.abs(work.get(loop.index, k))
    larger = b.compare("gt", size, loop.carried[0])
    found = b.end_loop(loop, [b.select(larger, size, loop.carried[0]), b.select(larger, loop.index, loop.carried[1])])
    row = found[1]
    if swapped is not None:
        swapped(b.compare("ne", row, at))

    def swap(j: Number) -> None:
        upper, lower = work.get(k, j, work.lanes), work.get(row, j, work.lanes)
        work.put(lower, k, j)
        work.put(upper, row, j)

    work.vectors(k, work.stride, swap)


def _substitute(work: Work, lower: bool) -> None:
    """Solve the triangular system for the right sides, row by row."""
    b = work.b

    def row(t: Number) -> None:
        i = t if lower else work.from_end(t)

        def known(s: Number) -> None:
            j = s if lower else work.from_end(s)
            factor = work.get(i, j)
            work.vectors(work.right, work.stride, lambda c: work.subtract(i, c, factor, j))

        work.each(0, t, known)
        diagonal = b.splat(work.get(i, i), work.lanes)
        work.vectors(work.right, work.stride, lambda c: work.put(b.div(work.get(i, c, work.lanes), diagonal), i, c))

    work.each(0, work.size, row)


# --- ops ---


def _inverse(operands: _Operands, work: Work) -> None:
    _load(operands, work, bool(operands.call.attrs["adjoint"]))
    one, zero = work.b.const(1, work.dtype), work.b.const(0, work.dtype)
    if work.unrolled:
        for i in range(work.size):
            for j in range(work.size):
                work.put(one if i == j else zero, i, work.right + j)
    else:
        work.each(0, work.size, lambda i: work.put(one, i, work.plus(i, work.right)))
    _eliminate(work, operands.require, None)
    _substitute(work, lower=False)
    _store(operands, work)


def _solve(operands: _Operands, work: Work) -> None:
    _load(operands, work, bool(operands.call.attrs["adjoint"]))
    _load_beside(operands, work)
    _eliminate(work, operands.require, None)
    _substitute(work, lower=False)
    _store(operands, work)


def _triangular(operands: _Operands, work: Work) -> None:
    adjoint = bool(operands.call.attrs["adjoint"])
    _load(operands, work, adjoint)
    _load_beside(operands, work)
    _substitute(work, lower=bool(operands.call.attrs["lower"]) != adjoint)
    _store(operands, work)


def _determinant(operands: _Operands, work: Work) -> None:
    b = work.b
    work.point.allocas.append(f"  %sign = alloca {memory_type(work.dtype)}")
    sign = Value("%sign", None)
    b.store(b.const(1, work.dtype), sign)

    def swapped(condition: Value) -> None:
        old = b.load(sign, work.dtype)
        b.store(b.select(condition, b.neg(old), old), sign)

    _load(operands, work, False)
    _eliminate(work, None, swapped)
    work.each(0, work.size, lambda k: b.store(b.mul(b.load(sign, work.dtype), work.get(k, k)), sign))
    operands.write(b.load(sign, work.dtype))


def _cholesky(operands: _Operands, work: Work) -> None:
    """The factor's adjoint by rows, from the lower triangle."""
    b = work.b

    def step(k: Number) -> None:
        square = work.get(k, k)
        operands.require(b.compare("gt", square, b.const(0, work.dtype)))
        root = b.sqrt(square)
        spread = b.splat(root, work.lanes)
        work.put(root, k, k)
        if work.unrolled:
            work.each(work.plus(k, 1), work.size, lambda j: work.put(b.div(work.get(k, j), root), k, j))
        else:
            work.vectors(k, work.size, lambda j: work.put(b.div(work.get(k, j, work.lanes), spread), k, j))
            work.put(root, k, k)

        def row(i: Number) -> None:
            factor = work.get(k, i)
            work.vectors(i, work.size, lambda j: work.subtract(i, j, factor, k))

        work.each(work.plus(k, 1), work.size, row)

    _load(operands, work, adjoint=True)
    work.each(0, work.size, step)
    zero = b.const(0, work.dtype)

    def result(i: Number) -> None:
        work.each(0, work.plus(i, 1), lambda j: operands.write(work.get(j, i), i, j))
        work.each(work.plus(i, 1), work.size, lambda j: operands.write(zero, i, j))

    work.each(0, work.size, result)


_EMIT: dict[str, Callable[[_Operands, Work], None]] = {
    "inverse": _inverse, "solve": _solve, "triangular": _triangular, "determinant": _determinant,
    "cholesky": _cholesky,
}  # fmt: skip
