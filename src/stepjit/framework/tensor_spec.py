"""`TensorSpec`: the shape and dtype that a tensor has, and a name."""

from __future__ import annotations

from typing import Any

from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype


class TensorSpec:
    """A description of tensors; equal to others with the same shape, dtype and name."""

    __slots__ = ("_dtype", "_name", "_shape")

    def __init__(self, shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> None:
        self._shape, self._dtype, self._name = TensorShape(shape), as_dtype(dtype), name

    @property
    def shape(self) -> TensorShape:
        """What is known of the shape."""
        return self._shape

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return self._dtype

    @property
    def name(self) -> str | None:
        """The name, or None."""
        return self._name

    @property
    def value_type(self) -> type[Tensor]:
        """What the description is of."""
        return Tensor

    @classmethod
    def from_spec(cls, spec: Any, name: str | None = None) -> TensorSpec:
        """The same description, under another name if that is given."""
        return cls(spec.shape, spec.dtype, name or spec.name)

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """The description of a tensor, under its op's name; ValueError for what is none."""
        if not isinstance(tensor, Tensor):
            raise ValueError(f"`tensor` should be a tf.Tensor, but got type {type(tensor)}.")
        return cls(tensor.shape, tensor.dtype.base_dtype, name or tensor.op.name)

    def is_compatible_with(self, spec_or_tensor: Any) -> bool:
        """Whether a tensor, or what another description is of, may be what is described."""
        if not isinstance(spec_or_tensor, (Tensor, TensorSpec)):
            return False
        fits = self.dtype.is_compatible_with(spec_or_tensor.dtype.base_dtype)
        return fits and self.shape.is_compatible_with(spec_or_tensor.shape)

    def is_subtype_of(self, other: Any) -> bool:
        """Whether every tensor that is described is one of those that `other` describes."""
        same = isinstance(other, TensorSpec) and self.name == other.name and self.dtype == other.dtype
        return same and self.shape.is_subtype_of(other.shape)

    def most_specific_compatible_type(self, other: Any) -> TensorSpec:
        """The narrowest description that fits both; ValueError when there is none."""
        if not isinstance(other, TensorSpec) or self.dtype != other.dtype or self.name != other.name:
            raise ValueError(f"No TypeSpec is compatible with both {self} and {other}")
        return TensorSpec(self.shape.most_specific_compatible_shape(other.shape), self.dtype, self.name)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is TensorSpec
            and (self.shape.ndims is None) == (other.shape.ndims is None)
            and (self.shape.ndims is None or self.shape.as_list() == other.shape.as_list())
            and self.dtype == other.dtype
            and self.name == other.name
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        extents = None if self.shape.ndims is None else tuple(self.shape.as_list())
        return hash((extents, self.dtype))

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype!r}, name={self.name!r})"

    def __reduce__(self) -> Any:
        extents = None if self.shape.ndims is None else self.shape.as_list()
        return TensorSpec, (extents, self.dtype.name, self.name)
