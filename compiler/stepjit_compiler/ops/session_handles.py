"""Tensors that a session keeps under handles."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, define, no_outputs, scalar
from stepjit_runtime import dtypes
from stepjit_runtime.errors import INTERNAL


def _put(call: Call, value: np.ndarray) -> np.ndarray:
    handle = call.attrs["_resources"].tensors.put(call.attrs["_name"], value)
    return np.array(handle.encode(), object)


def _text(call: Call, handle: np.ndarray) -> str:
    if handle.shape:
        call.fail(f"handle must be scalar, but it has the shape {list(handle.shape)}")
    return bytes(handle[()]).decode(errors="replace")


# --- GetSessionHandle, GetSessionHandleV2 ---
define("GetSessionHandle", "value: T -> handle: string", "T: type",
       infer=scalar, reference=_put, stateful=True, resources=True)  # fmt: skip
define("GetSessionHandleV2", "value: T -> handle: resource", "T: type",
       infer=scalar, reference=_put, stateful=True, resources=True)  # fmt: skip


# --- GetSessionTensor ---
def _get(call: Call, handle: np.ndarray) -> np.ndarray:
    found = call.attrs["_resources"].tensors.get(_text(call, handle))
    have, wanted = dtypes.as_dtype(found.dtype), call.dtypes[0]
    if have is not wanted:
        call.fail(
            f"Output 0 of type {have.name} does not match declared output type {wanted.name} for node "
            f"{call.attrs['_name']}",
            INTERNAL,
        )
    return found.copy()


define("GetSessionTensor", "handle: string -> value: dtype", "dtype: type",
       infer=lambda x: [None], reference=_get, stateful=True, resources=True)  # fmt: skip


# --- DeleteSessionTensor ---
def _delete(call: Call, handle: np.ndarray) -> Any:
    call.attrs["_resources"].tensors.delete(_text(call, handle))
    return ()


define("DeleteSessionTensor", "handle: string ->", infer=no_outputs, reference=_delete, stateful=True, resources=True)
