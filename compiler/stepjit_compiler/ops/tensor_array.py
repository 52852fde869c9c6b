"""Arrays of tensors that a step writes one by one: a buffer with a row per element, as a value."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import at_least

# --- _TensorArrayWrite: the buffer with another row `index`; a dynamic one grows to hold it ---


def _written_shape(x: Inference) -> list[ShapeLike]:
    buffer, value = at_least(x, 0, 1), x.shape(2)
    if buffer is None:
        return [None if value is None else (None, *value)]
    if value is not None:
        text = "TensorArray elements must all have one shape: the element written does not fit"
        if len(value) != len(buffer) - 1:
            x.fail(text)
        buffer = (buffer[0], *(x.equal(m, n, text) for m, n in zip(buffer[1:], value)))
    return [(None, *buffer[1:]) if x.attrs["dynamic"] else buffer]


def _write(call: Call, buffer: np.ndarray, index: np.ndarray, value: np.ndarray) -> np.ndarray:
    at = int(index)
    if at < 0 or (at >= len(buffer) and not call.attrs["dynamic"]):
        call.fail(f"Tried to write to index {at} but array is not resizeable and size is: {len(buffer)}")
    if at >= len(buffer):
        buffer = _grown(buffer, at + 1)
    if buffer.shape[1:] != value.shape:
        call.fail(
            f"Could not write to TensorArray index {at} because the value shape is {list(value.shape)} which is "
            f"incompatible with the TensorArray's inferred element shape: {list(buffer.shape[1:])}"
        )
    result = buffer.copy()
    result[at] = value
    return result


def _grown(rows: np.ndarray, count: int) -> np.ndarray:
    result = np.zeros((count, *rows.shape[1:]), rows.dtype)
    if rows.dtype == object:
        result.fill(b"")
    result[: len(rows)] = rows
    return result


define(
    "_TensorArrayWrite", "buffer: T, index: int32, value: T -> result: T", "T: type, dynamic: bool = False",
    infer=_written_shape, reference=_write,
)  # fmt: skip

# --- _TensorArrayClaim: which elements are written, once `index` is too; each is written once ---


def _claim(call: Call, written: np.ndarray, index: np.ndarray) -> np.ndarray:
    at = int(index)
    if at < 0 or (at >= len(written) and not call.attrs["dynamic"]):
        call.fail(f"Tried to write to index {at} but array is not resizeable and size is: {len(written)}")
    if at >= len(written):
        written = _grown(written, at + 1)
    if written[at]:
        call.fail(f"Could not write to TensorArray index {at} because it has already been written to.")
    result = written.copy()
    result[at] = True
    return result


define(
    "_TensorArrayClaim", "written: bool, index: int32 -> result: bool", "dynamic: bool = False",
    infer=lambda x: [(None,) if x.attrs["dynamic"] else x.shape(0)], reference=_claim,
)  # fmt: skip

# --- _TensorArrayRead: row `index`, which must have been written ---


def _read_shape(x: Inference) -> list[ShapeLike]:
    buffer = at_least(x, 0, 1)
    return [None if buffer is None else buffer[1:]]


def _read(call: Call, buffer: np.ndarray, written: np.ndarray, index: np.ndarray) -> np.ndarray:
    at = int(index)
    if not 0 <= at < len(buffer):
        call.fail(f"Tried to read from index {at} but array size is: {len(buffer)}")
    if not written[at]:
        call.fail(f"Could not read index {at} of a TensorArray: it has not been written")
    return np.asarray(buffer[at])


define(
    "_TensorArrayRead", "buffer: T, written: bool, index: int32 -> value: T", "T: type",
    infer=_read_shape, reference=_read,
)  # fmt: skip
