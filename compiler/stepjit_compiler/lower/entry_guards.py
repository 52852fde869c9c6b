"""What must hold before a step's kernels run: feeds, extents, and the state of the session's variables."""

from __future__ import annotations

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Check, Ref, Type
from stepjit_compiler.lower import entry_text
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.entry_frame import POINTER, Frame
from stepjit_compiler.lower.entry_text import ARRAY
from stepjit_compiler.plan import Plan
from stepjit_compiler.regions import required
from stepjit_runtime import abi, dtypes, support
from stepjit_runtime.dtypes import DType

_ARRAY_FLAGS = 0x101
"""C-contiguous and aligned."""


class Guards(Frame):
    """Checks, each of which leaves for the next variant or the slow path; what they load is kept."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.feed_objects: list[Value] = []
        self.feed_data: list[Value] = []
        self.slot_records: dict[int, Value] = {}
        self.slot_data: dict[int, Value] = {}
        self.initialised: dict[Ref, Value] = {}
        self.reads = {node.attr["slot"] for node in self.step.nodes if node.op == "_Read"}
        self.required = required(self.step)
        self.writes = {slot for slot, _ in self.step.writes}

    def guard(self) -> None:
        """All checks, in order."""
        self._arguments()
        for i, type_ in enumerate(self.step.feeds):
            self._feed(i, type_)
        self._state()
        for i, check in enumerate(self.step.checks):
            self._check(i, check)
        self._slots()

    def _arguments(self) -> None:
        named = self.b.assign("icmp ne ptr %names, null", dtypes.bool_)
        count = self.b.assign(f"and i64 %nargsf, {abi.REENTRY - 1}", dtypes.int64)
        wrong = self.b.assign(f"icmp ne i64 {count.ref}, {len(self.step.feeds)}", dtypes.bool_)
        self.refuse_if(self.b.or_(named, wrong), abi.ARGUMENTS)

    def _feed(self, i: int, type_: Type) -> None:
        thing = self.b.assign(f"load ptr, ptr {self.pointer_at(Value('%args', None), POINTER * i).ref}", None)
        self.feed_objects.append(thing)
        is_array = self.same(self.field(thing, ARRAY["type"]), "@PyArray_Type")
        if type_.dims or not entry_text.unboxable(type_.dtype):
            self.refuse_if(self.b.not_(is_array), abi.FEED, i)
            self._array(i, thing, type_)
            self.feed_data.append(self.field(thing, ARRAY["data"]))
            return
        array, scalar, have = self.b.label("array"), self.b.label("scalar"), self.b.label("have")
        room = self.cell(1, "i64", clear=False)
        self.b.branch_if(is_array, array, scalar)
        self.b.start(scalar)
        taken = self.b.assign(f"call i1 @sj_unbox({self._unboxing(type_.dtype, thing, room)})", dtypes.bool_)
        self.refuse_if(self.b.not_(taken), abi.FEED, i)
        scalar_end = self.b.block
        self.b.branch(have)
        self.b.start(array)
        self._array(i, thing, type_)
        data = self.field(thing, ARRAY["data"])
        array_end = self.b.block
        self.b.branch(have)
        self.b.start(have)
        self.feed_data.append(self.b.phi(None, 1, [(room, scalar_end), (data, array_end)]))

    @staticmethod
    def _unboxing(dtype: DType, thing: Value, room: Value) -> str:
        kind, bits = support.UNBOX_KINDS[dtype.kind], 8 * dtype.itemsize
        return f"ptr {thing.ref}, ptr {room.ref}, ptr @scalar_{dtype.code}, i64 {kind}, i64 {bits}"

    def _array(self, i: int, array: Value, type_: Type) -> None:
        rank = self.field(array, ARRAY["nd"], "i32")
        right_rank = self.b.assign(f"icmp ne i32 {rank.ref}, {len(type_.dims)}", dtypes.bool_)
        flags = self.field(array, ARRAY["flags"], "i32")
        masked = self.b.assign(f"and i32 {flags.ref}, {_ARRAY_FLAGS}", dtypes.int32)
        bad = self.b.or_(right_rank, self.b.assign(f"icmp ne i32 {masked.ref}, {_ARRAY_FLAGS}", dtypes.bool_))
        if type_.dtype.kind == "s":
            bit = self.b.assign(f"and i64 %nargsf, {abi.REENTRY}", dtypes.int64)
            bad = self.b.or_(bad, self.b.compare("eq", bit, self.b.int64(0)))
        self.refuse_if(bad, abi.FEED, i)
        self._descr(i, array, type_.dtype)
        if not type_.dims:
            return
        shape = self.field(array, ARRAY["dims"])
        wrong: Value | None = None
        for axis, extent in enumerate(type_.dims):
            number = self.field(shape, 8 * axis, "i64")
            each = self._extent(number, extent)
            wrong = each if wrong is None else self.b.or_(wrong, each)
        assert wrong is not None
        self.refuse_if(wrong, abi.FEED, i)

    def _descr(self, i: int, array: Value, dtype: DType) -> None:
        descr = self.field(array, ARRAY["descr"])
        other, fits = self.b.label("descr"), self.b.label("fits")
        self.b.branch_if(self.b.not_(self.same(descr, f"@descr_{dtype.code}")), other, fits, unlikely=True)
        self.b.start(other)
        alike = self.b.assign(f"call i1 @sj_same_dtype(ptr {descr.ref}, ptr @descr_{dtype.code})", dtypes.bool_)
        self.feed_refusals.append((abi.FEED | i << 8, self.b.block))
        self.b.branch_if(alike, fits, "next")
        self.b.start(fits)

    def _extent(self, number: Value, extent: Extent) -> Value:
        """Whether the number is none that the extent may have."""
        if isinstance(extent, int):
            return self.b.compare("ne", number, self.b.int64(extent))
        name = str(extent)
        known = self.extents.bound(name)
        if known is not None:
            return self.b.compare("ne", number, known)
        assert extent is dims.symbol(name)
        self.extents.bind(name, number)
        return self.b.compare("eq", number, self.b.int64(1))

    def _state(self) -> None:
        self.session = self.context("session")
        closed = self.field(self.session, abi.SESSION["closed"], "i64")
        self.refuse_if(self.b.compare("ne", closed, self.b.int64(0)), abi.CLOSED)

    def _check(self, i: int, check: Check) -> None:
        a, b = self.extents.number(check.a), self.extents.number(check.b)
        if check.holds == "divides":
            rest = self.b.assign(f"call i64 @floormod({a!r}, {b!r})", dtypes.int64)
            zero = self.b.int64(0)
            fails = self.b.or_(self.b.compare("ne", rest, zero), self.b.compare("eq", b, zero))
        else:
            fails = self.b.compare("ne" if check.holds == "eq" else "lt", a, b)
        self.refuse_if(fails, abi.CHECK, i)

    def _slots(self) -> None:
        asked = {node.attr["slot"] for node in self.step.nodes if node.op == "_Initialized"}
        used = sorted(self.reads | self.writes | asked)
        if not used:
            return
        if self.reads or self.writes:
            busy = self.b.int64(0)
            for name in ("writers", "assigning", "readers", "reading")[: 4 if self.writes else 2]:
                busy = self.b.or_(busy, self.field(self.session, abi.SESSION[name], "i64"))
            self.refuse_if(self.b.compare("ne", busy, self.b.int64(0)), abi.BUSY)
        records, layouts = self.context("slots"), self.context("layouts")
        for slot in used:
            self.slot_records[slot] = self.field(records, POINTER * slot)
            if slot in self.reads | self.writes:
                self._slot(slot, layouts)
        for i, node in enumerate(self.step.nodes):
            if node.op == "_Initialized":
                self._initialised(Ref(i, 0), node.attr["slot"])

    def _slot(self, slot: int, layouts: Value) -> None:
        record = self.slot_records[slot]
        layout = self.field(record, abi.SLOT["layout"], "i64")
        self.refuse_if(self.b.compare("ne", layout, self.field(layouts, 8 * slot, "i64")), abi.SLOT_LAYOUT, slot)
        if slot in self.required:
            holds = self.field(record, abi.SLOT["initialised"], "i64")
            self.refuse_if(self.b.compare("eq", holds, self.b.int64(0)), abi.SLOT_UNINITIALISED, slot)
        self.slot_data[slot] = self.field(record, abi.SLOT["data"])

    def _initialised(self, ref: Ref, slot: int) -> None:
        """The answer as it is now, before the step writes the slot."""
        room = self.cell(1, "i64", clear=False)
        holds = self.field(self.slot_records[slot], abi.SLOT["initialised"], "i64")
        self.b.raw(f"store i64 {holds.ref}, ptr {room.ref}")
        self.initialised[ref] = room
