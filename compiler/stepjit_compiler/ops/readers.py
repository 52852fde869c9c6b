"""Readers: made, read from, counted, saved and reset; files as a whole.

Each op of a reader also has the name under which older graphs know it, with a reference to a string as its handle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, no_outputs, scalar
from stepjit_compiler.ops.arguments import integer
from stepjit_compiler.ops.queues import handle_shape, handle_value, held, shared
from stepjit_runtime import files
from stepjit_runtime.cancellation import Cancellation
from stepjit_runtime.queues import Queue
from stepjit_runtime.readers import (
    FixedLengthRecordReader,
    IdentityReader,
    Reader,
    TextLineReader,
    TFRecordReader,
    WholeFileReader,
)

# --- WholeFileReaderV2, IdentityReaderV2, TextLineReaderV2, FixedLengthRecordReaderV2, TFRecordReaderV2 ---


def _opened(make: Callable[[str, Any], Reader]) -> Callable[[Call], np.ndarray]:
    """The reference of a handle op: `make(name, attrs)` makes its reader."""

    def reference(call: Call) -> np.ndarray:
        reader, _ = shared(call, "reader", lambda name: make(name, call.attrs))
        kind = call.name.removesuffix("V2")
        if reader.kind != kind:
            call.fail(f"Expected {reader.kind}, found {kind}: shared reader '{reader.name}' is of another type")
        return handle_value(call, reader)

    return reference


def _fixed_length(name: str, attrs: Any) -> Reader:
    header, record, footer, hop = (attrs[f"{part}_bytes"] for part in ("header", "record", "footer", "hop"))
    return FixedLengthRecordReader(name, header, record, footer, hop, attrs.get("encoding", b"").decode())


_NAMED = "container: string = '', shared_name: string = ''"
_SIZES = "header_bytes: int = 0, record_bytes: int, footer_bytes: int = 0, hop_bytes: int = 0, "
_KINDS: tuple[tuple[str, str, Callable[[str, Any], Reader]], ...] = (
    ("WholeFileReader", _NAMED, lambda name, attrs: WholeFileReader(name)),
    ("IdentityReader", _NAMED, lambda name, attrs: IdentityReader(name)),
    ("TextLineReader", "skip_header_lines: int = 0, " + _NAMED,
     lambda name, attrs: TextLineReader(name, attrs["skip_header_lines"])),
    ("FixedLengthRecordReader", _SIZES + _NAMED, _fixed_length),
    ("TFRecordReader", _NAMED + ", compression_type: string = ''",
     lambda name, attrs: TFRecordReader(name, attrs["compression_type"].decode())),
)  # fmt: skip
for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    for _kind, _attrs, _make in _KINDS:
        if _kind == "FixedLengthRecordReader" and _suffix:
            _attrs += ", encoding: string = ''"
        define(
            _kind + _suffix, f"-> reader_handle: {_handle}", _attrs, infer=handle_shape, reference=_opened(_make),
            stateful=True, resources=True,
        )  # fmt: skip

# --- ReaderReadV2, ReaderReadUpToV2 ---


def _reader(call: Call, handle: np.ndarray) -> Reader:
    reader = held(handle)
    if not isinstance(reader, Reader):
        call.fail("The input is no handle of a reader")
    return reader


def _pair(call: Call, reader: np.ndarray, queue: np.ndarray) -> tuple[Reader, Queue]:
    work = held(queue)
    if not isinstance(work, Queue):
        call.fail("The second input is no handle of a queue")
    return _reader(call, reader), work


def _cancellation(call: Call) -> Cancellation:
    found: Cancellation = call.attrs["_resources"].cancellation
    return found


def strings(values: Sequence[bytes]) -> np.ndarray:
    """A vector of strings."""
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _read(call: Call, handle: np.ndarray, queue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reader, work = _pair(call, handle, queue)
    key, value = reader.read(work, _cancellation(call))
    return np.array(key, object), np.array(value, object)


def _read_up_to(call: Call, handle: np.ndarray, queue: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reader, work = _pair(call, handle, queue)
    records = reader.read_up_to(work, integer(n), _cancellation(call))
    return strings([key for key, _ in records]), strings([value for _, value in records])


for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    _handles = f"reader_handle: {_handle}, queue_handle: {_handle}"
    define(
        f"ReaderRead{_suffix}", f"{_handles} -> key: string, value: string",
        infer=lambda x: [(), ()], reference=_read, stateful=True, resources=True,
    )  # fmt: skip
    define(
        f"ReaderReadUpTo{_suffix}", f"{_handles}, num_records: int64 -> keys: string, values: string",
        infer=lambda x: [(None,), (None,)], reference=_read_up_to, stateful=True, resources=True,
    )  # fmt: skip

# --- ReaderNumRecordsProducedV2, ReaderNumWorkUnitsCompletedV2 ---


def _produced(call: Call, handle: np.ndarray) -> np.ndarray:
    return np.array(_reader(call, handle).produced, np.int64)


def _completed(call: Call, handle: np.ndarray) -> np.ndarray:
    return np.array(_reader(call, handle).finished, np.int64)


# --- ReaderSerializeStateV2, ReaderRestoreStateV2, ReaderResetV2 ---


def _state(call: Call, handle: np.ndarray) -> np.ndarray:
    return np.array(_reader(call, handle).state(_cancellation(call)), object)


def _restore(call: Call, handle: np.ndarray, state: np.ndarray) -> tuple[()]:
    if state.ndim:
        call.fail(f"Reader state must be scalar, but had shape: {list(state.shape)}")
    _reader(call, handle).restore(state.item(), _cancellation(call))
    return ()


def _reset(call: Call, handle: np.ndarray) -> tuple[()]:
    _reader(call, handle).reset(_cancellation(call))
    return ()


_OPS: tuple[tuple[str, str, Any, Callable[..., Any]], ...] = (
    ("NumRecordsProduced", "-> records_produced: int64", scalar, _produced),
    ("NumWorkUnitsCompleted", "-> units_completed: int64", scalar, _completed),
    ("SerializeState", "-> state: string", scalar, _state),
    ("RestoreState", ", state: string ->", no_outputs, _restore),
    ("Reset", "->", no_outputs, _reset),
)
for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    for _kind, _rest, _infer, _reference in _OPS:
        define(
            f"Reader{_kind}{_suffix}", f"reader_handle: {_handle} {_rest}", infer=_infer, reference=_reference,
            stateful=True, resources=True,
        )  # fmt: skip

# --- ReadFile, WriteFile, MatchingFiles ---


def path_of(call: Call, name: np.ndarray, what: str) -> str:
    """A scalar string as a path."""
    if name.ndim:
        call.fail(f"{what} tensor must be scalar but had shape: [{','.join(map(str, name.shape))}]")
    return _path(name.item())


def _path(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _read_file(call: Call, filename: np.ndarray) -> np.ndarray:
    return np.array(files.read_file(path_of(call, filename, "Input filename")), object)


def _write_file(call: Call, filename: np.ndarray, contents: np.ndarray) -> tuple[()]:
    path = path_of(call, filename, "Input filename")
    if contents.ndim:
        call.fail(f"Contents tensor must be scalar but had shape: {list(contents.shape)}")
    files.write_file(path, contents.item())
    return ()


def _matching(call: Call, pattern: np.ndarray) -> np.ndarray:
    if pattern.ndim > 1:
        call.fail(f"Input patterns tensor must be scalar or vector, but had shape: {list(pattern.shape)}")
    found = files.matching_files(map(_path, pattern.ravel().tolist()))
    return strings([name.encode(errors="surrogateescape") for name in found])


def _scalar_inputs(x: Inference) -> None:
    for i in range(x.count()):
        x.with_rank(i, 0)


def _contents(x: Inference) -> list[ShapeLike]:
    _scalar_inputs(x)
    return [()]


def _written(x: Inference) -> list[ShapeLike]:
    _scalar_inputs(x)
    return []


# The contents of files change: no two reads may be taken for one, nor be folded.
define("ReadFile", "filename: string -> contents: string", infer=_contents, reference=_read_file, stateful=True)
define("WriteFile", "filename: string, contents: string ->", infer=_written, reference=_write_file, stateful=True)
define(
    "MatchingFiles", "pattern: string -> filenames: string",
    infer=lambda x: [(None,)], reference=_matching, stateful=True,
)  # fmt: skip
