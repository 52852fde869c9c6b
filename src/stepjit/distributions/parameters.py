"""How distributions take their parameters: converted, checked, with one dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.ops.activations import softmax
from stepjit.ops.array import broadcast_dynamic_shape, broadcast_static_shape, shape
from stepjit.ops.assertions import (
    assert_equal,
    assert_less,
    assert_less_equal,
    assert_non_negative,
    assert_positive,
    assert_same_float_dtype,
)  # fmt: skip
from stepjit.ops.cast import cast
from stepjit.ops.comparison import where
from stepjit.ops.control import identity
from stepjit.ops.creation import fill
from stepjit.ops.elementwise import lgamma, log, log1p, sigmoid
from stepjit.ops.reductions import reduce_sum
from stepjit_runtime import dtypes

positive, non_negative, less, less_equal = assert_positive, assert_non_negative, assert_less, assert_less_equal


def parameter(value: Any, name: str, checks: Sequence[Any] = ()) -> Tensor:
    """A parameter as a tensor of that name, once the checks hold."""
    with control_dependencies(checks):
        return identity(value, name=name)


def same_floats(*tensors: Tensor) -> None:
    """ValueError unless all are floats of one dtype."""
    assert_same_float_dtype(list(tensors))


def both_static(a: Tensor, b: Tensor) -> TensorShape:
    """What is known of the shape that two parameters broadcast to."""
    return broadcast_static_shape(a.shape, b.shape)


def both_dynamic(a: Tensor, b: Tensor) -> Tensor:
    """The shape that two parameters broadcast to."""
    return broadcast_dynamic_shape(shape(a), shape(b))


def after(checks: Sequence[Any], x: Tensor) -> Tensor:
    """`x`, once all checks hold."""
    if not checks:
        return x
    with control_dependencies(checks):
        return identity(x)


def whole(x: Tensor) -> list[Any]:
    """Checks that all elements are whole numbers, if they aren't by dtype."""
    if x.dtype.is_integer:
        return []
    rounded = apply_op("Round", x=x)
    return [assert_equal(x, rounded, message="value has non-integer components.")]


def defined(value: Tensor, condition: Tensor, allow_nan: bool, message: str) -> Tensor:
    """A statistic where it is defined: else NaN, or (not allow_nan) an error when the step runs."""
    if allow_nan:
        nan = fill(shape(value), constant(math.nan, dtype=value.dtype.base_dtype))
        return where(condition, value, nan)
    one = cast(condition, dtypes.int32)
    return after([assert_equal(one, constant(1), message=message)], value)


def log_combinations(n: Tensor, counts: Tensor) -> Tensor:
    """The logarithm of how many sequences of n draws have these counts along the last axis."""
    return lgamma(n + 1.0) - reduce_sum(lgamma(counts + 1.0), [-1])


def logits_and_probs(
    logits: Any, probs: Any, multidimensional: bool, validate_args: bool, name: str
) -> tuple[Tensor, Tensor]:
    """Both of what was given as one of them; ValueError for both or none, TypeError for integers.

    multidimensional: the last axis are classes; else each element is the chance of one of two.
    """
    with name_scope(name, values=[logits, probs]):
        if (probs is None) == (logits is None):
            raise ValueError("Must pass probs or logits, but not both.")
        if probs is None:
            given = convert_to_tensor(logits, name="logits")
            if not given.dtype.is_floating:
                raise TypeError("logits must having floating type.")
            return given, softmax(given, name="probs") if multidimensional else sigmoid(given, name="probs")
        given = convert_to_tensor(probs, name="probs")
        if not given.dtype.is_floating:
            raise TypeError("probs must having floating type.")
        if validate_args:
            given = after(_chance_checks(given, multidimensional), given)
        with name_scope("logits"):
            return (log(given) if multidimensional else log(given) - log1p(-given)), given


def _chance_checks(probs: Tensor, multidimensional: bool) -> list[Any]:
    one = constant(1.0, dtype=probs.dtype.base_dtype)
    checks = [assert_non_negative(probs)]
    if multidimensional:
        total = reduce_sum(probs, [-1])
        near = apply_op("Abs", x=total - one)
        kind = probs.dtype.base_dtype
        limit = constant(10 * float(np.finfo(kind.np).eps), kind)
        return [*checks, assert_less_equal(near, limit, message="probs does not sum to 1.")]
    return [*checks, assert_less_equal(probs, one, message="probs has components greater than 1.")]
