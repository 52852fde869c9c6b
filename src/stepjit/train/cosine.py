"""Learning rates that fall along cosines."""

from __future__ import annotations

import math
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.random import random_normal
from stepjit.train.decay import as_dtype_of, binary, start


def _wave(turns: Tensor) -> Tensor:
    """(1 + cos(pi turns)) / 2"""
    angle = binary("Mul", constant(math.pi, dtype=turns.dtype.base_dtype), turns)
    return binary("Mul", as_dtype_of(0.5, turns), binary("AddV2", as_dtype_of(1, turns), apply_op("Cos", x=angle)))


def _floored(rate: Tensor, part: Tensor, alpha: Any, scope: str) -> Tensor:
    """rate * ((1 - alpha) * part + alpha)"""
    floor = as_dtype_of(alpha, rate)
    above = binary("Mul", binary("Sub", as_dtype_of(1, rate), floor), part)
    return binary("Mul", rate, binary("AddV2", above, floor), scope)


def cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, alpha: Any = 0.0, name: str | None = None
) -> Tensor:
    """From learning_rate to alpha * learning_rate along half a cosine in `decay_steps`."""
    with name_scope(name, "CosineDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        steps = as_dtype_of(decay_steps, rate)
        done = binary("RealDiv", binary("Minimum", as_dtype_of(global_step, rate), steps), steps)
        return _floored(rate, _wave(done), alpha, scope)


def cosine_decay_restarts(
    learning_rate: Any, global_step: Any, first_decay_steps: Any, t_mul: Any = 2.0, m_mul: Any = 1.0,
    alpha: Any = 0.0, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Cosine decays one after the other: each `t_mul` times as long as the one before, from `m_mul` times its start."""
    with name_scope(name, "SGDRDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        one, longer = as_dtype_of(1, rate), as_dtype_of(t_mul, rate)
        done = binary("RealDiv", as_dtype_of(global_step, rate), as_dtype_of(first_decay_steps, rate))
        even = apply_op("Floor", x=done)
        # Of periods that grow: how many are over, and how much of the present one.
        shrinking = binary("Sub", one, longer)
        grown = apply_op("Log", x=binary("Sub", one, binary("Mul", done, shrinking)))
        period = apply_op("Floor", x=binary("RealDiv", grown, apply_op("Log", x=longer)))
        length = binary("Pow", longer, period)
        before = binary("RealDiv", binary("Sub", one, length), shrinking)
        within = binary("RealDiv", binary("Sub", done, before), length)
        same = binary("Equal", longer, one)
        period = apply_op("SelectV2", condition=same, t=even, e=period)
        within = apply_op("SelectV2", condition=same, t=binary("Sub", done, even), e=within)
        height = binary("Pow", as_dtype_of(m_mul, rate), period)
        return _floored(rate, binary("Mul", height, _wave(within)), alpha, scope)


def linear_cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, num_periods: Any = 0.5, alpha: Any = 0.0,
    beta: Any = 0.001, name: str | None = None,
) -> Tensor:  # fmt: skip
    """learning_rate * ((alpha + linear decay) * cosine of `num_periods` periods + beta)."""
    with name_scope(name, "LinearCosineDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        step, steps = _bounded(global_step, decay_steps, rate)
        return _linear_cosine(rate, step, steps, _left(step, steps), (num_periods, alpha, beta), scope)


def noisy_linear_cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, initial_variance: Any = 1.0, variance_decay: Any = 0.55,
    num_periods: Any = 0.5, alpha: Any = 0.0, beta: Any = 0.001, name: str | None = None,
) -> Tensor:  # fmt: skip
    """As `linear_cosine_decay`, with normal noise of variance initial_variance / (1 + step) ** variance_decay."""
    with name_scope(name, "NoisyLinearCosineDecay", [learning_rate, global_step]) as scope:
        rate = start(learning_rate, global_step)
        step, steps = _bounded(global_step, decay_steps, rate)
        fading = binary("Pow", binary("AddV2", as_dtype_of(1, rate), step), as_dtype_of(variance_decay, rate))
        variance = binary("RealDiv", as_dtype_of(initial_variance, rate), fading)
        noise = random_normal((), stddev=apply_op("Sqrt", x=variance), dtype=rate.dtype.base_dtype)
        left = binary("AddV2", _left(step, steps), noise)
        return _linear_cosine(rate, step, steps, left, (num_periods, alpha, beta), scope)


def _bounded(global_step: Any, decay_steps: Any, rate: Tensor) -> tuple[Tensor, Tensor]:
    steps = as_dtype_of(decay_steps, rate)
    return binary("Minimum", as_dtype_of(global_step, rate), steps), steps


def _left(step: Tensor, steps: Tensor) -> Tensor:
    return binary("RealDiv", binary("Sub", steps, step), steps)


def _linear_cosine(
    rate: Tensor, step: Tensor, steps: Tensor, left: Tensor, shape: tuple[Any, Any, Any], scope: str
) -> Tensor:
    periods, alpha, beta = (as_dtype_of(each, rate) for each in shape)
    turns = binary("Mul", binary("Mul", as_dtype_of(2, rate), periods), binary("RealDiv", step, steps))
    decayed = binary("Mul", binary("AddV2", alpha, left), _wave(turns))
    return binary("Mul", rate, binary("AddV2", decayed, beta), scope)
