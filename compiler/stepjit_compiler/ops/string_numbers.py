"""Numbers and texts: numbers read from texts, written as texts, hashed; tensors printed into templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, define, scalar, unchanged
from stepjit_compiler.ops.strings import by_element, texts
from stepjit_compiler.string_hash import farmhash64, murmurhash64, siphash
from stepjit_runtime.dtypes import DType

# --- StringToNumber ---

_SPACE = b" \t\n\v\f\r"
_FLOAT = re.compile(rb"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE)
_HEX = re.compile(rb"[+-]?0[xX][0-9a-fA-F]+")
_INT = re.compile(rb"[+-]?\d+")


def parse_number(text: bytes, dtype: DType) -> Any:
    """The number that a text stands for, spaces around it aside; None when it is none, or too large an integer."""
    text = text.strip(_SPACE)
    if dtype.kind == "f":
        if _FLOAT.fullmatch(text):
            return dtype.np.type(float(text))
        return dtype.np.type(int(text, 16)) if _HEX.fullmatch(text) else None
    if not _INT.fullmatch(text) or len(text) > 25:
        return None
    found = int(text)
    return found if dtype.min <= found <= dtype.max else None


def _to_number(call: Call, text: bytes) -> Any:
    found = parse_number(text, call.dtypes[0])
    if found is None:
        call.fail(f"StringToNumberOp could not correctly convert string: {text.decode(errors='replace')}")
    return found


define("StringToNumber", "string_tensor: string -> output: out_type",
       "out_type: type in float32|float64|int32|int64|uint32|uint64 = float32", infer=unchanged,
       reference=by_element(_to_number))  # fmt: skip

# --- AsString ---


def _layout(call: Call, dtype: DType) -> str:
    """The attrs as a `%` format for one number."""
    attrs = call.attrs
    fill, width, precision = attrs["fill"].decode(errors="replace"), attrs["width"], attrs["precision"]
    kind, name = dtype.kind, dtype.name
    floating = kind in "fc"
    if len(fill) > 1:
        call.fail("Fill string must be one or fewer characters")
    if fill and fill not in " +-0#":
        call.fail(f'Fill argument not supported: "{fill}"')
    if attrs["scientific"] and attrs["shortest"]:
        call.fail("Cannot select both scientific and shortest notation")
    if (attrs["scientific"] or attrs["shortest"]) and not floating:
        call.fail(f"scientific and shortest format not supported for datatype {name}")
    if precision > -1 and not floating:
        call.fail(f"precision not supported for datatype {name}")
    number = "%" + fill + (str(width) if width > -1 else "")
    if not floating:
        return number + "d"
    number += f".{precision}" if precision > -1 else ""
    number += "e" if attrs["scientific"] else "g" if attrs["shortest"] else "f"
    return f"({number},{number})" if kind == "c" else number


def _as_string(call: Call, array: np.ndarray) -> np.ndarray:
    dtype = call.attrs["T"]
    if dtype.kind == "s":
        return np.array(array)
    layout = _layout(call, dtype)
    if dtype.kind == "b":
        return texts((b"true" if each else b"false" for each in array.reshape(-1)), array.shape)
    if dtype.kind == "c":
        return texts(((layout % (each.real, each.imag)).encode() for each in array.reshape(-1)), array.shape)
    if dtype.kind == "f":
        array = array.astype(np.float64)
    return texts(((layout % each).encode() for each in array.reshape(-1).tolist()), array.shape)


define(
    "AsString", "input: T -> output: string",
    "T: type in real|complex64|complex128|bool|string, precision: int = -1, scientific: bool = False, "
    "shortest: bool = False, width: int = -1, fill: string = ''", infer=unchanged, reference=_as_string,
)  # fmt: skip

# --- StringToHashBucket, StringToHashBucketFast, StringToHashBucketStrong ---


def _bucket(function: Callable[[Call, bytes], int]) -> Callable[..., np.ndarray]:
    return by_element(lambda call, text: function(call, text) % call.attrs["num_buckets"])


def _buckets_known(x: Any) -> Any:
    count = x.attrs["num_buckets"]
    if count < 1:
        x.fail(f"Attr 'num_buckets' of '{x.op}' Op passed {count} less than minimum 1.")
    return [x.shape(0)]


def _strong(call: Call, text: bytes) -> int:
    key = call.attrs["key"]
    if len(key) != 2:
        call.fail("Key must have 2 elements")
    return siphash(text, key)


define("StringToHashBucket", "string_tensor: string -> output: int64", "num_buckets: int", infer=_buckets_known,
       reference=_bucket(lambda call, text: murmurhash64(text)))  # fmt: skip
define("StringToHashBucketFast", "input: string -> output: int64", "num_buckets: int", infer=_buckets_known,
       reference=_bucket(lambda call, text: farmhash64(text)))  # fmt: skip
define("StringToHashBucketStrong", "input: string -> output: int64", "num_buckets: int, key: list(int)",
       infer=_buckets_known, reference=_bucket(_strong))  # fmt: skip

# --- StringFormat ---


def _element(value: Any, dtype: np.dtype[Any]) -> str:
    if dtype.kind == "O":
        return '"' + value.decode("utf-8", "surrogateescape") + '"'
    if dtype.kind == "b":
        return str(int(value))
    if dtype.kind == "f":
        digits = (6, 9) if dtype.itemsize <= 4 else (15, 17)
        text = f"{float(value):.{digits[0]}g}"
        return text if dtype.type(float(text)) == value or value != value else f"{float(value):.{digits[1]}g}"
    if dtype.kind == "c":
        return f"({_element(value.real, value.real.dtype)},{_element(value.imag, value.real.dtype)})"
    return str(int(value))


def _printed(array: np.ndarray, summarize: int, indent: str = " ") -> str:
    """An array as nested brackets, of which each shows `summarize` items at either end (-1: all)."""
    if array.ndim == 0:
        return _element(array[()], array.dtype)
    count = len(array)
    shown: list[int | None] = list(range(count))
    if summarize >= 0 and count > 2 * summarize:
        shown = [*range(summarize), None, *range(count - summarize, count)]
    items = ["..." if k is None else _printed(array[k, ...], summarize, indent + " ") for k in shown]
    between = " " if array.ndim == 1 else "\n" * (array.ndim - 1) + indent
    return "[" + between.join(items) + "]"


def _format(call: Call, *inputs: np.ndarray) -> np.ndarray:
    template = call.attrs["template"].decode("utf-8", "surrogateescape")
    placeholder = call.attrs["placeholder"].decode("utf-8", "surrogateescape")
    first, *others = template.split(placeholder)
    if len(others) != len(inputs):
        call.fail(f"num placeholders in template and num inputs must match: {len(others)} vs. {len(inputs)}")
    parts = [first]
    for array, text in zip(inputs, others, strict=True):
        parts += [_printed(array, call.attrs["summarize"]), text]
    return texts(["".join(parts).encode("utf-8", "surrogateescape")], ())


define("StringFormat", "inputs: T -> output: string",
       "T: list(type), template: string = '%s', placeholder: string = '%s', summarize: int = 3",
       infer=scalar, reference=_format)  # fmt: skip
