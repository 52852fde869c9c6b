"""Readers, record files and their checksums, files as ops."""

from __future__ import annotations

import gzip
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit_runtime import records, wire
from stepjit_runtime.files import matching_files


@pytest.fixture
def session() -> Iterator[tf.Session]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def queue_of(session: tf.Session, names: Any, close: bool = True) -> tf.FIFOQueue:
    queue = tf.FIFOQueue(-1, tf.string, shapes=[[]])
    session.run(queue.enqueue_many([list(map(str, names))]))
    if close:
        session.run(queue.close())
    return queue


def drained(session: tf.Session, reader: tf.ReaderBase, names: Any) -> list[tuple[bytes, bytes]]:
    pair = reader.read(queue_of(session, names))
    found: list[tuple[bytes, bytes]] = []
    while True:
        try:
            found.append(tuple(session.run(pair)))
        except tf.errors.OutOfRangeError:
            return found


# --- record files ---


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_checksums() -> None:
    assert records.crc32c(b"123456789") == 0xE3069283
    data = np.random.RandomState(0).bytes(100)
    for size in (0, 1, 7, 8, 9, 15, 16, 17, 63, 100):
        assert records.crc32c(data[:size]) == slow_crc32c(data[:size])


def test_masking() -> None:
    assert records.masked(0) == 0xA282EAD8
    assert records.masked(0x00008000) == (0xA282EAD8 + 1)


@pytest.mark.parametrize("kind", ["", "GZIP", "ZLIB"])
def test_records_come_back(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "file")
    texts = [b"", b"a", b"x" * 100_000, bytes(range(256)) * 3]
    with tf.python_io.TFRecordWriter(path, kind) as writer:
        for text in texts:
            writer.write(text)
        writer.flush()
    assert list(tf.python_io.tf_record_iterator(path, tf.python_io.TFRecordOptions(kind))) == texts
    raw = Path(path).read_bytes()
    plain = {"": lambda b: b, "GZIP": gzip.decompress, "ZLIB": zlib.decompress}[kind](raw)
    assert plain == b"".join(map(records.framed, texts))


def test_compression_options() -> None:
    options = tf.python_io.TFRecordOptions
    names = options.get_compression_type_string
    kinds = tf.python_io.TFRecordCompressionType
    assert [names(kind) for kind in (None, "", kinds.NONE, kinds.GZIP, "ZLIB")] == ["", "", "", "GZIP", "ZLIB"]
    assert names(options(options("GZIP"))) == "GZIP"
    with pytest.raises(ValueError, match="Not a valid compression_type"):
        options("BZIP")


