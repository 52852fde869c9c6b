"""What the arithmetic families share: lowerings through `vmath`, conditions on dtypes, references per element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.lower import vmath
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call

MOST = "T: type in float|complex"


def is_float(call: Any) -> bool:
    """Whether a lowering's first input is floating point."""
    return bool(call.inputs[0].dtype.is_floating)


def vector(name: str, cost: float) -> Elementwise:
    """The lowering that is one function of `vmath`, for floating-point inputs."""
    return Elementwise(lambda b, call, *values: getattr(vmath, name)(b, *values), when=is_float, cost=cost)


def per_element(function: Callable[..., float]) -> Callable[..., Any]:
    """The reference that maps Python floats to a float, computed in double precision whatever the dtype."""
    mapped = np.frompyfunc(function, function.__code__.co_argcount, 1)

    def reference(call: Call, *arrays: np.ndarray) -> np.ndarray:
        wide = [np.asarray(array, np.float64) for array in arrays]
        with np.errstate(all="ignore"):
            return np.asarray(mapped(*wide), np.float64).astype(call.dtypes[0].np)

    return reference


def in_float(function: Callable[..., Any]) -> Callable[..., Any]:
    """The reference that computes half-precision inputs in float32 and rounds the result once."""

    def reference(call: Call, *arrays: np.ndarray) -> np.ndarray:
        wide = [array.astype(np.float32) if array.dtype.itemsize == 2 else array for array in arrays]
        with np.errstate(all="ignore"):
            return np.asarray(function(*wide)).astype(call.dtypes[0].np, copy=False)

    return reference
