"""What happened to a disk cache, a line each in a file that processes append to: hits, misses with reasons, evictions.

    1790000000.123 hit <key> load=812 saved=412000
    1790000001.456 miss <key> absent compile=412000
    1790000002.789 evict 12 bytes=1048576

Times are in microseconds. A line is one write, so lines of several processes do not mix.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from stepjit_runtime.cache_folder import Folder, Refused

NAME = "journal"
MOST_BYTES = 1 << 20
"""A journal of this size is put aside, and the one put aside before is dropped."""


class Event(NamedTuple):
    """One line: `what` is hit, miss or evict; `subject` the key or a count; `reason` of a miss, numbers by name."""

    time: float
    what: str
    subject: str
    reason: str
    numbers: dict[str, int]


def note(folder: Folder, what: str, subject: str, reason: str = "", **numbers: int) -> None:
    """Add a line; what can't be written is not noted."""
    words = [f"{time.time():.3f}", what, subject, *filter(None, [reason]), *(f"{k}={v}" for k, v in numbers.items())]
    with suppress(OSError):
        folder.append(NAME, (" ".join(words) + "\n").encode(), MOST_BYTES)


def events(folder: Folder) -> Iterator[Event]:
    """All that is noted, oldest first; damaged lines are left out."""
    for name in (f"{NAME}.old", NAME):
        try:
            text = folder.read(name).decode(errors="replace")
        except Refused:
            continue
        yield from _parse(text.splitlines())


def _parse(lines: Iterable[str]) -> Iterator[Event]:
    for line in lines:
        words = line.split()
        try:
            at, what, subject, *rest = words
            numbers = {key: int(value) for key, _, value in (w.partition("=") for w in rest if "=" in w)}
            reason = next((word for word in rest if "=" not in word), "")
            if what in ("hit", "miss", "evict"):
                yield Event(float(at), what, subject, reason, numbers)
        except ValueError:
            continue
