"""tf.image: images resized, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import expand_dims, squeeze, stack
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.cast import cast
from stepjit.ops.elementwise import round as rounded
from stepjit.ops.image_crop import pad_to_bounding_box
from stepjit.ops.image_shape import HEIGHT, WIDTH, Conditions, as_image, extent
from stepjit.ops.math import maximum, minimum
from stepjit_runtime import dtypes

Grads = Sequence[Any]


class ResizeMethod:
    """How `resize_images` computes a pixel."""

    BILINEAR = 0
    NEAREST_NEIGHBOR = 1
    BICUBIC = 2
    AREA = 3


def resize_bilinear(
    images: Any, size: Any, align_corners: bool = False, name: str | None = None, half_pixel_centers: bool = False
) -> Tensor:
    """Images [batch, height, width, channels] with `size` (height, width), between four pixels each, as float32."""
    return apply_op(
        "ResizeBilinear", images=images, size=size, align_corners=align_corners,
        half_pixel_centers=half_pixel_centers, name=name,
    )  # fmt: skip


def resize_nearest_neighbor(
    images: Any, size: Any, align_corners: bool = False, name: str | None = None, half_pixel_centers: bool = False
) -> Tensor:
    """Images [batch, height, width, channels] with `size` (height, width), each pixel from one."""
    return apply_op(
        "ResizeNearestNeighbor", images=images, size=size, align_corners=align_corners,
        half_pixel_centers=half_pixel_centers, name=name,
    )  # fmt: skip


def resize_bicubic(
    images: Any, size: Any, align_corners: bool = False, name: str | None = None, half_pixel_centers: bool = False
) -> Tensor:
    """Images [batch, height, width, channels] with `size` (height, width), between 16 pixels each, as float32."""
    return apply_op(
        "ResizeBicubic", images=images, size=size, align_corners=align_corners,
        half_pixel_centers=half_pixel_centers, name=name,
    )  # fmt: skip


def resize_area(images: Any, size: Any, align_corners: bool = False, name: str | None = None) -> Tensor:
    """Images [batch, height, width, channels] with `size` (height, width), each pixel the mean of what it covers."""
    return apply_op("ResizeArea", images=images, size=size, align_corners=align_corners, name=name)


def _options(op: Operation) -> dict[str, Any]:
    return {key: op.attrs[key] for key in ("align_corners", "half_pixel_centers")}


@RegisterGradient("ResizeBilinear")
def _bilinear_grad(op: Operation, grad: Tensor) -> Grads:
    if not op.inputs[0].dtype.is_floating:
        return [None, None]
    return [apply_op("ResizeBilinearGrad", grads=grad, original_image=op.inputs[0], **_options(op)), None]


@RegisterGradient("ResizeNearestNeighbor")
def _neighbour_grad(op: Operation, grad: Tensor) -> Grads:
    size = apply_op("StridedSlice", input=static_shape(op.inputs[0]), begin=[1], end=[3], strides=[1])
    return [apply_op("ResizeNearestNeighborGrad", grads=grad, size=size, **_options(op)), None]


@RegisterGradient("ResizeBicubic")
def _bicubic_grad(op: Operation, grad: Tensor) -> Grads:
    if op.inputs[0].dtype.base_dtype not in (dtypes.float32, dtypes.float64):
        return [None, None]
    return [apply_op("ResizeBicubicGrad", grads=grad, original_image=op.inputs[0], **_options(op)), None]


for _kind in ("ResizeArea", "ResizeBilinearGrad"):
    NotDifferentiable(_kind)

_METHODS = {
    ResizeMethod.BILINEAR: resize_bilinear, ResizeMethod.NEAREST_NEIGHBOR: resize_nearest_neighbor,
    ResizeMethod.BICUBIC: resize_bicubic, ResizeMethod.AREA: resize_area,
}  # fmt: skip
_NAMES = {"bilinear": 0, "nearest": 1, "bicubic": 2, "area": 3}


def resize_images(
    images: Any, size: Any, method: Any = ResizeMethod.BILINEAR, align_corners: bool = False,
    preserve_aspect_ratio: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """An image or a batch with `size` (height, width) by one of `ResizeMethod`, as it is if it has that size.

    preserve_aspect_ratio: `size` is the most that height and width may become. ValueError for another method, other
    ranks, and sizes that aren't two integers.
    """
    with name_scope(name, "resize", [images, size]):
        x = convert_to_tensor(images, name="images")
        if x.dims is None:
            raise ValueError("'images' contains no shape.")
        if len(x.dims) not in (3, 4):
            raise ValueError("'images' must have either 3 or 4 dimensions.")
        batch = expand_dims(x, 0) if len(x.dims) == 3 else x
        wanted = _size(size)
        if preserve_aspect_ratio:
            wanted = _within(batch, wanted)
        target = constant_value(wanted)
        same = target is not None and tuple(target.tolist()) == tuple(batch.dims[1:3])  # type: ignore[index]
        chosen = _METHODS.get(_NAMES.get(method, -1) if isinstance(method, str) else method)
        if chosen is None:
            raise ValueError(f"Resize method is not implemented: {method}")
        if same:
            return x
        found = chosen(batch, wanted, align_corners=align_corners)
        if target is not None:
            found.set_shape([None, *target.tolist(), None])
        return squeeze(found, [0]) if len(x.dims) == 3 else found


def _size(size: Any) -> Tensor:
    try:
        found = convert_to_tensor(size, dtypes.int32, name="size")
    except (TypeError, ValueError) as error:
        raise ValueError("'size' must be a 1-D int32 Tensor") from error
    if found.dims is not None and len(found.dims) != 1:
        raise ValueError("'size' must be a 1-D int32 Tensor")
    if found.dims is not None and found.dims[0] not in (2, None):
        raise ValueError("'size' must be a 1-D Tensor of 2 elements: new_height, new_width")
    return found


def _within(batch: Tensor, size: Tensor) -> Tensor:
    """The largest size with the aspect ratio of the images and at most `size`."""
    target, (rows, columns) = constant_value(size), (batch.dims or ())[1:3]
    if target is not None and rows is not None and columns is not None:
        least = min(np.float32(target[0]) / np.float32(rows), np.float32(target[1]) / np.float32(columns))
        return constant([round(float(rows * least)), round(float(columns * least))], dtypes.int32)
    limits = cast(size, dtypes.float32)
    height, width = (cast(extent(batch, axis), dtypes.float32) for axis in (HEIGHT, WIDTH))
    scale = minimum(limits[0] / height, limits[1] / width)
    return cast(stack([rounded(height * scale), rounded(width * scale)]), dtypes.int32)


def resize_image_with_pad(
    image: Any, target_height: Any, target_width: Any, method: Any = ResizeMethod.BILINEAR, align_corners: bool = False
) -> Tensor:
    """An image, or images, resized to fit into the target, in the middle of zeros; ValueError for targets up to 0."""
    with name_scope(None, "resize_image_with_pad", [image]):
        x = as_image(image)
        conditions = Conditions()
        conditions.require(target_width > 0, "target_width must be > 0.")
        conditions.require(target_height > 0, "target_height must be > 0.")
        x = conditions.guard(x)
        height, width = (cast(extent(x, axis), dtypes.float64) for axis in (HEIGHT, WIDTH))
        limits = [cast(each, dtypes.float64) for each in (target_height, target_width)]
        ratio = maximum(width / limits[1], height / limits[0])
        tall, wide = (cast(apply_op("Floor", x=each / ratio), dtypes.int32) for each in (height, width))
        top, left = (
            maximum(0, cast(apply_op("Floor", x=(limit - each / ratio) / 2), dtypes.int32))
            for limit, each in zip(limits, (height, width))
        )
        resized = resize_images(x, stack([tall, wide]), method, align_corners)
        found = pad_to_bounding_box(resized, top, left, target_height, target_width)
        _set_size(found, target_height, target_width)
        return found


def _set_size(x: Tensor, height: Any, width: Any) -> None:
    sizes = [each if isinstance(each, int) else None for each in (height, width)]
    x.set_shape([None] * (len(x.dims or ()) - 3) + [*sizes, None])
