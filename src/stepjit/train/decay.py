"""Learning rates that change with the global step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor


def _op(kind: str, x: Any, y: Any, name: str | None = None) -> Tensor:
    return apply_op(kind, x=x, y=y, name=name)


def _as(value: Any, like: Tensor) -> Tensor:
    tensor = convert_to_tensor(value() if callable(value) else value)
    target = like.dtype.base_dtype
    return tensor if tensor.dtype.base_dtype is target else apply_op("Cast", x=tensor, DstT=target)


def _start(learning_rate: Any, global_step: Any) -> Tensor:
    if global_step is None:
        raise ValueError("global_step is required.")
    return convert_to_tensor(learning_rate, name="learning_rate")


def _progress(rate: Tensor, global_step: Any, decay_steps: Any, staircase: bool) -> Tensor:
    ratio = _op("RealDiv", _as(global_step, rate), _as(decay_steps, rate), "truediv")
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
        rate = _start(learning_rate, global_step)
        power = _op("Pow", _as(decay_rate, rate), _progress(rate, global_step, decay_steps, staircase))
        return _op("Mul", rate, power, scope)


def natural_exp_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """learning_rate * exp(-decay_rate * global_step / decay_steps)."""
    with name_scope(name, "NaturalExpDecay", [learning_rate, global_step]) as scope:
        rate = _start(learning_rate, global_step)
        progress = _progress(rate, global_step, decay_steps, staircase)
        exponent = apply_op("Exp", x=_op("Mul", apply_op("Neg", x=_as(decay_rate, rate)), progress))
        return _op("Mul", rate, exponent, scope)


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
        rate = _start(learning_rate, global_step)
        progress = _progress(rate, global_step, decay_steps, staircase)
        return _op("RealDiv", rate, _op("AddV2", _as(1, rate), _op("Mul", _as(decay_rate, rate), progress)), scope)


def polynomial_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, end_learning_rate: Any = 0.0001, power: Any = 1.0,
    cycle: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """From learning_rate to end_learning_rate in `decay_steps`, by a power; `cycle` starts over with a longer decay."""
    with name_scope(name, "PolynomialDecay", [learning_rate, global_step]) as scope:
        rate = _start(learning_rate, global_step)
        end, step, steps = _as(end_learning_rate, rate), _as(global_step, rate), _as(decay_steps, rate)
        if cycle:
            rounds = apply_op("Ceil", x=_op("RealDiv", step, steps))
            steps = _op("Mul", steps, _op("Maximum", rounds, _as(1, rate)))
        else:
            step = _op("Minimum", step, steps)
        left = _op("Sub", _as(1, rate), _op("RealDiv", step, steps))
        return _op("AddV2", _op("Mul", _op("Sub", rate, end), _op("Pow", left, _as(power, rate))), end, scope)


def cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, alpha: Any = 0.0, name: str | None = None
) -> Tensor:
    """From learning_rate to alpha * learning_rate along half a cosine in `decay_steps`."""
    with name_scope(name, "CosineDecay", [learning_rate, global_step]) as scope:
        rate = _start(learning_rate, global_step)
        steps = _as(decay_steps, rate)
        done = _op("RealDiv", _op("Minimum", _as(global_step, rate), steps), steps)
        wave = apply_op("Cos", x=_op("Mul", constant(math.pi, dtype=rate.dtype.base_dtype), done))
        half = _op("Mul", _as(0.5, rate), _op("AddV2", _as(1, rate), wave))
        floor = _as(alpha, rate)
        return _op("Mul", rate, _op("AddV2", _op("Mul", _op("Sub", _as(1, rate), floor), half), floor), scope)


def piecewise_constant(x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None) -> Tensor:
    """values[0] up to boundaries[0], values[1] up to boundaries[1], ..., the last one above.

    ValueError unless there is one more value than boundaries.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError("The length of boundaries should be 1 less than the length of values")
    with name_scope(name, "PiecewiseConstant", [x]) as scope:
        step = convert_to_tensor(x)
        result = convert_to_tensor(values[-1])
        for boundary, value in reversed(list(zip(boundaries, values))):
            below = _op("LessEqual", step, convert_to_tensor(boundary, dtype=step.dtype.base_dtype))
            result = apply_op("SelectV2", condition=below, t=_as(value, result), e=result)
        return apply_op("Identity", input=result, name=scope)


piecewise_constant_decay = piecewise_constant
