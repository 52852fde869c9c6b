"""Attr values between the canonical form that ops hold and protocol buffers: AttrValue, TensorProto, TensorShapeProto.

Also which attrs an op of a GraphDef gets: those of its node, checked against its definition, and defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit.framework.shape import Dims, as_dims
from stepjit.proto import MESSAGES
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

_TensorProto, _TensorShapeProto = MESSAGES["TensorProto"], MESSAGES["TensorShapeProto"]

# --- Shapes ---


def shape_proto(dims: Dims) -> Any:
    """A new TensorShapeProto; unknown extents are -1."""
    proto = _TensorShapeProto()
    put_shape(proto, dims)
    return proto


def put_shape(proto: Any, dims: Dims) -> None:
    """Write a shape into a TensorShapeProto that is empty."""
    if dims is None:
        proto.unknown_rank = True
        return
    proto.SetInParent()
    for extent in dims:
        proto.dim.add(size=-1 if extent is None else extent)


# --- Tensors ---

_FIELDS = {
    "float32": "float_val", "float64": "double_val", "string": "string_val", "complex64": "scomplex_val",
    "complex128": "dcomplex_val", "int64": "int64_val", "bool": "bool_val", "float16": "half_val",
    "bfloat16": "half_val", "uint32": "uint32_val", "uint64": "uint64_val", "int32": "int_val", "int16": "int_val",
    "int8": "int_val", "uint16": "int_val", "uint8": "int_val", "qint8": "int_val", "quint8": "int_val",
    "qint16": "int_val", "quint16": "int_val", "qint32": "int_val",
}  # fmt: skip
"""Where the elements are when they are not raw bytes."""
_ALWAYS_LISTED = {dtypes.string, dtypes.bool_, dtypes.complex64, dtypes.complex128, dtypes.uint16}
"""Dtypes that TensorFlow never writes as raw bytes from Python."""

_LONG = 64
"""Elements from which on it is worth looking whether all are the same."""


def _is_uniform(array: np.ndarray) -> bool:
    """Whether all elements are the same, bit for bit: zeros of both signs and NaNs are told apart."""
    if array.dtype == object:
        return False
    rows = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8)
    return bool(np.array_equal(rows[-1], rows[0]) and (rows == rows[0]).all())


def put_tensor(proto: Any, array: np.ndarray, dtype: DType) -> None:
    """Write an array into a TensorProto that is empty.

    As little-endian bytes; listed when it has one element; that one alone when a long array repeats it.
    """
    proto.dtype = dtype.as_datatype_enum
    put_shape(proto.tensor_shape, array.shape)
    if array.size >= _LONG and _is_uniform(array):
        array = array.ravel()[:1]
    if array.size > 1 and dtype not in _ALWAYS_LISTED:
        proto.tensor_content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        return
    flat = array.ravel()
    if dtype.kind == "c":
        flat = flat.view(dtype.real_dtype.np)
    elif dtype in (dtypes.float16, dtypes.bfloat16):
        flat = flat.view(np.uint16)
    getattr(proto, _FIELDS[dtype.name]).extend(flat.tolist())


def array_of(proto: Any) -> np.ndarray:
    """The read-only array of a TensorProto; ValueError when its parts don't fit together."""
    try:
        dtype = dtypes.as_dtype(proto.dtype)
    except TypeError:
        raise ValueError(f"Invalid dtype {proto.dtype} in a TensorProto") from None
    dims = as_dims(proto.tensor_shape)
    field = _FIELDS.get(dtype.name)
    if dims is None or None in dims or field is None:
        raise ValueError(f"A TensorProto of {dtype.name} and shape {dims} can't be a constant")
    shape: Any = dims
    if proto.tensor_content:
        array = _from_content(proto.tensor_content, dtype, shape)
    else:
        array = _from_list(getattr(proto, field), dtype, shape)
    array.setflags(write=False)
    return array


def _from_content(content: bytes, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    if dtype is dtypes.string or len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"A TensorProto of {dtype.name} and shape {list(shape)} has {len(content)} bytes of content")
    stored = np.frombuffer(content, dtype.np.newbyteorder("<"))
    return stored.astype(dtype.np, copy=True).reshape(shape)


