"""Kernels around a matrix product: generated, with what follows fused into its tiles, or a BLAS call."""

from __future__ import annotations

from collections.abc import Callable

from stepjit_compiler import opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref, Type
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.matmul import Product, emit_blas, emit_product, scratch_bytes
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lower.sweep import serial
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.passes.fuse import product_of

HEAVY_EPILOGUE = 12.0
"""From this cost per element on, what follows a product is written once per tile rather than once per register."""

Matrices = Callable[["tuple[Index, ...]", Value, Value], None]
"""`emit(batch position, pointer to a, pointer to b)`."""


def emit_generated_product(point: Point) -> Extent:
    """Register tiles of the product, each finished vector handed to the fused ops and stored."""
    product = _product(point)
    heavy = _epilogue_cost(point) >= HEAVY_EPILOGUE
    scratch = scratch_bytes(product, heavy)

    def one(batch: tuple[Index, ...], a: Value, c: Value) -> None:
        def finish(b: Builder, acc: Value, row: Value, col: Value) -> None:
            assert b is point.b
            with point.scope():
                position = (*batch, Index(point, 0, (), row), point.var(LoopVar(col, acc.lanes)))
                point.remember(Ref(point.kernel.nodes[0], 0), acc)
                point.store_all(point.kernel.outputs, lambda ref: position)

        room = Value("%scratch", None) if scratch != 0 else None
        emit_product(point.b, product, a, c, point.extent, finish, room, heavy)

    _each_matrix(point, one)
    return scratch


def _epilogue_cost(point: Point) -> float:
    lowers = [opdef.lookup(point.step.nodes[i].op) for i in point.kernel.nodes[1:]]
    return sum(op.lower.cost for op in lowers if op is not None and isinstance(op.lower, Elementwise))


def emit_blas_product(point: Point) -> Extent:
    product, out = _product(point), Ref(point.kernel.nodes[0], 0)
    type_ = point.step.type(out)

    def one(batch: tuple[Index, ...], a: Value, c: Value) -> None:
        where = point.linear(type_, (*batch, point.zero(), point.zero()))
        pointer = point.b.offset(point.pointer(out), type_.dtype, point.value(where))
        emit_blas(point.b, product, a, c, pointer, point.extent)

    _each_matrix(point, one)
    return 0


def _product(point: Point) -> Product:
    i = point.kernel.nodes[0]
    return product_of(point.step, i, point.call(i))


def _each_matrix(point: Point, emit: Matrices) -> None:
    """Loops over the leading axes of a batched product; the operands' leading axes broadcast."""
    node = point.step.nodes[point.kernel.nodes[0]]
    a, c = node.inputs[:2]
    leading = node.types[0].dims[:-2]

    def level(k: int, batch: tuple[Index, ...]) -> None:
        if k == len(leading):
            emit(batch, _matrix(point, a, batch), _matrix(point, c, batch))
            return

        def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
            level(k + 1, (*batch, point.var(var)))
            return carried

        serial(point, leading[k], turn)

    level(0, ())


def _matrix(point: Point, ref: Ref, batch: tuple[Index, ...]) -> Value:
    type_: Type = point.step.type(ref)
    own = type_.dims[:-2]
    skip = len(batch) - len(own)
    where = tuple(point.zero() if extent == 1 else batch[k + skip] for k, extent in enumerate(own))
    at = point.linear(type_, (*where, point.zero(), point.zero()))
    if at.is_constant and at.constant == 0:
        return point.pointer(ref)
    return point.b.offset(point.pointer(ref), type_.dtype, point.value(at))
