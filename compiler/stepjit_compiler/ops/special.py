"""Error, gamma and zeta functions. All but erf and erfc run on the host, in double precision."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from stepjit_compiler.opdef import broadcasting, define, ufunc, unchanged
from stepjit_compiler.ops.kinds import per_element, vector

FLOAT = "T: type in float"
SINGLE = "T: type in float32|float64"
_EPSILON = 1e-16
_TERMS = 2000
_LARGE = 1e12
# B(2k) / (2k)!, the coefficients of the Euler-Maclaurin correction.
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)


# --- Erf, Erfc ---
define("Erf", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(lambda x: math.erf(x)),
       lower=vector("erf", 20))  # fmt: skip
define("Erfc", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(lambda x: math.erfc(x)),
       lower=vector("erfc", 25))  # fmt: skip


# --- Ndtri, Erfinv ---
def _ndtri(p: float) -> float:
    if p in (0.0, 1.0):
        return math.copysign(math.inf, p - 0.5)
    return NormalDist().inv_cdf(p) if 0 < p < 1 else math.nan


def _erfinv(x: float) -> float:
    if not -1 < x < 1:
        return math.copysign(math.inf, x) if abs(x) == 1 else math.nan
    if x == 0:
        return x
    # Near 0 the quantile of (1 + x) / 2 has lost x's last bits: Newton's steps on erf bring them back.
    y = _ndtri((1 + abs(x)) / 2) / math.sqrt(2) if abs(x) > 1e-8 else abs(x) * math.sqrt(math.pi) / 2
    for _ in range(2):
        error = math.erf(y) - abs(x) if y < 0.7 else (1 - abs(x)) - math.erfc(y)
        y -= error * math.sqrt(math.pi) / 2 * math.exp(y * y)
    return math.copysign(y, x)


define("Ndtri", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(_ndtri))
define("Erfinv", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(_erfinv))


# --- Lgamma ---
def _lgamma(x: float) -> float:
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    return math.lgamma(x)


define("Lgamma", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(_lgamma))


# --- Digamma ---
def _digamma(x: float) -> float:
    if math.isnan(x) or math.isinf(x):
        return x if x > 0 else math.nan
    if x <= 0 and x == math.floor(x):
        return math.nan
    if x < 0:
        return _digamma(1 - x) - math.pi / math.tan(math.pi * (x % 1))
    below = 0.0
    while x < 10:
        below += 1 / x
        x += 1
    square = 1 / (x * x)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    return math.log(x) - 0.5 / x - series - below


define("Digamma", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(_digamma))


# --- Igamma, Igammac: the regularised incomplete gamma functions ---
def _igamma(a: float, x: float) -> float:
    return _gamma_parts(a, x)[0]


def _igammac(a: float, x: float) -> float:
    return _gamma_parts(a, x)[1]


def _gamma_parts(a: float, x: float) -> tuple[float, float]:
    if math.isnan(a) or math.isnan(x) or a <= 0 or x < 0:
        return 0.0 if x == 0 else math.nan, math.nan
    if x == 0 or x == math.inf:
        return (0.0, 1.0) if x == 0 else (1.0, 0.0)
    if a == math.inf:
        return 0.0, 1.0
    if a > _LARGE:
        return _gamma_parts_of_large(a, x)
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        lower = scale * _gamma_series(a, x)
        return lower, 1 - lower
    upper = scale * _gamma_fraction(a, x)
    return 1 - upper, upper


def _gamma_parts_of_large(a: float, x: float) -> tuple[float, float]:
    """The leading term of Temme's uniform expansion (DLMF 8.12), whose error is about 1 / a."""
    if not a / 2 < x < 2 * a:
        return (0.0, 1.0) if x < a else (1.0, 0.0)
    ratio = (x - a) / a
    eta = math.copysign(math.sqrt(max(2 * (ratio - math.log1p(ratio)), 0.0)), ratio)
    upper = 0.5 * math.erfc(eta * math.sqrt(a / 2))
    return 1 - upper, upper


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    for k in range(1, _TERMS):
        term *= x / (a + k)
        total += term
        if term < total * _EPSILON:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    """Lentz's evaluation of the continued fraction of the upper part."""
    b, tiny = x + 1 - a, 1e-300
    c, d = 1 / tiny, 1 / b
    total = d
    for k in range(1, _TERMS):
        numerator = -k * (k - a)
        b += 2
        d = 1 / ((numerator * d + b) or tiny)
        c = (b + numerator / c) or tiny
        total *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return total


