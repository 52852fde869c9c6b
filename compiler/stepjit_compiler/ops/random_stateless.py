"""Random numbers that a seed input alone decides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stepjit_compiler import philox
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief, integers
from stepjit_compiler.ops.random import (
    POISSON,
    Draw,
    bounds_of,
    check_categorical,
    count_of,
    multinomial_shape,
    native,
    per_number,
    poissons,
    shape_argument,
    shaped,
    shaped_with_bounds,
)
from stepjit_compiler.philox import Source

# --- StatelessRandomUniform, StatelessRandomNormal, StatelessTruncatedNormal, StatelessRandomUniformFullInt ---


def _seeded(call: Call, seed: np.ndarray) -> Source:
    if seed.shape != (2,):
        call.fail(f"seed must have shape [2], not {brief(seed.shape)}")
    a, b = integers(seed)
    return philox.stateless_source((a, b))


def _check_seed(x: Inference, i: int) -> None:
    (length,) = x.with_rank(i, 1)
    x.equal(length, 2, f"seed must have shape [2], not [{length}]")


def _stateless_shape(x: Inference) -> list[ShapeLike]:
    _check_seed(x, 1)
    return shaped(x)


def _stateless(draw: Draw) -> Callable[..., np.ndarray]:
    def reference(call: Call, shape: np.ndarray, seed: np.ndarray) -> np.ndarray:
        extents = shape_argument(call, shape)
        return draw(_seeded(call, seed), count_of(extents), call.dtypes[0].np).reshape(extents)

    return reference


_STATELESS = "dtype: type in {}, T: type in index = int32, Tseed: type in {} = int64"

for _name, _kind, _draw in (
    ("StatelessRandomUniform", "uniform", philox.uniform), ("StatelessRandomNormal", "normal", philox.normal),
    ("StatelessTruncatedNormal", "truncated_normal", philox.truncated_normal),
):  # fmt: skip
    define(
        _name, "shape: T, seed: Tseed -> output: dtype", _STATELESS.format("float = float32", "index"),
        infer=_stateless_shape, reference=_stateless(_draw), lower=native(_kind, seed=1),
    )  # fmt: skip

define(
    "StatelessRandomUniformFullInt", "shape: T, seed: Tseed -> output: dtype",
    _STATELESS.format("int32|int64|uint32|uint64 = uint64", "int32|int64|uint32|uint64"),
    infer=_stateless_shape, reference=_stateless(philox.full_int), lower=native("full_int", seed=1),
)  # fmt: skip

# --- StatelessRandomUniformInt ---


def _stateless_uniform_int_shape(x: Inference) -> list[ShapeLike]:
    _check_seed(x, 1)
    return shaped_with_bounds(x)


def _stateless_uniform_int(
    call: Call, shape: np.ndarray, seed: np.ndarray, minval: np.ndarray, maxval: np.ndarray
) -> np.ndarray:
    extents, dtype = shape_argument(call, shape), call.dtypes[0].np
    source = _seeded(call, seed)
    if not count_of(extents):
        return np.zeros(extents, dtype)
    low, high = bounds_of(call, minval, maxval)
    return philox.uniform_int(source, count_of(extents), low, high, dtype).reshape(extents)


define(
    "StatelessRandomUniformInt", "shape: T, seed: Tseed, minval: dtype, maxval: dtype -> output: dtype",
    "dtype: type in index, T: type in index, Tseed: type in index = int64",
    infer=_stateless_uniform_int_shape, reference=_stateless_uniform_int,
    lower=native("uniform_int", seed=1),
)  # fmt: skip

# --- StatelessMultinomial ---


def _stateless_multinomial_shape(x: Inference) -> list[ShapeLike]:
    _check_seed(x, 2)
    return multinomial_shape(x)


def _stateless_multinomial(call: Call, logits: np.ndarray, num_samples: np.ndarray, seed: np.ndarray) -> np.ndarray:
    samples = check_categorical(call, logits, num_samples)
    return philox.categorical(_seeded(call, seed), logits, samples).astype(call.dtypes[0].np)


define(
    "StatelessMultinomial", "logits: T, num_samples: int32, seed: Tseed -> output: output_dtype",
    "T: type in real, Tseed: type in index = int64, output_dtype: type in index = int64",
    infer=_stateless_multinomial_shape, reference=_stateless_multinomial, lower=native("classes", seed=2),
)  # fmt: skip

# --- StatelessRandomGammaV2, StatelessRandomPoisson, StatelessRandomBinomial: the shape ends with the parameters' ---

_BAD_ENDING = "Shape passed in must end with broadcasted shape."


def _ends_with(x: Inference, whole: ShapeLike, ending: ShapeLike) -> list[ShapeLike]:
    """A shape that must end with another."""
    if whole is None or ending is None:
        return [whole]
    skip = len(whole) - len(ending)
    if skip < 0:
        x.fail(_BAD_ENDING)
    return [(*whole[:skip], *(x.equal(a, b, _BAD_ENDING) for a, b in zip(whole[skip:], ending)))]


def _with_parameters(x: Inference) -> list[ShapeLike]:
    _check_seed(x, 1)
    (whole,) = shaped(x)
    ending = x.broadcast(*(x.shape(i) for i in range(2, x.count())))
    # What does not fit shows in TensorFlow when the step runs.
    return [whole] if x.building else _ends_with(x, whole, ending)


def _lead(call: Call, shape: np.ndarray, ending: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of the samples."""
    whole = shape_argument(call, shape)
    if len(ending) > len(whole) or whole[len(whole) - len(ending) :] != ending:
        call.fail(_BAD_ENDING)
    return whole[: len(whole) - len(ending)]


