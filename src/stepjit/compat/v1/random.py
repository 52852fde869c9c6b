"""tf.random."""

# ruff: noqa: F401, I001

from __future__ import annotations

import importlib
from typing import Any

from stepjit.framework.random_seed import get_seed, set_random_seed
from stepjit.ops.random import (
    categorical, multinomial, random_gamma as gamma, random_normal as normal, random_poisson as poisson,
    random_shuffle as shuffle, random_uniform as uniform, stateless_categorical, stateless_multinomial,
    stateless_random_normal as stateless_normal, stateless_random_uniform as stateless_uniform,
    stateless_truncated_normal, truncated_normal,
)  # fmt: skip

_SAMPLERS = frozenset({
    "all_candidate_sampler", "fixed_unigram_candidate_sampler", "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler", "uniform_candidate_sampler",
})  # fmt: skip


def __getattr__(name: str) -> Any:
    # What not every program uses.
    if name in _SAMPLERS:
        return getattr(importlib.import_module("stepjit.ops.candidate_sampling"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
