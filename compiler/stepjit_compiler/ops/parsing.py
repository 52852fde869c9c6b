"""Messages in strings: examples parsed to tensors, tensors as messages, examples from JSON."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, scalar, show, unchanged
from stepjit_runtime import dtypes, wire
from stepjit_runtime.dtypes import DType

_LISTS = {1: dtypes.string, 2: dtypes.float32, 3: dtypes.int64}
"""By field of a Feature: the dtype of its values."""

Feature = tuple[DType, np.ndarray]
"""dtype and values of a feature."""


# --- Reading examples ---


def _example(data: bytes) -> dict[bytes, bytes]:
    """The features of an Example message, still encoded, by name; ValueError if damaged."""
    found: dict[bytes, bytes] = {}
    for number, _, _, features in wire.fields(data):
        if number == 1:
            for entry, _, _, pair in wire.fields(features):
                if entry == 1:
                    name = value = b""
                    for part, _, _, content in wire.fields(pair):
                        name, value = (content, value) if part == 1 else (name, content)
                    found[name] = value
    return found


def _feature(data: bytes) -> Feature | None:
    """A Feature message's values; None when it holds no list."""
    found: Feature | None = None
    for number, _, _, content in wire.fields(data):
        if number in _LISTS:
            dtype = _LISTS[number]
            found = dtype, _values(dtype, content)
    return found


def _values(dtype: DType, data: bytes) -> np.ndarray:
    if dtype is dtypes.string:
        texts = [content for number, _, _, content in wire.fields(data) if number == 1]
        strings = np.empty(len(texts), object)
        strings[:] = texts
        return strings
    parts: list[np.ndarray] = []
    for _, kind, value, content in wire.fields(data):
        if dtype is dtypes.int64:
            one = np.array([wire.signed(value)], np.int64)
            parts.append(one if kind == wire.VARINT else wire.packed_varints(content))
        else:
            parts.append(np.frombuffer(content, "<f4"))
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype.np), *parts])


# --- ParseExample, ParseExampleV2, ParseSingleExample ---


@dataclass
class _Request:
    """What is asked of each example."""

    sparse_keys: Sequence[bytes]
    dense_keys: Sequence[bytes]
    defaults: Sequence[np.ndarray]
    sparse_types: Sequence[DType]
    dense_types: Sequence[DType]
    dense_shapes: Sequence[Any]
    names: Sequence[bytes]
    single: bool


def _parse(call: Call, request: _Request, serialized: Sequence[bytes]) -> tuple[list[Any], ...]:
    """Sparse indices, values and shapes, and dense values, each by key."""
    sparse: list[list[np.ndarray]] = [[] for _ in request.sparse_keys]
    dense: list[list[np.ndarray]] = [[] for _ in request.dense_keys]
    for row, data in enumerate(serialized):
        try:
            encoded = _example(data)
            for k, key in enumerate(request.sparse_keys):
                sparse[k].append(_sparse(call, request, encoded, k, key, row))
            for k, key in enumerate(request.dense_keys):
                dense[k].append(_dense(call, request, encoded, k, key, row))
        except ValueError:
            text = base64.b64encode(data).decode()
            call.fail(f"{_where(request, row, None)}Could not parse example input, value (base64): '{text}'")
    indices: list[Any] = []
    values: list[Any] = []
    shapes: list[Any] = []
    for rows, dtype in zip(sparse, request.sparse_types, strict=True):
        for each, part in zip((indices, values, shapes), _joined(rows, dtype, request.single), strict=True):
            each.append(part)
    parts = zip(dense, request.dense_types, request.dense_shapes, request.defaults, strict=True)
    return indices, values, shapes, [_stacked(*part, request.single) for part in parts]


def _where(request: _Request, row: int, key: bytes | None) -> str:
    """The beginning of a message: which example, which feature."""
    feature = "" if key is None else f"Key: {key.decode(errors='replace')}"
    if request.single:
        return f"{feature}.  " if feature else ""
    name = request.names[row].decode(errors="replace") if len(request.names) else "<unknown>"
    return f"Name: {name}, " + (f"{feature}, Index: {row}.  " if feature else "")


