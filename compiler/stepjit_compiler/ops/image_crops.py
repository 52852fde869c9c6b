"""Parts of images: boxes cut out and resized, with gradients, and glimpses. A box is (y1, x1, y2, x2), from 0 to 1."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_runtime.errors import OUT_OF_RANGE


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
        call.fail("box_index has values outside [0, batch_size)", OUT_OF_RANGE)
    found = np.full((len(owners), rows, columns, image.shape[3]), call.attrs["extrapolation_value"], np.float32)
    for k, (owner, (y1, x1, y2, x2)) in enumerate(zip(owners, boxes, strict=True)):
        ys, xs = _places(y1, y2, image.shape[1], rows), _places(x1, x2, image.shape[2], columns)
        good_y, good_x = ((p >= 0) & (p <= n - 1) for p, n in ((ys, image.shape[1]), (xs, image.shape[2])))
        cut = np.ix_(good_y, good_x)
        found[k][cut] = _sampled(call, image[owner], ys[good_y], xs[good_x])
    return found


def _sampled(call: Call, image: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    if call.attrs["method"] == b"nearest":
        y, x = (np.floor(each + np.float32(0.5)).astype(np.int64) for each in (ys, xs))
        return image[y[:, None], x[None, :]].astype(np.float32)
    top, bottom, left, right = (f(p).astype(np.int64) for p in (ys, xs) for f in (np.floor, np.ceil))
    down, across = (ys - top).astype(np.float32)[:, None, None], (xs - left).astype(np.float32)[:, None]
    # Only the pixels that count are converted: a crop is mostly much smaller than its image.
    corners = (image[y[:, None], x[None, :]].astype(np.float32) for y in (top, bottom) for x in (left, right))
    upper_left, upper_right, lower_left, lower_right = corners
    upper = upper_left + (upper_right - upper_left) * across
    lower = lower_left + (lower_right - lower_left) * across
    return np.asarray(upper + (lower - upper) * down)


define("CropAndResize", "image: T, boxes: float32, box_ind: int32, crop_size: int32 -> crops: float32",
       "T: type in real, method: string in bilinear|nearest = bilinear, extrapolation_value: float = 0.0",
       infer=_crops_shape, reference=_crops)  # fmt: skip


# --- CropAndResizeGradImage, CropAndResizeGradBoxes ---
def _corners(places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pixel below, pixel above, how far towards the one above) for places along an axis."""
    low = np.floor(places)
    return low.astype(np.int64), np.ceil(places).astype(np.int64), (places - low).astype(np.float32)


def _inside(places: np.ndarray, extent: int) -> np.ndarray:
    return np.flatnonzero((places >= 0) & (places <= extent - 1))


def _image_grad(
    call: Call, grads: np.ndarray, boxes: np.ndarray, owners: np.ndarray, size: np.ndarray
) -> np.ndarray:  # fmt: skip
    if size.shape != (4,):
        call.fail("image_size must have 4 elements")
    found = np.zeros(tuple(int(each) for each in size), np.float32)
    for grad, owner, (y1, x1, y2, x2) in zip(grads, owners, boxes, strict=True):
        ys, xs = _places(y1, y2, found.shape[1], grads.shape[1]), _places(x1, x2, found.shape[2], grads.shape[2])
        rows, columns = _inside(ys, found.shape[1]), _inside(xs, found.shape[2])
        part = grad[np.ix_(rows, columns)]
        if call.attrs["method"] == b"nearest":
            y, x = (np.floor(each + np.float32(0.5)).astype(np.int64) for each in (ys[rows], xs[columns]))
            np.add.at(found[owner], (y[:, None], x[None, :]), part)
            continue
        (top, bottom, down), (left, right, across) = _corners(ys[rows]), _corners(xs[columns])
        for y, share in ((top, 1 - down), (bottom, down)):
            for x, piece in ((left, 1 - across), (right, across)):
                np.add.at(found[owner], (y[:, None], x[None, :]), part * share[:, None, None] * piece[:, None])
    return found.astype(call.dtypes[0].np)


def _grad_image_shape(x: Inference) -> list[ShapeLike]:
    return [x.extents(3) or (None,) * 4]


define("CropAndResizeGradImage",
       "grads: float32, boxes: float32, box_ind: int32, image_size: int32 -> output: T",
       "T: type in float16|float32|float64, method: string in bilinear|nearest = bilinear",
       infer=_grad_image_shape, reference=_image_grad)  # fmt: skip


def _boxes_grad(
    call: Call, grads: np.ndarray, image: np.ndarray, boxes: np.ndarray, owners: np.ndarray
) -> np.ndarray:  # fmt: skip
    found = np.zeros(boxes.shape, np.float32)
    for k, (grad, owner, (y1, x1, y2, x2)) in enumerate(zip(grads, owners, boxes, strict=True)):
        ys, xs = _places(y1, y2, image.shape[1], grads.shape[1]), _places(x1, x2, image.shape[2], grads.shape[2])
        rows, columns = _inside(ys, image.shape[1]), _inside(xs, image.shape[2])
        (top, bottom, down), (left, right, across) = _corners(ys[rows]), _corners(xs[columns])
        own = image[owner].astype(np.float32)
        a, b, c, d = (own[y[:, None], x[None, :]] for y in (top, bottom) for x in (left, right))
        part, down, across = grad[np.ix_(rows, columns)], down[:, None, None], across[:, None]
        by_y = ((1 - across) * (c - a) + across * (d - b)) * part
        by_x = ((1 - down) * (b - a) + down * (d - c)) * part
        for axis, (slopes, at) in enumerate(((by_y.sum((1, 2)), rows), (by_x.sum((0, 2)), columns))):
            count, last = grads.shape[1 + axis], image.shape[1 + axis] - 1
            share = at / (count - 1) if count > 1 else np.full(len(at), 0.5)
            found[k, axis] = (slopes * (1 - share) * last).sum()
            found[k, axis + 2] = (slopes * share * last).sum()
    return found


define("CropAndResizeGradBoxes", "grads: float32, image: T, boxes: float32, box_ind: int32 -> output: float32",
       "T: type in real, method: string in bilinear = bilinear",
       infer=lambda x: [x.with_rank(2, 2)], reference=_boxes_grad)  # fmt: skip
