"""Rules of shape and place: reshapes, transposes, slices, joins; see `matching`.

`alias(x)` below is x's elements in order under another shape: Reshape, ExpandDims, Squeeze.
"""

from __future__ import annotations

from stepjit_compiler import dims
from stepjit_compiler.ir import Node, Ref
from stepjit_compiler.passes.matching import (
    Result,
    constant,
    integers,
    producer,
    reshaped,
    rule,
)  # fmt: skip
from stepjit_compiler.step_builder import StepBuilder

# --- The same elements under another shape ---


_KEEPERS = (
    "Reshape", "ExpandDims", "Squeeze", "EnsureShape", "BroadcastTo", "Tile", "Slice", "Pad", "PadV2", "MirrorPad",
)  # fmt: skip


@rule(*_KEEPERS)
def nothing_changes(x: StepBuilder, node: Node) -> Result:
    """f(x) -> x where the result has x's own shape, for ops that then keep every element in place"""
    if any(x.nodes[ref.node].op not in ("Const", "_Dims") for ref in node.inputs[1:]):
        return None  # what the op would say of a wrong argument is for it to find
    return node.inputs[0]


@rule("ExpandDims", "Squeeze")
def alias_is_reshape(x: StepBuilder, node: Node) -> Result:
    """ExpandDims(x, k) -> Reshape(x, s); Squeeze(x) -> Reshape(x, s)"""
    return reshaped(x, node.inputs[0], node.types[0].dims)


@rule("Reshape")
def reshape_of_reshape(x: StepBuilder, node: Node) -> Result:
    """Reshape(alias(x), s) -> Reshape(x, s)"""
    inner = producer(x, node.inputs[0], "Reshape", "ExpandDims", "Squeeze")
    return None if inner is None else reshaped(x, inner.inputs[0], node.types[0].dims)


# --- Transposes ---


@rule("Transpose")
def transpose_of_nothing(x: StepBuilder, node: Node) -> Result:
    """Transpose(x) -> Reshape(x, s) where only dimensions of extent 1 move; -> x where none does"""
    perm = integers(x, node.inputs[1])
    if perm is None:
        return None
    extents = x.type(node.inputs[0]).dims
    moved = [k % len(perm) for k in perm if extents[k] != 1]
    return reshaped(x, node.inputs[0], node.types[0].dims) if moved == sorted(moved) else None


@rule("Transpose")
def transpose_of_transpose(x: StepBuilder, node: Node) -> Result:
    """Transpose(Transpose(x, p), q) -> Transpose(x, p[q])"""
    inner = producer(x, node.inputs[0], "Transpose")
    outer_perm = integers(x, node.inputs[1])
    inner_perm = integers(x, inner.inputs[1]) if inner is not None else None
    if inner is None or outer_perm is None or inner_perm is None:
        return None
    perm = x.const([inner_perm[k] for k in outer_perm], x.type(node.inputs[1]).dtype)
    return x.op("Transpose", inner.inputs[0], perm)


@rule("MatMul")
def matmul_of_transpose(x: StepBuilder, node: Node) -> Result:
    """MatMul(Transpose(a), b) -> MatMul(a, b, transpose_a=true), and so for b"""
    return _product_of_transpose(x, node, ("transpose_a", "transpose_b"))


@rule("BatchMatMul", "BatchMatMulV2")
def batch_matmul_of_transpose(x: StepBuilder, node: Node) -> Result:
    """BatchMatMul(a with last dimensions swapped, b) -> BatchMatMul(a, b, adj_x=true) for reals, and so for b"""
    if x.type(node.inputs[0]).dtype.is_complex:
        return None  # `adj` conjugates
    return _product_of_transpose(x, node, ("adj_x", "adj_y"))


def _product_of_transpose(x: StepBuilder, node: Node, flags: tuple[str, str]) -> Ref | None:
    inputs, attrs = list(node.inputs), dict(node.attrs)
    for i, flag in enumerate(flags):
        source = _swapped(x, inputs[i])
        if source is not None:
            inputs[i] = source
            attrs[flag] = not attrs.get(flag, False)
    return None if inputs == list(node.inputs) else x.op(node.op, *inputs, **attrs)


def _swapped(x: StepBuilder, ref: Ref) -> Ref | None:
    """What `ref` is with its last two dimensions swapped, if it is a Transpose that does that."""
    node = producer(x, ref, "Transpose")
    perm = integers(x, node.inputs[1]) if node is not None else None
    if node is None or perm is None or len(perm) < 2:
        return None
    rank = len(perm)
    return node.inputs[0] if perm == [*range(rank - 2), rank - 1, rank - 2] else None


