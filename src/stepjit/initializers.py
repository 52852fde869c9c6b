"""Initialisers: callables `(shape, dtype=None, partition_info=None)` that give a variable's initial value."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant
from stepjit.framework.tensor import Tensor
from stepjit.ops import creation, random
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype


def _floating(dtype: Any) -> DType:
    result = as_dtype(dtype)
    if not result.is_floating:
        raise ValueError(f"Argument `dtype` is expected to be floating point. Received: {result!r}.")
    return result


class Initializer:
    """A callable that gives an initial value of the shape and dtype asked for; equal to another by its arguments."""

    dtype: DType = dtypes.float32

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} gives no value")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal initialiser."""
        return {name: getattr(self, name) for name in self._arguments}

    _arguments: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """The initialiser of a `get_config` dict."""
        return cls(**config)


class Zeros(Initializer):
    """All zeros."""

    _arguments = ("dtype",)

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return creation.zeros(shape, self.dtype if dtype is None else dtype)


class Ones(Initializer):
    """All ones."""

    _arguments = ("dtype",)

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return creation.ones(shape, self.dtype if dtype is None else dtype)


class Constant(Initializer):
    """One value everywhere, or given values in order, the last one repeated; TypeError for other kinds of values."""

    _arguments = ("value", "dtype")

    def __init__(self, value: Any = 0, dtype: Any = dtypes.float32, verify_shape: bool = False) -> None:
        if not (np.isscalar(value) or isinstance(value, (list, tuple, np.ndarray))):
            raise TypeError(
                f"Invalid type for initial value: {type(value)} (expected Python scalar, list, tuple or array)"
            )
        self.value, self.dtype, self._verify_shape = value, as_dtype(dtype), verify_shape

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None, verify_shape: Any = None) -> Tensor:
        verify = self._verify_shape if verify_shape is None else verify_shape
        return constant(self.value, dtype=self.dtype if dtype is None else dtype, shape=shape, verify_shape=verify)


