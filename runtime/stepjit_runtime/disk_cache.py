"""Programs on disk: a file per program, named by its key, read and written by any number of processes at once.

What is read is taken for untrusted: a file that is not ours alone, damaged, or made for something else is a miss with a
reason. What can't be written is not stored; the process goes on with what it has in memory, and says so once.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stepjit_runtime import cache_entry, cache_journal, forking
from stepjit_runtime.cache_folder import Folder, Refused
from stepjit_runtime.executable import Program
from stepjit_runtime.manifest import Manifest

SUFFIX = ".step"
LIMIT_BYTES = 512 << 20
KEPT_AFTER_TRIM = 0.9
"""To which part of the limit a full cache is cut back."""
_TRIM_SHARE = 32
"""A process looks at the whole folder when it has put this part of the limit, and else at one put in 64."""

_LOG = logging.getLogger("stepjit")


@dataclass(frozen=True)
class DiskStats:
    """What this process asked of its disk cache."""

    hits: int
    misses: Mapping[str, int]
    """By reason: `absent`, `checksum`, `version`, ..."""
    puts: int
    evictions: int
    load_seconds: float
    saved_seconds: float
    """What compiling took of the programs that were loaded."""


class DiskCache:
    """The programs in one folder; the folder is made and opened at the first use."""

    def __init__(self, path: str, limit: int = LIMIT_BYTES) -> None:
        self.path, self.limit = path, limit
        self._folder: Folder | None = None
        self._unusable = self._unwritable = False
        self._lock = forking.lock()
        self._put_bytes = 0
        self._hits = self._puts = self._evictions = 0
        self._misses: Counter[str] = Counter()
        self._load_seconds = self._saved_seconds = 0.0
        self._last: dict[str, str] = {}

    def get(self, key: str, entries: Mapping[str, str]) -> Program | None:
        """The program of that key; None, with the reason counted, when there is none that may be used.

        `entries` are what the key was made of, by name: an entry that says otherwise is not used.
        """
        started = time.perf_counter()
        try:
            folder = self._open()
            name = key + SUFFIX
            data = folder.read(name, self.limit + 1)
            if len(data) > self.limit:
                raise Refused("size", f"{name} is larger than the whole cache may be")
            program, costs = read_program(data, key, entries)
        except Refused as refused:
            self._missed(key, refused)
            return None
        folder.touch(name)
        seconds = time.perf_counter() - started
        with self._lock:
            self._hits += 1
            self._load_seconds += seconds
            self._saved_seconds += costs.get("compile_seconds", 0.0)
        saved = round(costs.get("compile_seconds", 0.0) * 1e6)
        cache_journal.note(folder, "hit", key, load=round(seconds * 1e6), saved=saved)
        return program

    def _missed(self, key: str, refused: Refused) -> None:
        with self._lock:
            self._misses[refused.reason] += 1
            self._last[key] = refused.reason
        if refused.reason not in ("absent", "closed"):
            _LOG.info("cache entry %s is not used (%s): %s", key[:12], refused.reason, refused)

    def refuse(self, key: str, reason: str, text: str) -> None:
        """Take back a hit: the program turned out to be of no use here, and gives way to the next one put."""
        with self._lock:
            self._hits -= 1
        self._missed(key, Refused(reason, text))

    def put(self, key: str, program: Program, header: Mapping[str, Any], sections: Mapping[str, bytes]) -> bool:
        """Store a program; False when it is there already or can't be stored.

        `header` needs `entries` (what the key was made of) and `costs` (`compile_seconds`); see `read_program`.
        """
        reason = self._last.pop(key, "absent")
        if self._unwritable:
            return False
        try:
            folder = self._open()
            text, data = program.manifest.pack()
        except (Refused, TypeError) as error:
            _LOG.debug("program %s is not stored: %s", key[:12], error)
            return False
        parts = cache_entry.pack(
            {**header, "key": key}, {"manifest": text, "data": data, "object": program.object_code, **sections}
        )
        size = sum(map(len, parts))
        compile_ = round(header["costs"]["compile_seconds"] * 1e6)
        cache_journal.note(folder, "miss", key, reason, compile=compile_)
        if size > self.limit * KEPT_AFTER_TRIM:
            return False
        try:
            # What was refused for a flaw of its own gives way to what was just made.
            stored = self._write(folder, key + SUFFIX, parts, reason != "absent")
        except OSError as error:
            self._unwritable = True
            _warn(f"{self.path} can't be written to ({error.strerror})")
            return False
        except Refused:
            return False
        with self._lock:
            self._puts += stored
            self._put_bytes += size
            due = self._put_bytes * _TRIM_SHARE > self.limit or int(key[:2], 16) < 4
            if due:
                self._put_bytes = 0
        if due:
            with suppress(OSError, Refused):
                self.trim()
        return stored

    def _write(self, folder: Folder, name: str, parts: list[bytes], replace: bool) -> bool:
        try:
            return folder.write(name, parts, replace)
        except FileNotFoundError:
            # Someone deleted the folder: it is made once more.
            with self._lock:
                self._folder = None if self._folder is folder else self._folder
            return self._open().write(name, parts, replace)

    def trim(self, limit: int | None = None) -> int:
        """Delete programs, least recently used first, until the rest fits; returns how many."""
        most = self.limit if limit is None else limit
        folder = self._open()
        folder.remove_partial()
        found = sorted(folder.files(SUFFIX), key=lambda file: file.used)
        total, gone, freed = sum(file.bytes for file in found), 0, 0
        if total <= most:
            return 0
        for file in found:
            if total - freed <= (most if limit is not None else most * KEPT_AFTER_TRIM):
                break
            if folder.remove(file.name):
                gone, freed = gone + 1, freed + file.bytes
        with self._lock:
            self._evictions += gone
        cache_journal.note(folder, "evict", str(gone), bytes=freed)
        return gone

    def stats(self) -> DiskStats:
        """Counts since the process began."""
        with self._lock:
            return DiskStats(
                self._hits, dict(self._misses), self._puts, self._evictions, self._load_seconds, self._saved_seconds
            )  # fmt: skip

    def _open(self) -> Folder:
        with self._lock:
            if self._unusable:
                raise Refused("closed", f"{self.path} is not used")
            if self._folder is not None:
                return self._folder
            try:
                self._folder = Folder(self.path)
                return self._folder
            except Refused as refused:
                self._unusable, reason = True, refused
        _warn(str(reason))
        raise reason


def _warn(why: str) -> None:
    _LOG.warning("compiled steps are kept in memory only: %s", why)


def read_program(data: bytes, key: str, entries: Mapping[str, str]) -> tuple[Program, Mapping[str, float]]:
    """The program in an entry's bytes and its costs; Refused unless it is whole, of that key, and made of `entries`."""
    return program_of(*cache_entry.unpack(data), key, entries)


