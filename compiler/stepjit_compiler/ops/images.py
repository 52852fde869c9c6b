"""Images scaled, cropped and chosen from: resizing, boxes, colours."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show

_RESIZE = "align_corners: bool = False, half_pixel_centers: bool = False"


# --- Where a pixel of the result lies in the image ---


def _resized_shape(x: Inference) -> list[ShapeLike]:
    shape = x.with_rank(0, 4)
    length = x.with_rank(1, 1)[0]
    if isinstance(length, int) and length != 2:
        x.fail(f"Dimension must be 2 but is {length} for '{x.op}': size must have two elements")
    sizes = x.extents(1) or (None, None)
    return [(shape[0], *sizes, shape[3])]


def _checked_size(call: Call, images: np.ndarray, size: np.ndarray) -> tuple[int, int]:
    if images.ndim != 4:
        call.fail(f"input must be 4-dimensional{show(images.shape)}")
    if size.shape != (2,):
        call.fail(f"shape_t must have two elements{show(size.shape)}")
    rows, columns = (int(each) for each in size)
    if rows <= 0 or columns <= 0:
        call.fail("output dimensions must be positive")
    if not images.shape[1] or not images.shape[2]:
        call.fail("input image must be of non-zero size")
    if call.attrs["half_pixel_centers"] and call.attrs["align_corners"]:
        call.fail("If half_pixel_centers is True, align_corners must be False.")
    return rows, columns


def _scale(call: Call, extent: int, count: int) -> np.float32:
    if call.attrs["align_corners"] and count > 1:
        return np.float32((extent - 1) / np.float32(count - 1))
    return np.float32(extent / np.float32(count))


def _between(call: Call, extent: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(neighbour below, neighbour above, how far towards the one above) for every pixel of an axis of the result."""
    at = np.arange(count, dtype=np.float32)
    scale = _scale(call, extent, count)
    where = (at + np.float32(0.5)) * scale - np.float32(0.5) if call.attrs["half_pixel_centers"] else at * scale
    floor = np.floor(where)
    low = np.clip(floor.astype(np.int64), 0, extent - 1)
    high = np.minimum(np.ceil(where).astype(np.int64), extent - 1)
    return low, np.maximum(high, 0), where - floor


def _nearest(call: Call, extent: int, count: int) -> np.ndarray:
    at = np.arange(count, dtype=np.float32)
    scale = _scale(call, extent, count)
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
    rows, columns = _checked_size(call, images, size)
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
       f"T: type in real, {_RESIZE}", infer=_resized_shape, reference=_bilinear)  # fmt: skip


def _bilinear_grad(call: Call, grads: np.ndarray, image: np.ndarray) -> np.ndarray:
    rows, columns = _checked_size(call, image, np.array(grads.shape[1:3]))
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
    rows, columns = _checked_size(call, images, size)
    ys, xs = _nearest(call, images.shape[1], rows), _nearest(call, images.shape[2], columns)
    return images[:, ys[:, None], xs[None, :]]


define("ResizeNearestNeighbor", "images: T, size: int32 -> resized_images: T", f"T: type in real, {_RESIZE}",
       infer=_resized_shape, reference=_neighbour)  # fmt: skip


def _neighbour_grad(call: Call, grads: np.ndarray, size: np.ndarray) -> np.ndarray:
    rows, columns = (int(each) for each in size)
    ys, xs = _nearest(call, rows, grads.shape[1]), _nearest(call, columns, grads.shape[2])
    found = np.zeros((grads.shape[0], rows, columns, grads.shape[3]), grads.dtype)
    _add_at(found, ys, xs, grads)
    return found


define("ResizeNearestNeighborGrad", "grads: T, size: int32 -> output: T", f"T: type in real, {_RESIZE}",
       infer=_resized_shape, reference=_neighbour_grad)  # fmt: skip


# --- CropAndResize: boxes (y1, x1, y2, x2), where 1 is the last pixel's place ---
def _crops_shape(x: Inference) -> list[ShapeLike]:
    image, boxes, owners = x.with_rank(0, 4), x.with_rank(1, 2), x.with_rank(2, 1)
    count = x.equal(boxes[0], owners[0], "box_index has incompatible shape: Dimensions must be equal")
    if isinstance(boxes[1], int) and boxes[1] != 4:
        x.fail(f"Dimension must be 4 but is {boxes[1]}: boxes must have 4 columns")
    sizes = x.extents(3) or (None, None)
    return [(count, *sizes, image[3])]


def _places(low: np.float32, high: np.float32, extent: int, count: int) -> np.ndarray:
    """Where the pixels of a crop lie along an axis of the image."""
    last = np.float32(extent - 1)
    if count == 1:
        return np.array([np.float32(0.5) * (low + high) * last], np.float32)
    return low * last + np.arange(count, dtype=np.float32) * ((high - low) * last / np.float32(count - 1))


def _crops(
    call: Call, image: np.ndarray, boxes: np.ndarray, owners: np.ndarray, size: np.ndarray
) -> np.ndarray:  # fmt: skip
    if image.ndim != 4:
        call.fail("input image must be 4-D")
    if boxes.shape != (len(owners), 4) or size.shape != (2,):
        call.fail("boxes must be 2-D with 4 columns, box_index 1-D, crop_size of two elements")
    rows, columns = (int(each) for each in size)
    if rows <= 0 or columns <= 0:
        call.fail("crop dimensions must be positive")
    if ((owners < 0) | (owners >= image.shape[0])).any():
        call.fail("box_index has values outside [0, batch_size)")
    found = np.full((len(owners), rows, columns, image.shape[3]), call.attrs["extrapolation_value"], np.float32)
    for k, (owner, (y1, x1, y2, x2)) in enumerate(zip(owners, boxes, strict=True)):
        ys, xs = _places(y1, y2, image.shape[1], rows), _places(x1, x2, image.shape[2], columns)
        good_y, good_x = ((p >= 0) & (p <= n - 1) for p, n in ((ys, image.shape[1]), (xs, image.shape[2])))
        cut = np.ix_(good_y, good_x)
        found[k][cut] = _sampled(call, image[owner].astype(np.float32), ys[good_y], xs[good_x])
    return found


