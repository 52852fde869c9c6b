"""Ops that call Python functions of the user."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_runtime import py_functions

# --- PyFunc, PyFuncStateless: what the function gives is only known when it did ---


def _unknown(x: Inference) -> list[ShapeLike]:
    return [None] * len(x.attrs["Tout"])


def _call(call: Call, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return py_functions.call(call.attrs["token"].decode(), arrays, call.dtypes)


for _name in ("PyFunc", "PyFuncStateless"):
    define(
        _name, "input: Tin -> output: Tout", "token: string, Tin: list(type), Tout: list(type)",
        infer=_unknown, reference=_call, stateful=True,
    )  # fmt: skip
