"""Branches and loops of an entry: jumps around the kernels of their regions, and the places of loop variables.

Memory is taken once, when the step begins, for all regions: no trip allocates any, but for extents that come up in it
and for stacked rows, whose memory doubles and is kept for the next call. Where loop variables live:
`loop_variables.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref, Type
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.entry_frame import POINTER
from stepjit_compiler.lower.entry_storage import born_later
from stepjit_compiler.lower.entry_trace import Traces
from stepjit_compiler.lower.kernel_code import KernelCode
from stepjit_compiler.lower.loop_variables import InPlace, Kept, LoopVariable, Rows, Small, Swapped
from stepjit_compiler.passes.fuse import root_of
from stepjit_compiler.plan import Area, Buffer, Kernel, Plan
from stepjit_runtime import abi, dtypes

SMALL = 256
"""Bytes up to which a region's value has a place of its own on the stack."""
UNKNOWN_TRIPS = 16
"""What loops inside loops are taken to turn, for estimates."""

_PLACES = (
    "plan", "step", "extents", "feed_data", "feed_objects", "initialised", "results", "constants", "areas",
    "host_arrays", "grown", "arena",
)  # fmt: skip
"""What an entry knows of the plan whose kernels it writes."""


class Regions(Traces):
    """Writes branches and loops; the kernels in them by `run_kernel`."""

    def __init__(self, plan: Plan, codes: Sequence[KernelCode], traced: bool) -> None:
        super().__init__(plan, codes, traced)
        self.depth = 0
        self.interruptions = False
        self.poll_cell: Value | None = None
        self.row_blocks: dict[tuple[int, int, int], Value] = {}
        """By a loop's plan, node and output: the cell of the block that its rows are in."""
        self._root = plan
        native = [kernel for _, kernel in plan.walk() if kernel.kind != "host"]
        self._code_by_kernel = {id(kernel): code for kernel, code in zip(native, codes, strict=True)}
        self._rooms: dict[tuple[int, ...], Extent] = {}
        """Offsets in the arena: by a region's plan, and by a loop's plan, node, variable and number of the buffer."""
        self._arena_total: Extent = _aligned(plan.arena_bytes)
        self.has_loops = any(kernel.kind == "while" for each in plan.plans() for kernel in each.kernels)
        self._reserve(plan)

    def run_kernel(self, kernel: Kernel) -> None:
        """Written by `Entry`."""
        raise AssertionError

    # --- memory ---

    def _arena_bytes(self) -> Extent:
        return self._arena_total if self._root.regions else self._root.arena_bytes

    def _reserve(self, plan: Plan) -> None:
        """Room for what regions need beside the areas of the plan around them."""
        for kernel in plan.kernels:
            if kernel.kind in ("if", "while"):
                i = kernel.nodes[0]
                for region in plan.regions[i]:
                    self._take((id(region),), region.arena_bytes)
                    self._reserve(region)
                if kernel.kind == "while":
                    for k, ref in enumerate(plan.step.nodes[i].inputs):
                        for number in _own_buffers(plan, i, k):
                            self._take((id(plan), i, k, number), plan.step.type(ref).bytes)

    def _take(self, key: tuple[int, ...], size: Extent) -> None:
        if not born_later((size,)):
            self._rooms[key] = self._arena_total
            self._arena_total = self._arena_total + _aligned(size)

    def _room(self, key: tuple[int, ...], size: Extent) -> Value:
        """The memory reserved under that key; taken now where its size was not known when the step began."""
        if key not in self._rooms:
            return self._late(f"room{len(self.late_cells)}", size)
        assert self.step_arena is not None
        offset = self.extents.number(self._rooms[key])
        return self.b.assign(f"getelementptr i8, ptr {self.step_arena.ref}, {offset!r}", None)

    def _prepare(self) -> None:
        super()._prepare()
        self.step_arena = self.arena
        if self.has_loops:
            self.poll_cell = self.cell(1, "i64")
        for number, (plan, node, k) in enumerate(self._root.stacks(), 1):
            self.row_blocks[id(plan), node, k] = cell = self.cell()
            self._take_block(number, self.b.int64(0), cell)

    def _late(self, name: str, size: Extent) -> Value:
        if not self.depth:
            return super()._late(name, size)
        # In a loop the place is come to again and again: what it had is freed first.
        cell = self.late_cells[f"{name} {len(self.late_cells)}"] = self.cell()
        old = self.b.assign(f"load ptr, ptr {cell.ref}", None)
        self.b.raw(f"call void @free(ptr {old.ref})")
        self.store_pointer(Value("null", None), cell)
        memory = self.b.assign(f"call ptr @sj_aligned({self.extents.number(size)!r})", None)
        self._check_memory(memory)
        self.store_pointer(memory, cell)
        return memory

    def _area(self, k: int) -> Value:
        if self.depth and k not in self.areas and k < len(self.plan.areas):
            area: Area = self.plan.areas[k]
            if isinstance(area.bytes, int) and area.bytes <= SMALL:
                self.areas[k] = self.cell(max(area.bytes, 1), "i8", 64, clear=False)
        return super()._area(k)

    # --- regions ---

    @contextmanager
    def _inside(self, plan: Plan) -> Iterator[None]:
        """Write code of a region: what it finds out holds no longer behind it."""
        saved = {name: getattr(self, name) for name in _PLACES}
        self.plan, self.step, self.extents = plan, plan.step, self.extents.inner()
        self.constants = dict(self.constants)
        self.feed_objects, self.initialised, self.results, self.areas = [], {}, {}, {}
        self.host_arrays, self.grown = {}, {}
        self.arena = None
        self.depth += 1
        if plan.areas:
            self.arena = self._region_arena(plan)
        yield
        self.depth -= 1
        for name, value in saved.items():
            setattr(self, name, value)

    def _region_arena(self, plan: Plan) -> Value | None:
        if all(isinstance(area.bytes, int) and area.bytes <= SMALL for area in plan.areas):
            return None
        return self._room((id(plan),), plan.arena_bytes)

    def _region(self, plan: Plan, feeds: Sequence[Value], results: Sequence[Value]) -> None:
        """A region's code over its feeds; outputs go to `results`, those in place of a feed to that."""
        with self._inside(plan):
            self.feed_data = list(feeds)
            self.results = dict(enumerate(results))
            for kernel in plan.kernels:
                self.run_kernel(kernel)
            for ref, buffer in plan.copies:
                self._copy(self._place(buffer), self.pointer(ref), self.step.type(ref))

    def _ready(self, plans: Sequence[Plan]) -> None:
        """Load the addresses of constants ahead of code that may run often."""
        for plan in plans:
            for each in plan.plans():
                for number in range(len(each.constants)):
                    k = each.first_constant + number
                    if k not in self.constants:
                        self.constants[k] = self.field(self.context("constants"), POINTER * k)

    def _host(self, kernel: Kernel) -> None:
        if self.depth:
            # The results of the last trip are let go.
            held = self.pointer_at(self.owned, POINTER * (self.first_host + self._hosts))
            old = self.b.assign(f"load ptr, ptr {held.ref}", None)
            self.store_pointer(Value("null", None), held)
            self.b.raw(f"call void @Py_DecRef(ptr {old.ref})")
        super()._host(kernel)

    def _is_whole(self, ref: Ref, buffer: Buffer) -> bool:
        return super()._is_whole(ref, buffer) and not (self.depth and buffer.kind == "feed")

    # --- branches ---

    def branch(self, kernel: Kernel) -> None:
        """Only the branch that the condition names runs."""
        i = kernel.nodes[0]
        node = self.step.nodes[i]
        inputs = [self.pointer(ref) for ref in node.inputs]
        outputs = [self.pointer(Ref(i, k)) for k in range(len(node.types))]
        condition = self.b.load(inputs[0], dtypes.bool_)
        yes, no, on = self.b.label("then"), self.b.label("else"), self.b.label("joined")
        self.b.branch_if(condition, yes, no)
        for label, plan in zip((yes, no), self.plan.regions[i], strict=True):
            self.b.start(label)
            self._region(plan, inputs[1:], outputs)
            self.b.branch(on)
        self.b.start(on)

    # --- loops ---

    def loop(self, kernel: Kernel) -> None:
        """The condition, then the body, until the condition does not hold."""
        i = kernel.nodes[0]
        cond, body = self.plan.regions[i]
        self._ready((cond, body))
        variables = [self._variable(kernel, body, k) for k in range(len(self.step.nodes[i].inputs))]
        rows = Rows(self, kernel, body, len(variables))
        countdown = self.cell(1, "i64", clear=False)
        period = self._period((cond, body))
        self.b.raw(f"store {period!r}, ptr {countdown.ref}")
        head, turn, done = self.b.label("while"), self.b.label("trip"), self.b.label("left")
        self.b.branch(head)
        self.b.start(head)
        now = [each.now() for each in variables]
        holds = self.cell(1, "i8", 1, clear=False)
        self._region(cond, now, [holds])
        self.b.branch_if(self.b.load(holds, dtypes.bool_), turn, done)
        self.b.start(turn)
        self._region(body, now, [*(each.following() for each in variables), *rows.places()])
        for each in variables:
            each.turn()
        rows.turn()
        self._poll(countdown, period)
        self.b.branch(head)
        self.b.start(done)
        for each, value in zip(variables, now, strict=True):
            each.leave(value)
        rows.leave()

    def _variable(self, kernel: Kernel, body: Plan, k: int) -> LoopVariable:
        i = kernel.nodes[0]
        ref = self.step.nodes[i].inputs[k]
        type_, initial = self.step.type(ref), self.pointer(ref)
        result = self.pointer(Ref(i, k)) if Ref(i, k) in self.plan.buffers else None
        kept, in_place = _treatment(body, k)
        if kept:
            return Kept(self, type_, initial, result)
        if _is_small(type_):
            return Small(self, type_, initial, result, in_place)
        own = [self._room((id(self.plan), i, k, number), type_.bytes) for number in _own_buffers(self.plan, i, k)]
        if in_place:
            return InPlace(self, type_, initial, result or own[0])
        return Swapped(self, type_, initial, result or own[0], own[-1], result)

    def _period(self, plans: Sequence[Plan]) -> Value:
        """After how many trips to look at the clock."""
        cost: Extent = 1
        for plan in plans:
            cost = cost + self._cost(plan)
        if isinstance(cost, int):
            return self.b.int64(max(1, abi.POLL_NS // cost))
        trips = self.b.div(self.b.int64(abi.POLL_NS), self.extents.number(cost))
        return self.b.maximum(trips, self.b.int64(1))

    def _cost(self, plan: Plan) -> Extent:
        """Nanoseconds of a region, as far as it is known here."""
        known: Extent = 0
        for kernel in plan.kernels:
            codes = self._codes_of(plan, kernel)
            each = sum((code.cost for code in codes if not born_later((code.cost,))), start=0)
            known = known + (UNKNOWN_TRIPS * each if kernel.kind == "while" else each)
        return known

    def _codes_of(self, plan: Plan, kernel: Kernel) -> Sequence[KernelCode]:
        if kernel.kind in ("if", "while"):
            wanted = {id(each) for region in plan.regions[kernel.nodes[0]] for _, each in region.walk()}
        else:
            wanted = {id(kernel)}
        return [self._code_by_kernel[each] for each in wanted if each in self._code_by_kernel]

    def _poll(self, countdown: Value, period: Value) -> None:
        """Now and then: whether the step is to end."""
        left = self.b.sub(self.b.assign(f"load i64, ptr {countdown.ref}", dtypes.int64), self.b.int64(1))
        self.b.raw(f"store {left!r}, ptr {countdown.ref}")
        look, on = self.b.label("look"), self.b.label("on")
        self.b.branch_if(self.b.compare("eq", left, self.b.int64(0)), look, on, unlikely=True)
        self.b.start(look)
        self.b.raw(f"store {period!r}, ptr {countdown.ref}")
        assert self.poll_cell is not None
        thread = self.thread or Value("null", None)
        call = f"call i1 @sj_poll(ptr %context, ptr {thread.ref}, ptr {self.poll_cell.ref})"
        self.interruptions = True
        self.go_on(self.b.assign(call, dtypes.bool_), "interrupted")
        self.b.branch(on)
        self.b.start(on)


def _aligned(size: Extent) -> Extent:
    return (size + (abi.ALIGNMENT - 1)) // abi.ALIGNMENT * abi.ALIGNMENT


def _treatment(body: Plan, k: int) -> tuple[bool, bool]:
    """Whether the body hands loop variable k on as it is, and whether it changes it in place."""
    root = root_of(body.step, body.outputs[k])
    source = body.step.nodes[root.node]
    kept = source.op == "_Feed" and source.attr["index"] == k
    return kept, body.buffers[root] == Buffer("feed", k)


def _own_buffers(plan: Plan, node: int, k: int) -> list[int]:
    """Numbers of the buffers that loop variable k needs beside the one that its result is wanted in."""
    kept, in_place = _treatment(plan.regions[node][1], k)
    if kept or _is_small(plan.step.type(plan.step.nodes[node].inputs[k])):
        return []
    first = [] if Ref(node, k) in plan.buffers else [0]
    return first if in_place else [*first, 1]


def _is_small(type_: Type) -> bool:
    return isinstance(type_.bytes, int) and type_.bytes <= SMALL
