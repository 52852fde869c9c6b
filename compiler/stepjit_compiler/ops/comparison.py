"""Comparisons and logic: results are bool."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call, Inference, ShapeLike, broadcasting, define, show, ufunc, unchanged

REAL = "T: type in real"
_ANY = "T: type, incompatible_shape_error: bool = True"


# --- Equal, NotEqual: of incompatible shapes, a scalar answer instead of an error where the attr asks for it ---
def _equality_shape(x: Inference) -> list[ShapeLike]:
    if x.attrs.get("incompatible_shape_error", True):
        return broadcasting(x)
    a, b = x.shape(0), x.shape(1)
    if a is None or b is None:
        return [None]
    pairs = list(zip(reversed(a), reversed(b)))
    if any(isinstance(m, int) and isinstance(n, int) and m != n and 1 not in (m, n) for m, n in pairs):
        return [()]
    return broadcasting(x) if None not in (*a, *b) else [None]


def _equality(function: Any, otherwise: bool) -> Any:
    def reference(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            if not call.attrs.get("incompatible_shape_error", True):
                return np.array(otherwise)
            call.fail(f"Incompatible shapes: {show(x.shape)} vs. {show(y.shape)}")
        return np.asarray(function(x, y)).astype(bool, copy=False)

    return reference


def _must_fit(call: Any) -> bool:
    return bool(call.attrs.get("incompatible_shape_error", True))


define("Equal", "x: T, y: T -> z: bool", _ANY, infer=_equality_shape, reference=_equality(np.equal, False),
       commutative=True, lower=Elementwise(lambda b, call, x, y: b.compare("eq", x, y), when=_must_fit))  # fmt: skip
define("NotEqual", "x: T, y: T -> z: bool", _ANY, infer=_equality_shape, reference=_equality(np.not_equal, True),
       commutative=True, lower=Elementwise(lambda b, call, x, y: b.compare("ne", x, y), when=_must_fit))  # fmt: skip

# --- Less, LessEqual, Greater, GreaterEqual ---
define("Less", "x: T, y: T -> z: bool", REAL, infer=broadcasting, reference=ufunc(np.less),
       lower=Elementwise(lambda b, call, x, y: b.compare("lt", x, y)))  # fmt: skip
define("LessEqual", "x: T, y: T -> z: bool", REAL, infer=broadcasting, reference=ufunc(np.less_equal),
       lower=Elementwise(lambda b, call, x, y: b.compare("le", x, y)))  # fmt: skip
define("Greater", "x: T, y: T -> z: bool", REAL, infer=broadcasting, reference=ufunc(np.greater),
       lower=Elementwise(lambda b, call, x, y: b.compare("gt", x, y)))  # fmt: skip
define("GreaterEqual", "x: T, y: T -> z: bool", REAL, infer=broadcasting, reference=ufunc(np.greater_equal),
       lower=Elementwise(lambda b, call, x, y: b.compare("ge", x, y)))  # fmt: skip

# --- LogicalAnd, LogicalOr, LogicalNot ---
define("LogicalAnd", "x: bool, y: bool -> z: bool", infer=broadcasting, reference=ufunc(np.logical_and),
       commutative=True, lower=Elementwise(lambda b, call, x, y: b.and_(x, y)))  # fmt: skip
define("LogicalOr", "x: bool, y: bool -> z: bool", infer=broadcasting, reference=ufunc(np.logical_or),
       commutative=True, lower=Elementwise(lambda b, call, x, y: b.or_(x, y)))  # fmt: skip
define("LogicalNot", "x: bool -> y: bool", infer=unchanged, reference=ufunc(np.logical_not),
       lower=Elementwise(lambda b, call, x: b.not_(x)))  # fmt: skip


# --- ApproximateEqual: |x - y| < tolerance, so not for two infinities ---
def _equal_shapes(x: Inference) -> list[ShapeLike]:
    a, b = x.shape(0), x.shape(1)
    if a is None or b is None:
        return [b if a is None else a]
    text = f"x and y must be of the same shape. x shape: {show(a)}. y shape: {show(b)}"
    if len(a) != len(b):
        x.fail(text)
    return [tuple(x.equal(m, n, text) for m, n in zip(a, b))]


def _near(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.shape != y.shape:
        call.fail(f"x and y must be of the same shape. x shape: {show(x.shape)}. y shape: {show(y.shape)}")
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(x - y) < np.asarray(call.attrs["tolerance"]).astype(x.real.dtype))


define("ApproximateEqual", "x: T, y: T -> z: bool", "T: type in number, tolerance: float = 9.999999747378752e-06",
       infer=_equal_shapes, reference=_near, commutative=True,
       lower=Elementwise(lambda b, call, x, y: b.compare("lt", b.abs(b.sub(x, y)), b.like(call.attrs["tolerance"], x)),
                         cost=3))  # fmt: skip
