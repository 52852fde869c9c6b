"""tf.sets: set operations between the rows (last axis) of tensors, dense or sparse."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.sparse_tensor import SparseTensor, as_sparse_tensor, convert_to_tensor_or_sparse_tensor
from stepjit.framework.tensor import Tensor
from stepjit_runtime import dtypes

_DTYPES = (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64, dtypes.uint8, dtypes.uint16, dtypes.string)


def set_size(a: Any, validate_indices: bool = True) -> Tensor:
    """How many distinct elements each row of a sparse tensor has; TypeError for any other tensor."""
    sparse = as_sparse_tensor(a)
    _check_dtype(sparse)
    return apply_op(
        "SetSize", set_indices=sparse.indices, set_values=sparse.values, set_shape=sparse.dense_shape,
        validate_indices=validate_indices,
    )  # fmt: skip


def set_intersection(a: Any, b: Any, validate_indices: bool = True) -> SparseTensor:
    """By row, the elements that both have."""
    return _operation(a, b, "intersection", validate_indices)


def set_union(a: Any, b: Any, validate_indices: bool = True) -> SparseTensor:
    """By row, the elements that one of both has."""
    return _operation(a, b, "union", validate_indices)


def set_difference(a: Any, b: Any, aminusb: bool = True, validate_indices: bool = True) -> SparseTensor:
    """By row, the elements of `a` that `b` lacks, or the other way round."""
    return _operation(a, b, "a-b" if aminusb else "b-a", validate_indices)


def _check_dtype(value: Any) -> None:
    if value.dtype.base_dtype not in _DTYPES:
        names = ", ".join(dtype.name for dtype in _DTYPES)
        raise TypeError(f"a set of {value.dtype} has an invalid dtype, not in supported dtypes: {names}")


def _operation(a: Any, b: Any, kind: str, validate: bool) -> SparseTensor:
    """TypeError for dtypes that can't be sets."""
    first = convert_to_tensor_or_sparse_tensor(a, name="a")
    second = convert_to_tensor_or_sparse_tensor(b, first.dtype.base_dtype, name="b")
    _check_dtype(first)
    if isinstance(first, SparseTensor) and not isinstance(second, SparseTensor):
        # There is no op for this order: the other way round, a - b is b - a.
        kind = {"a-b": "b-a", "b-a": "a-b"}.get(kind, kind)
        first, second = second, first
    inputs: dict[str, Any] = {}
    for number, each in ((1, first), (2, second)):
        if isinstance(each, SparseTensor):
            inputs[f"set{number}_indices"], inputs[f"set{number}_values"] = each.indices, each.values
            inputs[f"set{number}_shape"] = each.dense_shape
        else:
            inputs[f"set{number}"] = each
    kinds = ["Sparse" if isinstance(each, SparseTensor) else "Dense" for each in (first, second)]
    op = f"{kinds[0]}To{kinds[1]}SetOperation"
    return SparseTensor(*apply_op(op, set_operation=kind, validate_indices=validate, **inputs))


for _kind in ("SetSize", "DenseToDenseSetOperation", "DenseToSparseSetOperation", "SparseToSparseSetOperation"):
    NotDifferentiable(_kind)
