"""What the functions on images share: their ranks, extents known or not, and conditions on both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import control_dependencies
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import expand_dims, shape, squeeze
from stepjit.ops.control import Assert, identity

HEIGHT, WIDTH, CHANNELS = -3, -2, -1


def as_image(image: Any, name: str = "image") -> Tensor:
    """An image [height, width, channels] (which one of unknown rank is taken for) or a batch; ValueError for others."""
    x = convert_to_tensor(image, name=name)
    if x.dims is None:
        x.set_shape([None] * 3)
    assert x.dims is not None
    if len(x.dims) < 3:
        raise ValueError(f"'{name}' (shape {x.shape}) must be at least three-dimensional.")
    if len(x.dims) > 4:
        raise ValueError(f"'{name}' (shape {x.shape}) must have either 3 or 4 dimensions.")
    if any(extent == 0 for extent in x.dims[-3:]):
        raise ValueError(f"inner 3 dims of '{name}.shape' must be > 0: {x.shape}")
    return x


def extent(x: Tensor, axis: int) -> Any:
    """An extent of an image: an int where it is known, else a scalar."""
    assert x.dims is not None
    known = x.dims[axis]
    return shape(x)[len(x.dims) + axis] if known is None else known


def known(value: Any) -> Any:
    """The number that a tensor is known to be, else the tensor."""
    if isinstance(value, Tensor):
        found = constant_value(value)
        return value if found is None else found.item()
    return value


class Conditions:
    """Conditions on sizes: ValueError for those known not to hold, the others are asserted when the step runs."""

    def __init__(self) -> None:
        self.asserts: list[Any] = []

    def require(self, holds: Any, message: str) -> None:
        """Ask for a bool, or a boolean scalar."""
        if isinstance(holds, Tensor):
            self.asserts.append(Assert(holds, [message]))
        elif not holds:
            raise ValueError(message)

    def guard(self, x: Tensor) -> Tensor:
        """`x`, once all conditions hold."""
        if not self.asserts:
            return x
        with control_dependencies(self.asserts):
            return identity(x)


def as_batch(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of batches of images, of a batch or a single image."""
    if len(x.dims or ()) == 4:
        return function(x)
    return squeeze(function(expand_dims(x, 0)), [0])