def _from_list(values: Any, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """The elements listed; the last one stands for all that are missing, none at all for zeros."""
    if dtype is dtypes.string:
        flat = np.empty(len(values), object)
        flat[:] = list(values)
    elif dtype.kind == "c":
        flat = np.array(values, dtype.real_dtype.np).view(dtype.np)
    elif dtype in (dtypes.float16, dtypes.bfloat16):
        flat = np.array(values, np.int64).astype(np.uint16).view(dtype.np)
    else:
        flat = np.array(values, dtype.np)
    count = math.prod(shape)
    if flat.size > count:
        raise ValueError(f"A TensorProto of shape {list(shape)} lists {flat.size} elements")
    if flat.size == count:
        return flat.reshape(shape)
    filler: Any = flat[-1] if flat.size else b"" if dtype is dtypes.string else 0
    result = np.full(count, filler, dtype.np)
    result[: flat.size] = flat
    return result.reshape(shape)


# --- Attrs ---


def put_attr(proto: Any, kind: str | None, value: Any, dtype: DType | None = None) -> None:
    """Write a canonical value of an attr of type `kind` (None: not declared) into an AttrValue.

    dtype: the one of a tensor, which its array alone does not tell for quantised types.
    """
    kind = kind or _kind_of(value)
    if kind.startswith("list("):
        proto.list.SetInParent()
        _PUT_LIST[kind[5:-1]](proto.list, value)
    elif kind == "tensor":
        put_tensor(proto.tensor, value, dtype or dtypes.as_dtype(value.dtype))
    elif kind == "shape":
        put_shape(proto.shape, value)
    elif kind == "func":
        proto.func.CopyFrom(value)
    else:
        setattr(proto, _SCALAR_FIELDS[kind], value.as_datatype_enum if kind == "type" else value)


def _kind_of(value: Any) -> str:
    """The type of an attr that the op type does not declare, such as `_class`."""
    if isinstance(value, (tuple, list)):
        return f"list({_kind_of(value[0]) if value else 'string'})"
    for types, kind in _KINDS:
        if isinstance(value, types):
            return kind
    if hasattr(value, "attr") and hasattr(value, "name"):
        return "func"
    raise TypeError(f"{value!r} can't be the value of an attr")


_KINDS: tuple[tuple[Any, str], ...] = (
    ((bytes, str), "string"), (bool, "bool"), (int, "int"), (float, "float"), (DType, "type"), (np.ndarray, "tensor"),
)  # fmt: skip
_SCALAR_FIELDS = {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type"}


def _put_shapes(proto: Any, values: Any) -> None:
    for dims in values:
        put_shape(proto.shape.add(), dims)


def _put_tensors(proto: Any, values: Any) -> None:
    for array in values:
        put_tensor(proto.tensor.add(), array, dtypes.as_dtype(array.dtype))


_PUT_LIST: dict[str, Callable[[Any, Any], Any]] = {
    "string": lambda proto, values: proto.s.extend(values),
    "int": lambda proto, values: proto.i.extend(values),
    "float": lambda proto, values: proto.f.extend(values),
    "bool": lambda proto, values: proto.b.extend(values),
    "type": lambda proto, values: proto.type.extend([dtype.as_datatype_enum for dtype in values]),
    "shape": _put_shapes,
    "tensor": _put_tensors,
    "func": lambda proto, values: proto.func.extend(values),
}

_READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "string": ("s", bytes),
    "int": ("i", int),
    "float": ("f", float),
    "bool": ("b", bool),
    "type": ("type", lambda number: dtypes.as_dtype(number)),
    "shape": ("shape", as_dims),
    "tensor": ("tensor", array_of),
    "func": ("func", lambda function: function),
}
"""By attr type: the field of AttrValue, and the canonical value from what is in it."""
_KIND_OF_FIELD = {field: kind for kind, (field, _) in _READ.items()}


def read_attr(proto: Any, kind: str | None) -> Any:
    """The canonical value in an AttrValue of an attr of type `kind` (None: not declared); ValueError for another."""
    found = proto.WhichOneof("value")
    if kind is None:
        if found == "list":
            filled = [descriptor.name for descriptor, _ in proto.list.ListFields()]
            kind = f"list({_KIND_OF_FIELD[filled[0]] if filled else 'string'})"
        else:
            kind = _KIND_OF_FIELD.get(found or "", "")
    many = kind.startswith("list(")
    field, convert = _READ.get(kind[5:-1] if many else kind, (None, bytes))
    if field is None or found != ("list" if many else field):
        raise ValueError(f"AttrValue had value with type '{found}' when '{kind}' expected")
    try:
        return tuple([convert(each) for each in getattr(proto.list, field)]) if many else convert(getattr(proto, field))
    except TypeError as error:
        raise ValueError(str(error)) from None