define("Igamma", "a: T, x: T -> z: T", FLOAT, infer=broadcasting, reference=per_element(_igamma))
define("Igammac", "a: T, x: T -> z: T", FLOAT, infer=broadcasting, reference=per_element(_igammac))


# --- IgammaGradA: the derivative of Igamma by a; RandomGammaGrad: of a draw, by the same of its quantile ---
def _igamma_by_a(a: float, x: float) -> float:
    if math.isnan(a) or math.isnan(x) or a <= 0 or x < 0:
        return math.nan
    if x in (0, math.inf) or a == math.inf:
        return 0.0
    return math.exp(a * math.log(x) - x - math.lgamma(a)) * _growth_by_a(a, x)


def _draw_by_a(a: float, x: float) -> float:
    if math.isnan(a) or math.isnan(x) or a <= 0 or x < 0:
        return math.nan
    # The density is what `_growth_by_a` leaves out, divided by x.
    return 0.0 if x == 0 else -x * _growth_by_a(a, x)


def _growth_by_a(a: float, x: float) -> float:
    """The derivative of Igamma by a over x^a e^-x / Γ(a)."""
    growth = math.log(x) - _digamma(a)
    if x < a + 1:
        value, slope = _gamma_series_by_a(a, x)
        return growth * value + slope
    value, slope = _gamma_fraction_by_a(a, x)
    return -(growth * value + slope)


def _gamma_series_by_a(a: float, x: float) -> tuple[float, float]:
    """`_gamma_series` and its derivative by a."""
    term = total = 1 / a
    logarithmic = -1 / a
    slope = term * logarithmic
    for k in range(1, _TERMS):
        term *= x / (a + k)
        logarithmic -= 1 / (a + k)
        total += term
        slope += term * logarithmic
        if term * logarithmic > slope * _EPSILON:
            break
    return total, slope


def _gamma_fraction_by_a(a: float, x: float) -> tuple[float, float]:
    """The continued fraction of the upper part and its derivative by a, from numerators and denominators."""
    b = x + 1 - a
    # Two convergents as (p, q, dp/da, dq/da), scaled down together before they overflow.
    older, newer = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, b, 0.0, -1.0])
    value, slope = 1 / b, 1 / b**2
    for k in range(1, _TERMS):
        factor = -k * (k - a)
        b += 2
        following = newer * b + older * factor
        following[2:] += older[:2] * k - newer[:2]
        older, newer = newer, following
        p, q, dp, dq = (float(each) for each in newer)
        last = value, slope
        value, slope = p / q, (dp - p / q * dq) / q
        if abs(value - last[0]) <= _EPSILON * abs(value) and abs(slope - last[1]) <= 4 * _EPSILON * abs(slope):
            break
        if abs(q) > 1e100:
            older, newer = older / q, newer / q
    return value, slope


define("IgammaGradA", "a: T, x: T -> z: T", SINGLE, infer=broadcasting, reference=per_element(_igamma_by_a))
define("RandomGammaGrad", "alpha: T, sample: T -> output: T", FLOAT, infer=broadcasting,
       reference=per_element(_draw_by_a))  # fmt: skip


