"""Variables: made, read, assigned and counted.

In a step, state is a value: `prune` puts what a variable holds in the place of its reference or handle, and takes the
new values that an `Update` computes. To a shape rule a handle has the shape of its variable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Alias, Composite, Update
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, registered, scalar, show, unchanged
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
def _assigned(x: Inference) -> list[ShapeLike]:
    if not x.attrs["validate_shape"]:
        return [x.shape(1)]
    return [merged(x, x.shape(0), x.shape(1))]


def merged(x: Inference, ref: ShapeLike, value: ShapeLike) -> ShapeLike:
    """The shape of a variable and of what it is to hold; fails when they differ."""
    if ref is None or value is None:
        return value if ref is None else ref
    text = (f"Assign requires shapes of both tensors to match. lhs shape= {show(ref)} rhs shape= {show(value)} "
            f"(Dimensions must be equal: Shapes {show(ref)} and {show(value)} must be equal)")  # fmt: skip
    if len(ref) != len(value):
        x.fail(text)
    return tuple(x.equal(m, n, text) for m, n in zip(ref, value))


def _replaces(x: Any, call: Any, old: Any, value: Any) -> tuple[Any]:
    return (value,)


define("Assign", "ref: Ref(T), value: T -> output_ref: Ref(T)",
       "T: type, validate_shape: bool = True, use_locking: bool = True",
       infer=_assigned, lower=Update((0,), _replaces))  # fmt: skip


# --- _FitsVariable: the value, which must have the variable's shape; for extents that only the step knows ---
def _fits_variable(call: Call, value: np.ndarray) -> np.ndarray:
    wanted = call.attrs["shape"]
    if value.shape != wanted:
        call.fail(f"Assign requires shapes of both tensors to match. lhs shape= {show(wanted)} "
                  f"rhs shape= {show(value.shape)}")  # fmt: skip
    return value.copy()


define("_FitsVariable", "value: T -> output: T", "shape: shape, T: type",
       infer=lambda x: [merged(x, x.attrs["shape"], x.shape(0))], reference=_fits_variable, lower=Alias())  # fmt: skip


def _assigned_variable(x: Inference) -> list[ShapeLike]:
    merged(x, x.shape(0), x.shape(1))
    return []


define("AssignVariableOp", "resource: resource, value: dtype ->", "dtype: type, validate_shape: bool = False",
       infer=_assigned_variable, stateful=True, lower=Update((0,), _replaces))  # fmt: skip


# --- AssignAdd, AssignSub, AssignAddVariableOp, AssignSubVariableOp ---
def _added(op: str) -> Callable[..., Any]:
    def expand(x: Any, call: Any, old: Any, value: Any) -> tuple[Any]:
        same_shape(x, call, old, value)
        return (x.op(op, old, value),)

    return expand


def same_shape(x: Any, call: Any, variable: Any, value: Any) -> None:
    """Fails unless a value surely or possibly has the shape of the variable; nothing is broadcast into one."""
    have, new = x.type(variable).dims, x.type(value).dims
    sure = [(m, n) for m, n in zip(have, new) if isinstance(m, int) and isinstance(n, int)]
    if len(have) != len(new) or any(m != n for m, n in sure):
        call.fail(f"{call.name}: the shapes of the variable and the value must match: {show(have)} vs. {show(new)}")


for _name, _op in (("Add", "AddV2"), ("Sub", "Sub")):
    define(f"Assign{_name}", "ref: Ref(T), value: T -> output_ref: Ref(T)",
           "T: type in number, use_locking: bool = False",
           infer=lambda x: [merged(x, x.shape(0), x.shape(1))], lower=Update((0,), _added(_op)))  # fmt: skip
    define(f"Assign{_name}VariableOp", "resource: resource, value: dtype ->", "dtype: type",
           infer=_assigned_variable, stateful=True, lower=Update((0,), _added(_op)))  # fmt: skip


# --- CountUpTo, ResourceCountUpTo: gives the count before it goes up by one ---
def _expand_count(x: Any, call: Any, old: Any) -> tuple[Any]:
    return (x.op("_NextCount", old, limit=call.attrs["limit"]),)


define("CountUpTo", "ref: Ref(T) -> output: T", "limit: int, T: type in index", infer=scalar,
       lower=Update((0,), _expand_count, lambda x, call, old: old))  # fmt: skip
define("ResourceCountUpTo", "resource: resource -> output: T", "limit: int, T: type in index", infer=scalar,
       stateful=True, lower=Update((0,), _expand_count, lambda x, call, old: old))  # fmt: skip


# --- _NextCount ---
def _next_count(call: Call, count: np.ndarray) -> np.ndarray:
    if count.ndim:
        call.fail("input is not a scalar")
    if count >= call.attrs["limit"]:
        call.fail(f"Reached limit of {call.attrs['limit']}", OUT_OF_RANGE)
    return np.asarray(count + count.dtype.type(1))


define("_NextCount", "count: T -> next: T", "limit: int, T: type in index", infer=unchanged, reference=_next_count)
