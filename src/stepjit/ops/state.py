"""Changing variables in the graph: assign, scatter and their kin, for reference and resource variables alike."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType


def is_resource(ref: Any) -> bool:
    """Whether `ref` is a resource variable."""
    return getattr(ref, "handle", None) is not None


def as_ref(ref: Any) -> Tensor:
    """The reference tensor of a variable, or the tensor itself; TypeError for a tensor that is no reference."""
    tensor = ref._ref() if hasattr(ref, "_ref") and not isinstance(ref, Tensor) else ref
    if not isinstance(tensor, Tensor) or not tensor.dtype._is_ref_dtype:
        raise TypeError(f"a variable is needed to be changed, got {ref!r}")
    return tensor


# --- assign ---


def assign(
    ref: Any, value: Any, validate_shape: bool | None = None, use_locking: bool | None = None, name: str | None = None
) -> Any:
    """Let the variable be `value`; gives the new value. ValueError for a wrong static shape, unless not validated."""
    if is_resource(ref):
        return ref.assign(value, name=name)
    return apply_op(
        "Assign", ref=as_ref(ref), value=value, validate_shape=True if validate_shape is None else validate_shape,
        use_locking=True if use_locking is None else use_locking, name=name,
    )  # fmt: skip


def assign_add(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Any:
    """Add `value` to the variable; gives the new value."""
    if is_resource(ref):
        return ref.assign_add(value, name=name)
    return apply_op("AssignAdd", ref=as_ref(ref), value=value, use_locking=bool(use_locking), name=name)


def assign_sub(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Any:
    """Subtract `value` from the variable; gives the new value."""
    if is_resource(ref):
        return ref.assign_sub(value, name=name)
    return apply_op("AssignSub", ref=as_ref(ref), value=value, use_locking=bool(use_locking), name=name)


# --- scatter ---


def _scatter(kind: str, ref: Any, indices: Any, updates: Any, use_locking: bool, name: str | None) -> Any:
    if is_resource(ref):
        rows = convert_to_tensor(indices)
        values = convert_to_tensor(updates, dtype=ref.dtype)
        return ref._after(apply_op("Resource" + kind, resource=ref.handle, indices=rows, updates=values, name=name))
    return apply_op(kind, ref=as_ref(ref), indices=indices, updates=updates, use_locking=use_locking, name=name)


def scatter_update(ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None) -> Any:
    """Let rows `indices` of the variable be `updates`; gives the new value."""
    return _scatter("ScatterUpdate", ref, indices, updates, use_locking, name)


def scatter_add(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Add `updates` to rows `indices` of the variable; repeated rows add up."""
    return _scatter("ScatterAdd", ref, indices, updates, use_locking, name)


