"""Ops that take time: one that waits until it is let through (its gate is `GATE`), and one that nothing can end."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit_compiler import opdef


class Gate:
    """Open or not; counts who waits."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.open = False
        self.waiting = 0
        self.passed = 0

    def pass_through(self, cancellation: Any) -> None:
        with self.changed:
            self.waiting += 1
            self.changed.notify_all()
            try:
                cancellation.wait(self.changed, lambda: self.open, "The wait was cancelled")
                self.passed += 1
            finally:
                self.waiting -= 1

    def reset(self, is_open: bool) -> None:
        with self.changed:
            self.open, self.passed = is_open, 0
            self.changed.notify_all()


GATE = Gate()


def _wait(call: Any) -> np.ndarray:
    GATE.pass_through(call.attrs["_resources"].cancellation)
    return np.float32(7)


if opdef.lookup("TestWait") is None:
    opdef.define("TestWait", "-> value: float", infer=lambda x: [()], reference=_wait, stateful=True, resources=True)


def _sleep(call: Any) -> tuple[()]:
    time.sleep(call.attrs["seconds"])
    return ()


if opdef.lookup("TestSleep") is None:
    opdef.define("TestSleep", "->", "seconds: float", infer=lambda x: [], reference=_sleep, stateful=True)


def wait(name: str | None = None) -> Any:
    """7.0, once the gate is open."""
    return apply_op("TestWait", name=name)


def sleep(seconds: float) -> Any:
    """An operation that takes so long."""
    return apply_op("TestSleep", seconds=seconds)
