"""Texts: joined, split, cut, trimmed, measured, in other letters, in base64. All run on the host."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show, unchanged
from stepjit_compiler.ops.arguments import brief, integer, integers, ints_input, merge, number_input
from stepjit_runtime.errors import OUT_OF_RANGE


def texts(values: Any, shape: Any) -> np.ndarray:
    """A string tensor of the shape from its elements in order."""
    found = np.empty(shape, object)
    flat = found.reshape(-1)
    for k, value in enumerate(values):
        flat[k] = value
    return found


def by_element(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The reference that is `function(call, text)` of each element, in the output's dtype."""

    def reference(call: Call, array: np.ndarray) -> np.ndarray:
        results = [function(call, each) for each in array.reshape(-1)]
        dtype = call.dtypes[0]
        if dtype.kind == "s":
            return texts(results, array.shape)
        return np.array(results, dtype.np).reshape(array.shape)

    return reference


# --- StringJoin ---


def _joined_shape(x: Inference) -> list[ShapeLike]:
    found: ShapeLike = ()
    for i in range(x.count()):
        shape = x.shape(i)
        if shape is None:
            return [None]
        if shape != ():
            if found == ():
                found = shape
            else:
                found = merge(x, found, shape, f"Input shapes do not match: {show(found)} vs. {show(shape)}")
    return [found]


def _join(call: Call, *inputs: np.ndarray) -> np.ndarray:
    shape: tuple[int, ...] = ()
    for each in inputs:
        if each.ndim and shape and each.shape != shape:
            call.fail(f"Input shapes do not match: {brief(shape)} vs. {brief(each.shape)}")
        shape = shape or each.shape
    columns = [np.broadcast_to(each, shape).reshape(-1) for each in inputs]
    if not columns:
        return texts([b""], ())
    return texts(map(call.attrs["separator"].join, zip(*columns, strict=True)), shape)


define("StringJoin", "inputs: N*string -> output: string", "N: int, separator: string = ''",
       infer=_joined_shape, reference=_join)  # fmt: skip

# --- ReduceJoin ---


def _axis_text(axis: int, rank: int) -> str:
    return f"Invalid reduction dimension {axis} for input with {rank} dimension(s)"


def _reduced_shape(x: Inference) -> list[ShapeLike]:
    shape, axes = x.shape(0), ints_input(x, 1)
    if shape is None or axes is None:
        return [None]
    gone = set()
    for axis in axes:
        if not -len(shape) <= axis < len(shape):
            x.fail(f"Invalid reduction dimension {axis} for input with {len(shape)} dimensions.")
        gone.add(axis % len(shape))
    keep = x.attrs["keep_dims"]
    return [tuple([1 if k in gone else extent for k, extent in enumerate(shape) if keep or k not in gone])]


def _reduce_join(call: Call, array: np.ndarray, axes_input: np.ndarray) -> np.ndarray:
    axes = integers(axes_input)
    gone: list[int] = []
    for axis in axes:
        if not -array.ndim <= axis < array.ndim:
            call.fail(_axis_text(axis, array.ndim), OUT_OF_RANGE)
        if axis % array.ndim in gone:
            call.fail(f"Duplicate reduction dimension {axis}")
        gone.append(axis % array.ndim)
    # The axis named first runs fastest.
    kept = [k for k in range(array.ndim) if k not in gone]
    moved = array.transpose([*kept, *gone[::-1]])
    outer = moved.shape[: len(kept)]
    rows = moved.reshape(int(np.prod(outer)), int(np.prod(moved.shape[len(kept) :])))
    joined = texts([call.attrs["separator"].join(row) for row in rows], outer)
    if not call.attrs["keep_dims"]:
        return joined
    return joined.reshape([1 if k in gone else extent for k, extent in enumerate(array.shape)])


define("ReduceJoin", "inputs: string, reduction_indices: int32 -> output: string",
       "keep_dims: bool = False, separator: string = ''", infer=_reduced_shape, reference=_reduce_join)  # fmt: skip

# --- UnsortedSegmentJoin ---


def _segments_shape(x: Inference) -> list[ShapeLike]:
    data, ids = x.shape(0), x.shape(1)
    x.with_rank(2, 0)
    return [None if data is None or ids is None else (number_input(x, 2), *data[len(ids) :])]


