"""tf.image: what tells images apart: edges, gradients, variation, signal-to-noise ratio, structural similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.activations import relu
from stepjit.ops.array import concat, reshape, shape, stack
from stepjit.ops.assertions import assert_equal, assert_greater_equal
from stepjit.ops.cast import cast
from stepjit.ops.control import identity
from stepjit.ops.convolution import depthwise_conv2d_native
from stepjit.ops.creation import zeros
from stepjit.ops.elementwise import log, square
from stepjit.ops.image_color import convert_image_dtype
from stepjit.ops.layout import pad, tile
from stepjit.ops.pooling import avg_pool
from stepjit.ops.reductions import reduce_mean, reduce_prod, reduce_sum
from stepjit_runtime import dtypes


def total_variation(images: Any, name: str | None = None) -> Tensor:
    """The sum of absolute differences between neighbouring pixels, per image; ValueError for other ranks than 3, 4."""
    with name_scope(name, "total_variation"):
        x = convert_to_tensor(images)
        if x.dims is None or len(x.dims) not in (3, 4):
            raise ValueError("'images' must be either 3 or 4-dimensional.")
        axes = [-3, -2, -1]
        down = x[..., 1:, :, :] - x[..., :-1, :, :]
        across = x[..., :, 1:, :] - x[..., :, :-1, :]
        return reduce_sum(apply_op("Abs", x=down), axes) + reduce_sum(apply_op("Abs", x=across), axes)


def image_gradients(image: Any) -> tuple[Tensor, Tensor]:
    """(dy, dx): each pixel's difference to the one below and to the right, 0 at the ends; ValueError unless 4-D."""
    x = convert_to_tensor(image)
    if x.dims is None or len(x.dims) != 4:
        raise ValueError(f"image_gradients expects a 4D tensor [batch_size, h, w, d], not {x.shape}.")
    batch, height, width, depth = (shape(x)[axis] if known is None else known for axis, known in enumerate(x.dims))
    kind = x.dtype.base_dtype
    down = concat([x[:, 1:] - x[:, :-1], zeros(stack([batch, 1, width, depth]), kind)], 1)
    across = concat([x[:, :, 1:] - x[:, :, :-1], zeros(stack([batch, height, 1, depth]), kind)], 2)
    return reshape(down, shape(x)), reshape(across, shape(x))


def sobel_edges(image: Any) -> Tensor:
    """[..., 2]: Sobel's vertical and horizontal slopes of images [batch, height, width, channels], borders mirrored."""
    x = convert_to_tensor(image)
    kernels = np.array([[[-1, -2, -1], [0, 0, 0], [1, 2, 1]], [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]])
    both = constant(kernels.transpose(1, 2, 0)[:, :, None, :], dtype=x.dtype.base_dtype)
    depth = shape(x)[-1] if x.dims is None or x.dims[-1] is None else x.dims[-1]
    padded = pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT")
    slopes = depthwise_conv2d_native(padded, tile(both, stack([1, 1, depth, 1])), [1, 1, 1, 1], "VALID")
    found = reshape(slopes, concat([shape(x), [2]], 0))
    if x.dims is not None:
        found.set_shape([*x.dims, 2])
    return found


def psnr(a: Any, b: Any, max_val: Any, name: str | None = None) -> Tensor:
    """The peak signal-to-noise ratio in decibel of pairs of images whose numbers go up to `max_val`."""
    with name_scope(name, "PSNR", [a, b]):
        a, b = convert_to_tensor(a), convert_to_tensor(b)
        highest = convert_image_dtype(cast(max_val, a.dtype.base_dtype), dtypes.float32)
        x, y = (convert_image_dtype(each, dtypes.float32) for each in (a, b))
        error = reduce_mean(apply_op("SquaredDifference", x=x, y=y), [-3, -2, -1])
        ratio = 20 * log(highest) / np.float32(np.log(10)) - np.float32(10 / np.log(10)) * log(error)
        _, _, checks = _same_shapes(x, y)
        with control_dependencies(checks):
            return identity(ratio, name="psnr")


# --- Structural similarity ---


def _same_shapes(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, list[Any]]:
    """The shapes of images, and checks that they are equal and of rank 3 at least; ValueError where that is known."""
    x.shape.with_rank_at_least(3)
    y.shape.with_rank_at_least(3)
    x.shape[-3:].assert_is_compatible_with(y.shape[-3:])
    if x.dims is not None and y.dims is not None:
        for own, other in zip(x.dims[-4::-1], y.dims[-4::-1]):
            if own is not None and other is not None and 1 not in (own, other) and own != other:
                raise ValueError(f"Two images are not compatible: {x.shape} and {y.shape}")
    first, second = shape(x), shape(y)
    if x.shape.is_fully_defined() and y.shape.is_fully_defined():
        return first, second, []
    return first, second, [assert_equal(first[-3:], second[-3:], data=[first, second], summarize=10)]


