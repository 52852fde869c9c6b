"""Padding: with zeros, with a value, with the mirror image."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Assemble, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text
from stepjit_compiler.ops.arguments import (
    brief,
    choose,
    compare,
    every,
    filled,
    follows,
    fresh,
    integers,
    known_ints,
    knows,
)

# --- Pad ---


def _widths(x: Inference) -> list[tuple[Extent | None, Extent | None]] | None:
    """(before, after) of each dimension; None when even their number is unknown."""
    shape, (count, _) = x.shape(0), x.with_rank(1, 2)
    flat = x.extents(1)
    if flat is None:
        rank = len(shape) if shape is not None else count
        return [(None, None)] * rank if isinstance(rank, int) else None
    if shape is not None and len(flat) != 2 * len(shape):
        x.fail(f"The first dimension of paddings must be the rank of inputs[{len(flat) // 2},2] {brief(shape)}")
    for before, after in zip(flat[::2], flat[1::2], strict=True):
        message = f"Paddings must be non-negative: {extent_text(before)} {extent_text(after)}"
        x.check("ge", before, 0, message)
        x.check("ge", after, 0, message)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _pad_shape(x: Inference) -> list[ShapeLike]:
    widths, shape = _widths(x), x.shape(0)
    if widths is None:
        return [None]
    shape = (None,) * len(widths) if shape is None else shape
    found: list[Extent | None] = []
    for extent, (before, after) in zip(shape, widths, strict=True):
        found.append(None if extent is None or before is None or after is None else extent + before + after)
    return [tuple(found)]


def _checked_widths(call: Call, x: np.ndarray, paddings: np.ndarray) -> list[tuple[int, int]]:
    if paddings.shape != (x.ndim, 2):
        call.fail(
            f"The first dimension of paddings must be the rank of inputs{brief(paddings.shape)} {brief(x.shape)}"
        )
    flat = integers(paddings)
    widths = list(zip(flat[::2], flat[1::2], strict=True))
    for before, after in widths:
        if before < 0 or after < 0:
            call.fail(f"Paddings must be non-negative: {before} {after}")
    return widths


def _pad(call: Call, x: np.ndarray, paddings: np.ndarray, value: np.ndarray | None = None) -> np.ndarray:
    widths = _checked_widths(call, x, paddings)
    shape = [extent + before + after for extent, (before, after) in zip(x.shape, widths, strict=True)]
    found = filled(shape, x.dtype, None if value is None else value[()])
    inside = tuple(slice(before, before + extent) for extent, (before, _) in zip(x.shape, widths, strict=True))
    found[inside] = x
    return found


def _before(call: Any) -> tuple[Extent, ...]:
    return tuple(call.known(1).ravel()[::2])


define(
    "Pad", "input: T, paddings: Tpaddings -> output: T", "T: type, Tpaddings: type in index = int32",
    infer=_pad_shape, reference=_pad,
    lower=Assemble(lambda call: [(0, _before(call))], lambda call: 0, when=follows(1)),
)  # fmt: skip

# --- PadV2 ---


def _emit_pad(k: Any, call: Any, output: int, index: Any) -> Any:
    shape, conditions, places = call.inputs[0].dims, [], []
    for axis, (at, before) in enumerate(zip(index, _before(call), strict=True)):
        if before == 0 and shape[axis] == call.types[0].dims[axis]:  # not padded
            places.append(at)
            continue
        conditions += [compare(k, "ge", at, before), compare(k, "lt", at, shape[axis] + before)]
        places.append(k.clamp(at - before, shape[axis]))
    return choose(k, every(k, conditions), k.load(0, tuple(places)), k.load(2, ()))


def _may_be_read(call: Any) -> bool:
    """A padded axis without elements has no place to clamp to."""
    widths = known_ints(call, 1)
    if widths is None:
        return False
    padded = [extent for extent, *each in zip(call.inputs[0].dims, widths[::2], widths[1::2], strict=True) if any(each)]
    return all(isinstance(extent, int) and extent > 0 for extent in padded)


define(
    "PadV2", "input: T, paddings: Tpaddings, constant_values: T -> output: T",
    "T: type, Tpaddings: type in index = int32",
    infer=_pad_shape, reference=_pad, lower=Indexed(_emit_pad, when=_may_be_read),
)  # fmt: skip

# --- MirrorPad ---


def _mirror_limit(attrs: Any, extent: Any, before: Any, after: Any) -> tuple[int, str]:
    """By how much the extent must exceed a width, and what to say if it doesn't."""
    size = extent_text(extent)
    if attrs["mode"] == b"REFLECT":
        return 1, f"paddings must be less than the dimension size: {before}, {after} not less than {size}"
    return 0, f"paddings must be no greater than the dimension size: {before}, {after} greater than {size}"


