"""Patches of images, places in sorted rows, and places counted along many axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief, choose, compare, every, integers, remainder

# --- ExtractImagePatches ---


def _window(x: Any, axis: int, extent: Extent) -> tuple[Extent, Extent]:
    """How many windows fit along an axis, and how far the first one stands before it."""
    size, stride, rate = (x.attrs[name][axis] for name in ("ksizes", "strides", "rates"))
    wide = (size - 1) * rate + 1
    if x.attrs["padding"] == b"VALID":
        if isinstance(extent, int) and extent - wide + stride < 0:
            x.fail(
                f"Computed output size would be negative: {(extent - wide + stride) // stride} "
                f"[input_size: {extent}, effective_filter_size: {wide}, stride: {stride}]"
            )
        return (extent - wide + stride) // stride, 0
    count = (extent + (stride - 1)) // stride
    return count, dims.maximum((count - 1) * stride + wide - extent, 0) // 2


def _patches_shape(x: Inference) -> list[ShapeLike]:
    n, h, w, c = x.with_rank(0, 4)
    rows, columns = (None if e is None else _window(x, axis, e)[0] for axis, e in ((1, h), (2, w)))
    if x.attrs["padding"] == b"VALID":
        x.check("ge", rows, 0, "Computed output size would be negative")
        x.check("ge", columns, 0, "Computed output size would be negative")
    size = x.attrs["ksizes"][1] * x.attrs["ksizes"][2]
    return [(n, rows, columns, None if c is None else c * size)]


def _patches(call: Call, x: np.ndarray) -> np.ndarray:
    if x.ndim != 4:
        call.fail(f"input must be 4-dimensional{brief(x.shape)}")
    places = []
    for axis in (1, 2):
        size, stride, rate = (call.attrs[name][axis] for name in ("ksizes", "strides", "rates"))
        count, before = _window(call, axis, x.shape[axis])
        first = np.arange(count) * stride - before  # type: ignore[arg-type, operator]
        places.append(first[:, None] + np.arange(size) * rate)
    row, column = places[0][:, None, :, None], places[1][None, :, None, :]
    inside = (row >= 0) & (row < x.shape[1]) & (column >= 0) & (column < x.shape[2])
    if not x.size:
        found = np.zeros((x.shape[0], *inside.shape, x.shape[3]), x.dtype)
    else:
        found = x[:, np.clip(row, 0, x.shape[1] - 1), np.clip(column, 0, x.shape[2] - 1)]
    found = np.where(inside[..., None], found, np.zeros((), x.dtype))
    return found.reshape(*found.shape[:3], -1) if found.size else np.zeros(_patch_extents(call, x), x.dtype)


def _patch_extents(call: Call, x: np.ndarray) -> tuple[Any, ...]:
    rows, columns = (_window(call, axis, x.shape[axis])[0] for axis in (1, 2))
    return x.shape[0], rows, columns, x.shape[3] * call.attrs["ksizes"][1] * call.attrs["ksizes"][2]


def _emit_patches(k: Any, call: Any, output: int, index: Any) -> Any:
    shape = call.inputs[0].dims
    depth, width = shape[3], call.attrs["ksizes"][2]
    channel = remainder(k, index[3], depth)
    cell = _quotient(k, index[3], depth)
    inner = (_quotient(k, cell, width), remainder(k, cell, width))
    conditions, places = [], []
    for axis, at in zip((1, 2), inner, strict=True):
        stride, rate = call.attrs["strides"][axis], call.attrs["rates"][axis]
        _, before = _window(call, axis, shape[axis])
        place = index[axis] * stride + at * rate - before
        if call.attrs["padding"] != b"VALID":
            conditions += [compare(k, "ge", place, 0), compare(k, "lt", place, shape[axis])]
            place = k.clamp(place, shape[axis])
        places.append(place)
    return choose(k, every(k, conditions), k.load(0, (index[0], *places, channel)), k.const(0, call.dtypes[0]))


def _quotient(k: Any, index: Any, by: Any) -> Any:
    return index if by == 1 else k.index(k.b.div(*k.same_lanes(k.value(index), k.extent(by))))


def _image_known(call: Any) -> bool:
    """Margins are numbers, and there is a pixel to read where a window reaches past the edge."""
    return all(isinstance(extent, int) and extent > 0 for extent in call.inputs[0].dims[1:])


define(
    "ExtractImagePatches", "images: T -> patches: T",
    "ksizes: list(int), strides: list(int), rates: list(int), T: type in number|bool, padding: string in SAME|VALID",
    infer=_patches_shape, reference=_patches, lower=Indexed(_emit_patches, when=_image_known),
)  # fmt: skip

# --- LowerBound, UpperBound ---


def _bound_shape(x: Inference) -> list[ShapeLike]:
    rows, values = x.with_rank(0, 2), x.with_rank(1, 2)
    x.equal(rows[0], values[0], "Leading dim_size of both tensors must match.")
    return [values]


def _bound(side: Any) -> Any:
    def reference(call: Call, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        if rows.ndim != 2 or values.ndim != 2:
            call.fail("sorted input and values arguments must be matrices")
        if rows.shape[0] != values.shape[0]:
            call.fail("Leading dim_size of both tensors must match.")
        found = [np.searchsorted(row, each, side) for row, each in zip(rows, values, strict=True)]
        return np.array(found, call.dtypes[0].np).reshape(values.shape)

    return reference


for _name, _side in (("LowerBound", "left"), ("UpperBound", "right")):
    define(
        _name, "sorted_inputs: T, values: T -> output: out_type", "T: type, out_type: type in index = int32",
        infer=_bound_shape, reference=_bound(_side),
    )  # fmt: skip

# --- UnravelIndex ---


def _unravel_shape(x: Inference) -> list[ShapeLike]:
    indices, (rank,) = x.shape(0), x.with_rank(1, 1)
    return [None if indices is None else (rank, *indices)]


def _unravel(call: Call, indices: np.ndarray, extents: np.ndarray) -> np.ndarray:
    shape = integers(extents)
    if indices.ndim > 1:
        call.fail(f'The indices can only be scalar or vector, got "{brief(indices.shape)}"')
    if any(extent == 0 for extent in shape):
        call.fail("Input dims cannot contain a dim of zero, but dims contains zero")
    size = int(np.prod(shape, dtype=object)) if shape else 1
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= size):
        call.fail("index is out of bound as with dims")
    return np.array(np.unravel_index(indices, tuple(shape)), call.dtypes[0].np).reshape(len(shape), *indices.shape)


define(
    "UnravelIndex", "indices: Tidx, dims: Tidx -> output: Tidx", "Tidx: type in index = int32",
    infer=_unravel_shape, reference=_unravel,
)  # fmt: skip
