"""Boxes on images: drawn, drawn at random, cut as glimpses. A box is (y1, x1, y2, x2), from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.philox import Source, unit_f32

# --- DrawBoundingBoxes, DrawBoundingBoxesV2 ---
_PALETTE = np.array([
    [1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 1, 0, 1], [0.5, 0, 0.5, 1], [0.5, 0.5, 0, 1], [0.5, 0, 0, 1],
    [0, 0, 0.5, 1], [0, 1, 1, 1], [1, 0, 1, 1],
], np.float32)  # fmt: skip
_DEPTHS = "Channel depth should be either 1 (GRY), 3 (RGB), or 4 (RGBA)"


def _drawn_shape(x: Inference) -> list[ShapeLike]:
    images, boxes = x.with_rank(0, 4), x.with_rank(1, 3)
    x.equal(boxes[2], 4, f"Dimension must be 4 but is {boxes[2]}: boxes must have 4 columns")
    if isinstance(images[3], int) and images[3] not in (1, 3, 4):
        x.fail(_DEPTHS)
    if x.count() > 2:
        x.with_rank(2, 2)
    return [images]


def _drawn(call: Call, images: np.ndarray, boxes: np.ndarray, colors: np.ndarray | None = None) -> np.ndarray:
    if images.ndim != 4:
        call.fail("The rank of the images should be 4")
    if boxes.ndim != 3 or boxes.shape[2] != 4:
        call.fail("The rank of the boxes tensor should be 3, with 4 columns")
    if images.shape[0] != boxes.shape[0]:
        call.fail("The batch sizes should be the same")
    if images.shape[3] not in (1, 3, 4):
        call.fail(_DEPTHS)
    table = _PALETTE
    if colors is not None and colors.size:
        table = colors.astype(np.float32)
        if table.shape[1] < images.shape[3]:
            call.fail("The number of color channels must be at least the number of channels of the images")
    if images.shape[3] == 1:
        table = np.ones((len(table), 1), np.float32)
    found = images.copy()
    for image, own in zip(found, boxes, strict=True):
        for k, box in enumerate(own):
            _outline(image, box, table[k % len(table), : images.shape[3]])
    return found


def _outline(image: np.ndarray, box: np.ndarray, colour: np.ndarray) -> None:
    """One line of pixels round a box; what lies outside the image is left out."""
    height, width = image.shape[:2]
    top, left, bottom, right = (int(edge * np.float32(n - 1)) for edge, n in zip(box, (height, width) * 2))
    if top > bottom or left > right or top >= height or bottom < 0 or left >= width or right < 0:
        return
    rows = slice(max(top, 0), min(bottom, height - 1) + 1)
    columns = slice(max(left, 0), min(right, width - 1) + 1)
    if top >= 0:
        image[top, columns] = colour
    if bottom < height:
        image[bottom, columns] = colour
    if left >= 0:
        image[rows, left] = colour
    if right < width:
        image[rows, right] = colour


_KIND = "T: type in float32|float16 = float32"
define("DrawBoundingBoxes", "images: T, boxes: float32 -> output: T", _KIND, infer=_drawn_shape, reference=_drawn)
define("DrawBoundingBoxesV2", "images: T, boxes: float32, colors: float32 -> output: T", _KIND,
       infer=_drawn_shape, reference=_drawn)  # fmt: skip


# --- SampleDistortedBoundingBox, SampleDistortedBoundingBoxV2: a random part of an image that shows enough of a box ---
class _Box(NamedTuple):
    """A rectangle of whole pixels, its ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    def area(self) -> float:
        return float((self.right - self.left) * (self.bottom - self.top))

    def shared(self, other: _Box) -> float:
        """The area that is in both."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return _Box(top, left, bottom, right).area() if top < bottom and left < right else 0.0


def _below(words: Iterator[int], limit: int) -> int:
    """A number from 0 up to `limit`, all equally likely."""
    if limit & (limit - 1) == 0:
        return next(words) & (limit - 1)
    unfair = 0xFFFFFFFF % limit + 1
    word = next(words)
    while word < unfair:
        word = next(words)
    return word % limit


def _rounded(value: float) -> int:
    return round(float(np.float32(value)))


def _crop(
    words: Iterator[int], height: int, width: int, areas: tuple[float, float], aspect: np.float32
) -> _Box | None:  # fmt: skip
    """A rectangle of the aspect whose part of the image's area is within limits, or None."""
    least, most = (np.float32(part) * np.float32(width) * np.float32(height) for part in areas)
    if areas[1] <= 0 or aspect <= 0 or width <= 0 or height <= 0 or areas[0] > areas[1]:
        return None
    rows, tallest = (_rounded(math.sqrt(np.float32(area / aspect))) for area in (least, most))
    if _rounded(tallest * aspect) > width:
        tallest = int((np.float32(width) + 0.5 - 1e-7) / aspect)
        tallest -= _rounded(tallest * aspect) > width
    tallest = min(tallest, height)
    rows = min(rows, tallest)
    if rows < tallest:
        rows += _below(words, tallest - rows + 1)
    columns = _rounded(rows * aspect)
    if rows * columns < least:
        rows += 1
        columns = _rounded(rows * aspect)
    if rows * columns > most:
        rows -= 1
        columns = _rounded(rows * aspect)
    if not least <= rows * columns <= most or not 0 < columns <= width or not 0 < rows <= height:
        return None
    top = _below(words, height - rows) if rows < height else 0
    left = _below(words, width - columns) if columns < width else 0
    return _Box(top, left, top + rows, left + columns)


