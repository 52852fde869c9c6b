"""Functions over the rows of tensors: `map_fn`, `scan`, `foldl`, `foldr`; each is a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework import nest
from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import Dimension
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import shape
from stepjit.ops.control import Assert, with_dependencies
from stepjit.ops.tensor_array import TensorArray, as_rows
from stepjit.ops.while_loop import while_loop
from stepjit_runtime import dtypes


def map_fn(
    fn: Callable[..., Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
    fn_output_signature: Any = None,
) -> Any:
    """`fn` of each row of `elems` (tensors in any structure), its results stacked.

    dtype: the dtypes of what `fn` returns, in its structure; needed unless those of `elems`. ValueError for scalars
    and for a result of another structure, TypeError for one of another dtype and for an `fn` that is no function.
    """
    wanted = dtype if fn_output_signature is None else fn_output_signature
    rows = _Rows(fn, elems)
    with name_scope(name, "map", rows.flat):
        rows.read()
        structure = rows.structure if wanted is None else wanted
        kinds = rows.kinds() if wanted is None else [dtypes.as_dtype(each) for each in nest.flatten(wanted)]
        arrays = [TensorArray(kind, size=rows.count, infer_shape=infer_shape).unchecked() for kind in kinds]

        def trip(i: Tensor, arrays: Sequence[TensorArray]) -> Any:
            result = fn(rows.at(i))
            nest.assert_same_structure(structure, result)
            return i + 1, [array.write(i, value) for array, value in zip(arrays, nest.flatten(result))]

        _, filled = while_loop(
            lambda i, arrays: i < rows.count, trip, (0, arrays), parallel_iterations=parallel_iterations or 10,
            back_prop=back_prop, swap_memory=swap_memory,
        )  # fmt: skip
        return nest.pack_sequence_as(structure, rows.stacked(filled))


def scan(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """All the values that `accumulated = fn(accumulated, row)` takes over the rows of `elems`, stacked.

    initializer: what to begin with; by default the first row (InvalidArgumentError in the step if there is none).
    reverse: from the last row to the first. Errors as in `map_fn`.
    """
    rows = _Rows(fn, elems)
    with name_scope(name, "scan", rows.flat):
        rows.read()
        last = rows.count - 1
        structure, begin, first = rows.beginning(initializer, last if reverse else 0)
        arrays = [
            TensorArray(
                value.dtype, size=rows.count, infer_shape=infer_shape,
                element_shape=value.shape if infer_shape else None,
            ).unchecked()
            for value in begin
        ]  # fmt: skip
        if first:
            arrays = [array.write(last if reverse else 0, value) for array, value in zip(arrays, begin)]
        step = -1 if reverse else 1

        def trip(i: Tensor, accumulated: Sequence[Tensor], arrays: Sequence[TensorArray]) -> Any:
            result = fn(nest.pack_sequence_as(structure, list(accumulated)), rows.at(i))
            nest.assert_same_structure(structure, result)
            values = [convert_to_tensor(each) for each in nest.flatten(result)]
            return i + step, values, [array.write(i, value) for array, value in zip(arrays, values)]

        start = last - first if reverse else first
        _, _, filled = while_loop(
            lambda i, accumulated, arrays: i >= 0 if reverse else i < rows.count, trip, (start, begin, arrays),
            parallel_iterations=parallel_iterations, back_prop=back_prop, swap_memory=swap_memory,
            maximum_iterations=rows.count,
        )  # fmt: skip
        return nest.pack_sequence_as(structure, rows.stacked(filled))


def foldl(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """The last value that `accumulated = fn(accumulated, row)` takes over the rows of `elems`, from first to last.

    initializer and errors as in `scan`.
    """
    return _fold(fn, elems, initializer, False, name or "foldl", parallel_iterations, back_prop, swap_memory)


def foldr(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """As `foldl`, from the last row to the first."""
    return _fold(fn, elems, initializer, True, name or "foldr", parallel_iterations, back_prop, swap_memory)


def _fold(
    fn: Callable[..., Any],
    elems: Any,
    initializer: Any,
    reverse: bool,
    name: str,
    parallel: int,
    back_prop: bool,
    swap: bool,
) -> Any:
    rows = _Rows(fn, elems)
    with name_scope(name, None, rows.flat):
        rows.read()
        last = rows.count - 1
        structure, begin, first = rows.beginning(initializer, last if reverse else 0)

        def trip(i: Tensor, accumulated: Any) -> Any:
            result = fn(accumulated, rows.at(i))
            nest.assert_same_structure(structure, result)
            return i + (-1 if reverse else 1), result

        _, result = while_loop(
            lambda i, accumulated: i >= 0 if reverse else i < rows.count, trip,
            (last - first if reverse else first, nest.pack_sequence_as(structure, begin)),
            parallel_iterations=parallel, back_prop=back_prop, swap_memory=swap, maximum_iterations=rows.count,
        )  # fmt: skip
        return result


class _Rows:
    """The elems of a function over rows: what they are, and their rows by number."""

    def __init__(self, fn: Any, elems: Any) -> None:
        if not callable(fn):
            raise TypeError(f"{fn!r} is not callable")
        self.structure = elems
        self.flat: list[Any] = nest.flatten(elems)
        if not self.flat:
            raise ValueError(
                "elems must be a Tensor or (possibly nested) sequence of Tensors. "
                f"Got {elems!r}, which does not contain any Tensors."
            )

    def read(self) -> None:
        """Convert the elems; ValueError when they have no rows, or not the same number of them."""
        tensors = self.flat = [convert_to_tensor(each, name="elem") for each in self.flat]
        extent = Dimension(None)
        for tensor in tensors:
            if tensor.dims == ():
                raise ValueError("Elements in elems must be 1+ dimensional Tensors, not scalars")
            if tensor.dims is not None:
                extent = extent.merge_with(Dimension(tensor.dims[0]))
        self.rows = extent.value
        static = self.rows is not None
        self.buffers = [as_rows(tensor) for tensor in tensors]
        self.count = convert_to_tensor(self.rows, dtypes.int32, name="n") if static else shape(tensors[0])[0]

    def kinds(self) -> list[dtypes.DType]:
        return [tensor.dtype.base_dtype for tensor in self.flat]

    def at(self, i: Any) -> Any:
        """Row i of each, in their structure."""
        index = convert_to_tensor(i, dtypes.int32)
        rows = [_row(buffer, index) for buffer in self.buffers]
        return nest.pack_sequence_as(self.structure, rows)

    def beginning(self, initializer: Any, number: Any) -> tuple[Any, list[Tensor], int]:
        """The structure of what is accumulated, its first values, and how many rows these are made of."""
        if initializer is not None:
            return initializer, [convert_to_tensor(each) for each in nest.flatten(initializer)], 0
        text = "there is no row to begin with, and no initializer"
        some = Assert(self.count > 0, [text])
        return self.structure, [with_dependencies([some], each) for each in nest.flatten(self.at(number))], 1

    def stacked(self, arrays: Any) -> list[Tensor]:
        """The arrays' rows, as many as there are elems."""
        results = [array.stack() for array in arrays]
        for result in results:
            if result.dims is not None:
                result.set_shape((self.rows, *result.dims[1:]))
        return results


def _row(buffer: Tensor, index: Tensor) -> Tensor:
    return apply_op("_TensorArrayRead", buffer=buffer, index=index, name="row")
