"""Rules of values that are one element many times over: kept as `Fill`s, and read as scalars; see `matching`."""

from __future__ import annotations

from typing import Any

from stepjit_compiler import opdef
from stepjit_compiler.ir import INLINE_BYTES, Node, Ref, is_splat
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.passes.matching import (
    Result,
    constant,
    general_rule,
    producer,
    rule,
    shape_ref,
    splat,
)  # fmt: skip
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime.dtypes import DType


def filled(x: StepBuilder, node: Node, value: Any, dtype: DType) -> Ref | None:
    """A Fill of the node's shape."""
    shape = shape_ref(x, node.types[0].dims)
    return None if shape is None else x.op("Fill", shape, x.const(value, dtype))


@rule("Const")
def large_splat(x: StepBuilder, node: Node) -> Result:
    """a constant over a kilobyte whose elements are all c -> Fill(s, c)"""
    array = node.attr["value"].array
    if array.nbytes <= INLINE_BYTES or not is_splat(array):
        return None
    return filled(x, node, array.ravel()[0], node.types[0].dtype)


@rule("ZerosLike", "OnesLike")
def like(x: StepBuilder, node: Node) -> Result:
    """ZerosLike(x) -> Fill(s, 0); OnesLike(x) -> Fill(s, 1)"""
    dtype = node.types[0].dtype
    if dtype.kind in "so":
        return None
    return filled(x, node, int(node.op == "OnesLike"), dtype)


@rule("BroadcastTo", "Tile", "Reshape", "Transpose", "ReverseV2", "Slice", "StridedSlice", "Squeeze", "ExpandDims")
def rearranged_fill(x: StepBuilder, node: Node) -> Result:
    """f(Fill(s, c)) -> Fill(t, c) for ops that only choose, repeat or move elements"""
    inner = producer(x, node.inputs[0], "Fill")
    return None if inner is None or node.host else _fill_like(x, node, inner.inputs[1])


@rule("BroadcastTo", "Tile")
def fill_of_one(x: StepBuilder, node: Node) -> Result:
    """BroadcastTo(c, s) -> Fill(s, c) for constants c of one element"""
    value = constant(x, node.inputs[0])
    if value is None or value.size != 1 or node.host:
        return None
    return filled(x, node, value.ravel()[0], node.types[0].dtype)


def _fill_like(x: StepBuilder, node: Node, value: Ref) -> Ref | None:
    shape = shape_ref(x, node.types[0].dims)
    return None if shape is None else x.op("Fill", shape, value)


def _is_broadcasting(op: OpDef) -> bool:
    return op.infer is opdef.broadcasting and isinstance(op.lower, Elementwise)


def _is_elementwise(op: OpDef) -> bool:
    return isinstance(op.lower, Elementwise) and not op.stateful


@general_rule(_is_elementwise)
def function_of_fill(x: StepBuilder, node: Node) -> Result:
    """f(Fill(s, a), b) -> Fill(s, f(a, b)) where all operands are constants of one value"""
    if len(node.types) != 1 or node.host or not any(producer(x, ref, "Fill") for ref in node.inputs):
        return None
    values = [splat(x, ref) for ref in node.inputs]
    if any(value is None for value in values):
        return None
    scalars = [x.const(value, x.type(ref).dtype) for value, ref in zip(values, node.inputs)]
    (result,) = x.emit(node.op, scalars, dict(node.attrs))
    return _fill_like(x, node, result) if constant(x, result) is not None and not x.type(result).dims else None


@general_rule(_is_broadcasting)
def scalar_operand(x: StepBuilder, node: Node) -> Result:
    """f(x, Fill(s, c)) -> f(x, c); f(x, constant of one value) -> f(x, c); f(x, BroadcastTo(y, s)) -> f(x, y)"""
    inputs = [_unspread(x, ref) for ref in node.inputs]
    if inputs == list(node.inputs) or all(not x.type(ref).dims for ref in inputs):
        return None
    attrs = dict(node.attrs)
    found = x.emit(node.op, inputs, attrs)
    if x.type(found[0]) == node.types[0]:
        return found
    for i, ref in enumerate(inputs):
        # One operand may have to keep its shape for the others to be stretched to it.
        if ref != node.inputs[i]:
            some = (*node.inputs[:i], ref, *node.inputs[i + 1 :])
            found = x.emit(node.op, some, attrs)
            if x.type(found[0]) == node.types[0]:
                return found
    return None


def _unspread(x: StepBuilder, ref: Ref) -> Ref:
    if not x.type(ref).dims:
        return ref
    spread = producer(x, ref, "BroadcastTo", "Fill")
    if spread is not None:
        return spread.inputs[0] if spread.op == "BroadcastTo" else spread.inputs[1]
    value = constant(x, ref)
    if value is not None and value.size > 1 and is_splat(value):
        return x.const(value.ravel()[0], x.type(ref).dtype)
    return ref
