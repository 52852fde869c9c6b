"""Where a step's values live while it runs: results, the arena, constants, slots, and what came up in mid-step."""

from __future__ import annotations

from collections.abc import Sequence

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref, Type
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.entry_frame import POINTER
from stepjit_compiler.lower.entry_guards import Guards
from stepjit_compiler.lower.entry_text import ARRAY
from stepjit_compiler.lower.kernel_code import KernelCode
from stepjit_compiler.plan import Buffer, Plan
from stepjit_runtime import abi, dtypes


class Storage(Guards):
    """Buffers as pointers. Python objects that the step holds stand in `owned`: the results, then host ops' tuples."""

    def __init__(self, plan: Plan, codes: Sequence[KernelCode]) -> None:
        super().__init__(plan)
        self.codes = codes
        hosts = sum(kernel.kind == "host" for _, kernel in plan.walk())
        self.has_hosts = hosts > 0
        # Python ops may wait long, as for queues: only what points to variables may keep their old buffers.
        self.pinned = self.has_hosts and bool(self.reads | self.writes)
        self.first_host = len(plan.outputs)
        self.owned_count = self.first_host + hosts
        self.stored = {buffer.number for buffer in plan.buffers.values() if buffer.kind == "output"}
        self.stored |= {buffer.number for _, buffer in plan.copies if buffer.kind == "output"}
        self.results: dict[int, Value] = {}
        self.constants: dict[int, Value] = {}
        self.areas: dict[int, Value] = {}
        self.host_arrays: dict[int, Value] = {}
        self.late_cells: dict[str, Value] = {}
        self.grown: dict[int, Value] = {}
        """By number: the cell that holds the rows' address."""
        self.arena: Value | None = None
        self.taken: list[tuple[int, Value]] = []
        """Blocks of memory: their free lists' numbers, and the cells of their addresses."""
        self.scratch: Value | None = None

    def _prepare(self) -> None:
        """What kernels write to, as far as its size is known now."""
        self.owned = self.cell(max(1, self.owned_count))
        self.status_words = max((code.words for code in self.codes), default=0)
        self.status = self.cell(self.status_words, "i64", clear=False) if self.status_words else None
        if self.pinned:
            self._count_in("pins", 1)
        for k, ref in enumerate(self.plan.outputs):
            if k in self.stored and not born_later(self.step.type(ref).dims):
                self._result(k)
        self._arena()
        made = {ref for kernel in self.plan.kernels for ref in kernel.outputs}
        for ref, room in self.initialised.items():
            if ref in self.plan.buffers and ref not in made:
                self._copy(self.pointer(ref), room, self.step.type(ref))

    def _arena(self) -> None:
        """One arena for all areas and the scratch memory of whichever kernel runs."""
        scratch = [code.scratch for code in self.codes if not born_later((code.scratch,))]
        arena, most = self._arena_bytes(), max((s for s in scratch if isinstance(s, int)), default=0)
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
        total = self.b.add(start, extra)
        self.arena = taken = self._take_block(0, total, self.cell())
        self.scratch = self.b.assign(f"getelementptr i8, ptr {taken.ref}, {start!r}", None)

    def _arena_bytes(self) -> Extent:
        return self.plan.arena_bytes

    def _take_block(self, number: int, size: Value, cell: Value) -> Value:
        """Memory of a block of a free list, new if the first one there is too small; `cell` is for its address."""
        head = self.pointer_at(self.context("blocks"), POINTER * number)
        memory = self.b.assign(f"call ptr @sj_block_take(ptr {head.ref}, {size!r})", None)
        self._check_memory(memory)
        self.store_pointer(memory, cell)
        self.taken.append((number, cell))
        return memory

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
        if type_.dtype.kind == "s":
            self.b.raw(f"call void @Py_IncRef(ptr {descr})")
            call = f"call ptr @PyArray_Empty(i32 {len(type_.dims)}, ptr {shape.ref}, ptr {descr}, i32 0)"
        else:
            size = self.extents.number(type_.bytes)
            args = f"i32 {len(type_.dims)}, ptr {shape.ref}, ptr {descr}, {size!r}"
            call = f"call ptr @sj_array(ptr {self._kept(k).ref}, {args})"
        array = self.b.assign(call, None)
        self.lost_if_null(array)
        self._own(k, array)
        self.results[k] = self.field(array, ARRAY["data"])

    def _kept(self, k: int) -> Value:
        """Where the executable keeps objects that were result k."""
        return self.pointer_at(self.context("kept"), POINTER * abi.KEPT * k)

    def _own(self, k: int, thing: Value) -> None:
        self.store_pointer(thing, self.pointer_at(self.owned, POINTER * k))

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
            k += self.plan.first_constant
            if k not in self.constants:
                self.constants[k] = self.field(self.context("constants"), POINTER * k)
            return self.constants[k]
        if kind == "grown":
            return self.b.assign(f"load ptr, ptr {self.grown[k].ref}", None)
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

    def _copy(self, to: Value, source: Value, type_: Type) -> None:
        if type_.dtype.kind == "s":
            number = self.extents.number(type_.size)
            self.b.raw(f"call void @sj_copy_objects(ptr {to.ref}, ptr {source.ref}, {number!r})")
            return
        size = self.extents.number(type_.bytes)
        self.b.raw(f"call void @llvm.memcpy.p0.p0.i64(ptr {to.ref}, ptr {source.ref}, {size!r}, i1 false)")

    def _count_in(self, name: str, by: int) -> None:
        at = self.pointer_at(self.session, abi.SESSION[name])
        old = self.b.assign(f"load i64, ptr {at.ref}", dtypes.int64)
        self.b.raw(f"store {self.b.add(old, self.b.int64(by))!r}, ptr {at.ref}")

    def _release(self, first: int) -> None:
        """Let go of all but the first results."""
        if self.owned_count > first:
            start = self.pointer_at(self.owned, POINTER * first)
            self.b.raw(f"call void @sj_drop(ptr {start.ref}, i64 {self.owned_count - first})")
        for cell in self.late_cells.values():
            memory = self.b.assign(f"load ptr, ptr {cell.ref}", None)
            self.b.raw(f"call void @free(ptr {memory.ref})")
        if self.pinned:
            self._count_in("pins", -1)
        for number, cell in self.taken:
            taken = self.b.assign(f"load ptr, ptr {cell.ref}", None)
            give, on = self.b.label("give"), self.b.label("on")
            self.b.branch_if(self.same(taken, "null"), on, give)
            self.b.start(give)
            head = self.pointer_at(self.context("blocks"), POINTER * number)
            self.b.raw(f"call void @sj_block_give(ptr {head.ref}, ptr {taken.ref})")
            self.b.branch(on)
            self.b.start(on)


def born_later(extents: Sequence[Extent]) -> bool:
    """Whether one of them is known in mid-step only."""
    return any(name.startswith("h") for extent in extents for name in dims.symbols(extent))
