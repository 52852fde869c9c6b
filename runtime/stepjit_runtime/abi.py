"""What generated code and Python agree on: layouts of the records they share, and codes they hand to each other.

Every field is eight bytes wide; pointers to Python objects in these records are borrowed, Python keeps them alive.
"""

from __future__ import annotations

from collections.abc import Sequence

VERSION = "abi 8"
"""To be raised with any change here or in what the functions of `support` mean: it is part of programs' keys."""

INSTANCE_VECTORCALL = 16
"""Where a step callable keeps the native function that calls go to; null: calls go to `__call__`."""
INSTANCE_CONTEXT = 24
"""Where a step callable keeps the address of its context."""
INSTANCE_BYTES = 32


def _offsets(names: Sequence[str]) -> dict[str, int]:
    return {name: 8 * k for k, name in enumerate(names)}


CONTEXT = _offsets((
    "next_entry",  # function: the entry of another variant, tried when a feed does not fit this one; or null
    "next_context",  # its context
    "slow",  # Python callable (reason, arguments, keyword names or None) -> the call's result
    "fail",  # Python callable (failure, at, value, bound, *more); raises
    "kind",  # how results are packed: PACK_*
    "count",  # how many indices
    "indices",  # i64 *: result numbers; -1 stands for None
    "slots",  # Slot ** (for streams, Stream **): the records of the step's slots in order
    "layouts",  # i64 *: what each slot's `layout` must be
    "session",  # Session *
    "constants",  # void **: data of the constants
    "constant_arrays",  # PyObject **: the constants as arrays
    "hosts",  # PyObject **: Python callables of the host kernels in order
    "blocks",  # Block **: heads of free lists: of arenas, then of the rows of each result that loops stack up
    "kept",  # PyObject **: by result, the last KEPT objects that were made of it, or null
    "poll",  # Python callable (); raises when the step is to end
    "trace",  # Trace *: where a traced program writes down what it does; others don't look
))  # fmt: skip
"""A callable's view of an executable."""

SLOT = _offsets(("data", "initialised", "layout", "bytes"))
"""A variable: 64-byte aligned buffer, whether it holds a value, the number of its dtype and shape, the bytes."""

STREAM = _offsets(("key", "counter_hi", "next"))
"""A random op's stream: its two seeds, and the number of the next block, which whoever draws moves on atomically."""

SESSION = _offsets(("closed", "readers", "writers", "pins", "reading", "assigning"))
"""A session: steps that run without the GIL and read (`readers`) or write (`writers`) variables; steps with host ops
(`pins`), for whose sake buffers are not freed. These are native code's, with the GIL held; the last two are Python's:
it copies a variable out, or changes one."""

KEPT, KEPT_BYTES = 2, 64 * 1024
"""How many objects of each result an executable keeps, if they have at most so many bytes."""

ARRAY = {"type": 8, "data": 16, "nd": 24, "dims": 32, "descr": 56, "flags": 64, "weakrefs": 72}
"""Offsets in PyArrayObject, the same in numpy 1 and 2."""

SCALAR_VALUE = 16
"""Offset of the value in Python's float and numpy's scalars."""

ALIGNMENT = 64
"""Of buffers, in bytes."""

BLOCK_BYTES = 8
BLOCK_HEADER = 64
"""A block of a free list: next, at BLOCK_BYTES its size, and its memory BLOCK_HEADER bytes on."""

TRACE = _offsets(("events", "capacity", "inner", "count", "lost", "totals", "begin", "end"))
"""What is written down of a traced call: `count` events at `events`, which has room for `capacity`, the first `inner`
of them for kernels in branches and loops; `lost` did not fit. An event is three i64: (kernel, begin, end), or
(-1 - n, number, 0) for extent h<n>. At `totals`: (runs, ticks) of each kernel. All times in ticks of `sj_clock`."""
TRACE_EVENT = 24

PACK_SINGLE, PACK_LIST, PACK_TUPLE, PACK_NONE = range(4)

# Why a call went to `slow`: code + (number << 8). The number is that of the feed, check or slot.
COLD, ARGUMENTS, FEED, CHECK, SLOT_LAYOUT, SLOT_UNINITIALISED, CLOSED, BUSY = range(8)

REENTRY = 1 << 62
"""Bit of `nargsf`: strings among the feeds are bytes, and a refusal returns the reason as an int in place of `slow`."""

RELEASE_NS = 20_000
"""Kernels estimated to take longer run without the GIL."""

POLL_NS = 20_000
"""Loops look at the clock about that often."""

STACK_BYTES = 32 * 1024
"""Arenas up to this size are on the stack."""
