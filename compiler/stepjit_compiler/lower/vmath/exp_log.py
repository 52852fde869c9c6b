"""exp, expm1, log, log1p, sigmoid, softplus and rsqrt for float32 and float64.

exp: x = k ln2 + r with |r| <= ln2/2 (two-part Cody-Waite reduction, both steps FMA), exp(r) = 1 + r + r^2 q(r), and a
scaling by 2^k in two halves, so that results below the normal range are rounded once and overflow gives inf.

log: x = 2^k m with m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f / (2 + f), z = s^2; log(m) = 2 atanh(s), summed as
f - (f^2/2 - s (f^2/2 + z L(z))), so that f itself stays exact. float32 log has no division: log(m) = f + f^2 M(f).

All coefficients are minimax fits (Remez exchange in 45-digit arithmetic, error weighted relative to the function),
then rounded to the dtype:
  q(r) = (e^r - 1 - r) / r^2 on [-ln2/2, ln2/2];  L(z) = (2 atanh(sqrt z) / sqrt z - 2) / z on [0, 0.02947];
  M(f) = (log(1 + f) - f) / f^2 on [sqrt(1/2) - 1, sqrt(2) - 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stepjit_runtime import dtypes

from ..builder import Builder, Value
from .terms import Term, fma, polynomial, sqrt, where

EXP_32 = (0.49999997, 0.16666543, 0.041667197, 0.008366547, 0.0013882698)
EXP_64 = (
    0.5000000000000006, 0.16666666666666588, 0.04166666666657653, 0.008333333333389516, 0.0013888888931645152,
    0.00019841269719335296, 2.4801505171701496e-05, 2.7557407047592477e-06, 2.762608062226912e-07,
    2.5053991810579264e-08,
)  # fmt: skip
# Fits for float64 arithmetic whose result will be rounded to float32 (relative error below 2^-32, 2^-44).
EXP_64_SHORT = (
    0.500000004425246, 0.16666666372645997, 0.04166636056828987, 0.008333388744346549, 0.001394065527131626,
    0.0001984626697809643,
)  # fmt: skip
LOG_32 = (0.6666666, 0.40000334, 0.28537264, 0.23583058)
LOG_32_DIRECT = (
    -0.49999988, 0.33333325, -0.25001583, 0.20001975, -0.16609083, 0.14181821, -0.13242981, 0.12904453, -0.07621819,
)  # fmt: skip
LOG_64 = (
    0.6666666666666735, 0.3999999999941263, 0.28571428742929045, 0.2222219850978861, 0.1818356800154738,
    0.1531394726285232, 0.1479707190879428,
)  # fmt: skip
LOG_64_SHORT = (
    0.666666666758236, 0.39999995612242706, 0.28572110344255314, 0.2217613259884042, 0.1958504847705587,
)  # fmt: skip

# ln2 as a sum of two numbers of the dtype.
LN2_32 = (0.6931471824645996, -1.904654323148236e-09)
LN2_64 = (0.6931471805599453, 2.3190468138462996e-17)


class Layout:
    """The bit layout of a dtype and the constants that follow from it."""

    def __init__(self, mantissa: int, bias: int, integer: type, real: type) -> None:
        self.mantissa, self.bias = mantissa, bias
        self.magic = 1.5 * 2.0**mantissa
        """Adding it leaves a number's nearest integer in the low bits."""
        self.magic_bits = int(np.array(self.magic, real).view(integer))
        self.half_root = int(np.array(math.sqrt(0.5), real).view(integer))
        self.smallest_normal = 2.0 ** (1 - bias)
        self.integer_bits = int(np.array(2.0**mantissa, real).view(integer))


LAYOUT_32 = Layout(23, 127, np.int32, np.float32)
LAYOUT_64 = Layout(52, 1023, np.int64, np.float64)


def layout(x: Term) -> Layout:
    return LAYOUT_32 if x.single else LAYOUT_64


def ln2(x: Term) -> tuple[float, float]:
    return LN2_32 if x.single else LN2_64


def exp_coefficients(x: Term) -> Sequence[float]:
    return EXP_32 if x.single else EXP_64


# --- exp ---


def reduce_exp(x: Term) -> tuple[Term, Term]:
    """(integer with k in its low bits over `magic_bits`, r) with x = k ln2 + r; |k| must fit the mantissa."""
    magic = layout(x).magic
    shifted = fma(x, 1 / math.log(2), magic)
    k = shifted - magic
    high, low = ln2(x)
    return shifted.bits(), fma(k, -low, fma(k, -high, x))


def two_to_the(k: Term, like: Term, offset: int = 0) -> Term:
    """2^(k + offset) in the normal range; k as `reduce_exp` gives it."""
    form = layout(like)
    return ((k + (form.bias + offset)) << form.mantissa).as_float()


def scaled(x: Term, k: Term, offset: int = 0) -> Term:
    """x * 2^(k + offset), rounded once, for |k + offset| up to twice the normal range."""
    form = layout(x)
    both = k + (2 * form.bias + offset - form.magic_bits)
    half = both >> 1
    return x * (half << form.mantissa).as_float() * ((both - half) << form.mantissa).as_float()


def clamped_for_exp(x: Term) -> Term:
    """x within the range beyond which exp is 0 or inf anyway."""
    return x.at_least(-105.0).at_most(90.0) if x.single else x.at_least(-747.0).at_most(711.0)


def exp_term(x: Term, offset: int = 0) -> Term:
    """exp(x) * 2^offset, for |offset| <= 1."""
    k, r = reduce_exp(clamped_for_exp(x))
    power = fma(r * r, polynomial(r, exp_coefficients(x)), r) + 1.0
    return scaled(power, k, offset)


