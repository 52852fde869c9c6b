"""tf.image: resizing, cropping, turning and colours of images, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import expand_dims, squeeze, transpose
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.cast import cast, saturate_cast
from stepjit.ops.layout import pad, reverse, tile
from stepjit.ops.linear import tensordot
from stepjit.ops.reductions import either, reduce_mean, reduce_sum
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

Grads = Sequence[Any]


def _image(image: Any) -> Tensor:
    """An image or a batch of them; ValueError for other ranks."""
    x = convert_to_tensor(image, name="image")
    if x.dims is None or len(x.dims) not in (3, 4):
        raise ValueError(f"'image' (shape {x.shape}) must have either 3 or 4 dimensions.")
    return x


# --- Resizing ---


class ResizeMethod:
    """How `resize_images` computes a pixel."""

    BILINEAR = 0
    NEAREST_NEIGHBOR = 1


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


@RegisterGradient("ResizeBilinear")
def _bilinear_grad(op: Operation, grad: Tensor) -> Grads:
    options = {key: op.attrs[key] for key in ("align_corners", "half_pixel_centers")}
    image = op.inputs[0]
    if not image.dtype.is_floating:
        return [None, None]
    return [apply_op("ResizeBilinearGrad", grads=grad, original_image=image, **options), None]


@RegisterGradient("ResizeNearestNeighbor")
def _neighbour_grad(op: Operation, grad: Tensor) -> Grads:
    options = {key: op.attrs[key] for key in ("align_corners", "half_pixel_centers")}
    size = apply_op("StridedSlice", input=static_shape(op.inputs[0]), begin=[1], end=[3], strides=[1])
    return [apply_op("ResizeNearestNeighborGrad", grads=grad, size=size, **options), None]


def resize_images(
    images: Any, size: Any, method: Any = ResizeMethod.BILINEAR, align_corners: bool = False,
    preserve_aspect_ratio: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """An image or a batch with `size` (height, width) by one of `ResizeMethod`; ValueError for another method."""
    with name_scope(name, "resize", [images, size]):
        x = _image(images)
        single = len(x.dims or ()) == 3
        batch = expand_dims(x, 0) if single else x
        if preserve_aspect_ratio:
            raise ValueError("preserve_aspect_ratio is not supported: give the size that keeps it")
        if method in (ResizeMethod.BILINEAR, "bilinear"):
            found = resize_bilinear(batch, size, align_corners)
        elif method in (ResizeMethod.NEAREST_NEIGHBOR, "nearest"):
            found = resize_nearest_neighbor(batch, size, align_corners)
        else:
            raise ValueError("Resize method is not implemented: bilinear and nearest are")
        return squeeze(found, [0]) if single else found


def crop_and_resize(
    image: Any, boxes: Any, box_ind: Any = None, crop_size: Any = None, method: str = "bilinear",
    extrapolation_value: float = 0, name: str | None = None, box_indices: Any = None,
) -> Tensor:  # fmt: skip
    """The boxes (y1, x1, y2, x2; 0 to 1) cut out of images `box_ind`, each resized to `crop_size`, as float32."""
    return apply_op(
        "CropAndResize", image=image, boxes=boxes, box_ind=either("box_indices", box_indices, "box_ind", box_ind),
        crop_size=crop_size, method=method, extrapolation_value=extrapolation_value, name=name,
    )  # fmt: skip


def non_max_suppression(
    boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any = 0.5, score_threshold: Any = float("-inf"),
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Indices of boxes by falling score, without those that overlap a better one by more than `iou_threshold`."""
    with name_scope(name, "non_max_suppression"):
        return apply_op(
            "NonMaxSuppressionV3", boxes=boxes, scores=scores, max_output_size=max_output_size,
            iou_threshold=iou_threshold, score_threshold=score_threshold,
        )  # fmt: skip


for _kind in ("", "V2", "V3"):
    NotDifferentiable(f"NonMaxSuppression{_kind}")
for _kind in ("CropAndResize", "HSVToRGB", "RGBToHSV"):
    NotDifferentiable(_kind)


# --- PNG files ---


def decode_png(contents: Any, channels: int = 0, dtype: Any = dtypes.uint8, name: str | None = None) -> Tensor:
    """[height, width, channels] of a PNG file in memory; channels 0 is what the file has."""
    return apply_op("DecodePng", contents=contents, channels=channels, dtype=dtype, name=name)


def decode_image(
    contents: Any, channels: int | None = None, dtype: Any = dtypes.uint8, name: str | None = None,
    expand_animations: bool = True,
) -> Tensor:  # fmt: skip
    """`decode_png`; a float dtype gives numbers from 0 to 1."""
    return apply_op(
        "DecodeImage", contents=contents, channels=channels or 0, dtype=dtype, expand_animations=expand_animations,
        name=name,
    )  # fmt: skip


