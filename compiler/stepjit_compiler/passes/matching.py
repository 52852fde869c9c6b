"""The table of simplify's rules by root op, and what rules look at nodes with.

A rule is `rule(x, node) -> value(s) or None`: `x` builds ops in their simplest form, `node` is the root, and what is
returned stands for the root's outputs. A result of another type than the root's is no match, so rules need not look at
shapes where a wrong one can't have the root's type. Rules are exact: the same bits but for a NaN's sign and payload.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from stepjit_compiler import opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Node, Ref, is_splat
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_inference import is_late

Result = Ref | tuple[Ref, ...] | None
Rule = Callable[[StepBuilder, Node], Result]

RULES: dict[str, list[Rule]] = {}
GENERAL: list[tuple[Callable[[OpDef], bool], Rule]] = []


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """The function is a rule for these root ops."""

    def register(function: Rule) -> Rule:
        for op in ops:
            RULES.setdefault(op, []).append(function)
        return function

    return register


def general_rule(applies: Callable[[OpDef], bool]) -> Callable[[Rule], Rule]:
    """The function is a rule for all ops of which `applies` holds."""

    def register(function: Rule) -> Rule:
        GENERAL.append((applies, function))
        return function

    return register


@cache
def _rules(op: str) -> tuple[Rule, ...]:
    for module in ("rules", "rules_array", "rules_slices", "rules_spread"):
        importlib.import_module(f"stepjit_compiler.passes.{module}")
    found = opdef.registered()[op]
    return (*(function for applies, function in GENERAL if applies(found)), *RULES.get(op, ()))


def rules_for(op: OpDef) -> tuple[Rule, ...]:
    """The rules whose root may be this op."""
    return _rules(op.name)


# --- What rules ask ---


def producer(x: StepBuilder, ref: Ref, *ops: str) -> Node | None:
    """The node that yields `ref` if it is one of `ops`."""
    node = x.nodes[ref[0]]
    return node if node.op in ops else None


def constant(x: StepBuilder, ref: Ref) -> np.ndarray | None:
    """The value of `ref` if it is a constant."""
    node = x.nodes[ref[0]]
    return node.attr["value"].array if node.op == "Const" else None


def integers(x: StepBuilder, ref: Ref) -> list[int] | None:
    """The elements of `ref` if it is a constant of integers."""
    array = constant(x, ref)
    return None if array is None or array.dtype.kind not in "iu" else [int(e) for e in array.ravel()]


def splat(x: StepBuilder, ref: Ref) -> Any:
    """The element (a numpy scalar, or bytes) that all of `ref` is surely made of, or None."""
    node = x.nodes[ref[0]]
    if node.op == "Const":
        array = node.attr["value"].array
        if array.size == 0:
            return None
        first = array.ravel()[0]
        return first if array.size == 1 or is_splat(array) else None
    if node.op == "Fill":
        return splat(x, node.inputs[1])
    return None


def is_number(value: Any, number: float) -> bool:
    """Whether a splat's element is `number`, with its sign if that is zero."""
    if value is None or isinstance(value, (bytes, str)) or value.dtype.kind == "b":
        return False
    return bool(value == number) and (number != 0 or bool(np.signbit(value)) == bool(np.signbit(number)))


def shape_ref(x: StepBuilder, extents: tuple[Extent, ...]) -> Ref | None:
    """The extents as a shape input; None when one is only known in mid-step."""
    return None if any(map(is_late, extents)) else x.dims(extents)


def reshaped(x: StepBuilder, value: Ref, extents: tuple[Extent, ...]) -> Ref | None:
    """`value` with these extents; None when one is only known in mid-step."""
    if x.type(value).dims == extents:
        return value
    shape = shape_ref(x, extents)
    return None if shape is None else x.op("Reshape", value, shape)


def is_real(x: StepBuilder, ref: Ref) -> bool:
    return x.type(ref).dtype.kind in "fiu"


def is_float(x: StepBuilder, ref: Ref) -> bool:
    return x.type(ref).dtype.kind == "f"


def is_integer(x: StepBuilder, ref: Ref) -> bool:
    return x.type(ref).dtype.kind in "iu"