def _sparse(
    call: Call, request: _Request, encoded: Mapping[bytes, bytes], k: int, key: bytes, row: int
) -> np.ndarray:
    dtype = request.sparse_types[k]
    feature = _feature(encoded[key]) if key in encoded else None
    if feature is None:
        return np.zeros(0, dtype.np)
    if feature[0] is not dtype:
        kinds = f"Expected type: {_wire_name(dtype)}, Actual type: {_wire_name(feature[0])}"
        call.fail(f"{_where(request, row, key)}Data types don't match. {kinds}")
    return feature[1]


def _dense(call: Call, request: _Request, encoded: Mapping[bytes, bytes], k: int, key: bytes, row: int) -> np.ndarray:
    dtype, shape, default = request.dense_types[k], request.dense_shapes[k], request.defaults[k]
    varies = bool(shape) and shape[0] is None
    feature = _feature(encoded[key]) if key in encoded else None
    if feature is None:
        if varies:
            return np.zeros(0, dtype.np)
        if default.size or 0 in shape:
            return default.reshape(-1)
        name = "" if request.single else _where(request, row, None)
        text = f"Feature: {key.decode(errors='replace')} (data type: {_wire_name(dtype)}) is required"
        call.fail(f"{name}{text} but could not be found.")
    found, values = feature
    where = _where(request, row, key)
    if found is not dtype:
        kinds = f"Data type: {_wire_name(found)} but expected type: {_wire_name(dtype)}"
        call.fail(f"{where}Data types don't match. {kinds}")
    size = math.prod(shape[1:] if varies else shape)
    if varies and size and values.size % size:
        saw = f"Saw {values.size} values but output shape is: {show(shape)}"
        call.fail(f"{where}Number of {_wire_name(dtype)} values is not a multiple of stride length. {saw}")
    if not varies and values.size != size:
        saw = f"Values size: {values.size} but output shape: {show(shape)}"
        call.fail(f"{where}Number of {_wire_name(dtype)} values != expected.  {saw}")
    return values


def _wire_name(dtype: DType) -> str:
    return "float" if dtype is dtypes.float32 else dtype.name


