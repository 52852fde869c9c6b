"""Tables between words and their numbers, in the signatures of tf.contrib.lookup."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops import array
from stepjit.ops.tables import (
    KeyValueTensorInitializer,
    StaticHashTable,
    StaticVocabularyTable,
    TextFileIndex,
    TextFileInitializer,
)
from stepjit_runtime import dtypes

Table = StaticHashTable | StaticVocabularyTable


def _by_word(fill: Any, num_oov_buckets: int, default_value: int, name: str | None) -> Table:
    if num_oov_buckets < 0:
        raise ValueError(f"num_oov_buckets must be >= 0, got {num_oov_buckets}.")
    if num_oov_buckets:
        return StaticVocabularyTable(fill, num_oov_buckets, name=name)
    return StaticHashTable(fill, np.int64(default_value), name)


def _numbers(words: Tensor) -> Tensor:
    return apply_op("Cast", x=apply_op("Range", start=0, limit=array.size(words), delta=1), DstT=dtypes.int64)


def index_table_from_tensor(
    mapping: Any,
    num_oov_buckets: int = 0,
    default_value: int = -1,
    hasher_spec: Any = None,
    dtype: Any = dtypes.string,
    name: str | None = None,
) -> Table:
    """A table from words to their places in the vector `mapping`; others give `default_value`, or a bucket by hash."""
    if mapping is None:
        raise ValueError("mapping must be specified.")
    with name_scope(name, "string_to_index"):
        words = convert_to_tensor(mapping, dtype)
        return _by_word(KeyValueTensorInitializer(words, _numbers(words)), num_oov_buckets, default_value, None)


def index_table_from_file(
    vocabulary_file: Any = None,
    num_oov_buckets: int = 0,
    vocab_size: int | None = None,
    default_value: int = -1,
    hasher_spec: Any = None,
    key_dtype: Any = dtypes.string,
    name: str | None = None,
) -> Table:
    """A table from the lines of a file to their numbers; others give `default_value`, or a bucket by hash."""
    if not isinstance(vocabulary_file, Tensor) and not vocabulary_file:
        raise ValueError("`vocabulary_file` must be specified and must not be empty.")
    line, number = TextFileIndex.WHOLE_LINE, TextFileIndex.LINE_NUMBER
    with name_scope(name, "string_to_index"):
        fill = TextFileInitializer(vocabulary_file, key_dtype, line, dtypes.int64, number, vocab_size)
        return _by_word(fill, num_oov_buckets, default_value, None)


def index_to_string_table_from_tensor(
    mapping: Any, default_value: str = "UNK", name: str | None = None
) -> StaticHashTable:
    """A table from places in the vector `mapping` to the words there."""
    if mapping is None:
        raise ValueError("mapping must be specified.")
    with name_scope(name, "index_to_string"):
        words = convert_to_tensor(mapping, dtypes.string)
        return StaticHashTable(KeyValueTensorInitializer(_numbers(words), words), default_value)


def index_to_string_table_from_file(
    vocabulary_file: Any, vocab_size: int | None = None, default_value: str = "UNK", name: str | None = None
) -> StaticHashTable:
    """A table from numbers of lines of a file to the lines."""
    if not isinstance(vocabulary_file, Tensor) and not vocabulary_file:
        raise ValueError("`vocabulary_file` must be specified and must not be empty.")
    line, number = TextFileIndex.WHOLE_LINE, TextFileIndex.LINE_NUMBER
    with name_scope(name, "index_to_string"):
        fill = TextFileInitializer(vocabulary_file, dtypes.int64, number, dtypes.string, line, vocab_size)
        return StaticHashTable(fill, default_value)
