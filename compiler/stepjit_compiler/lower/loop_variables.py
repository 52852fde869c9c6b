"""Where the variables of a loop live from trip to trip, and the rows that it stacks up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepjit_compiler.ir import Ref, Type
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.plan import Kernel, Plan
from stepjit_runtime import abi, dtypes

if TYPE_CHECKING:
    from stepjit_compiler.lower.entry_regions import Regions

FIRST_BYTES, FIRST_ROWS = 4096, 8
"""Bytes and rows that stacked rows begin with, at least."""


class LoopVariable:
    """The pointers to a variable. Made before the loop; `now` is asked at its head, the others where they say."""

    def __init__(self, entry: Regions, type_: Type, initial: Value, result: Value | None) -> None:
        self.entry, self.type, self.initial, self.result = entry, type_, initial, result
        # What the trips and the code behind the loop ask for has to be known ahead of both.
        entry.extents.number(type_.bytes)

    def now(self) -> Value:
        """What this trip reads."""
        return self.initial

    def following(self) -> Value:
        """Where the body puts what the next trip reads."""
        return self.initial

    def turn(self) -> None:
        """At the end of a trip."""

    def leave(self, value: Value) -> None:
        """Behind the loop: `value` is what `now` was when it ended."""
        if self.result is not None:
            self.entry._copy(self.result, value, self.type)


class Kept(LoopVariable):
    """The body hands it on: what it is at first, it is always."""


class Small(LoopVariable):
    """On the stack, where LLVM makes registers of it; the next value beside it, unless that can take its place."""

    def __init__(self, entry: Regions, type_: Type, initial: Value, result: Value | None, in_place: bool) -> None:
        super().__init__(entry, type_, initial, result)
        size = type_.bytes
        assert isinstance(size, int)
        self.place = entry.cell(max(size, 1), "i8", 64, clear=False)
        self.next = self.place if in_place else entry.cell(max(size, 1), "i8", 64, clear=False)
        entry._copy(self.place, initial, type_)

    def now(self) -> Value:
        return self.place

    def following(self) -> Value:
        return self.next

    def turn(self) -> None:
        if self.next is not self.place:
            self.entry._copy(self.place, self.next, self.type)


class InPlace(LoopVariable):
    """In one buffer, which the body changes: the one that the result is wanted in, if it is wanted."""

    def __init__(self, entry: Regions, type_: Type, initial: Value, buffer: Value) -> None:
        super().__init__(entry, type_, initial, None)
        self.buffer = buffer
        entry._copy(buffer, initial, type_)

    def now(self) -> Value:
        return self.buffer

    def following(self) -> Value:
        return self.buffer


class Swapped(LoopVariable):
    """In two buffers that change places after each trip; the first trip reads it where it is before the loop."""

    def __init__(
        self, entry: Regions, type_: Type, initial: Value, first: Value, second: Value, result: Value | None
    ) -> None:
        super().__init__(entry, type_, initial, result)
        # now <- following <- other <- following
        self.cells = [entry.cell() for _ in range(3)]
        for cell, value in zip(self.cells, (initial, first, second), strict=True):
            entry.store_pointer(value, cell)

    def _load(self, k: int) -> Value:
        return self.entry.b.assign(f"load ptr, ptr {self.cells[k].ref}", None)

    def now(self) -> Value:
        return self._load(0)

    def following(self) -> Value:
        return self._load(1)

    def turn(self) -> None:
        following, other = self._load(1), self._load(2)
        for cell, value in zip(self.cells, (following, other, following), strict=True):
            self.entry.store_pointer(value, cell)

    def leave(self, value: Value) -> None:
        if self.result is None:
            return
        b = self.entry.b
        copy, on = b.label("copy"), b.label("on")
        b.branch_if(self.entry.same(value, self.result.ref), on, copy)
        b.start(copy)
        self.entry._copy(self.result, value, self.type)
        b.branch(on)
        b.start(on)


class Rows:
    """What a loop stacks up: a row per trip of each of the body's results beyond the variables.

    Each result's rows are in a block of their own, which an earlier call has left.
    """

    def __init__(self, entry: Regions, kernel: Kernel, body: Plan, variables: int) -> None:
        self.entry, self.b = entry, entry.b
        i = kernel.nodes[0]
        types = entry.step.nodes[i].types[variables:]
        self.names = [str(type_.dims[0]) for type_ in types]
        """The symbols that stand for the number of trips."""
        self.bytes = [body.step.type(ref).bytes for ref in body.outputs[variables:]]
        self.cells = [entry.row_blocks[id(entry.plan), i, k] for k in range(variables, variables + len(types))]
        for k, cell in enumerate(self.cells, variables):
            buffer = entry.plan.buffers.get(Ref(i, k))
            if buffer is not None:
                entry.grown[buffer.number] = cell
        if self.cells:
            self.sizes = [entry.extents.number(size) for size in self.bytes]
            self.capacity = entry.cell(1, "i64", clear=False)
            self.trips = entry.cell(1, "i64", clear=False)
            self.b.raw(f"store i64 0, ptr {self.trips.ref}")
            self.b.raw(f"store {self._room()!r}, ptr {self.capacity.ref}")

    def _number(self, cell: Value) -> Value:
        return self.b.assign(f"load i64, ptr {cell.ref}", dtypes.int64)

    def _room(self) -> Value:
        """For how many rows there is room in all of the blocks."""
        b, found = self.b, None
        for cell, size in zip(self.cells, self.sizes, strict=True):
            memory = b.assign(f"load ptr, ptr {cell.ref}", None)
            room = self.entry.field(memory, abi.BLOCK_BYTES - abi.BLOCK_HEADER, "i64")
            rows = b.div(room, b.maximum(size, b.int64(1)))
            found = rows if found is None else b.minimum(found, rows)
        assert found is not None
        return found

    def places(self) -> list[Value]:
        """Where this trip's rows go, after there was made room for them."""
        if not self.cells:
            return []
        trips = self._number(self.trips)
        full, on = self.b.label("full"), self.b.label("on")
        self.b.branch_if(self.b.compare("ge", trips, self._number(self.capacity)), full, on, unlikely=True)
        self.b.start(full)
        self._grow(trips)
        self.b.branch(on)
        self.b.start(on)
        found = []
        for cell, size in zip(self.cells, self.sizes, strict=True):
            base = self.b.assign(f"load ptr, ptr {cell.ref}", None)
            offset = self.b.mul(trips, size)
            found.append(self.b.assign(f"getelementptr i8, ptr {base.ref}, {offset!r}", None))
        return found

    def _grow(self, trips: Value) -> None:
        """Make room for twice as many rows, or for the first ones."""
        b = self.b
        row = sum(self.bytes, start=0)
        first = max(FIRST_ROWS, FIRST_BYTES // row) if isinstance(row, int) and row else FIRST_ROWS
        rows = b.maximum(b.mul(trips, b.int64(2)), b.int64(first))
        for cell, size in zip(self.cells, self.sizes, strict=True):
            old = b.assign(f"load ptr, ptr {cell.ref}", None)
            memory = b.assign(f"call ptr @sj_block_grow(ptr {old.ref}, {b.mul(rows, size)!r})", None)
            self.entry._check_memory(memory)
            self.entry.store_pointer(memory, cell)
        b.raw(f"store {rows!r}, ptr {self.capacity.ref}")

    def turn(self) -> None:
        if self.cells:
            following = self.b.add(self._number(self.trips), self.b.int64(1))
            self.b.raw(f"store {following!r}, ptr {self.trips.ref}")

    def leave(self) -> None:
        if self.cells:
            trips = self._number(self.trips)
            for name in self.names:
                self.entry.extents.bind(name, trips)
