"""What the caches of compiled steps did for one session and for its process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stepjit_compiler import store
from stepjit_runtime import memory_cache
from stepjit_runtime.disk_cache import DiskStats


@dataclass(frozen=True)
class CacheStats:
    """Where a session's programs came from, and the counts of the process's caches."""

    compiled: int
    """Programs compiled for the session."""
    from_memory: int
    """Programs that another session, or a step before, had compiled in this process."""
    from_disk: int
    """Programs that another process had compiled."""
    memory: memory_cache.Stats
    """Of the whole process."""
    disk: DiskStats | None
    """Of the whole process; None where nothing is kept on disk."""
    folder: str
    """Where programs are kept; empty for nowhere."""


def cache_stats(sources: Mapping[str, int]) -> CacheStats:
    """The stats of a session that got its programs from these sources."""
    disk = store.cache()
    return CacheStats(
        sources.get("compiler", 0), sources.get("memory", 0), sources.get("disk", 0), memory_cache.stats(),
        None if disk is None else disk.stats(), "" if disk is None else disk.path,
    )  # fmt: skip
