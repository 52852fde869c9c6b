"""Quotients, remainders and powers. Integer division by zero fails, so it is native only for known divisors."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lower import vmath
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call, broadcasting, define, unchanged
from stepjit_compiler.ops.kinds import MOST, in_float, is_float, vector
from stepjit_runtime.errors import INTERNAL, UNIMPLEMENTED

BY_ZERO = "Integer division by zero"
_TRUNCATED_BY_ZERO = "Unexpected error in binary operator (only integer div and mod should have errors): " + BY_ZERO
NUMBER = "T: type in number"


def _known_divisor(call: Any) -> bool:
    """Floats, or integers by divisors that are known and not 0."""
    if call.inputs[0].dtype.is_floating:
        return True
    known = call.known(1)
    return known is not None and all(isinstance(each, int) and each != 0 for each in known.ravel())


def _dividing(floats: Any, integers: Any, code: int | None = None, rounds: bool = False) -> Any:
    """A reference of two functions; the one for integers only sees divisors that are not 0, one that rounds no complex
    numbers."""

    def reference(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            if x.dtype == object or y.dtype == object:
                return np.asarray(integers(x, y))
            if rounds and x.dtype.kind == "c":
                call.fail("complex numbers have no order: there is no quotient to round", UNIMPLEMENTED)
            if x.dtype.kind not in "iu":
                return np.asarray(floats(x, y)).astype(call.dtypes[0].np, copy=False)
            if np.any(y == 0) and np.broadcast(x, y).size:
                call.fail(BY_ZERO) if code is None else call.fail(_TRUNCATED_BY_ZERO, code)
            return np.asarray(integers(x, y)).astype(call.dtypes[0].np, copy=False)

    return reference


def _truncated(x: np.ndarray, y: np.ndarray) -> Any:
    """The integer quotient towards zero; exact for every width."""
    floor = np.floor_divide(x, y)
    return floor + ((np.remainder(x, y) != 0) & ((x < 0) != (y < 0)))


def _emit_truncated(b: Any, x: Any, y: Any) -> Any:
    if x.dtype.is_unsigned:
        return b.div(x, y)
    # The machine's division traps on the smallest integer by -1.
    minus_one = b.compare("eq", y, b.like(-1, y))
    return b.select(minus_one, b.neg(x), b.div(x, b.select(minus_one, b.like(1, y), y)))


def _emit_floor(b: Any, x: Any, y: Any) -> Any:
    quotient = _emit_truncated(b, x, y)
    if x.dtype.is_unsigned:
        return quotient
    return b.select(_rounds_up(b, b.sub(x, b.mul(quotient, y)), y), b.sub(quotient, b.like(1, x)), quotient)


def _rounds_up(b: Any, remainder: Any, y: Any) -> Any:
    """Whether truncation went above the floor: there is a remainder whose sign is not the divisor's."""
    zero = b.like(0, y)
    signs_differ = b.xor(b.compare("lt", remainder, zero), b.compare("lt", y, zero))
    return b.and_(b.compare("ne", remainder, zero), signs_differ)


