"""tf.image: images mirrored, turned and transposed, by choice or at random, in TF1's signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import rank, reshape, shape, transpose
from stepjit.ops.cast import cast
from stepjit.ops.cond import case, cond
from stepjit.ops.elementwise import round as rounded
from stepjit.ops.image_shape import as_image
from stepjit.ops.layout import reverse
from stepjit.ops.random import random_uniform
from stepjit_runtime import dtypes


def _by_rank(image: Any, single: Callable[[Tensor], Tensor], batch: Callable[[Tensor], Tensor]) -> Tensor:
    """`single` of an image, `batch` of images, told apart in the run where need be; ValueError for other ranks."""
    x = convert_to_tensor(image, name="image")
    if x.dims is None:
        return cond(apply_op("Equal", x=rank(x), y=3), lambda: single(x), lambda: batch(x))
    x = as_image(x)
    return single(x) if len(x.dims or ()) == 3 else batch(x)


def flip_left_right(image: Any) -> Tensor:
    """An image, or images, mirrored."""
    with name_scope(None, "flip_left_right", [image]):
        return _by_rank(image, lambda x: reverse(x, [1]), lambda x: reverse(x, [2]))


def flip_up_down(image: Any) -> Tensor:
    """An image, or images, upside down."""
    with name_scope(None, "flip_up_down", [image]):
        return _by_rank(image, lambda x: reverse(x, [0]), lambda x: reverse(x, [1]))


def _random_flip(image: Any, axis: int, seed: int | None, scope: str) -> Tensor:
    """An image flipped along an axis or not, by chance; of images each by its own."""
    with name_scope(None, scope, [image]) as inner:

        def single(x: Tensor) -> Tensor:
            draw = random_uniform([], 0, 1.0, seed=seed)
            result = cond(apply_op("Less", x=draw, y=0.5), lambda: reverse(x, [axis]), lambda: x, name=inner)
            result.set_shape(x.shape)
            return result

        def batch(x: Tensor) -> Tensor:
            count = shape(x)[0]
            draws = random_uniform(reshape(count, [1]), 0, 1.0, seed=seed)
            flips = cast(reshape(rounded(draws), [-1, 1, 1, 1]), x.dtype.base_dtype)
            return flips * reverse(x, [axis + 1]) + (1 - flips) * x

        return _by_rank(image, single, batch)


def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor:
    """An image mirrored with a chance of one half; of images each by its own."""
    return _random_flip(image, 1, seed, "random_flip_left_right")


def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor:
    """An image upside down with a chance of one half; of images each by its own."""
    return _random_flip(image, 0, seed, "random_flip_up_down")


def transpose_image(image: Any, name: str | None = None) -> Tensor:
    """Rows for columns."""
    with name_scope(name, "transpose", [image]):
        return _by_rank(image, lambda x: transpose(x, [1, 0, 2]), lambda x: transpose(x, [0, 2, 1, 3]))


def rot90(image: Any, k: Any = 1, name: str | None = None) -> Tensor:
    """An image, or images, turned against the clock by k quarters."""
    with name_scope(name, "rot90", [image, k]):
        return _by_rank(image, lambda x: _turned(x, 0, k), lambda x: _turned(x, 1, k))


def _turned(x: Tensor, first: int, k: Any) -> Tensor:
    """`rot90` of an image whose rows are axis `first`."""

    def turn(quarters: int) -> Tensor:
        order = [*range(first), first + 1, first, first + 2]
        if quarters == 1:
            return transpose(reverse(x, [first + 1]), order)
        if quarters == 2:
            return reverse(x, [first, first + 1])
        return reverse(transpose(x, order), [first + 1]) if quarters == 3 else x

    count = convert_to_tensor(k, dtypes.int32, name="k")
    count.shape.assert_has_rank(0)
    number = constant_value(count)
    if number is not None:
        return turn(int(number) % 4)
    quarters = apply_op("FloorMod", x=count, y=4)
    found = case(
        [(apply_op("Equal", x=quarters, y=each), lambda each=each: turn(each)) for each in (1, 2, 3)],
        default=lambda: x, exclusive=True,
    )  # fmt: skip
    found.set_shape([None if 0 <= axis - first < 2 else extent for axis, extent in enumerate(x.dims or ())])
    return found
