"""Mathematical functions as branch-free IR, the same for scalars and vectors: `vmath.<name>(b, x)`."""

from __future__ import annotations

from .exp_log import exp, expm1, log, log1p, rsqrt, sigmoid, softplus
from .hyperbolic import tanh

__all__ = ["exp", "expm1", "log", "log1p", "rsqrt", "sigmoid", "softplus", "tanh"]
