"""Variables: made, read, assigned and counted.

In a step, state is a value: `prune` puts what a variable holds in the place of its reference or handle, and takes the
new values that an `Update` computes. To a shape rule a handle has the shape of its variable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Alias, Composite, Update
from stepjit_compiler.opdef import (
    Call,
    Inference,
    ShapeLike,
    define,
    extent_text,
    registered,
    scalar,
    show,
    unchanged,
)
from stepjit_runtime.errors import OUT_OF_RANGE


# --- VariableV2, Variable, VarHandleOp ---
def _declared(x: Inference) -> list[ShapeLike]:
    return [x.attrs["shape"]]


_NAMED = 'container: string = "", shared_name: string = ""'
define("VariableV2", "-> ref: Ref(dtype)", f"shape: shape, dtype: type, {_NAMED}", infer=_declared, stateful=True)


# In the older op an empty shape says that nothing is known.
define("Variable", "-> ref: Ref(dtype)", f"shape: shape, dtype: type, {_NAMED}",
       infer=lambda x: [x.attrs["shape"] or None], stateful=True)  # fmt: skip
define("VarHandleOp", "-> resource: resource",
       f'{_NAMED}, debug_name: string = "", dtype: type, shape: shape, allowed_devices: list(string) = []',
       infer=_declared, stateful=True)  # fmt: skip

# --- ReadVariableOp, VariableShape ---
define("ReadVariableOp", "resource: resource -> value: dtype", "dtype: type", infer=unchanged, stateful=True)
define("VariableShape", "input: resource -> output: out_type", "out_type: type in index = int32",
       infer=lambda x: [(x.rank(0),)],
       lower=Composite(lambda x, call, value: x.op("Shape", value, out_type=call.attrs["out_type"])))  # fmt: skip

# --- ResourceGatherNd: GatherNd from what the variable holds ---
define("ResourceGatherNd", "resource: resource, indices: Tindices -> output: dtype",
       "dtype: type, Tindices: type in index", infer=lambda x: registered()["GatherNd"].infer(x),
       lower=Composite(lambda x, call, value, indices: x.op("GatherNd", value, indices)))  # fmt: skip

# --- IsVariableInitialized, VarIsInitializedOp ---
define("IsVariableInitialized", "ref: Ref(dtype) -> is_initialized: bool", "dtype: type", infer=scalar)
define("VarIsInitializedOp", "resource: resource -> is_initialized: bool", infer=scalar, stateful=True)


# --- Assign, AssignVariableOp ---
ASSIGNED = "Assign requires shapes of both tensors to match. lhs shape= {have} rhs shape= {new}"
_UPDATED = "Parameters and update must be the same size"
RESOURCE_ASSIGNED = "Trying to assign to variable with tensor with wrong shape. Expected {have} got {new}"
_RESOURCE_UPDATED = "Cannot update variable with shape {have} using a Tensor with shape {new}, shapes must be equal."


def _assigned(x: Inference) -> list[ShapeLike]:
    if not x.attrs["validate_shape"]:
        return [x.shape(1)]
    return [merged(x, x.shape(0), x.shape(1))]


def merged(x: Inference, have: ShapeLike, new: ShapeLike, when_run: str = ASSIGNED) -> ShapeLike:
    """The shape of a variable and of what it is to hold; fails when they differ.

    when_run: what the failing step is told, with {have} and {new} for the shapes.
    """
    if have is None or new is None:
        return new if have is None else have
    told = _told(when_run, have, new)
    if len(have) != len(new):
        x.fail(f"Shapes must be equal rank, but are {len(have)} and {len(new)}" if x.building else told)
    return tuple(
        x.equal(m, n, differ(axis, have, new) if x.building else told) for axis, (m, n) in enumerate(zip(have, new))
    )


def differ(axis: int, a: Sequence[Extent | None], b: Sequence[Extent | None]) -> str:
    """What the builder of a graph is told of two shapes of one rank."""
    pair = f"{extent_text(a[axis])} and {extent_text(b[axis])}"
    shapes = f"Shapes are {show(tuple(a))} and {show(tuple(b))}."
    return f"Dimension {axis} in both shapes must be equal, but are {pair}. {shapes}"


def _told(text: str, have: ShapeLike, new: ShapeLike) -> str:
    return text.replace("{have}", show(have)).replace("{new}", show(new))


def _replaces(x: Any, call: Any, old: Any, value: Any) -> tuple[Any]:
    return (value,)


define("Assign", "ref: Ref(T), value: T -> output_ref: Ref(T)",
       "T: type, validate_shape: bool = True, use_locking: bool = True",
       infer=_assigned, lower=Update((0,), _replaces))  # fmt: skip


# --- _FitsVariable: the value, which must have the variable's shape; for extents that only the step knows ---
def _fits_variable(call: Call, value: np.ndarray) -> np.ndarray:
    wanted = call.attrs["shape"]
    if value.shape != wanted:
        call.fail(wrong_shape(call.attrs["resource"], wanted, value.shape))
    return value.copy()


def wrong_shape(resource: bool, have: ShapeLike, new: ShapeLike) -> str:
    """What the failing step is told when a variable is assigned a value of another shape."""
    return _told(RESOURCE_ASSIGNED if resource else ASSIGNED, have, new)


def _fitting(x: Inference) -> list[ShapeLike]:
    return [merged(x, x.attrs["shape"], x.shape(0), RESOURCE_ASSIGNED if x.attrs["resource"] else ASSIGNED)]


define("_FitsVariable", "value: T -> output: T", "shape: shape, resource: bool, T: type",
       infer=_fitting, reference=_fits_variable, lower=Alias())  # fmt: skip


def _resource(when_run: str) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        merged(x, x.shape(0), x.shape(1), when_run)
        return []

    return infer


define("AssignVariableOp", "resource: resource, value: dtype ->", "dtype: type, validate_shape: bool = False",
       infer=_resource(RESOURCE_ASSIGNED), stateful=True, lower=Update((0,), _replaces))  # fmt: skip


# --- AssignAdd, AssignSub, AssignAddVariableOp, AssignSubVariableOp ---
def _added(op: str, when_run: str) -> Callable[..., Any]:
    def expand(x: Any, call: Any, old: Any, value: Any) -> tuple[Any]:
        same_shape(x, call, old, value, when_run)
        return (x.op(op, old, value),)

    return expand


def same_shape(x: Any, call: Any, variable: Any, value: Any, when_run: str) -> None:
    """Fails unless a value has the shape of the variable; nothing is broadcast into one."""
    have, new = x.type(variable).dims, x.type(value).dims
    text = _told(when_run, have, new)
    if len(have) != len(new):
        call.fail(text)
    for m, n in zip(have, new):
        if not x.must_equal(m, n, text):
            call.fail(text)


for _name, _op in (("Add", "AddV2"), ("Sub", "Sub")):
    define(f"Assign{_name}", "ref: Ref(T), value: T -> output_ref: Ref(T)",
           "T: type in number, use_locking: bool = False",
           infer=lambda x: [merged(x, x.shape(0), x.shape(1), _UPDATED)],
           lower=Update((0,), _added(_op, _UPDATED)))  # fmt: skip
    define(f"Assign{_name}VariableOp", "resource: resource, value: dtype ->", "dtype: type",
           infer=_resource(_RESOURCE_UPDATED), stateful=True,
           lower=Update((0,), _added(_op, _RESOURCE_UPDATED)))  # fmt: skip


# --- CountUpTo, ResourceCountUpTo: gives the count before it goes up by one ---
def _count(x: Inference) -> list[ShapeLike]:
    if x.shape(0) not in (None, ()):
        x.fail(f"Shape must be rank 0 but is rank {x.rank(0)}: input is not a scalar")
    return [()]


def _expand_count(x: Any, call: Any, old: Any) -> tuple[Any]:
    return (x.op("_NextCount", old, limit=call.attrs["limit"]),)


define("CountUpTo", "ref: Ref(T) -> output: T", "limit: int, T: type in index", infer=_count,
       lower=Update((0,), _expand_count, lambda x, call, old: old))  # fmt: skip
define("ResourceCountUpTo", "resource: resource -> output: T", "limit: int, T: type in index", infer=_count,
       stateful=True, lower=Update((0,), _expand_count, lambda x, call, old: old))  # fmt: skip


# --- _NextCount ---
def _next_count(call: Call, count: np.ndarray) -> np.ndarray:
    if count.ndim:
        call.fail("input is not a scalar")
    if count >= call.attrs["limit"]:
        call.fail(f"Reached limit of {call.attrs['limit']}", OUT_OF_RANGE)
    return np.asarray(count + count.dtype.type(1))


define("_NextCount", "count: T -> next: T", "limit: int, T: type in index", infer=unchanged, reference=_next_count)
