"""tf.contrib.lookup."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.ops.table_indexes import (
    index_table_from_file,
    index_table_from_tensor,
    index_to_string_table_from_file,
    index_to_string_table_from_tensor,
)
from stepjit.ops.tables import (
    KeyValueTensorInitializer,
    StaticHashTable,
    StaticVocabularyTable,
    TextFileIndex,
    TextFileInitializer,
)
from stepjit.ops.tables import (
    StaticHashTable as HashTable,
)
