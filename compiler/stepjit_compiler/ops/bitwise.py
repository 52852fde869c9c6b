"""Bits of integers. A shift by less than 0 or by the width and more is taken as the nearest one within."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import broadcasting, define, ufunc, unchanged

INTEGER = "T: type in int"

# --- BitwiseAnd, BitwiseOr, BitwiseXor ---
define("BitwiseAnd", "x: T, y: T -> z: T", INTEGER, infer=broadcasting, reference=ufunc(np.bitwise_and),
       commutative=True, lower=Elementwise(lambda b, call, x, y: b.and_(x, y)))  # fmt: skip
define("BitwiseOr", "x: T, y: T -> z: T", INTEGER, infer=broadcasting, reference=ufunc(np.bitwise_or),
       commutative=True, lower=Elementwise(lambda b, call, x, y: b.or_(x, y)))  # fmt: skip
define("BitwiseXor", "x: T, y: T -> z: T", INTEGER, infer=broadcasting, reference=ufunc(np.bitwise_xor),
       commutative=True, lower=Elementwise(lambda b, call, x, y: b.xor(x, y)))  # fmt: skip

# --- Invert ---
define("Invert", "x: T -> y: T", INTEGER, infer=unchanged, reference=ufunc(np.invert),
       lower=Elementwise(lambda b, call, x: b.not_(x)))  # fmt: skip


# --- LeftShift, RightShift ---
def _shifting(shift: Any) -> Any:
    return ufunc(lambda x, y: shift(x, np.clip(y, 0, y.dtype.itemsize * 8 - 1)))


def _within(b: Any, y: Any) -> Any:
    y = b.maximum(y, b.like(0, y))
    return b.minimum(y, b.like(y.dtype.itemsize * 8 - 1, y))


define("LeftShift", "x: T, y: T -> z: T", INTEGER, infer=broadcasting, reference=_shifting(np.left_shift),
       lower=Elementwise(lambda b, call, x, y: b.shl(x, _within(b, y)), cost=3))  # fmt: skip
define("RightShift", "x: T, y: T -> z: T", INTEGER, infer=broadcasting, reference=_shifting(np.right_shift),
       lower=Elementwise(lambda b, call, x, y: b.shr(x, _within(b, y)), cost=3))  # fmt: skip


# --- PopulationCount ---
def _bit_count(x: np.ndarray) -> np.ndarray:
    return np.bitwise_count(x.view(np.dtype(f"u{x.dtype.itemsize}")))


define("PopulationCount", "x: T -> y: uint8", INTEGER, infer=unchanged, reference=ufunc(_bit_count),
       lower=Elementwise(lambda b, call, x: b.convert(b.intrinsic("ctpop", x), call.dtypes[0]), cost=3))  # fmt: skip
