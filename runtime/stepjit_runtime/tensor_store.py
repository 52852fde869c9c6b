"""Tensors that a session keeps from step to step, each by its handle: a text that names it."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np

from stepjit_runtime.errors import OpFailure

DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"
KEPT_DEAD = 10
"""So many tensors whose handle objects are gone are kept before they are freed: programs may hold the bare text."""

_numbers = itertools.count()


class TensorStore:
    """The tensors of one session; every operation is one step of a dict or deque, so threads need no lock."""

    def __init__(self) -> None:
        self._tensors: dict[str, np.ndarray] = {}
        self._dead: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._tensors)

    def put(self, name: str, value: np.ndarray) -> str:
        """Keep a copy of the value; gives its handle, which no other session's store knows."""
        handle = f"{name};{next(_numbers)};{DEVICE}"
        kept = value.copy()
        kept.flags.writeable = False  # steps are fed with the array itself
        self._tensors[handle] = kept
        return handle

    def get(self, handle: str) -> np.ndarray:
        """The tensor, not to be written to; OpFailure when there is none (any more)."""
        found = self._tensors.get(handle)
        if found is None:
            raise OpFailure(f"The tensor with handle '{handle}' is not in the session store.")
        return found

    def delete(self, handle: str) -> None:
        """Free the tensor; OpFailure when there is none (any more)."""
        if self._tensors.pop(handle, None) is None:
            raise OpFailure(f"The tensor with handle '{handle}' is not in the session store.")

    def forget(self, handle: str) -> None:
        """The object that held the handle is gone: free its tensor sooner or later. For finalizers."""
        self._dead.append(handle)
        if len(self._dead) >= KEPT_DEAD:
            self._free_dead()

    def _free_dead(self) -> None:
        while True:
            try:
                self._tensors.pop(self._dead.popleft(), None)
            except IndexError:
                return

    def clear(self) -> None:
        """Free all."""
        self._tensors.clear()
        self._dead.clear()
