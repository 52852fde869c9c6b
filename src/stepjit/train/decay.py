"""Learning rates that change with the global step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit_runtime import dtypes


def binary(kind: str, x: Any, y: Any, name: str | None = None) -> Tensor:
    """An op of two inputs."""
    return apply_op(kind, x=x, y=y, name=name)


def as_dtype_of(value: Any, like: Tensor) -> Tensor:
    """A number, tensor, or function that gives one, in the dtype of `like`."""
    tensor = convert_to_tensor(value() if callable(value) else value)
    target = like.dtype.base_dtype
    return tensor if tensor.dtype.base_dtype is target else apply_op("Cast", x=tensor, DstT=target)


def start(learning_rate: Any, global_step: Any) -> Tensor:
    """The rate to begin with; ValueError without a global step."""
    if global_step is None:
        raise ValueError("global_step is required.")
    return convert_to_tensor(learning_rate, name="learning_rate")


def _progress(rate: Tensor, global_step: Any, decay_steps: Any, staircase: bool) -> Tensor:
    ratio = binary("RealDiv", as_dtype_of(global_step, rate), as_dtype_of(decay_steps, rate), "truediv")
    return apply_op("Floor", x=ratio) if staircase else ratio


def exponential_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """learning_rate * decay_rate ** (global_step / decay_steps); ValueError without a global step."""
    with name_scope(name, "ExponentialDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        power = binary("Pow", as_dtype_of(decay_rate, rate), _progress(rate, global_step, decay_steps, staircase))
        return binary("Mul", rate, power, scope)


def natural_exp_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """learning_rate * exp(-decay_rate * global_step / decay_steps)."""
    with name_scope(name, "ExponentialDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        progress = _progress(rate, global_step, decay_steps, staircase)
        exponent = apply_op("Exp", x=binary("Mul", apply_op("Neg", x=as_dtype_of(decay_rate, rate)), progress))
        return binary("Mul", rate, exponent, scope)


def inverse_time_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """learning_rate / (1 + decay_rate * global_step / decay_steps)."""
    with name_scope(name, "InverseTimeDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        progress = _progress(rate, global_step, decay_steps, staircase)
        decayed = binary("Mul", as_dtype_of(decay_rate, rate), progress)
        return binary("RealDiv", rate, binary("AddV2", as_dtype_of(1, rate), decayed), scope)


def polynomial_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, end_learning_rate: Any = 0.0001, power: Any = 1.0,
    cycle: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """From learning_rate to end_learning_rate in `decay_steps`, by a power; `cycle` starts over with a longer decay."""
    with name_scope(name, "PolynomialDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        end, step, steps = (as_dtype_of(each, rate) for each in (end_learning_rate, global_step, decay_steps))
        if cycle:
            rounds = apply_op("Ceil", x=binary("RealDiv", step, steps))
            steps = binary("Mul", steps, binary("Maximum", rounds, as_dtype_of(1, rate)))
        else:
            step = binary("Minimum", step, steps)
        left = binary("Sub", as_dtype_of(1, rate), binary("RealDiv", step, steps))
        decayed = binary("Mul", binary("Sub", rate, end), binary("Pow", left, as_dtype_of(power, rate)))
        return binary("AddV2", decayed, end, scope)


def piecewise_constant(x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None) -> Tensor:
    """values[0] up to boundaries[0], values[1] up to boundaries[1], ..., the last one above.

    ValueError unless there is one more value than boundaries, and for dtypes that differ.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError("The length of boundaries should be 1 less than the length of values")
    with name_scope(name, "PiecewiseConstant", [x]) as scope:
        step = convert_to_tensor(x)
        limits = [_boundary(each, step) for each in boundaries]
        results = [convert_to_tensor(each) for each in values]
        for each in results:
            if each.dtype.base_dtype is not results[0].dtype.base_dtype:
                pair = f"{each.dtype.base_dtype!r} vs {results[0].dtype.base_dtype!r}"
                raise ValueError(f"Values must have elements all with the same dtype ({pair}).")
        result = results[-1]
        for limit, value in reversed(list(zip(limits, results))):
            below = binary("LessEqual", step, limit)
            result = apply_op("SelectV2", condition=below, t=value, e=result)
        return apply_op("Identity", input=result, name=scope)


def _boundary(value: Any, step: Tensor) -> Tensor:
    """A boundary as a tensor; an int32 is one of int64 too, but no other dtype may differ from the step's."""
    boundary, wanted = convert_to_tensor(value), step.dtype.base_dtype
    if boundary.dtype.base_dtype is wanted:
        return boundary
    if (boundary.dtype.base_dtype, wanted) == (dtypes.int32, dtypes.int64):
        return apply_op("Cast", x=boundary, DstT=wanted)
    raise ValueError(f"Boundaries ({boundary.dtype.base_dtype!r}) must have the same dtype as x ({wanted!r}).")


piecewise_constant_decay = piecewise_constant
