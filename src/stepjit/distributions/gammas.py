"""Distributions made of gamma variables: gamma, exponential, beta, Dirichlet."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit.distributions.base import FULLY_REPARAMETERIZED, Distribution, RegisterKL, gen_new_seed
from stepjit.distributions.location_scale import _Paired, sizes
from stepjit.distributions.parameters import (
    after,
    defined,
    less,
    parameter,
    positive,
    same_floats,
)  # fmt: skip
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import expand_dims, reshape, shape
from stepjit.ops.assertions import assert_less
from stepjit.ops.cast import cast
from stepjit.ops.comparison import logical_and
from stepjit.ops.creation import matrix_set_diag, ones_like
from stepjit.ops.elementwise import digamma, lgamma, log, sqrt, square
from stepjit.ops.linear import matmul
from stepjit.ops.math import xlog1py, xlogy
from stepjit.ops.random import random_gamma, random_uniform
from stepjit.ops.reductions import reduce_all, reduce_sum
from stepjit.ops.special import betainc, igamma, lbeta

# --- Gamma, Exponential ---


class Gamma(_Paired):
    """The gamma distribution of shape `concentration` and inverse scale `rate`, floats that broadcast together."""

    def __init__(
        self, concentration: Any, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True,
        name: str = "Gamma",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name, values=[concentration, rate]) as scope:
            checks = [positive(convert_to_tensor(each)) for each in (concentration, rate)] if validate_args else []
            self._concentration = parameter(concentration, "concentration", checks)
            self._rate = parameter(rate, "rate", checks)
            same_floats(self._concentration, self._rate)
        self._first, self._second = self._concentration, self._rate
        super().__init__(
            self._concentration.dtype.base_dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._concentration, self._rate], scope,
        )  # fmt: skip

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        return sizes(("concentration", "rate"), sample_shape)

    @property
    def concentration(self) -> Tensor:
        """The shape parameter."""
        return self._concentration

    @property
    def rate(self) -> Tensor:
        """The inverse scale."""
        return self._rate

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        return random_gamma(reshape(n, [1]), self.concentration, self.rate, self.dtype, seed=seed)

    def _checked(self, x: Tensor) -> Tensor:
        return after([positive(x)] if self.validate_args else [], x)

    def _log_prob(self, x: Tensor) -> Tensor:
        x = self._checked(x)
        norm = lgamma(self.concentration) - self.concentration * log(self.rate)
        return xlogy(self.concentration - 1.0, x) - self.rate * x - norm

    def _cdf(self, x: Tensor) -> Tensor:
        x = self._checked(x) * self._ones()
        return igamma(self.concentration * ones_like(x), self.rate * x)

    def _entropy(self) -> Tensor:
        c = self.concentration
        return c - log(self.rate) + lgamma(c) + (1.0 - c) * digamma(c)

    def _mean(self) -> Tensor:
        return self.concentration / self.rate

    def _variance(self) -> Tensor:
        return self.concentration / square(self.rate)

    def _stddev(self) -> Tensor:
        return sqrt(self.concentration) / self.rate

    def _mode(self) -> Tensor:
        found = (self.concentration - 1.0) / self.rate
        above = self.concentration * self._ones() > 1.0
        return defined(found, above, self.allow_nan_stats, "mode not defined when any concentration <= 1")


@RegisterKL(Gamma, Gamma)
def _gamma_divergence(a: Gamma, b: Gamma, name: str | None = None) -> Tensor:
    with name_scope(name, "kl_gamma_gamma", [a.concentration, b.concentration, a.rate, b.rate]):
        return (
            (a.concentration - b.concentration) * digamma(a.concentration)
            + lgamma(b.concentration)
            - lgamma(a.concentration)
            + b.concentration * log(a.rate)
            - b.concentration * log(b.rate)
            + a.concentration * (b.rate / a.rate - 1.0)
        )


class Exponential(Gamma):
    """The exponential distribution with mean 1 / `rate`, a float tensor."""

    def __init__(
        self, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Exponential"
    ) -> None:
        given = dict(locals())
        with name_scope(name, values=[rate]) as scope:
            self._rate = parameter(rate, "rate")
            super().__init__(ones_like(self._rate), self._rate, validate_args, allow_nan_stats, name=scope)
        self._reparameterization_type = FULLY_REPARAMETERIZED
        given.pop("self")
        self._parameters, self._graph_parents = given, [self._rate]
        self._name = scope

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        return sizes(("rate",), sample_shape)

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        # The logarithm of 0 would be infinite.
        least = np.finfo(self.dtype.np).tiny
        drawn = random_uniform(self._with_samples(n), minval=least, maxval=1.0, dtype=self.dtype, seed=seed)
        return -log(drawn) / self.rate


    def _log_survival_function(self, x: Tensor) -> Tensor:
        return -self.rate * self._checked(x)


# --- Beta ---


class Beta(_Paired):
    """The beta distribution over (0, 1) of shapes `concentration1` and `concentration0`, which broadcast together."""

    def __init__(
        self, concentration1: Any = None, concentration0: Any = None, validate_args: bool = False,
        allow_nan_stats: bool = True, name: str = "Beta",
    ) -> None:  # fmt: skip
        given = dict(locals())
        with name_scope(name, values=[concentration1, concentration0]) as scope:
            self._concentration1, self._concentration0 = (
                self._of_sign(each, label, validate_args)
                for each, label in ((concentration1, "concentration1"), (concentration0, "concentration0"))
            )
            same_floats(self._concentration1, self._concentration0)
            self._total_concentration = self._concentration1 + self._concentration0
        self._first, self._second = self._concentration1, self._concentration0
        super().__init__(
            self._total_concentration.dtype.base_dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._concentration1, self._concentration0, self._total_concentration], scope,
        )  # fmt: skip

    @staticmethod
    def _of_sign(value: Any, name: str, validate_args: bool) -> Tensor:
        x = convert_to_tensor(value, name=name)
        return after([positive(x, message="Concentration parameter must be positive.")] if validate_args else [], x)

    @classmethod
    def _param_shapes(cls, sample_shape: Any) -> dict[str, Tensor]:
        return sizes(("concentration1", "concentration0"), sample_shape)

    @property
    def concentration1(self) -> Tensor:
        """The shape on the side of 1."""
        return self._concentration1

    @property
    def concentration0(self) -> Tensor:
        """The shape on the side of 0."""
        return self._concentration0

    @property
    def total_concentration(self) -> Tensor:
        """The sum of both."""
        return self._total_concentration

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        one = ones_like(self.total_concentration, dtype=self.dtype)
        count = reshape(n, [1])
        first = random_gamma(count, self.concentration1 * one, dtype=self.dtype, seed=seed)
        second = random_gamma(count, self.concentration0 * one, dtype=self.dtype, seed=gen_new_seed(seed, "beta"))
        return first / (first + second)

    def _checked(self, x: Tensor) -> Tensor:
        if not self.validate_args:
            return x
        return after([
            positive(x, message="sample must be positive"),
            less(x, constant(1.0, dtype=self.dtype), message="sample must be less than `1`."),
        ], x)  # fmt: skip

    def _norm(self) -> Tensor:
        return lgamma(self.concentration1) + lgamma(self.concentration0) - lgamma(self.total_concentration)

    def _log_prob(self, x: Tensor) -> Tensor:
        x = self._checked(x)
        return xlogy(self.concentration1 - 1.0, x) + xlog1py(self.concentration0 - 1.0, -x) - self._norm()

    def _cdf(self, x: Tensor) -> Tensor:
        x = self._checked(x) * self._ones()
        return betainc(self.concentration1 * ones_like(x), self.concentration0 * ones_like(x), x)

    def _entropy(self) -> Tensor:
        one, zero, total = self.concentration1, self.concentration0, self.total_concentration
        return (
            self._norm() - (one - 1.0) * digamma(one) - (zero - 1.0) * digamma(zero) + (total - 2.0) * digamma(total)
        )

    def _mean(self) -> Tensor:
        return self.concentration1 / self.total_concentration

    def _variance(self) -> Tensor:
        mean = self._mean()
        return mean * (1.0 - mean) / (1.0 + self.total_concentration)

    def _mode(self) -> Tensor:
        found = (self.concentration1 - 1.0) / (self.total_concentration - 2.0)
        above = logical_and(self.concentration1 * self._ones() > 1.0, self.concentration0 * self._ones() > 1.0)
        text = "Mode undefined for concentration1 <= 1 or concentration0 <= 1."
        return defined(found, above, self.allow_nan_stats, text)


@RegisterKL(Beta, Beta)
def _beta_divergence(a: Beta, b: Beta, name: str | None = None) -> Tensor:
    with name_scope(name, "kl_beta_beta", [a.concentration1, b.concentration1, a.concentration0, b.concentration0]):
        return (
            b._norm()
            - a._norm()
            - digamma(a.concentration1) * (b.concentration1 - a.concentration1)
            - digamma(a.concentration0) * (b.concentration0 - a.concentration0)
            + digamma(a.total_concentration) * (b.total_concentration - a.total_concentration)
        )


# --- Dirichlet ---


class Concentrated:
    """What distributions of a Dirichlet's parameter share."""

    _concentration: Tensor
    _total_concentration: Tensor

    def _concentrate(self, concentration: Any, validate_args: bool) -> None:
        self._concentration = dirichlet_concentration(concentration, validate_args)
        self._total_concentration = reduce_sum(self._concentration, -1)

    @property
    def concentration(self) -> Tensor:
        """The parameters by class."""
        return self._concentration

    @property
    def total_concentration(self) -> Tensor:
        """Their sum."""
        return self._total_concentration


