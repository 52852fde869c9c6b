"""Images resized by weighted sums along each axis: bicubic and by area."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from stepjit_compiler.opdef import Call, define
from stepjit_compiler.ops.images import axis_scale, checked_size, resized_shape

_STEPS = 1024
"""TF looks the cubic's weights up at distances rounded to this part of a pixel."""


def _along_axes(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Each axis of images [batch, height, width, channels] times a matrix of weights [to, from]."""
    tall = np.matmul(rows, images.reshape(images.shape[0], images.shape[1], -1))
    tall = tall.reshape(images.shape[0], len(rows), *images.shape[2:])
    return np.matmul(columns, tall)


# --- ResizeBicubic, ResizeBicubicGrad ---
@lru_cache(maxsize=2)
def _cubic(sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """The cubic convolution's weights at distances from 0 to 1, and from 1 to 2."""
    x = np.arange(_STEPS + 1) / _STEPS
    near = ((sharpness + 2) * x - (sharpness + 3)) * x * x + 1
    x = x + 1
    far = ((sharpness * x - 5 * sharpness) * x + 8 * sharpness) * x - 4 * sharpness
    return near.astype(np.float32), far.astype(np.float32)


def _cubic_weights(call: Call, extent: int, count: int) -> np.ndarray:
    """How much every pixel of an axis of the image counts for each pixel of the result: [count, extent]."""
    centred = call.attrs["half_pixel_centers"]
    near, far = _cubic(-0.5 if centred else -0.75)
    at = np.arange(count, dtype=np.float32)
    scale = axis_scale(call, extent, count)
    where = (at + np.float32(0.5)) * scale - np.float32(0.5) if centred else at * scale
    first = np.floor(where)
    step = np.rint((where - first) * _STEPS).astype(np.int64)
    places = first.astype(np.int64)[:, None] + np.arange(-1, 3)
    weights = np.stack([far[step], near[step], near[_STEPS - step], far[_STEPS - step]], 1)
    inside = np.clip(places, 0, extent - 1)
    if centred:
        # Pixels outside don't count; otherwise the border's pixels stand for them.
        weights = np.where(inside == places, weights, 0)
        weights = weights / weights.sum(1, keepdims=True)
    found = np.zeros((count, extent), np.float32)
    np.add.at(found, (np.arange(count)[:, None], inside), weights)
    return found


def _bicubic(call: Call, images: np.ndarray, size: np.ndarray) -> np.ndarray:
    height, width = checked_size(call, images, size)
    rows, columns = _cubic_weights(call, images.shape[1], height), _cubic_weights(call, images.shape[2], width)
    with np.errstate(all="ignore"):
        return _along_axes(images.astype(np.float32), rows, columns)


define("ResizeBicubic", "images: T, size: int32 -> resized_images: float32",
       "T: type in real, align_corners: bool = False, half_pixel_centers: bool = False",
       infer=resized_shape, reference=_bicubic)  # fmt: skip


def _bicubic_grad(call: Call, grads: np.ndarray, image: np.ndarray) -> np.ndarray:
    height, width = checked_size(call, image, np.array(grads.shape[1:3]))
    rows, columns = _cubic_weights(call, image.shape[1], height), _cubic_weights(call, image.shape[2], width)
    with np.errstate(all="ignore"):
        return _along_axes(grads, rows.T, columns.T).astype(call.dtypes[0].np)


define("ResizeBicubicGrad", "grads: float32, original_image: T -> output: T",
       "T: type in float32|float64, align_corners: bool = False, half_pixel_centers: bool = False",
       infer=lambda x: [x.with_rank(1, 4)], reference=_bicubic_grad)  # fmt: skip


# --- ResizeArea: the mean of what a pixel of the result covers ---
def _area_weights(call: Call, extent: int, count: int) -> np.ndarray:
    """The part of each pixel of an axis of the image that every pixel of the result covers: [count, extent]."""
    scale = axis_scale(call, extent, count)
    found = np.zeros((count, extent), np.float32)
    for k in range(count):
        low, high = np.float32(k) * scale, np.float32(k + 1) * scale
        for place in range(int(np.floor(low)), int(np.ceil(high))):
            found[k, min(max(place, 0), extent - 1)] += min(place + 1, high) - max(place, low)
    return found / scale


def _area(call: Call, images: np.ndarray, size: np.ndarray) -> np.ndarray:
    height, width = checked_size(call, images, size)
    rows, columns = _area_weights(call, images.shape[1], height), _area_weights(call, images.shape[2], width)
    with np.errstate(all="ignore"):
        return _along_axes(images.astype(np.float32), rows, columns)


define("ResizeArea", "images: T, size: int32 -> resized_images: float32",
       "T: type in real, align_corners: bool = False", infer=resized_shape, reference=_area)  # fmt: skip
