"""Random numbers: ops with a stream of their own in each session, and ops that a seed input alone decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler import dims, philox
from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Generate
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, unchanged
from stepjit_compiler.ops.arguments import brief, fresh, integer, integers, number_input, safe_shape, shape_input
from stepjit_compiler.philox import Source

RESERVED = 256
"""Blocks that a stream moves on for each number, whatever was used."""


def _source(call: Call, blocks: int) -> Source:
    """This execution's part of the op's stream."""
    stream = call.attrs["_stream"]
    return Source(stream.key, stream.counter_hi, stream.take(blocks))


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=object)) if shape else 1


def _shape_argument(call: Call, shape: np.ndarray) -> tuple[int, ...]:
    if shape.ndim > 1:
        call.fail(f"shape must be a vector of integers, got shape {brief(shape.shape)}")
    return safe_shape(call, integers(shape))


def _shaped(x: Inference) -> list[ShapeLike]:
    return [shape_input(x, 0)]


_SEEDS = "seed: int = 0, seed2: int = 0"
_Draw = Callable[[Source, int, Any], np.ndarray]


def _knows_shape(call: Any) -> bool:
    return call.known(0) is not None and len(call.inputs[0].dims) == 1


def _knows_sound_bounds(call: Any) -> bool:
    """Whether the shape is known, and the bounds are not known to be none: then the reference tells."""
    bounds = call.known(call.count - 2), call.known(call.count - 1)
    low, high = (None if each is None else each.item() for each in bounds)
    bad = isinstance(low, int) and isinstance(high, int) and low >= high
    return _knows_shape(call) and not bad


def _has_rows(call: Any) -> bool:
    return bool(call.inputs[0].dims)


def _knows_samples(call: Any) -> bool:
    """Whether the number of samples is known and surely sound, and there surely are classes to choose from."""
    known, classes = call.known(1), call.inputs[0].dims[1]
    return known is not None and dims.is_natural(known.item()) and isinstance(classes, int) and classes > 0


_WHEN = {"uniform_int": _knows_sound_bounds, "classes": _knows_samples, "shuffled": _has_rows}
_COSTS = {
    "uniform": 8.0, "uniform_int": 16.0, "full_int": 8.0, "normal": 24.0, "truncated_normal": 48.0, "classes": 400.0,
    "shuffled": 32.0, "gamma": 400.0, "poisson": 300.0,
}  # fmt: skip


def _native(distribution: str, seed: int | None = None) -> Generate:
    when = _WHEN.get(distribution, _knows_shape)
    return Generate(distribution, when, seed, _COSTS[distribution])

# --- RandomUniform, RandomStandardNormal, TruncatedNormal ---


def _drawn(draw: _Draw) -> Callable[..., np.ndarray]:
    def reference(call: Call, shape: np.ndarray) -> np.ndarray:
        extents = _shape_argument(call, shape)
        count = _count(extents)
        source = _source(call, RESERVED * count)
        return draw(source, count, call.dtypes[0].np).reshape(extents)

    return reference


for _name, _kind, _draw in (
    ("RandomUniform", "uniform", philox.uniform), ("RandomStandardNormal", "normal", philox.normal),
    ("TruncatedNormal", "truncated_normal", philox.truncated_normal),
):  # fmt: skip
    define(
        _name, "shape: T -> output: dtype", f"{_SEEDS}, dtype: type in float, T: type in index",
        infer=_shaped, reference=_drawn(_draw), stateful=True, lower=_native(_kind),
    )  # fmt: skip

# --- RandomUniformInt ---


def _bounds(call: Call, minval: np.ndarray, maxval: np.ndarray) -> tuple[int, int]:
    for name, each in (("minval", minval), ("maxval", maxval)):
        if each.ndim:
            call.fail(f"{name} must be 0-D, got shape {brief(each.shape)}")
    low, high = integer(minval), integer(maxval)
    if low >= high:
        call.fail(f"Need minval < maxval, got {low} >= {high}")
    return low, high


def _random_uniform_int(call: Call, shape: np.ndarray, minval: np.ndarray, maxval: np.ndarray) -> np.ndarray:
    extents, dtype = _shape_argument(call, shape), call.dtypes[0].np
    count = _count(extents)
    if not count:
        return np.zeros(extents, dtype)
    low, high = _bounds(call, minval, maxval)
    source = _source(call, RESERVED * count)
    return philox.uniform_int(source, count, low, high, dtype).reshape(extents)


def _shaped_with_bounds(x: Inference) -> list[ShapeLike]:
    for i in (x.count() - 2, x.count() - 1):
        x.with_rank(i, 0)
    return _shaped(x)


define(
    "RandomUniformInt", "shape: T, minval: Tout, maxval: Tout -> output: Tout",
    f"{_SEEDS}, Tout: type in index, T: type in index",
    infer=_shaped_with_bounds, reference=_random_uniform_int, stateful=True, lower=_native("uniform_int"),
)  # fmt: skip

# --- RandomShuffle ---


def _random_shuffle(call: Call, value: np.ndarray) -> np.ndarray:
    if value.ndim == 0 or value.shape[0] <= 1:
        return fresh(value)
    rows = value.shape[0]
    return value[philox.shuffled(_source(call, -(-(rows - 1) // 4)), rows)]


define(
    "RandomShuffle", "value: T -> output: T", f"{_SEEDS}, T: type",
    infer=unchanged, reference=_random_shuffle, stateful=True, lower=_native("shuffled"),
)  # fmt: skip

# --- RandomGamma ---


def _per_parameter(x: Inference) -> list[ShapeLike]:
    shape, parameter = shape_input(x, 0), x.shape(1)
    return [None if shape is None or parameter is None else (*shape, *parameter)]


def _random_gamma(call: Call, shape: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    lead = _shape_argument(call, shape)
    samples = _count(lead)
    source = _source(call, RESERVED * samples * alpha.size)
    # Stretches of blocks are counted alpha by alpha, the samples of one after the other.
    alphas = np.repeat(alpha.astype(np.float64).ravel(), samples)
    with np.errstate(all="ignore"):
        drawn = philox.gamma(source, alphas).astype(call.dtypes[0].np)
    return fresh(drawn.reshape(alpha.size, samples).T).reshape((*lead, *alpha.shape))


define(
    "RandomGamma", "shape: S, alpha: T -> output: T",
    f"{_SEEDS}, S: type in index, T: type in float16|float32|float64",
    infer=_per_parameter, reference=_random_gamma, stateful=True, lower=_native("gamma"),
)  # fmt: skip

# --- RandomPoisson, RandomPoissonV2 ---


def _poissons(call: Call, source: Source, lead: tuple[int, ...], rate: np.ndarray) -> np.ndarray:
    """[*lead, *rate's shape]: stretches of blocks are counted rate by rate, the samples of one after the other."""
    dtype, samples = call.dtypes[0].np, _count(lead)
    top = float(np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max)
    drawn = philox.poisson(source, np.repeat(rate.astype(np.float64).ravel(), samples), top)
    if dtype.kind != "f":
        # The cast of the largest one overflows where it has no exact float64.
        drawn = np.where(drawn >= top, np.iinfo(dtype).max, np.nan_to_num(drawn).astype(dtype))
    with np.errstate(all="ignore"):
        drawn = drawn.astype(dtype)
    return fresh(drawn.reshape(rate.size, samples).T).reshape((*lead, *rate.shape))


def _random_poisson(call: Call, shape: np.ndarray, rate: np.ndarray) -> np.ndarray:
    lead = _shape_argument(call, shape)
    return _poissons(call, _source(call, RESERVED * _count(lead) * rate.size), lead, rate)


define(
    "RandomPoisson", "shape: S, rate: dtype -> output: dtype",
    f"{_SEEDS}, S: type in index, dtype: type in float16|float32|float64",
    infer=_per_parameter, reference=_random_poisson, stateful=True, lower=_native("poisson"),
)  # fmt: skip

_POISSON = "type in float16|float32|float64|int32|int64"

define(
    "RandomPoissonV2", "shape: S, rate: R -> output: dtype",
    f"{_SEEDS}, S: type in index, R: {_POISSON} = float64, dtype: {_POISSON} = int64",
    infer=_per_parameter, reference=_random_poisson, stateful=True, lower=_native("poisson"),
)  # fmt: skip

# --- Multinomial ---


def _multinomial_shape(x: Inference) -> list[ShapeLike]:
    rows, _ = x.with_rank(0, 2)
    x.with_rank(1, 0)
    samples: Extent | None = number_input(x, 1)
    if isinstance(samples, int) and samples < 0:
        x.fail(f"num_samples should be non-negative, got {samples}")
    return [(rows, samples)]


def _check_categorical(call: Call, logits: np.ndarray, num_samples: np.ndarray) -> int:
    if logits.ndim != 2:
        call.fail(f"logits should be a matrix, got shape {brief(logits.shape)}")
    samples = integer(num_samples)
    if samples < 0:
        call.fail(f"num_samples should be non-negative, got {samples}")
    if logits.shape[0] and logits.shape[1] == 0:
        call.fail("num_classes should be positive, got 0")
    return samples


def _multinomial(call: Call, logits: np.ndarray, num_samples: np.ndarray) -> np.ndarray:
    samples = _check_categorical(call, logits, num_samples)
    source = _source(call, RESERVED * 2 * logits.shape[0] * -(-samples // 4) * 4)
    return philox.categorical(source, logits, samples).astype(call.dtypes[0].np)


define(
    "Multinomial", "logits: T, num_samples: int32 -> output: output_dtype",
    f"{_SEEDS}, T: type in real, output_dtype: type in index = int64",
    infer=_multinomial_shape, reference=_multinomial, stateful=True, lower=_native("classes"),
)  # fmt: skip

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
    return _shaped(x)


def _stateless(draw: _Draw) -> Callable[..., np.ndarray]:
    def reference(call: Call, shape: np.ndarray, seed: np.ndarray) -> np.ndarray:
        extents = _shape_argument(call, shape)
        return draw(_seeded(call, seed), _count(extents), call.dtypes[0].np).reshape(extents)

    return reference


_STATELESS = "dtype: type in {}, T: type in index = int32, Tseed: type in {} = int64"

for _name, _kind, _draw in (
    ("StatelessRandomUniform", "uniform", philox.uniform), ("StatelessRandomNormal", "normal", philox.normal),
    ("StatelessTruncatedNormal", "truncated_normal", philox.truncated_normal),
):  # fmt: skip
    define(
        _name, "shape: T, seed: Tseed -> output: dtype", _STATELESS.format("float = float32", "index"),
        infer=_stateless_shape, reference=_stateless(_draw), lower=_native(_kind, seed=1),
    )  # fmt: skip

define(
    "StatelessRandomUniformFullInt", "shape: T, seed: Tseed -> output: dtype",
    _STATELESS.format("int32|int64|uint32|uint64 = uint64", "int32|int64|uint32|uint64"),
    infer=_stateless_shape, reference=_stateless(philox.full_int), lower=_native("full_int", seed=1),
)  # fmt: skip

# --- StatelessRandomUniformInt ---


def _stateless_uniform_int_shape(x: Inference) -> list[ShapeLike]:
    _check_seed(x, 1)
    return _shaped_with_bounds(x)


def _stateless_uniform_int(
    call: Call, shape: np.ndarray, seed: np.ndarray, minval: np.ndarray, maxval: np.ndarray
) -> np.ndarray:
    extents, dtype = _shape_argument(call, shape), call.dtypes[0].np
    source = _seeded(call, seed)
    if not _count(extents):
        return np.zeros(extents, dtype)
    low, high = _bounds(call, minval, maxval)
    return philox.uniform_int(source, _count(extents), low, high, dtype).reshape(extents)


define(
    "StatelessRandomUniformInt", "shape: T, seed: Tseed, minval: dtype, maxval: dtype -> output: dtype",
    "dtype: type in index, T: type in index, Tseed: type in index = int64",
    infer=_stateless_uniform_int_shape, reference=_stateless_uniform_int,
    lower=_native("uniform_int", seed=1),
)  # fmt: skip

# --- StatelessMultinomial ---


def _stateless_multinomial_shape(x: Inference) -> list[ShapeLike]:
    _check_seed(x, 2)
    return _multinomial_shape(x)


def _stateless_multinomial(call: Call, logits: np.ndarray, num_samples: np.ndarray, seed: np.ndarray) -> np.ndarray:
    samples = _check_categorical(call, logits, num_samples)
    return philox.categorical(_seeded(call, seed), logits, samples).astype(call.dtypes[0].np)


define(
    "StatelessMultinomial", "logits: T, num_samples: int32, seed: Tseed -> output: output_dtype",
    "T: type in real, Tseed: type in index = int64, output_dtype: type in index = int64",
    infer=_stateless_multinomial_shape, reference=_stateless_multinomial, lower=_native("classes", seed=2),
)  # fmt: skip