def _joined(rows: Sequence[np.ndarray], dtype: DType, single: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parts of a sparse tensor of [examples, most values] (of one example: of its values)."""
    lengths = np.array([row.size for row in rows], np.int64)
    values = np.concatenate([np.zeros(0, dtype.np), *rows])
    columns = np.concatenate([np.zeros(0, np.int64), *(np.arange(n) for n in lengths)])
    if single:
        return columns[:, None], values, lengths
    indices = np.stack([np.repeat(np.arange(len(rows)), lengths), columns], 1)
    return indices, values, np.array([len(rows), lengths.max(initial=0)], np.int64)


def _stacked(rows: Sequence[np.ndarray], dtype: DType, shape: Any, default: np.ndarray, single: bool) -> np.ndarray:
    if shape and shape[0] is None:
        rest = tuple(shape[1:])
        counts = [row.size // max(1, math.prod(rest)) for row in rows]
        most = max(counts, default=0)
        fill = default.item(0) if default.size else b"" if dtype is dtypes.string else 0
        whole = np.full((len(rows), most, *rest), fill, dtype.np)
        for row, values in enumerate(rows):
            whole[row, : counts[row]] = values.reshape(counts[row], *rest)
    else:
        whole = np.empty((len(rows), *shape), dtype.np)
        for row, values in enumerate(rows):
            whole[row, ...] = values.reshape(shape)
    return whole[0] if single else whole


def _flat(call: Call, parts: tuple[list[Any], ...]) -> tuple[np.ndarray, ...]:
    return tuple(each for group in parts for each in group)


def _check_defaults(call: Call, request: _Request) -> None:
    for key, default, shape in zip(request.dense_keys, request.defaults, request.dense_shapes):
        varies = bool(shape) and shape[0] is None
        if default.size and not varies and default.shape != tuple(shape):
            text = f"{show(default.shape)} must match dense_shapes: {show(shape)}"
            call.fail(f"dense_defaults of key {key.decode(errors='replace')}: shape {text}")


def _keys(array: np.ndarray) -> list[bytes]:
    return list(array.ravel().tolist())


def _parse_example(call: Call, serialized: np.ndarray, names: np.ndarray, *rest: np.ndarray) -> Any:
    """The older op: each key is an input of its own."""
    attrs = call.attrs
    sparse, dense = attrs["Nsparse"], attrs["Ndense"]
    keys = [key.item() for key in rest[: sparse + dense]]
    if serialized.ndim != 1:
        call.fail(f"Expected serialized to be a vector, got shape: {show(serialized.shape)}")
    request = _Request(
        keys[:sparse], keys[sparse:], rest[sparse + dense :], attrs["sparse_types"], attrs["Tdense"],
        attrs["dense_shapes"], _checked_names(call, names, serialized), False,
    )  # fmt: skip
    _check_defaults(call, request)
    return _flat(call, _parse(call, request, _keys(serialized)))


def _parse_example_v2(
    call: Call, serialized: np.ndarray, names: np.ndarray, sparse_keys: np.ndarray, dense_keys: np.ndarray,
    ragged_keys: np.ndarray, *defaults: np.ndarray,
) -> Any:  # fmt: skip
    attrs = call.attrs
    if serialized.ndim > 1:
        call.fail(f"Expected serialized to be a scalar or vector, got shape: {show(serialized.shape)}")
    if ragged_keys.size:
        call.fail("Ragged features can't be parsed")
    request = _Request(
        _keys(sparse_keys), _keys(dense_keys), defaults, attrs["sparse_types"], attrs["Tdense"], attrs["dense_shapes"],
        _checked_names(call, names, serialized), not serialized.ndim,
    )  # fmt: skip
    _check_defaults(call, request)
    return _flat(call, _parse(call, request, _keys(serialized)))


def _parse_single_example(call: Call, serialized: np.ndarray, *defaults: np.ndarray) -> Any:
    attrs = call.attrs
    if serialized.ndim:
        call.fail(f"Expected serialized to be a scalar, got shape: {show(serialized.shape)}")
    request = _Request(
        attrs["sparse_keys"], attrs["dense_keys"], defaults, attrs["sparse_types"], attrs["Tdense"],
        attrs["dense_shapes"], (), True,
    )  # fmt: skip
    _check_defaults(call, request)
    return _flat(call, _parse(call, request, _keys(serialized)))


def _checked_names(call: Call, names: np.ndarray, serialized: np.ndarray) -> list[bytes]:
    if names.size and names.shape != serialized.shape:
        call.fail(f"Expected names to have the shape of serialized, {show(serialized.shape)}, not {show(names.shape)}")
    return _keys(names)


def _shapes_of(x: Inference, batch: tuple[Any, ...] | None, count: int) -> list[ShapeLike]:
    """Of the sparse parts and dense values; `batch` is () for one example, None when even that is unknown."""
    rank = None if batch is None else len(batch) + 1
    found: list[ShapeLike] = [(None, rank)] * count
    found += [(None,)] * count
    found += [(rank,)] * count
    for shape in x.attrs["dense_shapes"]:
        found.append(None if batch is None else (*batch, *shape))
    return found


def _examples(x: Inference) -> list[ShapeLike]:
    batch = x.with_rank(0, 1)
    return _shapes_of(x, tuple(batch), x.attrs["Nsparse"])


def _examples_v2(x: Inference) -> list[ShapeLike]:
    batch = x.shape(0)
    if batch is not None and len(batch) > 1:
        x.fail(f"Shape must be at most rank 1 but is rank {len(batch)}")
    return _shapes_of(x, None if batch is None else tuple(batch), x.attrs["num_sparse"])


def _single_example(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 0)
    return _shapes_of(x, (), x.attrs["num_sparse"])


_KINDS = "list(type) in float32|int64|string"
define(
    "ParseExample",
    "serialized: string, names: string, sparse_keys: Nsparse*string, dense_keys: Ndense*string, dense_defaults: Tdense "
    "-> sparse_indices: Nsparse*int64, sparse_values: sparse_types, sparse_shapes: Nsparse*int64, dense_values: Tdense",
    f"Nsparse: int, Ndense: int, sparse_types: {_KINDS}, Tdense: {_KINDS}, dense_shapes: list(shape)",
    infer=_examples, reference=_parse_example,
)  # fmt: skip
define(
    "ParseExampleV2",
    "serialized: string, names: string, sparse_keys: string, dense_keys: string, ragged_keys: string, "
    "dense_defaults: Tdense -> sparse_indices: num_sparse*int64, sparse_values: sparse_types, "
    "sparse_shapes: num_sparse*int64, dense_values: Tdense, ragged_values: ragged_value_types, "
    "ragged_row_splits: ragged_split_types",
    f"Tdense: {_KINDS}, num_sparse: int, sparse_types: {_KINDS}, ragged_value_types: {_KINDS}, "
    "ragged_split_types: list(type) in int32|int64, dense_shapes: list(shape)",
    infer=_examples_v2, reference=_parse_example_v2,
)  # fmt: skip
define(
    "ParseSingleExample",
    "serialized: string, dense_defaults: Tdense -> sparse_indices: num_sparse*int64, sparse_values: sparse_types, "
    "sparse_shapes: num_sparse*int64, dense_values: Tdense",
    f"num_sparse: int, sparse_keys: list(string), dense_keys: list(string), sparse_types: {_KINDS}, Tdense: {_KINDS}, "
    "dense_shapes: list(shape)",
    infer=_single_example, reference=_parse_single_example,
)  # fmt: skip

# --- ParseTensor, SerializeTensor ---

_NUMBER_FIELDS = {7: np.int32, 10: np.int64, 11: np.bool_, 13: np.uint16, 16: np.uint32, 17: np.uint64}
"""By field of a TensorProto that lists varints: the type that they are cut to."""
_FLOAT_FIELDS = {5: "<f4", 6: "<f8", 9: "<c8", 12: "<c16"}


def _tensor_message(data: bytes) -> tuple[int, list[int], bytes, list[bytes], list[np.ndarray]]:
    """A TensorProto's dtype number, shape, content, strings and listed numbers; ValueError if damaged."""
    number, shape, content = 0, [], b""
    strings: list[bytes] = []
    listed: list[np.ndarray] = []
    for field, kind, value, part in wire.fields(data):
        if field == 1:
            number = value
        elif field == 2:
            for dim, _, _, size in wire.fields(part):
                if dim == 2:
                    shape.append(sum(wire.signed(n) for f, _, n, _ in wire.fields(size) if f == 1))
        elif field == 4:
            content = part
        elif field == 8:
            strings.append(part)
        elif field in _NUMBER_FIELDS:
            numbers = np.array([wire.signed(value)]) if kind == wire.VARINT else wire.packed_varints(part)
            listed.append(numbers.astype(_NUMBER_FIELDS[field]))
        elif field in _FLOAT_FIELDS:
            listed.append(np.frombuffer(part, _FLOAT_FIELDS[field]))
    return number, shape, content, strings, listed


def _array(dtype: DType, shape: Sequence[int], content: bytes, strings: Any, listed: Any) -> np.ndarray:
    """The array; ValueError when its parts don't fit together."""
    count = math.prod(shape)
    if min(shape, default=0) < 0:
        raise ValueError("negative extent")
    if dtype is dtypes.string:
        flat = np.full(count, strings[-1] if strings else b"", object)
        flat[: len(strings)] = strings
        return flat.reshape(shape)
    if content:
        return np.frombuffer(content, dtype.np).reshape(shape).copy()
    given = np.concatenate(listed) if listed else np.zeros(0, dtype.np)
    if given.size > count:
        raise ValueError("too many elements")
    given = given.view(dtype.np) if dtype in (dtypes.float16, dtypes.bfloat16) else given.astype(dtype.np)
    # What is not listed is like the last element.
    return np.concatenate([given, np.full(count - given.size, given[-1] if given.size else 0, dtype.np)]).reshape(shape)


def parse_tensor(call: Call, serialized: np.ndarray) -> np.ndarray:
    """The tensor of a serialized TensorProto, which must be of the call's dtype."""
    if serialized.ndim:
        call.fail(f"Expected `serialized` to be a scalar, got shape: {show(serialized.shape)}")
    data = serialized.item()
    try:
        number, shape, content, strings, listed = _tensor_message(data)
        found = dtypes.as_dtype(number)
        if found is not call.dtypes[0]:
            kinds = f"parsed tensor ({_wire_name(found)}) and dtype ({_wire_name(call.dtypes[0])})"
            call.fail(f"Type mismatch between {kinds}")
        return _array(found, shape, content, strings, listed)
    except (ValueError, TypeError):
        call.fail(f"Could not parse `serialized` as TensorProto, base64: {base64.b64encode(data).decode()}")


def serialize_tensor(call: Call, tensor: np.ndarray) -> np.ndarray:
    """The tensor as a serialized TensorProto."""
    dims = [wire.bytes_field(2, wire.number_field(1, extent) if extent else b"") for extent in tensor.shape]
    # An object array holds strings.
    dtype = dtypes.as_dtype(tensor.dtype)
    parts = [wire.number_field(1, dtype.as_datatype_enum), wire.bytes_field(2, b"".join(dims))]
    if dtype is dtypes.string:
        parts += [wire.bytes_field(8, text) for text in tensor.ravel().tolist()]
    elif tensor.size:
        parts.append(wire.bytes_field(4, tensor.tobytes()))
    return np.array(b"".join(parts), object)


def _any_tensor(x: Inference) -> list[ShapeLike]:
    return [None]


define(
    "ParseTensor", "serialized: string -> output: out_type", "out_type: type", infer=_any_tensor,
    reference=parse_tensor,
)  # fmt: skip
define("SerializeTensor", "tensor: T -> serialized: string", "T: type", infer=scalar, reference=serialize_tensor)

# --- DecodeJSONExample ---

_JSON_LISTS = {"bytesList": 1, "bytes_list": 1, "floatList": 2, "float_list": 2, "int64List": 3, "int64_list": 3}


def _member(thing: Any, names: Mapping[str, int] | Sequence[str]) -> list[tuple[str, Any]]:
    """The members of a JSON object; ValueError for one that is not among `names`."""
    if not isinstance(thing, dict):
        raise ValueError(f"expected an object, got {json.dumps(thing)}")
    for name in thing:
        if name not in names:
            raise ValueError(f"no such field: '{name}'")
    return [(name, value) for name, value in thing.items() if value is not None]


def _json_example(text: bytes) -> bytes:
    """An Example message from its JSON form; ValueError for what is none."""
    found = b""
    for _, features in _member(json.loads(text), ("features",)):
        entries = b""
        for _, feature in _member(features, ("feature",)):
            for name, value in _member(feature, feature):
                body = b"".join(
                    wire.bytes_field(_JSON_LISTS[kind], _json_values(_JSON_LISTS[kind], values))
                    for kind, values in _member(value, _JSON_LISTS)
                )
                pair = wire.bytes_field(1, name.encode()) + wire.bytes_field(2, body)
                entries += wire.bytes_field(1, pair)
        found += wire.bytes_field(1, entries)
    return found


def _json_values(kind: int, values: Any) -> bytes:
    listed = [each for _, items in _member(values, ("value",)) for each in items]
    if kind == 1:
        return b"".join(wire.bytes_field(1, _from_base64(each)) for each in listed)
    if not listed:
        return b""
    if kind == 2:
        return wire.bytes_field(1, b"".join(struct.pack("<f", float(each)) for each in listed))
    return wire.bytes_field(1, b"".join(wire.varint(int(each)) for each in listed))


def _from_base64(text: Any) -> bytes:
    plain = str(text).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from None


def _decode_json(call: Call, texts: np.ndarray) -> np.ndarray:
    found = np.empty(texts.shape, object)
    for place in np.ndindex(texts.shape):
        try:
            found[place] = _json_example(texts[place])
        except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
            call.fail(f"Error while parsing JSON: {error}")
    return found


define(
    "DecodeJSONExample", "json_examples: string -> binary_examples: string", infer=unchanged, reference=_decode_json
)