def encode_png(image: Any, compression: int = -1, name: str | None = None) -> Tensor:
    """The PNG file of an image [height, width, 1 to 4 channels] of uint8 or uint16."""
    return apply_op("EncodePng", image=image, compression=compression, name=name)


for _kind in ("DecodePng", "DecodeImage", "EncodePng"):
    NotDifferentiable(_kind)


# --- Turning ---


def flip_left_right(image: Any) -> Tensor:
    """An image, or images, mirrored."""
    x = _image(image)
    return reverse(x, [len(x.dims or ()) - 2])


def flip_up_down(image: Any) -> Tensor:
    """An image, or images, upside down."""
    x = _image(image)
    return reverse(x, [len(x.dims or ()) - 3])


def transpose_image(image: Any, name: str | None = None) -> Tensor:
    """Rows for columns."""
    with name_scope(name, "transpose", [image]):
        x = _image(image)
        return transpose(x, [1, 0, 2] if len(x.dims or ()) == 3 else [0, 2, 1, 3])


def rot90(image: Any, k: int = 1, name: str | None = None) -> Tensor:
    """An image, or images, turned against the clock by k quarters."""
    with name_scope(name, "rot90", [image, k]):
        x = _image(image)
        quarters = int(k) % 4
        if quarters == 1:
            return flip_up_down(transpose_image(x))
        if quarters == 2:
            return flip_up_down(flip_left_right(x))
        return transpose_image(flip_up_down(x)) if quarters else x


# --- Cropping and padding ---


def _extents(x: Tensor) -> tuple[int, int]:
    height, width = (x.dims or ())[-3:-1]
    if height is None or width is None:
        raise ValueError("The height and width of the image must be static")
    return height, width


def crop_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Tensor:
    """The box of an image, or of images; ValueError when it is not inside."""
    with name_scope(None, "crop_to_bounding_box", [image]):
        x = _image(image)
        height, width = _extents(x)
        for holds, text in (
            (offset_width >= 0, "offset_width must be >= 0."), (offset_height >= 0, "offset_height must be >= 0."),
            (target_width > 0, "target_width must be > 0."), (target_height > 0, "target_height must be > 0."),
            (width >= target_width + offset_width, "width must be >= target + offset."),
            (height >= target_height + offset_height, "height must be >= target + offset."),
        ):  # fmt: skip
            if not holds:
                raise ValueError(text)
        begin, size = [offset_height, offset_width, 0], [target_height, target_width, -1]
        lead = len(x.dims or ()) - 3
        return apply_op("Slice", input=x, begin=[0] * lead + begin, size=[-1] * lead + size)


def pad_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Tensor:
    """An image, or images, with zeros around them; ValueError when the target is too small."""
    with name_scope(None, "pad_to_bounding_box", [image]):
        x = _image(image)
        height, width = _extents(x)
        below, right = target_height - offset_height - height, target_width - offset_width - width
        for number, text in (
            (offset_height, "offset_height must be >= 0"), (offset_width, "offset_width must be >= 0"),
            (right, "width must be <= target - offset"), (below, "height must be <= target - offset"),
        ):  # fmt: skip
            if number < 0:
                raise ValueError(text)
        lead = [[0, 0]] * (len(x.dims or ()) - 3)
        return pad(x, [*lead, [offset_height, below], [offset_width, right], [0, 0]])


def resize_image_with_crop_or_pad(image: Any, target_height: int, target_width: int) -> Tensor:
    """The middle of an image, or the image in the middle of zeros."""
    x = _image(image)
    height, width = _extents(x)
    rows, columns = min(height, target_height), min(width, target_width)
    x = crop_to_bounding_box(x, (height - rows) // 2, (width - columns) // 2, rows, columns)
    return pad_to_bounding_box(
        x, (target_height - rows) // 2, (target_width - columns) // 2, target_height, target_width
    )


def central_crop(image: Any, central_fraction: float) -> Tensor:
    """The middle of an image, or of images; ValueError unless the fraction is in (0, 1]."""
    if not 0.0 < central_fraction <= 1.0:
        raise ValueError("central_fraction must be within (0, 1]")
    x = _image(image)
    if central_fraction == 1.0:
        return x
    height, width = _extents(x)
    top, left = (int((extent - extent * central_fraction) / 2) for extent in (height, width))
    return crop_to_bounding_box(x, top, left, height - 2 * top, width - 2 * left)


# --- Colours ---


def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False, name: str | None = None) -> Tensor:
    """An image in another dtype: integers span their range, floats go from 0 to 1."""
    x, kind = convert_to_tensor(image, name="image"), as_dtype(dtype)
    own = x.dtype.base_dtype
    if own is kind:
        return apply_op("Identity", input=x, name=name)
    with name_scope(name, "convert_image", [x]) as scope:
        convert = saturate_cast if saturate else cast
        if own.is_integer and kind.is_integer:
            if own.max > kind.max:
                scale = (int(own.max) + 1) // (int(kind.max) + 1)
                return convert(apply_op("FloorDiv", x=x, y=scale), kind, name=scope)
            scale = (int(kind.max) + 1) // (int(own.max) + 1)
            return apply_op("Mul", x=convert(x, kind), y=scale, name=scope)
        if own.is_floating and kind.is_floating:
            return cast(x, kind, name=scope)
        if own.is_integer:
            return apply_op("Mul", x=cast(x, kind), y=1.0 / int(own.max), name=scope)
        # Just short of one more than the largest, so that 1.0 is the largest and all integers have equal shares.
        return convert(apply_op("Mul", x=x, y=int(kind.max) + 0.5), kind, name=scope)


