"""The vector math functions: accuracy in ulps, special values, and the same bits for every vector width."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from vmath_loops import Loops

from stepjit_compiler.lower import vmath

Array = np.ndarray[Any, Any]
LONG = np.longdouble
REAL: dict[str, Any] = {"f32": np.float32, "f64": np.float64}
BITS: dict[str, Any] = {"f32": np.uint32, "f64": np.uint64}
WIDTHS = (1, 2, 4, 8, 16)
INF, NAN = math.inf, math.nan
ROOT_PI = np.sqrt(LONG(np.pi) + LONG(1.2246467991473532e-16))


def _sigmoid(x: Array) -> Array:
    power = np.exp(-abs(x))
    return np.asarray(np.where(x < 0, power, LONG(1)) / (1 + power))


def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-abs(x))))


def _erfc_positive(x: float) -> LONG:
    """erfc for x >= 0: below 1.5 by erf's series of positive terms, else by the tail's continued fraction."""
    v = LONG(x)
    if v < 1.5:
        term = total = v
        for n in range(1, 60):
            term *= 2 * v * v / (2 * n + 1)
            total += term
        return LONG(1) - total * np.exp(-v * v) * 2 / ROOT_PI
    fraction = LONG(0)
    for n in range(300, 0, -1):
        fraction = (LONG(n) / 2) / (v + fraction)
    return LONG(np.exp(-v * v) / (v + fraction) / ROOT_PI)


def _erfc(x: Array) -> Array:
    return np.array([NAN if np.isnan(v) else _erfc_positive(v) if v >= 0 else 2 - _erfc_positive(-v) for v in x], LONG)


def _erf(x: Array) -> Array:
    small = abs(x) < 1e-3  # there the difference from 1 has lost digits
    series = 2 / ROOT_PI * x * (1 - x * x / 3 * (1 - x * x * LONG(0.3)))
    rest = np.copysign(1 - _erfc(np.where(small, LONG(1), abs(x))), x)
    return np.asarray(np.where(small, series, rest))


# name: (reference, limit in ulps, range of ordinary arguments for float32, for float64)
UNARY: dict[str, tuple[Callable[..., Any], float, tuple[float, float], tuple[float, float]]] = {
    "exp": (np.exp, 1.5, (-110, 95), (-750, 715)),
    "expm1": (np.expm1, 2, (-40, 92), (-45, 712)),
    "log": (np.log, 1, (0, 4), (0, 4)),
    "log1p": (np.log1p, 1, (-1, 4), (-1, 4)),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.6, (0, 10), (0, 10)),
    "sigmoid": (_sigmoid, 2.5, (-110, 40), (-750, 60)),
    "softplus": (_softplus, 2, (-110, 40), (-750, 60)),
    "sinh": (np.sinh, 2, (-92, 92), (-712, 712)),
    "cosh": (np.cosh, 2, (-92, 92), (-712, 712)),
    "tanh": (np.tanh, 3, (-11, 11), (-22, 22)),
    "asinh": (np.arcsinh, 2, (-10, 10), (-10, 10)),
    "acosh": (np.arccosh, 2, (1, 10), (1, 10)),
    "atanh": (np.arctanh, 2, (-1, 1), (-1, 1)),
    "sin": (np.sin, 2, (-1e5, 1e5), (-1e5, 1e5)),
    "cos": (np.cos, 2, (-1e5, 1e5), (-1e5, 1e5)),
    "tan": (np.tan, 2, (-100, 100), (-100, 100)),
    "asin": (np.arcsin, 2, (-1, 1), (-1, 1)),
    "acos": (np.arccos, 2, (-1, 1), (-1, 1)),
    "atan": (np.arctan, 2, (-6, 6), (-6, 6)),
    "erf": (_erf, 2.5, (-5, 5), (-6.5, 6.5)),
    "erfc": (_erfc, 4, (-4, 10.2), (-6, 27.3)),
}
BINARY: dict[str, tuple[Callable[..., Any], float]] = {"atan2": (np.arctan2, 2), "pow": (np.power, 2)}

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 0.3, 1e30, -1e30, INF, -INF, NAN)


@pytest.fixture(scope="module")
def loops() -> Callable[[str, str], Loops]:
    made: dict[tuple[str, str], Loops] = {}

    def of(name: str, code: str) -> Loops:
        if (name, code) not in made:
            made[name, code] = Loops({name: (getattr(vmath, name), 2 if name in BINARY else 1)}, WIDTHS, (code,))
        return made[name, code]

    return of


def _arguments(code: str, low: float, high: float, count: int, seed: int) -> Array:
    """Ordinary numbers, numbers of many magnitudes, arbitrary bit patterns, subnormals and special values."""
    rng, real = np.random.default_rng(seed), REAL[code]
    limits = np.finfo(real)
    edges = [limits.max, limits.min, limits.tiny, -limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal]
    parts = [
        rng.uniform(low, high, count),
        rng.uniform(-1, 1, count) * 2.0 ** rng.uniform(-40, 8, count),
        rng.integers(0, np.iinfo(BITS[code]).max, count, dtype=BITS[code], endpoint=True).view(real),
        rng.uniform(-1, 1, count // 8) * float(limits.tiny),
        np.array(SPECIAL + tuple(map(float, edges))),
    ]
    with np.errstate(all="ignore"):
        values = np.concatenate([np.asarray(part, real) for part in parts])
    return np.resize(values, -(-values.size // 16) * 16)


def _ulps(got: Array, exact: Array) -> Array:
    """How far each result is from the exact value, in units of its last place; 0 for equal non-finite values."""
    real = got.dtype.type
    limits = np.finfo(real)
    with np.errstate(all="ignore"):
        rounded = exact.astype(real)
        unit = np.spacing(np.clip(abs(exact).astype(real), limits.tiny, limits.max)).astype(LONG)
        unit = np.where(abs(exact) < limits.tiny, LONG(limits.smallest_subnormal), unit)
        same = (got == rounded) | (np.isnan(got) & np.isnan(exact))
        distance = abs(got.astype(LONG) - exact) / unit
    return np.where(same & ~np.isfinite(got), LONG(0), np.where(np.isfinite(distance), distance, LONG(INF)))


def _check(name: str, run: Loops, code: str, exact: Array, limit: float, *arguments: Array) -> None:
    scalar = run(name, code, 1, *arguments)
    for lanes in WIDTHS[1:]:
        wide = run(name, code, lanes, *arguments)
        equal = (wide.view(BITS[code]) == scalar.view(BITS[code])) | (np.isnan(wide) & np.isnan(scalar))
        assert equal.all(), f"{lanes} lanes differ from 1 at {[a[~equal][:4] for a in arguments]}"
    distance = _ulps(scalar, exact)
    worst = int(np.argmax(distance))
    where = f"{name}{tuple(a[worst] for a in arguments)} = {scalar[worst]!r}, exactly {exact[worst]!r}"
    assert distance[worst] <= limit, f"{where}: {float(distance[worst]):.2f} ulp"
    zeros = (scalar == 0) & (exact == 0)
    signs = np.signbit(scalar[zeros]) == np.signbit(exact[zeros])
    assert signs.all(), f"sign of zero wrong at {[a[zeros][~signs][:4] for a in arguments]}"


@pytest.mark.parametrize("code", ["f32", "f64"])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, code: str, loops: Callable[[str, str], Loops]) -> None:
    reference, limit, *ranges = UNARY[name]
    count = 400 if name in ("erf", "erfc") else 20000
    x = _arguments(code, *ranges[code == "f64"], count, seed=7)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(LONG))
    _check(name, loops(name, code), code, exact, limit, x)


@pytest.mark.parametrize("code", ["f32", "f64"])
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, code: str, loops: Callable[[str, str], Loops]) -> None:
    reference, limit = BINARY[name]
    rng, real = np.random.default_rng(11), REAL[code]
    x = _arguments(code, -3, 3, 8000, seed=1)
    y = rng.permutation(_arguments(code, -30, 30, 8000, seed=2))
    with np.errstate(all="ignore"):
        y = np.where(rng.random(y.size) < 0.3, np.round(y), y)
    # Powers of numbers near 1 show the accuracy of the logarithm: results from the smallest to the largest.
    close = (1 + rng.uniform(-1, 1, 8000) * 2.0 ** rng.uniform(-20, 0, 8000)).astype(real)
    with np.errstate(all="ignore"):
        logarithm = np.log(np.maximum(close.astype(np.float64), 1e-3))
    span = (100 if code == "f32" else 740) * rng.uniform(-1, 1, 8000) / np.where(logarithm == 0, 1, logarithm)
    grid = [each.ravel() for each in np.meshgrid(np.array(SPECIAL, real), np.array(SPECIAL, real))]
    left = np.concatenate([x, close, grid[0]]).astype(real)
    right = np.concatenate([y, np.clip(span, -1e30, 1e30).astype(real), grid[1]])
    size = -(-left.size // 16) * 16
    left, right = np.resize(left, size), np.resize(right, size)
    with np.errstate(all="ignore"):
        exact = reference(left.astype(LONG), right.astype(LONG))
    _check(name, loops(name, code), code, exact, limit, left, right)


@pytest.mark.parametrize("code", ["f32", "f64"])
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles(name: str, code: str, loops: Callable[[str, str], Loops]) -> None:
    """Multiples of pi/2 as near as they get, and both sides of where libm takes over."""
    rng = np.random.default_rng(3)
    n = np.concatenate([np.arange(1, 4000), rng.integers(1, 2**38, 4000), rng.integers(2**38, 2**45, 4000)])
    x = np.resize(n * (np.pi / 2), 12016).astype(REAL[code])
    exact = getattr(np, name)(x.astype(LONG))
    _check(name, loops(name, code), code, exact, 2, x)


@pytest.mark.parametrize("code", ["f32", "f64"])
def test_erf_reaches_one_and_stays(code: str, loops: Callable[[str, str], Loops]) -> None:
    x = np.resize(np.array([6.5, 30.0, INF, -6.5, -30.0, -INF], REAL[code]), 16)
    assert (loops("erf", code)("erf", code, 8, x) == np.sign(x)).all()
    near = np.linspace(3, 7, 16000, dtype=REAL[code])
    assert (loops("erf", code)("erf", code, 8, near) <= 1).all()


def test_contraction_is_never_allowed() -> None:
    """`contract` would let the compiler round differently for different widths."""
    functions: dict[str, Any] = {name: (getattr(vmath, name), 1) for name in UNARY}
    functions |= {name: (getattr(vmath, name), 2) for name in BINARY}
    assert "contract" not in Loops(functions, (1,), ("f32",)).text


def test_needs_no_llvm() -> None:
    code = "import sys, stepjit_compiler.lower.vmath; assert 'llvmlite' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
