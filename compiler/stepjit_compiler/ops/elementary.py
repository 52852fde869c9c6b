"""Exponentials, logarithms, trigonometry, logistic functions and rounding of one value."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lower import vmath
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import broadcasting, define, ufunc, unchanged
from stepjit_compiler.ops.kinds import MOST, in_float, is_float, vector

FLOAT = "T: type in float"

# --- Exp ---
define("Exp", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.exp), lower=vector("exp", 15))

# --- Expm1 ---
define("Expm1", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.expm1), lower=vector("expm1", 20))

# --- Log ---
define("Log", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.log), lower=vector("log", 15))

# --- Log1p ---
define("Log1p", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.log1p), lower=vector("log1p", 20))

# --- Sin ---
define("Sin", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.sin), lower=vector("sin", 20))

# --- Cos ---
define("Cos", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.cos), lower=vector("cos", 20))

# --- Tan ---
define("Tan", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.tan), lower=vector("tan", 25))

# --- Asin ---
define("Asin", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.arcsin), lower=vector("asin", 20))

# --- Acos ---
define("Acos", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.arccos), lower=vector("acos", 20))

# --- Atan ---
define("Atan", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.arctan), lower=vector("atan", 20))

# --- Atan2 ---
define("Atan2", "y: T, x: T -> z: T", FLOAT, infer=broadcasting, reference=in_float(np.arctan2),
       lower=vector("atan2", 25))  # fmt: skip

# --- Sinh ---
define("Sinh", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.sinh), lower=vector("sinh", 20))

# --- Cosh ---
define("Cosh", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.cosh), lower=vector("cosh", 20))

# --- Tanh ---
define("Tanh", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.tanh), lower=vector("tanh", 15))

# --- Asinh ---
define("Asinh", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.arcsinh), lower=vector("asinh", 30))

# --- Acosh ---
define("Acosh", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.arccosh), lower=vector("acosh", 30))

# --- Atanh ---
define("Atanh", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.arctanh), lower=vector("atanh", 30))


# --- Sigmoid: 1 / (1 + exp(-x)) ---
def _sigmoid(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "c":
        return 1 / (1 + np.exp(-x))
    # exp of what is not positive can't overflow.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


define("Sigmoid", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(_sigmoid), lower=vector("sigmoid", 20))

# --- Softplus: log(1 + exp(x)) ---
define("Softplus", "features: T -> activations: T", FLOAT, infer=unchanged,
       reference=in_float(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
       lower=vector("softplus", 30))  # fmt: skip

# --- Softsign: x / (1 + |x|) ---
define("Softsign", "features: T -> activations: T", FLOAT, infer=unchanged,
       reference=in_float(lambda x: x / (1 + np.abs(x))),
       lower=Elementwise(lambda b, call, x: b.div(x, b.add(b.like(1, x), b.abs(x))), cost=5))  # fmt: skip


# --- TanhGrad, SigmoidGrad: y is the op's result ---
def _emit_tanh_grad(b: Any, call: Any, y: Any, dy: Any) -> Any:
    return b.mul(dy, b.sub(b.like(1, y), b.mul(y, y)))


def _emit_sigmoid_grad(b: Any, call: Any, y: Any, dy: Any) -> Any:
    return b.mul(b.mul(dy, y), b.sub(b.like(1, y), y))


define("TanhGrad", "y: T, dy: T -> z: T", MOST, infer=unchanged,
       reference=in_float(lambda y, dy: dy * (1 - y * y)),
       lower=Elementwise(_emit_tanh_grad, cost=3))  # fmt: skip
define("SigmoidGrad", "y: T, dy: T -> z: T", MOST, infer=unchanged,
       reference=in_float(lambda y, dy: dy * y * (1 - y)),
       lower=Elementwise(_emit_sigmoid_grad, cost=3))  # fmt: skip


# --- SoftplusGrad, SoftsignGrad: of the features ---
def _emit_softsign_grad(b: Any, call: Any, gradients: Any, x: Any) -> Any:
    size = b.add(b.like(1, x), b.abs(x))
    return b.div(gradients, b.mul(size, size))


define("SoftplusGrad", "gradients: T, features: T -> backprops: T", FLOAT, infer=unchanged,
       reference=in_float(lambda gradients, x: gradients * _sigmoid(x)),
       lower=Elementwise(lambda b, call, gradients, x: b.mul(gradients, vmath.sigmoid(b, x)), cost=20))  # fmt: skip
define("SoftsignGrad", "gradients: T, features: T -> backprops: T", FLOAT, infer=unchanged,
       reference=in_float(lambda gradients, x: gradients / np.square(1 + np.abs(x))),
       lower=Elementwise(_emit_softsign_grad, cost=6))  # fmt: skip


# --- Floor, Ceil, Rint, Round (half to even) ---
define("Floor", "x: T -> y: T", FLOAT, infer=unchanged, reference=ufunc(np.floor),
       lower=Elementwise(lambda b, call, x: b.floor(x)))  # fmt: skip
define("Ceil", "x: T -> y: T", FLOAT, infer=unchanged, reference=ufunc(np.ceil),
       lower=Elementwise(lambda b, call, x: b.ceil(x)))  # fmt: skip
define("Rint", "x: T -> y: T", FLOAT, infer=unchanged, reference=ufunc(np.rint),
       lower=Elementwise(lambda b, call, x: b.round_even(x)))  # fmt: skip
define("Round", "x: T -> y: T", "T: type in float|int8|int16|int32|int64|complex", infer=unchanged,
       reference=ufunc(lambda x: x if x.dtype.kind in "iu" else np.rint(x)),
       lower=Elementwise(lambda b, call, x: b.round_even(x) if is_float(call) else x))  # fmt: skip


# --- IsNan, IsInf, IsFinite ---
def _emit_is(predicate: str) -> Any:
    # Comparisons with infinity: equal for IsInf, less for IsFinite; NaN gives false either way.
    return lambda b, call, x: b.compare(predicate, b.abs(x), b.like(np.inf, x))


define("IsNan", "x: T -> y: bool", FLOAT, infer=unchanged, reference=ufunc(np.isnan),
       lower=Elementwise(lambda b, call, x: b.is_nan(x)))  # fmt: skip
define("IsInf", "x: T -> y: bool", FLOAT, infer=unchanged, reference=ufunc(np.isinf),
       lower=Elementwise(_emit_is("eq"), cost=2))  # fmt: skip
define("IsFinite", "x: T -> y: bool", FLOAT, infer=unchanged, reference=ufunc(np.isfinite),
       lower=Elementwise(_emit_is("lt"), cost=2))  # fmt: skip
