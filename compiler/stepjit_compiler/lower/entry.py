"""A step's entry: the native function that Python calls.

`@step(self, args, nargsf, names)` is a vectorcall function; it hands on to `@run`, which has the context as a fifth
argument. `@run` checks the feeds by what stands in their structs, allocates the results, runs the kernels and packs
the results. Whatever it can't take goes to the next variant, or to the context's Python callable `slow`.
Layouts and codes: `stepjit_runtime/abi.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Check, Ref, Type, born
from stepjit_compiler.lower import entry_text
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.entry_extents import Extents
from stepjit_compiler.lower.entry_module import module_text
from stepjit_compiler.lower.entry_text import ARRAY
from stepjit_compiler.lower.kernel_code import KernelCode
from stepjit_compiler.plan import Buffer, Kernel, Plan
from stepjit_runtime import abi, dtypes, support
from stepjit_runtime.dtypes import DType

_ARRAY_FLAGS = 0x101
"""C-contiguous and aligned."""
_POINTER = 8

_HEADER = f"""
define ptr @step(ptr %self, ptr %args, i64 %nargsf, ptr %names) {{
  %p = getelementptr i8, ptr %self, i64 {abi.INSTANCE_CONTEXT}
  %context = load ptr, ptr %p
  %result = tail call ptr @run(ptr %self, ptr %args, i64 %nargsf, ptr %names, ptr %context)
  ret ptr %result
}}
"""


def emit_entry(plan: Plan, kernels: Sequence[KernelCode]) -> str:
    """The whole module's IR: kernels, helpers, and the exported functions `step` and `run`.

    `kernels` is the code of the plan's kernels in order; host kernels have none (or one without a symbol).
    """
    entry = Entry(plan, kernels)
    body = entry.emit()
    return module_text(_HEADER + body, kernels, entry.b.intrinsics)


def failure_bases(kernels: Sequence[KernelCode]) -> list[int]:
    """By kernel: the number that its first failure has in the step."""
    bases, total = [], 0
    for kernel in kernels:
        bases.append(total)
        total += len(kernel.failures)
    return bases


class Entry:
    """Writes `@run`, top to bottom. State is what the main path knows so far."""

    def __init__(self, plan: Plan, kernels: Sequence[KernelCode]) -> None:
        self.plan, self.step = plan, plan.step
        self.codes = [code for code in kernels if code.symbol]
        self.b = Builder("v")
        self.extents = Extents(self.b)
        self.has_hosts = any(kernel.kind == "host" for kernel in plan.kernels)
        self.allocas: list[str] = []
        self.refusals: list[tuple[int, str]] = []
        self.feed_refusals: list[tuple[int, str]] = []
        self.feed_objects: list[Value] = []
        self.feed_data: list[Value] = []
        self.slot_records: dict[int, Value] = {}
        self.slot_data: dict[int, Value] = {}
        self.constants: dict[int, Value] = {}
        self.areas: dict[int, Value] = {}
        self.late_cells: dict[str, Value] = {}
        self.initialised: dict[Ref, Value] = {}
        self.results: dict[int, Value] = {}
        self.host_tuples: dict[int, Value] = {}
        self.host_arrays: dict[int, Value] = {}
        self.failures: list[tuple[int, str]] = []
        self.lost: list[str] = []
        self.stored = {buffer.index for buffer in plan.buffers.values() if buffer.kind == "output"}
        self.stored |= {buffer.index for _, buffer in plan.copies if buffer.kind == "output"}
        self.owned_count = len(plan.outputs) + sum(kernel.kind == "host" for kernel in plan.kernels)
        self.arena: Value | None = None
        self.scratch: Value | None = None
        self.thread: Value | None = None

    # --- small things ---

    def pointer_at(self, base: Value, offset: int) -> Value:
        if offset == 0:
            return base
        return self.b.assign(f"getelementptr inbounds i8, ptr {base.ref}, i64 {offset}", None)

    def field(self, base: Value, offset: int, kind: str = "ptr") -> Value:
        dtype = {"ptr": None, "i64": dtypes.int64, "i32": dtypes.int32}[kind]
        return self.b.assign(f"load {kind}, ptr {self.pointer_at(base, offset).ref}", dtype)

    def context(self, name: str) -> Value:
        return self.field(Value("%context", None), abi.CONTEXT[name])

    def cell(self, count: int = 1, kind: str = "ptr", align: int = 8, clear: bool = True) -> Value:
        """Room on the stack: `count` words, null at the start."""
        name = self.b.name()
        self.allocas.append(f"  {name} = alloca [{count} x {kind}], align {align}")
        if clear:
            self.allocas.append(f"  store [{count} x {kind}] zeroinitializer, ptr {name}, align {align}")
        return Value(name, None)

    def same(self, a: Value, b: str) -> Value:
        return self.b.assign(f"icmp eq ptr {a.ref}, {b}", dtypes.bool_)

    def store_pointer(self, value: Value, to: Value) -> None:
        self.b.raw(f"store ptr {value.ref}, ptr {to.ref}")

    def incref(self, thing: Value) -> None:
        self.b.raw(f"call void @Py_IncRef(ptr {thing.ref})")

    def go_on(self, condition: Value, elsewhere: str) -> str:
        """Leave for `elsewhere` when the condition holds, else go on; returns the block that was left."""
        left, following = self.b.block, self.b.label("on")
        self.b.branch_if(condition, elsewhere, following, unlikely=True)
        self.b.start(following)
        return left

    def refuse_if(self, condition: Value, code: int, number: int = 0) -> None:
        """To the slow path; a feed that doesn't fit goes to the next variant."""
        to, label = (self.feed_refusals, "next") if code == abi.FEED else (self.refusals, "slow")
        to.append((code | number << 8, self.go_on(condition, label)))

    def lost_if_null(self, thing: Value) -> None:
        """A Python call failed: release everything and return its error."""
        self.lost.append(self.go_on(self.same(thing, "null"), "lost"))

    # --- the whole ---

    def emit(self) -> str:
        self._arguments()
        for i, type_ in enumerate(self.step.feeds):
            self._feed(i, type_)
        self._state()
        for i, check in enumerate(self.step.checks):
            self._check(i, check)
        self._slots()
        self._prepare()
        self._leave_python()
        bases = failure_bases(self.codes)
        native = iter(zip(self.codes, bases, strict=True))
        for kernel in self.plan.kernels:
            if kernel.kind == "host":
                self._host(kernel)
            else:
                self._kernel(*next(native))
        self._finish()
        self._exits()
        lines = "\n".join(["entry:", *self.allocas, *self.b.lines])
        # Internal linkage would let it be inlined into @step, and variants call it by its address.
        return f"define ptr @run(ptr %self, ptr %args, i64 %nargsf, ptr %names, ptr %context) noinline {{\n{lines}\n}}\n"

    # --- checks ---

    def _arguments(self) -> None:
        named = self.b.assign("icmp ne ptr %names, null", dtypes.bool_)
        count = self.b.assign(f"and i64 %nargsf, {abi.REENTRY - 1}", dtypes.int64)
        wrong = self.b.assign(f"icmp ne i64 {count.ref}, {len(self.step.feeds)}", dtypes.bool_)
        self.refuse_if(self.b.or_(named, wrong), abi.ARGUMENTS)

    def _feed(self, i: int, type_: Type) -> None:
        thing = self.b.assign(f"load ptr, ptr {self.pointer_at(Value('%args', None), _POINTER * i).ref}", None)
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

    def _check(self, i: int, check: Check) -> None:
        a, b = self.extents.number(check.a), self.extents.number(check.b)
        if check.holds == "divides":
            rest = self.b.assign(f"call i64 @floormod({a!r}, {b!r})", dtypes.int64)
            zero = self.b.int64(0)
            fails = self.b.or_(self.b.compare("ne", rest, zero), self.b.compare("eq", b, zero))
        else:
            fails = self.b.compare("ne" if check.holds == "eq" else "lt", a, b)
        self.refuse_if(fails, abi.CHECK, i)

    def _state(self) -> None:
        self.session = self.context("session")
        closed = self.field(self.session, abi.SESSION["closed"], "i64")
        self.refuse_if(self.b.compare("ne", closed, self.b.int64(0)), abi.CLOSED)

    def _slots(self) -> None:
        self.reads = {node.attr["slot"] for node in self.step.nodes if node.op == "_Read"}
        self.writes = {slot for slot, _ in self.step.writes}
        asked = {node.attr["slot"] for node in self.step.nodes if node.op == "_Initialized"}
        used = sorted(self.reads | self.writes | asked)
        if not used:
            return
        if self.reads or self.writes:
            busy = self.field(self.session, abi.SESSION["writers"], "i64")
            if self.writes:
                busy = self.b.or_(busy, self.field(self.session, abi.SESSION["readers"], "i64"))
            self.refuse_if(self.b.compare("ne", busy, self.b.int64(0)), abi.BUSY)
        records, layouts = self.context("slots"), self.context("layouts")
        for slot in used:
            self.slot_records[slot] = self.field(records, _POINTER * slot)
            if slot in self.reads | self.writes:
                self._slot(slot, layouts)
        for i, node in enumerate(self.step.nodes):
            if node.op == "_Initialized":
                self._initialised(Ref(i, 0), node.attr["slot"])

    def _slot(self, slot: int, layouts: Value) -> None:
        record = self.slot_records[slot]
        layout = self.field(record, abi.SLOT["layout"], "i64")
        self.refuse_if(self.b.compare("ne", layout, self.field(layouts, 8 * slot, "i64")), abi.SLOT_LAYOUT, slot)
        if slot in self.reads:
            holds = self.field(record, abi.SLOT["initialised"], "i64")
            self.refuse_if(self.b.compare("eq", holds, self.b.int64(0)), abi.SLOT_UNINITIALISED, slot)
        self.slot_data[slot] = self.field(record, abi.SLOT["data"])

    def _initialised(self, ref: Ref, slot: int) -> None:
        """The answer as it is now, before the step writes the slot."""
        room = self.cell(1, "i64", clear=False)
        holds = self.field(self.slot_records[slot], abi.SLOT["initialised"], "i64")
        self.b.raw(f"store i64 {holds.ref}, ptr {room.ref}")
        self.initialised[ref] = room

    # --- room ---

    def _prepare(self) -> None:
        """What kernels write to, as far as its size is known now."""
        self.owned = self.cell(max(1, self.owned_count))
        self.status = self.cell(4, "i64", clear=False) if any(code.failures for code in self.codes) else None
        if self.has_hosts:
            self._count_in("pins", 1)
        for k, ref in enumerate(self.plan.outputs):
            if k in self.stored and not _born_later(self.step.type(ref).dims):
                self._result(k)
        self._arena()
        made = {ref for kernel in self.plan.kernels for ref in kernel.outputs}
        for ref, room in self.initialised.items():
            if ref in self.plan.buffers and ref not in made:
                self._copy(self.pointer(ref), room, self.step.type(ref))

    def _arena(self) -> None:
        """One arena for all areas and the scratch memory of whichever kernel runs."""
        scratch = [code.scratch for code in self.codes if not _born_later((code.scratch,))]
        arena, most = self.plan.arena_bytes, max((s for s in scratch if isinstance(s, int)), default=0)
        static = isinstance(arena, int) and all(isinstance(s, int) for s in scratch)
        if static and arena + most <= abi.STACK_BYTES:  # type: ignore[operator]
            # An area may be empty, and still be pointed to.
            room = arena or (64 if self.plan.areas else 0)
            self.arena = self.cell(room, "i8", 64, clear=False) if room else None  # type: ignore[arg-type]
            self.scratch = self.cell(most, "i8", 64, clear=False) if most else None
            return
        start = self.extents.number((arena + 63) // 64 * 64)
        extra = self.b.int64(0)
        for each in scratch:
            number = self.extents.number(each)
            extra = self.b.select(self.b.compare("gt", number, extra), number, extra)
        self.arena_cell = self.cell()
        total = self.b.add(start, extra)
        taken = self.b.assign(f"call ptr @sj_arena_take(ptr {self.context('arena').ref}, {total!r})", None)
        self._check_memory(taken)
        self.store_pointer(taken, self.arena_cell)
        self.arena = taken
        self.scratch = self.b.assign(f"getelementptr i8, ptr {taken.ref}, {start!r}", None)

    def _check_memory(self, taken: Value) -> None:
        self.no_memory = True
        self.go_on(self.same(taken, "null"), "nomemory")

    no_memory = False
    arena_cell: Value | None = None

    def _shape(self, shape: Sequence[Extent]) -> Value:
        if not shape:
            return Value("null", None)
        if all(isinstance(extent, int) for extent in shape):
            room = self.b.name()
            numbers = ", ".join(f"i64 {extent}" for extent in shape)
            self.allocas.append(f"  {room} = alloca [{len(shape)} x i64]")
            self.allocas.append(f"  store [{len(shape)} x i64] [{numbers}], ptr {room}")
            return Value(room, None)
        room_ = self.cell(len(shape), "i64", clear=False)
        for axis, extent in enumerate(shape):
            number = self.extents.number(extent)
            self.b.raw(f"store i64 {number.ref}, ptr {self.pointer_at(room_, 8 * axis).ref}")
        return room_

    def _result(self, k: int) -> None:
        """Allocate result k; one without dimensions is computed on the stack."""
        type_ = self.step.type(self.plan.outputs[k])
        if not type_.dims:
            self.results[k] = self.cell(2, "i64", 16, clear=type_.dtype.kind == "s")
            return
        shape = self._shape(type_.dims)
        descr = f"@descr_{type_.dtype.code}"
        self.b.raw(f"call void @Py_IncRef(ptr {descr})")
        call = f"call ptr @PyArray_Empty(i32 {len(type_.dims)}, ptr {shape.ref}, ptr {descr}, i32 0)"
        array = self.b.assign(call, None)
        self.lost_if_null(array)
        self._own(k, array)
        self.results[k] = self.field(array, ARRAY["data"])

    def _own(self, k: int, thing: Value) -> None:
        self.store_pointer(thing, self.pointer_at(self.owned, _POINTER * k))

    def pointer(self, ref: Ref) -> Value:
        """The data of a stored value."""
        if ref in self.initialised and ref not in self.plan.buffers:
            return self.initialised[ref]
        return self._place(self.plan.buffers[ref])

    def _place(self, buffer: Buffer) -> Value:
        kind, k = buffer
        if kind == "feed":
            return self.feed_data[k]
        if kind == "slot":
            return self.slot_data[k]
        if kind == "output":
            if k not in self.results:
                self._result(k)
            return self.results[k]
        if kind == "host":
            return self.field(self.host_arrays[k], ARRAY["data"])
        if kind == "const":
            if k not in self.constants:
                self.constants[k] = self.field(self.context("constants"), _POINTER * k)
            return self.constants[k]
        return self._area(k)

    def _area(self, k: int) -> Value:
        if k not in self.areas:
            if k < len(self.plan.areas):
                assert self.arena is not None
                offset = self.extents.number(self.plan.areas[k].offset)
                self.areas[k] = self.b.assign(f"getelementptr i8, ptr {self.arena.ref}, {offset!r}", None)
            else:
                self.areas[k] = self._late(f"area{k}", self.plan.late[k - len(self.plan.areas)])
        return self.areas[k]

    def _late(self, name: str, size: Extent) -> Value:
        """Memory whose size was not known when the step began; freed at exit."""
        memory = self.b.assign(f"call ptr @sj_aligned({self.extents.number(size)!r})", None)
        self._check_memory(memory)
        self.late_cells[name] = self.cell()
        self.store_pointer(memory, self.late_cells[name])
        return memory

    # --- running ---

    def _leave_python(self) -> None:
        """Let go of the GIL around long native work; steps that touch variables count themselves in first."""
        cost: Extent = 0
        for code in self.codes:
            cost = cost + code.cost
        if self.has_hosts or (isinstance(cost, int) and cost <= abi.RELEASE_NS):
            return
        number = self.extents.number(cost)
        before, save, on = self.b.block, self.b.label("release"), self.b.label("on")
        long = self.b.compare("gt", number, self.b.int64(abi.RELEASE_NS))
        self.b.branch_if(long, save, on)
        self.b.start(save)
        self._count_flight(1)
        state = self.b.assign("call ptr @PyEval_SaveThread()", None)
        save_end = self.b.block
        self.b.branch(on)
        self.b.start(on)
        self.thread = self.b.phi(None, 1, [(Value("null", None), before), (state, save_end)])

    def _count_flight(self, by: int) -> None:
        if self.writes:
            self._count_in("writers", by)
        elif self.reads:
            self._count_in("readers", by)

    def _count_in(self, name: str, by: int) -> None:
        at = self.pointer_at(self.session, abi.SESSION[name])
        old = self.b.assign(f"load i64, ptr {at.ref}", dtypes.int64)
        self.b.raw(f"store {self.b.add(old, self.b.int64(by))!r}, ptr {at.ref}")

    def _return_to_python(self) -> None:
        if self.thread is None:
            return
        back, on = self.b.label("resume"), self.b.label("on")
        self.b.branch_if(self.same(self.thread, "null"), on, back)
        self.b.start(back)
        self.b.raw(f"call void @PyEval_RestoreThread(ptr {self.thread.ref})")
        self._count_flight(-1)
        self.b.branch(on)
        self.b.start(on)

    def _kernel(self, code: KernelCode, base: int) -> None:
        args = []
        if code.failures:
            assert self.status is not None
            args.append(f"ptr {self.status.ref}")
        for param in code.params:
            is_extent = isinstance(param, (Dim, int))
            args.append(repr(self.extents.number(param)) if is_extent else f"ptr {self.pointer(Ref(*param)).ref}")
        if code.scratch != 0:
            late = _born_later((code.scratch,))
            scratch = self._late(f"scratch {code.symbol}", code.scratch) if late else self.scratch
            assert scratch is not None
            args.append(f"ptr {scratch.ref}")
        call = f"@{code.symbol}({', '.join(args)})"
        if not code.failures:
            self.b.raw(f"call void {call}")
            return
        failed = self.b.assign(f"call i1 {call}", dtypes.bool_)
        self.failures.append((base, self.go_on(failed, "failed")))

    # --- host ops ---

    def _host(self, kernel: Kernel) -> None:
        number = len(self.host_tuples)
        node = self.step.nodes[kernel.nodes[0]]
        inputs = self.b.assign(f"call ptr @PyTuple_New(i64 {len(node.inputs)})", None)
        # The tuple stands among the owned things until the call takes it over.
        self.lost_if_null(inputs)
        at = len(self.plan.outputs) + number
        self._own(at, inputs)
        for i, ref in enumerate(node.inputs):
            array = self._boxed(ref)
            self.b.raw(f"call i32 @PyTuple_SetItem(ptr {inputs.ref}, i64 {i}, ptr {array.ref})")
        self._own(at, Value("null", None))
        call = f"call ptr @sj_host(ptr %context, i64 {number}, ptr {inputs.ref}, i64 {len(node.types)})"
        results = self.b.assign(call, None)
        self.lost_if_null(results)
        self._own(at, results)
        self.host_tuples[kernel.nodes[0]] = results
        wanted = {ref.output: index for index, ref in enumerate(self.plan.host_results) if ref.node == kernel.nodes[0]}
        arrays: dict[int, Value] = {}
        symbols = born(node)
        for output in sorted({*wanted, *(output for _, output, _ in symbols)}):
            arrays[output] = self.b.assign(f"call ptr @PyTuple_GetItem(ptr {results.ref}, i64 {output})", None)
            if output in wanted:
                self.host_arrays[wanted[output]] = arrays[output]
        for name, output, axis in symbols:
            self.extents.bind(name, self.field(self.field(arrays[output], ARRAY["dims"]), 8 * axis, "i64"))

    def _boxed(self, ref: Ref) -> Value:
        """A value as an array with a reference of its own."""
        buffer = self.plan.buffers.get(ref)
        if buffer is not None and self._is_whole(ref, buffer):
            kind, k = buffer
            if kind == "const":
                array = self.field(self.context("constant_arrays"), _POINTER * k)
            elif kind == "host":
                array = self.host_arrays[k]
            elif self.step.feeds[k].dims or not entry_text.unboxable(self.step.feeds[k].dtype):
                array = self.feed_objects[k]
            else:
                return self._boxed_scalar(ref, k)
            self.incref(array)
            return array
        return self._fresh(ref)

    def _is_whole(self, ref: Ref, buffer: Buffer) -> bool:
        """Whether the value is the very array in the buffer, not its elements under another shape."""
        node = self.step.nodes[ref.node]
        if buffer.kind == "host":
            return self.plan.host_results[buffer.index] == ref
        return (buffer.kind == "feed" and node.op == "_Feed") or (buffer.kind == "const" and node.op == "Const")

    def _boxed_scalar(self, ref: Ref, feed: int) -> Value:
        """A fed array itself; a new one for a number."""
        thing = self.feed_objects[feed]
        own, copy, on = self.b.label("own"), self.b.label("copy"), self.b.label("on")
        self.b.branch_if(self.same(self.field(thing, ARRAY["type"]), "@PyArray_Type"), own, copy)
        self.b.start(own)
        self.incref(thing)
        own_end = self.b.block
        self.b.branch(on)
        self.b.start(copy)
        array = self._fresh(ref)
        copy_end = self.b.block
        self.b.branch(on)
        self.b.start(on)
        return self.b.phi(None, 1, [(thing, own_end), (array, copy_end)])

    def _fresh(self, ref: Ref) -> Value:
        type_ = self.step.type(ref)
        data, shape = self.pointer(ref), self._shape(type_.dims)
        text = type_.dtype.kind == "s"
        size = self.extents.number(0 if text else type_.bytes)
        args = f"i32 {len(type_.dims)}, ptr {shape.ref}, ptr @descr_{type_.dtype.code}, ptr {data.ref}, {size!r}"
        array = self.b.assign(f"call ptr @sj_boxed({args})", None)
        self.lost_if_null(array)
        if text:
            self._copy(self.field(array, ARRAY["data"]), data, type_)
        return array

    # --- the end ---

    def _copy(self, to: Value, source: Value, type_: Type) -> None:
        if type_.dtype.kind == "s":
            number = self.extents.number(type_.size)
            self.b.raw(f"call void @sj_copy_objects(ptr {to.ref}, ptr {source.ref}, {number!r})")
            return
        size = self.extents.number(type_.bytes)
        self.b.raw(f"call void @llvm.memcpy.p0.p0.i64(ptr {to.ref}, ptr {source.ref}, {size!r}, i1 false)")

    def _finish(self) -> None:
        copies = [(ref, buffer, self.step.type(ref)) for ref, buffer in self.plan.copies]
        for ref, buffer, type_ in copies:
            if type_.dtype.kind != "s":
                self._copy(self._place(buffer), self.pointer(ref), type_)
        self._return_to_python()
        for ref, buffer, type_ in copies:
            if type_.dtype.kind == "s":
                self._copy(self._place(buffer), self.pointer(ref), type_)
        for slot in sorted(self.writes):
            self.b.raw(f"store i64 1, ptr {self.pointer_at(self.slot_records[slot], abi.SLOT['initialised']).ref}")
        for k, ref in enumerate(self.plan.outputs):
            self._hand_out(k, ref)
        single = self._single()
        packed = self.b.assign(f"call ptr @sj_pack(ptr %context, ptr {self.owned.ref})", None)
        self._release(0)
        self.b.raw(f"ret ptr {packed.ref}")
        if single:
            self.b.start(single)
            first = self.b.assign(f"load ptr, ptr {self.owned.ref}", None)
            self._release(1)
            self.b.raw(f"ret ptr {first.ref}")

    def _hand_out(self, k: int, ref: Ref) -> None:
        """Result k as a Python object: numpy scalars in place of arrays without dimensions."""
        type_ = self.step.type(ref)
        host = None if k in self.stored else self.plan.buffers.get(ref)
        if host is not None and host.kind == "host":
            array = self.host_arrays[host.index]
            if type_.dims:
                self.incref(array)
                self._own(k, array)
                return
            data = self.field(array, ARRAY["data"])
        elif k not in self.stored:
            data = self.pointer(ref)
        elif type_.dims:
            self._place(Buffer("output", k))  # nothing stored to it where it has no elements
            return
        else:
            data = self._place(Buffer("output", k))
        call = f"call ptr @PyArray_Scalar(ptr {data.ref}, ptr @descr_{type_.dtype.code}, ptr null)"
        scalar = self.b.assign(call, None)
        self.lost_if_null(scalar)
        self._own(k, scalar)
        if type_.dtype.kind == "s" and k in self.stored:
            self.b.raw(f"call void @Py_DecRef(ptr {self.b.assign(f'load ptr, ptr {data.ref}', None).ref})")

    def _single(self) -> str | None:
        """The usual case ahead of the general one: one result, returned as it is."""
        if len(self.plan.outputs) != 1:
            return None
        kind = self.field(Value("%context", None), abi.CONTEXT["kind"], "i64")
        label, on = self.b.label("single"), self.b.label("pack")
        self.b.branch_if(self.b.compare("eq", kind, self.b.int64(abi.PACK_SINGLE)), label, on)
        self.b.start(on)
        return label

    def _release(self, first: int) -> None:
        """Let go of all but the first results."""
        if self.owned_count > first:
            start = self.pointer_at(self.owned, _POINTER * first)
            self.b.raw(f"call void @sj_drop(ptr {start.ref}, i64 {self.owned_count - first})")
        for cell in self.late_cells.values():
            memory = self.b.assign(f"load ptr, ptr {cell.ref}", None)
            self.b.raw(f"call void @free(ptr {memory.ref})")
        if self.has_hosts:
            self._count_in("pins", -1)
        if self.arena_cell is not None:
            taken = self.b.assign(f"load ptr, ptr {self.arena_cell.ref}", None)
            give, on = self.b.label("give"), self.b.label("on")
            self.b.branch_if(self.same(taken, "null"), on, give)
            self.b.start(give)
            self.b.raw(f"call void @sj_arena_give(ptr {self.context('arena').ref}, ptr {taken.ref})")
            self.b.branch(on)
            self.b.start(on)

    def _exits(self) -> None:
        if self.failures:
            self.b.start("failed")
            base = self.b.phi(dtypes.int64, 1, [(self.b.int64(number), block) for number, block in self.failures])
            self._return_to_python()
            self._release(0)
            assert self.status is not None
            error = self.b.assign(f"call ptr @sj_fail(ptr %context, {base!r}, ptr {self.status.ref})", None)
            self.b.raw(f"ret ptr {error.ref}")
        if self.no_memory:
            self.b.start("nomemory")
            self.b.raw("call ptr @PyErr_NoMemory()")
            self.b.branch("lost")
        if self.lost or self.no_memory:
            self.b.start("lost")
            self._release(0)
            self.b.raw("ret ptr null")
        self._refused()

    def _refused(self) -> None:
        here = self.refusals
        if self.feed_refusals:
            self.b.start("next")
            self.b.lines.append("")
            at = len(self.b.lines) - 1
            reason = Value(self.b.name(), dtypes.int64)
            arms = ", ".join(f"[ {number}, %{block} ]" for number, block in self.feed_refusals)
            self.b.lines[at] = f"  {reason.ref} = phi i64 {arms}"
            entry = self.context("next_entry")
            last = self.same(entry, "null")
            self.b.branch_if(last, "slow", "hand.on")
            here = [*here, (reason.ref, "next")]  # type: ignore[list-item]
            self.b.start("hand.on")
            following = self.context("next_context")
            args = f"ptr %self, ptr %args, i64 %nargsf, ptr %names, ptr {following.ref}"
            other = self.b.assign(f"musttail call ptr {entry.ref}({args})", None)
            self.b.raw(f"ret ptr {other.ref}")
        self.b.start("slow")
        arms = ", ".join(f"[ {number}, %{block} ]" for number, block in here)
        why = self.b.assign(f"phi i64 {arms}", dtypes.int64)
        args = "ptr %context, ptr %args, i64 %nargsf, ptr %names"
        result = self.b.assign(f"call ptr @sj_slow({args}, {why!r})", None)
        self.b.raw(f"ret ptr {result.ref}")


def _born_later(extents: Sequence[Extent]) -> bool:
    return any(name.startswith("h") for extent in extents for name in dims.symbols(extent))
