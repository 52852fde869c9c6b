"""SparseTensor: the elements of a tensor that are named by their indices, the others being zero; and its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stepjit.framework.apply import apply_op
from stepjit.framework.composites import register_composite
from stepjit.framework.constant_value import constant_value_as_shape
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph import Graph, Operation, Tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape, as_shape
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType


class SparseTensorValue(NamedTuple):
    """A fetched or fed SparseTensor: `values[i]` stands at `indices[i]` of a tensor of shape `dense_shape`."""

    indices: Any
    values: Any
    dense_shape: Any


class SparseTensor:
    """`values[i]` stands at `indices[i]` of a tensor of shape `dense_shape`, whose other elements are zero.

    indices: int64 [N, rank], in row order without repetition where ops ask for it. values: [N]. dense_shape: int64
    [rank]. ValueError when their static shapes don't fit together.
    """

    __slots__ = ("_dense_shape", "_indices", "_static_shape", "_values")

    # numpy operands leave binary operators to the sparse tensor.
    __array_priority__ = 100

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        with name_scope(None, "SparseTensor", [indices, values, dense_shape]):
            self._indices = convert_to_tensor(indices, dtypes.int64, "indices")
            self._values = convert_to_tensor(values, name="values")
            self._dense_shape = convert_to_tensor(dense_shape, dtypes.int64, "dense_shape")
        count, rank = self._indices.shape.with_rank(2)
        count.assert_is_compatible_with(self._values.shape.with_rank(1)[0])
        rank.assert_is_compatible_with(self._dense_shape.shape.with_rank(1)[0])
        self._static_shape = constant_value_as_shape(self._dense_shape)

    @classmethod
    def from_value(cls, sparse_tensor_value: Any) -> SparseTensor:
        """A SparseTensor of a SparseTensorValue or SparseTensor; TypeError for anything else."""
        if not isinstance(sparse_tensor_value, (SparseTensor, SparseTensorValue)):
            raise TypeError(
                f"Argument sparse_tensor_value={sparse_tensor_value} is neither a SparseTensor nor SparseTensorValue."
            )
        return SparseTensor(*parts_of(sparse_tensor_value))

    @property
    def indices(self) -> Tensor:
        return self._indices

    @property
    def values(self) -> Tensor:
        return self._values

    @property
    def dense_shape(self) -> Tensor:
        return self._dense_shape

    @property
    def dtype(self) -> DType:
        return self._values.dtype

    @property
    def op(self) -> Operation:
        """The op that makes the values."""
        return self._values.op

    @property
    def graph(self) -> Graph:
        return self._indices.graph

    @property
    def shape(self) -> TensorShape:
        """The static shape of the whole tensor, as far as known."""
        return self._static_shape

    def get_shape(self) -> TensorShape:
        """The static shape of the whole tensor, as far as known."""
        return self._static_shape

    def set_shape(self, shape: Any) -> None:
        """Narrow the static shape; ValueError when it contradicts what is known."""
        self._static_shape = self._static_shape.merge_with(as_shape(shape))

    def with_values(self, new_values: Any) -> SparseTensor:
        """The same places with other values."""
        return SparseTensor(self._indices, new_values, self._dense_shape)

    def consumers(self) -> list[Operation]:
        """The ops that take one of the three tensors."""
        parts = (self._indices, self._values, self._dense_shape)
        return list(dict.fromkeys(op for part in parts for op in part.consumers()))

    def eval(self, feed_dict: Any = None, session: Any = None) -> SparseTensorValue:
        """The value, run in `session` or the default one; ValueError when there is none."""
        from stepjit.session import eval_using_default_session

        found: SparseTensorValue = eval_using_default_session(self, feed_dict, self.graph, session)
        return found

    def _fetch_components(self) -> tuple[Sequence[Tensor], Callable[..., SparseTensorValue]]:
        return self._feed_components(), SparseTensorValue

    def _feed_components(self) -> Sequence[Tensor]:
        return self._indices, self._values, self._dense_shape

    def __mul__(self, other: Any) -> SparseTensor:
        return _with_dense("SparseDenseCwiseMul", self, other, "mul")

    def __rmul__(self, other: Any) -> Any:
        # A number on the left has no dtype of its own to convert the sparse side to.
        return self * other if isinstance(other, Tensor) else NotImplemented

    def __truediv__(self, other: Any) -> SparseTensor:
        return _with_dense("SparseDenseCwiseDiv", self, other, "truediv")

    __div__ = __truediv__

    def __str__(self) -> str:
        return f"SparseTensor(indices={self._indices}, values={self._values}, dense_shape={self._dense_shape})"

    __repr__ = __str__


def parts_of(sparse: Any) -> tuple[Any, Any, Any]:
    """Indices, values and dense shape of a SparseTensor or SparseTensorValue."""
    return sparse.indices, sparse.values, sparse.dense_shape


def _with_dense(kind: str, sparse: SparseTensor, other: Any, name: str) -> SparseTensor:
    """An elementwise op with a dense tensor that is broadcast to the sparse one's shape."""
    with name_scope(None, name, [sparse.values, other]) as scope:
        dense = convert_to_tensor(other, sparse.dtype.base_dtype, "y")
        if kind == "SparseDenseCwiseDiv" and dense.dtype.base_dtype.kind in "iub":
            # True division: what the integers become is what `/` makes of dense ones.
            target = dtypes.float32 if dense.dtype.base_dtype.itemsize <= 2 else dtypes.float64
            dense = apply_op("Cast", x=dense, DstT=target)
            sparse = sparse.with_values(apply_op("Cast", x=sparse.values, DstT=target))
        values = apply_op(
            kind, sp_indices=sparse.indices, sp_values=sparse.values, sp_shape=sparse.dense_shape, dense=dense,
            name=scope,
        )  # fmt: skip
        return sparse.with_values(values)