# --- Slices ---


@rule("StridedSlice")
def slice_of_all(x: StepBuilder, node: Node) -> Result:
    """StridedSlice(x) -> Reshape(x, s) where strides are 1 and no element is left out"""
    strides = integers(x, node.inputs[3])
    have = x.type(node.inputs[0])
    if strides is None or any(stride != 1 for stride in strides):
        return None
    size = dims.product(have.dims)
    if size != dims.product(node.types[0].dims) or size == 0:
        return None
    return reshaped(x, node.inputs[0], node.types[0].dims)


@rule("ReverseV2")
def reverse_of_nothing(x: StepBuilder, node: Node) -> Result:
    """ReverseV2(x) -> x along no axes or ones of extent 1"""
    axes = integers(x, node.inputs[1])
    extents = x.type(node.inputs[0]).dims
    return node.inputs[0] if axes is not None and all(extents[axis] == 1 for axis in axes) else None


@rule("ReverseV2")
def reverse_twice(x: StepBuilder, node: Node) -> Result:
    """ReverseV2(ReverseV2(x, axes), axes) -> x"""
    inner = producer(x, node.inputs[0], "ReverseV2")
    return inner.inputs[0] if inner is not None and inner.inputs[1] == node.inputs[1] else None


# --- Joins and splits ---


@rule("ConcatV2", "Concat")
def concat_of_one(x: StepBuilder, node: Node) -> Result:
    """concat(x) -> x"""
    if len(node.inputs) != 2:
        return None
    return node.inputs[0] if node.op == "ConcatV2" else node.inputs[1]


@rule("Pack")
def pack_of_one(x: StepBuilder, node: Node) -> Result:
    """Pack(x) -> Reshape(x, s)"""
    return reshaped(x, node.inputs[0], node.types[0].dims) if len(node.inputs) == 1 else None


@rule("Unpack")
def unpack_of_one(x: StepBuilder, node: Node) -> Result:
    """Unpack(x) -> Reshape(x, s) where there is one part"""
    found = reshaped(x, node.inputs[0], node.types[0].dims) if len(node.types) == 1 else None
    return None if found is None else (found,)


@rule("Unpack")
def unpack_of_pack(x: StepBuilder, node: Node) -> Result:
    """Unpack(Pack(x, y, ...)) -> x, y, ..."""
    inner = producer(x, node.inputs[0], "Pack")
    if inner is None:
        return None
    rank = len(x.type(node.inputs[0]).dims)
    same = inner.attr["axis"] % rank == node.attr["axis"] % rank
    return inner.inputs if same else None


@rule("Pack")
def pack_of_unpack(x: StepBuilder, node: Node) -> Result:
    """Pack(Unpack(x)) -> x where the parts are all of x's, in order"""
    inner = producer(x, node.inputs[0], "Unpack")
    first = node.inputs[0].node
    if inner is None or list(node.inputs) != [Ref(first, k) for k in range(len(inner.types))]:
        return None
    rank = len(node.types[0].dims)
    return inner.inputs[0] if inner.attr["axis"] % rank == node.attr["axis"] % rank else None


@rule("Split", "SplitV")
def split_in_one(x: StepBuilder, node: Node) -> Result:
    """Split(x, 1) -> x"""
    if len(node.types) != 1:
        return None
    return (node.inputs[1] if node.op == "Split" else node.inputs[0],)


@rule("ConcatV2")
def concat_of_split(x: StepBuilder, node: Node) -> Result:
    """concat(Split(x)) -> x where the parts are all of x's, in order, on the same axis"""
    parts = node.inputs[:-1]
    inner = producer(x, parts[0], "Split", "SplitV")
    if inner is None or list(parts) != [Ref(parts[0].node, k) for k in range(len(inner.types))]:
        return None
    source, axis = (inner.inputs[1], inner.inputs[0]) if inner.op == "Split" else (inner.inputs[0], inner.inputs[2])
    rank = len(node.types[0].dims)
    here, there = integers(x, node.inputs[-1]), integers(x, axis)
    return source if here and there and here[0] % rank == there[0] % rank else None


@rule("Max", "Min", "Prod", "Sum", "Mean", "All", "Any")
def reduce_extent_one(x: StepBuilder, node: Node) -> Result:
    """reduce(x) -> Reshape(x, s) over axes of extent 1: TF copies there, so that -0.0 stays -0.0"""
    axes = constant(x, node.inputs[1])
    extents = x.type(node.inputs[0]).dims
    if axes is None or any(extents[int(axis)] != 1 for axis in axes.ravel()):
        return None
    return reshaped(x, node.inputs[0], node.types[0].dims)
