"""pow for float32 and float64, with C's special values.

x^y = exp(y log x). float32 is evaluated in float64. float64 carries log x as a sum of two numbers, good to about
2^-64 relative: log m = 2 atanh(s), s = (m - 1)/(m + 1) with its rounding error, where s + s^3/3 is summed in pairs and
s^5 Q(s^2) in single numbers. Q(z) = (atanh(sqrt z)/sqrt z - 1 - z/3)/z^2 is a minimax fit on [0, 0.02947].
"""

from __future__ import annotations

import math

from stepjit_runtime import dtypes

from ..builder import Builder, Value
from .exp_log import (
    EXP_64,
    EXP_64_SHORT,
    LN2_64,
    LOG_64_SHORT,
    log_of_parts,
    reduce_exp,
    scaled,
    split,
    two_to_the,
)
from .terms import Term, fma, polynomial, round_even, where

ATANH_64 = (
    0.20000000000001134, 0.14285714285046672, 0.11111111260551966, 0.09090892129078061, 0.07693381293566133,
    0.06628345169865202, 0.06598776992752471,
)  # fmt: skip
THIRD = (0.3333333333333333, 1.850371707708594e-17)


def log_pair(x: Term) -> tuple[Term, Term]:
    """log x as a sum of two float64 numbers, for positive finite x."""
    k, m = split(x, subnormals=True)
    f, d = m - 1.0, m + 1.0
    inverse = 1.0 / d
    s = f * inverse
    s_low = fma(-s, m - (d - 1.0), fma(-s, d, f)) * inverse
    z = s * s
    z_low = fma(s, s, -z) + s * s_low * 2.0
    rest = z * polynomial(z, ATANH_64)
    inner = rest + THIRD[0]
    inner_low = ((THIRD[0] - inner) + rest) + THIRD[1]
    w = z * inner
    w_low = fma(z, inner, -w) + fma(z, inner_low, z_low * inner)
    v = s * w
    v_low = fma(s, w, -v) + fma(s, w_low, s_low * w)
    half = s + v
    half_low = ((s - half) + v) + (s_low + v_low)
    whole = k * LN2_64[0]
    whole_low = fma(k, LN2_64[1], fma(k, LN2_64[0], -whole))
    total = fma(half, 2.0, whole)
    total_low = fma(half, 2.0, whole - total) + fma(half_low, 2.0, whole_low)
    high = total + total_low
    return high, (total - high) + total_low


def exp_of_pair(high: Term, low: Term) -> Term:
    """exp(high + low) in float64; `low` is disregarded where the result is 0 or inf anyway."""
    moderate = abs(high) < 760.0
    k, r = reduce_exp(high.at_least(-750.0).at_most(720.0))
    r = r + where(moderate, low, 0.0)
    return scaled(fma(r * r, polynomial(r, EXP_64), r) + 1.0, k)


def power_64(size: Term, y: Term) -> Term:
    """size^y for size >= 0."""
    high, low = log_pair(size)
    regular = (size > 0.0) & (size < math.inf)
    high = where(regular, high, where(size.equals(0.0), -math.inf, size))
    product = high * y
    product_low = fma(y, high, -product) + y * low
    return exp_of_pair(product, where(regular, product_low, 0.0))


def power_32(size: Term, y: Term) -> Term:
    """size^y for float32 size >= 0, computed in float64."""
    wide = size.convert(dtypes.float64)
    k, m = split(wide)
    log = log_of_parts(k, m - 1.0, None, LOG_64_SHORT)
    regular = (wide > 0.0) & (wide < math.inf)
    log = where(regular, log, where(wide.equals(0.0), -math.inf, wide))
    k, r = reduce_exp((log * y.convert(dtypes.float64)).at_least(-200.0).at_most(200.0))
    scale = two_to_the(k, wide)
    power = fma(scale, fma(r * r, polynomial(r, EXP_64_SHORT), r), scale)
    return power.convert(dtypes.float32)


def pow(b: Builder, x: Value, y: Value) -> Value:
    """x to the y: 1 for y = 0 and for x = 1 whatever the other; NaN for x < 0 unless y is an integer."""
    base, exponent = Term(b, x), Term(b, y)
    size = abs(base)
    result = (power_32 if base.single else power_64)(size, exponent)
    result = where(size.equals(1.0) & ~exponent.is_nan(), 1.0, result)
    whole = round_even(exponent).equals(exponent)
    half = exponent * 0.5
    odd = whole & ~round_even(half).equals(half)
    result = where(odd, result.with_sign_of(base), result)
    result = where((base < 0.0) & (base > -math.inf) & ~whole, math.nan, result)
    return where(exponent.equals(0.0) | base.equals(1.0), 1.0, result).value
