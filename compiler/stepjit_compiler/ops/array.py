"""Moving whole axes: transposing, joining, splitting, repeating, reversing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Assemble, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, unchanged
from stepjit_compiler.ops.arguments import (
    at_least,
    axis_of,
    brief,
    fixed,
    follows,
    fresh,
    int_input,
    integer,
    integers,
    ints_input,
    known_ints,
    knows,
    merge,
    remainder,
)  # fmt: skip

# --- Transpose ---


def _transpose_shape(x: Inference) -> list[ShapeLike]:
    shape, perm = x.shape(0), ints_input(x, 1)
    if perm is None:
        rank = len(shape) if shape is not None else len(x.extents(1) or ()) or None
        return [None if rank is None else (None,) * rank]
    rank = len(perm)
    if shape is not None and len(shape) != rank:
        x.fail(f"transpose expects a vector of size {len(shape)}. But input(1) is a vector of size {rank}")
    order = _permutation(x, perm)
    return [(None,) * rank if shape is None else tuple(shape[k] for k in order)]


def _permutation(x: Any, perm: Sequence[int]) -> list[int]:
    """The order of axes, counted from the front; `x` reports what is no permutation."""
    rank = len(perm)
    for k in perm:
        if not -rank <= k < rank:
            x.fail(f"{k} is out of range [0 .. {rank})")
    order = [k % rank for k in perm]
    for k in range(rank):
        if k not in order:
            x.fail(f"{k} is missing from {{{','.join(map(str, perm))}}}.")
    return order


def _transpose(call: Call, x: np.ndarray, perm: np.ndarray) -> np.ndarray:
    order = integers(perm)
    if perm.ndim != 1:
        call.fail(f"perm must be rank 1, got shape {brief(perm.shape)}")
    if len(order) != x.ndim:
        call.fail(f"transpose expects a vector of size {x.ndim}. But input(1) is a vector of size {len(order)}")
    return fresh(np.transpose(x, _permutation(call, order)))


def _emit_transpose(k: Any, call: Any, output: int, index: Any) -> Any:
    order = _permutation(call, known_ints(call, 1) or ())
    return k.load(0, tuple(index[order.index(axis)] for axis in range(len(index))))


define(
    "Transpose", "x: T, perm: Tperm -> y: T", "T: type, Tperm: type in index = int32",
    infer=_transpose_shape, reference=_transpose, lower=Indexed(_emit_transpose, when=knows(1)), symbolic=True,
)  # fmt: skip

# --- ConjugateTranspose ---


def _conjugate_transpose(call: Call, x: np.ndarray, perm: np.ndarray) -> np.ndarray:
    turned = _transpose(call, x, perm)
    return np.conj(turned) if turned.dtype.kind == "c" else turned


define(
    "ConjugateTranspose", "x: T, perm: Tperm -> y: T", "T: type, Tperm: type in index = int32",
    infer=_transpose_shape, reference=_conjugate_transpose, lower=Indexed(_emit_transpose, when=knows(1)),
)  # fmt: skip

# --- ConcatV2 ---


def _joined(x: Inference, values: Sequence[int], axis: int | None) -> ShapeLike:
    """The shape of the given inputs put one after the other along `axis`."""
    shapes = [x.shape(i) for i in values]
    known = [shape for shape in shapes if shape is not None]
    if not known:
        return None
    rank = len(known[0])
    for i, shape in zip(values, shapes, strict=True):
        if shape is not None and len(shape) != rank:
            x.fail(
                f"ConcatOp : Ranks of all input tensors should match, they must be equal: Shape must be rank {rank} "
                f"but is rank {len(shape)} in input {i}"
            )
    if rank == 0:
        x.fail("ConcatOp : Can't concatenate scalars (use tf.stack instead)")
    if axis is None:
        return (None,) * rank
    if not -rank <= axis < rank:
        x.fail(f"ConcatOp : Expected concatenating dimensions in the range [{-rank}, {rank}), but got {axis}")
    axis %= rank
    result: list[Extent | None] = []
    for k in range(rank):
        column = [(None,) * rank if shape is None else shape for shape in shapes]
        extent = column[0][k]
        for number, shape in enumerate(column[1:], 1):
            if k == axis:
                extent = None if extent is None or shape[k] is None else extent + shape[k]  # type: ignore[operator]
            else:
                extent = x.equal(extent, shape[k], _unequal(k, column[0], shape, number))
        result.append(extent)
    return tuple(result)


def _unequal(k: int, first: Sequence[Any], other: Sequence[Any], number: int) -> str:
    return (
        f"ConcatOp : Dimension {k} in both shapes must be equal: "
        f"shape[0] = {brief(first)} vs. shape[{number}] = {brief(other)}"
    )


def _concat(call: Call, axis_array: np.ndarray, arrays: Sequence[np.ndarray]) -> np.ndarray:
    if axis_array.size != 1:
        call.fail(f"ConcatOp : axis must be a scalar, but has shape {brief(axis_array.shape)}")
    axis, rank = integer(axis_array), arrays[0].ndim
    if rank == 0:
        call.fail("ConcatOp : Can't concatenate scalars (use tf.stack instead)")
    axis = axis_of(
        call, axis, rank,
        lambda: f"ConcatOp : Expected concatenating dimensions in the range [{-rank}, {rank}), but got {axis}",
    )  # fmt: skip
    for number, array in enumerate(arrays):
        if array.ndim != rank:
            call.fail(
                f"ConcatOp : Ranks of all input tensors should match: shape[0] = {brief(arrays[0].shape)} vs. "
                f"shape[{number}] = {brief(array.shape)}"
            )
        for k in range(rank):
            if k != axis and array.shape[k] != arrays[0].shape[k]:
                call.fail(_unequal(k, arrays[0].shape, array.shape, number))
    return np.concatenate(arrays, axis)


def _concat_parts(call: Any, axis_input: int, first: int, last: int) -> list[tuple[int, tuple[Extent, ...]]]:
    rank = len(call.types[0].dims)
    axis = (known_ints(call, axis_input) or [0])[0] % rank
    parts: list[tuple[int, tuple[Extent, ...]]] = []
    offset: Extent = 0
    for i in range(first, last):
        parts.append((i, tuple(offset if k == axis else 0 for k in range(rank))))
        offset = offset + call.inputs[i].dims[axis]
    return parts


define(
    "ConcatV2", "values: N*T, axis: Tidx -> output: T", "N: int, T: type, Tidx: type in index = int32",
    infer=lambda x: [_joined(x, range(x.count() - 1), int_input(x, x.count() - 1))],
    reference=lambda call, *arrays: _concat(call, arrays[-1], arrays[:-1]),
    lower=Assemble(
        lambda call: _concat_parts(call, call.count - 1, 0, call.count - 1),
        when=lambda call: knows(call.count - 1)(call),
    ),
    symbolic=True,
)  # fmt: skip

# --- Concat ---
define(
    "Concat", "concat_dim: int32, values: N*T -> output: T", "N: int, T: type",
    infer=lambda x: [_joined(x, range(1, x.count()), int_input(x, 0))],
    reference=lambda call, axis, *arrays: _concat(call, axis, arrays),
    lower=Assemble(lambda call: _concat_parts(call, 0, 1, call.count), when=knows(0)), symbolic=True,
)  # fmt: skip

# --- ConcatOffset ---


def _concat_offset(call: Call, axis_array: np.ndarray, *shapes: np.ndarray) -> tuple[np.ndarray, ...]:
    rank, axis = shapes[0].size, integer(axis_array)
    axis = axis_of(call, axis, rank, lambda: f"Concat dim is out of range: {axis} vs. {rank}")
    offset: Any = 0
    found = []
    for number, shape in enumerate(shapes):
        if shape.size != rank:
            call.fail(f"input {number} should contain {rank} elements, but got {shape.size}")
        for k in range(rank):
            if k != axis and isinstance(shape[k], (int, np.integer)) and shape[k] != shapes[0][k]:
                call.fail(
                    f"All dimensions except {axis} must match. Input {number} has shape {_spaced(shape)} and doesn't "
                    f"match input 0 with shape {_spaced(shapes[0])}."
                )
        place = np.zeros(rank, shape.dtype)
        place[axis] = offset
        found.append(place)
        offset = offset + shape[axis]
    return tuple(found)


def _spaced(shape: np.ndarray) -> str:
    return "[" + " ".join(map(str, shape.tolist())) + "]"


define(
    "ConcatOffset", "concat_dim: int32, shape: N*shape_type -> offset: N*shape_type",
    "N: int, shape_type: type in index = int32",
    infer=lambda x: [x.shape(i) for i in range(1, x.count())], reference=_concat_offset, symbolic=True,
)  # fmt: skip

# --- Pack ---


def _pack_shape(x: Inference) -> list[ShapeLike]:
    whole: ShapeLike = None
    for i in range(x.count()):
        shape = x.shape(i)
        whole = merge(x, whole, shape, _pack_mismatch(whole, shape, i))
    if whole is None:
        return [None]
    axis, rank = x.attrs["axis"], len(whole) + 1
    if not -rank <= axis < rank:
        x.fail(f"Invalid axis: axis = {axis} not in [{-rank}, {rank})")
    axis %= rank
    return [(*whole[:axis], x.count(), *whole[axis:])]


def _pack_mismatch(first: ShapeLike, other: ShapeLike, number: int) -> str:
    if first is None or other is None:
        return ""
    if len(first) != len(other):
        return f"Shapes must be equal rank, but are {len(first)} and {len(other)}"
    return (
        f"Dimensions in both shapes must be equal. Shapes of all inputs must match: values[0].shape = {brief(first)} "
        f"!= values[{number}].shape = {brief(other)}"
    )


def _pack(call: Call, *arrays: np.ndarray) -> np.ndarray:
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            call.fail(
                f"Shapes of all inputs must match: values[0].shape = {brief(arrays[0].shape)} != "
                f"values[{number}].shape = {brief(array.shape)}"
            )
    axis, rank = call.attrs["axis"], arrays[0].ndim + 1
    return np.stack(arrays, axis_of(call, axis, rank, lambda: f"axis = {axis} not in [{-rank}, {rank})"))


def _pack_parts(call: Any) -> list[tuple[int, tuple[int, ...]]]:
    rank = len(call.types[0].dims)
    axis = call.attrs["axis"] % rank
    return [(i, tuple(i if k == axis else 0 for k in range(rank))) for i in range(call.count)]


define(
    "Pack", "values: N*T -> output: T", "N: int, T: type, axis: int = 0",
    infer=_pack_shape, reference=_pack, lower=Assemble(_pack_parts), symbolic=True,
)  # fmt: skip

# --- ParallelConcat ---
define(
    "ParallelConcat", "values: N*T -> output: T", "N: int, T: type, shape: shape",
    infer=lambda x: [x.attrs["shape"]], reference=lambda call, *arrays: _concat(call, np.array(0), arrays),
    lower=Assemble(lambda call: [(i, (i, *(0,) * (len(call.types[0].dims) - 1))) for i in range(call.count)]),
)  # fmt: skip

# --- Unpack ---


def _unpack_shape(x: Inference) -> list[ShapeLike]:
    shape, count, axis = x.shape(0), x.attrs["num"], x.attrs["axis"]
    if shape is None:
        return [None] * count
    rank = len(shape)
    if not -rank <= axis < rank:
        x.fail(f"axis = {axis} not in [{-rank}, {rank})")
    axis %= rank
    x.equal(shape[axis], count, f"Input shape axis {axis} must equal {count}, got shape {brief(shape)}")
    return [(*shape[:axis], *shape[axis + 1 :])] * count


def _unpack(call: Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
    axis, count = call.attrs["axis"], call.attrs["num"]
    at = axis_of(call, axis, x.ndim, lambda: f"axis = {axis} not in [{-x.ndim}, {x.ndim})")
    if x.shape[at] != count:
        call.fail(f"Input shape axis {at} must equal {count}, got shape {brief(x.shape)}")
    return tuple(fresh(np.take(x, k, at)) for k in range(count))


def _emit_unpack(k: Any, call: Any, output: int, index: Any) -> Any:
    axis = call.attrs["axis"] % len(call.inputs[0].dims)
    return k.load(0, (*index[:axis], output, *index[axis:]))


define(
    "Unpack", "value: T -> output: num*T", "num: int, T: type, axis: int = 0",
    infer=_unpack_shape, reference=_unpack, lower=Indexed(_emit_unpack), symbolic=True,
)  # fmt: skip

# --- Tile ---


def _tile_shape(x: Inference) -> list[ShapeLike]:
    shape, multiples = x.shape(0), x.extents(1)
    if multiples is None:
        return [None if shape is None else (None,) * len(shape)]
    if shape is not None and len(shape) != len(multiples):
        x.fail(f"Expected multiples argument to be a vector of length {len(shape)} but got length {len(multiples)}")
    found: list[Extent | None] = []
    for k, times in enumerate(multiples):
        extent = None if shape is None else shape[k]
        x.check("ge", times, 0, f"Expected multiples[{k}] >= 0, but got {extent_text(times)}")
        found.append(0 if times == 0 else None if extent is None or times is None else extent * times)
    return [tuple(found)]


def _tile(call: Call, x: np.ndarray, multiples: np.ndarray) -> np.ndarray:
    times = integers(multiples)
    if len(times) != x.ndim:
        call.fail(f"Expected multiples argument to be a vector of length {x.ndim} but got length {len(times)}")
    for k, each in enumerate(times):
        if each < 0:
            call.fail(f"Expected multiples[{k}] >= 0, but got {each}")
    return fresh(np.tile(x, times))


def _emit_tile(k: Any, call: Any, output: int, index: Any) -> Any:
    times = call.known(1).ravel()
    shape = call.inputs[0].dims
    each = zip(index, shape, times, strict=True)
    return k.load(0, tuple(at if many == 1 else remainder(k, at, extent) for at, extent, many in each))


define(
    "Tile", "input: T, multiples: Tmultiples -> output: T", "T: type, Tmultiples: type in index = int32",
    infer=_tile_shape, reference=_tile, lower=Indexed(_emit_tile, when=follows(1)), symbolic=True,
)  # fmt: skip

# --- ReverseV2 ---


def _reversed_axes(x: Any, axes: Sequence[int], rank: int) -> list[int]:
    found = []
    for k, axis in enumerate(axes):
        if not -rank <= axis < rank:
            x.fail(f"'axis'[{k}] = {axis} is out of valid range [0, {rank - 1}")
        if axis % rank in found:
            x.fail(f"axis {axis % rank} specified more than once.")
        found.append(axis % rank)
    return found


def _reverse_shape(x: Inference) -> list[ShapeLike]:
    shape, axes = x.shape(0), ints_input(x, 1)
    if shape is not None and axes is not None:
        _reversed_axes(x, axes, len(shape))
    return [shape]


def _reverse(call: Call, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return fresh(np.flip(x, tuple(_reversed_axes(call, integers(axis), x.ndim))))


def _emit_reverse(k: Any, call: Any, output: int, index: Any) -> Any:
    shape = call.inputs[0].dims
    axes = _reversed_axes(call, known_ints(call, 1) or (), len(shape))
    return k.load(0, tuple(fixed(k, shape[d] - 1) - at if d in axes else at for d, at in enumerate(index)))


_REVERSIBLE = "number|bool|string"

define(
    "ReverseV2", "tensor: T, axis: Tidx -> output: T", f"Tidx: type in index = int32, T: type in {_REVERSIBLE}",
    infer=_reverse_shape, reference=_reverse, lower=Indexed(_emit_reverse, when=knows(1)), symbolic=True,
)  # fmt: skip

# --- Reverse ---


def _reverse_flags(call: Call, x: np.ndarray, flags: np.ndarray) -> np.ndarray:
    if flags.size != x.ndim:
        call.fail(f"'dims' must have the same number of values as 'tensor' has dimensions. 'tensor' has {x.ndim}")
    return fresh(np.flip(x, tuple(np.flatnonzero(flags).tolist())))


define(
    "Reverse", "tensor: T, dims: bool -> output: T", f"T: type in {_REVERSIBLE}",
    infer=unchanged, reference=_reverse_flags,
)  # fmt: skip

# --- Roll ---


def _roll(call: Call, x: np.ndarray, shift: np.ndarray, axis: np.ndarray) -> np.ndarray:
    if shift.shape != axis.shape:
        call.fail(f"shift and axis must have the same size, got {brief(shift.shape)} and {brief(axis.shape)}")
    for each in integers(axis):
        if not -x.ndim <= each < x.ndim:
            call.fail(f"axis {each} is out of range")
    return np.roll(x, integers(shift), integers(axis))


def _emit_roll(k: Any, call: Any, output: int, index: Any) -> Any:
    at, shape = list(index), call.inputs[0].dims
    shifts = dict.fromkeys(range(len(at)), 0)
    for shift, axis in zip(known_ints(call, 1) or (), known_ints(call, 2) or (), strict=True):
        shifts[axis % len(at)] += shift
    for axis, shift in shifts.items():
        if shift and shape[axis] != 0:
            back = -shift % shape[axis]
            at[axis] = remainder(k, at[axis] + back, shape[axis])
    return k.load(0, tuple(at))


def _in_range(call: Any) -> bool:
    rank, axes = len(call.inputs[0].dims), known_ints(call, 2)
    return knows(1, 2)(call) and axes is not None and all(-rank <= axis < rank for axis in axes)


define(
    "Roll", "input: T, shift: Tshift, axis: Taxis -> output: T",
    "T: type, Tshift: type in index, Taxis: type in index",
    infer=lambda x: [at_least(x, 0, 1)], reference=_roll, lower=Indexed(_emit_roll, when=_in_range),
)  # fmt: skip

# --- ReverseSequence ---


def _reverse_sequence_shape(x: Inference) -> list[ShapeLike]:
    shape, (length,) = x.shape(0), x.with_rank(1, 1)
    if shape is None:
        return [None]
    seq, batch = x.attrs["seq_dim"], x.attrs["batch_dim"]
    for name, axis in (("seq_dim", seq), ("batch_dim", batch)):
        if axis >= len(shape):
            x.fail(f"{name} must be < input rank, but got {axis} vs. {len(shape)}")
    extent = x.equal(
        length, shape[batch],
        f"Length of seq_lens != input.dims({batch}), ({length} vs. {shape[batch]})",
    )  # fmt: skip
    return [(*shape[:batch], extent, *shape[batch + 1 :])]


def _reverse_sequence(call: Call, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    seq, batch = call.attrs["seq_dim"], call.attrs["batch_dim"]
    if max(seq, batch) >= x.ndim:
        call.fail(f"seq_dim and batch_dim must be < input rank {x.ndim}, but got {seq} and {batch}")
    if seq == batch:
        call.fail(f"batch_dim == seq_dim == {seq}")
    if lengths.shape != (x.shape[batch],):
        call.fail(f"Length of seq_lens != input.dims({batch}), ({lengths.size} vs. {x.shape[batch]})")
    found = fresh(x)
    for k, length in enumerate(integers(lengths)):
        if length < 0:
            call.fail(f"seq_lens({k}) < 0")
        if length > x.shape[seq]:
            call.fail(f"seq_lens({k}) > input.dims({seq})")
        row: list[Any] = [slice(None)] * x.ndim
        row[batch], row[seq] = k, slice(0, length)
        rest = seq - (batch < seq)
        found[tuple(row)] = np.flip(x[tuple(row)], rest)
    return found


define(
    "ReverseSequence", "input: T, seq_lengths: Tlen -> output: T",
    "seq_dim: int, batch_dim: int = 0, T: type, Tlen: type in index = int64",
    infer=_reverse_sequence_shape, reference=_reverse_sequence,
)  # fmt: skip

# --- InvertPermutation ---


def _invert_permutation(call: Call, x: np.ndarray) -> np.ndarray:
    found = np.full(x.shape, -1, x.dtype)
    for k, place in enumerate(integers(x)):
        if not 0 <= place < x.size:
            call.fail(f"{place} is not between 0 and {x.size}")
        if found[place] != -1:
            call.fail(f"{place} is duplicated in the input.")
        found[place] = k
    return found


define(
    "InvertPermutation", "x: T -> y: T", "T: type in index = int32",
    infer=lambda x: [x.with_rank(0, 1)], reference=_invert_permutation, symbolic=True,
)  # fmt: skip
