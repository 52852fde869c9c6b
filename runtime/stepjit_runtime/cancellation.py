"""What may end a step from outside: its time limit, and the close of its session.

A thread that runs a step under a time limit says so with `TimeLimit`; whatever waits or lasts long inside a step asks
the session's `Cancellation`, which raises OpFailure (deadline exceeded, or cancelled) when the step is to end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stepjit_runtime import forking
from stepjit_runtime.errors import CANCELLED, DEADLINE_EXCEEDED, OpFailure


class _Limits(threading.local):
    deadline: float | None = None


_limits = _Limits()


class TimeLimit:
    """Steps that this thread runs inside the block end after so many seconds; None: no limit of their own.

    Of nested limits the earliest counts: a step inside a step ends with it.
    """

    __slots__ = ("_outer", "_seconds")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        outer = self._outer = _limits.deadline
        if self._seconds is not None:
            mine = time.monotonic() + self._seconds
            _limits.deadline = mine if outer is None or mine < outer else outer

    def __exit__(self, kind: object = None, error: object = None, trace: object = None) -> None:
        _limits.deadline = self._outer


@contextmanager
def not_counted() -> Iterator[None]:
    """Time spent inside does not count against the limit: compiling, for one, is no part of the step."""
    outer, start = _limits.deadline, time.monotonic()
    _limits.deadline = None
    try:
        yield
    finally:
        _limits.deadline = None if outer is None else outer + time.monotonic() - start


def check_time() -> None:
    """Raise OpFailure when this thread is over its limit."""
    if _limits.deadline is not None and time.monotonic() >= _limits.deadline:
        raise OpFailure("Timed out: the step took longer than its time limit", DEADLINE_EXCEEDED)


class Cancellation:
    """One session's means to end what waits in it."""

    def __init__(self) -> None:
        self._waiting: dict[threading.Condition, int] = {}
        self._lock = forking.lock()
        self.cancelled = False

    def check(self, cancelled: str = "Session has been closed.") -> None:
        """Raise OpFailure when this thread's step is to end; `cancelled` is what to say when the session was closed."""
        if self.cancelled:
            raise OpFailure(cancelled, CANCELLED)
        check_time()

    def wait(self, condition: threading.Condition, ready: Callable[[], object], cancelled: str) -> None:
        """Wait, with `condition` held, until `ready()`; raise as `check` does when the step is to end before.

        Whoever changes what `ready` looks at notifies the condition. Signals' handlers run meanwhile.
        """
        if ready():
            return
        with self._registered(condition):
            while not ready():
                self.check(cancelled)
                deadline = _limits.deadline
                condition.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def cancel(self) -> None:
        """End all waits of the session, now and later."""
        self.cancelled = True
        with self._lock:
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def forked(self) -> None:
        """In a child of the process: the threads that waited are not there."""
        self._waiting = {}

    @contextmanager
    def _registered(self, condition: threading.Condition) -> Iterator[None]:
        with self._lock:
            self._waiting[condition] = self._waiting.get(condition, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[condition] -= 1
                if not self._waiting[condition]:
                    del self._waiting[condition]
