"""Slices by begin and size, strided slices, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.lowering import Assemble, Composite, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text
from stepjit_compiler.ops.arguments import (
    brief,
    filled,
    follows,
    fresh,
    integers,
    safe_shape,
    shape_input,
)  # fmt: skip
from stepjit_compiler.ops.strided import Pick, Selection, out_of_bounds, select

# --- Slice ---


def _slice_shape(x: Inference) -> list[ShapeLike]:
    shape, begin, size = x.shape(0), x.extents(1), x.extents(2)
    if size is None:
        rank = len(shape) if shape is not None else None if begin is None else len(begin)
        return [None if rank is None else (None,) * rank]
    begin = (None,) * len(size) if begin is None else begin
    shape = (None,) * len(size) if shape is None else shape
    if not len(shape) == len(begin) == len(size):
        x.fail(
            f"Expected begin and size arguments to be 1-D tensors of size {len(shape)}, "
            f"but got shapes [{len(begin)}] and [{len(size)}] instead."
        )
    return [tuple(_slice_extent(x, k, *each) for k, each in enumerate(zip(shape, begin, size, strict=True)))]


def _slice_extent(
    x: Inference, k: int, extent: Extent | None, begin: Extent | None, size: Extent | None
) -> Extent | None:
    if isinstance(begin, int) and begin < 0:
        x.fail(f"Expected begin[{k}] in [0, {extent}], but got {begin}")
    if isinstance(size, int) and size < -1:
        x.fail(f"Expected size[{k}] in [0, {extent}], but got {size}")
    if extent is not None and begin is not None:
        message = f"Expected begin[{k}] in [0, {extent_text(extent)}], but got {extent_text(begin)}"
        x.check("ge", begin, 0, message)
        x.check("ge", extent, begin, message)
    if size == -1:
        return None if extent is None or begin is None else extent - begin
    if isinstance(size, Dim):
        x.check("ge", size, 0, f"Expected size[{k}] in [0, {extent_text(extent)}], but got {extent_text(size)}")
    if extent is not None and begin is not None and size is not None:
        left = extent - begin
        x.check("ge", left, size, f"Expected size[{k}] in [0, {extent_text(left)}], but got {extent_text(size)}")
    return size


def _slice(call: Call, x: np.ndarray, begin: np.ndarray, size: np.ndarray) -> np.ndarray:
    if begin.shape != (x.ndim,) or size.shape != (x.ndim,):
        call.fail(
            f"Expected begin and size arguments to be 1-D tensors of size {x.ndim}, "
            f"but got shapes {brief(begin.shape)} and {brief(size.shape)} instead."
        )
    cut = []
    for k, (start, count) in enumerate(zip(integers(begin), integers(size), strict=True)):
        extent = x.shape[k]
        if not 0 <= start <= extent:
            call.fail(f"Expected begin[{k}] in [0, {extent}], but got {start}")
        count = extent - start if count == -1 else count
        if not 0 <= count <= extent - start:
            call.fail(f"Expected size[{k}] in [0, {extent - start}], but got {count}")
        cut.append(slice(start, start + count))
    return fresh(x[tuple(cut)])


def _emit_slice(k: Any, call: Any, output: int, index: Any) -> Any:
    return k.load(0, tuple(at + start for at, start in zip(index, call.known(1).ravel(), strict=True)))


define(
    "Slice", "input: T, begin: Index, size: Index -> output: T", "T: type, Index: type in index",
    infer=_slice_shape, reference=_slice, lower=Indexed(_emit_slice, when=follows(1, 2)), symbolic=True,
)  # fmt: skip

# --- StridedSlice ---

MASKS = ", ".join(f"{name}_mask: int = 0" for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis"))


def _item_count(x: Inference, first: int) -> int | None:
    """How many items the slice has, from any of begin, end and strides."""
    for i in range(first, first + 3):
        extents, shape = x.extents(i), x.shape(i)
        if extents is not None:
            return len(extents)
        if shape and isinstance(shape[0], int):
            return shape[0]
    return None


def selection(x: Inference, shape: ShapeLike, first: int) -> Selection | None:
    """The slice that inputs `first`, +1, +2 make of a tensor of that shape; None when the ranks aren't known."""
    count = _item_count(x, first)
    if shape is None or count is None:
        return None
    bounds = [x.extents(i) or (None,) * count for i in range(first, first + 3)]
    if any(len(each) != count for each in bounds):
        lengths = [f"[{len(each)}]" for each in bounds]
        x.fail(
            f"Expected begin, end, and strides to be 1D equal size tensors, but got shapes {lengths[0]}, "
            f"{lengths[1]}, and {lengths[2]} instead."
        )
    found = select(shape, bounds, x.attrs, x.fail)
    for axis, pick in enumerate(found.picks):
        if pick.within is not None:
            x.check("ge", *pick.within, out_of_bounds(pick.start, axis))
    return found


