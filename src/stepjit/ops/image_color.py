"""tf.image: the numbers of pixels changed: dtypes, brightness, contrast, hue, saturation; in TF1's signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import concat, expand_dims, rank, shape, stack
from stepjit.ops.cast import cast, saturate_cast
from stepjit.ops.creation import ones
from stepjit.ops.image_shape import Conditions, as_image, known
from stepjit.ops.layout import tile
from stepjit.ops.linear import tensordot
from stepjit.ops.math import maximum
from stepjit.ops.random import random_uniform
from stepjit.ops.reductions import reduce_mean, reduce_prod, reduce_sum
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype


def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False, name: str | None = None) -> Tensor:
    """An image in another dtype: integers span their range, floats go from 0 to 1."""
    x, kind = convert_to_tensor(image, name="image"), as_dtype(dtype)
    own = x.dtype.base_dtype
    if not kind.is_floating and not kind.is_integer:
        raise AttributeError("dtype must be either floating point or integer")
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
    with name_scope(None, "per_image_standardization", [image]) as scope:
        x = cast(as_image(image), dtypes.float32)
        count = cast(reduce_prod(shape(x)[-3:]), dtypes.float32)
        mean = reduce_mean(x, [-1, -2, -3], keepdims=True)
        distance = x - mean
        deviation = apply_op("Sqrt", x=reduce_mean(distance * distance, [-1, -2, -3], keepdims=True))
        least = apply_op("Rsqrt", x=count)
        return apply_op("RealDiv", x=distance, y=maximum(deviation, least), name=scope)


def _in_floats(images: Any, change: Callable[[Tensor], Tensor], saturate: bool) -> Tensor:
    """`change` of the images as floats from 0 to 1, in their own dtype again."""
    x = convert_to_tensor(images, name="images")
    kind = x.dtype.base_dtype
    floats = x if kind in (dtypes.float16, dtypes.float32) else convert_image_dtype(x, dtypes.float32)
    return convert_image_dtype(change(floats), kind, saturate=saturate)


# --- Brightness, contrast, gamma, hue, saturation ---


def adjust_brightness(image: Any, delta: Any) -> Tensor:
    """`delta` added, on a scale from 0 to 1."""
    with name_scope(None, "adjust_brightness", [image, delta]) as scope:
        return _in_floats(
            image, lambda x: apply_op("Add", x=x, y=cast(delta, x.dtype.base_dtype), name=scope), saturate=True
        )


def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor:
    """Every pixel's distance from its channel's mean over the image times a factor."""
    with name_scope(None, "adjust_contrast", [images, contrast_factor]) as scope:
        return _in_floats(
            images,
            lambda x: apply_op("AdjustContrastv2", images=x, contrast_factor=contrast_factor, name=scope),
            saturate=True,
        )


def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1) -> Tensor:
    """`gain` times the power `gamma`, on a scale from 0 to 1; ValueError for a gamma below 0."""
    with name_scope(None, "adjust_gamma", [image, gamma, gain]):
        power = known(gamma)
        conditions = Conditions()
        conditions.require(power >= 0, "Gamma should be a non-negative real number.")

        def change(x: Tensor) -> Tensor:
            kind = x.dtype.base_dtype
            return cast(gain, kind) * conditions.guard(x) ** cast(power, kind)

        return _in_floats(image, change, saturate=True)


def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Tensor:
    """The hue turned by `delta`, a part of the whole circle."""
    with name_scope(name, "adjust_hue", [image]):
        return _in_floats(image, lambda x: apply_op("AdjustHue", images=x, delta=delta), saturate=False)


def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Tensor:
    """The saturation times a factor, at most 1."""
    with name_scope(name, "adjust_saturation", [image]):
        return _in_floats(
            image, lambda x: apply_op("AdjustSaturation", images=x, scale=saturation_factor), saturate=False
        )


for _kind in ("AdjustContrastv2", "AdjustHue", "AdjustSaturation", "HSVToRGB"):
    NotDifferentiable(_kind)


def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_brightness` by a random number from -max_delta to max_delta; ValueError for a negative one."""
    if max_delta < 0:
        raise ValueError("max_delta must be non-negative.")
    return adjust_brightness(image, random_uniform([], -max_delta, max_delta, seed=seed))


def _factor(lower: float, upper: float, seed: int | None) -> Tensor:
    if upper <= lower:
        raise ValueError("upper must be > lower.")
    if lower < 0:
        raise ValueError("lower must be non-negative.")
    return random_uniform([], lower, upper, seed=seed)


def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_contrast` by a random factor in [lower, upper); ValueError unless 0 <= lower < upper."""
    return adjust_contrast(image, _factor(lower, upper, seed))


def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_hue` by a random number from -max_delta to max_delta; ValueError unless it is in [0, 0.5]."""
    if max_delta > 0.5:
        raise ValueError("max_delta must be <= 0.5.")
    if max_delta < 0:
        raise ValueError("max_delta must be non-negative.")
    return adjust_hue(image, random_uniform([], -max_delta, max_delta, seed=seed))


def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_saturation` by a random factor in [lower, upper); ValueError unless 0 <= lower < upper."""
    return adjust_saturation(image, _factor(lower, upper, seed))


# --- Colour spaces ---

