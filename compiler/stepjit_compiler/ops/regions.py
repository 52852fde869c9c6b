"""Control flow inside Steps: nodes that hold Steps of their own, *regions*, whose feeds are the node's inputs.

    _If {then, else}               inputs (condition, *values): runs one of the two regions over the values
    _While {body, cond, stacked}   inputs are loop variables: while `cond` of them holds, they become what `body` gives;
                                   what the body gives beyond them, `stacked` values, is collected: [trips, *shape]
    _WhileAnyRank {live}           a loop of the graph over those of its variables, which is no Step as ranks change
    _Fail                          in place of an op that can't run with the shapes at hand: only fails if it is come to
    _Held                          what a variable holds, inside a region: fails where it holds nothing

Extents of the surrounding step's symbols may stand in a region's types. A loop variable whose extents change from trip
to trip has symbols there that the region alone knows. Graphs have `If` and `While` instead (`control_flow.py`).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Alias, Check, Control
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, unchanged
from stepjit_runtime.errors import FAILED_PRECONDITION

# --- _If ---


def _merged(x: Inference) -> list[ShapeLike]:
    """The shapes that both branches agree on."""
    known = _symbols(x, range(1, x.count()))
    found: list[ShapeLike] = []
    for a, b in zip(x.attrs["then"].results(), x.attrs["else"].results(), strict=True):
        if len(a.dims) != len(b.dims):
            found.append(None)
            continue
        found.append(tuple(m if m == n and dims.symbols(m) <= known else None for m, n in zip(a.dims, b.dims)))
    return found


def _symbols(x: Inference, inputs: Any) -> frozenset[str]:
    return frozenset(name for i in inputs for extent in x.shape(i) or () for name in dims.symbols(extent or 0))


def _fixed(call: Any) -> bool:
    """Whether the shapes of all results are known before the branch is taken, and native code may move them."""
    known = {name for type_ in call.inputs for extent in type_.dims for name in dims.symbols(extent)}
    return _movable(call) and all(dims.symbols(e) <= known for type_ in call.types for e in type_.dims)


def _movable(call: Any) -> bool:
    return all(type_.dtype.itemsize for type_ in (*call.inputs, *call.types))


define(
    "_If", "condition: bool, values: Tin -> results: Tout", "Tin: list(type), Tout: list(type), then: func, else: func",
    infer=_merged, lower=Control("if", when=_fixed), stateful=True,
)  # fmt: skip

# --- _While ---


def _after_loop(x: Inference) -> list[ShapeLike]:
    """Variables keep their shapes, but for the extents that change; stacked values have a row for each trip."""
    body = x.attrs["body"]
    found: list[ShapeLike] = []
    for k, type_ in enumerate(body.feeds):
        found.append(tuple(e if e == own else None for e, own in zip(type_.dims, x.shape(k) or ())))
    known = _symbols(x, range(x.count()))
    for type_ in body.results()[len(body.feeds) :]:
        found.append((None, *(e if dims.symbols(e) <= known else None for e in type_.dims)))
    return found


def _steady(call: Any) -> bool:
    """Whether all shapes stay as they are from trip to trip."""
    count = len(call.inputs)
    known = {name for type_ in call.inputs for extent in type_.dims for name in dims.symbols(extent)}
    results = call.attrs["body"].results()
    steady = all(a.dims == b.dims == c.dims for a, b, c in zip(call.inputs, call.attrs["body"].feeds, results))
    return steady and _movable(call) and all(_is_known(e, known) for type_ in results[count:] for e in type_.dims)


def _is_known(extent: Extent, known: set[str]) -> bool:
    return dims.symbols(extent) <= known


define(
    "_While", "variables: T -> results: Tout",
    "T: list(type), Tout: list(type), body: func, cond: func, stacked: int = 0",
    infer=_after_loop, lower=Control("while", when=_steady), stateful=True,
)  # fmt: skip

# --- _WhileAnyRank {live} ---

define(
    "_WhileAnyRank", "variables: T -> results: Tout", "T: list(type), Tout: list(type), live: list(int)",
    infer=lambda x: [None] * x.count(), stateful=True,
)  # fmt: skip

# --- _Held {variable} ---


def _held(call: Call, value: np.ndarray, missing: np.ndarray) -> np.ndarray:
    if missing:
        call.fail(_uninitialised(call), FAILED_PRECONDITION)
    return value


def _uninitialised(call: Call) -> str:
    return f"Attempting to use uninitialized value {call.attrs['variable'].decode()}"


define(
    "_Held", "value: T, missing: int32 -> held: T", "T: type, variable: string",
    infer=unchanged, reference=_held,
    lower=Alias(checks=lambda call: [Check(1, 1, _uninitialised(call), FAILED_PRECONDITION)]),
)  # fmt: skip

# --- _Fail {message, code, shapes} ---


def _fail(call: Call, told: np.ndarray) -> None:
    """Fail, with the numbers told in place of `{0}`, `{1}`, ... in the message."""
    text = re.sub(r"\{(\d+)\}", lambda match: str(told[int(match[1])]), call.attrs["message"].decode())
    call.fail(text, call.attrs["code"])


define(
    "_Fail", "told: int32 -> results: Tout", "Tout: list(type), shapes: list(shape), message: string, code: int",
    infer=lambda x: list(x.attrs["shapes"]), reference=_fail, stateful=True,
)  # fmt: skip
