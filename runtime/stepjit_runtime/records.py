"""Record files: each record with its length, and masked CRC-32C checksums of both; plain or compressed."""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from stepjit_runtime.errors import DATA_LOSS, FAILED_PRECONDITION, OpFailure
from stepjit_runtime.files import failure_of

_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")
_CHUNK = 1 << 18


@lru_cache(maxsize=1)
def _tables() -> np.ndarray:
    """u32[8, 256]: what a byte adds to the checksum, by its distance from the end."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, (first >> 1) ^ np.uint32(_POLYNOMIAL), first >> 1)
    tables = np.empty((8, 256), np.uint32)
    tables[0] = first
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> 8) ^ first[tables[k - 1] & 255]
    return tables


@lru_cache(maxsize=1)
def _native() -> Callable[[bytes, int, int], int]:
    from stepjit_runtime import link

    kind = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_uint32)
    function, tables = kind(link.address("sj_crc32c")), _tables()
    start = tables.ctypes.data
    # The tables must live as long as the function.
    return lambda data, n, crc, keep=tables: function(start, data, n, crc)  # type: ignore[misc]


def crc32c(data: bytes) -> int:
    """The CRC-32C checksum of the bytes."""
    return _native()(data, len(data), 0xFFFFFFFF) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The checksum as files hold it, so that checksums of data with checksums in it are as good as others."""
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    """The record as it stands in a file."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOT.pack(masked(crc32c(length))), record, _FOOT.pack(masked(crc32c(record)))))


class ZlibFile:
    """A zlib stream in a file, to read; like `gzip.GzipFile` as far as it goes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflate, self._left = file, zlib.decompressobj(), b""

    def read(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        parts, missing = [], size
        while missing:
            found = self._inflate.decompress(self._left or self._file.read(_CHUNK), missing)
            self._left = self._inflate.unconsumed_tail
            if not found and not self._left:
                if self._inflate.eof:
                    break
                more = self._file.read(_CHUNK)
                if not more:
                    break
                self._left = more
            parts.append(found)
            missing -= len(found)
        return b"".join(parts)

    def close(self) -> None:
        self._file.close()


class RecordReader:
    """Reads the records of a file in order. OpFailure (data loss) where it is damaged or cut off."""

    def __init__(self, path: str, compression: str = "") -> None:
        try:
            file = open(path, "rb", buffering=_CHUNK)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise failure_of(error, path) from None
        self._file: Any = file
        if compression == "GZIP":
            import gzip

            self._file = gzip.GzipFile(fileobj=file)
            self._outer: Any = file
        else:
            self._outer = None
            if compression == "ZLIB":
                self._file = ZlibFile(file)
            elif compression:
                raise OpFailure(f"Unsupported compression_type: {compression}.")
        self.offset = 0
        """Where the next record begins."""
        self._failure: OpFailure | None = None

    def read(self) -> bytes | None:
        """The next record; None at the end. Behind damage nothing can be read."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._next()
        except OpFailure as failure:
            self._failure = failure
            raise

    def _next(self) -> bytes | None:
        head = self._read(_HEAD.size)
        if not head:
            return None
        if len(head) < _HEAD.size:
            raise self._damaged("truncated record")
        length, crc = _HEAD.unpack(head)
        if masked(crc32c(head[:8])) != crc:
            raise self._damaged("corrupted record")
        body = self._read(length + _FOOT.size)
        if len(body) < length + _FOOT.size:
            raise self._damaged("truncated record")
        record = body[:length]
        if masked(crc32c(record)) != _FOOT.unpack_from(body, length)[0]:
            raise self._damaged("corrupted record")
        self.offset += _HEAD.size + length + _FOOT.size
        return record

    def _read(self, size: int) -> bytes:
        try:
            found: bytes = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise OpFailure(f"corrupted compressed data at {self.offset}: {error}", DATA_LOSS) from None
        except (MemoryError, OverflowError):
            raise self._damaged("corrupted record") from None
        return found

    def _damaged(self, what: str) -> OpFailure:
        return OpFailure(f"{what} at {self.offset}", DATA_LOSS)

    def close(self) -> None:
        self._file.close()
        if self._outer is not None:
            self._outer.close()

    def __iter__(self) -> Iterator[bytes]:
        while (record := self.read()) is not None:
            yield record


class RecordWriter:
    """Writes records to a new file.

    options: of `zlib.compressobj`, for the compressions: level, memLevel, strategy, wbits.
    """

    def __init__(self, path: str, compression: str = "", options: dict[str, int] | None = None) -> None:
        if compression not in ("", "GZIP", "ZLIB"):
            raise OpFailure(f"Unsupported compression_type: {compression}.")
        try:
            self._file: BinaryIO | None = open(path, "wb", buffering=_CHUNK)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise failure_of(error, path) from None
        self._deflate: Any = None
        if compression:
            given: dict[str, Any] = {"level": -1, "method": zlib.DEFLATED, "wbits": 15, **(options or {})}
            if compression == "GZIP":
                given["wbits"] = 16 + given["wbits"] % 16
            self._deflate = zlib.compressobj(**given)

    def write(self, record: bytes) -> None:
        """Append a record; OpFailure when the writer is closed."""
        data = framed(record)
        self._open().write(data if self._deflate is None else self._deflate.compress(data))

    def flush(self) -> None:
        """Hand everything over to the operating system."""
        file = self._open()
        if self._deflate is not None:
            file.write(self._deflate.flush(zlib.Z_SYNC_FLUSH))
        file.flush()

    def close(self) -> None:
        """End the file; a second call does nothing."""
        if self._file is not None:
            if self._deflate is not None:
                self._file.write(self._deflate.flush())
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        if self._file is None:
            raise OpFailure("Writer is closed.", FAILED_PRECONDITION)
        return self._file
