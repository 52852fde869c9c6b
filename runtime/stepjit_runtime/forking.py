"""What happens to locks and sessions when the process forks: children go on with what the parent had.

Only the thread that forks lives on in a child, so a lock that another thread held would stay locked for good. Locks
made by `lock` and `whole_lock` are free in the child; a session's counts of running steps begin anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepjit_runtime.resources import Resources

PATIENCE = 20.0
"""Seconds that a fork waits for compiles under way in other threads."""
WRITERS_PATIENCE = 1.0
"""Seconds that it waits for steps in other threads that change variables."""

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_whole: list[Any] = []
_sessions: weakref.WeakSet[Resources] = weakref.WeakSet()


def lock() -> Any:
    """A reentrant lock that is free in a forked child, whoever held it: for what single steps of Python leave whole."""
    made = threading.RLock()
    _locks.add(made)
    return made


def whole_lock() -> Any:
    """A reentrant lock of a module that a fork waits for, up to `PATIENCE`: for what lies outside of Python."""
    made = lock()
    _whole.append(made)
    return made


def watch(resources: Resources) -> None:
    """Look after a session's counts and variables at forks."""
    _sessions.add(resources)


_undo: Callable[[], object] | None = None


def undo_in_children(call: Callable[[], object] | None) -> None:
    """What a child calls that is forked from now on, for something that another thread meant to undo; None: nothing."""
    global _undo
    _undo = call


class _Fork(threading.local):
    """What this thread holds while it forks."""

    def __init__(self) -> None:
        self.locks: list[Any] = []
        self.quiet: list[Resources] = []


_fork = _Fork()


def _before() -> None:
    # What is held is noted at once: Ctrl-C may come in between, and the fork goes on.
    for each in _whole:
        if each.acquire(timeout=PATIENCE):
            _fork.locks.append(each)
    until = time.monotonic() + WRITERS_PATIENCE
    sessions = list(_sessions)
    for session in sessions:
        if session.hold_writers(until):
            _fork.quiet.append(session)
    for session in sessions:
        session.await_writers(until)


def _after_in_parent() -> None:
    for session in _fork.quiet:
        session.release_writers()
    for each in _fork.locks:
        each.release()
    _fork.quiet, _fork.locks = [], []


def _after_in_child() -> None:
    for each in list(_locks):
        each._at_fork_reinit()
    for session in list(_sessions):
        session.forked()
    _fork.quiet, _fork.locks = [], []
    if _undo is not None:
        _undo()
    undo_in_children(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
