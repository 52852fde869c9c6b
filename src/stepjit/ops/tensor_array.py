"""TensorArray: tensors of one dtype that a step writes and reads by number, as in the body of a loop.

An array is a value: a buffer with a row per element, and how often each was written. Each write gives a new array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.composites import register_composite
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.shape import Dims, TensorShape, as_dims, compatible, merged
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import concat, expand_dims, reshape, shape, size, stack
from stepjit.ops.cast import cast
from stepjit.ops.comparison import equal
from stepjit.ops.control import Assert, identity, no_op
from stepjit.ops.creation import range as number_range
from stepjit.ops.creation import sequence_mask, zeros
from stepjit.ops.indexing import boolean_mask, gather, tensor_scatter_add, tensor_scatter_update
from stepjit.ops.layout import pad
from stepjit.ops.math import maximum
from stepjit.ops.math import minimum as smaller
from stepjit.ops.reductions import cumsum, reduce_all, reduce_max, reduce_sum
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype


class TensorArray:
    """An array of `size` tensors; each may be written once.

    dynamic_size: writing past the end makes the array longer.
    infer_shape: all elements have one shape; ValueError or InvalidArgumentError for one that does not fit.
    element_shape: their static shape. Elements that were not written are zero.
    clear_after_read, tensor_array_name, colocate_with_first_write_call: accepted, without a meaning here.
    ValueError unless `size` or `handle` is given.
    """

    def __init__(
        self,
        dtype: Any,
        size: Any = None,
        dynamic_size: bool | None = None,
        clear_after_read: bool | None = None,
        tensor_array_name: str | None = None,
        handle: Any = None,
        flow: Any = None,
        infer_shape: bool = True,
        element_shape: Any = None,
        colocate_with_first_write_call: bool = True,
        name: str | None = None,
    ) -> None:
        for argument, value in (("size", size), ("dynamic_size", dynamic_size), ("element_shape", element_shape)):
            if handle is not None and value is not None:
                raise ValueError(f"Cannot provide both a `handle` and `{argument}` arguments at the same time.")
        if handle is None and size is None:
            raise ValueError("Argument `size` must be provided if handle is not provided.")
        if handle is not None and not isinstance(handle, TensorArray):
            raise TypeError(f"the handle of a TensorArray is that of another one, not {handle!r}")
        self._dtype: DType = as_dtype(dtype).base_dtype
        self._dynamic, self._infer = bool(dynamic_size), bool(infer_shape)
        self._element: Dims = as_dims(element_shape)
        """What is known of the elements' shape."""
        self._size: Tensor | None = None
        self._buffer: Tensor | None = None
        self._counts: Tensor | None = None
        """How often each element was written; None: all once, or that is not looked at."""
        self._lengths: Tensor | None = None
        """The elements' first extents, where they differ; the buffer's rows are as long as the longest."""
        self._accumulates = False
        self._checked = True
        """Whether it is seen to that no element is written twice."""
        if handle is not None:
            self._take(handle)
            self._buffer = handle._buffer if flow is None or flow is handle.flow else flow
        else:
            with name_scope(name, "TensorArray"):
                self._size = convert_to_tensor(size, dtypes.int32, name="size")
                if self._size.dims not in (None, ()):
                    raise ValueError(f"Shape must be rank 0 but is rank {len(self._size.dims or ())} for 'size'")

    def _take(self, other: TensorArray) -> None:
        self._dtype, self._dynamic, self._infer = other._dtype, other._dynamic, other._infer
        self._element, self._size = other._element, other._size
        self._buffer, self._counts, self._lengths = other._buffer, other._counts, other._lengths
        self._accumulates, self._checked = other._accumulates, other._checked

    def _with(self, buffer: Tensor | None, counts: Tensor | None, **changes: Any) -> TensorArray:
        """An array like this one with another content."""
        result = object.__new__(TensorArray)
        result._take(self)
        result._buffer, result._counts = buffer, counts
        for name, value in changes.items():
            setattr(result, f"_{name}", value)
        return result

    def unchecked(self) -> TensorArray:
        """The same array for one who knows that no element will be written twice."""
        return self._with(self._buffer, None, checked=False)

    def begun(self, buffer: Tensor) -> TensorArray:
        """The same array with a buffer of zeros to write into."""
        return self._with(buffer, self._counts)

    # --- What it is ---

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def dynamic_size(self) -> bool:
        return self._dynamic

    @property
    def element_shape(self) -> TensorShape:
        """What is known of the elements' static shape."""
        return TensorShape(self._element)

    @property
    def handle(self) -> TensorArray:
        """What another TensorArray can be made of."""
        return self

    @property
    def flow(self) -> Tensor:
        """A tensor that is computed when all writes are done."""
        return constant(0.0) if self._buffer is None else self._rows()

    def size(self, name: str | None = None) -> Tensor:
        """How many elements there are, an int32 scalar."""
        if self._size is not None and not (self._dynamic and self._buffer is not None):
            return identity(self._size, name=name)
        return shape(self._filled())[0]

    def close(self, name: str | None = None) -> Operation:
        """An op that does nothing: an array lives as long as its step."""
        return no_op(name=name)

    def identity(self) -> TensorArray:
        """The same array, after the control dependencies around."""
        if self._buffer is None:
            return self._with(None, None)
        return self._with(identity(self._buffer), None if self._counts is None else identity(self._counts))

    def grad(self, source: str, flow: Any = None, name: str | None = None) -> TensorArray:
        """An array of the same shape whose writes add up."""
        buffer = apply_op("ZerosLike", x=self._filled())
        return self._with(buffer, None, accumulates=True, size=None)

    # --- Content ---

    @property
    def _is_open(self) -> bool:
        """Whether the shape of the elements waits for the first write."""
        return self._buffer is None and (self._element is None or None in self._element)

    def _rows_of(self, dims: Dims, like: Tensor | None = None) -> Tensor:
        """An empty buffer for elements of a shape, that of `like` where it isn't known beforehand."""
        assert self._size is not None
        if dims is not None and None not in dims:
            rest: Any = constant(list(dims), dtype="int32", shape=[len(dims)])
        elif like is not None:
            rest = shape(like)
        else:
            # No elements: the first write decides.
            rest = constant([0 if each is None else each for each in dims or (0,)], dtype="int32")
        return zeros(concat([expand_dims(self._size, 0), rest], 0), self._dtype)

    def _filled(self) -> Tensor:
        """The buffer, made if there was none."""
        return self._rows_of(self._element) if self._buffer is None else self._buffer

    def _counted(self) -> Tensor:
        """How often each element was written."""
        if self._counts is not None:
            return self._counts
        rows = expand_dims(self.size(), 0)
        return apply_op("Fill", dims=rows, value=constant(0 if self._buffer is None else 1, dtype="int32"))

    def _rows(self, name: str = "rows") -> Tensor:
        """The buffer, all writes to which were right."""
        buffer = self._filled()
        if self._counts is None:
            return identity(buffer, name=name)
        return apply_op("_TensorArrayRows", buffer=buffer, counts=self._counts, name=name)

    def _merged_element(self, found: Dims) -> Dims:
        if not self._infer and self._element is None:
            return None
        if not compatible(self._element, found):
            raise ValueError(f"Inconsistent shapes: saw {TensorShape(found)} but expected {TensorShape(self._element)}")
        return merged(self._element, found) if self._infer else self._element

    def _value(self, value: Any) -> Tensor:
        tensor = convert_to_tensor(value, preferred_dtype=self._dtype, name="value")
        found = tensor.dtype.base_dtype
        if found is not self._dtype:
            raise ValueError(f"TensorArray dtype is {self._dtype.name} but Op is trying to write dtype {found.name}")
        return tensor

    # --- One element ---

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with element `index` (an int32 scalar) set; InvalidArgumentError where there is none such."""
        with name_scope(name, "TensorArrayWrite", [index, value]):
            tensor = self._value(value)
            element = self._merged_element(tensor.dims)
            if self._lengths is not None or (
                self._checked and not self._infer and self._buffer is None and tensor.dims
            ):
                return self._write_ragged(index, tensor)
            buffer = self._rows_of(element, tensor) if self._buffer is None else self._buffer
            if self._accumulates:
                places = reshape(convert_to_tensor(index, dtypes.int32), [1, 1])
                return self._with(tensor_scatter_add(buffer, places, expand_dims(tensor, 0)), None, element=element)
            at = convert_to_tensor(index, dtypes.int32, name="index")
            if at.dims not in (None, ()):
                raise ValueError(f"Shape must be rank 0 but is rank {len(at.dims or ())} for the index of a write")
            counts = self._one_more(at) if self._checked else None
            return self._with(self._row_set(buffer, at, tensor), counts, element=element)

    def _row_set(self, buffer: Tensor, index: Tensor, value: Tensor) -> Tensor:
        return apply_op(
            "_TensorArrayWrite", buffer=buffer, index=index, value=value, dynamic=self._dynamic,
            name="TensorArrayWriteV3",
        )  # fmt: skip

    def _one_more(self, index: Tensor) -> Tensor:
        """How often each element was written, after one more write."""
        return apply_op(
            "_TensorArrayCount", counts=self._counted(), index=index, dynamic=self._dynamic, name="counts"
        )

    def read(self, index: Any, name: str | None = None) -> Tensor:
        """Element `index` (an int32 scalar); InvalidArgumentError where there is none."""
        with name_scope(name, "TensorArrayReadV3", [index]):
            at = convert_to_tensor(index, dtypes.int32, name="index")
            value = apply_op("_TensorArrayRead", buffer=self._filled(), index=at, name="value")
            if self._lengths is not None:
                return value[: gather(self._lengths, at)]
            if self._element is not None:
                value.set_shape(self._element)
            return value

    # --- Many ---

    def stack(self, name: str | None = None) -> Tensor:
        """All elements as rows of one tensor."""
        with name_scope(name, "TensorArrayStack"):
            if self._is_open:
                text = "Could not read from TensorArray index 0. Furthermore, the element shape is not fully defined"
                with control_dependencies([Assert(False, [f"{text}: {TensorShape(self._element)}"])]):
                    return identity(self._filled())
            if self._lengths is not None:
                same = reduce_all(equal(self._lengths, self._lengths[:1]))
                with control_dependencies([Assert(same, ["TensorArray has inconsistent shapes", self._lengths])]):
                    return identity(self._rows())
            rows = self._rows("TensorArrayGatherV3")
            return self._shaped(rows, None if self._size is None else _static(self._size))

    def gather(self, indices: Any, name: str | None = None) -> Tensor:
        """The elements `indices` (int32 [N]) as rows of one tensor."""
        with name_scope(name, "TensorArrayGatherV3", [indices]):
            places = convert_to_tensor(indices, dtypes.int32, name="indices")
            return self._shaped(gather(self._rows(), places), places.dims[0] if places.dims else None)

    def _shaped(self, rows: Tensor, count: int | None) -> Tensor:
        if self._element is not None:
            known = rows.dims is not None and rows.dims[0] is not None
            rows.set_shape((None if self._dynamic or known else count, *self._element))
        return rows

    def concat(self, name: str | None = None) -> Tensor:
        """The elements one after the other, joined along their first axis."""
        with name_scope(name, "TensorArrayConcatV3"):
            buffer = self._rows()
            rest = shape(buffer)[2:]
            if self._lengths is None:
                return reshape(buffer, concat([[-1], rest], 0))
            mask = sequence_mask(self._lengths, shape(buffer)[1])
            flat = reshape(buffer, concat([[-1], rest], 0))
            return boolean_mask(flat, reshape(mask, [-1]))

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """The array with the rows of `value` as its elements."""
        with name_scope(name, "TensorArrayUnstack", [value]):
            tensor = self._value(value)
            if tensor.dims == ():
                raise ValueError("slice index 0 of dimension 0 out of bounds: a scalar has no rows to unstack")
            element = self._merged_element(None if tensor.dims is None else tensor.dims[1:])
            return self._with(as_rows(self._fitting(tensor)), None, element=element)

    def _fitting(self, rows: Tensor) -> Tensor:
        """`rows` and, where the array has more elements than that, zeros."""
        count = None if rows.dims is None else rows.dims[0]
        wanted = None if self._size is None else _static(self._size)
        if self._size is None or self._dynamic or wanted == count is not None or _is_length(self._size, rows):
            return rows
        if rows.dims is None:
            return rows
        missing = self._size - shape(rows)[0]
        text = "Max scatter index must be < array size"
        with control_dependencies([Assert(missing >= 0, [text, shape(rows)[0] - 1, " vs. ", self._size])]):
            missing = maximum(missing, 0)
        return pad(rows, concat([[[0, missing]], zeros([len(rows.dims) - 1, 2], dtypes.int32)], 0))

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with the rows of `value` as its elements `indices` (int32 [N])."""
        with name_scope(name, "TensorArrayScatter", [value, indices]):
            tensor = self._value(value)
            places = convert_to_tensor(indices, dtypes.int32, name="indices")
            element = self._merged_element(None if tensor.dims is None else tensor.dims[1:])
            buffer = self._rows_of(element, tensor[0]) if self._buffer is None else self._buffer
            counts = self._counted()
            if self._dynamic:
                more = maximum(reduce_max(places) + 1 - shape(buffer)[0], 0)
                buffer = pad(buffer, concat([[[0, more]], zeros([len(buffer.dims or ()) - 1, 2], dtypes.int32)], 0))
                counts = pad(counts, [[0, more]])
            columns = expand_dims(places, 1)
            ones = apply_op("OnesLike", x=places)
            return self._with(
                tensor_scatter_update(buffer, columns, tensor), tensor_scatter_add(counts, columns, ones),
                element=element,
            )  # fmt: skip

    # --- Elements whose first extents differ ---

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """The array with `lengths[i]` rows of `value` as element i, one after the other."""
        with name_scope(name, "TensorArraySplit", [value, lengths]):
            tensor = self._value(value)
            counts = cast(convert_to_tensor(lengths, name="lengths"), dtypes.int32)
            checks = []
            if self._size is not None and not self._dynamic:
                text = "TensorArray's size is not equal to the size of lengths, and it is not dynamically resizeable"
                checks.append(Assert(equal(self._size, size(counts)), [text, self._size, size(counts)]))
            text = "Expected sum of lengths to be equal to values.shape[0], but sum of lengths is"
            total = reduce_sum(counts)
            checks.append(
                Assert(equal(total, shape(tensor)[0]), [text, total, "and value's shape is:", shape(tensor)])
            )
            if self._infer:
                text = "the value shapes are incompatible with the TensorArray's inferred element shape: lengths"
                checks.append(Assert(reduce_all(equal(counts, counts[:1])), [text, counts]))
            with control_dependencies(checks):
                counts = identity(counts)
            known = constant_value(counts.op.inputs[0])
            uniform = None if known is None or not known.size else bool((known == known.flat[0]).all())
            if uniform or (uniform is None and self._infer):
                rows = reshape(tensor, concat([expand_dims(size(counts), 0), counts[:1], shape(tensor)[1:]], 0))
                length = None if known is None or not known.size else int(known.flat[0])
                dims = None if tensor.dims is None else (length, *tensor.dims[1:])
                return self._with(rows, None, element=self._merged_element(dims), size=None)
            starts = expand_dims(cumsum(counts, exclusive=True), 1)
            last = maximum(shape(tensor)[0] - 1, 0)
            rows = gather(tensor, smaller(starts + number_range(reduce_max(counts)), last))
            return self._with(rows, None, lengths=counts, size=None)

    def _write_ragged(self, index: Any, value: Tensor) -> TensorArray:
        """Rows grow to the length of the longest element."""
        at = convert_to_tensor(index, dtypes.int32, name="index")
        length = shape(value)[0]
        if self._buffer is None or self._lengths is None:
            buffer = self._rows_of(None, value)
            lengths = apply_op("Fill", dims=shape(buffer)[:1], value=constant(0, dtype="int32"))
        else:
            buffer, lengths = self._buffer, self._lengths
            buffer = _padded(buffer, 1, maximum(length - shape(buffer)[1], 0))
        value = _padded(value, 0, shape(buffer)[1] - length)
        lengths = self._row_set(lengths, at, length)
        return self._with(self._row_set(buffer, at, value), self._one_more(at), lengths=lengths)

    # --- In branches and loops ---

    def _parts(self) -> list[Tensor]:
        parts = [self._filled()]
        if self._checked:
            parts.append(self._counted())
        return parts if self._lengths is None else [*parts, self._lengths]

    def _joined(self, tensors: Sequence[Tensor]) -> TensorArray:
        rest = iter(tensors[1:])
        counts = next(rest) if self._checked else None
        return self._with(tensors[0], counts, lengths=next(rest, None), size=None)

    def _made_like(self, other: Any) -> TensorArray:
        """This array, given the shape of another one's elements if it has none as yet."""
        element = getattr(other, "_element", None)
        if not self._is_open or element is None or None in element:
            return self
        return self._with(None, None, element=element)


