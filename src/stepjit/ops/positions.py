"""Positions in sorted rows and flat arrays, patches of images, edit distances; in TF1's signatures, with gradients."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor, SparseTensorValue, as_sparse_tensor
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import array
from stepjit.ops.sparse import renamed
from stepjit_runtime import dtypes


def searchsorted(
    sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = dtypes.int32, name: str | None = None
) -> Tensor:
    """Where `values` belong in the sorted rows (last axis) of `sorted_sequence`: before equal ones or (right) after.

    ValueError for another side.
    """
    kinds = {"left": "LowerBound", "right": "UpperBound"}
    if side not in kinds:
        raise ValueError(f"Argument `side` must be either 'right' or 'left'. Received: `side` = '{side}'.")
    with name_scope(name, "SearchSorted", [sorted_sequence, values]):
        rows = convert_to_tensor(sorted_sequence)
        wanted = convert_to_tensor(values, rows.dtype.base_dtype)
        flat = [array.reshape(each, array.stack([-1, array.shape(each)[-1]])) for each in (rows, wanted)]
        found = apply_op(kinds[side], sorted_inputs=flat[0], values=flat[1], out_type=out_type)
        return array.reshape(found, array.shape(wanted))


def unravel_index(indices: Any, dims: Any, name: str | None = None) -> Tensor:
    """The coordinates, along a new first axis, of flat positions in an array of shape `dims`."""
    return apply_op("UnravelIndex", indices=indices, dims=dims, name=name)


def edit_distance(
    hypothesis: Any, truth: Any, normalize: bool = True, name: str = "edit_distance"
) -> Tensor:
    """The Levenshtein distances between the rows (last axis) of two sparse tensors, by default over truth's lengths.

    TypeError unless both are sparse.
    """
    for what, given in (("Hypothesis", hypothesis), ("Truth", truth)):
        if not isinstance(given, (SparseTensor, SparseTensorValue)):
            raise TypeError(f"{what} must be a SparseTensor.")
    a, b = as_sparse_tensor(hypothesis), as_sparse_tensor(truth)
    return apply_op(
        "EditDistance", hypothesis_indices=a.indices, hypothesis_values=a.values, hypothesis_shape=a.dense_shape,
        truth_indices=b.indices, truth_values=b.values, truth_shape=b.dense_shape, normalize=normalize, name=name,
    )  # fmt: skip


for _kind in ("LowerBound", "UpperBound", "UnravelIndex", "EditDistance"):
    NotDifferentiable(_kind)


def extract_image_patches(
    images: Any,
    ksizes: Any = None,
    strides: Any = None,
    rates: Any = None,
    padding: Any = None,
    name: str | None = None,
    sizes: Any = None,
) -> Tensor:
    """The patches of size `ksizes` at every stride, each laid out along the last axis; zeros beyond the images."""
    return apply_op(
        "ExtractImagePatches", images=images, ksizes=renamed("sizes", ksizes, "ksizes", sizes), strides=strides,
        rates=rates, padding=padding, name=name,
    )  # fmt: skip


@RegisterGradient("ExtractImagePatches")
def _patches_grad(op: Operation, grad: Tensor) -> Tensor:
    """Every element of a patch flows back to the pixel it was taken from."""
    images = op.inputs[0]
    shape = array.unstack(array.shape(images), num=4)
    batch, rows, columns, depth = shape
    pixels = apply_op("Range", start=1, limit=rows * columns + 1, delta=1)
    options = {key: op.attrs[key] for key in ("ksizes", "strides", "rates", "padding")}
    taken = apply_op("ExtractImagePatches", images=array.reshape(pixels, [1, rows, columns, 1]), **options)
    # 0 stands for what is beyond the image: its id is -1, which the sums leave out.
    ids = array.reshape(taken, [-1]) - constant(1)
    parts = array.transpose(array.reshape(grad, [batch, array.size(ids), depth]), [1, 0, 2])
    total = apply_op("UnsortedSegmentSum", data=parts, segment_ids=ids, num_segments=rows * columns)
    return array.reshape(array.transpose(total, [1, 0, 2]), array.stack(shape))
