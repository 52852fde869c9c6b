"""The reader classes, and ops that read, write and find files."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.record_files import TFRecordOptions
from stepjit.variables import Variable

for _kind in (
    "WholeFileReader", "TextLineReader", "FixedLengthRecordReader", "TFRecordReader", "IdentityReader", "ReaderRead",
    "ReaderReadUpTo", "ReaderNumRecordsProduced", "ReaderNumWorkUnitsCompleted", "ReaderSerializeState",
    "ReaderRestoreState", "ReaderReset",
):  # fmt: skip
    for _suffix in ("", "V2"):
        NotDifferentiable(_kind + _suffix)


class ReaderBase:
    """Takes items, most often names of files, from a queue of strings and produces records from them.

    Its state belongs to the session: the item under way, and what is counted.
    """

    def __init__(self, reader_ref: Tensor, supports_serialize: bool = False) -> None:
        self._reader_ref, self._supports_serialize = reader_ref, supports_serialize

    @property
    def reader_ref(self) -> Tensor:
        """The tensor that stands for the reader."""
        return self._reader_ref

    @property
    def supports_serialize(self) -> bool:
        """Whether `serialize_state` and `restore_state` work."""
        return self._supports_serialize

    def read(self, queue: Any, name: str | None = None) -> list[Tensor]:
        """The next record, [key, value], string scalars; takes items from `queue` as it needs them, and waits for them.

        OutOfRangeError when the queue is closed and used up.
        """
        found: list[Tensor] = self._op("ReaderRead", name, queue_handle=_handle(queue))
        return found

    def read_up_to(self, queue: Any, num_records: Any, name: str | None = None) -> list[Tensor]:
        """[keys, values] of the next records, string vectors: `num_records`, or fewer where an item ends."""
        found: list[Tensor] = self._op(
            "ReaderReadUpTo", name, queue_handle=_handle(queue), num_records=num_records
        )
        return found

    def num_records_produced(self, name: str | None = None) -> Tensor:
        """How many records were produced, an int64 scalar."""
        return self._op("ReaderNumRecordsProduced", name)

    def num_work_units_completed(self, name: str | None = None) -> Tensor:
        """How many items were read to their end, an int64 scalar."""
        return self._op("ReaderNumWorkUnitsCompleted", name)

    def serialize_state(self, name: str | None = None) -> Tensor:
        """The reader's state, a string scalar; UnimplementedError when it does not support that."""
        return self._op("ReaderSerializeState", name)

    def restore_state(self, state: Any, name: str | None = None) -> Operation:
        """An op that lets the reader go on from a state."""
        return self._op("ReaderRestoreState", name, state=state)

    def reset(self, name: str | None = None) -> Operation:
        """An op that lets the reader be as new."""
        return self._op("ReaderReset", name)

    def _op(self, kind: str, name: str | None, **arguments: Any) -> Any:
        suffix = "" if self._reader_ref.dtype._is_ref_dtype else "V2"
        return apply_op(kind + suffix, name, reader_handle=self._reader_ref, **arguments)


def _handle(queue: Any) -> Tensor:
    found: Tensor = queue if isinstance(queue, Tensor) else queue.queue_ref
    return found


class WholeFileReader(ReaderBase):
    """Produces of each file its name and contents."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(apply_op("WholeFileReaderV2", name), supports_serialize=True)


class IdentityReader(ReaderBase):
    """Produces each item as key and value."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(apply_op("IdentityReaderV2", name), supports_serialize=True)


class TextLineReader(ReaderBase):
    """Produces the lines of files, less the first `skip_header_lines` of each; keys are `file:number`, from 1."""

    def __init__(self, skip_header_lines: int | None = None, name: str | None = None) -> None:
        super().__init__(apply_op("TextLineReaderV2", name, skip_header_lines=skip_header_lines))


class FixedLengthRecordReader(ReaderBase):
    """Produces stretches of `record_bytes` bytes, one every `hop_bytes`; keys are `file:number`, from 0."""

    def __init__(
        self, record_bytes: int, header_bytes: int | None = None, footer_bytes: int | None = None,
        hop_bytes: int | None = None, name: str | None = None, encoding: str | None = None,
    ) -> None:  # fmt: skip
        ref = apply_op(
            "FixedLengthRecordReaderV2", name, record_bytes=record_bytes, header_bytes=header_bytes,
            footer_bytes=footer_bytes, hop_bytes=hop_bytes, encoding=encoding,
        )  # fmt: skip
        super().__init__(ref)


class TFRecordReader(ReaderBase):
    """Produces the records of record files; keys are `file:offset`. `options` is a TFRecordOptions."""

    def __init__(self, name: str | None = None, options: Any = None) -> None:
        compression = TFRecordOptions.get_compression_type_string(options)
        super().__init__(apply_op("TFRecordReaderV2", name, compression_type=compression))


# --- files ---


def read_file(filename: Any, name: str | None = None) -> Tensor:
    """The contents of a file, a string scalar; NotFoundError in the step without the file."""
    return apply_op("ReadFile", filename=filename, name=name)


def write_file(filename: Any, contents: Any, name: str | None = None) -> Operation:
    """An op that writes a file anew; folders on the way to it are made."""
    return apply_op("WriteFile", filename=filename, contents=contents, name=name)


def matching_files(pattern: Any, name: str | None = None) -> Tensor:
    """The names of files that match a pattern, or one of a vector of them: a sorted string vector."""
    return apply_op("MatchingFiles", pattern=pattern, name=name)


def match_filenames_once(pattern: Any, name: str | None = None) -> Variable:
    """A local variable that is initialised with the names of the files that match."""
    with name_scope(name, "matching_filenames", [pattern]) as scope:
        return Variable(
            matching_files(pattern), trainable=False, collections=[GraphKeys.LOCAL_VARIABLES], validate_shape=False,
            name=scope,
        )  # fmt: skip
