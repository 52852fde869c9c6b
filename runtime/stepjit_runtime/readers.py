"""Readers of a session: each takes items of work (most often names of files) from a queue and produces records."""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from stepjit_runtime import dtypes, forking, wire
from stepjit_runtime.cancellation import Cancellation
from stepjit_runtime.errors import UNIMPLEMENTED, OpFailure
from stepjit_runtime.files import failure_of, read_file
from stepjit_runtime.queues import Queue
from stepjit_runtime.records import RecordReader

Record = tuple[bytes, bytes]
"""Key and value."""


class Reader:
    """Reads records of one item of work after the other; one operation at a time.

    A subclass opens an item in `_start`, gives its records in `_next` (None at the end), and ends it in `_finish`.
    """

    kind = "Reader"
    saves_state = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.work = b""
        """The item under way, or the last one."""
        self.started = self.finished = self.produced = 0
        self._busy = False
        self._changed = threading.Condition(forking.lock())

    # --- what a subclass says ---

    def _start(self) -> None:
        pass

    def _next(self) -> Record | None:
        raise AssertionError

    def _finish(self) -> None:
        pass

    def _at_end(self) -> bool:
        """Whether it is known already that no further record comes from this item."""
        return False

    # --- operations; each raises OpFailure ---

    def read(self, queue: Queue, cancellation: Cancellation) -> Record:
        """The next record, from the next items of the queue if need be; waits for them."""
        return self.read_up_to(queue, 1, cancellation)[0]

    def read_up_to(self, queue: Queue, count: int, cancellation: Cancellation) -> list[Record]:
        """The next `count` records, fewer where an item ends; waits for one at least, unless `count` is 0."""
        if count < 1:
            return []
        with self._alone(cancellation):
            found: list[Record] = []
            while not found:
                if self.started == self.finished:
                    self._begin(queue, cancellation)
                found = self._records(count)
            return found

    def reset(self, cancellation: Cancellation) -> None:
        """Be as new."""
        with self._alone(cancellation):
            self._end()
            self.started = self.finished = self.produced = 0
            self.work = b""

    def state(self, cancellation: Cancellation) -> bytes:
        """What `restore` takes, a ReaderBaseState message."""
        self._check_saves("SerializeState")
        with self._alone(cancellation):
            numbers = (self.started, self.finished, self.produced)
            parts = [wire.number_field(k, number) for k, number in enumerate(numbers, 1) if number]
            return b"".join([*parts, wire.bytes_field(4, self.work) if self.work else b""])

    def restore(self, state: bytes, cancellation: Cancellation) -> None:
        """Go on from a state."""
        self._check_saves("RestoreState")
        with self._alone(cancellation):
            try:
                numbers, work = _parsed(state)
            except ValueError:
                raise OpFailure(f"Could not parse state for {self.kind} '{self.name}': {state!r}") from None
            if min(numbers) < 0 or numbers[0] != numbers[1]:
                raise OpFailure(f"Unexpected values in the state for {self.kind} '{self.name}': {numbers}")
            self._end()
            (self.started, self.finished, self.produced), self.work = numbers, work

    def forked(self) -> None:
        """In a child of the process: the thread that was reading is not there."""
        self._busy = False

    def close(self) -> None:
        """End with the session."""
        with self._changed:
            # An operation under way ends by itself, as it is cancelled, and then its file goes with the reader.
            if not self._busy:
                self._finish()

    # --- inside ---

    @contextmanager
    def _alone(self, cancellation: Cancellation) -> Iterator[None]:
        with self._changed:
            cancellation.wait(self._changed, lambda: not self._busy, "Read operation was cancelled")
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _begin(self, queue: Queue, cancellation: Cancellation) -> None:
        if queue.dtypes != (dtypes.string,):
            raise OpFailure("Expected a queue of strings: one component of dtype string")
        (item,) = queue.run(queue.dequeueing(), cancellation)
        if item.size != 1:
            raise OpFailure(f"Expected to dequeue a one-element string tensor, but it has {item.size} elements")
        self.work = item.item(0)
        self._start()
        self.started += 1

    def _records(self, count: int) -> list[Record]:
        found: list[Record] = []
        while len(found) < count:
            record = self._next()
            if record is not None:
                found.append(record)
            if record is None or self._at_end():
                self._end()
                break
        self.produced += len(found)
        return found

    def _end(self) -> None:
        if self.started != self.finished:
            self._finish()
        self.finished = self.started

    def _check_saves(self, what: str) -> None:
        if not self.saves_state:
            raise OpFailure(f"{self.kind} '{self.name}' does not support {what}", UNIMPLEMENTED)

    @property
    def path(self) -> str:
        return self.work.decode(errors="surrogateescape")

    def _key(self, number: int) -> bytes:
        return self.work + b":%d" % number


