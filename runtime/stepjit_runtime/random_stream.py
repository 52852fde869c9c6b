"""The position of one random op in its stream of Philox blocks, as a session keeps it."""

from __future__ import annotations

import os

from stepjit_runtime import forking

_LOW = 0xFFFFFFFF


class RandomStream:
    """Key, upper counter words and next block of a stream; seeds that are both 0 mean a key of the system's choice."""

    __slots__ = ("_lock", "_next", "counter_hi", "key")

    key: tuple[int, int]
    counter_hi: tuple[int, int]

    def __init__(self, seed: int, seed2: int) -> None:
        if seed == 0 and seed2 == 0:
            seed, seed2 = (int.from_bytes(os.urandom(8), "little") for _ in range(2))
        self.key = (seed & _LOW, seed >> 32 & _LOW)
        self.counter_hi = (seed2 & _LOW, seed2 >> 32 & _LOW)
        self._next = 0
        self._lock = forking.lock()

    def take(self, blocks: int) -> int:
        """Reserve that many blocks; returns the number of the first."""
        with self._lock:
            first = self._next
            self._next = (first + blocks) & 0xFFFFFFFFFFFFFFFF
            return first
