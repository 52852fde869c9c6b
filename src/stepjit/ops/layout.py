"""Repeating and moving elements: tile, pad, reverse, roll, space and depth; in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.reductions import either, reduce_sum

Grads = Sequence[Any]


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """`input` repeated `multiples[k]` times along dimension k."""
    return apply_op("Tile", input=input, multiples=multiples, name=name)


@RegisterGradient("Tile")
def _tile_grad(op: Operation, grad: Tensor) -> Grads:
    x, multiples = op.inputs
    shape = static_shape(x)
    if multiples.dtype.base_dtype is not shape.dtype.base_dtype:
        shape = apply_op("Cast", x=shape, DstT=multiples.dtype.base_dtype)
    # Every dimension becomes two, repeats and extent; the sum over repeats is left.
    pairs = apply_op("Pack", values=[multiples, shape], axis=1, name="stack")
    split_shape = apply_op("Reshape", tensor=pairs, shape=[-1])
    count = None if x.dims is None else len(x.dims)
    if count is not None:
        axes: Any = constant(list(range(0, 2 * count, 2)), dtype="int32", shape=[count])
    else:
        axes = apply_op("Range", start=0, limit=apply_op("Size", input=split_shape), delta=2)
    return [reduce_sum(apply_op("Reshape", tensor=grad, shape=split_shape), axes), None]


def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0
) -> Tensor:
    """`tensor` with `paddings[k]` = (before, after) elements added along dimension k.

    mode: CONSTANT pads with `constant_values`, REFLECT mirrors without the edge, SYMMETRIC with it. ValueError else.
    """
    mode = mode.upper()
    if mode == "CONSTANT":
        is_zero = not isinstance(constant_values, Tensor) and not constant_values
        if is_zero:
            return apply_op("Pad", input=tensor, paddings=paddings, name=name)
        return apply_op("PadV2", input=tensor, paddings=paddings, constant_values=constant_values, name=name)
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise ValueError(
            f"Value of argument `mode` expected to be one of 'CONSTANT', 'REFLECT', 'SYMMETRIC'. Received: {mode}"
        )
    return apply_op("MirrorPad", input=tensor, paddings=paddings, mode=mode, name=name)


def _unpadded(op: Operation, grad: Tensor) -> Tensor:
    x, paddings = op.inputs[0], op.inputs[1]
    known = constant_value(paddings)
    if known is not None:
        before: Any = constant(known[:, 0], shape=[len(known)])
    else:
        first = apply_op("Slice", input=paddings, begin=[0, 0], size=[-1, 1])
        before = apply_op("Reshape", tensor=first, shape=[-1])
    shape = static_shape(x)
    if before.dtype.base_dtype is not shape.dtype.base_dtype:
        shape = apply_op("Cast", x=shape, DstT=before.dtype.base_dtype)
    return apply_op("Slice", input=grad, begin=before, size=shape)


@RegisterGradient("Pad")
def _pad_grad(op: Operation, grad: Tensor) -> Grads:
    return [_unpadded(op, grad), None]


@RegisterGradient("PadV2")
def _pad_v2_grad(op: Operation, grad: Tensor) -> Grads:
    return [_unpadded(op, grad), None, None]


@RegisterGradient("MirrorPad")
def _mirror_pad_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("MirrorPadGrad", input=grad, paddings=op.inputs[1], mode=op.attrs["mode"]), None]


@RegisterGradient("MirrorPadGrad")
def _mirror_pad_grad_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("MirrorPad", input=grad, paddings=op.inputs[1], mode=op.attrs["mode"]), None]


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """`tensor` back to front along the dimensions `axis`."""
    return apply_op("ReverseV2", tensor=tensor, axis=axis, name=name)


reverse_v2 = reverse


@RegisterGradient("ReverseV2")
def _reverse_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("ReverseV2", tensor=grad, axis=op.inputs[1]), None]


def reverse_sequence(
    input: Any, seq_lengths: Any, seq_axis: int | None = None, batch_axis: int | None = None, name: str | None = None,
    seq_dim: int | None = None, batch_dim: int | None = None,
) -> Tensor:  # fmt: skip
    """The first `seq_lengths[b]` elements along `seq_axis` back to front, for each b along `batch_axis`."""
    along = either("seq_axis", seq_axis, "seq_dim", seq_dim)
    over = either("batch_axis", batch_axis, "batch_dim", batch_dim)
    return apply_op(
        "ReverseSequence", input=input, seq_lengths=seq_lengths, seq_dim=along, batch_dim=over or 0, name=name
    )


@RegisterGradient("Reverse")
def _reverse_v1_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("Reverse", tensor=grad, dims=op.inputs[1]), None]


@RegisterGradient("ReverseSequence")
def _reverse_sequence_grad(op: Operation, grad: Tensor) -> Grads:
    back = apply_op(
        "ReverseSequence",
        input=grad,
        seq_lengths=op.inputs[1],
        seq_dim=op.attrs["seq_dim"],
        batch_dim=op.attrs["batch_dim"],
    )
    return [back, None]


def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Tensor:
    """`input` shifted along `axis`, what falls off one end coming in at the other."""
    return apply_op("Roll", input=input, shift=shift, axis=axis, name=name)


@RegisterGradient("Roll")
def _roll_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("Roll", input=grad, shift=apply_op("Neg", x=op.inputs[1]), axis=op.inputs[2]), None, None]


def space_to_depth(input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC") -> Tensor:
    """Blocks of `block_size`² pixels become channels."""
    return apply_op("SpaceToDepth", input=input, block_size=block_size, data_format=data_format, name=name)


@RegisterGradient("SpaceToDepth")
def _space_to_depth_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("DepthToSpace", input=grad, block_size=op.attrs["block_size"], data_format=op.attrs["data_format"])


def depth_to_space(input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC") -> Tensor:
    """Groups of `block_size`² channels become blocks of pixels."""
    return apply_op("DepthToSpace", input=input, block_size=block_size, data_format=data_format, name=name)


@RegisterGradient("DepthToSpace")
def _depth_to_space_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("SpaceToDepth", input=grad, block_size=op.attrs["block_size"], data_format=op.attrs["data_format"])


def space_to_batch_nd(input: Any, block_shape: Any, paddings: Any, name: str | None = None) -> Tensor:
    """Spatial blocks moved into the batch dimension, after padding."""
    return apply_op("SpaceToBatchND", input=input, block_shape=block_shape, paddings=paddings, name=name)


@RegisterGradient("SpaceToBatchND")
def _space_to_batch_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("BatchToSpaceND", input=grad, block_shape=op.inputs[1], crops=op.inputs[2]), None, None]


def batch_to_space_nd(input: Any, block_shape: Any, crops: Any, name: str | None = None) -> Tensor:
    """The inverse of `space_to_batch_nd`, with the padding cropped."""
    return apply_op("BatchToSpaceND", input=input, block_shape=block_shape, crops=crops, name=name)


@RegisterGradient("BatchToSpaceND")
def _batch_to_space_grad(op: Operation, grad: Tensor) -> Grads:
    return [apply_op("SpaceToBatchND", input=grad, block_shape=op.inputs[1], paddings=op.inputs[2]), None, None]


def space_to_batch(input: Any, paddings: Any, block_size: int, name: str | None = None) -> Tensor:
    """As `space_to_batch_nd` for images, with square blocks."""
    return space_to_batch_nd(convert_to_tensor(input), [block_size, block_size], paddings, name)


def batch_to_space(input: Any, crops: Any, block_size: int, name: str | None = None) -> Tensor:
    """As `batch_to_space_nd` for images, with square blocks."""
    return batch_to_space_nd(convert_to_tensor(input), [block_size, block_size], crops, name)


@RegisterGradient("SpaceToBatch")
def _square_space_to_batch_grad(op: Operation, grad: Tensor) -> Grads:
    size = op.attrs["block_size"]
    return [apply_op("BatchToSpace", input=grad, crops=op.inputs[1], block_size=size), None]


@RegisterGradient("BatchToSpace")
def _square_batch_to_space_grad(op: Operation, grad: Tensor) -> Grads:
    size = op.attrs["block_size"]
    return [apply_op("SpaceToBatch", input=grad, paddings=op.inputs[1], block_size=size), None]
