"""Images resized: to the nearest pixel, or between four of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show

_RESIZE = "align_corners: bool = False, half_pixel_centers: bool = False"


# --- Where a pixel of the result lies in the image ---


def resized_shape(x: Inference) -> list[ShapeLike]:
    """Images of input 0 with the size that input 1 tells."""
    shape = x.with_rank(0, 4)
    length = x.with_rank(1, 1)[0]
    if isinstance(length, int) and length != 2:
        x.fail(f"Dimension must be 2 but is {length} for '{x.op}': size must have two elements")
    sizes = x.extents(1) or (None, None)
    return [(shape[0], *sizes, shape[3])]


def checked_size(call: Call, images: np.ndarray, size: np.ndarray) -> tuple[int, int]:
    """(height, width) of the result; fails for images and sizes that can't be."""
    if images.ndim != 4:
        call.fail(f"input must be 4-dimensional{show(images.shape)}")
    if size.shape != (2,):
        call.fail(f"shape_t must have two elements{show(size.shape)}")
    rows, columns = (int(each) for each in size)
    if rows <= 0 or columns <= 0:
        call.fail("output dimensions must be positive")
    if not images.shape[1] or not images.shape[2]:
        call.fail("input image must be of non-zero size")
    if call.attrs.get("half_pixel_centers") and call.attrs["align_corners"]:
        call.fail("If half_pixel_centers is True, align_corners must be False.")
    return rows, columns


def axis_scale(call: Call, extent: int, count: int) -> np.float32:
    """How many pixels of the image one pixel of the result stands for, along an axis."""
    if call.attrs["align_corners"] and count > 1:
        return np.float32((extent - 1) / np.float32(count - 1))
    return np.float32(extent / np.float32(count))


def _between(call: Call, extent: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(neighbour below, neighbour above, how far towards the one above) for every pixel of an axis of the result."""
    at = np.arange(count, dtype=np.float32)
    scale = axis_scale(call, extent, count)
    where = (at + np.float32(0.5)) * scale - np.float32(0.5) if call.attrs["half_pixel_centers"] else at * scale
    floor = np.floor(where)
    low = np.clip(floor.astype(np.int64), 0, extent - 1)
    high = np.minimum(np.ceil(where).astype(np.int64), extent - 1)
    return low, np.maximum(high, 0), where - floor


def _nearest(call: Call, extent: int, count: int) -> np.ndarray:
    at = np.arange(count, dtype=np.float32)
    scale = axis_scale(call, extent, count)
    if call.attrs["half_pixel_centers"]:
        found = np.floor((at + np.float32(0.5)) * scale)
    elif call.attrs["align_corners"]:
        found = np.floor(at * scale + np.float32(0.5))
    else:
        found = np.floor(at * scale)
    return np.clip(found.astype(np.int64), 0, extent - 1)


def _add_at(found: np.ndarray, ys: np.ndarray, xs: np.ndarray, grads: np.ndarray) -> None:
    """Add each pixel of `grads` to the pixel of `found` at its row and column."""
    where: Any = (slice(None), ys[:, None], xs[None, :])
    np.add.at(found, where, grads)


# --- ResizeBilinear, ResizeBilinearGrad ---
def _bilinear(call: Call, images: np.ndarray, size: np.ndarray) -> np.ndarray:
    rows, columns = checked_size(call, images, size)
    top, bottom, down = _between(call, images.shape[1], rows)
    left, right, across = _between(call, images.shape[2], columns)
    x = images.astype(np.float32)
    down, across = down[:, None, None], across[:, None]
    with np.errstate(all="ignore"):
        upper, lower = x[:, top], x[:, bottom]
        upper = upper[:, :, left] + (upper[:, :, right] - upper[:, :, left]) * across
        lower = lower[:, :, left] + (lower[:, :, right] - lower[:, :, left]) * across
        return np.asarray(upper + (lower - upper) * down)


define("ResizeBilinear", "images: T, size: int32 -> resized_images: float32",
       f"T: type in real, {_RESIZE}", infer=resized_shape, reference=_bilinear)  # fmt: skip


def _bilinear_grad(call: Call, grads: np.ndarray, image: np.ndarray) -> np.ndarray:
    rows, columns = checked_size(call, image, np.array(grads.shape[1:3]))
    top, bottom, down = _between(call, image.shape[1], rows)
    left, right, across = _between(call, image.shape[2], columns)
    found = np.zeros(image.shape, np.float32)
    down, across = down[:, None, None], across[:, None]
    for ys, share in ((top, 1 - down), (bottom, down)):
        for xs, part in ((left, 1 - across), (right, across)):
            _add_at(found, ys, xs, grads * share * part)
    return found.astype(call.dtypes[0].np)


define("ResizeBilinearGrad", "grads: float32, original_image: T -> output: T", f"T: type in float, {_RESIZE}",
       infer=lambda x: [x.with_rank(1, 4)], reference=_bilinear_grad)  # fmt: skip


# --- ResizeNearestNeighbor, ResizeNearestNeighborGrad ---
def _neighbour(call: Call, images: np.ndarray, size: np.ndarray) -> np.ndarray:
    rows, columns = checked_size(call, images, size)
    ys, xs = _nearest(call, images.shape[1], rows), _nearest(call, images.shape[2], columns)
    return images[:, ys[:, None], xs[None, :]]


define("ResizeNearestNeighbor", "images: T, size: int32 -> resized_images: T", f"T: type in real, {_RESIZE}",
       infer=resized_shape, reference=_neighbour)  # fmt: skip


def _neighbour_grad(call: Call, grads: np.ndarray, size: np.ndarray) -> np.ndarray:
    rows, columns = (int(each) for each in size)
    ys, xs = _nearest(call, rows, grads.shape[1]), _nearest(call, columns, grads.shape[2])
    found = np.zeros((grads.shape[0], rows, columns, grads.shape[3]), grads.dtype)
    _add_at(found, ys, xs, grads)
    return found


define("ResizeNearestNeighborGrad", "grads: T, size: int32 -> output: T", f"T: type in real, {_RESIZE}",
       infer=resized_shape, reference=_neighbour_grad)  # fmt: skip