def _sampled(call: Call, image: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    if call.attrs["method"] == b"nearest":
        y, x = (np.floor(each + np.float32(0.5)).astype(np.int64) for each in (ys, xs))
        return np.asarray(image[y[:, None], x[None, :]])
    top, bottom, left, right = (f(p).astype(np.int64) for p in (ys, xs) for f in (np.floor, np.ceil))
    down, across = (ys - top).astype(np.float32)[:, None, None], (xs - left).astype(np.float32)[:, None]
    upper, lower = image[top], image[bottom]
    upper = upper[:, left] + (upper[:, right] - upper[:, left]) * across
    lower = lower[:, left] + (lower[:, right] - lower[:, left]) * across
    return np.asarray(upper + (lower - upper) * down)


define("CropAndResize", "image: T, boxes: float32, box_ind: int32, crop_size: int32 -> crops: float32",
       "T: type in real, method: string in bilinear|nearest = bilinear, extrapolation_value: float = 0.0",
       infer=_crops_shape, reference=_crops)  # fmt: skip


# --- NonMaxSuppression, NonMaxSuppressionV2, NonMaxSuppressionV3 ---
def _chosen_shape(x: Inference) -> list[ShapeLike]:
    boxes, scores = x.with_rank(0, 2), x.with_rank(1, 1)
    x.equal(boxes[0], scores[0], "scores has incompatible shape: Dimensions must be equal")
    return [(None,)]


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with others, whichever corners they are told by."""
    low, high = np.minimum(others[:, :2], others[:, 2:]), np.maximum(others[:, :2], others[:, 2:])
    first, last = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    shared = np.maximum(np.minimum(high, last) - np.maximum(low, first), 0).prod(1)
    areas, own = (high - low).prod(1), (last - first).prod()
    with np.errstate(all="ignore"):
        return np.where((areas > 0) & (own > 0), shared / (areas + own - shared), 0)


def _chosen(
    call: Call, boxes: np.ndarray, scores: np.ndarray, most: np.ndarray, overlap: np.ndarray | None = None,
    least: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    limit = float(call.attrs["iou_threshold"] if overlap is None else overlap)
    if not 0 <= limit <= 1:
        call.fail("iou_threshold must be in [0, 1]")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        call.fail(f"boxes must be 2-D with 4 columns{show(boxes.shape)}")
    if scores.shape != boxes.shape[:1]:
        call.fail("scores has incompatible shape")
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    if least is not None:
        order = order[scores[order] > least]
    kept: list[int] = []
    for k in order:
        if len(kept) >= int(most):
            break
        if not kept or not (_overlaps(boxes[k].astype(np.float32), boxes[kept].astype(np.float32)) > limit).any():
            kept.append(int(k))
    return np.array(kept, np.int32)


_BOXES = "boxes: {0}, scores: {0}, max_output_size: int32"
_TYPES = "T: type in float16|float32 = float32, T_threshold: type in float16|float32 = float32"
define("NonMaxSuppression", f"{_BOXES.format('float32')} -> selected_indices: int32", "iou_threshold: float = 0.5",
       infer=_chosen_shape, reference=_chosen)  # fmt: skip
define("NonMaxSuppressionV2", f"{_BOXES.format('T')}, iou_threshold: T_threshold -> selected_indices: int32", _TYPES,
       infer=_chosen_shape, reference=_chosen)  # fmt: skip
define("NonMaxSuppressionV3",
       f"{_BOXES.format('T')}, iou_threshold: T_threshold, score_threshold: T_threshold -> selected_indices: int32",
       _TYPES, infer=_chosen_shape, reference=_chosen)  # fmt: skip


# --- RGBToHSV, HSVToRGB ---
def _colours(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    if shape is not None and not shape:
        x.fail("input must be at least 1D: Shape must be at least rank 1 but is rank 0")
    if shape is not None and isinstance(shape[-1], int) and shape[-1] != 3:
        x.fail(f"input must have 3 channels: Dimension must be 3 but is {shape[-1]}")
    return [shape]


def _to_hsv(call: Call, images: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(images.astype(np.promote_types(images.dtype, np.float32)), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    with np.errstate(all="ignore"):
        saturation = np.where(value > 0, spread / value, 0)
        norm = 1 / (6 * spread)
        hue = np.where(red == value, norm * (green - blue), np.where(
            green == value, norm * (blue - red) + 2 / 6, norm * (red - green) + 4 / 6))  # fmt: skip
        hue = np.where(spread > 0, hue, 0)
        hue = hue + (hue < 0)
    return np.stack([hue, saturation, value], -1).astype(images.dtype)


def _to_rgb(call: Call, images: np.ndarray) -> np.ndarray:
    hue, saturation, value = np.moveaxis(images.astype(np.promote_types(images.dtype, np.float32)), -1, 0)
    turns = hue * 6
    parts = (np.abs(turns - 3) - 1, 2 - np.abs(turns - 2), 2 - np.abs(turns - 4))
    channels = [((1 - saturation) + saturation * np.clip(part, 0, 1)) * value for part in parts]
    return np.stack(channels, -1).astype(images.dtype)


define("RGBToHSV", "images: T -> output: T", "T: type in float = float32", infer=_colours, reference=_to_hsv)
define("HSVToRGB", "images: T -> output: T", "T: type in float = float32", infer=_colours, reference=_to_rgb)
