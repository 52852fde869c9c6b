"""Arrays as TensorProto messages, and back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from stepjit.framework.attr_values import array_of, put_tensor
from stepjit.framework.shape import as_dims
from stepjit.framework.values import to_array
from stepjit.proto import MESSAGES
from stepjit_runtime.dtypes import as_dtype


def make_tensor_proto(
    values: Any, dtype: Any = None, shape: Any = None, verify_shape: bool = False, allow_broadcast: bool = False
) -> Any:
    """A TensorProto of the values, a Python or numpy value, as an array of that dtype and shape.

    A single value fills a larger shape, others must be as many as the shape has elements. ValueError for what can't
    be, TypeError for values of another kind than the dtype.
    """
    array, found = to_array(values, None if dtype is None else as_dtype(dtype))
    if shape is not None:
        dims = as_dims(shape)
        if dims is None or None in dims:
            raise ValueError(f"the shape of a TensorProto must be known, not {shape}")
        extents = cast("tuple[int, ...]", tuple(dims))
        if verify_shape and array.shape != extents:
            raise TypeError(f"Expected Tensor's shape: {extents}, got {array.shape}.")
        if allow_broadcast:
            array = np.broadcast_to(array, extents)
        elif array.size == 1:
            array = np.broadcast_to(array.reshape(()), extents)
        elif array.size != int(np.prod(extents, dtype=np.int64)):
            raise ValueError(f"{array.size} values can't fill a TensorProto of shape {list(extents)}")
        array = np.ascontiguousarray(array).reshape(extents)
    proto = MESSAGES["TensorProto"]()
    put_tensor(proto, array, found)
    return proto


def make_ndarray(tensor: Any) -> np.ndarray:
    """The array in a TensorProto."""
    return array_of(tensor).copy()
