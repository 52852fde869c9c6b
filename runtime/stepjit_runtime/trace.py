"""What a traced step writes down while it runs: when each kernel began and ended, by a clock that costs a few ns.

A traced program is compiled with clock reads around its kernels. It finds the buffer to write to through its context,
so that a buffer belongs to one callable: calls that run at the same time need a callable each.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import numpy as np

from stepjit_runtime import abi, link
from stepjit_runtime.resources import Record

MOST_EVENTS = 1 << 15
"""Events kept of one call's branches and loops; where there are more, the first are kept, and all are counted."""
_PER_KERNEL = 16
"""Events of a kernel outside of branches and loops: one, and one for each extent that it tells."""

_CALIBRATION_NS = 3_000_000


class Event(NamedTuple):
    """One run of a kernel, in ticks of the clock."""

    kernel: int
    begin: int
    end: int


class TraceBuffer:
    """Room for the events of one call; `clear` makes it ready for the next."""

    def __init__(self, kernels: int, most_events: int = MOST_EVENTS) -> None:
        room = most_events + _PER_KERNEL * max(1, kernels)
        self._events = np.empty((room, 3), np.int64)
        self._totals = np.zeros((max(1, kernels), 2), np.int64)
        self._record = Record(abi.TRACE)
        self._record["events"], self._record["capacity"] = self._events.ctypes.data, room
        self._record["inner"] = most_events
        self._record["totals"] = self._totals.ctypes.data

    @property
    def address(self) -> int:
        """Of the record that native code finds all else through."""
        return self._record.address

    @property
    def begin(self) -> int:
        """When the call came in, in ticks."""
        return self._record["begin"]

    @property
    def end(self) -> int:
        """When its results were packed; 0 while no call has come to its end."""
        return self._record["end"]

    @property
    def lost(self) -> int:
        """Events beyond the buffer's room: they are in the totals only."""
        return self._record["lost"]

    def events(self) -> Iterator[Event]:
        """Runs of kernels in the order of their ends."""
        for kernel, begin, end in self._rows():
            if kernel >= 0:
                yield Event(kernel, begin, end)

    def extents(self) -> dict[str, int]:
        """Numbers of the extents that were born in mid-step; of one that a loop bears again and again, the last."""
        return {f"h{-1 - what}": number for what, number, _ in self._rows() if what < 0}

    def totals(self) -> list[tuple[int, int]]:
        """By kernel: how often it ran, and its ticks."""
        return [(calls, ticks) for calls, ticks in self._totals.tolist()]

    def clear(self) -> None:
        """Forget what was written."""
        self._totals[:] = 0
        for name in ("count", "lost", "begin", "end"):
            self._record[name] = 0

    def _rows(self) -> list[list[int]]:
        return self._events[: self._record["count"]].tolist()  # type: ignore[no-any-return]


class Clock(NamedTuple):
    """How ticks become times: `ns` nanoseconds a tick; `ticks` and `epoch_ns` are the same moment."""

    ns: float
    ticks: int
    epoch_ns: int

    def epoch(self, ticks: int) -> int:
        """Nanoseconds since the epoch."""
        return self.epoch_ns + round((ticks - self.ticks) * self.ns)


def clock() -> Clock:
    """The clock, set to this moment."""
    first, started = _start()
    while (passed := time.perf_counter_ns() - started) < _CALIBRATION_NS:
        pass
    ticks, epoch = _moment(time.time_ns)
    now, at = _moment(time.perf_counter_ns)
    passed = at - started
    return Clock(passed / (now - first), ticks, epoch)


class Cost(NamedTuple):
    """What tracing adds to a step for each run of a kernel, in nanoseconds."""

    inside: float
    """To the kernel's own time."""
    outside: float
    """To the time between kernels."""


@lru_cache(maxsize=1)
def cost() -> Cost:
    """Measured once, on kernels that do nothing."""
    turns = 1001
    buffer = TraceBuffer(1, turns)
    probe = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(link.address("sj_probe"))
    for _ in range(2):  # the first time warms up
        buffer.clear()
        probe(buffer.address, turns)
    events = list(buffer.events())
    inside = sorted(event.end - event.begin for event in events)
    outside = sorted(after.begin - before.end for before, after in pairwise(events))
    ns, middle = clock().ns, slice(turns // 4, turns - turns // 4)
    return Cost(fmean(inside[middle]) * ns, fmean(outside[middle]) * ns)


@lru_cache(maxsize=1)
def _start() -> tuple[int, int]:
    return _moment(time.perf_counter_ns)


def _moment(other: Callable[[], int]) -> tuple[int, int]:
    """(ticks, what the other clock reads) at one moment: of several tries, the one that took least."""
    read = _read()
    tries = []
    for _ in range(5):
        before = read()
        there = other()
        after = read()
        tries.append((after - before, (before + after) // 2, there))
    _, ticks, there = min(tries)
    return ticks, there


@lru_cache(maxsize=1)
def _read() -> Callable[[], int]:
    return ctypes.CFUNCTYPE(ctypes.c_int64)(link.address("sj_clock"))
