"""tf.random."""

# ruff: noqa: F401, I001

from __future__ import annotations

import importlib
from typing import Any

from stepjit.framework.random_seed import get_seed, set_random_seed
from stepjit.ops.random import (
    categorical, multinomial, random_gamma as gamma, random_normal as normal, random_poisson as poisson,
    random_shuffle as shuffle, random_uniform as uniform, truncated_normal,
)  # fmt: skip

_SAMPLERS = frozenset({
    "all_candidate_sampler", "fixed_unigram_candidate_sampler", "learned_unigram_candidate_sampler",
    "log_uniform_candidate_sampler", "uniform_candidate_sampler",
})  # fmt: skip
_STATELESS = {
    "fold_in": "fold_in", "split": "split", "stateless_binomial": "stateless_random_binomial",
    "stateless_categorical": "stateless_categorical", "stateless_gamma": "stateless_random_gamma",
    "stateless_multinomial": "stateless_multinomial", "stateless_normal": "stateless_random_normal",
    "stateless_poisson": "stateless_random_poisson", "stateless_truncated_normal": "stateless_truncated_normal",
    "stateless_uniform": "stateless_random_uniform",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # What not every program uses.
    if name in _SAMPLERS:
        return getattr(importlib.import_module("stepjit.ops.candidate_sampling"), name)
    if name in _STATELESS:
        return getattr(importlib.import_module("stepjit.ops.random_stateless"), _STATELESS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SAMPLERS, *_STATELESS})