def expm1_moderate(x: Term) -> Term:
    """expm1 where 2^k is in the normal range: -80 <= x <= 80."""
    k, r = reduce_exp(x)
    fraction = fma(r * r, polynomial(r, exp_coefficients(x)), r)
    scale = two_to_the(k, x)
    return fma(scale, fraction, scale - 1.0)


def exp(b: Builder, x: Value) -> Value:
    """e to the x."""
    return exp_term(Term(b, x)).value


def expm1(b: Builder, x: Value) -> Value:
    """e to the x, less one, without cancellation near 0."""
    t = Term(b, x)
    inside = t.at_least(-30.0).at_most(89.0) if t.single else t.at_least(-50.0).at_most(710.0)
    k, r = reduce_exp(inside)
    fraction = fma(r * r, polynomial(r, exp_coefficients(t)), r)
    half = two_to_the(k, t, -1)  # half of 2^k: 2^k itself overflows before the result does
    result = fma(half, fraction, half - 0.5) * 2.0
    return where(abs(t) < 2.0**-30 if t.single else abs(t) < 2.0**-60, t, result).value


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + exp(-x)); for x < 0 as exp(x) / (1 + exp(x)), which keeps small results."""
    t = Term(b, x)
    power = exp_term(-abs(t))
    return (where(t < 0.0, power, 1.0) / (power + 1.0)).value


def softplus(b: Builder, x: Value) -> Value:
    """log(1 + exp(x)), as max(x, 0) + log1p(exp(-|x|))."""
    t = Term(b, x)
    return (t.at_least(0.0) + log1p_term(exp_term(-abs(t)))).value


# --- log ---


def split(x: Term, subnormals: bool = False) -> tuple[Term, Term]:
    """(k, m) with x = 2^k m, m in [sqrt(1/2), sqrt(2)), for positive finite x; some numbers for any other.

    Subnormals count among the others unless asked for.
    """
    form = layout(x)
    bias = 2 * form.bias  # twice, to stay positive for subnormals
    offset = x.bits().constant(bias << form.mantissa)
    if subnormals:
        shift = form.mantissa + 2
        small = x < form.smallest_normal
        x = where(small, x * 2.0**shift, x)
        offset = where(small, offset.constant((bias - shift) << form.mantissa), offset)
    above = x.bits() - form.half_root
    # In the mantissa of 2^mantissa: an integer made a float without a conversion.
    biased = ((above + offset) >> form.mantissa) | form.integer_bits
    k = biased.as_float() - (2.0**form.mantissa + bias)
    m = (above & ((1 << form.mantissa) - 1)) + form.half_root
    return k, m.as_float()


def log_of_parts(k: Term, f: Term, correction: Term | None, coefficients: Sequence[float]) -> Term:
    """k ln2 + log(1 + f) + correction."""
    high, low = ln2(f)
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    inner = fma(s, fma(z, polynomial(z, coefficients), half_square), k * low)
    if correction is not None:
        inner = inner + correction
    return fma(k, high, f - (half_square - inner))


def log_coefficients(x: Term) -> Sequence[float]:
    return LOG_32 if x.single else LOG_64


def log_32(x: Term) -> Term:
    """The natural logarithm of a float32."""
    small = x < LAYOUT_32.smallest_normal
    scaled_up = where(small, x * 2.0**24, x).bits()
    exponent = (scaled_up - LAYOUT_32.half_root) & -(1 << 23)
    f = (scaled_up - exponent).as_float() - 1.0
    # k stays in the exponent's place: its factor 2^23 is taken back from ln2.
    k = (exponent - where(small, exponent.constant(24 << 23), 0)).convert(dtypes.float32)
    inside = fma(k, math.log(2) * 2.0**-23, fma(f * f, polynomial(f, LOG_32_DIRECT), f))
    # By the sign bit first, so that -0 becomes -inf after it.
    result = where(x < math.inf, where(x.bits() < 0, math.nan, inside), x)
    return where(x.equals(0.0), -math.inf, result)


def log(b: Builder, x: Value) -> Value:
    """The natural logarithm; -inf at 0, NaN below."""
    t = Term(b, x)
    if t.single:
        return log_32(t).value
    k, m = split(t, subnormals=True)
    inside = log_of_parts(k, m - 1.0, None, log_coefficients(t))
    positive = t > 0.0
    outside = where(positive, t, where(t.equals(0.0), t.constant(-math.inf), math.nan))
    return where(positive & (t < math.inf), inside, outside).value


def log1p_term(x: Term, low: Term | None = None, coefficients: Sequence[float] | None = None) -> Term:
    """log(1 + x + low), `low` being a small correction to x."""
    u = x + 1.0
    grown = u - 1.0
    lost = (1.0 - (u - grown)) + (x - grown)
    k, m = split(u)
    near = k.equals(0.0)
    if low is None:
        correction = where(near, 0.0, lost) / u
    else:
        correction = where(near, low, lost + low) / u
    inside = log_of_parts(k, where(near, x, m - 1.0), correction, coefficients or log_coefficients(x))
    outside = where(x < -1.0, math.nan, where(x.equals(-1.0), -math.inf, x))
    tiny = abs(x) < (2.0**-26 if x.single else 2.0**-55)
    return where((x > -1.0) & (x < math.inf) & ~tiny, inside, outside)


def log1p(b: Builder, x: Value) -> Value:
    """log(1 + x) without loss near 0."""
    return log1p_term(Term(b, x)).value


def rsqrt(b: Builder, x: Value) -> Value:
    """1 / sqrt(x)."""
    return (1.0 / sqrt(Term(b, x))).value
