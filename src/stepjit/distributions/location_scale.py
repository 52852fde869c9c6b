"""Distributions of numbers by location and scale: normal, uniform, Laplace, Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.distributions.base import FULLY_REPARAMETERIZED, Distribution, RegisterKL, gen_new_seed
from stepjit.distributions.parameters import both_dynamic, both_static, defined, less, parameter, positive, same_floats
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import broadcast_dynamic_shape, broadcast_static_shape, reshape, shape
from stepjit.ops.comparison import logical_or, where
from stepjit.ops.control import identity
from stepjit.ops.creation import ones_like, zeros_like
from stepjit.ops.elementwise import (
    abs,
    digamma,
    erf,
    erfc,
    exp,
    expm1,
    is_nan,
    lgamma,
    log,
    log1p,
    rsqrt,
    sign,
    square,
)  # fmt: skip
from stepjit.ops.random import random_gamma, random_normal, random_uniform
from stepjit.ops.special import betainc, ndtri
from stepjit_runtime import dtypes


def sizes(names: Sequence[str], sample_shape: Any) -> dict[str, Tensor]:
    """Parameters that all have the shape of a sample."""
    return {name: convert_to_tensor(sample_shape, dtypes.int32) for name in names}


class _Paired(Distribution):
    """Scalar distributions with two parameters that broadcast together."""

    _first: Tensor
    _second: Tensor

    def _batch_shape(self) -> Any:
        return both_static(self._first, self._second)

    def _batch_shape_tensor(self) -> Tensor:
        return both_dynamic(self._first, self._second)

    def _event_shape(self) -> Any:
        return ()

    def _event_shape_tensor(self) -> Tensor:
        return constant([], dtype=dtypes.int32)


class _LocationScale(_Paired):
    """What `loc` and `scale` say of a variable z with location 0 and scale 1."""

    def _place(self, loc: Any, scale: Any, validate_args: bool, name: str) -> None:
        with name_scope(name, values=[loc, scale]) as scope:
            self._loc = parameter(loc, "loc")
            checks = [positive(convert_to_tensor(scale))] if validate_args else []
            self._scale = parameter(scale, "scale", checks)
            same_floats(self._loc, self._scale)
            self._scope_name = scope
        self._first, self._second = self._loc, self._scale

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        return sizes(("loc", "scale"), sample_shape)

    @property
    def loc(self) -> Tensor:
        """Where the distribution lies."""
        return self._loc

    @property
    def scale(self) -> Tensor:
        """How wide it is."""
        return self._scale

    def _z(self, x: Tensor) -> Tensor:
        with name_scope("standardize", values=[x]):
            return (x - self.loc) / self.scale

    def _mean(self) -> Tensor:
        return self.loc * ones_like(self.scale)

    def _mode(self) -> Tensor:
        return self._mean()


# --- Normal ---


class Normal(_LocationScale):
    """The normal distribution with mean `loc` and standard deviation `scale`, floats that broadcast together."""

    def __init__(
        self, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Normal"
    ) -> None:
        given = dict(locals())
        self._place(loc, scale, validate_args, name)
        super().__init__(
            self._scale.dtype.base_dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._loc, self._scale], self._scope_name,
        )  # fmt: skip

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        drawn = random_normal(self._with_samples(n), 0.0, 1.0, self.loc.dtype.base_dtype, seed=seed)
        return drawn * self.scale + self.loc

    def _log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * square(self._z(x)) - (0.5 * math.log(2 * math.pi) + log(self.scale))

    def _log_cdf(self, x: Tensor) -> Tensor:
        return _log_normal_cdf(self._z(x))

    def _cdf(self, x: Tensor) -> Tensor:
        return _normal_cdf(self._z(x))

    def _log_survival_function(self, x: Tensor) -> Tensor:
        return _log_normal_cdf(-self._z(x))

    def _survival_function(self, x: Tensor) -> Tensor:
        return _normal_cdf(-self._z(x))

    def _entropy(self) -> Tensor:
        return 0.5 + 0.5 * math.log(2 * math.pi) + log(self.scale * ones_like(self.loc))

    def _quantile(self, p: Tensor) -> Tensor:
        return ndtri(p) * self.scale + self.loc

    def _stddev(self) -> Tensor:
        return self.scale * ones_like(self.loc)


def _normal_cdf(z: Tensor) -> Tensor:
    half = constant(math.sqrt(0.5), dtype=z.dtype.base_dtype)
    w = z * half
    size = abs(w)
    tail = where(w > 0, 2.0 - erfc(size), erfc(size))
    return 0.5 * where(size < half, 1.0 + erf(w), tail)


def _log_normal_cdf(z: Tensor) -> Tensor:
    """log(cdf), by an asymptotic series far below 0, where the cdf is 0 or has few digits."""
    low, high = (-20.0, 8.0) if z.dtype.base_dtype is dtypes.float64 else (-10.0, 5.0)
    kind = z.dtype.base_dtype
    lowest, highest = constant(low, dtype=kind), constant(high, dtype=kind)
    middle = log(_normal_cdf(_larger(z, lowest)))
    below = _smaller(z, lowest)
    squared = square(below)
    series = 1.0 - 1.0 / squared + 3.0 / square(squared) - 15.0 / (squared * square(squared))
    far = -0.5 * squared - log(-below) - 0.5 * math.log(2 * math.pi) + log(series)
    return where(z > highest, -_normal_cdf(-z), where(z > lowest, middle, far))


def _larger(a: Tensor, b: Tensor) -> Tensor:
    return where(a > b, a, b * ones_like(a))


def _smaller(a: Tensor, b: Tensor) -> Tensor:
    return where(a < b, a, b * ones_like(a))


@RegisterKL(Normal, Normal)
def _normal_divergence(a: Normal, b: Normal, name: str | None = None) -> Tensor:
    with name_scope(name, "kl_normal_normal", [a.loc, b.loc]):
        variance = square(b.scale)
        ratio = square(a.scale) / variance
        return square(a.loc - b.loc) / (2.0 * variance) + 0.5 * (ratio - 1.0 - log(ratio))


# --- Uniform ---


class Uniform(_Paired):
    """The uniform distribution over [low, high), floats that broadcast together."""

    def __init__(
        self, low: Any = 0.0, high: Any = 1.0, validate_args: bool = False, allow_nan_stats: bool = True,
        name: str = "Uniform",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name, values=[low, high]) as scope:
            text = "uniform not defined when low >= high."
            lows = convert_to_tensor(low, name="low") if validate_args else low
            highs = convert_to_tensor(high, name="high") if validate_args else high
            checks = [less(lows, highs, message=text)] if validate_args else []
            self._low, self._high = parameter(lows, "low", checks), parameter(highs, "high", checks)
            same_floats(self._low, self._high)
        self._first, self._second = self._low, self._high
        super().__init__(
            self._low.dtype.base_dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._low, self._high], scope,
        )  # fmt: skip

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        return sizes(("low", "high"), sample_shape)

    @property
    def low(self) -> Tensor:
        """The least value."""
        return self._low

    @property
    def high(self) -> Tensor:
        """What all values are less than."""
        return self._high

    def range(self, name: str = "range") -> Tensor:
        """high - low."""
        with self._name_scope(name):
            return self.high - self.low

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        drawn = random_uniform(self._with_samples(n), dtype=self.dtype, seed=seed)
        return self.low + self.range() * drawn

    def _prob(self, x: Tensor) -> Tensor:
        x = x * self._ones()
        outside = logical_or(x < self.low, x >= self.high)
        return where(is_nan(x), x, where(outside, zeros_like(x), ones_like(x) / self.range()))

    def _cdf(self, x: Tensor) -> Tensor:
        x = x * self._ones()
        inside = where(x >= self.high * ones_like(x), ones_like(x), (x - self.low) / self.range())
        return where(x < self.low * ones_like(x), zeros_like(x), inside)

    def _entropy(self) -> Tensor:
        return log(self.range())

    def _mean(self) -> Tensor:
        return (self.low + self.high) / 2.0

    def _variance(self) -> Tensor:
        return square(self.range()) / 12.0

    def _stddev(self) -> Tensor:
        return self.range() / math.sqrt(12.0)


# --- Laplace ---


class Laplace(_LocationScale):
    """The Laplace distribution around `loc` with mean distance `scale`, floats that broadcast together."""

    def __init__(
        self, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Laplace"
    ) -> None:
        given = dict(locals())
        self._place(loc, scale, validate_args, name)
        super().__init__(
            self._loc.dtype.base_dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._loc, self._scale], self._scope_name,
        )  # fmt: skip

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        # -1 itself would be sent to infinity.
        low = np.nextafter(self.dtype.np.type(-1), self.dtype.np.type(0))
        drawn = random_uniform(self._with_samples(n), minval=low, maxval=1.0, dtype=self.dtype, seed=seed)
        return self.loc - self.scale * sign(drawn) * log1p(-abs(drawn))

    def _log_prob(self, x: Tensor) -> Tensor:
        return -abs(self._z(x)) - math.log(2.0) - log(self.scale)

    def _cdf(self, x: Tensor) -> Tensor:
        z = self._z(x)
        return 0.5 - 0.5 * sign(z) * expm1(-abs(z))

    def _log_cdf(self, x: Tensor) -> Tensor:
        z = self._z(x)
        return where(z < 0, z - math.log(2.0), log1p(-0.5 * exp(-abs(z))))

    def _log_survival_function(self, x: Tensor) -> Tensor:
        z = -self._z(x)
        return where(z < 0, z - math.log(2.0), log1p(-0.5 * exp(-abs(z))))

    def _entropy(self) -> Tensor:
        return math.log(2.0) + 1 + log(self.scale + zeros_like(self.loc))

    def _stddev(self) -> Tensor:
        return math.sqrt(2.0) * self.scale + zeros_like(self.loc)


# --- StudentT ---


class StudentT(_LocationScale):
    """Student's t distribution with `df` degrees of freedom, around `loc`, as wide as `scale`; all broadcast."""

    def __init__(
        self, df: Any, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True,
        name: str = "StudentT",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name, values=[df, loc, scale]) as scope:
            self._df = parameter(df, "df", [positive(convert_to_tensor(df))] if validate_args else [])
            self._loc, self._scale = parameter(loc, "loc"), parameter(scale, "scale")
            same_floats(self._df, self._loc, self._scale)
        super().__init__(
            self._scale.dtype.base_dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._df, self._loc, self._scale], scope,
        )  # fmt: skip

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        return sizes(("df", "loc", "scale"), sample_shape)

    @property
    def df(self) -> Tensor:
        """The degrees of freedom."""
        return self._df

    def _batch_shape(self) -> Any:
        return broadcast_static_shape(self._df.shape, both_static(self._loc, self._scale))

    def _batch_shape_tensor(self) -> Tensor:
        return broadcast_dynamic_shape(shape(self._df), both_dynamic(self._loc, self._scale))

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        normal = random_normal(self._with_samples(n), dtype=self.dtype, seed=seed)
        freedom = self.df * self._ones()
        chi = random_gamma(reshape(n, [1]), 0.5 * freedom, 0.5, self.dtype, seed=gen_new_seed(seed, "student_t"))
        return normal * rsqrt(chi / freedom) * self.scale + self.loc

    def _log_prob(self, x: Tensor) -> Tensor:
        y, df = self._z(x), self.df
        scale = log(abs(self.scale)) + 0.5 * log(df) + 0.5 * math.log(math.pi)
        return -0.5 * (df + 1.0) * log1p(square(y) / df) - (scale + lgamma(0.5 * df) - lgamma(0.5 * (df + 1.0)))

    def _cdf(self, x: Tensor) -> Tensor:
        y = (x - self.loc) / abs(self.scale)
        below = self.df / (square(y) + self.df)
        freedom, half = 0.5 * self.df * ones_like(below), constant(0.5, self.dtype) * ones_like(below)
        tail = 0.5 * betainc(freedom, half, below)
        return where(y < 0.0, tail, 1.0 - tail)

    def _entropy(self) -> Tensor:
        df = self.df * self._ones()
        beta = lgamma(0.5 * df) + lgamma(constant(0.5, self.dtype)) - lgamma(0.5 * (df + 1.0))
        slope = digamma(0.5 * (df + 1.0)) - digamma(0.5 * df)
        return log(abs(self.scale)) + 0.5 * log(df) + beta + 0.5 * (df + 1.0) * slope

    def _mean(self) -> Tensor:
        found, text = self.loc * self._ones(), "mean not defined for components of df <= 1"
        return defined(found, self.df > self._ones(), self.allow_nan_stats, text)

    def _mode(self) -> Tensor:
        return identity(self.loc)

    def _variance(self) -> Tensor:
        df = self.df * self._ones()
        ample = where(df > 2.0, df - 2.0, ones_like(df))
        found = where(df > 2.0, self._ones() * square(self.scale) * df / ample, math.inf * ones_like(df))
        return defined(found, df > 1.0, self.allow_nan_stats, "variance not defined for components of df <= 1")
