"""IndexedSlices: rows of a tensor, as the gradient of a lookup gives them, and their value."""

from __future__ import annotations

import math
import warnings
from collections import namedtuple
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.composites import register_composite
from stepjit.framework.convert import convert_to_tensor, register_tensor_conversion_function
from stepjit.framework.graph import Graph, Operation, Tensor

IndexedSlicesValue = namedtuple("IndexedSlicesValue", ["values", "indices", "dense_shape"])


class IndexedSlices:
    """Rows `values[i]` that stand at `indices[i]` of a tensor of shape `dense_shape`; repeated indices add up."""

    __slots__ = ("_dense_shape", "_indices", "_values")

    def __init__(self, values: Tensor, indices: Tensor, dense_shape: Tensor | None = None) -> None:
        self._values, self._indices, self._dense_shape = values, indices, dense_shape

    @property
    def values(self) -> Tensor:
        return self._values

    @property
    def indices(self) -> Tensor:
        return self._indices

    @property
    def dense_shape(self) -> Tensor | None:
        return self._dense_shape

    @property
    def shape(self) -> Any:
        """The static shape of the whole tensor, as far as known."""
        from stepjit.framework.constant_value import constant_value_as_shape
        from stepjit.framework.shape import TensorShape

        return TensorShape(None) if self._dense_shape is None else constant_value_as_shape(self._dense_shape)

    def get_shape(self) -> Any:
        return self.shape

    @property
    def name(self) -> str:
        return self._values.name

    @property
    def device(self) -> str:
        return self._values.device

    @property
    def op(self) -> Operation:
        return self._values.op

    @property
    def dtype(self) -> Any:
        return self._values.dtype

    @property
    def graph(self) -> Graph:
        return self._values.graph

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(apply_op("Neg", x=self._values), self._indices, self._dense_shape)

    def __str__(self) -> str:
        shape = "" if self._dense_shape is None else f", dense_shape={self._dense_shape}"
        return f"IndexedSlices(indices={self._indices}, values={self._values}{shape})"

    __repr__ = __str__


_MANY = 100_000_000
"""As many elements of a dense tensor are worth a warning."""


def _warn_of_size(dense_shape: Tensor) -> None:
    from stepjit.framework.constant_value import constant_value

    shape = constant_value(dense_shape)
    count = 0 if shape is None else math.prod(int(extent) for extent in shape)
    if count >= _MANY:
        warnings.warn(
            f"Converting sparse IndexedSlices to a dense Tensor with {count} elements. "
            "This may consume a large amount of memory.",
            stacklevel=3,
        )


def slices_to_tensor(value: IndexedSlices, name: str | None = None) -> Tensor:
    """The dense tensor that `value` stands for; ValueError when its dense shape is unknown."""
    if value.dense_shape is None:
        raise ValueError(f"Tensor conversion requested for IndexedSlices for argument without dense_shape: {value!s}")
    _warn_of_size(value.dense_shape)
    rows = apply_op("StridedSlice", input=value.dense_shape, begin=[0], end=[1], strides=[1], shrink_axis_mask=1)
    return apply_op("UnsortedSegmentSum", data=value.values, segment_ids=value.indices, num_segments=rows, name=name)


def _convert(value: IndexedSlices, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Tensor:
    if dtype is not None and not dtype.is_compatible_with(value.dtype):
        raise ValueError(
            f"Tensor conversion requested dtype {dtype.name} for IndexedSlices with dtype {value.dtype.name}"
        )
    return slices_to_tensor(value, name)


def as_indexed_slices(value: Any) -> IndexedSlices | Tensor:
    """`value` itself when it is IndexedSlices, else as a tensor."""
    return value if isinstance(value, IndexedSlices) else convert_to_tensor(value)


register_tensor_conversion_function(IndexedSlices, _convert)


def _parts(value: IndexedSlices) -> list[Tensor]:
    parts = [value.values, value.indices]
    return parts if value.dense_shape is None else [*parts, value.dense_shape]


register_composite(IndexedSlices, _parts, lambda value, tensors: IndexedSlices(*tensors))
