"""What the compiler's tests share: values for feeds, and steps run both ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Step, StepFailure, Type

EXTENT = 3
"""What symbols stand for in tests."""

SPECIAL = [0.0, -0.0, 1.0, -1.5, np.nan, np.inf, -np.inf, 1e-42, 3e38, 2.0, -7.25]


def feed_value(type_: Type, seed: int = 0) -> np.ndarray:
    """An array of the type: floats include the special ones, integers the extremes."""
    values = {name: EXTENT for extent in type_.dims for name in dims.symbols(extent)}
    shape = tuple(dims.evaluate(extent, values) for extent in type_.dims)
    size = int(np.prod(shape))
    rng = np.random.default_rng(seed)
    kind = type_.dtype.kind
    if kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if kind in "iu":
        limits = np.iinfo(type_.dtype.np)
        pool: Any = [0, 1, 2, limits.max, limits.min, 7]
    else:
        pool = SPECIAL
    rolled = np.roll(np.resize(np.array(pool, type_.dtype.np), max(size, len(pool))), seed)
    return rolled[:size].reshape(shape)


def outcome(step: Step) -> Any:
    """What the step gives: bytes of its results by the interpreter, or the message it fails with."""
    feeds = [feed_value(type_, i) for i, type_ in enumerate(step.feeds)]
    slots = [feed_value(slot.type, i) for i, slot in enumerate(step.slots)]
    try:
        fetched, written = interpret(step, feeds, slots)
    except StepFailure as failure:
        return failure.origin, failure.failure.message
    return [_comparable(array) for array in fetched], {slot: _comparable(array) for slot, array in written.items()}


def _comparable(array: np.ndarray) -> tuple[Any, ...]:
    if array.dtype.kind in "fc":
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    return array.dtype.name, array.shape, array.tobytes() if array.dtype != object else tuple(array.ravel())