def _segment_join(call: Call, array: np.ndarray, ids: np.ndarray, num_segments: np.ndarray) -> np.ndarray:
    count = integer(num_segments)
    if count < 0:
        call.fail(f"num_segments must be non-negative, not {count}")
    if array.shape[: ids.ndim] != ids.shape:
        call.fail(f"segment_ids of shape {brief(ids.shape)} must be a prefix of the input's shape {brief(array.shape)}")
    rest = array.shape[ids.ndim :]
    rows = array.reshape(ids.size, -1) if array.size else array.reshape(ids.size, int(np.prod(rest)))
    parts: list[list[list[bytes]]] = [[[] for _ in range(rows.shape[1])] for _ in range(count)]
    for number, row in zip(ids.reshape(-1).tolist(), rows, strict=True):
        if number >= count:
            call.fail(f"segment_ids should be less than num_segments, but got {number} >= {count}")
        if number >= 0:
            for cell, each in zip(parts[number], row, strict=True):
                cell.append(each)
    separator = call.attrs["separator"]
    return texts([separator.join(cell) for row in parts for cell in row], (count, *rest))


define(
    "UnsortedSegmentJoin",
    "inputs: string, segment_ids: Tindices, num_segments: Tnumsegments -> output: string",
    "separator: string = '', Tindices: type in index, Tnumsegments: type in index = int32",
    infer=_segments_shape, reference=_segment_join,
)  # fmt: skip

# --- StringSplit, StringSplitV2 ---


def _split_shapes(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 1)
    x.with_rank(1, 0)
    return [(None, 2), (None,), (2,)]


def _ragged(rows: list[list[bytes]]) -> Any:
    """Indices, values and shape of the sparse matrix whose rows these are."""
    counts = np.array([len(row) for row in rows], np.int64)
    indices = np.empty((int(counts.sum()), 2), np.int64)
    indices[:, 0] = np.repeat(np.arange(len(rows)), counts)
    starts = np.cumsum(counts) - counts
    indices[:, 1] = np.arange(len(indices)) - np.repeat(starts, counts)
    values = [each for row in rows for each in row]
    shape = np.array([len(rows), counts.max() if len(rows) else 0], np.int64)
    return indices, texts(values, (len(values),)), shape


def _pieces(text: bytes, delimiters: bytes) -> list[bytes]:
    """The parts between any of the delimiters; each byte by itself when there are none."""
    if not delimiters:
        return [text[k : k + 1] for k in range(len(text))]
    if not text:
        return []
    first, *others = (delimiters[k : k + 1] for k in range(len(delimiters)))
    for other in others:
        text = text.replace(other, first)
    return text.split(first)


def _split(call: Call, array: np.ndarray, delimiter: np.ndarray) -> Any:
    if array.ndim != 1:
        call.fail(f"input must be a vector, got shape: {brief(array.shape)}")
    if delimiter.ndim:
        call.fail(f"delimiter must be a scalar, got shape: {brief(delimiter.shape)}")
    delimiters: bytes = delimiter.item()
    skip = call.attrs["skip_empty"]
    return _ragged([[part for part in _pieces(text, delimiters) if part or not skip] for text in array])


def _split_by_text(call: Call, array: np.ndarray, sep: np.ndarray) -> Any:
    if array.ndim != 1:
        call.fail(f"input must be a vector, got shape: {brief(array.shape)}")
    if sep.ndim:
        call.fail(f"sep must be a scalar, got shape: {brief(sep.shape)}")
    return _ragged([text.split(sep.item() or None, call.attrs["maxsplit"]) if text else [] for text in array])


define("StringSplit", "input: string, delimiter: string -> indices: int64, values: string, shape: int64",
       "skip_empty: bool = True", infer=_split_shapes, reference=_split)  # fmt: skip
define("StringSplitV2", "input: string, sep: string -> indices: int64, values: string, shape: int64",
       "maxsplit: int = -1", infer=_split_shapes, reference=_split_by_text)  # fmt: skip

# --- Substr ---


def _substr_shape(x: Inference) -> list[ShapeLike]:
    where = merge(x, x.shape(1), x.shape(2), "pos and len should have the same shape")
    return [x.broadcast(x.shape(0), where)]


def _substr(call: Call, array: np.ndarray, pos: np.ndarray, length: np.ndarray) -> np.ndarray:
    if pos.shape != length.shape:
        call.fail(f"pos and len should have the same shape, got: {brief(pos.shape)} vs. {brief(length.shape)}")
    try:
        whole, starts, sizes = np.broadcast_arrays(array, pos, length)
    except ValueError:
        call.fail(f"Incompatible shapes: {brief(array.shape)} vs. {brief(pos.shape)}")
    in_characters = call.attrs["unit"] == b"UTF8_CHAR"
    found = []
    for k, (text, start, size) in enumerate(zip(whole.ravel(), starts.ravel().tolist(), sizes.ravel().tolist())):
        parts = _characters(text) if in_characters else text
        if not -len(parts) <= start <= len(parts):
            call.fail(f"pos {start} out of range for string {text!r} at index {k}")
        start += len(parts) if start < 0 else 0
        # A negative length runs on to the end.
        cut = parts[start : start + size] if size >= 0 else parts[start:]
        found.append(b"".join(cut) if in_characters else cut)
    return texts(found, whole.shape)


