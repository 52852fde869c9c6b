"""The knobs: four environment variables, read once, and the same by name for a while with `options(...)`.

STEPJIT_DUMP    passes whose result is printed to stderr: `simplify,fuse`, or `all`
STEPJIT_LOG     events that are logged, a line each: `compile`
STEPJIT_SKIP    rules of simplify that are left out, to find a wrong one: `add_zero,multiply_one`
STEPJIT_VERIFY  1: check the step's invariants after each pass
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Options:
    """Values of the knobs."""

    dump: frozenset[str] = frozenset()
    log: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    verify: bool = False

    def dumps(self, stage: str) -> bool:
        return stage in self.dump or "all" in self.dump


def _from_environment() -> Options:
    def words(name: str) -> frozenset[str]:
        return frozenset(word.strip() for word in os.environ.get(name, "").split(",") if word.strip())

    verify = os.environ.get("STEPJIT_VERIFY", "") not in ("", "0")
    return Options(words("STEPJIT_DUMP"), words("STEPJIT_LOG"), words("STEPJIT_SKIP"), verify)


_current = _from_environment()


def current() -> Options:
    return _current


@contextmanager
def options(**changes: Any) -> Iterator[Options]:
    """Other values for the steps that are compiled inside the block: `with options(verify=True): ...`."""
    global _current
    before = _current
    given: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, (list, set, tuple)) else value for name, value in changes.items()
    }
    _current = replace(before, **given)
    try:
        yield _current
    finally:
        _current = before
