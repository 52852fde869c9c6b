"""Record files from Python: `tf.python_io`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from stepjit.session.failures import op_error
from stepjit_runtime.errors import OpFailure
from stepjit_runtime.records import RecordReader, RecordWriter


class TFRecordCompressionType:
    """How the records of a file are compressed as a whole."""

    NONE = 0
    ZLIB = 1
    GZIP = 2


class TFRecordOptions:
    """How a record file is compressed: "" (or None), "ZLIB" or "GZIP", or one of TFRecordCompressionType.

    window_bits, compression_level, compression_method, mem_level, compression_strategy: zlib's, for writing.
    flush_mode and the sizes of buffers change nothing.
    """

    compression_type_map = {
        TFRecordCompressionType.ZLIB: "ZLIB",
        TFRecordCompressionType.GZIP: "GZIP",
        TFRecordCompressionType.NONE: "",
    }

    def __init__(
        self,
        compression_type: Any = None,
        flush_mode: int | None = None,
        input_buffer_size: int | None = None,
        output_buffer_size: int | None = None,
        window_bits: int | None = None,
        compression_level: int | None = None,
        compression_method: int | None = None,
        mem_level: int | None = None,
        compression_strategy: int | None = None,
    ) -> None:
        self.get_compression_type_string(compression_type)
        self.compression_type = compression_type
        self.flush_mode = flush_mode
        self.input_buffer_size, self.output_buffer_size = input_buffer_size, output_buffer_size
        self.window_bits, self.compression_level = window_bits, compression_level
        self.compression_method, self.mem_level = compression_method, mem_level
        self.compression_strategy = compression_strategy

    @classmethod
    def get_compression_type_string(cls, options: Any) -> str:
        """The name of a compression, from options, a name, a number or None; ValueError for what is none."""
        if not options:
            return ""
        if isinstance(options, TFRecordOptions):
            return cls.get_compression_type_string(options.compression_type)
        if isinstance(options, int) and options in cls.compression_type_map:
            return cls.compression_type_map[options]
        if options in ("ZLIB", "GZIP"):
            return str(options)
        raise ValueError(f'Not a valid compression_type: "{options}"')

    def _zlib(self) -> dict[str, int]:
        given = {
            "level": self.compression_level, "method": self.compression_method, "wbits": self.window_bits,
            "memLevel": self.mem_level, "strategy": self.compression_strategy,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


class TFRecordWriter:
    """Writes records to a new file; a `with` block closes it."""

    def __init__(self, path: Any, options: Any = None) -> None:
        if not isinstance(options, TFRecordOptions):
            options = TFRecordOptions(compression_type=options)
        compression = TFRecordOptions.get_compression_type_string(options)
        try:
            self._writer = RecordWriter(os.fsdecode(path), compression, options._zlib())
        except OpFailure as failure:
            raise op_error(None, failure) from None

    def write(self, record: Any) -> None:
        """Append a record, bytes."""
        if isinstance(record, str):
            record = record.encode()
        try:
            self._writer.write(bytes(record))
        except OpFailure as failure:
            raise op_error(None, failure) from None

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        try:
            self._writer.flush()
        except OpFailure as failure:
            raise op_error(None, failure) from None

    def close(self) -> None:
        """End the file."""
        self._writer.close()

    def __enter__(self) -> TFRecordWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def tf_record_iterator(path: Any, options: Any = None) -> Iterator[bytes]:
    """The records of a file in order; NotFoundError without the file, DataLossError where it is damaged."""
    reader = None
    try:
        reader = RecordReader(os.fsdecode(path), TFRecordOptions.get_compression_type_string(options))
        yield from reader
    except OpFailure as failure:
        raise op_error(None, failure) from None
    finally:
        if reader is not None:
            reader.close()
