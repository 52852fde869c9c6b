"""Tensors kept in the session between steps: get_session_handle, get_session_tensor, delete_session_tensor."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.device import DeviceSpec
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.scopes import colocate_with
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.control import placeholder
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype


def get_session_handle(data: Any, name: str | None = None) -> Tensor:
    """An op that keeps the tensor in the session; its fetch is a handle object. TypeError when `data` is no Tensor."""
    if not isinstance(data, Tensor):
        raise TypeError("`data` must be of type Tensor.")
    with colocate_with(data):
        made: Tensor = apply_op("GetSessionHandle", name, value=data)
    return made


def get_session_tensor(handle: Any, dtype: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """A string placeholder for a handle, and the tensor that it names; ValueError for what is no handle."""
    with get_default_graph().device(_device(handle)):
        holder = placeholder(dtypes.string)
        tensor = apply_op("GetSessionTensor", name, handle=holder, dtype=as_dtype(dtype))
    return holder, tensor


def delete_session_tensor(handle: Any, name: str | None = None) -> tuple[Tensor, Operation]:
    """A string placeholder for a handle, and the op that frees its tensor; ValueError for what is no handle."""
    with get_default_graph().device(_device(handle)):
        holder = placeholder(dtypes.string)
        deleter = apply_op("DeleteSessionTensor", name, handle=holder)
    return holder, deleter


def _device(handle: Any) -> str:
    """The device at the end of a handle."""
    text = handle.decode() if isinstance(handle, bytes) else str(handle)
    parts = text.split(";")
    if len(parts) != 3:
        raise ValueError(f"{text!r} is no handle of a tensor in a session: it has not the form 'name;number;device'")
    DeviceSpec.from_string(parts[2])
    return parts[2]


for _type in ("GetSessionHandle", "GetSessionHandleV2", "GetSessionTensor", "DeleteSessionTensor"):
    NotDifferentiable(_type)
