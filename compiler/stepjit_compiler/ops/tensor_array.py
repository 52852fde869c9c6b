"""Arrays of tensors that a step writes one by one: a buffer with a row per element, as a value."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Alias, Check, Composite, Indexed, Scatter
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show, unchanged
from stepjit_compiler.ops.arguments import at_least
from stepjit_runtime import dtypes

# --- _TensorArrayWrite: the buffer with another row `index`; a dynamic one grows to hold it ---


def _written_shape(x: Inference) -> list[ShapeLike]:
    buffer, value = at_least(x, 0, 1), x.shape(2)
    if buffer is None:
        return [None if value is None else (None, *value)]
    if 0 in buffer[1:]:
        buffer = None if value is None else (buffer[0], *value)
    elif value is not None:
        text = (
            f"Could not write to a TensorArray because the value shape is {show(value)} which is incompatible with the "
            f"TensorArray's inferred element shape: {show(buffer[1:])}"
        )
        if len(value) != len(buffer) - 1:
            x.fail(text)
        buffer = (buffer[0], *(x.equal(m, n, text) for m, n in zip(buffer[1:], value)))
    return [(None, *buffer[1:]) if buffer is not None and x.attrs["dynamic"] else buffer]


_OUTSIDE = "Tried to write to index {value} but array is not resizeable and size is: {bound}"


def _write(call: Call, buffer: np.ndarray, index: np.ndarray, value: np.ndarray) -> np.ndarray:
    at = int(index)
    if at < 0 or (at >= len(buffer) and not call.attrs["dynamic"]):
        call.fail(_OUTSIDE.format(value=at, bound=len(buffer)))
    if 0 in buffer.shape[1:]:
        # An array without a shape for its elements takes that of the first.
        buffer = _grown(np.empty((0, *value.shape), buffer.dtype), len(buffer))
    if at >= len(buffer):
        buffer = _grown(buffer, at + 1)
    if buffer.shape[1:] != value.shape:
        call.fail(
            f"Could not write to TensorArray index {at} because the value shape is {list(value.shape)} which is "
            f"incompatible with the TensorArray's inferred element shape: {list(buffer.shape[1:])}"
        )
    result = buffer.copy()
    result[at, ...] = value
    return result


def _grown(rows: np.ndarray, count: int) -> np.ndarray:
    result = np.zeros((count, *rows.shape[1:]), rows.dtype)
    if rows.dtype == object:
        result.fill(b"")
    result[: len(rows)] = rows
    return result


def _keeps_shape(call: Any) -> bool:
    """Whether the element goes into the buffer that there is: one without a shape takes that of the first element."""
    return not call.attrs["dynamic"] and 0 not in call.inputs[0].dims[1:]


define(
    "_TensorArrayWrite", "buffer: T, index: int32, value: T -> result: T", "T: type, dynamic: bool = False",
    infer=_written_shape, reference=_write,
    lower=Scatter(lambda b, call, old, update: update, when=_keeps_shape, message=_OUTSIDE),
)  # fmt: skip

# --- _TensorArrayCount: how often each element was written, once `index` is again ---


def _count(call: Call, counts: np.ndarray, index: np.ndarray) -> np.ndarray:
    at = int(index)
    if at < 0 or (at >= len(counts) and not call.attrs["dynamic"]):
        call.fail(_OUTSIDE.format(value=at, bound=len(counts)))
    result = _grown(counts, at + 1) if at >= len(counts) else counts.copy()
    result[at] += 1
    return result


define(
    "_TensorArrayCount", "counts: int32, index: int32 -> result: int32", "dynamic: bool = False",
    infer=lambda x: [(None,) if x.attrs["dynamic"] else x.shape(0)], reference=_count,
    lower=Composite(
        lambda x, call, counts, index: x.op("_TensorArrayAdd", counts, index, x.const(1, dtypes.int32)),
        when=lambda call: not call.attrs["dynamic"],
    ),
)  # fmt: skip

# --- _TensorArrayAdd: the buffer with `value` added to row `index` ---


def _add(call: Call, buffer: np.ndarray, index: np.ndarray, value: np.ndarray) -> np.ndarray:
    if not 0 <= int(index) < len(buffer):
        call.fail(_OUTSIDE.format(value=int(index), bound=len(buffer)))
    result = buffer.copy()
    result[int(index)] += value
    return result


define(
    "_TensorArrayAdd", "buffer: T, index: int32, value: T -> result: T", "T: type in number",
    infer=unchanged, reference=_add, lower=Scatter(lambda b, call, old, update: b.add(old, update), message=_OUTSIDE),
)  # fmt: skip

# --- _TensorArrayRows: the buffer of an array whose elements were written at most once ---

_TWICE = "Could not write to TensorArray index {at} because it has already been written to."


def _rows(call: Call, buffer: np.ndarray, counts: np.ndarray) -> np.ndarray:
    if (counts > 1).any():
        call.fail(_TWICE.format(at=int(np.argmax(counts > 1))))
    return buffer


define(
    "_TensorArrayRows", "buffer: T, counts: int32 -> rows: T", "T: type", infer=unchanged, reference=_rows,
    lower=Alias(checks=lambda call: [Check(1, 2, _TWICE)]),
)  # fmt: skip

# --- _TensorArrayUnstack: a tensor as a buffer ---
define(
    "_TensorArrayUnstack", "value: T -> buffer: T", "T: type", infer=unchanged,
    reference=lambda call, value: value, lower=Alias(),
)  # fmt: skip

# --- _TensorArrayRead: row `index` ---

_UNREADABLE = "Tried to read from index {value} but array size is: {bound}"


def _read_shape(x: Inference) -> list[ShapeLike]:
    buffer = at_least(x, 0, 1)
    return [None if buffer is None else buffer[1:]]


def _read(call: Call, buffer: np.ndarray, index: np.ndarray) -> np.ndarray:
    at = int(index)
    if not 0 <= at < len(buffer):
        call.fail(_UNREADABLE.format(value=at, bound=len(buffer)))
    return np.asarray(buffer[at, ...])


define(
    "_TensorArrayRead", "buffer: T, index: int32 -> value: T", "T: type", infer=_read_shape, reference=_read,
    lower=Indexed(
        lambda k, call, output, index: k.load(0, (k.index(k.load(1, ())), *index)),
        checks=lambda call: [Check(1, call.inputs[0].dims[0], _UNREADABLE)],
    ),
)  # fmt: skip