def per_image_standardization(image: Any) -> Tensor:
    """Each image with mean 0 and variance 1; the deviation is at least 1 / √(number of pixels)."""
    with name_scope(None, "per_image_standardization", [image]):
        x = _image(image)
        if x.dtype.base_dtype not in (dtypes.float32, dtypes.float16):
            x = cast(x, dtypes.float32)
        count = reduce_sum(apply_op("OnesLike", x=x), [-1, -2, -3], keepdims=True)
        mean = reduce_mean(x, [-1, -2, -3], keepdims=True)
        deviation = apply_op("Sqrt", x=reduce_mean((x - mean) * (x - mean), [-1, -2, -3], keepdims=True))
        return (x - mean) / apply_op("Maximum", x=deviation, y=apply_op("Rsqrt", x=count))


def rgb_to_grayscale(images: Any, name: str | None = None) -> Tensor:
    """One channel for three."""
    with name_scope(name, "rgb_to_grayscale", [images]) as scope:
        x = convert_to_tensor(images, name="images")
        kind = x.dtype.base_dtype
        floats = convert_image_dtype(x, dtypes.float32)
        weights = constant([0.2989, 0.5870, 0.1140], dtype=dtypes.float32)
        grey = expand_dims(tensordot(floats, weights, [[-1], [-1]]), -1)
        return convert_image_dtype(grey, kind, name=scope)


def grayscale_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """Three equal channels for one."""
    with name_scope(name, "grayscale_to_rgb", [images]) as scope:
        x = convert_to_tensor(images, name="images")
        return tile(x, [1] * (len(x.dims or ()) - 1) + [3], name=scope)


def rgb_to_hsv(images: Any, name: str | None = None) -> Tensor:
    """Hue, saturation and value of red, green and blue, all from 0 to 1."""
    return apply_op("RGBToHSV", images=images, name=name)


def hsv_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """The inverse of `rgb_to_hsv`."""
    return apply_op("HSVToRGB", images=images, name=name)


def _in_floats(images: Any, change: Any) -> Tensor:
    """`change` of the images as floats from 0 to 1, in their own dtype again."""
    x = convert_to_tensor(images, name="images")
    kind = x.dtype.base_dtype
    floats = x if kind.is_floating else convert_image_dtype(x, dtypes.float32)
    return convert_image_dtype(change(floats), kind, saturate=True)


def adjust_brightness(image: Any, delta: Any) -> Tensor:
    """`delta` added, on a scale from 0 to 1."""
    with name_scope(None, "adjust_brightness", [image, delta]):
        return _in_floats(image, lambda x: apply_op("Add", x=x, y=delta))


def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor:
    """Every pixel's distance from its channel's mean over the image times a factor."""
    with name_scope(None, "adjust_contrast", [images, contrast_factor]):

        def change(x: Tensor) -> Tensor:
            mean = reduce_mean(x, [-3, -2], keepdims=True)
            return (x - mean) * contrast_factor + mean

        return _in_floats(images, change)


def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Tensor:
    """The saturation times a factor, at most 1."""
    with name_scope(name, "adjust_saturation", [image]):

        def change(x: Tensor) -> Tensor:
            hue, saturation, value = apply_op("Unpack", value=rgb_to_hsv(x), num=3, axis=-1)
            limited = apply_op("Minimum", x=apply_op("Maximum", x=saturation * saturation_factor, y=0.0), y=1.0)
            return hsv_to_rgb(apply_op("Pack", values=[hue, limited, value], axis=-1))

        return _in_floats(image, change)


def total_variation(images: Any, name: str | None = None) -> Tensor:
    """The sum of absolute differences between neighbouring pixels, per image."""
    with name_scope(name, "total_variation"):
        x = _image(images)
        axes = [-3, -2, -1]
        down = x[..., 1:, :, :] - x[..., :-1, :, :]
        across = x[..., :, 1:, :] - x[..., :, :-1, :]
        return reduce_sum(apply_op("Abs", x=down), axes) + reduce_sum(apply_op("Abs", x=across), axes)
