"""Sparse tensors as texts, in TF1's signatures."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.sparse_tensor import SparseTensor, as_sparse_tensor
from stepjit.framework.tensor import Tensor
from stepjit_runtime import dtypes


def serialize_sparse(sp_input: Any, name: str | None = None, out_type: Any = dtypes.string) -> Tensor:
    """A string vector of 3: the indices, values and shape as serialized TensorProtos."""
    return _serialized("SerializeSparse", sp_input, name, out_type)


def serialize_many_sparse(sp_input: Any, name: str | None = None, out_type: Any = dtypes.string) -> Tensor:
    """A string matrix [rows, 3]: each row of the first axis as `serialize_sparse` gives it."""
    return _serialized("SerializeManySparse", sp_input, name, out_type)


def _serialized(kind: str, sp_input: Any, name: str | None, out_type: Any) -> Tensor:
    sparse = as_sparse_tensor(sp_input)
    return apply_op(
        kind, sparse_indices=sparse.indices, sparse_values=sparse.values, sparse_shape=sparse.dense_shape,
        out_type=out_type, name=name,
    )  # fmt: skip


def deserialize_many_sparse(
    serialized_sparse: Any, dtype: Any, rank: int | None = None, name: str | None = None
) -> SparseTensor:
    """The sparse tensors in the rows of a string matrix [rows, 3], joined along a new first axis.

    rank: of the result, if known.
    """
    indices, values, shape = apply_op(
        "DeserializeManySparse", serialized_sparse=serialized_sparse, dtype=dtype, name=name
    )
    indices.set_shape([None, rank])
    shape.set_shape([rank])
    return SparseTensor(indices, values, shape)


for _kind in ("SerializeSparse", "SerializeManySparse", "DeserializeManySparse", "DeserializeSparse"):
    NotDifferentiable(_kind)
