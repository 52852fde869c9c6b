"""tf.image: parts of images, images in the middle of larger ones, in TF1's signatures."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import stack
from stepjit.ops.cast import cast
from stepjit.ops.image_shape import CHANNELS, HEIGHT, WIDTH, Conditions, as_image, extent, known
from stepjit.ops.layout import pad
from stepjit.ops.math import maximum, minimum
from stepjit.ops.random import random_crop as random_crop
from stepjit_runtime import dtypes


def _least(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else minimum(a, b)


def _most(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else maximum(a, b)


def _set_extents(x: Tensor, like: Tensor, height: Any, width: Any) -> Tensor:
    assert like.dims is not None
    sizes = [each if isinstance(each, int) else None for each in (height, width)]
    x.set_shape([*like.dims[:-3], *sizes, like.dims[CHANNELS]])
    return x


def crop_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor:
    """The box of an image, or of images; ValueError (or an error when it runs) when it is not inside."""
    with name_scope(None, "crop_to_bounding_box", [image]):
        x = as_image(image)
        top, left, rows, columns = map(known, (offset_height, offset_width, target_height, target_width))
        height, width = extent(x, HEIGHT), extent(x, WIDTH)
        conditions = Conditions()
        conditions.require(left >= 0, "offset_width must be >= 0.")
        conditions.require(top >= 0, "offset_height must be >= 0.")
        conditions.require(columns > 0, "target_width must be > 0.")
        conditions.require(rows > 0, "target_height must be > 0.")
        conditions.require(width >= columns + left, "width must be >= target + offset.")
        conditions.require(height >= rows + top, "height must be >= target + offset.")
        x = conditions.guard(x)
        lead = [0] * (len(x.dims or ()) - 3)
        found = apply_op(
            "Slice", input=x, begin=stack([*lead, top, left, 0]), size=stack([*(-1 for _ in lead), rows, columns, -1])
        )
        return _set_extents(found, x, rows, columns)


def pad_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Tensor:
    """An image, or images, with zeros around; ValueError (or an error when it runs) when the target is too small."""
    with name_scope(None, "pad_to_bounding_box", [image]):
        x = as_image(image)
        top, left, rows, columns = map(known, (offset_height, offset_width, target_height, target_width))
        below, right = rows - top - extent(x, HEIGHT), columns - left - extent(x, WIDTH)
        conditions = Conditions()
        conditions.require(top >= 0, "offset_height must be >= 0")
        conditions.require(left >= 0, "offset_width must be >= 0")
        conditions.require(right >= 0, "width must be <= target - offset")
        conditions.require(below >= 0, "height must be <= target - offset")
        x = conditions.guard(x)
        lead = [[0, 0]] * (len(x.dims or ()) - 3)
        sides = [*lead, [top, below], [left, right], [0, 0]]
        found = pad(x, stack([stack(each) for each in sides]))
        return _set_extents(found, x, rows, columns)


def resize_image_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor:
    """The middle of an image, or of images, or them in the middle of zeros; ValueError for targets up to 0."""
    with name_scope(None, "resize_image_with_crop_or_pad", [image]):
        x = as_image(image)
        conditions = Conditions()
        conditions.require(target_width > 0, "target_width must be > 0.")
        conditions.require(target_height > 0, "target_height must be > 0.")
        x = conditions.guard(x)
        height, width = extent(x, HEIGHT), extent(x, WIDTH)
        # Half of what is too much goes away on each side, half of what is missing is added.
        rows, columns = _least(height, target_height), _least(width, target_width)
        top, left = _most((height - target_height) // 2, 0), _most((width - target_width) // 2, 0)
        x = crop_to_bounding_box(x, top, left, rows, columns)
        above, before = _most((target_height - height) // 2, 0), _most((target_width - width) // 2, 0)
        found = pad_to_bounding_box(x, above, before, target_height, target_width)
        return _set_extents(found, x, target_height, target_width)


def central_crop(image: Any, central_fraction: Any) -> Tensor:
    """The middle of an image, or of images; ValueError unless the fraction is in (0, 1]."""
    with name_scope(None, "central_crop", [image]):
        fraction = known(central_fraction)
        x = as_image(image)
        conditions = Conditions()
        if isinstance(fraction, Tensor):
            both = apply_op("LogicalAnd", x=fraction > 0.0, y=fraction <= 1.0)
            conditions.require(both, "central_fraction must be within (0, 1]")
            x = conditions.guard(x)
        elif not 0.0 < fraction <= 1.0:
            raise ValueError("central_fraction must be within (0, 1]")
        elif fraction == 1.0:
            return x
        top, rows = _middle(extent(x, HEIGHT), fraction)
        left, columns = _middle(extent(x, WIDTH), fraction)
        lead = [0] * (len(x.dims or ()) - 3)
        found = apply_op(
            "Slice", input=x, begin=stack([*lead, top, left, 0]), size=stack([*(-1 for _ in lead), rows, columns, -1])
        )
        return _set_extents(found, x, rows, columns)


def _middle(size: Any, fraction: Any) -> tuple[Any, Any]:
    """(first, count) of the middle part of an axis."""
    if isinstance(size, int) and not isinstance(fraction, Tensor):
        first = int((size - size * fraction) / 2)
    else:
        whole = cast(size, dtypes.float64)
        first = cast((whole - whole * cast(fraction, dtypes.float64)) / 2, dtypes.int32)
    return first, size - first * 2