def _stateless_gamma(call: Call, shape: np.ndarray, seed: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    lead, source = _lead(call, shape, alpha.shape), _seeded(call, seed)
    return per_number(lambda alphas: philox.gamma(source, alphas), lead, alpha, call.dtypes[0].np)


define(
    "StatelessRandomGammaV2", "shape: T, seed: Tseed, alpha: dtype -> output: dtype",
    "dtype: type in float16|float32|float64, T: type in index, Tseed: type in index = int64",
    infer=_with_parameters, reference=_stateless_gamma, lower=native("gamma", seed=1),
)  # fmt: skip


def _stateless_poisson(call: Call, shape: np.ndarray, seed: np.ndarray, lam: np.ndarray) -> np.ndarray:
    return poissons(_seeded(call, seed), _lead(call, shape, lam.shape), lam, call.dtypes[0].np)


define(
    "StatelessRandomPoisson", "shape: T, seed: Tseed, lam: Rtype -> output: dtype",
    f"Rtype: {POISSON}, dtype: {POISSON}, T: type in index, Tseed: type in index = int64",
    infer=_with_parameters, reference=_stateless_poisson, lower=native("poisson", seed=1),
)  # fmt: skip


def _stateless_binomial(
    call: Call, shape: np.ndarray, seed: np.ndarray, counts: np.ndarray, probs: np.ndarray
) -> np.ndarray:
    try:
        counts, probs = np.broadcast_arrays(counts.astype(np.float64), probs.astype(np.float64))
    except ValueError:
        call.fail(f"counts and probs must have compatible batch dimensions: {counts.shape} vs. {probs.shape}")
    lead, source, dtype = _lead(call, shape, counts.shape), _seeded(call, seed), call.dtypes[0].np
    samples = count_of(lead)
    flat = [np.repeat(each.ravel(), samples) for each in (counts, probs)]
    drawn = philox.binomial(source, *flat)
    if dtype.kind != "f":
        drawn = np.nan_to_num(drawn)
    with np.errstate(all="ignore"):
        drawn = drawn.astype(dtype)
    return np.array(drawn.reshape(counts.size, samples).T).reshape((*lead, *counts.shape))


define(
    "StatelessRandomBinomial", "shape: S, seed: Tseed, counts: T, probs: T -> output: dtype",
    f"S: type in index, Tseed: type in index = int64, T: {POISSON} = float64, dtype: {POISSON} = int64",
    infer=_with_parameters, reference=_stateless_binomial,
)  # fmt: skip
