"""Printing what tensors hold, on the standard error of the process (or where the op says)."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, define, no_outputs, unchanged
from stepjit_compiler.ops.control import summary

# --- Print ---


def _print(call: Call, value: np.ndarray, *data: np.ndarray) -> np.ndarray:
    attrs = call.attrs
    if attrs["first_n"] >= 0:
        numbers = attrs["_resources"].stream(("Print", attrs["_name"]), itertools.count)
        if next(numbers) >= attrs["first_n"]:
            return value
    text = "".join(summary(x, attrs["summarize"]) for x in data)
    print(attrs["message"].decode(errors="replace") + text, file=sys.stderr, flush=True)
    return value


define(
    "Print", "input: T, data: U -> output: T",
    "T: type, U: list(type), message: string = '', first_n: int = -1, summarize: int = 3",
    infer=unchanged, reference=_print, stateful=True, resources=True,
)  # fmt: skip

# --- PrintV2 ---


def _print_text(call: Call, text: np.ndarray) -> tuple[()]:
    target, end = call.attrs["output_stream"].decode(), call.attrs["end"].decode()
    line = text.item().decode(errors="replace")
    if target.startswith("file://"):
        with open(target.removeprefix("file://"), "a", encoding="utf-8") as file:
            file.write(line + end)
        return ()
    stream: Any = sys.stdout if target in ("stdout", "log(info)") else sys.stderr
    print(line, end=end, file=stream, flush=True)
    return ()


define(
    "PrintV2", "input: string -> ", "output_stream: string = 'stderr', end: string = '\n'",
    infer=no_outputs, reference=_print_text, stateful=True,
)  # fmt: skip