class RandomUniform(Initializer):
    """Uniform numbers in [minval, maxval)."""

    _arguments = ("minval", "maxval", "seed", "dtype")

    def __init__(
        self, minval: Any = 0.0, maxval: Any = None, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.minval, self.maxval, self.seed, self.dtype = minval, maxval, seed, as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random.random_uniform(
            shape, self.minval, self.maxval, self.dtype if dtype is None else dtype, seed=self.seed
        )


class RandomNormal(Initializer):
    """Normally distributed numbers."""

    _arguments = ("mean", "stddev", "seed", "dtype")

    def __init__(
        self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random.random_normal(
            shape, self.mean, self.stddev, self.dtype if dtype is None else dtype, seed=self.seed
        )


class TruncatedNormal(Initializer):
    """Normally distributed numbers less than two standard deviations from the mean."""

    _arguments = ("mean", "stddev", "seed", "dtype")

    def __init__(
        self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random.truncated_normal(
            shape, self.mean, self.stddev, self.dtype if dtype is None else dtype, seed=self.seed
        )


class UniformUnitScaling(Initializer):
    """Uniform numbers that keep the scale of a layer's input."""

    _arguments = ("factor", "seed", "dtype")

    def __init__(self, factor: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        self.factor, self.seed, self.dtype = factor, seed, _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        full = shape if partition_info is None else partition_info.full_shape
        size = float(np.prod([int(each) for each in full[:-1]])) if len(full) > 1 else 1.0
        limit = math.sqrt(3 / max(size, 1.0)) * self.factor
        return random.random_uniform(shape, -limit, limit, self.dtype if dtype is None else dtype, seed=self.seed)


# The truncated normal's standard deviation is this share of the untruncated one's.
_TRUNCATED_SHARE = 0.87962566103423978


class VarianceScaling(Initializer):
    """Random numbers of variance scale / n, where n counts a unit's inputs, outputs, or their mean.

    ValueError for a scale that isn't positive, or an unknown mode or distribution.
    """

    _arguments: tuple[str, ...] = ("scale", "mode", "distribution", "seed", "dtype")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ) -> None:
        if scale <= 0.0:
            raise ValueError(f"Argument `scale` must be a positive float. Received: {scale}")
        if mode not in {"fan_in", "fan_out", "fan_avg"}:
            raise ValueError(f"Argument `mode` should be one of ('fan_in', 'fan_out', 'fan_avg'). Received: {mode}")
        chosen = distribution.lower()
        if chosen not in {"normal", "uniform", "truncated_normal", "untruncated_normal"}:
            raise ValueError(
                "Argument `distribution` should be one of ('normal', 'uniform', 'truncated_normal', "
                f"'untruncated_normal'). Received: {distribution}"
            )
        self.scale, self.mode, self.distribution, self.seed = scale, mode, chosen, seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        number = self.dtype if dtype is None else dtype
        fan_in, fan_out = _fans(shape if partition_info is None else partition_info.full_shape)
        units = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        scale = self.scale / max(1.0, units)
        if self.distribution in ("normal", "truncated_normal"):
            return random.truncated_normal(shape, 0.0, math.sqrt(scale) / _TRUNCATED_SHARE, number, seed=self.seed)
        if self.distribution == "untruncated_normal":
            return random.random_normal(shape, 0.0, math.sqrt(scale), number, seed=self.seed)
        limit = math.sqrt(3.0 * scale)
        return random.random_uniform(shape, -limit, limit, number, seed=self.seed)


def _fans(shape: Any) -> tuple[float, float]:
    """How many inputs and outputs a unit has; leading dimensions are the window of a convolution."""
    dims: Sequence[int] = [int(each) for each in shape]
    if not dims:
        return 1, 1
    if len(dims) == 1:
        return dims[0], dims[0]
    window = math.prod(dims[:-2])
    return dims[-2] * window, dims[-1] * window


class GlorotUniform(VarianceScaling):
    """Uniform in ±√(6 / (fan_in + fan_out))."""

    _arguments = ("seed", "dtype")

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed, dtype)


class GlorotNormal(VarianceScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out)."""

    _arguments = ("seed", "dtype")

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, dtype)


class Orthogonal(Initializer):
    """A matrix with orthonormal rows or columns, times `gain`; ValueError below rank 2."""

    _arguments = ("gain", "seed", "dtype")

    def __init__(self, gain: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        self.gain, self.seed, self.dtype = gain, seed, _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        from stepjit.ops.array import matrix_transpose

        number = self.dtype if dtype is None else dtype
        dims = [int(each) for each in shape]
        if len(dims) < 2:
            raise ValueError(f"an orthogonal initial value must be at least two-dimensional, and shape is {shape}")
        rows, columns = math.prod(dims[:-1]), dims[-1]
        normal = random.random_normal((max(rows, columns), min(rows, columns)), dtype=number, seed=self.seed)
        q, r = apply_op("Qr", input=normal, full_matrices=False)
        # The signs of r's diagonal make the distribution uniform.
        q = apply_op("Mul", x=q, y=apply_op("Sign", x=apply_op("DiagPart", input=r)), name="mul")
        if rows < columns:
            q = matrix_transpose(q)
        return apply_op("Mul", x=self.gain, y=apply_op("Reshape", tensor=q, shape=dims), name="mul")


class Identity(Initializer):
    """The identity matrix times `gain`; ValueError unless the shape is a matrix's."""

    _arguments = ("gain", "dtype")

    def __init__(self, gain: float = 1.0, dtype: Any = dtypes.float32) -> None:
        self.gain, self.dtype = gain, _floating(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        full = shape if partition_info is None else partition_info.full_shape
        if len(full) != 2:
            raise ValueError("an identity initial value must be a matrix (two-dimensional)")
        matrix = creation.eye(int(full[0]), int(full[1]), dtype=self.dtype if dtype is None else dtype)
        if partition_info is not None:
            matrix = apply_op("Slice", input=matrix, begin=list(partition_info.var_offset), size=list(shape))
        return apply_op("Mul", x=self.gain, y=matrix, name="mul")


def lecun_normal(seed: int | None = None) -> Initializer:
    """Truncated normal of variance 1 / fan_in."""
    return VarianceScaling(1.0, "fan_in", "truncated_normal", seed)


def lecun_uniform(seed: int | None = None) -> Initializer:
    """Uniform in ±√(3 / fan_in)."""
    return VarianceScaling(1.0, "fan_in", "uniform", seed)


def he_normal(seed: int | None = None) -> Initializer:
    """Truncated normal of variance 2 / fan_in."""
    return VarianceScaling(2.0, "fan_in", "truncated_normal", seed)


def he_uniform(seed: int | None = None) -> Initializer:
    """Uniform in ±√(6 / fan_in)."""
    return VarianceScaling(2.0, "fan_in", "uniform", seed)


def takes_no_arguments(initializer: Any) -> bool:
    """Whether a callable is the value's function itself rather than a function of shape and dtype."""
    if isinstance(initializer, Initializer):
        return False
    try:
        return not inspect.signature(initializer).parameters
    except (TypeError, ValueError):
        return False


def takes_partitions(initializer: Any) -> bool:
    """Whether an initialiser wants to know which part of a variable it is asked for."""
    try:
        return "partition_info" in inspect.signature(initializer).parameters
    except (TypeError, ValueError):
        return False


# TF1's names.
zeros, ones, constant_, identity, orthogonal = Zeros, Ones, Constant, Identity, Orthogonal
random_uniform, random_normal, truncated_normal = RandomUniform, RandomNormal, TruncatedNormal
variance_scaling, uniform_unit_scaling = VarianceScaling, UniformUnitScaling
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
zeros_initializer, ones_initializer, constant_initializer = Zeros, Ones, Constant
random_uniform_initializer, random_normal_initializer = RandomUniform, RandomNormal
truncated_normal_initializer, variance_scaling_initializer = TruncatedNormal, VarianceScaling
uniform_unit_scaling_initializer, orthogonal_initializer = UniformUnitScaling, Orthogonal
glorot_uniform_initializer, glorot_normal_initializer = GlorotUniform, GlorotNormal
