"""Mathematical functions as IR, alike for scalars and vectors: `vmath.<name>(b, x)`, `atan2(b, y, x)`, `pow(b, x, y)`.

Operands are float32 or float64 of any lanes. A lane's bits depend on that lane's operand only: vector bodies and scalar
tails agree. All is branch-free but sin, cos and tan, which open blocks to call libm where |x| >= 2^40.
"""

from __future__ import annotations

from .error_function import erf, erfc
from .exp_log import exp, expm1, log, log1p, rsqrt, sigmoid, softplus
from .hyperbolic import acosh, asinh, atanh, cosh, sinh, tanh
from .power import pow
from .trig import LIBM_SYMBOLS, acos, asin, atan, atan2, cos, sin, tan

__all__ = [
    "LIBM_SYMBOLS", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "erf", "erfc", "exp",
    "expm1", "log", "log1p", "pow", "rsqrt", "sigmoid", "sin", "sinh", "softplus", "tan", "tanh",
]  # fmt: skip