# --- Betainc: the regularised incomplete beta function ---
def _betainc(a: float, b: float, x: float) -> float:
    if math.isnan(a + b + x) or a <= 0 or b <= 0 or not 0 <= x <= 1:
        return math.nan
    if x in (0.0, 1.0):
        return x
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if a + b > _LARGE and abs(logarithm) > 700:
        return math.nan  # differences of numbers so large leave nothing that is right
    scale = math.exp(logarithm)
    if x < (a + 1) / (a + b + 2):
        return scale * _beta_fraction(a, b, x) / a
    return 1 - scale * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    total = d
    for k in range(1, _TERMS):
        even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        for numerator in (even, odd):
            d = 1 / ((1 + numerator * d) or tiny)
            c = (1 + numerator / c) or tiny
            total *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return total


define("Betainc", "a: T, b: T, x: T -> z: T", SINGLE, infer=broadcasting, reference=per_element(_betainc))


# --- Zeta: the sum of 1 / (q + k)^x; Polygamma: the derivatives of digamma ---
def _zeta(x: float, q: float) -> float:
    if math.isnan(x + q) or x < 1:
        return math.nan
    if x == 1:
        return math.inf
    if math.isinf(x) or math.isinf(q):
        return 0.0 if q > 1 else 1.0 if q == 1 else math.nan
    if q <= 0:
        if q == math.floor(q):
            return math.inf if x == math.floor(x) and x % 2 == 0 else math.nan
        if x != math.floor(x):
            return math.nan
    try:
        total = sum((q + k) ** -x for k in range(10))
    except OverflowError:
        return math.inf
    q += 10
    total += q ** (1 - x) / (x - 1) + 0.5 * q**-x
    factor, power = x, q ** (-x - 1)
    for k, coefficient in enumerate(_BERNOULLI):
        total += coefficient * factor * power
        factor *= (x + 2 * k + 1) * (x + 2 * k + 2)
        power /= q * q
    return total


def _polygamma(a: float, x: float) -> float:
    if not 0 <= a < math.inf or a != math.floor(a):
        return math.nan
    if a == 0:
        return _digamma(x)
    if math.isnan(x):
        return x
    factorial = math.exp(math.lgamma(a + 1)) if a < 170 else math.inf
    return (-1) ** (int(a) + 1) * factorial * _zeta(a + 1, x)


define("Zeta", "x: T, q: T -> z: T", SINGLE, infer=broadcasting, reference=per_element(_zeta))
define("Polygamma", "a: T, x: T -> z: T", SINGLE, infer=broadcasting, reference=per_element(_polygamma))


# --- BesselI0e, BesselI1e: the modified Bessel functions of the first kind, times exp(-|x|) ---
def _bessel(order: int, x: float) -> float:
    size = abs(x)
    if math.isnan(x) or math.isinf(x):
        return x if math.isnan(x) else 0.0
    return (_bessel_series if size < 20 else _bessel_tail)(order, size) * (-1 if order and x < 0 else 1)


def _bessel_series(order: int, x: float) -> float:
    """The power series, DLMF 10.25.2, all of whose terms are positive."""
    term = total = math.exp(-x) * (x / 2) ** order
    for k in range(1, _TERMS):
        term *= (x / 2) ** 2 / (k * (k + order))
        total += term
        if term < total * _EPSILON:
            break
    return total


def _bessel_tail(order: int, x: float) -> float:
    """The expansion for large x, DLMF 10.40.1."""
    term = total = 1.0
    for k in range(1, 40):
        term *= ((2 * k - 1) ** 2 - 4 * order**2) / (8 * k * x)
        total += term
        if abs(term) < _EPSILON:
            break
    return total / math.sqrt(2 * math.pi * x)


def _bessel_i0e(x: float) -> float:
    return _bessel(0, x)


def _bessel_i1e(x: float) -> float:
    return _bessel(1, x)


define("BesselI0e", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(_bessel_i0e))
define("BesselI1e", "x: T -> y: T", FLOAT, infer=unchanged, reference=per_element(_bessel_i1e))

# --- NextAfter ---
define("NextAfter", "x1: T, x2: T -> output: T", "T: type in float64|float32 = float32",
       infer=broadcasting, reference=ufunc(np.nextafter))  # fmt: skip
