"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepjit.framework.tensor import Tensor
from stepjit.layers.base import Layer, numbers
from stepjit.ops import pooling as ops


class _Pooling(Layer):
    """The largest or the mean of windows over `space` dimensions."""

    space = 2
    pool: Callable[..., Tensor] = staticmethod(ops.max_pool)
    formats = ("NHWC", "NCHW")

    def __init__(
        self, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
        name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name, **kwargs)
        self.pool_size = numbers(pool_size, self.space, "pool_size")
        self.strides = numbers(pool_size if strides is None else strides, self.space, "strides")
        self.padding, self.data_format = checked_padding(padding), checked_format(data_format)

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The pooled inputs."""
        self._check_rank(inputs.shape, self.space + 2)
        first = self.data_format == "channels_first"
        size, step = (
            [1, 1, *each] if first else [1, *each, 1] for each in (self.pool_size, self.strides)
        )
        return type(self).pool(inputs, size, step, self.padding.upper(), self.formats[first])


def checked_padding(padding: str) -> str:
    """`same` or `valid`; ValueError else."""
    found = padding.lower()
    if found not in ("same", "valid"):
        raise ValueError(f'The `padding` argument must be one of "valid", "same". Received: {padding}')
    return found


def checked_format(data_format: str) -> str:
    """`channels_last` or `channels_first`; ValueError else."""
    found = data_format.lower()
    if found not in ("channels_last", "channels_first"):
        raise ValueError(
            f'The `data_format` argument must be one of "channels_first", "channels_last". Received: {data_format}'
        )
    return found


class MaxPooling1D(_Pooling):
    """`tf.nn.max_pool1d`."""

    space, pool, formats = 1, staticmethod(ops.max_pool1d), ("NWC", "NCW")


class AveragePooling1D(_Pooling):
    """`tf.nn.avg_pool1d`."""

    space, pool, formats = 1, staticmethod(ops.avg_pool1d), ("NWC", "NCW")


class MaxPooling2D(_Pooling):
    """`tf.nn.max_pool`."""


class AveragePooling2D(_Pooling):
    """`tf.nn.avg_pool`."""

    pool = staticmethod(ops.avg_pool)


class MaxPooling3D(_Pooling):
    """`tf.nn.max_pool3d`."""

    space, pool, formats = 3, staticmethod(ops.max_pool3d), ("NDHWC", "NCDHW")


class AveragePooling3D(_Pooling):
    """`tf.nn.avg_pool3d`."""

    space, pool, formats = 3, staticmethod(ops.avg_pool3d), ("NDHWC", "NCDHW")


def max_pooling1d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """A `MaxPooling1D` layer on inputs."""
    return MaxPooling1D(pool_size, strides, padding, data_format, name).apply(inputs)


def average_pooling1d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """An `AveragePooling1D` layer on inputs."""
    return AveragePooling1D(pool_size, strides, padding, data_format, name).apply(inputs)


def max_pooling2d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """A `MaxPooling2D` layer on inputs."""
    return MaxPooling2D(pool_size, strides, padding, data_format, name).apply(inputs)


def average_pooling2d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """An `AveragePooling2D` layer on inputs."""
    return AveragePooling2D(pool_size, strides, padding, data_format, name).apply(inputs)


def max_pooling3d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """A `MaxPooling3D` layer on inputs."""
    return MaxPooling3D(pool_size, strides, padding, data_format, name).apply(inputs)


def average_pooling3d(
    inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """An `AveragePooling3D` layer on inputs."""
    return AveragePooling3D(pool_size, strides, padding, data_format, name).apply(inputs)
