"""tf.distributions."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.distributions.base import (
    Distribution, FULLY_REPARAMETERIZED, NOT_REPARAMETERIZED, RegisterKL, ReparameterizationType, kl_divergence,
)  # fmt: skip
from stepjit.distributions.discrete import Bernoulli, Categorical, DirichletMultinomial, Multinomial
from stepjit.distributions.gammas import Beta, Dirichlet, Exponential, Gamma
from stepjit.distributions.location_scale import Laplace, Normal, StudentT, Uniform
