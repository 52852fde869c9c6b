"""The position of one random op in its stream of Philox blocks, as a session keeps it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache

from stepjit_runtime import abi
from stepjit_runtime.resources import Record

_LOW = 0xFFFFFFFF
_WORD = 0xFFFFFFFFFFFFFFFF


class RandomStream:
    """Key, upper counter words and next block of a stream; seeds that are both 0 mean a key of the system's choice.

    Native code draws from it through its record (`abi.STREAM`).
    """

    __slots__ = ("counter_hi", "key", "record")

    key: tuple[int, int]
    counter_hi: tuple[int, int]

    def __init__(self, seed: int, seed2: int) -> None:
        if seed == 0 and seed2 == 0:
            seed, seed2 = (int.from_bytes(os.urandom(8), "little") for _ in range(2))
        self.key = (seed & _LOW, seed >> 32 & _LOW)
        self.counter_hi = (seed2 & _LOW, seed2 >> 32 & _LOW)
        self.record = Record(abi.STREAM)
        self.record["key"], self.record["counter_hi"] = seed & _WORD, seed2 & _WORD

    def take(self, blocks: int) -> int:
        """Reserve that many blocks; returns the number of the first."""
        return _take()(self.record.address, blocks)


@lru_cache(maxsize=1)
def _take() -> Callable[[int, int], int]:
    # Native code moves streams on while it has let go of the GIL: it takes one instruction to do the same here.
    from stepjit_runtime import link

    kind = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
    return kind(link.address("sj_take_blocks"))
