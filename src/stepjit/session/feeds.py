"""What may be fed: keys to tensors, and values to arrays of the tensors' dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.shape import TensorShape, compatible
from stepjit.framework.tensor import Operation, Tensor
from stepjit.session.handles import TensorHandle, stored
from stepjit_runtime.dtypes import DType
from stepjit_runtime.tensor_store import TensorStore

if TYPE_CHECKING:
    from stepjit.framework.graph import Graph


def feed_tensors(graph: Graph, key: Any) -> list[Tensor]:
    """The tensors that a key of `feed_dict` stands for; TypeError for what is no key."""
    if isinstance(key, Tensor) and key.graph is graph:
        return [key]
    if isinstance(key, tuple):
        return [tensor for each in key for tensor in feed_tensors(graph, each)]
    if isinstance(key, IndexedSlices):
        parts = [key.values, key.indices, *([] if key.dense_shape is None else [key.dense_shape])]
        return [tensor for each in parts for tensor in feed_tensors(graph, each)]
    if hasattr(key, "_feed_components"):
        return [tensor for each in key._feed_components() for tensor in feed_tensors(graph, each)]
    try:
        found = graph.as_graph_element(key, allow_operation=False)
    except (KeyError, ValueError, TypeError) as error:
        text = error.args[0] if error.args else ""
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {text}") from None
    return [found]


def feed_values(key: Any, count: int, value: Any) -> list[Any]:
    """The value of a key that stands for `count` tensors, as one value each; ValueError when the numbers differ."""
    if not isinstance(key, tuple) and count == 1:
        return [value]
    values = list(_flat(value)) if isinstance(key, tuple) else list(value)
    if isinstance(key, IndexedSlices) and len(values) == 3:
        values = values[:count]  # of slices without a dense shape nobody asks for it
    if len(values) != count:
        raise ValueError(f"Key had {count} elements, but value had {len(values)} elements (key {key!r})")
    return values


def _flat(value: Any) -> Iterable[Any]:
    if isinstance(value, (tuple, list)):
        for each in value:
            yield from _flat(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _flat(each)
    else:
        yield value


def check_feedable(graph: Graph, tensor: Tensor) -> None:
    if not graph.is_feedable(tensor):
        raise ValueError(f"Tensor {tensor.name} may not be fed.")


_PLAIN = frozenset((np.ndarray, list, int, float, bool, np.float32, np.float64, np.int64, np.int32))


def convert_feed(tensor: Tensor, value: Any, tensors: TensorStore | None = None) -> np.ndarray:
    """The value as an array of the tensor's dtype, C-contiguous and aligned; the caller's own where it is that already.

    A `TensorHandle` gives the tensor that it stands for in `tensors`, the session's (default: its own session's). This
    array and the caller's are not to be written to. TypeError or ValueError when the value can't be converted,
    ValueError when its shape does not fit the static one, InvalidArgumentError when a handle does not.
    """
    kind = type(value)
    if kind is TensorHandle:
        value = stored(value, tensor.dtype.base_dtype, tensors)
        kind = np.ndarray
    if kind not in _PLAIN and (isinstance(value, (Tensor, Operation)) or hasattr(value, "_as_graph_element")):
        raise TypeError(
            "The value of a feed cannot be a tf.Tensor object. Acceptable feed values include Python scalars, strings, "
            f"lists, numpy ndarrays, or TensorHandles. For reference, the tensor object was {value} which was passed "
            f"to the feed with key {tensor}."
        )
    dtype = tensor.dtype.base_dtype
    array = _elements(value) if dtype.kind == "s" else as_array(value, dtype)
    if tensor.dims != array.shape and tensor.dims is not None and not compatible(tensor.dims, array.shape):
        raise ValueError(
            f"Cannot feed value of shape {array.shape!r} for Tensor {tensor.name}, "
            f"which has shape {TensorShape(tensor.dims)!s}{_made_at(tensor)}"
        )
    return _as_bytes(array) if dtype.kind == "s" else array


def fetchable(array: np.ndarray) -> np.ndarray:
    """What the fetch of a fed tensor gives: the very array, but a copy of what is not to be written to."""
    return array if array.flags.writeable else array.copy()


def _made_at(tensor: Tensor) -> str:
    line = tensor.op.traceback_line
    return f" (made at {line})" if line else ""


def as_array(value: Any, dtype: DType) -> np.ndarray:
    """The value as a C-contiguous, aligned array of exactly the dtype's numpy type."""
    if dtype.kind == "s":
        return _as_bytes(_elements(value))
    wanted = dtype.np
    if type(value) is np.ndarray and value.dtype is wanted and value.flags.carray:
        return value
    if isinstance(value, int) and dtype.kind in "iub" and not _fits(value, dtype):
        raise TypeError(
            f"Type of feed value {value} with type {type(value)} is not compatible with Tensor type "
            f"{dtype.as_numpy_dtype}. Try explicitly setting the type of the feed tensor to a larger type (e.g. int64)."
        )
    try:
        array = np.asarray(value, wanted, order="C")
    except (OverflowError, TypeError, ValueError):
        # As C converts: large integers wrap, NaN becomes some integer, complex numbers lose their imaginary part.
        array = np.asarray(np.asarray(value).astype(wanted), order="C")
    if array.dtype is not wanted:
        array = array.view(wanted)  # equal, but another object than the one native code looks for
    flags = array.flags
    if not flags.carray and not (flags.aligned and flags.c_contiguous):
        array = array.copy("C")
    return array


def _fits(value: int, dtype: DType) -> bool:
    if dtype.kind == "b":
        return value in (0, 1)
    return bool(dtype.min <= value <= dtype.max)


def _elements(value: Any) -> np.ndarray:
    """What is fed to a tensor of strings, as an array of whatever it holds."""
    if isinstance(value, int):
        raise TypeError(f"Type of feed value {value} with type {type(value)} is not compatible with Tensor type string")
    return value if isinstance(value, np.ndarray) else np.asarray(value, object)


def _as_bytes(array: np.ndarray) -> np.ndarray:
    found = np.empty(array.shape, object)
    flat, source = found.reshape(-1), array.reshape(-1)
    for k in range(flat.size):
        flat[k] = _bytes(source[k])
    return found


def _bytes(element: Any) -> bytes:
    if isinstance(element, bytes):
        return bytes(element)
    from stepjit_runtime.errors import InternalError

    if isinstance(element, str):
        try:
            return element.encode()
        except UnicodeEncodeError as error:
            raise InternalError(None, None, f"Unable to convert element to UTF-8: {error}") from None
    raise InternalError(None, None, f"Unsupported object type {type(element).__name__}")


def all_tensors(graph: Graph, keys: Sequence[Any]) -> list[Tensor]:
    """The tensors of all keys in order, each checked to be feedable."""
    found = [tensor for key in keys for tensor in feed_tensors(graph, key)]
    for tensor in found:
        check_feedable(graph, tensor)
    return found
