"""Variables cut into parts along one axis, as `get_variable` makes them under a partitioner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, register_tensor_conversion_function
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit_runtime.dtypes import DType


@dataclass(frozen=True)
class Part:
    """Where one part lies in the whole: an initialiser's `partition_info`, a saver's slice info."""

    full_name: str
    full_shape: list[int]
    var_offset: list[int]
    var_shape: list[int]
    number: int

    def name_in(self, name: str) -> str:
        return f"{name}/part_{self.number}"

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self.var_shape)

    @property
    def spec(self) -> str:
        """The part in the form checkpoints use: `4 3 0,2:0,3`."""
        whole = " ".join(str(extent) for extent in self.full_shape)
        cuts = ":".join(f"{start},{extent}" for start, extent in zip(self.var_offset, self.var_shape))
        return f"{whole} {cuts}"

    def single_offset(self, shape: Any) -> int:
        """The offset along the one axis that is cut."""
        axis = self.single_slice_dim(shape)
        return 0 if axis is None else self.var_offset[axis]

    def single_slice_dim(self, shape: Any) -> int | None:
        """The axis that is cut, or None for a whole."""
        cut = [k for k, extent in enumerate(self.full_shape) if extent != self.var_shape[k]]
        return cut[0] if cut else None


def partitions(partitioner: Callable[..., Sequence[int]], shape: TensorShape, dtype: DType) -> list[Part]:
    """The parts that a partitioner cuts a shape into; ValueError when it cuts along several axes."""
    counts = [int(count) for count in partitioner(shape=shape, dtype=dtype)]
    dims = [int(extent) for extent in shape.as_list() if extent is not None]
    if len(counts) != len(dims):
        raise ValueError(
            f"Partitioner returned a partition list that does not match the Variable's rank: {counts} vs. {shape}"
        )
    if any(count < 1 for count in counts):
        raise ValueError(f"Partitioner returned zero partitions for some axes: {counts}")
    cut = [axis for axis, count in enumerate(counts) if count > 1]
    if len(cut) > 1:
        raise ValueError(f"Cannot partition along more than one axis: {counts}")
    axis = cut[0] if cut else 0
    # The first parts take one more where it doesn't divide evenly.
    size, longer = divmod(dims[axis], counts[axis]) if dims else (0, 0)
    parts, start = [], 0
    for number in range(counts[axis]):
        extent = size + (number < longer)
        offset = [start if k == axis else 0 for k in range(len(dims))]
        lengths = [extent if k == axis else each for k, each in enumerate(dims)]
        parts.append(Part("", dims, offset, lengths, number))
        start += extent
    return parts


class PartitionedVariable:
    """Variables that together hold one tensor; iterates over them, converts to their concatenation."""

    def __init__(
        self, name: str, shape: TensorShape, dtype: DType, variable_list: Sequence[Any], parts: Sequence[Part]
    ) -> None:
        self._name, self._shape, self._dtype = name, shape, dtype
        self._variables = list(variable_list)
        self._parts = list(parts)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def _gradient_source(self) -> Any:
        raise NotImplementedError("Gradients by a PartitionedVariable as a whole: give its parts, list(variable)")

    @property
    def name(self) -> str:
        return self._name

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def shape(self) -> TensorShape:
        return self._shape

    def get_shape(self) -> TensorShape:
        """The shape of the whole."""
        return self._shape

    @property
    def partitions(self) -> list[int]:
        """How many parts there are along each axis."""
        counts = [1] * len(self._shape)
        if len(self._variables) > 1:
            counts[self._axis()] = len(self._variables)
        return counts

    def _axis(self) -> int:
        return self._parts[0].single_slice_dim(self._shape) or 0

    def _get_variable_list(self) -> list[Any]:
        return self._variables

    def as_tensor(self) -> Tensor:
        """The whole, as the parts' concatenation."""
        if len(self._variables) == 1:
            return apply_op("Identity", input=self._variables[0], name=f"{self._name}/PartitionedVariable")
        axis = constant(self._axis(), name="concat/axis")
        return apply_op("ConcatV2", values=[each.value() for each in self._variables], axis=axis, name="concat")

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Let every part be its share of `value`."""
        return [
            each.assign(
                apply_op("Slice", input=value, begin=part.var_offset, size=part.var_shape),
                use_locking,
                name,
                read_value,
            )
            for each, part in zip(self._variables, self._parts)
        ]


def _convert(value: PartitionedVariable, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    return value.as_tensor()


register_tensor_conversion_function(PartitionedVariable, _convert)


def fixed_size_partitioner(num_shards: int, axis: int = 0) -> Callable[..., list[int]]:
    """The partitioner that cuts every variable into `num_shards` along `axis`."""

    def partitioner(shape: TensorShape, **unused: Any) -> list[int]:
        counts = [1] * len(shape)
        extent = shape.as_list()[axis]
        counts[axis] = min(num_shards, extent or num_shards)
        return counts

    return partitioner


def variable_axis_size_partitioner(
    max_shard_bytes: int, axis: int = 0, bytes_per_string_element: int = 16, max_shards: int | None = None
) -> Callable[..., list[int]]:
    """The partitioner that keeps every part below `max_shard_bytes`; ValueError for sizes below 1."""
    if max_shard_bytes < 1 or bytes_per_string_element < 1 or (max_shards is not None and max_shards < 1):
        raise ValueError("max_shard_bytes, bytes_per_string_element and max_shards must be positive")

    def partitioner(shape: TensorShape, dtype: DType) -> list[int]:
        dims = [int(extent) for extent in shape.as_list() if extent is not None]
        counts = [1] * len(dims)
        size = bytes_per_string_element if dtype.kind == "s" else dtype.size
        slab = max(1, (shape.num_elements() or 0) // max(dims[axis], 1)) * size
        per_part = max(1, max_shard_bytes // slab)
        counts[axis] = min(dims[axis], -(-dims[axis] // per_part), max_shards or dims[axis])
        return counts

    return partitioner


def min_max_variable_partitioner(
    max_partitions: int = 1, axis: int = 0, min_slice_size: int = 256 << 10, bytes_per_string_element: int = 16
) -> Callable[..., list[int]]:
    """The partitioner that makes up to `max_partitions` parts of at least `min_slice_size` bytes each."""

    def partitioner(shape: TensorShape, dtype: DType) -> list[int]:
        dims = [int(extent) for extent in shape.as_list() if extent is not None]
        counts = [1] * len(dims)
        size = bytes_per_string_element if dtype.kind == "s" else dtype.size
        most = max((shape.num_elements() or 0) * size // min_slice_size, 1)
        counts[axis] = max(1, min(most, max_partitions, dims[axis]))
        return counts

    return partitioner