def scatter_sub(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Subtract `updates` from rows `indices` of the variable."""
    return _scatter("ScatterSub", ref, indices, updates, use_locking, name)


def scatter_mul(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Multiply rows `indices` of the variable by `updates`."""
    return _scatter("ScatterMul", ref, indices, updates, use_locking, name)


def scatter_div(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Divide rows `indices` of the variable by `updates`."""
    return _scatter("ScatterDiv", ref, indices, updates, use_locking, name)


def scatter_min(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Let rows `indices` of the variable be the smaller of themselves and `updates`."""
    return _scatter("ScatterMin", ref, indices, updates, use_locking, name)


def scatter_max(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Let rows `indices` of the variable be the larger of themselves and `updates`."""
    return _scatter("ScatterMax", ref, indices, updates, use_locking, name)


def _scatter_nd(kind: str, ref: Any, indices: Any, updates: Any, use_locking: bool, name: str | None) -> Any:
    if is_resource(ref):
        rows = convert_to_tensor(indices)
        values = convert_to_tensor(updates, dtype=ref.dtype)
        return ref._after(apply_op("Resource" + kind, ref=ref.handle, indices=rows, updates=values, name=name))
    return apply_op(kind, ref=as_ref(ref), indices=indices, updates=updates, use_locking=use_locking, name=name)


def scatter_nd_update(ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None) -> Any:
    """Let the slices of the variable at index tuples `indices` be `updates`; gives the new value."""
    return _scatter_nd("ScatterNdUpdate", ref, indices, updates, use_locking, name)


def scatter_nd_add(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Add `updates` to the slices of the variable at index tuples `indices`."""
    return _scatter_nd("ScatterNdAdd", ref, indices, updates, use_locking, name)


def scatter_nd_sub(ref: Any, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None) -> Any:
    """Subtract `updates` from the slices of the variable at index tuples `indices`."""
    return _scatter_nd("ScatterNdSub", ref, indices, updates, use_locking, name)


def gather_nd(ref: Any, indices: Any, name: str | None = None) -> Tensor:
    """The elements or slices of a variable at index tuples."""
    if not is_resource(ref):
        return apply_op("GatherNd", params=ref, indices=indices, name=name)
    with name_scope(name, "GatherNd") as scope:
        rows = convert_to_tensor(indices)
        value = apply_op("ResourceGatherNd", resource=ref.handle, indices=rows, dtype=ref.dtype, name=scope)
        return apply_op("Identity", input=value)


def batch_scatter_update(
    ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None
) -> Any:
    """Let rows of a batch of matrices be `updates`: ref[i, ..., indices[i, ..., j]] = updates[i, ..., j]."""
    with name_scope(name, "batch_scatter_update", [ref, indices, updates]):
        rows = convert_to_tensor(indices)
        count = len(rows.dims or ())
        whole = apply_op("Shape", input=rows, out_type=rows.dtype.base_dtype)
        places = []
        for axis in range(count - 1):
            extent = apply_op("Gather", params=whole, indices=axis)
            zero, one = (constant(number, rows.dtype.base_dtype) for number in (0, 1))
            line = apply_op("Range", start=zero, limit=extent, delta=one)
            shaped = apply_op("Reshape", tensor=line, shape=[-1 if k == axis else 1 for k in range(count)])
            places.append(apply_op("BroadcastTo", input=shaped, shape=whole))
        tuples = apply_op("Pack", values=[*places, rows], axis=count)
        return scatter_nd_update(ref, tuples, updates, use_locking)


for _kind in (
    "AssignAdd", "AssignSub", "ScatterAdd", "ScatterSub", "ScatterMul", "ScatterDiv", "ScatterNdUpdate", "ScatterNdAdd",
    "ScatterNdSub", "Assign", "IsVariableInitialized", "CountUpTo",
):  # fmt: skip
    NotDifferentiable(_kind)


# --- the rest ---


def count_up_to(ref: Any, limit: int, name: str | None = None) -> Tensor:
    """The variable's value, which is then increased by 1; OutOfRangeError in the step once it has reached `limit`."""
    if is_resource(ref):
        return apply_op("ResourceCountUpTo", resource=ref.handle, limit=limit, T=ref.dtype, name=name)
    return apply_op("CountUpTo", ref=as_ref(ref), limit=limit, name=name)


def is_variable_initialized(ref: Any, name: str | None = None) -> Tensor:
    """Whether the variable has a value, as a bool tensor."""
    if is_resource(ref):
        return ref.is_initialized(name=name)
    return apply_op("IsVariableInitialized", ref=as_ref(ref), name=name)


def initialized_value(variable: Any) -> Tensor:
    """The variable's value, or its initial value while it holds nothing."""
    from stepjit.ops.cond import cond

    return cond(is_variable_initialized(variable), variable.read_value, lambda: variable.initial_value)


@RegisterGradient("ReadVariableOp")
def _read_grad(op: Operation, grad: Any) -> Any:
    return grad


def _shape_behind(handle: Tensor, dtype: DType) -> Tensor:
    """The shape of the value behind a handle, a constant where the variable's shape is static."""
    dims = handle.op.attrs["shape"] if handle.op.type == "VarHandleOp" else None
    if dims is None or None in dims:
        return apply_op("VariableShape", input=handle, out_type=dtype)
    return constant(list(dims), dtype=dtype, shape=[len(dims)], name="Const")


@RegisterGradient("ResourceGather")
def _resource_gather_grad(op: Operation, grad: Tensor) -> Any:
    from stepjit.framework.indexed_slices import IndexedSlices

    handle, indices = op.inputs
    shape = _shape_behind(handle, dtypes.int32)
    count = apply_op("ExpandDims", input=apply_op("Size", input=indices), dim=0)
    rest = apply_op("StridedSlice", input=shape, begin=[1], end=[0], strides=[1], end_mask=1)
    values_shape = apply_op("ConcatV2", values=[count, rest], axis=0, name="concat")
    values = apply_op("Reshape", tensor=grad, shape=values_shape)
    return [IndexedSlices(values, apply_op("Reshape", tensor=indices, shape=count), shape), None]


@RegisterGradient("ResourceGatherNd")
def _resource_gather_nd_grad(op: Operation, grad: Tensor) -> Any:
    from stepjit.framework.indexed_slices import IndexedSlices

    handle, indices = op.inputs
    shape = _shape_behind(handle, indices.dtype.base_dtype)
    if indices.dims is not None and len(indices.dims) == 2 and indices.dims[-1] == 1:
        return [IndexedSlices(grad, apply_op("Squeeze", input=indices, squeeze_dims=[-1]), shape), None]
    return [apply_op("ScatterNd", indices=indices, updates=grad, shape=shape), None]


NotDifferentiable("VarIsInitializedOp")
NotDifferentiable("VariableShape")