def program_of(
    header: Mapping[str, Any], sections: Mapping[str, memoryview], key: str, entries: Mapping[str, str]
) -> tuple[Program, Mapping[str, float]]:
    """What `read_program` gives, of an entry that is unpacked already."""
    if header.get("key") != key:
        raise Refused("key", "this is the entry of another key")
    made_of = header.get("entries")
    if not isinstance(made_of, dict):
        raise Refused("format", "the entry does not tell what its key was made of")
    for name, value in entries.items():
        if made_of.get(name, value) != value:
            raise Refused(_reason(name), f"{name}: made for {made_of[name]!r}, here it is {value!r}")
    try:
        manifest = Manifest.unpack(bytes(sections["manifest"]), sections["data"])
        costs = {name: float(value) for name, value in header["costs"].items()}
        return Program(bytes(sections["object"]), manifest, stored=True), costs
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Refused("format", f"the entry lacks what a program needs: {error}") from None


def _reason(name: str) -> str:
    return "cpu" if name in ("features", "triple") else "abi" if name in ("python", "numpy", "abi") else "version"


_caches: dict[tuple[str, int], DiskCache] = {}


def at(path: str, limit: int = LIMIT_BYTES) -> DiskCache:
    """This process's cache in that folder."""
    return _caches.setdefault((path, limit), DiskCache(path, limit))


def default_path() -> str:
    """Where programs are kept when nothing else is said: a folder of the user's cache directory."""
    import platformdirs

    return os.path.join(platformdirs.user_cache_dir("stepjit", appauthor=False), "steps")
