"""sinh, cosh, tanh and their inverses for float32 and float64.

tanh is t / (t + 2) with t = expm1(2|x|). sinh and cosh are E -+ 1/(4E) with E = exp(|x|)/2, which does not overflow
before the result; sinh below 1 is x + x z P(z), z = x^2, with P a minimax fit (Remez, relative error) of
(sinh(sqrt z)/sqrt z - 1)/z on [0, 1]. The inverses go through log1p; in float32 they are evaluated in float64.
"""

from __future__ import annotations

import math

from stepjit_runtime import dtypes

from ..builder import Builder, Value
from .exp_log import LOG_64, LOG_64_SHORT, exp_term, expm1_moderate, log1p_term
from .terms import Term, fma, polynomial, sqrt, where

SINH_32 = (0.16666667, 0.0083333505, 0.0001983607, 2.8174175e-06)
SINH_64 = (
    0.16666666666666669, 0.008333333333333139, 0.00019841269841437359, 2.755731915543203e-06,
    2.5052123384183378e-08, 1.6057241412779938e-10, 7.759280924319573e-13,
)  # fmt: skip


def tanh(b: Builder, x: Value) -> Value:
    """The hyperbolic tangent; the sign of a zero stays."""
    t = Term(b, x)
    # Beyond the limit the result rounds to 1.
    power = expm1_moderate(abs(t).at_most(10.0 if t.single else 20.0) * 2.0)
    return (power / (power + 2.0)).with_sign_of(t).value


def sinh(b: Builder, x: Value) -> Value:
    """The hyperbolic sine; the sign of a zero stays."""
    t = Term(b, x)
    size = abs(t)
    half_power = exp_term(size, -1)
    z = t * t
    small = fma(size * z, polynomial(z, SINH_32 if t.single else SINH_64), size)
    return where(size < 1.0, small, half_power - 0.25 / half_power).with_sign_of(t).value


def cosh(b: Builder, x: Value) -> Value:
    """The hyperbolic cosine."""
    half_power = exp_term(abs(Term(b, x)), -1)
    return (half_power + 0.25 / half_power).value


def asinh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic sine, as log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))); the sign of a zero stays."""
    t = Term(b, x)
    size = widened(abs(t))
    big = size > 2.0**28
    square = size * size
    grown = square / (sqrt(square + 1.0) + 1.0)
    total = size + grown
    # For large x only log(2x) is left, here as log1p(x - 1) + log 2.
    result = log1p_term(where(big, size - 1.0, total), where(big, 0.0, (size - total) + grown), log_fit(t))
    return narrowed(result + where(big, result.constant(math.log(2)), 0.0), t).with_sign_of(t).value


def acosh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic cosine, as log1p(d + sqrt(d (d + 2))) with d = x - 1; NaN below 1."""
    t = Term(b, x)
    wide = widened(t)
    big = wide > 2.0**28
    d = wide - 1.0
    root = sqrt(fma(d, d, d * 2.0))
    total = d + root
    result = log1p_term(where(big, d, total), where(big, 0.0, (root - total) + d), log_fit(t))
    result = result + where(big, result.constant(math.log(2)), 0.0)
    return narrowed(where(wide < 1.0, math.nan, result), t).value


def atanh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic tangent, as log1p(2|x| / (1 - |x|)) / 2; NaN outside [-1, 1]."""
    t = Term(b, x)
    size = widened(abs(t))
    rest = 1.0 - size
    twice = size * 2.0
    ratio = twice / rest
    missing = (1.0 - rest) - size  # what rounding took from the divisor
    low = fma(ratio, -missing, fma(-ratio, rest, twice)) / rest
    return narrowed(log1p_term(ratio, low, log_fit(t)) * 0.5, t).with_sign_of(t).value


def widened(x: Term) -> Term:
    return x.convert(dtypes.float64)


def narrowed(x: Term, like: Term) -> Term:
    return x.convert(like.dtype)


def log_fit(x: Term) -> tuple[float, ...]:
    return LOG_64_SHORT if x.single else LOG_64