def _parsed(state: bytes) -> tuple[tuple[int, int, int], bytes]:
    """Numbers started, finished and produced, and the item, of a ReaderBaseState message."""
    numbers, work = [0, 0, 0], b""
    for number, kind, value, data in wire.fields(state):
        if number in (1, 2, 3) and kind == wire.VARINT:
            numbers[number - 1] = wire.signed(value)
        elif number == 4 and kind == wire.BYTES:
            work = data
    return (numbers[0], numbers[1], numbers[2]), work


class IdentityReader(Reader):
    """Each item is a record, key and value."""

    kind = "IdentityReader"
    saves_state = True

    def _next(self) -> Record:
        return self.work, self.work

    def _at_end(self) -> bool:
        return True


class WholeFileReader(IdentityReader):
    """Each file is a record: its name and its contents."""

    kind = "WholeFileReader"

    def _next(self) -> Record:
        try:
            return self.work, read_file(self.path)
        except OpFailure:
            self._end()
            raise


class _FileReader(Reader):
    """Reads an open file."""

    _file: BinaryIO | None = None

    def _opened(self) -> BinaryIO:
        try:
            return open(self.path, "rb", buffering=1 << 18)
        except OSError as error:
            raise failure_of(error, self.path) from None

    def _finish(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except OSError as error:
            raise failure_of(error, self.path) from None


class TextLineReader(_FileReader):
    """Each line is a record: `file:number`, from 1, and the line without its end."""

    kind = "TextLineReader"

    def __init__(self, name: str, skip: int) -> None:
        super().__init__(name)
        if skip < 0:
            raise OpFailure(f"skip_header_lines must be >= 0 not {skip}")
        self._skip, self._line = skip, 0

    def _start(self) -> None:
        self._file = self._opened()
        self._line = 0
        while self._line < self._skip and self._guarded(self._file.readline):
            self._line += 1

    def _next(self) -> Record | None:
        assert self._file is not None
        line = self._guarded(self._file.readline)
        if not line:
            return None
        self._line += 1
        return self._key(self._line), line.removesuffix(b"\n").removesuffix(b"\r")


class FixedLengthRecordReader(_FileReader):
    """Each stretch of so many bytes is a record: `file:number`, from 0, and the bytes."""

    kind = "FixedLengthRecordReader"

    def __init__(self, name: str, header: int, record: int, footer: int, hop: int, encoding: str) -> None:
        super().__init__(name)
        least = {"header_bytes": (header, 0), "record_bytes": (record, 1), "footer_bytes": (footer, 0)}
        for what, (number, low) in {**least, "hop_bytes": (hop, 0)}.items():
            if number < low:
                raise OpFailure(f"{what} must be {'> 0' if low else '>= 0'} not {number}")
        if encoding not in ("", "ZLIB"):
            raise OpFailure(f"Unsupported encoding: {encoding}; it must be '' or 'ZLIB'")
        self._header, self._record, self._footer, self._hop = header, record, footer, hop or record
        self._zlib = encoding == "ZLIB"
        self._number = self._limit = 0

    def _start(self) -> None:
        file = self._opened()
        if self._zlib:
            with file:
                try:
                    file = io.BytesIO(zlib.decompress(self._guarded(file.read)))
                except zlib.error as error:
                    raise OpFailure(f"{self.path}: {error}") from None
        self._file, self._number = file, 0
        self._limit = file.seek(0, io.SEEK_END) - self._footer

    def _next(self) -> Record | None:
        assert self._file is not None
        at = self._header + self._number * self._hop
        if at + self._record > self._limit:
            return None
        if self._file.tell() != at:
            self._file.seek(at)
        found = self._guarded(lambda: self._file.read(self._record))  # type: ignore[union-attr]
        self._number += 1
        return self._key(self._number - 1), found


class TFRecordReader(Reader):
    """Each record of a record file is one: `file:offset` and its bytes."""

    kind = "TFRecordReader"

    def __init__(self, name: str, compression: str) -> None:
        super().__init__(name)
        self._compression = compression
        self._records_of: RecordReader | None = None

    def _start(self) -> None:
        self._records_of = RecordReader(self.path, self._compression)

    def _next(self) -> Record | None:
        assert self._records_of is not None
        offset = self._records_of.offset
        record = self._records_of.read()
        return None if record is None else (self._key(offset), record)

    def _finish(self) -> None:
        if self._records_of is not None:
            self._records_of.close()
            self._records_of = None
