"""Ops that only steps contain: they have no counterpart in TF's graphs."""

from __future__ import annotations

from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import define, no_outputs, unchanged

# --- _AssignAny: a variable takes a value of another shape, or of a dtype that native code doesn't write ---
define("_AssignAny", "value: T -> ", "T: type, slot: int", infer=no_outputs, stateful=True)

# --- _AssignHeld: the same, unless there is no value (`missing` is not zero): a region may not have written any ---
define("_AssignHeld", "value: T, missing: int32 -> ", "T: type, slot: int", infer=no_outputs, stateful=True)

ASSIGNS = frozenset(("_AssignAny", "_AssignHeld"))
"""Python's writes to variables, which come when all else is done."""

# --- _Copy: the same value in another place (`passes/part_swaps.py`) ---
define("_Copy", "x: T -> y: T", "T: type", infer=unchanged, reference=lambda call, x: x,
       lower=Elementwise(lambda b, call, x: x))  # fmt: skip
