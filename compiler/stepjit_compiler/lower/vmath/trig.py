"""sin, cos, tan and the inverse functions for float32 and float64.

sin, cos, tan: |x| = n pi/2 + r with |r| <= pi/4. float32 subtracts n pi/2 in float64, in two FMA steps; float64 uses
three parts of pi/2 and keeps r as a sum of two numbers (n high is subtracted exactly: both are multiples of the same
power of two and the difference fits). Both hold to |x| = 2^40. Beyond that a branch, seldom taken, calls libm lane
by lane in float64, whose reduction is exact.

Minimax fits (Remez exchange in 45-digit arithmetic, error weighted relative to the function), z = r^2:
  sin r = r + r z S(z), cos r = 1 - z/2 + z^2 C(z) on |r| <= pi/4;  asin x = x + x z A(z) on |x| <= 1/2, above that
  asin x = pi/2 - 2 asin(sqrt((1 - x)/2));  atan x = x + x z T(z) on |x| <= 1/2, the rest through
  atan(v) = pi/4 + atan((v - 1)/(v + 1)) and atan(v) = pi/2 - atan(1/v).
"""

from __future__ import annotations

import math

from stepjit_runtime import dtypes

from ..builder import Builder, Value
from .exp_log import layout
from .terms import Term, fma, polynomial, sqrt, where

SIN_32 = (-0.16666655, 0.008332174, -0.00019516767)
COS_32 = (0.041666646, -0.0013887363, 2.4437837e-05)
# For float64 arithmetic whose result will be rounded to float32.
SIN_64_SHORT = (-0.16666666641461536, 0.008333329366006193, -0.00019839328273745104, 2.7182476233046305e-06)
COS_64_SHORT = (0.04166666662250221, -0.00138888837238332, 2.4799511951005356e-05, -2.7209557732757237e-07)
SIN_64 = (
    -0.16666666666666632, 0.00833333333332233, -0.00019841269829736725, 2.755731366602497e-06,
    -2.505075388031105e-08, 1.5896540243168583e-10,
)  # fmt: skip
COS_64 = (
    0.0416666666666666, -0.0013888888888874001, 2.4801587289400974e-05, -2.755731432772581e-07,
    2.087571978984654e-09, -1.1359460863091951e-11,
)  # fmt: skip
ASIN_32 = (0.16666754, 0.07495262, 0.045474928, 0.024157237, 0.042203538)
ASIN_64 = (
    0.1666666666666676, 0.0749999999997081, 0.04464285717469086, 0.030381942701302858, 0.02237221522072408,
    0.0173516072039446, 0.01398088342992656, 0.011398367512911022, 0.010783425838752204, 0.003694103987353349,
    0.02173792450864214, -0.02104270487218495, 0.03265611881025416,
)  # fmt: skip
ATAN_32 = (-0.33333236, 0.19994316, -0.14176026, 0.10164662, -0.05139958)
ATAN_64 = (
    -0.33333333333333, 0.1999999999990613, -0.14285714276606706, 0.11111110667898173, -0.09090896426758147,
    0.07692076454220696, -0.06663833981364436, 0.058584421923754945, -0.05122586025430046, 0.04187994018254554,
    -0.02745691105334737, 0.010131003939463418,
)  # fmt: skip

# pi/2 as a sum of float64 numbers, and as a sum of float32 numbers.
HALF_PI_64 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
HALF_PI_32 = (1.5707963705062866, -4.371139000186243e-08)

FAR = 2.0**40
"""From here on libm reduces the argument."""

LIBM_SYMBOLS = frozenset({"sin", "cos", "tan"})
"""Names that the emitted code may call; the linker must find them in libm."""


# --- sin, cos, tan ---


def reduced(x: Term) -> tuple[Term, Term, Term]:
    """(r, its low part, an integer with n in its low bits) for x >= 0 in float64."""
    magic = layout(x).magic
    shifted = fma(x, 2 / math.pi, magic)
    n = shifted - magic
    high, middle, low = HALF_PI_64
    exact = fma(n, -high, x)
    product = n * middle
    r = exact - product
    back = r - exact  # either operand may be the larger: the error of the difference takes both halves
    lost = ((exact - (r - back)) - (product + back)) - fma(n, middle, -product)
    return r, fma(n, -low, lost), shifted.bits()


def sin_cos_32(x: Term) -> tuple[Term, Term, Term]:
    """(sin r, cos r, n as int32) for float32 x >= 0."""
    r64, n = reduced_to_one_number(x)
    r = r64.convert(dtypes.float32)
    z = r * r
    sine = fma(r * z, polynomial(z, SIN_32), r)
    cosine = fma(z * z, polynomial(z, COS_32), fma(z, -0.5, 1.0))
    return sine, cosine, n.convert(dtypes.int32)