def test_compression_levels(tmp_path: Path) -> None:
    sizes = []
    for level in (0, 9):
        path = tmp_path / str(level)
        with tf.python_io.TFRecordWriter(str(path), tf.python_io.TFRecordOptions("ZLIB", compression_level=level)) as w:
            w.write(b"abc" * 1000)
        sizes.append(path.stat().st_size)
    assert sizes[0] > 3000 > 300 > sizes[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:5], "truncated record at 0"),
        (lambda raw: raw[:20], "truncated record at 0"),
        (lambda raw: b"\1" + raw[1:], "corrupted record at 0"),
        (lambda raw: raw[:13] + b"\1" + raw[14:], "corrupted record at 0"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "corrupted record at 27"),
    ],
)
def test_damaged_records(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(damage(records.framed(b"hello world") + records.framed(b"second")))
    with pytest.raises(tf.errors.DataLossError, match=message):
        list(tf.python_io.tf_record_iterator(str(path)))


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_damaged_compression(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    with tf.python_io.TFRecordWriter(str(path), kind) as writer:
        writer.write(b"abc" * 100)
    path.write_bytes(path.read_bytes()[:-15])
    with pytest.raises(tf.errors.DataLossError):
        list(tf.python_io.tf_record_iterator(str(path), kind))


def test_writing_to_a_closed_or_impossible_file(tmp_path: Path) -> None:
    writer = tf.python_io.TFRecordWriter(str(tmp_path / "file"))
    writer.close()
    writer.close()
    with pytest.raises(tf.errors.FailedPreconditionError):
        writer.write(b"x")
    with pytest.raises(tf.errors.NotFoundError):
        tf.python_io.TFRecordWriter(str(tmp_path / "no" / "file"))
    with pytest.raises(tf.errors.NotFoundError):
        list(tf.python_io.tf_record_iterator(str(tmp_path / "missing")))


# --- readers ---


def test_line_ends(session: tf.Session, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\rb\r\n\rx\n\n\r\nlast\r")
    assert [value for _, value in drained(session, tf.TextLineReader(), [path])] == [b"a\rb", b"\rx", b"", b"", b"last"]


def test_a_file_of_headers_only(session: tf.Session, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"one\ntwo")
    (tmp_path / "long").write_bytes(b"1\n2\n3\n4")
    reader = tf.TextLineReader(skip_header_lines=3)
    found = drained(session, reader, [tmp_path / "short", tmp_path / "long"])
    assert found == [(f"{tmp_path}/long:4".encode(), b"4")]
    assert session.run([reader.num_records_produced(), reader.num_work_units_completed()]) == [1, 2]


def test_damage_is_reported_again_and_again(session: tf.Session, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(records.framed(b"good") + b"garbage" * 10)
    key, value = tf.TFRecordReader().read(queue_of(session, [path]))
    assert session.run(value) == b"good"
    for _ in range(2):
        with pytest.raises(tf.errors.DataLossError, match="corrupted record at 20"):
            session.run(key)


def test_a_missing_file_is_passed_over(session: tf.Session, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"line")
    reader = tf.TextLineReader()
    key, value = reader.read(queue_of(session, [tmp_path / "missing", tmp_path / "there"]))
    with pytest.raises(tf.errors.NotFoundError, match="missing"):
        session.run(key)
    assert session.run(value) == b"line"


def test_fixed_length_records_may_be_compressed(session: tf.Session, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(zlib.compress(b"HHabcdefF"))
    reader = tf.FixedLengthRecordReader(3, header_bytes=2, footer_bytes=1, encoding="ZLIB")
    assert [value for _, value in drained(session, reader, [path])] == [b"abc", b"def"]


@pytest.mark.parametrize(("sizes", "name"), [((0, 0, 0, 0), "record"), ((1, -1, 0, 0), "header")])
def test_wrong_sizes(session: tf.Session, sizes: tuple[int, ...], name: str) -> None:
    record, header, footer, hop = sizes
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}_bytes must be"):
        session.run(tf.FixedLengthRecordReader(record, header, footer, hop).num_records_produced())


def test_read_up_to_stops_where_an_item_ends(session: tf.Session, tmp_path: Path) -> None:
    for name, lines in (("a", 5), ("b", 1)):
        (tmp_path / name).write_text("".join(f"{k}\n" for k in range(lines)))
    reader = tf.TextLineReader()
    keys, values = reader.read_up_to(queue_of(session, [tmp_path / "a", tmp_path / "b"]), 2)
    assert [session.run(values).tolist() for _ in range(4)] == [[b"0", b"1"], [b"2", b"3"], [b"4"], [b"0"]]
    with pytest.raises(tf.errors.OutOfRangeError):
        session.run(keys)


def test_state_of_readers(session: tf.Session) -> None:
    reader = tf.IdentityReader()
    key, _ = reader.read(queue_of(session, ["ab", "c"]))
    session.run(key)
    state = session.run(reader.serialize_state())
    assert state == b'\x08\x01\x10\x01\x18\x01"\x02ab'
    session.run(reader.reset())
    assert session.run(reader.serialize_state()) == b""
    session.run(reader.restore_state(state))
    assert session.run([reader.num_records_produced(), reader.num_work_units_completed()]) == [1, 1]
    for bad in (b"x", b"\x08\x02\x10\x01"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(reader.restore_state(bad))
    with pytest.raises(tf.errors.UnimplementedError):
        session.run(tf.TextLineReader().serialize_state())
    assert reader.supports_serialize and not tf.TextLineReader().supports_serialize


def test_a_reader_that_waits_can_be_asked_and_ended(session: tf.Session) -> None:
    reader = tf.IdentityReader()
    queue = queue_of(session, [], close=False)
    key, _ = reader.read(queue)
    count, put = reader.num_records_produced(), queue.enqueue("late")
    with pytest.raises(tf.errors.DeadlineExceededError):
        session.run(key, options=tf.RunOptions(timeout_in_ms=50))
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(session.run(key)), daemon=True)
    thread.start()
    time.sleep(0.1)
    assert session.run(count) == 0
    session.run(put)
    thread.join(5)
    assert found == [b"late"] and session.run([count, queue.size()]) == [1, 0]


def test_readers_want_strings(session: tf.Session) -> None:
    queue = tf.FIFOQueue(3, tf.int32)
    session.run(queue.enqueue(1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="strings"):
        session.run(tf.TextLineReader().read(queue))


def test_older_reader_ops(session: tf.Session) -> None:
    handle = tf.raw_ops.FIFOQueue(component_types=[tf.string], shapes=[[]])
    queue = tf.QueueBase([tf.string], [[]], None, handle)
    reader = tf.ReaderBase(tf.raw_ops.IdentityReader())
    session.run(queue.enqueue("a"))
    key, _ = reader.read(queue)
    assert key.op.type == "ReaderRead" and session.run(key) == b"a"


# --- files ---


def test_files(session: tf.Session, tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "file")
    name = tf.placeholder(tf.string)
    session.run(tf.write_file(name, "text"), {name: path})
    read = tf.read_file(path)
    assert session.run(read) == b"text"
    Path(path).write_text("changed")
    assert session.run(read) == b"changed"
    with pytest.raises(tf.errors.FailedPreconditionError, match="Is a directory"):
        session.run(tf.read_file(str(tmp_path)))
    with pytest.raises(ValueError, match="rank 0"):
        tf.read_file([path])


def test_patterns(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b/a3", "b/c4", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    root = str(tmp_path)
    names = lambda *patterns: [n[len(root) + 1 :] for n in matching_files(f"{root}/{p}" for p in patterns)]  # noqa: E731
    assert names("a*") == ["a1", "a2"] and names("*/a?") == ["b/a3"] and names("b/[ab]*", "a1") == ["a1", "b/a3"]
    assert names("a1") == ["a1"] and names("a1/x*") == [] and names("missing/*") == [] and names("A*") == []


def test_wire_format() -> None:
    for value in (0, 1, 127, 128, 300, 2**32, 2**63 - 1, -1, -(2**63)):
        data = wire.number_field(3, value) + wire.bytes_field(20, b"xy")
        (number, _, found, _), (other, _, _, content) = wire.fields(data)
        assert (number, wire.signed(found), other, content) == (3, value, 20, b"xy")
    numbers = np.array([0, 1, 127, 128, -1, 2**62, -(2**63)], np.int64)
    packed = b"".join(wire.varint(int(number)) for number in numbers)
    np.testing.assert_array_equal(wire.packed_varints(packed), numbers)
    for bad in (b"\x08", b"\x12\x05ab", b"\x0b", b"\x00", b"\xff" * 11):
        with pytest.raises(ValueError):
            list(wire.fields(bad))
    with pytest.raises(ValueError, match="no varint"):
        wire.packed_varints(struct.pack("B", 200))
