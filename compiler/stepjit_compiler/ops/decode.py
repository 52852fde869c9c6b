"""Bytes and records decoded to tensors: raw numbers, compressed bytes, comma-separated values."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, unchanged
from stepjit_compiler.ops.arguments import integer, number_input
from stepjit_compiler.ops.string_numbers import parse_number
from stepjit_compiler.ops.strings import by_element, texts
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import DATA_LOSS

_NUMBERS = "float16|float32|float64|int32|uint16|uint8|int16|int8|int64|bfloat16"

# --- DecodeRaw, DecodePaddedRaw ---


def _numbers(call: Call, rows: list[bytes], shape: tuple[int, ...], size: int) -> np.ndarray:
    """Rows of `size` bytes each as one more axis of numbers."""
    dtype = call.dtypes[0].np
    found = np.frombuffer(b"".join(rows), dtype).reshape(*shape, size // dtype.itemsize)
    if call.attrs["little_endian"] or dtype.itemsize == 1:
        return found.copy()
    if dtype.kind == "c":
        # Either part is swapped by itself.
        return found.view(f"f{dtype.itemsize // 2}").byteswap().view(dtype)
    return found.byteswap()


def _decode_raw(call: Call, array: np.ndarray) -> np.ndarray:
    rows = list(array.reshape(-1))
    size = len(rows[0]) if rows else 0
    for k, row in enumerate(rows):
        if len(row) != size:
            call.fail(
                f"DecodeRaw requires input strings to all be the same size, but element {k} has size {size} != "
                f"{len(row)}"
            )
    width = call.dtypes[0].np.itemsize
    if size % width:
        call.fail(
            f"Input to DecodeRaw has length {size} that is not a multiple of {width}, the size of "
            f"{call.dtypes[0].name}"
        )
    return _numbers(call, rows, array.shape, size)


def _decode_padded(call: Call, array: np.ndarray, fixed_length: np.ndarray) -> np.ndarray:
    size, width = integer(fixed_length), call.dtypes[0].np.itemsize
    if size <= 0:
        call.fail(f"fixed_length must be greater than 0. Got: {size}")
    if size % width:
        call.fail(f"fixed_length ({size}) must be a multiple of the size of out_type ({width})")
    rows = [row[:size].ljust(size, b"\0") for row in array.reshape(-1)]
    return _numbers(call, rows, array.shape, size)


def _raw_shape(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    return [None if shape is None else (*shape, None)]


def _padded_shape(x: Inference) -> list[ShapeLike]:
    shape, size = x.shape(0), number_input(x, 1)
    width = x.attrs["out_type"].np.itemsize
    return [None if shape is None else (*shape, size // width if isinstance(size, int) and size > 0 else None)]


define("DecodeRaw", "bytes: string -> output: out_type",
       f"out_type: type in {_NUMBERS}|complex64|complex128|bool, little_endian: bool = True",
       infer=_raw_shape, reference=_decode_raw)  # fmt: skip
define("DecodePaddedRaw", "input_bytes: string, fixed_length: int32 -> output: out_type",
       f"out_type: type in {_NUMBERS}, little_endian: bool = True",
       infer=_padded_shape, reference=_decode_padded)  # fmt: skip

# --- DecodeCompressed ---

_WINDOW = {b"ZLIB": zlib.MAX_WBITS, b"GZIP": zlib.MAX_WBITS | 16}


def _decompress(call: Call, text: bytes) -> bytes:
    kind = call.attrs["compression_type"]
    if kind == b"":
        return text
    if kind not in _WINDOW:
        call.fail(f"Only ZLIB, GZIP or NONE are supported compressions, not {kind.decode(errors='replace')}")
    try:
        return zlib.decompress(text, _WINDOW[kind])
    except zlib.error as error:
        call.fail(f"inflate() failed: {error}", DATA_LOSS)


define("DecodeCompressed", "bytes: string -> output: string", "compression_type: string = ''",
       infer=unchanged, reference=by_element(_decompress))  # fmt: skip

# --- DecodeCSV ---

_QUOTE = ord('"')


class _Records:
    """Splits records into fields as the attrs of one DecodeCSV say."""

    def __init__(self, call: Call) -> None:
        attrs = call.attrs
        self.call, self.na_value = call, attrs["na_value"]
        if len(attrs["field_delim"]) != 1:
            call.fail("field_delim should be only 1 char")
        self.delimiter = attrs["field_delim"][0]
        self.quotes = attrs["use_quote_delim"]
        self.selected = attrs["select_cols"]

    def fields(self, record: bytes) -> list[bytes]:
        """The fields of a record, the selected ones if some are."""
        found = []
        at = 0
        while at < len(record):
            if record[at] in b"\r\n":
                at += 1  # ends of lines between fields count for nothing
            elif self.quotes and record[at] == _QUOTE:
                field, at = self._quoted(record, at + 1)
                found.append(field)
            else:
                field, at = self._plain(record, at)
                found.append(field)
        if record and record[-1] == self.delimiter:
            found.append(b"")
        if self.selected:
            return [found[k] for k in self.selected if k < len(found)]
        return found

    def _plain(self, record: bytes, start: int) -> tuple[bytes, int]:
        end = record.find(self.delimiter, start)
        end = len(record) if end < 0 else end
        field = record[start:end]
        if b"\n" in field or b"\r" in field or (self.quotes and b'"' in field):
            self.call.fail("Unquoted fields cannot have quotes/CRLFs inside")
        return field, end + 1

    def _quoted(self, record: bytes, at: int) -> tuple[bytes, int]:
        field = bytearray()
        while at < len(record):
            char, following = record[at], record[at + 1 : at + 2]
            if char != _QUOTE:
                field.append(char)
                at += 1
            elif not following or following[0] == self.delimiter:
                return bytes(field), at + 2
            elif following[0] == _QUOTE:
                field.append(_QUOTE)
                at += 2
            else:
                self.call.fail("Quote inside a string has to be escaped by another quote")
        self.call.fail("Quoted field has to end with quote followed by delim or end")


def _csv_shapes(x: Inference) -> list[ShapeLike]:
    selected = x.attrs["select_cols"]
    if any(a >= b for a, b in itertools.pairwise(selected)):
        x.fail("select_cols is not strictly increasing.")
    if selected and len(selected) != x.count() - 1:
        x.fail("select_cols should match output size")
    if selected and selected[0] < 0:
        x.fail("select_cols should be non-negative indices")
    for i in range(1, x.count()):
        shape = x.shape(i)
        if shape is not None and (len(shape) > 1 or (shape and isinstance(shape[0], int) and shape[0] > 1)):
            x.fail("Shape of a default must be a length-0 or length-1 vector, or a scalar.")
    return [x.shape(0)] * (x.count() - 1)


def _decode_csv(call: Call, records: np.ndarray, *defaults: np.ndarray) -> Any:
    for k, default in enumerate(defaults):
        if default.size > 1:
            call.fail(f"There should only be 1 default per field but field {k} has {default.size}")
    reader = _Records(call)
    columns: list[list[Any]] = [[] for _ in defaults]
    for row, record in enumerate(records.reshape(-1)):
        fields = reader.fields(record)
        if len(fields) != len(defaults):
            call.fail(f"Expect {len(defaults)} fields but have {len(fields)} in record {row}")
        for k, (field, default, column) in enumerate(zip(fields, defaults, columns, strict=True)):
            if not field or field == reader.na_value:
                if not default.size:
                    call.fail(f"Field {k} is required but missing in record {row}!")
                column.append(default.reshape(-1)[0])
            else:
                column.append(_field(call, field, k, row))
    return tuple(_column(each, dtype, records.shape) for each, dtype in zip(columns, call.dtypes, strict=True))


def _field(call: Call, text: bytes, k: int, row: int) -> Any:
    dtype = call.dtypes[k]
    if dtype.kind == "s":
        return text
    found = parse_number(text, dtype)
    if found is None:
        kind = {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)
        call.fail(f"Field {k} in record {row} is not a valid {kind}: {text.decode(errors='replace')}")
    return found


def _column(values: list[Any], dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    return texts(values, shape) if dtype.kind == "s" else np.array(values, dtype.np).reshape(shape)


define(
    "DecodeCSV", "records: string, record_defaults: OUT_TYPE -> output: OUT_TYPE",
    "OUT_TYPE: list(type) in float32|float64|int32|int64|string, field_delim: string = ',', "
    "use_quote_delim: bool = True, na_value: string = '', select_cols: list(int) = []",
    infer=_csv_shapes, reference=_decode_csv,
)  # fmt: skip