def _strided_slice_shape(x: Inference) -> list[ShapeLike]:
    found = selection(x, x.shape(0), 1)
    return [None if found is None else found.shape]


def checked_bounds(call: Call, *bounds: np.ndarray) -> list[list[int]]:
    begin, end, strides = bounds
    if not (begin.ndim == end.ndim == strides.ndim == 1 and begin.size == end.size == strides.size):
        call.fail(
            f"Expected begin, end, and strides to be 1D equal size tensors, but got shapes {brief(begin.shape)}, "
            f"{brief(end.shape)}, and {brief(strides.shape)} instead."
        )
    return [integers(each) for each in bounds]


def numpy_index(found: Selection) -> tuple[Any, ...]:
    """The basic numpy index for the picks, dimension by dimension, dropped ones as a single number."""
    index: list[Any] = []
    for pick in found.picks:
        assert isinstance(pick.start, int)
        assert isinstance(pick.stride, int)
        assert isinstance(pick.extent, int)
        if pick.single:
            index.append(pick.start)
        elif pick.extent == 0:
            index.append(slice(0, 0))
        else:
            stop = pick.start + pick.stride * pick.extent
            index.append(slice(pick.start, stop if stop >= 0 else None, pick.stride))
    return tuple(index)


def _strided_slice(
    call: Call, x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> np.ndarray:
    found = select(x.shape, checked_bounds(call, begin, end, strides), call.attrs, call.fail)
    shape = found.shape
    assert None not in shape
    return fresh(np.asarray(x[numpy_index(found)])).reshape(shape)  # type: ignore[arg-type]


def known_selection(call: Any, shape: tuple[Extent, ...], first: int) -> Selection | None:
    """In a lowering: the slice that known inputs `first`, +1, +2 make; None unless every start is settled."""
    bounds = [call.known(i) for i in range(first, first + 3)]
    if any(each is None for each in bounds):
        return None
    found = select(shape, [list(each.ravel()) for each in bounds], call.attrs, call.fail)
    settled = all(p.start is not None and p.stride is not None and p.extent is not None for p in found.picks)
    return found if settled else None


def _emit_strided_slice(k: Any, call: Any, output: int, index: Any) -> Any:
    found = known_selection(call, call.inputs[0].dims, 1)
    assert found is not None
    walked = dict(zip(found.layout, index, strict=True))
    at = []
    for axis, pick in enumerate(found.picks):
        at.append(pick.start if pick.single else walked[axis] * pick.stride + pick.start)
    return k.load(0, tuple(at))


define(
    "StridedSlice", "input: T, begin: Index, end: Index, strides: Index -> output: T",
    f"T: type, Index: type in int16|int32|int64, {MASKS}",
    infer=_strided_slice_shape, reference=_strided_slice, symbolic=True,
    lower=Indexed(_emit_strided_slice, when=lambda call: known_selection(call, call.inputs[0].dims, 1) is not None),
)  # fmt: skip

# --- StridedSliceGrad ---


def _strided_slice_grad_shape(x: Inference) -> list[ShapeLike]:
    shape = shape_input(x, 0)
    found = selection(x, shape, 1)
    dy = x.shape(4)
    if found is not None and dy is not None:
        message = "shape of dy was " + brief(dy) + " instead of " + brief(found.shape)
        if len(dy) != len(found.shape):
            x.fail(message)
        for mine, wanted in zip(dy, found.shape, strict=True):
            x.equal(mine, wanted, message)
    return [shape]


def _strided_slice_grad(
    call: Call, shape: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray, dy: np.ndarray
) -> np.ndarray:
    extents = safe_shape(call, integers(shape))
    found = select(extents, checked_bounds(call, begin, end, strides), call.attrs, call.fail)
    if dy.shape != found.shape:
        call.fail(f"shape of dy was {brief(dy.shape)} instead of {brief(found.shape)}")
    return _placed(extents, found, dy)


def _placed(extents: tuple[int, ...], found: Selection, dy: np.ndarray) -> np.ndarray:
    result = filled(extents, dy.dtype)
    index = numpy_index(found)
    result[index] = dy.reshape(np.shape(result[index]))
    return result


def _expand_grad(x: Any, call: Any, shape: Any, begin: Any, end: Any, strides: Any, dy: Any) -> Any:
    """A block without gaps is copied into its place; with gaps, each element finds out whether it is in the slice."""
    found = known_selection(call, call.types[0].dims, 1)
    assert found is not None
    masks = {name: call.attrs[name] for name in call.attrs if name.endswith("_mask")}
    if not _is_block(found):
        zeros = x.op("Fill", shape, x.const(0, call.dtypes[0]))
        return x.op("TensorStridedSliceUpdate", zeros, begin, end, strides, dy, **masks)
    block = x.op("Reshape", dy, x.dims([1 if pick.single else pick.extent for pick in found.picks]))
    return x.op("_PlaceBlock", shape, begin, end, strides, block, **masks)


def _is_block(found: Selection) -> bool:
    return all(pick.stride == 1 for pick in found.picks)


def _grad_is_native(call: Any) -> bool:
    found = None if call.known(0) is None else known_selection(call, call.types[0].dims, 1)
    return found is not None and (_is_block(found) or has_elements(found, call.types[0].dims))


def has_elements(found: Selection, shape: tuple[Extent, ...]) -> bool:
    """Whether the slice surely has an element to read for positions outside of it."""
    parts = [pick for pick, extent in zip(found.picks, shape, strict=True) if not is_whole(pick, extent)]
    return all(isinstance(pick.extent, int) and pick.extent > 0 for pick in parts)


def is_whole(pick: Pick, extent: Extent) -> bool:
    """Whether all of a dimension is picked in its order."""
    return not pick.single and (pick.start, pick.stride, pick.extent) == (0, 1, extent)


_GRAD = "shape: Index, begin: Index, end: Index, strides: Index, dy: T -> output: T"

define(
    "StridedSliceGrad", _GRAD, f"T: type, Index: type in index, {MASKS}",
    infer=_strided_slice_grad_shape, reference=_strided_slice_grad,
    lower=Composite(_expand_grad, when=_grad_is_native),
)  # fmt: skip

# --- _PlaceBlock: StridedSliceGrad for steps of 1, with dy of the result's rank ---


def _place_block(
    call: Call, shape: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray, dy: np.ndarray
) -> np.ndarray:
    extents = safe_shape(call, integers(shape))
    return _placed(extents, select(extents, checked_bounds(call, begin, end, strides), call.attrs, call.fail), dy)


def _block_parts(call: Any) -> list[tuple[int, tuple[Extent, ...]]]:
    found = known_selection(call, call.types[0].dims, 1)
    assert found is not None
    return [(4, tuple(pick.start for pick in found.picks))]  # type: ignore[misc]


define(
    "_PlaceBlock", _GRAD, f"T: type, Index: type in index, {MASKS}",
    infer=lambda x: [shape_input(x, 0)], reference=_place_block, lower=Assemble(_block_parts, lambda call: 0),
)  # fmt: skip
