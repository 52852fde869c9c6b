"""The knobs: environment variables, read once, and the same by name for a while with `options(...)`.

STEPJIT_CACHE        the folder in which compiled steps are kept; `off`: none
STEPJIT_CACHE_BYTES  how large it may get: a number, `64MB`, `2GB`
STEPJIT_DUMP         passes whose result is printed to stderr: `simplify,fuse`, or `all`
STEPJIT_LOG          events that are logged, a line each: `compile`, `cache`
STEPJIT_SKIP         rules of simplify that are left out, to find a wrong one: `add_zero,multiply_one`
STEPJIT_VERIFY       1: check the step's invariants after each pass
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from stepjit_runtime.disk_cache import LIMIT_BYTES


@dataclass(frozen=True)
class Options:
    """Values of the knobs."""

    dump: frozenset[str] = frozenset()
    log: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    verify: bool = False
    cache: str = ""
    """A folder; empty for the user's own, `off` for none."""
    cache_bytes: int = LIMIT_BYTES

    def dumps(self, stage: str) -> bool:
        return stage in self.dump or "all" in self.dump


def _from_environment() -> Options:
    def words(name: str) -> frozenset[str]:
        return frozenset(word.strip() for word in os.environ.get(name, "").split(",") if word.strip())

    verify = os.environ.get("STEPJIT_VERIFY", "") not in ("", "0")
    return Options(
        words("STEPJIT_DUMP"), words("STEPJIT_LOG"), words("STEPJIT_SKIP"), verify,
        os.environ.get("STEPJIT_CACHE", ""), _bytes("STEPJIT_CACHE_BYTES"),
    )  # fmt: skip


def _bytes(name: str) -> int:
    text = os.environ.get(name, "")
    if not text:
        return LIMIT_BYTES
    try:
        return parse_bytes(text)
    except ValueError as error:
        warnings.warn(f"{name} is left out: {error}", stacklevel=2)
        return LIMIT_BYTES


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_bytes(text: str) -> int:
    """`512MB`, `2g`, `1000` as a number of bytes, units of 1024; ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is no number of bytes, as `512MB` is")
    return int(float(match[1]) * _UNITS[match[2]])


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
