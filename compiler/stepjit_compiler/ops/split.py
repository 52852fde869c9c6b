"""Cutting a tensor into pieces along one axis: equal ones, or of given sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text
from stepjit_compiler.ops.arguments import axis_of, fresh, int_input, integer, integers, known_ints, knows

# --- Split ---


def _split_axis(x: Any, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        x.fail(f"-input rank({-rank}) <= split_dim < input rank ({rank}), but got {axis}")
    return axis % rank


def _uneven(axis: int, extent: Any, count: int) -> str:
    return (
        "Number of ways to split should evenly divide the split dimension, but got "
        f"split_dim {axis} (size = {extent_text(extent)}) and num_split {count}"
    )


def _split_shape(x: Inference) -> list[ShapeLike]:
    axis, shape, count = int_input(x, 0), x.shape(1), x.attrs["num_split"]
    if shape is None or axis is None:
        return [None if shape is None else (None,) * len(shape)] * count
    axis = _split_axis(x, axis, len(shape))
    extent = shape[axis]
    x.check("divides", extent, count, _uneven(axis, extent, count))
    piece = None if extent is None else extent // count
    return [(*shape[:axis], piece, *shape[axis + 1 :])] * count


def _split(call: Call, split_dim: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
    axis, count = _split_axis(call, integer(split_dim), x.ndim), call.attrs["num_split"]
    if x.shape[axis] % count:
        call.fail(_uneven(axis, x.shape[axis], count))
    return tuple(map(fresh, np.split(x, count, axis)))


def _emit_split(k: Any, call: Any, output: int, index: Any) -> Any:
    shape = call.inputs[1].dims
    axis = (known_ints(call, 0) or [0])[0] % len(shape)
    start = shape[axis] // call.attrs["num_split"] * output
    return k.load(1, tuple(at + start if d == axis else at for d, at in enumerate(index)))


define(
    "Split", "split_dim: int32, value: T -> output: num_split*T", "num_split: int, T: type",
    infer=_split_shape, reference=_split, lower=Indexed(_emit_split, when=knows(0)), symbolic=True,
)  # fmt: skip

# --- SplitV ---


def _total_mismatch(total: Any) -> str:
    return (
        "Determined shape must either match input shape along split_dim exactly if fully specified, or be less than "
        f"the size of the input along split_dim if not fully specified.  Got: {extent_text(total)}"
    )


def _split_v_shape(x: Inference) -> list[ShapeLike]:
    axis, shape, sizes, count = int_input(x, 2), x.shape(0), x.extents(1), x.attrs["num_split"]
    if shape is None or axis is None:
        return [None if shape is None else (None,) * len(shape)] * count
    axis = _split_axis(x, axis, len(shape))
    pieces = (None,) * count if sizes is None else _piece_sizes(x, shape[axis], sizes, count)
    return [(*shape[:axis], piece, *shape[axis + 1 :]) for piece in pieces]


def _piece_sizes(
    x: Inference, extent: Extent | None, sizes: tuple[Extent | None, ...], count: int
) -> list[Extent | None]:
    if len(sizes) != count:
        x.fail(f"Length of split_sizes must equal num_split {count}, but is {len(sizes)}")
    holes = [k for k, size in enumerate(sizes) if size == -1]
    if len(holes) > 1:
        x.fail("There can only be one -1 in the input.")
    total: Extent | None = 0
    for size in sizes:
        if isinstance(size, int) and size < -1:
            x.fail(f"Split size at index {sizes.index(size)} must be >= 0. Got: {size}")
        if size != -1:
            total = None if total is None or size is None else total + size
    found = list(sizes)
    if not holes:
        x.equal(extent, total, _total_mismatch(total))
    else:
        x.check("ge", extent, total, _total_mismatch(total))
        found[holes[0]] = None if extent is None or total is None else extent - total
    return found


def _split_v(call: Call, x: np.ndarray, size_splits: np.ndarray, split_dim: np.ndarray) -> tuple[np.ndarray, ...]:
    rank, axis = x.ndim, integer(split_dim)
    axis = axis_of(call, axis, rank, lambda: f"-input rank(-{rank}) <= split_dim < input rank ({rank}), but got {axis}")
    sizes, extent = integers(size_splits), x.shape[axis]
    if len(sizes) != call.attrs["num_split"]:
        call.fail(f"Length of split_sizes must equal num_split {call.attrs['num_split']}, but is {len(sizes)}")
    if sizes.count(-1) > 1:
        call.fail("There can only be one -1 in the input.")
    for k, size in enumerate(sizes):
        if size < -1:
            call.fail(f"Split size at index {k} must be >= 0. Got: {size}")
    total = sum(size for size in sizes if size != -1)
    if total > extent or (total != extent and -1 not in sizes):
        call.fail(_total_mismatch(total))
    sizes = [extent - total if size == -1 else size for size in sizes]
    return tuple(map(fresh, np.split(x, np.cumsum(sizes[:-1], dtype=np.int64), axis)))


def _emit_split_v(k: Any, call: Any, output: int, index: Any) -> Any:
    axis = (known_ints(call, 2) or [0])[0] % len(call.inputs[0].dims)
    start: Extent = 0
    for piece in call.types[:output]:
        start = start + piece.dims[axis]
    return k.load(0, tuple(at + start if d == axis else at for d, at in enumerate(index)))


define(
    "SplitV", "value: T, size_splits: Tlen, split_dim: int32 -> output: num_split*T",
    "num_split: int, T: type, Tlen: type in int8|int32|int64 = int64",
    infer=_split_v_shape, reference=_split_v, symbolic=True,
    lower=Indexed(_emit_split_v, when=lambda call: knows(2)(call) and call.known(1) is not None),
)  # fmt: skip