def _gaussian(size: int, sigma: float) -> Tensor:
    """[size, size, 1, 1]: a normal distribution around the middle, with sum 1."""
    distance = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    exponent = np.float32(-0.5 / sigma**2) * distance**2
    weight = np.exp(exponent[:, None] + exponent[None, :])
    return constant((weight / weight.sum()).reshape(size, size, 1, 1), dtype=dtypes.float32)


def _similarity(
    x: Tensor, y: Tensor, highest: Tensor, size: int, sigma: float, k1: float, k2: float
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """[..., height, width, channels]: the similarity of each window, and the part that is contrast and structure."""
    depth = shape(x)[-1] if x.dims is None or x.dims[-1] is None else x.dims[-1]
    kernel = tile(_gaussian(size, sigma), stack([1, 1, depth, 1]))

    def blurred(image: Tensor) -> Tensor:
        sizes = shape(image)
        flat = reshape(image, concat([[-1], sizes[-3:]], 0))
        found = depthwise_conv2d_native(flat, kernel, [1, 1, 1, 1], "VALID")
        return reshape(found, concat([sizes[:-3], shape(found)[1:]], 0))

    c1, c2 = (k1 * highest) ** 2, (k2 * highest) ** 2
    mean_x, mean_y = blurred(x), blurred(y)
    shared, own = mean_x * mean_y * 2.0, square(mean_x) + square(mean_y)
    luminance = (shared + c1) / (own + c1)
    products, squares = blurred(x * y) * 2.0, blurred(square(x) + square(y))
    contrast = (products - shared + c2) / (squares - own + c2)
    return luminance * contrast, contrast


def _prepared(img1: Any, img2: Any, max_val: Any, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Both images and the highest number in float32, once their sizes are checked."""
    first, second = convert_to_tensor(img1, name="img1"), convert_to_tensor(img2, name="img2")
    sizes, _, checks = _same_shapes(first, second)
    for axis in (-3, -2):
        extent = None if first.dims is None else first.dims[axis]
        if extent is None:
            checks.append(assert_greater_equal(sizes[axis], size, message="images are smaller than the filter"))
        elif extent < size:
            raise ValueError(f"The images of shape {first.shape} are smaller than filter_size={size}")
    with control_dependencies(checks):
        first = identity(first)
    highest = convert_image_dtype(cast(max_val, first.dtype.base_dtype), dtypes.float32)
    return convert_image_dtype(first, dtypes.float32), convert_image_dtype(second, dtypes.float32), highest


def ssim(
    img1: Any, img2: Any, max_val: Any, filter_size: int = 11, filter_sigma: float = 1.5, k1: float = 0.01,
    k2: float = 0.03, return_index_map: bool = False,
) -> Tensor:  # fmt: skip
    """The structural similarity of pairs of images, or (return_index_map) of each window of them.

    The mean over windows that a Gaussian of `filter_size` weighs, and over channels. ValueError for images that are
    smaller than the filter.
    """
    with name_scope(None, "SSIM", [img1, img2]):
        x, y, highest = _prepared(img1, img2, max_val, filter_size)
        similarity, _ = _similarity(x, y, highest, filter_size, filter_sigma, k1, k2)
        if return_index_map:
            return reduce_mean(similarity, [-1])
        return reduce_mean(reduce_mean(similarity, [-3, -2]), [-1])


_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim_multiscale(
    img1: Any, img2: Any, max_val: Any, power_factors: Sequence[float] = _POWERS, filter_size: int = 11,
    filter_sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03,
) -> Tensor:  # fmt: skip
    """The product of powers of the contrasts at several sizes, each half of the last, and of the last similarity."""
    with name_scope(None, "MS-SSIM", [img1, img2]):
        x, y, highest = _prepared(img1, img2, max_val, filter_size)
        parts = []
        for scale in range(len(power_factors)):
            if scale:
                x, y = (_halved(each) for each in (x, y))
            both = _similarity(x, y, highest, filter_size, filter_sigma, k1, k2)
            similarity, contrast = (reduce_mean(each, [-3, -2]) for each in both)
            parts.append(relu(contrast))
        parts[-1] = relu(similarity)
        powers = stack(parts, axis=-1) ** constant(list(power_factors), dtype=dtypes.float32)
        return reduce_mean(reduce_prod(powers, [-1]), [-1])


def _halved(images: Tensor) -> Tensor:
    """Means of squares of four pixels; odd sizes are filled up by their mirrored border."""
    sizes = shape(images)
    flat = reshape(images, concat([[-1], sizes[-3:]], 0))
    odd = sizes[-3:-1] % 2
    rows = stack([stack([0, 0]), stack([0, odd[0]]), stack([0, odd[1]]), stack([0, 0])])
    found = avg_pool(pad(flat, rows, mode="SYMMETRIC"), [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    return reshape(found, concat([sizes[:-3], shape(found)[1:]], 0))
