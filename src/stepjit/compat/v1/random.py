"""tf.random."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.framework.random_seed import get_seed, set_random_seed
from stepjit.ops.random import (
    categorical, multinomial, random_gamma as gamma, random_normal as normal, random_poisson as poisson,
    random_shuffle as shuffle, random_uniform as uniform, stateless_categorical, stateless_multinomial,
    stateless_random_normal as stateless_normal, stateless_random_uniform as stateless_uniform,
    stateless_truncated_normal, truncated_normal,
)  # fmt: skip
