"""The ground an entry is written on: where it stands, its ways out, and the plain loads and stores."""

from __future__ import annotations

from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.entry_extents import Extents
from stepjit_compiler.plan import Plan
from stepjit_runtime import abi, dtypes

POINTER = 8


class Frame:
    """The main path of `@run`, as far as it is written, and the branches that left it."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.step = plan, plan.step
        self.b = Builder("v")
        self.extents = Extents(self.b)
        self.allocas: list[str] = []
        self.refusals: list[tuple[int, str]] = []
        self.feed_refusals: list[tuple[int, str]] = []
        self.lost: list[str] = []
        self.no_memory = False
        self.starved = False
        """Whether memory may run out while the GIL is released."""
        self.thread: Value | None = None
        """What PyEval_SaveThread gave, null while the GIL is held; None before it may have been released."""

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

    def _check_memory(self, taken: Value) -> None:
        self.no_memory = True
        self.starved = self.starved or self.thread is not None
        self.go_on(self.same(taken, "null"), "nomemory" if self.thread is None else "starved")