def _shows_enough(crop: _Box, objects: list[_Box], least: float) -> bool:
    if crop.area() < 1:
        return False
    return any(np.float32(crop.shared(each) / each.area()) >= least for each in objects if each.area() >= 1)


def _objects(call: Call, size: np.ndarray, boxes: np.ndarray) -> list[_Box]:
    if size.shape != (3,):
        call.fail(f"image_size must contain 3 elements{show(size.shape)}")
    if boxes.ndim != 3 or boxes.shape[2] != 4:
        call.fail(f"input boxes must be 3-dimensional [batch, num_boxes, coords]: {show(boxes.shape)}")
    height, width = int(size[0]), int(size[1])
    if height <= 0 or width <= 0:
        call.fail(f"image height and width must be positive, got: {height}, {width}")
    if not boxes.size:
        if not call.attrs["use_image_if_no_bounding_boxes"]:
            call.fail("No bounding boxes provided as input. One must enable use_image_if_no_bounding_boxes if you wish "
                      "to not provide any bounding boxes.")  # fmt: skip
        return [_Box(0, 0, height, width)]
    if not ((boxes >= 0) & (boxes <= 1)).all():
        call.fail("All bounding box coordinates must be in [0.0, 1.0]")
    if (boxes[..., :2] >= boxes[..., 2:]).any():
        call.fail("x_min and y_min of bounding box coordinates must be less than x_max and y_max")
    scale = np.array([height, width, height, width], np.float32)
    return [_Box(*map(int, box)) for box in boxes.reshape(-1, 4) * scale]


def _sampled(
    call: Call, size: np.ndarray, boxes: np.ndarray, min_covered: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    attrs = call.attrs
    least = float(attrs["min_object_covered"] if min_covered is None else min_covered)
    low, high = (np.float32(each) for each in _pair(call, "aspect_ratio_range"))
    areas = _pair(call, "area_range")
    _check_sampling(call, least, (float(low), float(high)), areas)
    objects = _objects(call, size, boxes)
    height, width = int(size[0]), int(size[1])
    stream, attempts = attrs["_stream"], attrs["max_attempts"]
    source = Source(stream.key, stream.counter_hi, stream.take(attempts))
    words = _words(source)
    chosen = _Box(0, 0, height, width)
    for _ in range(attempts):
        aspect = unit_f32(np.array([next(words)], np.uint32))[0] * (high - low) + low
        crop = _crop(words, height, width, areas, aspect)
        if crop is not None and _shows_enough(crop, objects, least):
            chosen = crop
            break
    kind = call.dtypes[0].np
    begin = np.array([chosen.top, chosen.left, 0]).astype(kind)
    extents = np.array([chosen.bottom - chosen.top, chosen.right - chosen.left, -1]).astype(kind)
    edges = np.array(chosen, np.float32) / np.array([height, width, height, width], np.float32)
    return begin, extents, edges.reshape(1, 1, 4)


def _words(source: Source) -> Iterator[int]:
    count = 0
    while True:
        yield from source.blocks(np.arange(source.first + count, source.first + count + 16)).ravel().tolist()
        count += 16


def _pair(call: Call, name: str) -> tuple[float, float]:
    found = call.attrs[name]
    if len(found) != 2:
        call.fail(f"{name.replace('_', ' ').capitalize()} field must specify 2 dimensions")
    return found[0], found[1]


def _check_sampling(call: Call, least: float, aspects: tuple[float, float], areas: tuple[float, float]) -> None:
    if not all(each > 0 for each in aspects):
        call.fail("Aspect ratio range must be non-negative")
    if not all(0 < each <= 1 for each in areas):
        call.fail(f"Area range must be within [0, 1], got: [{areas[0]:g}, {areas[1]:g}]")
    if call.attrs["max_attempts"] <= 0:
        call.fail(f"Max attempts must be positive: {call.attrs['max_attempts']}")
    if least < 0:
        call.fail(f"Min object covered must be non-negative: {least:g}")


def _sampled_shapes(x: Inference) -> list[ShapeLike]:
    (length,) = x.with_rank(0, 1)
    x.equal(length, 3, f"Dimension must be 3 but is {length}: image_size must contain 3 elements")
    boxes = x.with_rank(1, 3)
    x.equal(boxes[2], 4, f"Dimension must be 4 but is {boxes[2]}: boxes must have 4 columns")
    return [(3,), (3,), (1, 1, 4)]


_SAMPLING = (
    "aspect_ratio_range: list(float) = [0.75, 1.33], area_range: list(float) = [0.05, 1.0], max_attempts: int = 100, "
    "use_image_if_no_bounding_boxes: bool = False"
)
_SIZES = "T: type in uint8|int8|int16|int32|int64"
define("SampleDistortedBoundingBox", "image_size: T, bounding_boxes: float32 -> begin: T, size: T, bboxes: float32",
       f"{_SIZES}, seed: int = 0, seed2: int = 0, min_object_covered: float = 0.1, {_SAMPLING}",
       infer=_sampled_shapes, reference=_sampled, stateful=True)  # fmt: skip
define("SampleDistortedBoundingBoxV2",
       "image_size: T, bounding_boxes: float32, min_object_covered: float32 -> begin: T, size: T, bboxes: float32",
       f"{_SIZES}, seed: int = 0, seed2: int = 0, {_SAMPLING}",
       infer=_sampled_shapes, reference=_sampled, stateful=True)  # fmt: skip
