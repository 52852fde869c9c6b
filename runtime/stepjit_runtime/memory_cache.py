"""Programs of this process by content key: what one session compiled, the next one links."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from stepjit_runtime import forking
from stepjit_runtime.executable import Program
from stepjit_runtime.link import Linked, link

MOST_PROGRAMS = 1024
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Stats:
    """Counts since the process began (or `clear`): programs found in memory, made elsewhere (compiled or read from
    disk), dropped; code linked; and what is held now."""

    hits: int
    misses: int
    evictions: int
    links: int
    programs: int
    bytes: int


class _Entry:
    __slots__ = ("linked", "lock", "program")

    def __init__(self) -> None:
        self.lock = forking.lock()
        self.program: Program | None = None
        self.linked: Linked | None = None


class MemoryCache:
    """Bounded by count and bytes, least recently used first out; code in use lives on with its executables."""

    def __init__(self, most_programs: int = MOST_PROGRAMS, most_bytes: int = MOST_BYTES) -> None:
        self._most_programs, self._most_bytes = most_programs, most_bytes
        self._lock = forking.lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[str, Linked] = weakref.WeakValueDictionary()
        self._hits = self._misses = self._evictions = self._links = self._bytes = 0

    def get(self, key: str, make: Callable[[], Program]) -> tuple[Program, Linked]:
        """The program and its code; `make` is called once however many threads ask at a time."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            try:
                return self._fill(key, entry, make)
            finally:
                with self._lock:
                    if entry.program is None and self._entries.get(key) is entry:
                        del self._entries[key]

    def _fill(self, key: str, entry: _Entry, make: Callable[[], Program]) -> tuple[Program, Linked]:
        fresh = entry.program is None
        program = entry.program or make()
        linked = entry.linked or self._alive.get(key)
        if linked is None:
            linked = link(program.object_code, program.manifest.imports, program.stored)
        with self._lock:
            self._links += entry.linked is None and self._alive.get(key) is not linked
            self._hits += not fresh
            self._misses += fresh
            entry.program, entry.linked = program, linked
            self._alive[key] = linked
            if fresh and self._entries.get(key) is entry:  # not cleared meanwhile
                self._bytes += program.size
                self._evict(key)
        return program, linked

    def _evict(self, keep: str) -> None:
        for key in list(self._entries):
            if len(self._entries) <= self._most_programs and self._bytes <= self._most_bytes:
                return
            entry = self._entries[key]
            if key != keep and entry.program is not None:
                del self._entries[key]
                self._bytes -= entry.program.size
                self._evictions += 1

    def stats(self) -> Stats:
        with self._lock:
            return Stats(
                self._hits, self._misses, self._evictions, self._links, len(self._entries), self._bytes
            )  # fmt: skip

    def clear(self) -> None:
        """Forget all programs and counts; code in use lives on."""
        with self._lock:
            self._entries.clear()
            self._hits = self._misses = self._evictions = self._links = self._bytes = 0


CACHE = MemoryCache()
"""The process's own."""


def stats() -> Stats:
    """The counts of the process's cache."""
    return CACHE.stats()
