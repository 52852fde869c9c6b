"""Branches and loops: ops whose attrs are regions, graphs of their own with parameters and results.

To the shape rules here a region is the front end's: `outputs` are tensors with `dims`. The compiler looks at its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define

# --- _Arg: a parameter of a region ---

define("_Arg", "-> output: T", "T: type, index: int", infer=lambda x: [None])

# --- If, StatelessIf ---


def _either(a: ShapeLike, b: ShapeLike) -> ShapeLike:
    """What is known of a value that has one of two shapes."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(m if m == n else None for m, n in zip(a, b))


def _if_shapes(x: Inference) -> list[ShapeLike]:
    if x.shape(0) not in (None, ()):
        x.fail(f"Shape must be rank 0 but is rank {x.rank(0)}")
    branches: list[Any] = [x.attrs["then_branch"], x.attrs["else_branch"]]
    return [_either(a.dims, b.dims) for a, b in zip(*(branch.outputs for branch in branches), strict=True)]


_BRANCHES = (
    "Tcond: type, Tin: list(type), Tout: list(type), then_branch: func, else_branch: func, "
    "output_shapes: list(shape) = []"
)
for _name in ("If", "StatelessIf"):
    define(_name, "cond: Tcond, input: Tin -> output: Tout", _BRANCHES, infer=_if_shapes, stateful=_name == "If")

# --- While, StatelessWhile ---


def _while_shapes(x: Inference) -> list[ShapeLike]:
    # Before the first trip and after each a loop variable has the shape of its parameter.
    return [tensor.dims for tensor in x.attrs["body"].inputs]


_LOOP = "cond: func, body: func, output_shapes: list(shape) = [], parallel_iterations: int = 10"
for _name in ("While", "StatelessWhile"):
    define(
        _name, "input: T -> output: T", f"T: list(type), {_LOOP}", infer=_while_shapes, stateful=_name == "While"
    )  # fmt: skip

# --- _WhileStacked: a While whose body has `stacked` more results, given back for all trips, in rows ---


def _stacked_shapes(x: Inference) -> list[ShapeLike]:
    body = x.attrs["body"]
    rows = [tensor.dims for tensor in body.outputs[len(body.inputs) :]]
    return [*_while_shapes(x), *(None if dims is None else (None, *dims) for dims in rows)]


define(
    "_WhileStacked", "input: T -> output: Tout",
    f"T: list(type), Tout: list(type), stacked: int, {_LOOP}", infer=_stacked_shapes, stateful=True,
)  # fmt: skip

# --- _RowExtents: the shape of what a trip stacks up; _ExtentsOfRow: that of one trip ---
# A step that sees that the shape is the same in all trips takes it, a vector, for what is stacked up of it.


def _of_one_row(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    return [None if shape is None else shape[-1:]]


define("_RowExtents", "input: T -> extents: int32", "T: type", infer=lambda x: [(x.rank(0),)])
define("_ExtentsOfRow", "extents: int32, index: int32 -> output: int32",
       infer=_of_one_row)

# --- _RowsTogether: rows [trips, n, ...] of all trips along one axis, as far as `extents` go; _RowsApart: in rows again


def _together_shape(x: Inference) -> list[ShapeLike]:
    rows = x.shape(0)
    return [None if rows is None else (None, *rows[2:])]


def _inside(extents: np.ndarray, row: int) -> tuple[slice, ...]:
    return tuple(slice(0, extent) for extent in extents[row])


def _rows_together(call: Call, rows: np.ndarray, extents: np.ndarray) -> np.ndarray:
    if not len(rows):
        return np.zeros((0, *rows.shape[2:]), rows.dtype)
    return np.concatenate([row[_inside(extents, k)] for k, row in enumerate(rows)])


def _rows_apart(call: Call, values: np.ndarray, rows: np.ndarray, extents: np.ndarray) -> np.ndarray:
    found, at = np.zeros_like(rows), 0
    for k in range(len(rows)):
        found[k][_inside(extents, k)] = values[at : at + extents[k][0]]
        at += extents[k][0]
    return found


define("_RowsTogether", "rows: T, extents: int32 -> output: T", "T: type", infer=_together_shape,
       reference=_rows_together)  # fmt: skip
define("_RowsApart", "values: T, rows: T, extents: int32 -> output: T", "T: type",
       infer=lambda x: [x.shape(1)], reference=_rows_apart)  # fmt: skip

# --- Case, PartitionedCall: an imported graph may have them, and gets what they stand for ---


def _unknown_shapes(x: Inference) -> list[ShapeLike]:
    return [None] * len(x.attrs["Tout"])


for _name in ("Case", "StatelessCase"):
    define(
        _name, "branch_index: int32, input: Tin -> output: Tout",
        "Tin: list(type), Tout: list(type), branches: list(func), output_shapes: list(shape) = []",
        infer=_unknown_shapes, stateful=_name == "Case",
    )  # fmt: skip
for _name in ("PartitionedCall", "StatefulPartitionedCall"):
    define(
        _name, "args: Tin -> output: Tout",
        "Tin: list(type), Tout: list(type), f: func, config: string = '', config_proto: string = '', "
        "executor_type: string = ''",
        infer=_unknown_shapes, stateful=_name == "StatefulPartitionedCall",
    )  # fmt: skip
