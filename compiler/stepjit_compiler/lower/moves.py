"""Kernels that move pieces about: put together (concat, pack, pad), and scatter rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.point import Point, buffer_of
from stepjit_compiler.lower.sweep import serial, vectorised
from stepjit_compiler.lowering import Assemble, Scatter
from stepjit_runtime import dtypes

At = Callable[["tuple[Index, ...]"], None]


def nest(point: Point, extents: Sequence[Extent], lanes: int, body: At) -> None:
    """Loops over all positions of the extents, the last one vectorised."""

    def level(k: int, position: tuple[Index, ...]) -> None:
        if k == len(extents):
            body(position)
            return

        def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
            level(k + 1, (*position, point.var(var) if extents[k] != 1 else point.zero()))
            return carried

        if k == len(extents) - 1 and extents[k] != 1:
            vectorised(point, extents[k], _fitting(lanes, extents[k]), turn)
        else:
            serial(point, extents[k], turn)

    level(0, ())


def _fitting(lanes: int, extent: Extent) -> int:
    while isinstance(extent, int) and lanes > max(extent, 1):
        lanes //= 2
    return lanes


def _lanes(itemsize: int) -> int:
    return 64 // max(itemsize, 4)


def emit_assemble(point: Point) -> Extent:
    """Each input stored at its offset in the output, after what no input covers was filled."""
    i = point.kernel.nodes[0]
    node, call = point.step.nodes[i], point.call(i)
    op = opdef.lookup(node.op)
    assert op is not None and isinstance(op.lower, Assemble)
    out, type_ = Ref(i, 0), node.types[0]
    lanes = _lanes(type_.dtype.itemsize)
    background = op.lower.background(call)
    if background is not None:
        flat = dims.product(type_.dims)

        def fill(position: tuple[Index, ...]) -> None:
            point.store_at(point.const(background, type_.dtype), point.pointer(out), position[0])

        nest(point, [flat], lanes, fill)
    for k, offsets in op.lower.parts(call):
        _place(point, node.inputs[k], out, tuple(offsets), lanes)
    return 0


def _place(point: Point, part: Ref, out: Ref, offsets: tuple[Extent, ...], lanes: int) -> None:
    type_, whole = point.step.type(part), point.step.type(out)
    # A part may have fewer axes than the whole (pack): it stands at one place along the missing one.
    extents = _matching(type_.dims, whole.dims, point.step.nodes[out.node].attr.get("axis"))

    def copy(position: tuple[Index, ...]) -> None:
        own = tuple(each for each, extent in zip(position, extents, strict=True) if extent is not None)
        value = point.at(part, own)
        shifted = tuple(each + offset for each, offset in zip(position, offsets, strict=True))
        point.store_at(value, point.pointer(out), point.linear(whole, shifted))

    nest(point, [1 if extent is None else extent for extent in extents], lanes, copy)


def _matching(part: Sequence[Extent], whole: Sequence[Extent], axis: int | None) -> list[Extent | None]:
    """By axis of the whole: the part's extent, or None for `axis` if the part does not have it."""
    if len(part) == len(whole):
        return list(part)
    assert axis is not None
    missing = axis % len(whole)
    return [*part[:missing], None, *part[missing:]]


def emit_scatter(point: Point) -> Extent:
    """The data copied (unless it is written in place), then row after row changed."""
    i = point.kernel.nodes[0]
    node, call = point.step.nodes[i], point.call(i)
    op = opdef.lookup(node.op)
    assert op is not None and isinstance(op.lower, Scatter)
    data, indices, updates = node.inputs[:3]
    out, type_ = Ref(i, 0), node.types[0]
    lanes = _lanes(type_.dtype.itemsize)
    if buffer_of(point.plan, data) != buffer_of(point.plan, out):

        def copy(position: tuple[Index, ...]) -> None:
            value = point.load_at(point.pointer(data), type_.dtype, position[0])
            point.store_at(value, point.pointer(out), position[0])

        nest(point, [dims.product(type_.dims)], lanes, copy)
    count = point.step.type(indices).size
    row = dims.product(type_.dims[1:])
    scalar_update = not point.step.type(updates).dims

    def one(var: LoopVar, carried: list[Value]) -> list[Value]:
        at = point.b.convert(point.element(indices, point.var(var)), dtypes.int64)

        def element(position: tuple[Index, ...]) -> None:
            where = Index(point, 0, (), at) * row + position[0]
            old = point.load_at(point.pointer(out), type_.dtype, where)
            source = point.zero() if scalar_update else point.var(var) * row + position[0]
            update = point.element(updates, source)
            new = op.lower.emit(point.b, call, *point.same_lanes(old, update))
            point.store_at(new, point.pointer(out), where)

        nest(point, [row], lanes, element)
        return carried

    serial(point, count, one)
    return 0
