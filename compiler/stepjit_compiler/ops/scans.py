"""Running sums and products along an axis; they run on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define


def _shape(x: Inference) -> list[ShapeLike]:
    shape, axis = x.shape(0), x.extents(1)
    if x.rank(1):
        x.fail(f"Shape must be rank 0 but is rank {x.rank(1)} for '{x.op}'")
    if shape is not None and axis and isinstance(axis[0], int) and not -len(shape) <= axis[0] < len(shape):
        x.fail(f"ScanOp: Expected scan axis in the range [{-len(shape)}, {len(shape)}), but got {axis[0]}")
    return [shape]


def _scanning(function: Callable[..., Any], identity: float) -> Callable[..., Any]:
    def reference(call: Call, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
        along = int(axis)
        if not -x.ndim <= along < x.ndim:
            call.fail(f"ScanOp: Expected scan axis in the range [{-x.ndim}, {x.ndim}), but got {along}")
        if call.attrs["reverse"]:
            x = np.flip(x, along)
        with np.errstate(all="ignore"):
            out = function(x, along).astype(call.dtypes[0].np, copy=False)
        if call.attrs["exclusive"] and x.shape[along]:
            kept = np.take(out, range(x.shape[along] - 1), along)
            first = np.full_like(np.take(out, [0], along), identity)
            out = np.concatenate([first, kept], along)
        return np.ascontiguousarray(np.flip(out, along)) if call.attrs["reverse"] else out

    return reference


_ATTRS = "exclusive: bool = False, reverse: bool = False, T: type in {}, Tidx: type in index = int32"

# --- Cumsum, Cumprod, CumulativeLogsumexp ---
define("Cumsum", "x: T, axis: Tidx -> out: T", _ATTRS.format("number"), infer=_shape,
       reference=_scanning(lambda x, axis: np.add.accumulate(x, axis, dtype=x.dtype), 0))  # fmt: skip
define("Cumprod", "x: T, axis: Tidx -> out: T", _ATTRS.format("number"), infer=_shape,
       reference=_scanning(lambda x, axis: np.multiply.accumulate(x, axis, dtype=x.dtype), 1))  # fmt: skip
define("CumulativeLogsumexp", "x: T, axis: Tidx -> out: T", _ATTRS.format("float"), infer=_shape,
       reference=_scanning(lambda x, axis: np.logaddexp.accumulate(x.astype(np.float64), axis), -np.inf))  # fmt: skip
