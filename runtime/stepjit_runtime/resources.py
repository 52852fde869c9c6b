"""State of one session: variables, random streams, and the record through which running steps are counted.

Native code reads a variable through its record (`abi.SLOT`) and the session through its own (`abi.SESSION`). Steps that
run without the GIL count themselves in there; who would disturb them waits. Python, whose copies let go of the GIL too,
says first what it is about to do, so that no step starts, and then waits for those under way.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from stepjit_runtime import abi, forking
from stepjit_runtime.cancellation import Cancellation
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import FAILED_PRECONDITION, OpFailure
from stepjit_runtime.tensor_store import TensorStore

_FIRST_WAIT, _LONGEST_WAIT = 20e-6, 2e-3
_TURN = 50e-3

_layouts: dict[tuple[DType, tuple[int, ...]], int] = {}
_layout_numbers = itertools.count(1)


def layout_number(dtype: DType, shape: tuple[int, ...]) -> int:
    """A number, from 1 on, that stands for that dtype and shape in this process."""
    return _layouts.get((dtype, shape)) or _layouts.setdefault((dtype, shape), next(_layout_numbers))


def aligned_buffer(size: int) -> np.ndarray:
    """Zeroed bytes, u8[size], at a multiple of 64."""
    raw = np.zeros(size + abi.ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % abi.ALIGNMENT
    return raw[start : start + size]


def _poll(busy: Callable[[], object]) -> None:
    pause = _FIRST_WAIT
    while busy():
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_WAIT)


class Record:
    """Eight-byte fields in memory that native code shares; by names in `fields`."""

    __slots__ = ("_fields", "_words", "address")

    def __init__(self, fields: dict[str, int]) -> None:
        self._fields = fields
        self._words = (ctypes.c_int64 * len(fields))()
        self.address = ctypes.addressof(self._words)

    def __getitem__(self, name: str) -> int:
        return self._words[self._fields[name] >> 3]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[self._fields[name] >> 3] = value


class Variable:
    """A variable's value: a buffer of its dtype and shape; `None` as shape until a first value tells it.

    Elements native code does not know (strings) are in an object array.
    """

    __slots__ = ("_array", "_resources", "dtype", "name", "record", "shape")

    def __init__(self, resources: Resources, name: str, dtype: DType, shape: tuple[int, ...] | None) -> None:
        self._resources, self.name, self.dtype = resources, name, dtype
        self.record = Record(abi.SLOT)
        self.shape: tuple[int, ...] | None = None
        self._array: np.ndarray | None = None
        if shape is not None:
            self.reserve(shape)

    @property
    def initialised(self) -> bool:
        return bool(self.record["initialised"])

    def reserve(self, shape: tuple[int, ...]) -> None:
        """Make room for a value of that shape; what is held is lost unless it has that shape already."""
        if self.shape == shape:
            return
        room = self._room(shape)
        with self._resources.access("assigning"):
            if self._array is not None:
                self._resources.retire(self._array)
            self._array, self.shape = room, shape
            self.record["initialised"] = 0
            self.record["data"] = room.ctypes.data
            self.record["bytes"] = room.nbytes
            self.record["layout"] = layout_number(self.dtype, shape)

    def read(self) -> np.ndarray:
        """A copy of the value; OpFailure (failed precondition) when there is none."""
        with self._resources.access("reading"):
            if not self.initialised or self._array is None:
                raise OpFailure(f"Attempting to use uninitialized value {self.name}", FAILED_PRECONDITION)
            return self._array.copy()

    def assign(self, value: np.ndarray) -> None:
        """Take a value of the variable's dtype, of any shape."""
        value = np.asarray(value, self.dtype.np)
        with self._resources.access("assigning"):
            self.reserve(value.shape)
            assert self._array is not None
            self._array[...] = value
            self.record["initialised"] = 1

    def clear(self) -> None:
        """Hold nothing, as before the first value."""
        with self._resources.access("assigning"):
            self.record["initialised"] = 0

    def _room(self, shape: tuple[int, ...]) -> np.ndarray:
        if self.dtype.itemsize == 0:
            return np.full(shape, b"", object)
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        return aligned_buffer(size).view(self.dtype.np).reshape(shape)

    def _free(self) -> None:
        if self._array is not None:
            self._resources.retire(self._array)
        self._array, self.shape = None, None
        for field in abi.SLOT:
            self.record[field] = 0


