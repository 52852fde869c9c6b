"""Lookup tables: values by key, filled once, which belong to a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit_runtime import forking
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import FAILED_PRECONDITION, OpFailure


class Table:
    """A hash table from keys to values of fixed dtypes, read-only once it is filled."""

    def __init__(self, name: str, key_dtype: DType, value_dtype: DType) -> None:
        self.name, self.key_dtype, self.value_dtype = name, key_dtype, value_dtype
        self._entries: dict[Any, Any] | None = None
        self._lock = forking.lock()

    def fill(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Set all entries; a table that is filled already stays as it is. Fails for two values of one key."""
        entries: dict[Any, Any] = {}
        for key, value in zip(keys, values, strict=True):
            if entries.setdefault(key, value) != value:
                raise OpFailure(
                    f"HashTable has different value for same key. Key {_text(key)} has {_text(entries[key])} and "
                    f"trying to add value {_text(value)}",
                    FAILED_PRECONDITION,
                )
        with self._lock:
            if self._entries is None:
                self._entries = entries

    def __len__(self) -> int:
        return len(self._entries or ())

    def find(self, keys: np.ndarray, default: Any) -> np.ndarray:
        """The values of the keys, `default` for those that are missing; fails before the table is filled."""
        entries = self._filled()
        found = np.empty(keys.shape, self.value_dtype.np)
        flat = found.reshape(-1)
        for k, key in enumerate(keys.reshape(-1).tolist()):
            flat[k] = entries.get(key, default)
        return found

    def items(self) -> tuple[list[Any], list[Any]]:
        """All keys, and all values in the same order."""
        entries = self._filled()
        return list(entries), list(entries.values())

    def _filled(self) -> dict[Any, Any]:
        if self._entries is None:
            raise OpFailure("Table not initialized.", FAILED_PRECONDITION)
        return self._entries


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