register_composite(
    TensorArray,
    TensorArray._parts,
    TensorArray._joined,
    lambda array: 1 + array._checked + (array._lengths is not None),
)


def _static(tensor: Tensor) -> int | None:
    found = constant_value(tensor)
    return None if found is None else int(found)


def _is_length(number: Tensor, rows: Tensor) -> bool:
    """Whether `number` is `shape(rows)[0]`."""
    op = number.op
    return op.type == "StridedSlice" and op.inputs[0].op.type == "Shape" and op.inputs[0].op.inputs[0] is rows


def _padded(tensor: Tensor, axis: int, more: Tensor) -> Tensor:
    """`tensor` with `more` zeros after its last along an axis."""
    rank = len(tensor.dims or ())
    sides = [stack([0, more]) if k == axis else constant([0, 0]) for k in range(rank)]
    return pad(tensor, stack(sides))


def as_rows(value: Tensor) -> Tensor:
    """`value` as a buffer to read rows of, whose gradient is dense."""
    return apply_op("_TensorArrayUnstack", value=value, name="rows")


# --- Gradients ---


@RegisterGradient("_TensorArrayUnstack")
def _unstack_grad(op: Operation, grad: Any) -> Tensor:
    return convert_to_tensor(grad)


@RegisterGradient("_TensorArrayWrite")
def _write_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    # What was there before the write nobody reads.
    return [grad, None, apply_op("_TensorArrayRead", buffer=grad, index=op.inputs[1], name="row")]


@RegisterGradient("_TensorArrayRead")
def _read_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    buffer, index = op.inputs
    return [IndexedSlices(expand_dims(grad, 0), expand_dims(index, 0), shape(buffer)), None]


@RegisterGradient("_TensorArrayRows")
def _rows_grad(op: Operation, grad: Any) -> Sequence[Any]:
    return [grad, None]


for _kind in ("_TensorArrayCount", "TensorArrayV3", "TensorArraySizeV3", "TensorArrayCloseV3"):
    NotDifferentiable(_kind)
