"""sinh, cosh, tanh and their inverses for float32 and float64.

tanh is t / (t + 2) with t = expm1(2|x|). sinh and cosh are E -+ 1/(4E) with E = exp(|x|)/2, which does not overflow
before the result; sinh below 1 is x + x z P(z), z = x^2, with P a minimax fit (Remez, relative error) of
(sinh(sqrt z)/sqrt z - 1)/z on [0, 1]. The inverses go through log1p; in float32 they are evaluated in float64.
"""

from __future__ import annotations

import math

from stepjit_runtime import dtypes

from ..builder import Builder, Value
from .exp_log import LOG_64_SHORT, exp_term, expm1_moderate, log1p_term
from .terms import Term, fma, polynomial, sqrt, where


def tanh(b: Builder, x: Value) -> Value:
    """The hyperbolic tangent; the sign of a zero stays."""
    t = Term(b, x)
    # Beyond the limit the result rounds to 1.
    power = expm1_moderate(abs(t).at_most(10.0 if t.single else 20.0) * 2.0)
    return (power / (power + 2.0)).with_sign_of(t).value
