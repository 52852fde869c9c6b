"""Random numbers: ops with a stream of their own in each session, and ops that a seed input alone decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler import dims, philox
from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Generate
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show, unchanged
from stepjit_compiler.ops.arguments import brief, fresh, integer, integers, number_input, safe_shape, shape_input
from stepjit_compiler.philox import Source

RESERVED = 256
"""Blocks that a stream moves on for each number, whatever was used."""


def _source(call: Call, blocks: int) -> Source:
    """This execution's part of the op's stream."""
    stream = call.attrs["_stream"]
    return Source(stream.key, stream.counter_hi, stream.take(blocks))


def count_of(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=object)) if shape else 1


def shape_argument(call: Call, shape: np.ndarray) -> tuple[int, ...]:
    if shape.ndim != 1:
        call.fail(f"shape must be a vector of {{int32,int64}}, got shape {brief(shape.shape)}")
    return safe_shape(call, integers(shape))


def _shape(x: Inference) -> ShapeLike:
    """The shape in input 0, which must be a vector."""
    own = x.shape(0)
    if own is not None and len(own) != 1:
        text = f"Shape must be rank 1 but is rank {len(own)}"
        x.fail(text if x.building else f"shape must be a vector of {{int32,int64}}, got shape {show(own)}")
    return shape_input(x, 0)


def shaped(x: Inference) -> list[ShapeLike]:
    return [_shape(x)]


_SEEDS = "seed: int = 0, seed2: int = 0"
Draw = Callable[[Source, int, Any], np.ndarray]


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


def native(distribution: str, seed: int | None = None) -> Generate:
    when = _WHEN.get(distribution, _knows_shape)
    return Generate(distribution, when, seed, _COSTS[distribution])

# --- RandomUniform, RandomStandardNormal, TruncatedNormal ---


def _drawn(draw: Draw) -> Callable[..., np.ndarray]:
    def reference(call: Call, shape: np.ndarray) -> np.ndarray:
        extents = shape_argument(call, shape)
        count = count_of(extents)
        source = _source(call, RESERVED * count)
        return draw(source, count, call.dtypes[0].np).reshape(extents)

    return reference


for _name, _kind, _draw in (
    ("RandomUniform", "uniform", philox.uniform), ("RandomStandardNormal", "normal", philox.normal),
    ("TruncatedNormal", "truncated_normal", philox.truncated_normal),
):  # fmt: skip
    define(
        _name, "shape: T -> output: dtype", f"{_SEEDS}, dtype: type in float, T: type in index",
        infer=shaped, reference=_drawn(_draw), stateful=True, lower=native(_kind),
    )  # fmt: skip

# --- RandomUniformInt ---


def bounds_of(call: Call, minval: np.ndarray, maxval: np.ndarray) -> tuple[int, int]:
    for name, each in (("minval", minval), ("maxval", maxval)):
        if each.ndim:
            call.fail(f"{name} must be 0-D, got shape {brief(each.shape)}")
    low, high = integer(minval), integer(maxval)
    if low >= high:
        call.fail(f"Need minval < maxval, got {low} >= {high}")
    return low, high


def _random_uniform_int(call: Call, shape: np.ndarray, minval: np.ndarray, maxval: np.ndarray) -> np.ndarray:
    extents, dtype = shape_argument(call, shape), call.dtypes[0].np
    count = count_of(extents)
    if not count:
        return np.zeros(extents, dtype)
    low, high = bounds_of(call, minval, maxval)
    source = _source(call, RESERVED * count)
    return philox.uniform_int(source, count, low, high, dtype).reshape(extents)


def shaped_with_bounds(x: Inference) -> list[ShapeLike]:
    for i in (x.count() - 2, x.count() - 1):
        x.with_rank(i, 0)
    return shaped(x)


define(
    "RandomUniformInt", "shape: T, minval: Tout, maxval: Tout -> output: Tout",
    f"{_SEEDS}, Tout: type in index, T: type in index",
    infer=shaped_with_bounds, reference=_random_uniform_int, stateful=True, lower=native("uniform_int"),
)  # fmt: skip

# --- RandomShuffle ---


def _random_shuffle(call: Call, value: np.ndarray) -> np.ndarray:
    if value.ndim == 0 or value.shape[0] <= 1:
        return fresh(value)
    rows = value.shape[0]
    return value[philox.shuffled(_source(call, -(-(rows - 1) // 4)), rows)]


define(
    "RandomShuffle", "value: T -> output: T", f"{_SEEDS}, T: type",
    infer=unchanged, reference=_random_shuffle, stateful=True, lower=native("shuffled"),
)  # fmt: skip

# --- RandomGamma ---


def _per_parameter(x: Inference) -> list[ShapeLike]:
    shape, parameter = _shape(x), x.shape(1)
    return [None if shape is None or parameter is None else (*shape, *parameter)]


def per_number(
    draw: Callable[[np.ndarray], np.ndarray], lead: tuple[int, ...], parameter: np.ndarray, dtype: Any
) -> np.ndarray:
    """[*lead, *parameter's shape]: stretches are counted parameter by parameter, one's samples after the other."""
    samples = count_of(lead)
    with np.errstate(all="ignore"):
        drawn = draw(np.repeat(parameter.astype(np.float64).ravel(), samples)).astype(dtype)
    return fresh(drawn.reshape(parameter.size, samples).T).reshape((*lead, *parameter.shape))


def _random_gamma(call: Call, shape: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    lead = shape_argument(call, shape)
    source = _source(call, RESERVED * count_of(lead) * alpha.size)
    return per_number(lambda alphas: philox.gamma(source, alphas), lead, alpha, call.dtypes[0].np)


define(
    "RandomGamma", "shape: S, alpha: T -> output: T",
    f"{_SEEDS}, S: type in index, T: type in float16|float32|float64",
    infer=_per_parameter, reference=_random_gamma, stateful=True, lower=native("gamma"),
)  # fmt: skip

# --- RandomPoisson, RandomPoissonV2 ---


def poissons(source: Source, lead: tuple[int, ...], rate: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Poisson numbers of shape [*lead, *rate's shape]."""
    top = philox.largest(dtype)

    def draw(rates: np.ndarray) -> np.ndarray:
        drawn = philox.poisson(source, rates, top)
        return drawn if dtype.kind == "f" else np.minimum(np.nan_to_num(drawn), top)

    return per_number(draw, lead, rate, dtype)


def _random_poisson(call: Call, shape: np.ndarray, rate: np.ndarray) -> np.ndarray:
    lead = shape_argument(call, shape)
    return poissons(_source(call, RESERVED * count_of(lead) * rate.size), lead, rate, call.dtypes[0].np)


define(
    "RandomPoisson", "shape: S, rate: dtype -> output: dtype",
    f"{_SEEDS}, S: type in index, dtype: type in float16|float32|float64",
    infer=_per_parameter, reference=_random_poisson, stateful=True, lower=native("poisson"),
)  # fmt: skip

POISSON = "type in float16|float32|float64|int32|int64"

define(
    "RandomPoissonV2", "shape: S, rate: R -> output: dtype",
    f"{_SEEDS}, S: type in index, R: {POISSON} = float64, dtype: {POISSON} = int64",
    infer=_per_parameter, reference=_random_poisson, stateful=True, lower=native("poisson"),
)  # fmt: skip

# --- Multinomial ---


def multinomial_shape(x: Inference) -> list[ShapeLike]:
    rows, _ = x.with_rank(0, 2)
    x.with_rank(1, 0)
    samples: Extent | None = number_input(x, 1)
    if isinstance(samples, int) and samples < 0:
        x.fail(f"num_samples should be non-negative, got {samples}")
    return [(rows, samples)]


def check_categorical(call: Call, logits: np.ndarray, num_samples: np.ndarray) -> int:
    if logits.ndim != 2:
        call.fail(f"logits should be a matrix, got shape {brief(logits.shape)}")
    samples = integer(num_samples)
    if samples < 0:
        call.fail(f"num_samples should be non-negative, got {samples}")
    if logits.shape[0] and logits.shape[1] == 0:
        call.fail("num_classes should be positive, got 0")
    return samples


def _multinomial(call: Call, logits: np.ndarray, num_samples: np.ndarray) -> np.ndarray:
    samples = check_categorical(call, logits, num_samples)
    source = _source(call, RESERVED * 2 * logits.shape[0] * -(-samples // 4) * 4)
    return philox.categorical(source, logits, samples).astype(call.dtypes[0].np)


define(
    "Multinomial", "logits: T, num_samples: int32 -> output: output_dtype",
    f"{_SEEDS}, T: type in real, output_dtype: type in index = int64",
    infer=multinomial_shape, reference=_multinomial, stateful=True, lower=native("classes"),
)  # fmt: skip
