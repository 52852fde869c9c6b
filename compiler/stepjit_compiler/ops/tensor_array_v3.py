"""TensorArrays of graphs from the wire; in a step an array is a value, in the place of what the graph calls its flow.

An array whose elements have one shape is a buffer with a row per element (`tensor_array.py`); it has no columns until
the first element tells them. An array of elements of any shapes is a list: a vector of strings, an element in each.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_runtime.dtypes import DType

# --- TensorArrayV3, TensorArrayWriteV3, TensorArrayReadV3, ... ---


def _handle(x: Inference) -> list[ShapeLike]:
    return [(2,), ()]


def _flow(x: Inference) -> list[ShapeLike]:
    return [()]


define(
    "TensorArrayV3", "size: int32 -> handle: resource, flow: float32",
    "dtype: type, element_shape: shape = unknown, dynamic_size: bool = False, clear_after_read: bool = True, "
    "identical_element_shapes: bool = False, tensor_array_name: string = ''", infer=_handle, stateful=True,
)  # fmt: skip
define("TensorArrayWriteV3", "handle: resource, index: int32, value: T, flow_in: float32 -> flow_out: float32",
       "T: type", infer=_flow, stateful=True)  # fmt: skip
define("TensorArrayReadV3", "handle: resource, index: int32, flow_in: float32 -> value: dtype", "dtype: type",
       infer=lambda x: [None], stateful=True)  # fmt: skip


def _rows(x: Inference) -> list[ShapeLike]:
    element, indices = x.attrs["element_shape"], x.shape(1)
    return [None if element is None else (None if indices is None else indices[0], *element)]


_ELEMENTS = "dtype: type, element_shape: shape = unknown"
define("TensorArrayGatherV3", "handle: resource, indices: int32, flow_in: float32 -> value: dtype", _ELEMENTS,
       infer=_rows, stateful=True)  # fmt: skip
define("TensorArrayScatterV3", "handle: resource, indices: int32, value: T, flow_in: float32 -> flow_out: float32",
       "T: type", infer=_flow, stateful=True)  # fmt: skip


def _joined(x: Inference) -> list[ShapeLike]:
    rest = x.attrs["element_shape_except0"]
    return [None if rest is None else (None, *rest), (None,)]


define("TensorArrayConcatV3", "handle: resource, flow_in: float32 -> value: dtype, lengths: int64",
       "dtype: type, element_shape_except0: shape = unknown", infer=_joined, stateful=True)  # fmt: skip
define("TensorArraySplitV3", "handle: resource, value: T, lengths: int64, flow_in: float32 -> flow_out: float32",
       "T: type", infer=_flow, stateful=True)  # fmt: skip
define("TensorArraySizeV3", "handle: resource, flow_in: float32 -> size: int32", infer=_flow, stateful=True)
define("TensorArrayCloseV3", "handle: resource ->", infer=lambda x: [], stateful=True)

ARRAYS = frozenset(
    f"TensorArray{name}V3" for name in ("", "Write", "Read", "Gather", "Scatter", "Concat", "Split", "Size", "Close")
)

# --- _NoElements: a buffer that the first element gives its columns ---


def _size(x: Inference) -> Any:
    known = x.extents(0)
    return None if known is None else known[0]


define(
    "_NoElements", "size: int32 -> buffer: T", "T: type", infer=lambda x: [(_size(x), 0)],
    reference=lambda call, size: np.zeros((int(size), 0), call.dtypes[0].np),
    lower=Composite(lambda x, call, size: x.op("Fill", x.dims(call.types[0].dims), x.const(0, call.dtypes[0])),
                    when=lambda call: call.known(0) is not None and call.dtypes[0].itemsize > 0),
)  # fmt: skip

# --- _ListNew, _ListWrite, _ListRead, _ListConcat: elements of any shapes ---


def _packed(element: np.ndarray) -> bytes:
    shape: bytes = struct.pack(f"<{element.ndim + 1}q", element.ndim, *element.shape)
    return shape + element.tobytes()


def _unpacked(data: bytes, dtype: DType) -> np.ndarray:
    (rank,) = struct.unpack_from("<q", data)
    shape = struct.unpack_from(f"<{rank}q", data, 8)
    return np.frombuffer(data, dtype.np, offset=8 * (rank + 1)).reshape(shape)


def _list(size: int) -> np.ndarray:
    found = np.empty(size, object)
    found.fill(b"")
    return found


define("_ListNew", "size: int32 -> list: string", infer=lambda x: [(_size(x),)],
       reference=lambda call, size: _list(int(size)))  # fmt: skip


def _put(call: Call, array: np.ndarray, indices: Sequence[int], values: Sequence[np.ndarray]) -> np.ndarray:
    most = max([len(array), *(at + 1 for at in indices)])
    if min(indices, default=0) < 0 or (most > len(array) and not call.attrs["dynamic"]):
        at = next(at for at in indices if not 0 <= at < len(array))
        call.fail(f"Tried to write to index {at} but array is not resizeable and size is: {len(array)}")
    found = _list(most)
    found[: len(array)] = array
    for at, value in zip(indices, values, strict=True):
        if found[at]:
            call.fail(f"Could not write to TensorArray index {at} because it has already been written to.")
        found[at] = _packed(value)
    return found


def _longer(x: Inference) -> list[ShapeLike]:
    return [(None,) if x.attrs["dynamic"] else x.shape(0)]


define(
    "_ListWrite", "list: string, index: int32, value: T -> result: string", "T: type, dynamic: bool", infer=_longer,
    reference=lambda call, array, index, value: _put(call, array, [int(index)], [value]),
)  # fmt: skip
define(
    "_ListScatter", "list: string, indices: int32, value: T -> result: string", "T: type, dynamic: bool",
    infer=_longer, reference=lambda call, array, indices, value: _put(call, array, indices.tolist(), list(value)),
)  # fmt: skip


def _split(call: Call, array: np.ndarray, value: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    if int(lengths.sum()) != len(value):
        call.fail(f"Expected sum of lengths to be equal to values.shape[0], but sum of lengths is {lengths.sum()} and "
                  f"value's shape is: {list(value.shape)}")  # fmt: skip
    return _put(call, array, range(len(lengths)), np.split(value, np.cumsum(lengths)[:-1]))


define("_ListSplit", "list: string, value: T, lengths: int64 -> result: string", "T: type, dynamic: bool",
       infer=_longer, reference=_split)  # fmt: skip


def _taken(call: Call, array: np.ndarray, at: int) -> np.ndarray:
    if not 0 <= at < len(array):
        call.fail(f"Tried to read from index {at} but array size is: {len(array)}")
    if not array[at]:
        call.fail(f"Could not read from TensorArray index {at} because it has not yet been written to.")
    return _unpacked(array[at], call.dtypes[0])


define(
    "_ListRead", "list: string, index: int32 -> value: dtype", _ELEMENTS, infer=lambda x: [x.attrs["element_shape"]],
    reference=lambda call, array, index: _taken(call, array, int(index)),
)  # fmt: skip
define(
    "_ListGather", "list: string, indices: int32 -> value: dtype", _ELEMENTS, infer=_rows,
    reference=lambda call, array, indices: np.stack([_taken(call, array, at) for at in indices.tolist()]),
)  # fmt: skip


def _concatenated(call: Call, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    elements = [_taken(call, array, at) for at in range(len(array))]
    lengths = np.array([len(element) for element in elements], np.int64)
    if not elements:
        rest = call.attrs["element_shape_except0"] or ()
        return np.zeros((0, *(extent or 0 for extent in rest)), call.dtypes[0].np), lengths
    if len({element.shape[1:] for element in elements}) > 1:
        call.fail("TensorArray has inconsistent shapes: elements differ in more than their first dimension")
    return np.concatenate(elements), lengths


define("_ListConcat", "list: string -> value: dtype, lengths: int64", "dtype: type, element_shape_except0: shape",
       infer=_joined, reference=_concatenated)  # fmt: skip
