"""What a tensor's value is when the graph alone tells."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit.framework.inference import UNKNOWN, evaluate
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor


def constant_value(tensor: Any, partial: bool = False) -> np.ndarray | None:
    """The value of `tensor` as an array when the graph determines it, else None.

    With `partial`, a vector of which some elements are known comes as an object array with None for the others.
    """
    if not isinstance(tensor, Tensor):
        return np.asarray(tensor)
    found = tensor.op.attrs["value"] if tensor.op.type == "Const" else evaluate(tensor)
    if found is None or found.dtype != object or tensor.dtype.kind == "s":
        return found
    if not partial:
        return None
    elements = np.empty(found.shape, object)
    for index in np.ndindex(found.shape):
        elements[index] = None if found[index] is UNKNOWN else int(found[index])
    return elements


def constant_value_as_shape(tensor: Tensor) -> TensorShape:
    """The shape that the integer vector `tensor` describes, with unknown dimensions where it isn't determined."""
    value = constant_value(tensor, partial=True)
    if value is not None:
        return TensorShape([None if each is None or each < 0 else int(each) for each in value.tolist()])
    rank = tensor.dims[0] if tensor.dims else None
    return TensorShape(None if rank is None else [None] * rank)
