"""Random numbers that a seed alone decides: the same ones whenever `seed`, a tensor of two integers, is the same."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.random import gamma_gradient, gamma_parameters, gamma_scaled, shape_tensor
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype

_FULL = (dtypes.int32, dtypes.int64, dtypes.uint32, dtypes.uint64)
_UNIFORM = (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64, *_FULL)


def stateless_random_uniform(
    shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32, name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:  # fmt: skip
    """Uniform numbers in [minval, maxval), of integers all there are if both are None; ValueError for bad bounds."""
    number = as_dtype(dtype)
    _check_bounds(minval, maxval, number)
    if maxval is None:
        maxval = 1
    with name_scope(name, "stateless_random_uniform", [shape, seed, minval, maxval]) as scope:
        dims = shape_tensor(shape)
        if number.is_integer and minval is None:
            return apply_op("StatelessRandomUniformFullInt", shape=dims, seed=seed, dtype=number, name=scope)
        low, high = (
            convert_to_tensor(each, dtype=number, name=label) for each, label in ((minval, "min"), (maxval, "max"))
        )
        if number.is_integer:
            return apply_op("StatelessRandomUniformInt", shape=dims, seed=seed, minval=low, maxval=high, name=scope)
        unit = apply_op("StatelessRandomUniform", shape=dims, seed=seed, dtype=number)
        width = apply_op("Sub", x=high, y=low, name="sub")
        return apply_op("AddV2", x=apply_op("Mul", x=unit, y=width, name="mul"), y=low, name=scope)


def _check_bounds(minval: Any, maxval: Any, number: DType) -> None:
    if number not in _UNIFORM:
        raise ValueError(f"Argument `dtype` got invalid value {number!r}. Accepted dtypes are {_UNIFORM}.")
    if not number.is_integer:
        return
    if (minval is None) != (maxval is None):
        raise ValueError(
            f"For integer `dtype` argument {number!r}, argument `minval` and `maxval` must be both None or not None. "
            f"Must specify maxval; got minval={minval} and maxval={maxval}."
        )
    if minval is not None and number in (dtypes.uint32, dtypes.uint64):
        raise ValueError(
            f"Argument `dtype` got invalid value {number!r} when argument `minval` is not None. "
            "Please don't use unsigned integers in this case."
        )


def _stateless_normal(
    kind: str, default: str, shape: Any, seed: Any, mean: Any, stddev: Any, dtype: Any, name: Any
) -> Tensor:
    with name_scope(name, default, [shape, seed, mean, stddev]) as scope:
        number = as_dtype(dtype)
        dims = shape_tensor(shape)
        center = convert_to_tensor(mean, dtype=number, name="mean")
        spread = convert_to_tensor(stddev, dtype=number, name="stddev")
        drawn = apply_op(kind, shape=dims, seed=seed, dtype=number)
        return apply_op("AddV2", x=apply_op("Mul", x=drawn, y=spread, name="mul"), y=center, name=scope)


def stateless_random_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32, name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:  # fmt: skip
    """Normally distributed numbers, the same ones whenever `seed` (two integers) is the same."""
    return _stateless_normal("StatelessRandomNormal", "stateless_random_normal", shape, seed, mean, stddev, dtype, name)


def stateless_truncated_normal(
    shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32, name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:  # fmt: skip
    """As `stateless_random_normal`, within two standard deviations of the mean."""
    return _stateless_normal(
        "StatelessTruncatedNormal", "stateless_truncated_normal", shape, seed, mean, stddev, dtype, name
    )


def stateless_multinomial(
    logits: Any, num_samples: Any, seed: Any, output_dtype: Any = dtypes.int64, name: str | None = None
) -> Tensor:  # fmt: skip
    """Class numbers drawn with probabilities softmax(logits), the same ones whenever `seed` is the same."""
    with name_scope(name, "stateless_multinomial", [logits, seed]):
        return apply_op(
            "StatelessMultinomial", logits=logits, num_samples=num_samples, seed=seed, output_dtype=output_dtype
        )


def stateless_categorical(
    logits: Any, num_samples: Any, seed: Any, dtype: Any = dtypes.int64, name: str | None = None
) -> Tensor:
    """`stateless_multinomial` under its later name."""
    with name_scope(name, "stateless_categorical", [logits, seed]):
        return stateless_multinomial(logits, num_samples, seed, dtype)


def stateless_random_gamma(
    shape: Any, seed: Any, alpha: Any, beta: Any = None, dtype: Any = dtypes.float32, name: str | None = None
) -> Tensor:  # fmt: skip
    """Gamma distributed numbers; `shape` ends with the broadcast shape of alpha and beta."""
    with name_scope(name, "stateless_random_gamma", [shape, seed, alpha, beta]):
        dims = shape_tensor(shape)
        spread, rate = gamma_parameters(alpha, beta, as_dtype(dtype))
        return gamma_scaled(apply_op("StatelessRandomGammaV2", shape=dims, seed=seed, alpha=spread), rate)


@RegisterGradient("StatelessRandomGammaV2")
def _stateless_random_gamma_grad(op: Operation, grad: Tensor) -> list[Any]:
    return [None, None, gamma_gradient(op.inputs[2], op.outputs[0], grad)]


def stateless_random_poisson(
    shape: Any, seed: Any, lam: Any, dtype: Any = dtypes.int32, name: str | None = None
) -> Tensor:
    """Poisson distributed numbers of rates `lam`; `shape` ends with lam's."""
    with name_scope(name, "stateless_random_poisson", [shape, seed, lam]):
        return apply_op(
            "StatelessRandomPoisson", shape=shape_tensor(shape), seed=seed, lam=lam, dtype=as_dtype(dtype)
        )


def stateless_random_binomial(
    shape: Any, seed: Any, counts: Any, probs: Any, output_dtype: Any = dtypes.int32, name: str | None = None
) -> Tensor:  # fmt: skip
    """How many of `counts` trials succeed; `shape` ends with the broadcast shape of counts and probs."""
    with name_scope(name, "stateless_random_binomial", [shape, seed, counts, probs]):
        dims = shape_tensor(shape)
        chances = convert_to_tensor(probs, preferred_dtype=dtypes.float32, name="probs")
        trials = convert_to_tensor(counts, preferred_dtype=chances.dtype, name="counts")
        return apply_op(
            "StatelessRandomBinomial", shape=dims, seed=seed, counts=trials, probs=chances, dtype=as_dtype(output_dtype)
        )


# --- Seeds of seeds ---


def fold_in(seed: Any, data: Any, alg: Any = "auto_select") -> Tensor:
    """A new seed from one and an integer."""
    number = convert_to_tensor(data)
    first = stateless_random_uniform([], seed, None, None, number.dtype)
    return apply_op("Pack", values=[first, number], axis=0)


def split(seed: Any, num: Any = 2, alg: Any = "auto_select") -> Tensor:
    """`num` new seeds from one: [num, 2]."""
    seed = convert_to_tensor(seed)
    return stateless_random_uniform([num, 2], seed, None, None, seed.dtype)


for _kind in (
    "StatelessRandomUniform", "StatelessRandomUniformInt", "StatelessRandomUniformFullInt", "StatelessRandomNormal",
    "StatelessTruncatedNormal", "StatelessMultinomial", "StatelessRandomPoisson", "StatelessRandomBinomial",
):  # fmt: skip
    NotDifferentiable(_kind)