class Dirichlet(Concentrated, Distribution):
    """The Dirichlet distribution of probabilities [..., classes]; `concentration` has that shape."""

    def __init__(
        self, concentration: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Dirichlet"
    ) -> None:
        given = dict(locals())
        with name_scope(name, values=[concentration]) as scope:
            self._concentrate(concentration, validate_args)
        super().__init__(
            self._concentration.dtype.base_dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, given,
            [self._concentration, self._total_concentration], scope,
        )  # fmt: skip

    def _batch_shape(self) -> Any:
        return self.total_concentration.shape

    def _batch_shape_tensor(self) -> Tensor:
        return shape(self.total_concentration)

    def _event_shape(self) -> Any:
        return self.concentration.shape.with_rank_at_least(1)[-1:]

    def _event_shape_tensor(self) -> Tensor:
        return shape(self.concentration)[-1:]

    def _sample_n(self, n: Tensor, seed: int | None) -> Tensor:
        drawn = random_gamma(reshape(n, [1]), self.concentration, dtype=self.dtype, seed=seed)
        return drawn / reduce_sum(drawn, -1, keepdims=True)

    def _log_prob(self, x: Tensor) -> Tensor:
        if self.validate_args:
            total = reduce_sum(x, -1)
            near = square(total - 1.0)
            limit = constant(1e-10, dtype=self.dtype)
            x = after([
                positive(x, message="samples must be positive"),
                assert_less(near, limit, message="sample last-dimension must sum to `1`"),
            ], x)  # fmt: skip
        return reduce_sum(xlogy(self.concentration - 1.0, x), -1) - lbeta(self.concentration)

    def _entropy(self) -> Tensor:
        classes = cast(self.event_shape_tensor()[0], self.dtype)
        return (
            lbeta(self.concentration)
            + (self.total_concentration - classes) * digamma(self.total_concentration)
            - reduce_sum((self.concentration - 1.0) * digamma(self.concentration), -1)
        )

    def _mean(self) -> Tensor:
        return self.concentration / expand_dims(self.total_concentration, -1)

    def _scaled_mean(self) -> Tensor:
        """The square root of what covariances share, times the mean."""
        return self._mean() / sqrt(1.0 + expand_dims(self.total_concentration, -1))

    def _covariance(self) -> Tensor:
        x = self._scaled_mean()
        return matrix_set_diag(-matmul(expand_dims(x, -1), expand_dims(x, -2)), self._variance())

    def _variance(self) -> Tensor:
        root = sqrt(1.0 + expand_dims(self.total_concentration, -1))
        x = self._scaled_mean()
        return x * (1.0 / root - x)

    def _mode(self) -> Tensor:
        classes = cast(self.event_shape_tensor()[0], self.dtype)
        found = (self.concentration - 1.0) / expand_dims(self.total_concentration - classes, -1)
        above = reduce_all(self.concentration > 1.0, -1, keepdims=True)
        every = logical_and(above, ones_like(found, dtype="bool"))
        return defined(found, every, self.allow_nan_stats, "Mode undefined when any concentration <= 1")


def dirichlet_concentration(value: Any, validate_args: bool) -> Tensor:
    """The parameter of a Dirichlet distribution, checked if asked for."""
    x = convert_to_tensor(value, name="concentration")
    if not validate_args:
        return x
    x.shape.with_rank_at_least(1)
    least = constant(1)
    checks = [
        positive(x, message="Concentration parameter must be positive."),
        assert_less(least, shape(x)[-1], message="Event dimension must be at least 2."),
    ]  # fmt: skip
    return after(checks, x)


@RegisterKL(Dirichlet, Dirichlet)
def _dirichlet_divergence(a: Dirichlet, b: Dirichlet, name: str | None = None) -> Tensor:
    with name_scope(name, "kl_dirichlet_dirichlet", [a.concentration, b.concentration]):
        slope = digamma(a.concentration) - digamma(reduce_sum(a.concentration, -1, keepdims=True))
        difference = reduce_sum((a.concentration - b.concentration) * slope, -1)
        return difference - lbeta(a.concentration) + lbeta(b.concentration)
