"""Sparse tensors as texts: three serialized TensorProtos (indices, values, shape) each, one by one or by row."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief
from stepjit_compiler.ops.parsing import parse_tensor, serialize_tensor
from stepjit_compiler.ops.sparse import check_parts, check_sorted, sparse_input
from stepjit_compiler.ops.strings import texts
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import OpFailure

_PARTS = "sparse_indices: int64, sparse_values: T, sparse_shape: int64"
_ATTRS = "T: type, out_type: type in string = string"

# --- SerializeSparse, SerializeManySparse ---


def _texts(call: Call, *parts: np.ndarray) -> list[Any]:
    return [serialize_tensor(call, np.ascontiguousarray(part)).item() for part in parts]


def _serialize(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    check_parts(call, indices, values, shape)
    return texts(_texts(call, indices, values, shape), (3,))


def _serialize_many(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    check_parts(call, indices, values, shape)
    if len(shape) < 2:
        call.fail(f"Rank of input SparseTensor should be > 1, but saw rank: {len(shape)}")
    check_sorted(call, indices, shape.tolist())
    count = int(shape[0])
    ends = np.searchsorted(indices[:, 0], np.arange(count + 1))
    found = []
    for start, end in itertools.pairwise(ends.tolist()):
        found += _texts(call, indices[start:end, 1:], values[start:end], shape[1:])
    return texts(found, (count, 3))


def _many_shape(x: Inference) -> list[ShapeLike]:
    sparse_input(x, 0)
    shape = x.extents(2)
    return [(shape[0] if shape else None, 3)]


def _one_shape(x: Inference) -> list[ShapeLike]:
    sparse_input(x, 0)
    return [(3,)]


define("SerializeSparse", f"{_PARTS} -> serialized_sparse: out_type", _ATTRS, infer=_one_shape, reference=_serialize)
define("SerializeManySparse", f"{_PARTS} -> serialized_sparse: out_type", _ATTRS, infer=_many_shape,
       reference=_serialize_many)  # fmt: skip

# --- DeserializeManySparse, DeserializeSparse ---


def _part(call: Call, text: bytes, dtype: DType) -> np.ndarray:
    one = np.empty((), object)
    one[()] = text
    try:
        return parse_tensor(Call("ParseTensor", {"out_type": dtype}, [dtype]), one)
    except OpFailure as failure:
        if "Type mismatch" in failure.message:
            call.fail(f"Requested SparseTensor of type {dtype.name}, but a part is of another: {failure.message}")
        call.fail(f"Could not parse serialized proto: {failure.message}")


def _joined(call: Call, rows: np.ndarray, outer: tuple[int, ...]) -> Any:
    """The sparse tensors of the rows of texts, one after the other along new first axes."""
    indices, values, shapes = [], [], []
    for number, row in enumerate(rows):
        part = _part(call, row[0], dtypes.int64), _part(call, row[1], call.dtypes[1]), _part(call, row[2], dtypes.int64)
        check_parts(call, *part)
        place = np.array(np.unravel_index(number, outer), np.int64).reshape(1, len(outer))
        indices.append(np.hstack([np.repeat(place, len(part[0]), 0), part[0]]))
        values.append(part[1])
        shapes.append(part[2])
        if len(part[2]) != len(shapes[0]):
            call.fail(
                f"Inconsistent rank across SparseTensors: rank prior to SparseTensor[{number}] was {len(shapes[0])} "
                f"but rank of it is {len(part[2])}"
            )
    if not shapes:
        call.fail("Must have at least 1 serialized SparseTensor, but input matrix has 0 rows")
    shape = np.array([*outer, *np.max(shapes, axis=0)], np.int64)
    return np.concatenate(indices), np.concatenate(values), shape


def _deserialize_many(call: Call, serialized: np.ndarray) -> Any:
    if serialized.ndim != 2 or serialized.shape[1] != 3:
        call.fail(f"Serialized sparse should be a matrix of 3 columns, got shape {brief(serialized.shape)}")
    return _joined(call, serialized, (len(serialized),))


def _deserialize(call: Call, serialized: np.ndarray) -> Any:
    if serialized.ndim < 1 or serialized.shape[-1] != 3:
        call.fail(f"Serialized sparse should have 3 as the last dimension, got shape {brief(serialized.shape)}")
    return _joined(call, serialized.reshape(-1, 3), serialized.shape[:-1])


def _sparse_shapes(x: Inference) -> list[ShapeLike]:
    return [(None, None), (None,), (None,)]


def _many_sparse_shapes(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 2)
    return _sparse_shapes(x)


_RESULT = "sparse_indices: int64, sparse_values: dtype, sparse_shape: int64"

define("DeserializeManySparse", f"serialized_sparse: string -> {_RESULT}", "dtype: type",
       infer=_many_sparse_shapes, reference=_deserialize_many)  # fmt: skip
define("DeserializeSparse", f"serialized_sparse: Tserialized -> {_RESULT}",
       "dtype: type, Tserialized: type in string = string", infer=_sparse_shapes, reference=_deserialize)  # fmt: skip
