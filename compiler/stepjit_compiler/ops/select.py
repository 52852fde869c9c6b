"""Choices between values: by a condition, or by bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite, Elementwise
from stepjit_compiler.opdef import Call, Inference, ShapeLike, broadcasting, define, extent_text, show


# --- Select: the condition is a scalar, chooses rows, or has the shape of both ---
def _merge(x: Inference, a: ShapeLike, b: ShapeLike, what: str) -> ShapeLike:
    if a is None or b is None:
        return b if a is None else a
    text = f"{what} must have the same size. Shapes must be equal: {show(a)} vs. {show(b)}"
    if len(a) != len(b):
        x.fail(text)
    return tuple(x.equal(m, n, text) for m, n in zip(a, b))


def _select_shape(x: Inference) -> list[ShapeLike]:
    condition, shape = x.shape(0), _merge(x, x.shape(1), x.shape(2), "'then' and 'else'")
    if condition is None or not condition or shape is None:
        return [shape]
    if len(condition) == 1 and shape:
        text = ("Number of batches of 'then' must match size of 'cond' (or be the same size and shape), but saw: "
                f"{extent_text(shape[0])} vs. {extent_text(condition[0])} "
                "(Dimensions must be equal)")  # fmt: skip
        return [(x.equal(shape[0], condition[0], text), *shape[1:])]
    return [_merge(x, condition, shape, "'cond' and 'then'")]


def _select(call: Call, condition: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    if yes.shape != no.shape:
        call.fail(f"'then' and 'else' must have the same size.  but received: {show(yes.shape)} vs. {show(no.shape)}")
    if condition.ndim == 1 and yes.ndim > 1:
        if condition.shape[0] != yes.shape[0]:
            call.fail("Number of batches of 'then' must match size of 'cond' (or be the same size and shape), but saw: "
                      f"{yes.shape[0]} vs. {condition.shape[0]}")  # fmt: skip
        condition = condition.reshape(-1, *[1] * (yes.ndim - 1))
    elif condition.ndim and condition.shape != yes.shape:
        call.fail(f"'cond' must be a scalar or a vector, or have the shape of 'then': "
                  f"{show(condition.shape)} vs. {show(yes.shape)}")  # fmt: skip
    return np.where(condition, yes, no)


def _expand_select(x: Any, call: Any, condition: Any, yes: Any, no: Any) -> Any:
    extents, rank = x.type(condition).dims, len(x.type(yes).dims)
    if len(extents) == 1 and rank > 1:
        condition = x.op("Reshape", condition, x.dims((extents[0], *[1] * (rank - 1))))
    return x.op("SelectV2", condition, yes, no)


define("Select", "condition: bool, t: T, e: T -> output: T", "T: type",
       infer=_select_shape, reference=_select, lower=Composite(_expand_select))  # fmt: skip


# --- SelectV2: all three broadcast ---
def _select_v2(call: Call, condition: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    try:
        np.broadcast_shapes(condition.shape, yes.shape, no.shape)
    except ValueError:
        call.fail(f"condition {show(condition.shape)}, then {show(yes.shape)}, and else {show(no.shape)} "
                  "must be broadcastable")  # fmt: skip
    return np.where(condition, yes, no)


define("SelectV2", "condition: bool, t: T, e: T -> output: T", "T: type",
       infer=broadcasting, reference=_select_v2,
       lower=Elementwise(lambda b, call, condition, yes, no: b.select(condition, yes, no)))  # fmt: skip


# --- ClipByValue: the lower bound wins; a NaN stays, and a NaN bound does not bind ---
_BOUNDS = "clip_value_min and clip_value_max must be either of the same shape as input, or a scalar."


def _clip_shape(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    for i in (1, 2):
        bound = x.shape(i)
        if bound:
            text = f"{_BOUNDS} Shapes must be equal: {show(shape)} vs. {show(bound)}"
            if shape is not None and len(bound) != len(shape):
                x.fail(text)
            shape = bound if shape is None else tuple(x.equal(m, n, text) for m, n in zip(shape, bound))
    return [shape]


def _clip(call: Call, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    if any(bound.ndim and bound.shape != x.shape for bound in (low, high)):
        call.fail(f"{_BOUNDS} input shape: {show(x.shape)}clip_value_min shape: {show(low.shape)}"
                  f"clip_value_max shape: {show(high.shape)}")  # fmt: skip
    x = np.where(x > high, high, x)
    return np.where(x < low, low, x)


def _emit_clip(b: Any, call: Any, x: Any, low: Any, high: Any) -> Any:
    x = b.select(b.compare("gt", x, high), high, x)
    return b.select(b.compare("lt", x, low), low, x)


define("ClipByValue", "t: T, clip_value_min: T, clip_value_max: T -> output: T", "T: type in number",
       infer=_clip_shape, reference=_clip, lower=Elementwise(_emit_clip, cost=3))  # fmt: skip
