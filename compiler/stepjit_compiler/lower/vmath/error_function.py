"""erf and erfc for float32 and float64.

Below 1, erf x = x + x E(x^2). From 1 on, erfc x = exp(-x^2) q G(1 - 2 K q) with q = 1 / (x + K), which is smooth up to
infinity; erf is one less that, and needs G only where erf is not yet 1, and with less relative accuracy.

erf in float32 does without exp and division: from 0.95 on it is 1 - R(x)^8, R being the eighth root of erfc. R is
smooth enough for one polynomial up to where erf rounds to 1, and the result cannot exceed 1.

Minimax fits (Remez exchange in 45-digit arithmetic): E on [0, 1], absolute error; G(t) = exp(x^2) erfc(x) / q,
relative error, over x in [1, 6.1] (float64 erf) or [1, 10.3] and [1, 27.5] (erfc, float32 and float64). By linear
programming, with leading coefficients fixed to float32 numbers: float32 erf's E on [0, 0.95], relative error of erf;
R on [0.95, 3.92], absolute error of R^8.
"""

from __future__ import annotations

from ..builder import Builder, Value
from .exp_log import clamped_for_exp, exp_coefficients, reduce_exp, scaled, two_to_the
from .terms import Term, fma, horner, polynomial, where

SMALL_32 = (0.12837917, -0.37612626, 0.112835996, -0.026854401, 0.005189443, -0.0008019942, 7.885864e-05)
SMALL_64 = (
    0.12837916709551256, -0.37612638903183543, 0.11283791670945148, -0.02686617064325893, 0.005223977607277787,
    -0.0008548325982537899, 0.00012055295101430224, -1.492474036467258e-05, 1.6447463578873666e-06,
    -1.6208753848814687e-07, 1.3721118492094483e-08, -7.797663280480619e-10,
)  # fmt: skip

# Of float32 erf: E up to JOINT, R from there on; at ONE_FROM the result is exactly 1.
JOINT, ONE_FROM = 0.95, 4.0
ERF_32 = (0.12837914, -0.37612447, 0.112813205, -0.026748866, 0.0049675084, -0.0005862088)
ROOT_32 = (
    1.0002971, -0.14260115, -0.066154532, -0.0064261286, 0.009885297, -0.001373013, -6.4982902e-05, 1.7621254e-05,
)  # fmt: skip

# (K, coefficients of G)
ERF_64 = (
    4.0,
    (
        1.095995661000491, -0.976548729080882, 0.7732087022652359, -0.5408538313132323, 0.33085158787824326,
        -0.17401093723990607, 0.07638151489265894, -0.026370053376091787, 0.006112056166550495,
        -0.00028095675788944956, -0.0004550575925870692, 0.0001767699839149325, -3.687361247224806e-06,
        -1.863780196447339e-05, 5.580906552083295e-06, 2.7363849202263625e-06,
    ),
)  # fmt: skip
ERFC_32 = (
    2.5,
    (
        1.0540318, -0.80465186, 0.45391417, -0.17125054, 0.028359761, 0.008385105, -0.004799729, -0.0004018816,
        0.0006224711,
    ),
)  # fmt: skip
ERFC_64 = (
    3.0,
    (
        1.0740069070883398, -0.8833944531698841, 0.5902283571041035, -0.3104672619004939, 0.11952776128711753,
        -0.026827234627646364, -0.0012124166201822844, 0.003034062061146412, -0.000548309832085728,
        -0.0002767784250753674, 0.0001075630210107592, 3.0401064491096446e-05, -1.748016715518879e-05,
        -4.755460932699905e-06, 2.7995187824274147e-06, 9.954366938737404e-07, -4.716429059950532e-07,
        -1.9488891840784505e-07, 9.371796597808067e-08,
    ),
)  # fmt: skip


def tail(size: Term, fit: tuple[float, tuple[float, ...]]) -> tuple[Term, Term]:
    """(exp(x^2) erfc(x) for x >= 1, the relative error of q in it)."""
    shift, coefficients = fit
    d = size + shift
    q = 1.0 / d
    missing = fma(-q, d, 1.0) - q * (size - (d - shift))
    return q * polynomial(fma(q, -2.0 * shift, 1.0), coefficients), missing


def small_part(t: Term) -> Term:
    """erf(x) - x for |x| < 1."""
    return t * polynomial(t * t, SMALL_32 if t.single else SMALL_64)


def erf_32(size: Term) -> Term:
    """erf of a float32 that is not negative."""
    inside = size.at_most(ONE_FROM)
    small = fma(size, polynomial(inside * inside, ERF_32), size)
    # The last rounding of R is multiplied by 8 R^7: no more than Horner's one.
    root = horner(inside, ROOT_32)
    square = root * root
    fourth = square * square
    return where(size < JOINT, small, fma(-fourth, fourth, 1.0))


def erf_64(size: Term) -> Term:
    """erf of a float64 that is not negative."""
    inside = size.at_most(6.0)
    k, r = reduce_exp(-(inside * inside))
    scale = two_to_the(k, size)
    power = fma(scale, fma(r * r, polynomial(r, exp_coefficients(size)), r), scale)
    rest, _ = tail(inside, ERF_64)
    return where(size < 1.0, size + small_part(inside), fma(-power, rest, 1.0))


def erf(b: Builder, x: Value) -> Value:
    """The error function; the sign of a zero stays."""
    t = Term(b, x)
    size = abs(t)
    return (erf_32(size) if t.single else erf_64(size)).with_sign_of(t).value


def erfc(b: Builder, x: Value) -> Value:
    """1 - erf(x), with full relative accuracy down to the subnormal range."""
    t = Term(b, x)
    size = abs(t).at_most(10.5 if t.single else 27.5)
    square = size * size
    lost = fma(size, size, -square)
    k, r = reduce_exp(clamped_for_exp(-square))
    rest, missing = tail(size, ERFC_32 if t.single else ERFC_64)
    r = r + (missing - lost)
    power = fma(r * r, polynomial(r, exp_coefficients(t)), r) + 1.0
    large = scaled(power * rest, k)
    near = (1.0 - t) - small_part(t)
    return where(size < 1.0, near, where(t < 0.0, 2.0 - large, large)).value