def _characters(text: bytes) -> list[bytes]:
    """The UTF-8 characters: each begins at a byte that continues no other."""
    starts = [k for k, byte in enumerate(text) if byte & 0xC0 != 0x80]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


_UNIT = "unit: string in BYTE|UTF8_CHAR = 'BYTE'"

define("Substr", "input: string, pos: T, len: T -> output: string", f"T: type in index, {_UNIT}",
       infer=_substr_shape, reference=_substr)  # fmt: skip

# --- StringLength, StringStrip, StringUpper, StringLower ---


def _length(call: Call, text: bytes) -> int:
    return len(text) if call.attrs["unit"] == b"BYTE" else sum(byte & 0xC0 != 0x80 for byte in text)


def _in_case(change: str) -> Callable[..., bytes]:
    def function(call: Call, text: bytes) -> bytes:
        encoding = call.attrs["encoding"]
        if encoding not in (b"", b"utf-8"):
            call.fail(f"only utf-8 or '' (no encoding) is supported, received {encoding.decode(errors='replace')}")
        if not encoding:
            found: bytes = getattr(text, change)()
            return found
        return getattr(text.decode("utf-8", "surrogateescape"), change)().encode("utf-8", "surrogateescape")

    return function


define("StringLength", "input: string -> output: int32", _UNIT, infer=unchanged, reference=by_element(_length))
define("StringStrip", "input: string -> output: string", infer=unchanged,
       reference=by_element(lambda call, text: text.strip(b" \t\n\v\f\r")))  # fmt: skip
for _name in ("Upper", "Lower"):
    define(f"String{_name}", "input: string -> output: string", "encoding: string = ''", infer=unchanged,
           reference=by_element(_in_case(_name.lower())))  # fmt: skip

# --- EncodeBase64, DecodeBase64: with - and _, safe in addresses ---

_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def _encode(call: Call, text: bytes) -> bytes:
    found = base64.urlsafe_b64encode(text)
    return found if call.attrs["pad"] else found.rstrip(b"=")


def _decode(call: Call, text: bytes) -> bytes:
    digits = text
    if len(text) % 4 == 0:
        digits = text[:-2] + text[-2:].rstrip(b"=")
    if not _ALPHABET.issuperset(digits):
        call.fail("Invalid character found in base64.")
    if len(digits) % 4 == 1:
        call.fail("Base64 string length cannot be 1 modulo 4.")
    try:
        return base64.urlsafe_b64decode(digits + b"=" * (-len(digits) % 4))
    except binascii.Error as error:
        call.fail(f"Invalid base64: {error}")


define("EncodeBase64", "input: string -> output: string", "pad: bool = False",
       infer=unchanged, reference=by_element(_encode))  # fmt: skip
define("DecodeBase64", "input: string -> output: string", infer=unchanged, reference=by_element(_decode))

# --- UnicodeTranscode ---

_ENCODINGS = {b"UTF-8": "utf-8", b"UTF-16-BE": "utf-16-be", b"UTF-32-BE": "utf-32-be"}


def _transcode(call: Call, text: bytes) -> bytes:
    attrs = call.attrs
    name = attrs["input_encoding"].decode(errors="replace")
    errors = attrs["errors"].decode()
    mark = chr(attrs["replacement_char"])
    try:
        found = text.decode(name, "strict" if errors == "strict" else "ignore" if errors == "ignore" else "replace")
    except LookupError:
        call.fail(f"Could not create converter for input encoding: {name}")
    except UnicodeDecodeError:
        call.fail("Invalid formatting on input string")
    if errors == "replace":
        found = found.replace("\N{REPLACEMENT CHARACTER}", mark)
    if attrs["replace_control_characters"]:
        found = "".join(mark if char < " " or "\x7f" <= char < "\xa0" else char for char in found)
    return found.encode(_ENCODINGS[attrs["output_encoding"]], "surrogatepass")


define(
    "UnicodeTranscode", "input: string -> output: string",
    "input_encoding: string, output_encoding: string in UTF-8|UTF-16-BE|UTF-32-BE, "
    "errors: string in strict|replace|ignore = 'replace', replacement_char: int = 65533, "
    "replace_control_characters: bool = False",
    infer=unchanged, reference=by_element(_transcode),
)  # fmt: skip
