"""Ops that pass values on or stand for them: constants, placeholders, identities, and the checks among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, no_outputs, unchanged
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

# --- GuaranteeConst: a promise that nothing is made of ---
define("GuaranteeConst", "input: T -> output: T", "T: type",
       infer=unchanged, reference=_given, lower=Elementwise(_same, cost=0))  # fmt: skip

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
            x.equal(a, b, f"Dimension {k} in both shapes must be equal, but are {extent_text(a)} and {extent_text(b)}")
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
    if x.size == 0:
        return "[]"
    limit = x.size if most < 0 else most
    text = _rows(np.atleast_1d(x), [limit], "")
    return f"[{text}...]" if x.size > limit else f"[{text}]"


def _rows(x: np.ndarray, left: list[int], cut: str) -> str:
    """The elements in order until `left` were printed; a row that is cut off ends with `cut`."""
    if x.ndim == 1:
        shown = x[: left[0]]
        left[0] -= len(shown)
        return " ".join(map(element, shown)) + (cut if len(shown) < len(x) else "")
    texts: list[str] = []
    for item in x:
        if left[0] <= 0:
            break
        texts.append(f"[{_rows(item, left, '...')}]")
    return "".join(texts)


def element(value: Any) -> str:
    """One element as the kernels print it: strings bare, bools as 0 and 1, floats as short as tells them apart."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (complex, np.complexfloating)):
        return "?"
    if isinstance(value, (float, np.floating)) or type(value).__name__ == "bfloat16":
        kind, few, enough = (float, 15, 17) if isinstance(value, float) else (np.float32, 6, 9)
        short = f"{float(value):.{few}g}"
        return short if kind(short) == value else f"{float(value):.{enough}g}"
    return str(value)


define(
    "Assert", "condition: bool, data: T -> ", "T: list(type), summarize: int = 3",
    infer=no_outputs, reference=_assert_true, stateful=True,
)  # fmt: skip
