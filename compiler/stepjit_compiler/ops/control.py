"""Ops that pass values on or stand for them: constants, placeholders, identities, and the checks among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, no_outputs, unchanged
from stepjit_runtime import dtypes


def _given(call: Call, x: np.ndarray) -> np.ndarray:
    return x


def _same(b: Any, call: Any, x: Any) -> Any:
    return x


# --- NoOp ---
define("NoOp", " -> ", infer=no_outputs, reference=lambda call: (), stateful=True)

# --- Const ---
define(
    "Const", " -> output: dtype", "value: tensor, dtype: type",
    infer=lambda x: [x.attrs["value"].shape], reference=lambda call: call.attrs["value"],
)  # fmt: skip

# --- Placeholder ---


def _placeholder_shape(x: Inference) -> list[ShapeLike]:
    return [x.attrs["shape"]]


def _unfed(call: Call) -> np.ndarray:
    shape = call.attrs["shape"]
    text = f"You must feed a value for placeholder tensor '{call.name}' with dtype {_wire_name(call.attrs['dtype'])}"
    if shape is not None:
        text += " and shape [" + ",".join("?" if extent is None else str(extent) for extent in shape) + "]"
    call.fail(text)


def _wire_name(dtype: dtypes.DType) -> str:
    """The dtype in the words of kernels' messages."""
    return {"float32": "float", "float64": "double", "float16": "half"}.get(dtype.name, dtype.name)


define(
    "Placeholder", " -> output: dtype", "dtype: type, shape: shape = unknown",
    infer=_placeholder_shape, reference=_unfed, stateful=True,
)  # fmt: skip
define(
    "PlaceholderV2", " -> output: dtype", "dtype: type, shape: shape",
    infer=_placeholder_shape, reference=_unfed, stateful=True,
)  # fmt: skip

# --- PlaceholderWithDefault ---


def _default_shape(x: Inference) -> list[ShapeLike]:
    given, declared = x.shape(0), x.attrs["shape"]
    if given is None or declared is None:
        return [declared]
    if len(given) != len(declared):
        x.fail(f"Shapes must be equal rank, but are {len(given)} and {len(declared)}")
    for k, (a, b) in enumerate(zip(given, declared)):
        if b is not None:
            x.equal(a, b, f"Dimension {k} in both shapes must be equal, but are {a} and {b}")
    return [declared]


# Feeds replace the output, so the default is never folded into its consumers' shapes.
define(
    "PlaceholderWithDefault", "input: dtype -> output: dtype", "dtype: type, shape: shape",
    infer=_default_shape, reference=_given, lower=Elementwise(_same, cost=0),
)  # fmt: skip

# --- Identity ---
define(
    "Identity", "input: T -> output: T", "T: type",
    infer=unchanged, reference=_given, lower=Elementwise(_same, cost=0), symbolic=True,
)  # fmt: skip

# --- StopGradient ---
define(
    "StopGradient", "input: T -> output: T", "T: type",
    infer=unchanged, reference=_given, lower=Elementwise(_same, cost=0), symbolic=True,
)  # fmt: skip

# --- PreventGradient ---
define(
    "PreventGradient", "input: T -> output: T", "T: type, message: string = ''",
    infer=unchanged, reference=_given, lower=Elementwise(_same, cost=0), symbolic=True,
)  # fmt: skip

# --- Snapshot ---
define(
    "Snapshot", "input: T -> output: T", "T: type",
    infer=unchanged, reference=_given, lower=Elementwise(_same, cost=0), symbolic=True,
)  # fmt: skip

# --- IdentityN ---
define(
    "IdentityN", "input: T -> output: T", "T: list(type)",
    infer=lambda x: [x.shape(i) for i in range(x.count())], reference=lambda call, *xs: xs,
)  # fmt: skip

# --- CheckNumerics ---


def _check_numerics(call: Call, x: np.ndarray) -> np.ndarray:
    nan, inf = bool(np.isnan(x).any()), bool(np.isinf(x).any())
    if nan or inf:
        what = "Inf and NaN" if nan and inf else "NaN" if nan else "Inf"
        call.fail(f"{call.attrs['message'].decode()} : Tensor had {what} values")
    return x


define(
    "CheckNumerics", "tensor: T -> output: T", "T: type in float, message: string",
    infer=unchanged, reference=_check_numerics, stateful=True,
)  # fmt: skip

# --- Assert ---


def _assert_true(call: Call, condition: np.ndarray, *data: np.ndarray) -> tuple[()]:
    if not bool(np.asarray(condition).all()):
        call.fail("assertion failed: " + " ".join(summary(x, call.attrs["summarize"]) for x in data))
    return ()


def summary(x: np.ndarray, most: int) -> str:
    """A tensor's first `most` elements of each axis (-1: all) in the kernels' form, `[[1 2][3...]...]`."""
    left = [x.size if most < 0 else most]
    return "[" + _summary(x, most, left) + "]" if x.ndim < 2 else _nested(x, left)


def _summary(x: np.ndarray, most: int, left: list[int]) -> str:
    flat = x.ravel().tolist() if x.dtype == object else list(x.ravel())
    shown = flat[: left[0]]
    return " ".join(map(element, shown)) + ("..." if len(shown) < len(flat) else "")


def _nested(x: np.ndarray, left: list[int]) -> str:
    """Rows in turn until `left` elements were printed, each cut with `...`."""
    text = "["
    for k in range(x.shape[0]):
        if left[0] <= 0:
            return text + "...]"
        if x.ndim == 2:
            row = x[k].tolist() if x.dtype == object else list(x[k])
            shown = row[: left[0]]
            left[0] -= len(shown)
            text += "[" + " ".join(map(element, shown)) + ("..." if len(shown) < len(row) else "") + "]"
        else:
            text += _nested(x[k], left)
    return text + "]"


def element(value: Any) -> str:
    """One element as the kernels print it: strings bare, bools as 0 and 1, floats with six digits."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (complex, np.complexfloating)):
        return f"({value.real:g},{value.imag:g})"
    if isinstance(value, (float, np.floating)) or type(value).__name__ == "bfloat16":
        return f"{float(value):g}"
    return str(value)


define(
    "Assert", "condition: bool, data: T -> ", "T: list(type), summarize: int = 3",
    infer=no_outputs, reference=_assert_true, stateful=True,
)  # fmt: skip