class Resources:
    """What a session owns. Other kinds of state (queues, readers, ...) stand in `others` by (container, kind, name)."""

    def __init__(self) -> None:
        self.record = Record(abi.SESSION)
        self.cancellation = Cancellation()
        self._variables: dict[tuple[str, str], Variable] = {}
        self._streams: dict[Any, Any] = {}
        self.tensors = TensorStore()
        self.others: dict[tuple[str, str, str], Any] = {}
        self._retired: list[np.ndarray] = []
        self._access = forking.lock()
        self._held: list[int] = []
        forking.watch(self)

    @property
    def closed(self) -> bool:
        return bool(self.record["closed"])

    def variable(self, name: str, dtype: DType, shape: tuple[int, ...] | None, container: str = "") -> Variable:
        """The variable of that name, made at the first call; a known shape gives one without value its buffer."""
        found = self._variables.get((container, name))
        if found is None:
            found = self._variables[container, name] = Variable(self, name, dtype, shape)
        elif shape is not None and not found.initialised and found.shape != shape:
            found.reserve(shape)
        return found

    def variables(self) -> Iterator[Variable]:
        yield from tuple(self._variables.values())

    def variables_by_key(self) -> Iterator[tuple[tuple[str, str], Variable]]:
        """((container, name), variable) of all."""
        yield from tuple(self._variables.items())

    def stream(self, key: Any, make: Callable[[], Any]) -> Any:
        """The random stream of one op, made at the first call and kept as long as the session."""
        found = self._streams.get(key)
        if found is None:
            found = self._streams.setdefault(key, make())  # of threads that come at once, one makes it
        return found

    def reset(self, containers: tuple[str, ...] | None = None) -> None:
        """Drop the state in the containers; in all of them by default."""
        with self.access("assigning"):
            for key in [key for key in self._variables if containers is None or key[0] in containers]:
                self._variables.pop(key)._free()
        for other in [key for key in self.others if containers is None or key[0] in containers]:
            self._close_one(self.others.pop(other))
        self._sweep()

    def close(self) -> None:
        """End the session's state: no step starts any more, those that wait are cancelled, those that compute end.

        May be called again.
        """
        self.record["closed"] = 1
        self.cancellation.cancel()
        others, self.others = self.others, {}
        for other in others.values():
            self._close_one(other)
        self.reset()
        self._streams.clear()
        self.tensors.clear()

    @staticmethod
    def _close_one(other: Any) -> None:
        close = getattr(other, "close", None)
        if close is not None:
            close()

    @contextmanager
    def access(self, how: str) -> Iterator[None]:
        """Have the variables for oneself, `reading` or `assigning`, as far as native code is concerned."""
        with self._access:
            before = self.record[how]
            try:
                self.record[how] = 1
                _poll(lambda: self._flying(how == "assigning"))
                yield
            finally:
                self.record[how] = before

    def busy(self, write: bool) -> bool:
        """Whether something is under way that keeps a step which reads (or writes) variables from starting."""
        return bool(self._flying(write) or self.record["assigning"] or (write and self.record["reading"]))

    def wait(self, write: bool) -> None:
        """Wait until nothing is under way that keeps a step which reads (or writes) variables from starting.

        OpFailure when the waiting step is to end before.
        """
        pause = _FIRST_WAIT
        while self.busy(write):
            self.cancellation.check()
            if pause < _LONGEST_WAIT:
                time.sleep(pause)
                pause *= 2
            elif self._take_turn("assigning" if write else "reading"):
                return

    def _take_turn(self, how: str) -> bool:
        """Keep steps of other threads from starting for a while; whether those under way have ended.

        A thread that runs such steps one after the other would leave no gap to those that wait.
        """
        if not self._access.acquire(timeout=_TURN):
            return False
        try:
            before, until = self.record[how], time.monotonic() + _TURN
            try:
                self.record[how] = 1
                while self._flying(how == "assigning"):
                    if time.monotonic() > until:
                        return False
                    time.sleep(_FIRST_WAIT)
                return True
            finally:
                self.record[how] = before
        finally:
            self._access.release()

    def _flying(self, write: bool) -> int:
        return self.record["writers"] or (self.record["readers"] if write else 0)

    def hold_writers(self, until: float) -> bool:
        """Keep steps that change variables from starting; False when others have the variables for themselves.

        `until`: how long to wait for those, in seconds of the monotonic clock.
        """
        if not self._access.acquire(timeout=max(0.0, until - time.monotonic())):
            return False
        # As if Python read the variables; in a thread that does, or that assigns, this is so already.
        self._held.append(self.record["reading"])
        self.record["reading"] = 1
        return True

    def await_writers(self, until: float) -> None:
        """Wait for steps under way that change variables, no longer than `until`."""
        while self.record["writers"] and time.monotonic() < until:
            time.sleep(_FIRST_WAIT)

    def release_writers(self) -> None:
        """Undo `hold_writers`."""
        self.record["reading"] = self._held.pop()
        self._access.release()

    def forked(self) -> None:
        """In a child of the process: the steps of other threads are not there."""
        for name in ("readers", "writers", "reading", "assigning"):
            self.record[name] = 0
        self._held.clear()
        # `pins` stays: the forking thread may be in a step itself, and a pin too many only delays freeing.
        for state in (self.cancellation, *self.others.values()):
            if hasattr(state, "forked"):
                state.forked()

    def retire(self, array: np.ndarray) -> None:
        """Free a buffer once no suspended step can still point to it."""
        self._retired.append(array)
        self._sweep()

    def _sweep(self) -> None:
        record = self.record
        if not (record["pins"] or record["readers"] or record["writers"]):
            self._retired.clear()