def reduced_to_one_number(x: Term) -> tuple[Term, Term]:
    """(r in float64, an int64 with n in its low bits) for float32 x >= 0; exact enough for a float32 result."""
    wide = x.convert(dtypes.float64)
    magic = layout(wide).magic
    shifted = fma(wide, 2 / math.pi, magic)
    n = shifted - magic
    return fma(n, -HALF_PI_64[1], fma(n, -HALF_PI_64[0], wide)), shifted.bits()


def sin_cos_64(x: Term) -> tuple[tuple[Term, Term], tuple[Term, Term], Term]:
    """(sin r, cos r, each as a sum of two numbers, n as int64) for float64 x >= 0."""
    r, low, n = reduced(x)
    z = r * r
    half = z * 0.5
    sine_rest = fma(r * z, polynomial(z, SIN_64), fma(half, -low, low))
    sine = r + sine_rest
    most = 1.0 - half
    cosine_rest = ((1.0 - most) - half) + fma(z * z, polynomial(z, COS_64), -(r * low))
    cosine = most + cosine_rest
    return (sine, (r - sine) + sine_rest), (cosine, (most - cosine) + cosine_rest), n


def odd(n: Term) -> Term:
    """Whether n is odd: its lowest bit in the sign's place, where a blend looks for it."""
    return (n << (n.dtype.itemsize * 8 - 1)) < 0


def near_sin_cos(t: Term, quarter_turns: int, antisymmetric: bool) -> Term:
    """sin(|t| + quarter_turns pi/2), with t's sign if `antisymmetric`, for |t| < 2^40."""
    if t.single:
        sine, cosine, n = sin_cos_32(abs(t))
    else:
        (sine, _), (cosine, _), n = sin_cos_64(abs(t))
    n = n + quarter_turns
    swapped = odd(n)
    bits = where(swapped, cosine, sine).bits()
    sign_at = t.dtype.itemsize * 8 - 1
    sign = (n >> 1) << sign_at
    if antisymmetric:
        sign = sign ^ (t.bits() & -(1 << sign_at))
    return (bits ^ sign).as_float()


def near_tan_32(t: Term) -> tuple[Term, Term]:
    """(tan |t| but for its sign, an integer whose oddness turns the sign) for float32, computed in float64."""
    r, n = reduced_to_one_number(abs(t))
    z = r * r
    sine = fma(r * z, polynomial(z, SIN_64_SHORT), r)
    cosine = fma(z * z, polynomial(z, COS_64_SHORT), fma(z, -0.5, 1.0))
    swapped = odd(n)
    ratio = where(swapped, cosine, sine) / where(swapped, sine, cosine)
    return ratio.convert(dtypes.float32), n.convert(dtypes.int32)


def near_tan_64(t: Term) -> tuple[Term, Term]:
    """As `near_tan_32`, for float64: the quotient is corrected by what it leaves of both sums."""
    (sine, sine_low), (cosine, cosine_low), n = sin_cos_64(abs(t))
    swapped = odd(n)
    above, above_low = where(swapped, cosine, sine), where(swapped, cosine_low, sine_low)
    below, below_low = where(swapped, sine, cosine), where(swapped, sine_low, cosine_low)
    inverse = 1.0 / below
    ratio = above * inverse
    left = fma(-ratio, below, above) + fma(-ratio, below_low, above_low)
    return fma(left, inverse, ratio), n


def near_tan(t: Term) -> Term:
    """tan for |t| < 2^40."""
    size, n = near_tan_32(t) if t.single else near_tan_64(t)
    sign_at = t.dtype.itemsize * 8 - 1
    sign = (n << sign_at) ^ (t.bits() & -(1 << sign_at))
    return (size.bits() ^ sign).as_float()


def with_libm_beyond(t: Term, near: Term, symbol: str) -> Value:
    """`near`, but libm's value in lanes with 2^40 <= |t|, which are computed in a block of their own."""
    b, lanes = t.b, t.value.lanes
    far = (abs(t) >= FAR).value
    b.intrinsics.add(f"declare double @{symbol}(double)")
    any_far = far
    if lanes > 1:
        packed = b.assign(f"bitcast {far!r} to i{lanes}", None)
        any_far = b.assign(f"icmp ne i{lanes} {packed.ref}, 0", dtypes.bool_)
    before, slow, joined = b.block, b.label("far"), b.label("near")
    b.branch_if(any_far, slow, joined, unlikely=True)
    b.start(slow)
    wide = b.convert(t.value, dtypes.float64)
    results = [
        b.assign(f"call double @{symbol}({(b.lane(wide, k) if lanes > 1 else wide)!r})", dtypes.float64)
        for k in range(lanes)
    ]
    exact = b.convert(b.vector_of(results) if lanes > 1 else results[0], t.dtype)
    mixed = b.select(far, exact, near.value)
    after = b.block
    b.branch(joined)
    b.start(joined)
    return b.phi(t.dtype, lanes, [(near.value, before), (mixed, after)])