def _emit_remainder(b: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of x."""
    if x.dtype.is_floating or x.dtype.is_unsigned:
        return b.rem(x, y)
    return b.sub(x, b.mul(_emit_truncated(b, x, y), y))


def _emit_mod(b: Any, call: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of y."""
    remainder = _emit_remainder(b, x, y)
    if x.dtype.is_unsigned:
        return remainder
    return b.select(_rounds_up(b, remainder, y), b.add(remainder, y), remainder)


def _float_mod(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    remainder = np.fmod(x, y)
    return np.where((remainder != 0) & ((y < 0) != (remainder < 0)), remainder + y, remainder)


def _emit_div(b: Any, call: Any, x: Any, y: Any) -> Any:
    return b.div(x, y) if x.dtype.is_floating else _emit_truncated(b, x, y)


def _emit_floor_div(b: Any, call: Any, x: Any, y: Any) -> Any:
    return b.floor(b.div(x, y)) if x.dtype.is_floating else _emit_floor(b, x, y)


def _cost(kind: float) -> dict[str, Any]:
    return {"when": _known_divisor, "cost": kind}


# --- Div: towards zero for integers ---
define("Div", "x: T, y: T -> z: T", NUMBER, infer=broadcasting, reference=_dividing(np.divide, _truncated),
       lower=Elementwise(_emit_div, **_cost(4)))  # fmt: skip

# --- RealDiv ---
define("RealDiv", "x: T, y: T -> z: T", NUMBER, infer=broadcasting, reference=_dividing(np.divide, _truncated),
       lower=Elementwise(_emit_div, **_cost(4)))  # fmt: skip

# --- FloorDiv ---
define("FloorDiv", "x: T, y: T -> z: T", NUMBER, infer=broadcasting, symbolic=True,
       reference=_dividing(lambda x, y: np.floor(np.divide(x, y)), np.floor_divide, rounds=True),
       lower=Elementwise(_emit_floor_div, **_cost(6)))  # fmt: skip

# --- TruncateDiv ---
define("TruncateDiv", "x: T, y: T -> z: T", NUMBER, infer=broadcasting,
       reference=_dividing(lambda x, y: np.trunc(np.divide(x, y)), _truncated, INTERNAL, rounds=True),
       lower=Elementwise(lambda b, call, x, y: b.truncate(b.div(x, y)) if x.dtype.is_floating
                         else _emit_truncated(b, x, y), **_cost(4)))  # fmt: skip

# --- FloorMod: the sign of the divisor ---
define("FloorMod", "x: T, y: T -> z: T", "T: type in real", infer=broadcasting, symbolic=True,
       reference=_dividing(_float_mod, np.remainder), lower=Elementwise(_emit_mod, **_cost(20)))  # fmt: skip

# --- Mod: the sign of the dividend ---
define("Mod", "x: T, y: T -> z: T", "T: type in int32|int64|float", infer=broadcasting,
       reference=_dividing(np.fmod, np.fmod),
       lower=Elementwise(lambda b, call, x, y: _emit_remainder(b, x, y), **_cost(20)))  # fmt: skip

# --- TruncateMod ---
define("TruncateMod", "x: T, y: T -> z: T", "T: type in int32|int64|float", infer=broadcasting,
       reference=_dividing(np.fmod, np.fmod, INTERNAL),
       lower=Elementwise(lambda b, call, x, y: _emit_remainder(b, x, y), **_cost(20)))  # fmt: skip


def _unless_zero(deciding: int, function: Any) -> Any:
    """A reference: 0 where the input numbered `deciding` is 0, else `function(x, y)`."""

    def compute(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        zero = (x, y)[deciding] == 0
        return np.where(zero, np.zeros((), x.dtype), function(x, y))

    return in_float(compute)


def _emit_unless_zero(b: Any, deciding: Any, value: Any) -> Any:
    return b.select(b.compare("eq", deciding, b.like(0, deciding)), b.like(0, value), value)


# --- DivNoNan: 0 where y is 0 ---
define("DivNoNan", "x: T, y: T -> z: T", MOST, infer=broadcasting, reference=_unless_zero(1, np.divide),
       lower=Elementwise(lambda b, call, x, y: _emit_unless_zero(b, y, b.div(x, y)), cost=5))  # fmt: skip

# --- Xdivy: 0 where x is 0 ---
define("Xdivy", "x: T, y: T -> z: T", MOST, infer=broadcasting, reference=_unless_zero(0, np.divide),
       lower=Elementwise(lambda b, call, x, y: _emit_unless_zero(b, x, b.div(x, y)), cost=5))  # fmt: skip

# --- Xlogy: x log y ---
define("Xlogy", "x: T, y: T -> z: T", MOST, infer=broadcasting,
       reference=_unless_zero(0, lambda x, y: x * np.log(y)),
       lower=Elementwise(lambda b, call, x, y: _emit_unless_zero(b, x, b.mul(x, vmath.log(b, y))), cost=15)
       )  # fmt: skip

# --- Xlog1py: x log(1 + y) ---
define("Xlog1py", "x: T, y: T -> z: T", MOST, infer=broadcasting,
       reference=_unless_zero(0, lambda x, y: x * np.log1p(y)),
       lower=Elementwise(lambda b, call, x, y: _emit_unless_zero(b, x, b.mul(x, vmath.log1p(b, y))), cost=20)
       )  # fmt: skip


# --- Pow: wraps for integers, whose exponents must not be negative ---
def _pow(call: Call, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind in "iu":
        if np.any(y < 0) and np.broadcast(x, y).size:
            call.fail("Integers to negative integer powers are not allowed")
        return np.asarray(np.power(x, y)).astype(call.dtypes[0].np, copy=False)
    return in_float(np.power)(call, x, y)


def _natural_power(call: Any) -> bool:
    """Floats, or integers to one known power."""
    if call.inputs[0].dtype.is_floating:
        return True
    known = call.known(1)
    return known is not None and known.size == 1 and isinstance(known.item(), int) and known.item() >= 0


def _emit_pow(b: Any, call: Any, x: Any, y: Any) -> Any:
    if x.dtype.is_floating:
        return vmath.pow(b, x, y)
    power, exponent = b.like(1, x), call.known(1).item()
    while exponent:
        power = b.mul(power, x) if exponent & 1 else power
        x, exponent = b.mul(x, x), exponent >> 1
    return power


define("Pow", "x: T, y: T -> z: T", "T: type in float|int8|int16|int32|int64|complex", infer=broadcasting,
       reference=_pow, lower=Elementwise(_emit_pow, when=_natural_power, cost=40))  # fmt: skip


# --- Reciprocal, Inv ---
def _reciprocal(call: Call, x: np.ndarray) -> np.ndarray:
    return _dividing(np.divide, _truncated)(call, np.ones((), x.dtype), x)


for _name in ("Reciprocal", "Inv"):
    define(_name, "x: T -> y: T", "T: type in float|int8|int16|int32|int64|complex", infer=unchanged,
           reference=_reciprocal,
           lower=Elementwise(lambda b, call, x: b.div(b.like(1, x), x), when=is_float, cost=4))  # fmt: skip

# --- Sqrt ---
define("Sqrt", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(np.sqrt),
       lower=Elementwise(lambda b, call, x: b.sqrt(x), cost=5))  # fmt: skip

# --- Rsqrt ---
define("Rsqrt", "x: T -> y: T", MOST, infer=unchanged, reference=in_float(lambda x: 1 / np.sqrt(x)),
       lower=vector("rsqrt", 8))  # fmt: skip


# --- Gradients of the above: y is the op's result, a zero gradient stays zero whatever y is ---
def _gradient(name: str, formula: Any, emit: Any) -> None:
    define(name, "y: T, dy: T -> z: T", MOST, infer=unchanged,
           reference=in_float(lambda y, dy: np.where(dy == 0, np.zeros((), y.dtype), formula(np.conj(y), dy))),
           lower=Elementwise(lambda b, call, y, dy: _emit_unless_zero(b, dy, emit(b, y, dy)), cost=5))  # fmt: skip


_gradient("SqrtGrad", lambda y, dy: dy * y.dtype.type(0.5) / y, lambda b, y, dy: b.div(b.mul(dy, b.like(0.5, y)), y))
_gradient("RsqrtGrad", lambda y, dy: dy * y.dtype.type(-0.5) * (y * y * y),
          lambda b, y, dy: b.mul(b.mul(dy, b.like(-0.5, y)), b.mul(b.mul(y, y), y)))  # fmt: skip
for _name in ("ReciprocalGrad", "InvGrad"):
    _gradient(_name, lambda y, dy: -dy * y * y, lambda b, y, dy: b.mul(b.mul(b.neg(dy), y), y))
