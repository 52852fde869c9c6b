"""prune, for TensorArrays of graphs from the wire: an array is the value that flows from op to op (`tensor_array_v3`).

Its handle only says whether it may grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from stepjit_compiler.ir import Ref
from stepjit_compiler.passes.prune import Translation
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes

_THROUGH = frozenset(("Enter", "Switch", "Identity", "Merge"))
"""Ops that pass handles on."""


def translate_array(t: Translation, op: Any) -> None:
    """Add the nodes of an op on a TensorArray, and note what it gives."""
    t._set(op, _TRANSLATIONS[op.type](t, op))


def _users(handle: Any) -> Iterator[Any]:
    """The ops that use an array's handle, in loops and branches too."""
    pending, seen = [handle], {handle}
    while pending:
        for op in pending.pop()._consumers:
            if op.type in _THROUGH:
                new = [tensor for tensor in op.outputs if tensor not in seen]
                seen.update(new)
                pending += new
            else:
                yield op


def _make(t: Translation, op: Any) -> list[Ref]:
    b, size, dtype, shape = t.builder, t._value(op.inputs[0]), op.attrs["dtype"], op.attrs["element_shape"]
    handle = b.const(int(op.attrs["dynamic_size"]), dtypes.int32)
    parts = any(user.type in ("TensorArrayConcatV3", "TensorArraySplitV3") for user in _users(op.outputs[0]))
    if dtype is not dtypes.string and (parts or (shape is not None and None in shape)):
        return [handle, b.op("_ListNew", size)]
    if shape is None or None in shape:
        return [handle, b.op("_NoElements", size, T=dtype)]
    extents = b.op("Pack", size, *(b.const(extent, dtypes.int32) for extent in shape))
    return [handle, b.op("Fill", extents, b.const(b"" if dtype is dtypes.string else 0, dtype))]


def _is_list(b: StepBuilder, flow: Ref, dtype: Any) -> bool:
    return b.type(flow).dtype is dtypes.string and dtype is not dtypes.string


def _told(t: Translation, op: Any) -> dict[str, Any]:
    """Shapes to go by, where not even the ranks of the results are known."""
    return {"_shapes": t.request.shapes[op]} if op in t.request.shapes else {}


def _grows(t: Translation, handle: Any) -> bool:
    known = t.builder.known(t._value(handle))
    return known is None or bool(known.item())


def _write(t: Translation, op: Any) -> list[Ref]:
    handle, index, value, flow = op.inputs
    refs = t._value(flow), t._value(index), t._value(value)
    name = "_ListWrite" if _is_list(t.builder, refs[0], t.builder.type(refs[2]).dtype) else "_TensorArrayWrite"
    return [t.builder.op(name, *refs, dynamic=_grows(t, handle))]


def _scatter(t: Translation, op: Any) -> list[Ref]:
    b = t.builder
    handle, indices, value, flow = (op.inputs[0], *(t._value(tensor) for tensor in op.inputs[1:]))
    rows = b.type(value)
    if _is_list(b, flow, rows.dtype):
        return [b.op("_ListScatter", flow, indices, value, dynamic=_grows(t, handle))]
    if 0 in b.type(flow).dims[1:]:
        size = b.dims((b.type(flow).dims[0], *rows.dims[1:]))
        flow = b.op("Fill", size, b.const(b"" if rows.dtype is dtypes.string else 0, rows.dtype))
    column = b.op("ExpandDims", indices, b.const(1, dtypes.int32))
    return [b.op("TensorScatterUpdate", flow, column, value)]


def _read(t: Translation, op: Any) -> list[Ref]:
    index, flow = t._value(op.inputs[1]), t._value(op.inputs[2])
    dtype = op.attrs["dtype"]
    if not _is_list(t.builder, flow, dtype):
        return [t.builder.op("_TensorArrayRead", flow, index)]
    return [t.builder.op("_ListRead", flow, index, dtype=dtype, element_shape=op.outputs[0].dims, **_told(t, op))]


def _gather(t: Translation, op: Any) -> list[Ref]:
    indices, flow = t._value(op.inputs[1]), t._value(op.inputs[2])
    dtype, shape = op.attrs["dtype"], op.attrs["element_shape"]
    if not _is_list(t.builder, flow, dtype):
        return [t.builder.op("GatherV2", flow, indices, t.builder.const(0, dtypes.int32))]
    return [t.builder.op("_ListGather", flow, indices, dtype=dtype, element_shape=shape, **_told(t, op))]


def _concat(t: Translation, op: Any) -> list[Ref]:
    flow, rest = t._value(op.inputs[1]), op.attrs["element_shape_except0"]
    return list(
        t.builder.op("_ListConcat", flow, dtype=op.attrs["dtype"], element_shape_except0=rest, **_told(t, op))
    )


def _split(t: Translation, op: Any) -> list[Ref]:
    value, lengths, flow = (t._value(tensor) for tensor in op.inputs[1:])
    return [t.builder.op("_ListSplit", flow, value, lengths, dynamic=_grows(t, op.inputs[0]))]


def _size(t: Translation, op: Any) -> list[Ref]:
    return [t.builder.dims(t.builder.type(t._value(op.inputs[1])).dims[0])]


_TRANSLATIONS: dict[str, Callable[[Translation, Any], list[Ref]]] = {
    "TensorArrayV3": _make, "TensorArrayWriteV3": _write, "TensorArrayReadV3": _read, "TensorArrayGatherV3": _gather,
    "TensorArrayScatterV3": _scatter, "TensorArrayConcatV3": _concat, "TensorArraySplitV3": _split,
    "TensorArraySizeV3": _size, "TensorArrayCloseV3": lambda t, op: [],
}  # fmt: skip