def as_sparse_tensor(value: Any) -> SparseTensor:
    """A SparseTensor or SparseTensorValue as SparseTensor; TypeError for anything else."""
    if isinstance(value, SparseTensor):
        return value
    if isinstance(value, SparseTensorValue):
        return SparseTensor.from_value(value)
    raise TypeError(f"Input must be a SparseTensor, not {type(value).__name__}: {value!r}")


def convert_to_tensor_or_sparse_tensor(value: Any, dtype: Any = None, name: str | None = None) -> Any:
    """A sparse value as SparseTensor, anything else as Tensor; RuntimeError when a sparse one has another dtype."""
    if isinstance(value, SparseTensorValue):
        value = SparseTensor.from_value(value)
    if not isinstance(value, SparseTensor):
        return convert_to_tensor(value, dtype=dtype, name=name)
    if dtype is not None and not dtypes.as_dtype(dtype).is_compatible_with(value.dtype):
        raise RuntimeError(
            f"Sparse dtype mismatch. Requested: {dtypes.as_dtype(dtype).name},  Actual: {value.dtype.name}"
        )
    return value


def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor:
    """A SparseTensor that is fed as a SparseTensorValue, or as (indices, values, dense_shape).

    shape: the dense shape as far as known: a fully known one need not be fed.
    """
    parts = [None if name is None else f"{name}/{part}" for part in ("shape", "values", "indices")]
    rank = static = None
    if shape is None:
        dense_shape = apply_op("Placeholder", dtype=dtypes.int64, shape=[None], name=parts[0])
    else:
        if isinstance(shape, Tensor):
            static, rank = constant_value_as_shape(shape), shape.shape[0].value if shape.shape.ndims == 1 else None
            default: Any = shape
        else:
            static = as_shape([None if extent == -1 else extent for extent in as_shape_list(shape)])
            rank = static.ndims
            default = [-1 if extent is None else extent for extent in static.as_list()]
        default_name = None if parts[0] is None else f"{parts[0]}_default"
        default = convert_to_tensor(default, dtypes.int64, default_name)
        dense_shape = apply_op("PlaceholderWithDefault", input=default, shape=[rank], name=parts[0])
    values = apply_op("Placeholder", dtype=dtype, shape=[None], name=parts[1])
    indices = apply_op("Placeholder", dtype=dtypes.int64, shape=[None, rank], name=parts[2])
    result = SparseTensor(indices, values, dense_shape)
    if static is not None:
        result.set_shape(static)
    return result


def as_shape_list(shape: Any) -> list[Any]:
    """The extents of a shape in any form that TF takes, as ints and None."""
    return shape.as_list() if isinstance(shape, TensorShape) else [getattr(each, "value", each) for each in shape]


def _like(sparse: SparseTensor, tensors: Sequence[Any]) -> SparseTensor:
    result = SparseTensor(*tensors)
    if sparse.shape.is_compatible_with(result.shape):
        result.set_shape(sparse.shape)
    return result


register_composite(SparseTensor, lambda sparse: list(parts_of(sparse)), _like)
