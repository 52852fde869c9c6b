"""Lookup tables: filled from tensors and files, looked up, and whose state they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as opened:
        yield opened


def table(keys: Any = ("a", "b"), values: Any = (1, 2), default: Any = -1) -> Any:
    fill = tf.lookup.KeyValueTensorInitializer(list(keys), np.array(values, np.int64))
    return tf.lookup.StaticHashTable(fill, default)


def test_lookup(session: Any) -> None:
    t = table()
    found = t.lookup(tf.constant([["a", "zz"], ["b", "a"]]))
    assert found.shape.as_list() == [2, 2]
    with pytest.raises(tf.errors.FailedPreconditionError, match="not initialized"):
        session.run(found)
    assert session.run(t.size()) == 0
    session.run(tf.tables_initializer())
    session.run(t.initializer)
    assert session.run(found).tolist() == [[1, -1], [2, 1]]
    assert session.run(t.size()) == 2
    assert [part.tolist() for part in session.run(t.export())] == [[b"a", b"b"], [1, 2]]
    sparse = session.run(t[tf.SparseTensor([[3]], ["b"], [4])])
    assert (sparse.indices.tolist(), sparse.values.tolist()) == ([[3]], [2])


def test_tables_belong_to_sessions(session: Any) -> None:
    found = table().lookup(tf.constant("a"))
    session.run(tf.tables_initializer())
    assert session.run(found) == 1
    with tf.Session() as other, pytest.raises(tf.errors.FailedPreconditionError):
        other.run(found)


def test_numbers_to_texts(session: Any) -> None:
    fill = tf.lookup.KeyValueTensorInitializer(np.array([3, 4], np.int64), ["x", "y"])
    t = tf.lookup.StaticHashTable(fill, "?")
    keys = tf.placeholder(tf.int64)
    session.run(tf.tables_initializer())
    assert session.run(t.lookup(keys), {keys: [4, 9]}).tolist() == [b"y", b"?"]


def test_entries_must_be_of_one_mind(session: Any) -> None:
    table(("a", "a"), (1, 1))
    session.run(tf.tables_initializer())
    table(("a", "a"), (1, 2))
    with pytest.raises(tf.errors.FailedPreconditionError, match="Key a has 1 and trying to add value 2"):
        session.run(tf.tables_initializer())
    with pytest.raises(ValueError, match="incompatible"):
        table(("a", "b"), (1,))
    with pytest.raises(TypeError, match="argument `keys` must be"):
        table().lookup(tf.constant([1]))


def test_files(session: Any, tmp_path: Path) -> None:
    lines, columns = tmp_path / "words", tmp_path / "pairs"
    lines.write_text("x\ny\nz\n")
    columns.write_text("x,5\ny,6\n")
    make, part = tf.lookup.TextFileInitializer, tf.lookup.TextFileIndex
    numbers = (tf.string, part.WHOLE_LINE, tf.int64, part.LINE_NUMBER)
    by_word = tf.lookup.StaticHashTable(make(str(lines), *numbers, value_index_offset=10), -1)
    by_number = tf.lookup.StaticHashTable(make(str(lines), tf.int64, part.LINE_NUMBER, tf.string, part.WHOLE_LINE), "?")
    pairs = tf.lookup.StaticHashTable(make(str(columns), tf.string, 0, tf.int64, 1, delimiter=","), -1)
    first = tf.lookup.StaticHashTable(make(str(lines), *numbers, vocab_size=2), -1)
    session.run(tf.tables_initializer())
    assert session.run(by_word.lookup(tf.constant(["z", "q"]))).tolist() == [12, -1]
    assert session.run(by_number.lookup(tf.constant([1, 7], tf.int64))).tolist() == [b"y", b"?"]
    assert session.run(pairs.lookup(tf.constant(["y", "z"]))).tolist() == [6, -1]
    assert session.run(first.size()) == 2
    assert len(tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS)) == 4


@pytest.mark.parametrize(
    ("content", "options", "error", "text"),
    [
        (None, {}, tf.errors.NotFoundError, "No such file"),
        ("x\n", {"vocab_size": 9}, tf.errors.InvalidArgumentError, "expected 9 but got 1"),
        ("x\nx\n", {}, tf.errors.FailedPreconditionError, "different value for same key"),
    ],
)
def test_bad_files(session: Any, tmp_path: Path, content: Any, options: Any, error: Any, text: str) -> None:
    path = tmp_path / "words"
    if content is not None:
        path.write_text(content)
    part = tf.lookup.TextFileIndex
    fill = tf.lookup.TextFileInitializer(
        str(path), tf.string, part.WHOLE_LINE, tf.int64, part.LINE_NUMBER, **options
    )
    t = tf.lookup.StaticHashTable(fill, -1)
    with pytest.raises(error, match=text):
        session.run(t.initializer)


def test_columns_that_are_no_numbers(session: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_text("x\t5\ny\tz\n")
    make = tf.lookup.TextFileInitializer
    for index, text in ((1, "Field z in line 1 is not a valid int64"), (2, "expected at least 3, got 2")):
        t = tf.lookup.StaticHashTable(make(str(path), tf.string, 0, tf.int64, index), -1)
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            session.run(t.initializer)
    with pytest.raises(ValueError, match="must be int64 to hold line numbers"):
        make(str(path), tf.string, 0, tf.string, tf.lookup.TextFileIndex.LINE_NUMBER)


def test_words_without_a_number(session: Any) -> None:
    fill = tf.lookup.KeyValueTensorInitializer(["x", "y"], np.array([0, 1], np.int64))
    t = tf.lookup.StaticVocabularyTable(fill, 5)
    session.run(tf.tables_initializer())
    known, *others = session.run(t.lookup(tf.constant(["y", "q", "r", "q"]))).tolist()
    assert known == 1
    assert set(others) <= set(range(2, 7))
    assert others[0] == others[2]
    assert session.run(t.size()) == 7
    with pytest.raises(ValueError, match="num_oov_buckets"):
        tf.lookup.StaticVocabularyTable(fill, 0)


def test_words_and_their_numbers(session: Any, tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("x\ny\n")
    made = tf.contrib.lookup
    words, numbers = tf.constant(["y", "q"]), tf.constant([1, 5], tf.int64)
    tables = [made.index_table_from_tensor(["x", "y"]), made.index_table_from_file(str(path), default_value=7)]
    back = [made.index_to_string_table_from_tensor(["x", "y"]), made.index_to_string_table_from_file(str(path))]
    open_ended = made.index_table_from_tensor(["x", "y"], num_oov_buckets=3)
    session.run(tf.tables_initializer())
    assert [session.run(t.lookup(words)).tolist() for t in tables] == [[1, -1], [1, 7]]
    assert [session.run(t.lookup(numbers)).tolist() for t in back] == [[b"y", b"UNK"]] * 2
    assert session.run(open_ended.lookup(words))[1] in (2, 3, 4)
    with pytest.raises(ValueError, match="must be specified"):
        made.index_table_from_file("")
