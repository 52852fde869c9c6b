"""Rectifiers and their kin, with their gradient ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lower import vmath
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call, define, ufunc, unchanged
from stepjit_compiler.ops.kinds import in_float

REAL = "T: type in real"
FLOAT = "T: type in float"
_LEAKY = "alpha: float = 0.20000000298023224, T: type in float = float32"
_SCALE = 1.0507009873554804934193349852946
_SCALE_ALPHA = 1.7580993408473768599402175208123


def _less(b: Any, x: Any, bound: float) -> Any:
    return b.compare("lt", x, b.like(bound, x))


# --- Relu, Relu6: NaN stays ---
def _emit_relu(b: Any, call: Any, x: Any) -> Any:
    return b.select(b.compare("le", x, b.like(0, x)), b.like(0, x), x)


def _emit_relu6(b: Any, call: Any, x: Any) -> Any:
    positive = _emit_relu(b, call, x)
    return b.select(b.compare("gt", positive, b.like(6, x)), b.like(6, x), positive)


define("Relu", "features: T -> activations: T", "T: type in real|qint8", infer=unchanged,
       reference=ufunc(lambda x: np.where(x <= 0, np.zeros((), x.dtype), x)),
       lower=Elementwise(_emit_relu, cost=2))  # fmt: skip
define("Relu6", "features: T -> activations: T", REAL, infer=unchanged,
       reference=ufunc(lambda x: np.where(x <= 0, np.zeros((), x.dtype), np.where(x > 6, np.full((), 6, x.dtype), x))),
       lower=Elementwise(_emit_relu6, cost=3))  # fmt: skip


# --- ReluGrad, Relu6Grad: a product with 0 or 1, so that a NaN gradient is seen ---
def _masked(b: Any, gradients: Any, mask: Any) -> Any:
    return b.mul(gradients, b.select(mask, b.like(1, gradients), b.like(0, gradients)))


def _emit_relu6_grad(b: Any, call: Any, gradients: Any, x: Any) -> Any:
    return _masked(b, gradients, b.and_(b.compare("gt", x, b.like(0, x)), _less(b, x, 6)))


define("ReluGrad", "gradients: T, features: T -> backprops: T", REAL, infer=unchanged,
       reference=ufunc(lambda gradients, x: gradients * (x > 0).astype(x.dtype)),
       lower=Elementwise(lambda b, call, gradients, x: _masked(b, gradients, b.compare("gt", x, b.like(0, x))), cost=2)
       )  # fmt: skip
define("Relu6Grad", "gradients: T, features: T -> backprops: T", REAL, infer=unchanged,
       reference=ufunc(lambda gradients, x: gradients * ((x > 0) & (x < 6)).astype(x.dtype)),
       lower=Elementwise(_emit_relu6_grad, cost=3))  # fmt: skip


# --- LeakyRelu, LeakyReluGrad ---
def _leaky(call: Call, x: np.ndarray) -> np.ndarray:
    return in_float(lambda x: np.where(x > 0, x, x * x.dtype.type(call.attrs["alpha"])))(call, x)


def _leaky_grad(call: Call, gradients: np.ndarray, x: np.ndarray) -> np.ndarray:
    alpha = call.attrs["alpha"]
    return in_float(lambda g, x: np.where(x > 0, g, g * x.dtype.type(alpha)))(call, gradients, x)


def _emit_leaky(b: Any, call: Any, value: Any, x: Any) -> Any:
    slope = b.mul(value, b.like(call.attrs["alpha"], value))
    return b.select(b.compare("gt", x, b.like(0, x)), value, slope)


define("LeakyRelu", "features: T -> activations: T", _LEAKY, infer=unchanged, reference=_leaky,
       lower=Elementwise(lambda b, call, x: _emit_leaky(b, call, x, x), cost=3))  # fmt: skip
define("LeakyReluGrad", "gradients: T, features: T -> backprops: T", _LEAKY, infer=unchanged, reference=_leaky_grad,
       lower=Elementwise(_emit_leaky, cost=3))  # fmt: skip


# --- Elu, EluGrad: the gradient takes the op's outputs ---
def _emit_elu(b: Any, call: Any, x: Any) -> Any:
    return b.select(_less(b, x, 0), vmath.expm1(b, x), x)


def _emit_elu_grad(b: Any, call: Any, gradients: Any, y: Any) -> Any:
    return b.select(_less(b, y, 0), b.mul(gradients, b.add(y, b.like(1, y))), gradients)


define("Elu", "features: T -> activations: T", FLOAT, infer=unchanged,
       reference=in_float(lambda x: np.where(x < 0, np.expm1(x), x)),
       lower=Elementwise(_emit_elu, cost=20))  # fmt: skip
define("EluGrad", "gradients: T, outputs: T -> backprops: T", FLOAT, infer=unchanged,
       reference=in_float(lambda g, y: np.where(y < 0, g * (y + 1), g)),
       lower=Elementwise(_emit_elu_grad, cost=3))  # fmt: skip


# --- Selu, SeluGrad ---
def _emit_selu(b: Any, call: Any, x: Any) -> Any:
    below = b.mul(vmath.expm1(b, x), b.like(_SCALE_ALPHA, x))
    return b.select(_less(b, x, 0), below, b.mul(x, b.like(_SCALE, x)))


def _emit_selu_grad(b: Any, call: Any, gradients: Any, y: Any) -> Any:
    below = b.mul(gradients, b.add(y, b.like(_SCALE_ALPHA, y)))
    return b.select(_less(b, y, 0), below, b.mul(gradients, b.like(_SCALE, y)))


define("Selu", "features: T -> activations: T", FLOAT, infer=unchanged,
       reference=in_float(lambda x: np.where(x < 0, np.expm1(x) * x.dtype.type(_SCALE_ALPHA),
                                             x * x.dtype.type(_SCALE))),
       lower=Elementwise(_emit_selu, cost=20))  # fmt: skip
define("SeluGrad", "gradients: T, outputs: T -> backprops: T", FLOAT, infer=unchanged,
       reference=in_float(lambda g, y: np.where(y < 0, g * (y + y.dtype.type(_SCALE_ALPHA)),
                                                g * y.dtype.type(_SCALE))),
       lower=Elementwise(_emit_selu_grad, cost=3))  # fmt: skip
