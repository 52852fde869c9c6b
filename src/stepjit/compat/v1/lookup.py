"""tf.lookup."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.ops.tables import (
    KeyValueTensorInitializer,
    StaticHashTable,
    StaticVocabularyTable,
    TextFileIndex,
    TextFileInitializer,
)
