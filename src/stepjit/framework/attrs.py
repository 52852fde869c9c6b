"""Attr values in their canonical form, and the errors for those that can't be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit.framework.shape import as_dims
from stepjit.framework.values import to_array
from stepjit_compiler.opdef import Attr
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType


def canonical(op_type: str, attr: Attr, value: Any) -> Any:
    """The value as ops hold it; TypeError when it is of the wrong type, ValueError when it is not allowed."""
    kind = attr.type
    if kind[0] == "l" and kind.startswith("list("):
        if not isinstance(value, (list, tuple)):
            value = _as_list(attr, value)
        convert = _CONVERT.get(kind[5:-1])
        items = tuple(value) if convert is None else tuple([convert(attr, each) for each in value])
        if attr.allowed is not None:
            for item in items:
                check_allowed(op_type, attr, item, attr.name)
        return items
    convert = _CONVERT.get(kind)
    if convert is None:
        return value
    found = convert(attr, value)
    if attr.allowed is not None and kind != "type":
        check_allowed(op_type, attr, found, attr.name)
    return found


def _as_list(attr: Attr, value: Any) -> list[Any]:
    try:
        if not isinstance(value, (str, bytes)):
            return list(value)
    except TypeError:
        pass
    raise TypeError(f"Expected list for attr {attr.name}, got {type(value).__name__}: {value!r}")


def check_allowed(op_type: str, attr: Attr, value: Any, parameter: str) -> None:
    """TypeError or ValueError unless `value` is one of those that the attr allows."""
    assert attr.allowed is not None
    if isinstance(value, DType):
        if value.base_dtype not in attr.allowed:
            names = ", ".join(dtype.name for dtype in attr.allowed)
            raise TypeError(
                f"Value passed to parameter '{parameter}' has DataType {value.name} not in list of allowed values: "
                f"{names}"
            )
    elif value not in attr.allowed:
        names = ", ".join(f'"{each.decode()}"' for each in attr.allowed)
        raise ValueError(f"Attr '{attr.name}' of '{op_type}' Op passed string '{value.decode()}' not in: {names}.")


def _wrong(attr: Attr, value: Any, kind: str) -> TypeError:
    return TypeError(f"Expected {kind} for argument '{attr.name}' not {value!r}.")


def _int(attr: Attr, value: Any) -> int:
    if type(value) is int:
        return value
    try:
        if isinstance(value, (str, bytes, float)) and int(value) != value:
            raise _wrong(attr, value, "int")
        return int(value)
    except (ValueError, TypeError):
        raise _wrong(attr, value, "int") from None


def _float(attr: Attr, value: Any) -> float:
    if isinstance(value, (str, bytes)):
        raise _wrong(attr, value, "float")
    try:
        return float(value)
    except (ValueError, TypeError):
        raise _wrong(attr, value, "float") from None


def _bool(attr: Attr, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise _wrong(attr, value, "bool")


def _string(attr: Attr, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise _wrong(attr, value, "string")


def _type(attr: Attr, value: Any) -> DType:
    try:
        return dtypes.as_dtype(value).base_dtype
    except TypeError as error:
        raise TypeError(f"Expected DataType for argument '{attr.name}' not {value!r}: {error}") from None


def _shape(attr: Attr, value: Any) -> Any:
    try:
        return as_dims(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Error converting {attr.name} (while converting dimension {error})") from None


def _tensor(attr: Attr, value: Any) -> np.ndarray:
    return to_array(value)[0]


_CONVERT: dict[str, Callable[[Attr, Any], Any]] = {
    "int": _int, "float": _float, "bool": _bool, "string": _string, "type": _type, "shape": _shape, "tensor": _tensor,
}  # fmt: skip