_YIQ = np.array([[0.299, 0.59590059, 0.2115], [0.587, -0.27455667, -0.52273617], [0.114, -0.32134392, 0.31119955]])
_RGB_OF_YIQ = np.array([[1, 1, 1], [0.95598634, -0.27201283, -1.10674021], [0.6208248, -0.64720424, 1.70423049]])
_YUV = np.array([[0.299, -0.14714119, 0.61497538], [0.587, -0.28886916, -0.51496512], [0.114, 0.43601035, -0.10001026]])
_RGB_OF_YUV = np.array([[1, 1, 1], [0, -0.394642334, 2.03206185], [1.13988303, -0.58062185, 0]])


def _mixed(images: Any, matrix: np.ndarray) -> Tensor:
    """The channels of every pixel times a matrix."""
    x = convert_to_tensor(images, name="images")
    found = tensordot(x, constant(matrix.tolist(), dtype=x.dtype.base_dtype), [[-1], [0]])
    found.set_shape(x.shape)
    return found


def rgb_to_yiq(images: Any) -> Tensor:
    """Luma and two differences of colour (YIQ) of red, green and blue."""
    return _mixed(images, _YIQ)


def yiq_to_rgb(images: Any) -> Tensor:
    """The inverse of `rgb_to_yiq`."""
    return _mixed(images, _RGB_OF_YIQ)


def rgb_to_yuv(images: Any) -> Tensor:
    """Luma and two differences of colour (YUV) of red, green and blue."""
    return _mixed(images, _YUV)


def yuv_to_rgb(images: Any) -> Tensor:
    """The inverse of `rgb_to_yuv`."""
    return _mixed(images, _RGB_OF_YUV)


def rgb_to_grayscale(images: Any, name: str | None = None) -> Tensor:
    """One channel for three; ValueError for another last dimension."""
    with name_scope(name, "rgb_to_grayscale", [images]) as scope:
        x = convert_to_tensor(images, name="images")
        _check_channels(x, 3)
        kind = x.dtype.base_dtype
        floats = convert_image_dtype(x, dtypes.float32)
        weights = constant([0.2989, 0.5870, 0.1140], dtype=dtypes.float32)
        grey = expand_dims(tensordot(floats, weights, [[-1], [-1]]), -1)
        return convert_image_dtype(grey, kind, name=scope)


def grayscale_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """Three equal channels for one; ValueError for another last dimension."""
    with name_scope(name, "grayscale_to_rgb", [images]) as scope:
        x = convert_to_tensor(images, name="images")
        _check_channels(x, 1)
        if x.dims is not None:
            return tile(x, [1] * (len(x.dims) - 1) + [3], name=scope)
        ahead = ones(expand_dims(rank(x) - 1, 0), dtypes.int32)
        return tile(x, apply_op("ConcatV2", values=[ahead, constant([3])], axis=0), name=scope)


def _check_channels(x: Tensor, count: int) -> None:
    if x.dims is None:
        return
    if not x.dims:
        raise ValueError("A grayscale image (shape ()) must be at least two-dimensional." if count == 1 else
                         "Images must be at least one-dimensional.")  # fmt: skip
    if x.dims[-1] not in (count, None):
        kind = "Last dimension of a grayscale image should be size 1." if count == 1 else (
            f"Last dimension of an RGB image should be size 3, got shape {x.shape}.")  # fmt: skip
        raise ValueError(kind)


def rgb_to_hsv(images: Any, name: str | None = None) -> Tensor:
    """Hue, saturation and value of red, green and blue, all from 0 to 1."""
    return apply_op("RGBToHSV", images=images, name=name)


@RegisterGradient("RGBToHSV")
def _rgb_to_hsv_grad(op: Operation, grad: Tensor) -> Tensor:
    x, kind = op.inputs[0], op.inputs[0].dtype.base_dtype
    red, green, blue = (x[..., k] for k in range(3))

    def chosen(*conditions: Tensor) -> Tensor:
        """1 at the channel whose condition holds."""
        return cast(stack(list(conditions), -1), kind)

    def share(a: Tensor, b: Tensor) -> Tensor:
        return apply_op("DivNoNan", x=a, y=b)

    largest = chosen((red >= green) & (red >= blue), (green > red) & (green >= blue), (blue > red) & (blue > green))
    least = chosen((red < green) & (red < blue), (green <= red) & (green < blue), (blue <= red) & (blue <= green))
    most, low = (reduce_sum(x * each, -1, keepdims=True) for each in (largest, least))
    # The hue is a sector plus (next - other) / 6 spread, of the two channels after the largest.
    apart = concat([largest[..., 2:], largest[..., :2]], -1) - concat([largest[..., 1:], largest[..., :1]], -1)
    spread = 6.0 * (most - low)
    slope = reduce_sum(x * apart, -1, keepdims=True)
    by_hue = share(apart, spread) - share(6.0 * slope, spread * spread) * (largest - least)
    by_saturation = share(low, most * most) * largest - share(least, most)
    return grad[..., 0:1] * by_hue + grad[..., 1:2] * by_saturation + grad[..., 2:3] * largest


def hsv_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """The inverse of `rgb_to_hsv`."""
    return apply_op("HSVToRGB", images=images, name=name)