def sin(b: Builder, x: Value) -> Value:
    """The sine; the sign of a zero stays, NaN at +-inf."""
    t = Term(b, x)
    return with_libm_beyond(t, near_sin_cos(t, 0, antisymmetric=True), "sin")


def cos(b: Builder, x: Value) -> Value:
    """The cosine; NaN at +-inf."""
    t = Term(b, x)
    return with_libm_beyond(t, near_sin_cos(t, 1, antisymmetric=False), "cos")


def tan(b: Builder, x: Value) -> Value:
    """The tangent; the sign of a zero stays, NaN at +-inf."""
    t = Term(b, x)
    return with_libm_beyond(t, near_tan(t), "tan")


# --- inverse functions ---


def half_pi(x: Term) -> tuple[float, float]:
    return HALF_PI_32 if x.single else HALF_PI_64[:2]


def asin_core(t: Term) -> tuple[Term, Term, Term]:
    """(whether |t| > 1/2, s, a): asin of |t|, or of sqrt((1 - |t|)/2) then, is s + a."""
    size = abs(t)
    big = size > 0.5
    z = where(big, fma(size, -0.5, 0.5), size * size)
    s = where(big, sqrt(z), size)
    return big, s, s * z * polynomial(z, ASIN_32 if t.single else ASIN_64)


def asin(b: Builder, x: Value) -> Value:
    """The inverse sine in [-pi/2, pi/2]; NaN outside [-1, 1]."""
    t = Term(b, x)
    big, s, a = asin_core(t)
    high, low = half_pi(t)
    far = fma(s, -2.0, high) - fma(a, 2.0, -low)
    return where(big, far, s + a).with_sign_of(t).value


def acos(b: Builder, x: Value) -> Value:
    """The inverse cosine in [0, pi]; NaN outside [-1, 1]."""
    t = Term(b, x)
    big, s, a = asin_core(t)
    part = s + a
    high, low = half_pi(t)
    twice = part * 2.0
    far = where(t < 0.0, high * 2.0 - (twice - low * 2.0), twice)
    return where(big, far, high - (part.with_sign_of(t) - low)).value


def atan_of_ratio(small: Term, large: Term, quarters: Term, sign: Term) -> Term:
    """quarters pi/4 + sign atan(small/large) for 0 <= small <= large; `sign` is 1.0 or -1.0."""
    middle = small > large * 0.5  # so that small - large is exact
    v = where(middle, small - large, small) / where(middle, small + large, large)
    z = v * v
    angle = fma(v * z, polynomial(z, ATAN_32 if v.single else ATAN_64), v)
    quarters = where(middle, quarters + sign, quarters)
    high, low = half_pi(v)
    return fma(quarters, high / 2, fma(quarters, low / 2, angle * sign))


def atan(b: Builder, x: Value) -> Value:
    """The inverse tangent in [-pi/2, pi/2]."""
    t = Term(b, x)
    size = abs(t)
    steep = size > 1.0
    small, large = where(steep, 1.0, size), where(steep, size, 1.0)
    angle = atan_of_ratio(small, large, where(steep, t.constant(2.0), 0.0), where(steep, t.constant(-1.0), 1.0))
    return angle.with_sign_of(t).value


def atan2(b: Builder, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), in [-pi, pi]; C's conventions for zeros and infinities."""
    rise, run = Term(b, y), Term(b, x)
    up, along = abs(rise), abs(run)
    steep = up > along
    small, large = where(steep, along, up), where(steep, up, along)
    # Keep the sum of both finite, and 0/0 and inf/inf from being NaN.
    huge = large > 2.0 ** (layout(run).bias - 1)
    small, large = where(huge, small * 0.25, small), where(huge, large * 0.25, large)
    small = where(large.equals(math.inf), where(small.equals(math.inf), small.constant(1.0), 0.0), small)
    large = where(large.equals(math.inf) | large.equals(0.0), 1.0, large)
    left = run.bits() < 0
    quarters = where(steep, run.constant(2.0), where(left, run.constant(4.0), 0.0))
    turned = steep ^ left
    angle = atan_of_ratio(small, large, quarters, where(turned, run.constant(-1.0), 1.0))
    return where(rise.is_nan() | run.is_nan(), rise + run, angle.with_sign_of(rise)).value
