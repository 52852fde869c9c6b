"""Kernels around a convolution: with what follows fused into its tiles, or the gradient for the filter."""

from __future__ import annotations

from stepjit_compiler import opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.conv import Window
from stepjit_compiler.lower.conv_filter import emit_filter_gradient
from stepjit_compiler.lower.conv_forward import emit_forward, scratch_elements
from stepjit_compiler.lower.depthwise_filter import emit_depthwise_filter
from stepjit_compiler.lower.gemm_tile import Size
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.point import Point
from stepjit_compiler.lowering import Convolution


def is_convolution(point: Point) -> bool:
    """Whether the kernel's first node is a convolution."""
    op = opdef.lookup(point.step.nodes[point.kernel.nodes[0]].op)
    return op is not None and isinstance(op.lower, Convolution)


def _window(point: Point) -> Window:
    i = point.kernel.nodes[0]
    op = opdef.lookup(point.step.nodes[i].op)
    assert op is not None
    found: Window = op.lower.window(point.call(i))
    return found


def emit_convolution(point: Point) -> Extent:
    """Tiles of the convolution, each finished vector handed to the fused ops and stored."""
    window, node = _window(point), point.step.nodes[point.kernel.nodes[0]]
    scratch = scratch_elements(window) * window.dtype.itemsize
    if node.types[0].size == 0:
        return 0

    def finish(b: Builder, acc: Value, row: tuple[Size, ...], channel: Value) -> None:
        with point.scope():
            where = [Index(point, at) if isinstance(at, int) else Index(point, 0, (), at) for at in row]
            position = (*where, point.var(LoopVar(channel, acc.lanes)))
            point.remember(Ref(point.kernel.nodes[0], 0), acc)
            point.store_all(point.kernel.outputs, lambda ref: position)

    image, kernel = (point.pointer(ref) for ref in node.inputs[:2])
    room = Value("%scratch", None) if scratch else None
    emit_forward(point.b, window, image, kernel, point.extent, finish, room)
    return scratch


def emit_filter(point: Point) -> Extent:
    """The gradient for the filter."""
    i = point.kernel.nodes[0]
    window, node = _window(point), point.step.nodes[i]
    image, grad, result = (point.pointer(ref) for ref in (*node.inputs[:2], Ref(i, 0)))
    emit = emit_depthwise_filter if node.op == "_DepthwiseFilter" else emit_filter_gradient
    emit(point.b, window, image, grad, result, point.extent)
    return 0