def _mirror_pad_shape(x: Inference) -> list[ShapeLike]:
    widths, shape = _widths(x), x.shape(0)
    if widths is not None and shape is not None:
        for extent, (before, after) in zip(shape, widths, strict=True):
            more, message = _mirror_limit(x.attrs, extent, before, after)
            for width in (before, after):
                x.check("ge", extent, None if width is None else width + more, message)
    return _pad_shape(x)


def _check_mirror(call: Call, extents: Any, widths: list[tuple[int, int]]) -> None:
    for extent, (before, after) in zip(extents, widths, strict=True):
        more, message = _mirror_limit(call.attrs, extent, before, after)
        if max(before, after) + more > extent:
            call.fail(message)


def _mirror_pad(call: Call, x: np.ndarray, paddings: np.ndarray) -> np.ndarray:
    widths = _checked_widths(call, x, paddings)
    _check_mirror(call, x.shape, widths)
    for axis, (before, after) in enumerate(widths):
        x = np.take(x, _mirror(call, x.shape[axis], before, after), axis)
    return fresh(x)


def _mirror(call: Call, extent: int, before: int, after: int) -> np.ndarray:
    """For each place of a padded axis: which element of the axis it shows."""
    sharp = call.attrs["mode"] == b"REFLECT"
    at = np.arange(-before, extent + after)
    at = np.where(at < 0, -at if sharp else -1 - at, at)
    return np.where(at >= extent, 2 * extent - (2 if sharp else 1) - at, at)


def _emit_mirror_pad(k: Any, call: Any, output: int, index: Any) -> Any:
    low, high = (0, -2) if call.attrs["mode"] == b"REFLECT" else (-1, -1)
    places = []
    for axis, (at, before) in enumerate(zip(index, _before(call), strict=True)):
        extent = call.inputs[0].dims[axis]
        if extent != call.types[0].dims[axis]:
            place = at - before
            folded = k.index(k.b.maximum(*k.same_lanes(k.value(place), k.value(low - place))))
            mirrored = k.value(-folded + (extent * 2 + high))
            at = k.index(k.b.minimum(*k.same_lanes(k.value(folded), mirrored)))
        places.append(at)
    return k.load(0, tuple(places))


_MIRROR_ATTRS = "T: type, Tpaddings: type in index = int32, mode: string in REFLECT|SYMMETRIC"

define(
    "MirrorPad", "input: T, paddings: Tpaddings -> output: T", _MIRROR_ATTRS,
    infer=_mirror_pad_shape, reference=_mirror_pad, lower=Indexed(_emit_mirror_pad, when=knows(1)),
)  # fmt: skip

# --- MirrorPadGrad ---


def _mirror_pad_grad_shape(x: Inference) -> list[ShapeLike]:
    widths, shape = _widths(x), x.shape(0)
    if widths is None or shape is None:
        return [None if widths is None else (None,) * len(widths)]
    found: list[Extent | None] = []
    for extent, (before, after) in zip(shape, widths, strict=True):
        found.append(None if extent is None or before is None or after is None else extent - before - after)
    return [tuple(found)]


def _mirror_pad_grad(call: Call, x: np.ndarray, paddings: np.ndarray) -> np.ndarray:
    widths = _checked_widths(call, x, paddings)
    extents = [extent - before - after for extent, (before, after) in zip(x.shape, widths, strict=True)]
    _check_mirror(call, extents, widths)
    for axis, (before, after) in enumerate(widths):
        shown = _mirror(call, extents[axis], before, after)
        moved = np.moveaxis(x, axis, 0)
        total = np.zeros((extents[axis], *moved.shape[1:]), x.dtype)
        np.add.at(total, shown, moved)
        x = np.moveaxis(total, 0, axis)
    return fresh(x)


define(
    "MirrorPadGrad", "input: T, paddings: Tpaddings -> output: T", _MIRROR_ATTRS,
    infer=_mirror_pad_grad_shape, reference=_mirror_pad_grad,
)  # fmt: skip
