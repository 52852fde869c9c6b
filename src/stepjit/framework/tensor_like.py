"""What counts as a tensor, and what the graph alone tells of its value."""

from __future__ import annotations

from typing import Any

from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor, functions_for
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Tensor


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor, sparse or as slices too, or a variable; numpy and Python values are not."""
    if isinstance(x, (Tensor, IndexedSlices, SparseTensor)):
        return True
    return hasattr(x, "_as_graph_element") and bool(functions_for(type(x)))


def get_static_value(tensor: Any, partial: bool = False) -> Any:
    """The value of `tensor` as an array when the graph determines it, else None.

    With `partial`, a vector of which some elements are known comes with None for the others.
    """
    return constant_value(tensor, partial)


def convert_to_tensor_or_indexed_slices(value: Any, dtype: Any = None, name: str | None = None) -> Any:
    """`value` as a tensor, or itself when it is IndexedSlices; ValueError for another dtype."""
    if not isinstance(value, IndexedSlices):
        return convert_to_tensor(value, dtype=dtype, name=name)
    if dtype is not None and value.dtype.base_dtype != dtype:
        raise ValueError(f"Tensor conversion requested dtype {dtype} for IndexedSlices with dtype {value.dtype.name}")
    return value
