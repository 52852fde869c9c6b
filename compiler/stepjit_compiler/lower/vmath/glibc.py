"""float32 functions whose every result is glibc's, over the ranges that random numbers need.

glibc evaluates them in float64 to not much more than 24 bits, so that one result in a hundred is rounded the other way:
what must have its numbers to the last bit takes the same steps.
"""

from __future__ import annotations

from stepjit_runtime import dtypes

from ..builder import Builder, Value, literal
from .terms import Term, fma, where
from .trig import odd

LOG_TABLE = (
    (1.398907162146528, -0.33569133332882284),
    (1.3403141896637998, -0.2929040563774074),
    (1.286432210124115, -0.2518726580937369),
    (1.2367150214269895, -0.21245868807117255),
    (1.1906977166711752, -0.17453945183745634),
    (1.1479821020556429, -0.1380057072319758),
    (1.1082251448272158, -0.10275976698545139),
    (1.0711297413057381, -0.06871392447020525),
    (1.036437278977283, -0.0357891387398228),
    (1.0, 0.0),
    (0.9492859795739057, 0.05204517742929496),
    (0.8951049428609004, 0.11081431298787942),
    (0.8476821620351103, 0.1652495223695143),
    (0.8050314851692001, 0.21687389031699977),
    (0.7664671008843108, 0.2659635028121397),
    (0.731428603316328, 0.3127556664073557),
)
"""1 / c and log(c) for a c in each sixteenth of the octave that begins near 0.7."""
LOG_START = 0x3F330000
"""The bits of that beginning."""
LOG = (-0.25089342214237154, 0.333456765744066, -0.4999997485802103)
COS = (-0.49999999725108224, 0.041666623324344516, -0.001388676379437604, 2.4390450703564542e-05)
SIN = (-0.16666654943701084, 0.008332178146138854, -0.00019517298981385725)
LN2 = 0.6931471805599453
TWO_OVER_PI, HALF_PI = 0.6366197723675814, 1.5707963267948966
_MAGIC = 1.5 * 2.0**52
"""Adding it leaves a number's nearest integer in the low bits."""


def log(x: Term) -> Term:
    """`logf` of positive normal numbers that are not 1."""
    b, bits = x.b, x.bits()
    above = bits - LOG_START
    octave = above & -(1 << 23)
    row = Term(b, b.convert(((above >> 19) & 15).value, dtypes.int64)) << 1
    inverse, log_c = (_table(b, (row + k).value) for k in range(2))
    z = (bits - octave).as_float().convert(dtypes.float64)
    r = fma(z, inverse, -1.0)
    # The octave in place counts 2^23 times too much.
    start = fma(octave.convert(dtypes.float64) * 2.0**-23, LN2, log_c) + r
    square = r * r
    rest = fma(square, LOG[0], fma(r, LOG[1], LOG[2]))
    return fma(rest, square, start).convert(dtypes.float32)


def _table(b: Builder, at: Value) -> Term:
    numbers = ", ".join(f"double {literal(each, dtypes.float64)}" for row in LOG_TABLE for each in row)
    b.intrinsics.add(f"@glibc.log = internal constant [{2 * len(LOG_TABLE)} x double] [{numbers}], align 64")
    return Term(b, b.gather(Value("@glibc.log", None), dtypes.float64, at))


def sin_cos(x: Term) -> tuple[Term, Term]:
    """`sinf` and `cosf` of 0 <= x < 120."""
    wide = x.convert(dtypes.float64)
    shifted = fma(wide, TWO_OVER_PI, _MAGIC)
    r, quarters = fma(shifted - _MAGIC, -HALF_PI, wide), shifted.bits()
    z = r * r
    cube, fourth = z * r, z * z
    sine = fma(cube * z, fma(z, SIN[2], SIN[1]), fma(cube, SIN[0], r)).convert(dtypes.float32)
    cosine = fma(fourth, COS[1], fma(z, COS[0], 1.0))
    cosine = fma(fourth * z, fma(z, COS[3], COS[2]), cosine).convert(dtypes.float32)
    swapped, n = odd(quarters), quarters.convert(dtypes.int32)
    return _signed(where(swapped, cosine, sine), n), _signed(where(swapped, sine, cosine), n + 1)


def _signed(size: Term, quarters: Term) -> Term:
    """Negative in the third and fourth quarter of a turn."""
    return (size.bits() ^ ((quarters >> 1) << 31)).as_float()
