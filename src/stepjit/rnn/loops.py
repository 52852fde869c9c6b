"""Cells over time: unrolled in the graph, or as a loop of the step; in one direction or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework import nest
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import control_dependencies
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import concat, shape, stack, transpose, unstack
from stepjit.ops.cast import cast
from stepjit.ops.comparison import equal, where
from stepjit.ops.control import Assert, identity
from stepjit.ops.creation import range as number_range
from stepjit.ops.creation import zeros, zeros_like
from stepjit.ops.layout import reverse, reverse_sequence
from stepjit.ops.reductions import reduce_all
from stepjit.ops.tensor_array import TensorArray
from stepjit.ops.while_loop import while_loop
from stepjit.rnn.base import check_cell, rows_of, size_dims, tensor_rows
from stepjit.variable_scope import variable_scope
from stepjit_runtime import dtypes


def dynamic_rnn(
    cell: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """A cell over the time axis of `inputs` ([batch, time, ...], or [time, batch, ...]) as a loop: outputs, last state.

    sequence_length: [batch] integers; from there on outputs are zero and the state stays. dtype is needed without an
    `initial_state`. ValueError for inputs whose rank, depth or times don't fit, TypeError for what is no cell.
    """
    check_cell("cell", cell)
    with variable_scope(scope or "rnn"):
        flat = [convert_to_tensor(each) for each in nest.flatten(inputs)]
        for tensor in flat:
            if tensor.dims is not None and len(tensor.dims) < 2:
                raise ValueError(f"Shape {tensor.shape} must have rank at least 2")
        if not time_major:
            flat = [_swapped(tensor) for tensor in flat]
        times = _times(flat)
        batch = _batch(flat)
        lengths = _lengths(sequence_length, batch)
        state = _first_state(cell, initial_state, batch, dtype)
        loop = _TimeLoop(cell, nest.pack_sequence_as(inputs, flat), times, batch, lengths)
        outputs, state = loop.run(state, parallel_iterations or 32, swap_memory)
        if not time_major:
            outputs = nest.map_structure(_swapped, outputs)
        return outputs, state


def _swapped(x: Tensor) -> Tensor:
    """Time and batch, the first two axes, swapped."""
    if x.dims is not None:
        return transpose(x, [1, 0, *range(2, len(x.dims))])
    return transpose(x, concat([[1, 0], number_range(2, shape(shape(x))[0])], 0))


def _times(flat: Sequence[Tensor]) -> Any:
    """How many time steps the inputs have; ValueError when they differ."""
    known = {tensor.dims[0] for tensor in flat if tensor.dims is not None and tensor.dims[0] is not None}
    if len(known) > 1:
        raise ValueError(f"Time steps is not the same for all the elements in the input in a batch: {sorted(known)}")
    return known.pop() if known else shape(flat[0])[0]


def _batch(flat: Sequence[Tensor]) -> Any:
    """The number of rows: an int where the graph tells, else a scalar."""
    for tensor in flat:
        if tensor.dims is not None and tensor.dims[1] is not None:
            return tensor.dims[1]
    return shape(flat[0])[1]


def _lengths(sequence_length: Any, batch: Any) -> Tensor | None:
    if sequence_length is None:
        return None
    lengths = cast(convert_to_tensor(sequence_length, name="sequence_length"), dtypes.int32)
    if lengths.dims is not None and len(lengths.dims) != 1:
        raise ValueError(
            f"sequence_length must be a vector of length batch_size, but saw shape: {lengths.shape}"
        )
    if lengths.dims is None or lengths.dims[0] is None or not isinstance(batch, int):
        right = reduce_all(equal(shape(lengths), batch))
        with control_dependencies([Assert(right, ["Expected shape for sequence_length is ", batch, shape(lengths)])]):
            return identity(lengths, name="CheckSeqLen")
    if lengths.dims[0] != batch:
        raise ValueError(f"sequence_length must have batch_size = {batch} elements, but saw shape: {lengths.shape}")
    return lengths


def _first_state(cell: Any, initial_state: Any, batch: Any, dtype: Any) -> Any:
    if initial_state is not None:
        return nest.map_structure(lambda each: each if isinstance(each, TensorArray) else convert_to_tensor(each),
                                  initial_state)  # fmt: skip
    if dtype is None:
        raise ValueError("If there is no initial_state, you must give a dtype.")
    if hasattr(cell, "zero_state"):
        return cell.zero_state(batch, dtype)
    return cell.get_initial_state(inputs=None, batch_size=batch, dtype=dtype)


class _TimeLoop:
    """The loop of `dynamic_rnn`, over inputs whose first axis is time."""

    def __init__(self, cell: Any, inputs: Any, times: Any, batch: Any, lengths: Tensor | None) -> None:
        self.cell, self.times, self.batch, self.lengths = cell, times, batch, lengths
        self.structure = inputs
        self.arrays = [
            TensorArray(tensor.dtype, size=times, element_shape=None if tensor.dims is None else tensor.dims[1:])
            .unchecked()
            .unstack(tensor)
            for tensor in nest.flatten(inputs)
        ]
        for tensor in nest.flatten(inputs):
            if tensor.dims is None or None in tensor.dims[2:]:
                raise ValueError(
                    "Input size (depth of inputs) must be accessible via shape inference, but saw value None."
                )

    def run(self, state: Any, parallel: int, swap_memory: bool) -> tuple[Any, Any]:
        """Outputs in rows by time, and the last state."""
        sizes = self.cell.output_size
        kinds = [self._kind(state)] * len(nest.flatten(sizes))
        outputs = [self._array(size, kind) for size, kind in zip(nest.flatten(sizes), kinds)]

        def trip(time: Tensor, outputs: Any, state: Any) -> Any:
            row = nest.pack_sequence_as(self.structure, [array.read(time) for array in self.arrays])
            output, new = self.cell(row, state)
            nest.assert_same_structure(state, new, expand_composites=True)
            found = nest.flatten(output)
            if self.lengths is not None:
                found = [_until(self.lengths, time, zeros_like(value), value) for value in found]
                new = nest.map_structure(lambda old, value: _until(self.lengths, time, old, value), state, new)
            new = nest.map_structure(_as_before, state, new)
            return time + 1, [array.write(time, value) for array, value in zip(outputs, found)], new

        _, outputs, state = while_loop(
            lambda time, outputs, state: time < self.times, trip, (0, outputs, state),
            parallel_iterations=parallel, swap_memory=swap_memory, maximum_iterations=self.times,
        )  # fmt: skip
        results = []
        for array, size in zip(outputs, nest.flatten(sizes)):
            rows = array.stack()
            static = [each if isinstance(each, int) else None for each in (self.times, self.batch)]
            rows.set_shape([*static, *size_dims(size)])
            results.append(rows)
        return nest.pack_sequence_as(sizes, results), state

    def _kind(self, state: Any) -> Any:
        leaves = [each for each in nest.flatten(state) if not isinstance(each, TensorArray)]
        return leaves[0].dtype.base_dtype if leaves else nest.flatten(self.structure)[0].dtype.base_dtype

    def _array(self, size: Any, kind: Any) -> TensorArray:
        static = self.batch if isinstance(self.batch, int) else None
        array = TensorArray(kind, size=self.times, element_shape=[static, *size_dims(size)]).unchecked()
        if static is not None:
            return array
        extents = concat([[self.times], [self.batch], convert_to_tensor(size_dims(size), dtypes.int32)], 0)
        return array.begun(zeros(extents, kind))


def _as_before(old: Any, new: Any) -> Any:
    """A new state, with what is known of its shape from the one before."""
    if isinstance(new, Tensor) and isinstance(old, Tensor) and new.shape.is_compatible_with(old.shape):
        new.set_shape(old.shape)
    return new


def _until(lengths: Tensor | None, time: Any, old: Any, new: Any) -> Any:
    """`new` for the rows whose sequence is not over, `old` for the others."""
    if isinstance(new, TensorArray) or new.dims == ():
        return new
    assert lengths is not None
    result = where(time >= lengths, old, new)
    result.set_shape(new.shape)
    return result


def static_rnn(
    cell: Any,
    inputs: Sequence[Any],
    initial_state: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """A cell over a list of inputs [batch, ...], unrolled in the graph: the list of outputs, and the last state.

    sequence_length, dtype, errors: as in `dynamic_rnn`; ValueError for an empty list, TypeError for none.
    """
    check_cell("cell", cell)
    if not isinstance(inputs, (list, tuple)):
        raise TypeError("inputs must be a sequence")
    if not inputs:
        raise ValueError("inputs must not be empty")
    with variable_scope(scope or "rnn") as found:
        rows = [nest.map_structure(convert_to_tensor, each) for each in inputs]
        first = nest.flatten(rows[0])[0]
        if first.dims is not None and None in first.dims[1:]:
            raise ValueError("Input size (dimension 1 of inputs) must be accessible via shape inference, but saw None.")
        batch = tensor_rows(first)
        lengths = _lengths(sequence_length, batch)
        state = _first_state(cell, initial_state, batch, dtype)
        outputs = []
        for time, row in enumerate(rows):
            if time > 0:
                found.reuse_variables()
            output, new = cell(row, state)
            if lengths is not None:
                output = nest.map_structure(
                    lambda value, time=time: _until(lengths, time, zeros_like(value), value), output
                )
                new = nest.map_structure(lambda old, value, time=time: _until(lengths, time, old, value), state, new)
            state = new
            outputs.append(output)
        return outputs, state


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """One cell forwards and one backwards over time: (outputs, outputs), (state, state); see `dynamic_rnn`."""
    check_cell("cell_fw", cell_fw)
    check_cell("cell_bw", cell_bw)
    options = {"parallel_iterations": parallel_iterations, "swap_memory": swap_memory, "time_major": time_major}
    with variable_scope(scope or "bidirectional_rnn"):
        with variable_scope("fw") as own:
            forwards, state_fw = dynamic_rnn(
                cell_fw, inputs, sequence_length, initial_state_fw, dtype, scope=own, **options  # type: ignore[arg-type]
            )
        axes = (0, 1) if time_major else (1, 0)

        def turned(x: Any) -> Any:
            if sequence_length is None:
                return reverse(x, axis=[axes[0]])
            return reverse_sequence(x, sequence_length, seq_axis=axes[0], batch_axis=axes[1])

        with variable_scope("bw") as own:
            backwards, state_bw = dynamic_rnn(
                cell_bw, nest.map_structure(turned, inputs), sequence_length, initial_state_bw, dtype, scope=own,
                **options,  # type: ignore[arg-type]
            )  # fmt: skip
        return (forwards, nest.map_structure(turned, backwards)), (state_fw, state_bw)


def static_bidirectional_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Sequence[Any],
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any, Any]:
    """One cell forwards and one backwards over a list: both outputs joined, the forward state, the backward state."""
    check_cell("cell_fw", cell_fw)
    check_cell("cell_bw", cell_bw)
    if not isinstance(inputs, (list, tuple)):
        raise TypeError("inputs must be a sequence")
    if not inputs:
        raise ValueError("inputs must not be empty")
    with variable_scope(scope or "bidirectional_rnn"):
        with variable_scope("fw") as own:
            forwards, state_fw = static_rnn(cell_fw, inputs, initial_state_fw, dtype, sequence_length, own)
        with variable_scope("bw") as own:
            turned = _reversed(list(inputs), sequence_length)
            found, state_bw = static_rnn(cell_bw, turned, initial_state_bw, dtype, sequence_length, own)
        backwards = _reversed(found, sequence_length)
        joined = [
            nest.pack_sequence_as(
                one, [concat([a, b], 1) for a, b in zip(nest.flatten(one), nest.flatten(other))]
            )
            for one, other in zip(forwards, backwards)
        ]
        return joined, state_fw, state_bw


def _reversed(rows: list[Any], lengths: Any) -> list[Any]:
    """The rows from last to first; of each sequence, those within its length."""
    if lengths is None:
        return rows[::-1]
    columns = []
    for leaves in zip(*(nest.flatten(row) for row in rows)):
        turned = reverse_sequence(stack(list(leaves)), cast(lengths, dtypes.int64), seq_axis=0, batch_axis=1)
        columns.append(unstack(turned, len(rows)))
    return [nest.pack_sequence_as(rows[0], [column[k] for column in columns]) for k in range(len(rows))]


LoopFunction = Callable[..., tuple[Any, Any, Any, Any, Any]]


def raw_rnn(
    cell: Any,
    loop_fn: LoopFunction,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    scope: Any = None,
) -> tuple[Any, Any, Any]:
    """A cell in a loop that `loop_fn` steers: TensorArrays of what was emitted, the last state, the last loop state.

    `loop_fn(time, cell_output, cell_state, loop_state)` gives (finished [batch], next input, next state, what to emit,
    next loop state); at first all but the time are None.
    """
    check_cell("cell", cell)
    if not callable(loop_fn):
        raise TypeError("loop_fn must be a callable")
    with variable_scope(scope or "rnn"):
        start = convert_to_tensor(0, dtypes.int32, name="time")
        finished, first, state, emitted, loop_state = loop_fn(start, None, None, None)
        keeps_loop_state = loop_state is not None
        inputs = nest.map_structure(convert_to_tensor, first)
        batch = tensor_rows(nest.flatten(inputs)[0])
        nest.assert_same_structure(cell.state_size, state)
        structure = cell.output_size if emitted is None else emitted
        kinds, sizes = _emitted(emitted, cell, nest.flatten(state)[0])
        arrays = [TensorArray(kind, size=0, dynamic_size=True, element_shape=None) for kind in kinds]
        nothing = [rows_of(batch, size, kind) for size, kind in zip(sizes, kinds)]

        def trip(time: Any, finished: Any, inputs: Any, arrays: Any, state: Any, loop_state: Any) -> Any:
            output, new = cell(inputs, state)
            after = time + 1
            over, following, next_state, emit, next_loop = loop_fn(
                after, output, new, loop_state if keeps_loop_state else None
            )
            nest.assert_same_structure(state, next_state)
            nest.assert_same_structure(inputs, following)
            values = nest.flatten(output if emit is None else emit)
            values = [where(finished, zero, value) for zero, value in zip(nothing, values)]
            kept = nest.map_structure(lambda old, value: _unless(finished, old, value), state, next_state)
            over = finished | over
            arrays = [array.write(time, value) for array, value in zip(arrays, values)]
            return after, over, following, arrays, kept, next_loop if keeps_loop_state else loop_state

        _, _, _, arrays, state, loop_state = while_loop(
            lambda time, finished, *rest: ~reduce_all(finished), trip,
            (start, finished, inputs, arrays, state, loop_state if keeps_loop_state else 0),
            parallel_iterations=parallel_iterations or 32, swap_memory=swap_memory,
        )  # fmt: skip
        return nest.pack_sequence_as(structure, arrays), state, loop_state if keeps_loop_state else None


def _emitted(emitted: Any, cell: Any, state: Tensor) -> tuple[list[Any], list[Any]]:
    """The dtypes and sizes of what a raw loop emits."""
    if emitted is None:
        sizes = nest.flatten(cell.output_size)
        return [state.dtype.base_dtype] * len(sizes), sizes
    leaves = [convert_to_tensor(each) for each in nest.flatten(emitted)]
    return [each.dtype.base_dtype for each in leaves], [each.shape for each in leaves]


def _unless(finished: Tensor, old: Any, new: Any) -> Any:
    if isinstance(new, TensorArray) or new.dims == ():
        return new
    return where(finished, old, new)
