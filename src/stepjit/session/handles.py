"""Handles of tensors that a session keeps: what the fetch of `get_session_handle` gives."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import InvalidArgumentError, OpFailure
from stepjit_runtime.tensor_store import TensorStore


class TensorHandle:
    """Stands for a tensor kept in a session; may be fed in its place. The tensor goes some time after the handle."""

    def __init__(self, handle: str, dtype: DType, store: TensorStore) -> None:
        self._handle, self._dtype, self._store = handle, dtype, store
        self._frees = True

    @property
    def handle(self) -> str:
        """The text to feed `get_session_tensor`'s and `delete_session_tensor`'s placeholders with."""
        return self._handle

    def get_raw_handle(self) -> str:
        """The text likewise; the tensor stays until it is deleted or the session is closed."""
        self._frees = False
        return self._handle

    def eval(self) -> Any:
        """The tensor's value, as a fetch gives it; TypeError when it was deleted or its session closed."""
        try:
            return self._store.get(self._handle).copy()[()]
        except OpFailure:
            self._gone()

    def to_numpy_array(self) -> np.ndarray:
        """The tensor's value as an array; TypeError as for `eval`."""
        return np.asarray(self.eval(), self._dtype.np)

    def delete(self) -> None:
        """Free the tensor now; TypeError as for `eval`."""
        try:
            self._store.delete(self._handle)
        except OpFailure:
            self._gone()

    def _gone(self) -> NoReturn:
        raise TypeError(f"Persistent tensor {self._handle} may have already been deleted.")

    def __str__(self) -> str:
        return self._handle

    def __del__(self) -> None:
        if getattr(self, "_frees", False):
            self._store.forget(self._handle)

    def __reduce__(self) -> NoReturn:
        raise TypeError("can't pickle a TensorHandle: its tensor stays in its session")


def stored(handle: TensorHandle, dtype: DType, store: TensorStore | None) -> np.ndarray:
    """The array to feed for a handle, not to be written to; InvalidArgumentError when the session does not have it."""
    if handle._dtype is not dtype:
        text = f"Expects arg[0] to be {dtype.name} but {handle._dtype.name} is provided"
        raise InvalidArgumentError(None, None, text)
    try:
        return (handle._store if store is None else store).get(handle._handle)
    except OpFailure as failure:
        raise InvalidArgumentError(None, None, failure.message) from None
