"""Traced entries: clock reads around every kernel, written to the context's trace buffer (`abi.TRACE`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stepjit_compiler import dims
from stepjit_compiler.ir import Node
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.entry_hosts import Hosts
from stepjit_compiler.lower.kernel_code import KernelCode
from stepjit_compiler.plan import Kernel, Plan
from stepjit_runtime import abi, dtypes


class Traces(Hosts):
    """What a traced entry does beside its work; an entry that is not traced has none of it."""

    def __init__(self, plan: Plan, codes: Sequence[KernelCode], traced: bool) -> None:
        super().__init__(plan, codes)
        self.traced = traced
        self._noted: set[str] = set()
        self._numbers: dict[int, tuple[int, str]] = {}
        for number, (depth, _, kernel) in enumerate(plan.nested() if traced else ()):
            self._numbers[id(kernel)] = number, "sj_traced_inside" if depth else "sj_traced"
        self.trace = Value("null", None)

    def begun(self) -> None:
        """The call has come in: note when."""
        if self.traced:
            self.trace = self.context("trace")
            self._note("begin")

    def ended(self) -> None:
        """The call is about to return."""
        if self.traced:
            self._note("end")

    @contextmanager
    def span(self, kernel: Kernel) -> Iterator[None]:
        """The block's code, timed as a run of the kernel; a run that fails is not noted."""
        if not self.traced:
            yield
            return
        begin = self.b.assign("call i64 @sj_clock()", dtypes.int64)
        yield
        number, function = self._numbers[id(kernel)]
        self.b.raw(f"call void @{function}(ptr {self.trace.ref}, i64 {number}, i64 {begin.ref})")

    def note_born(self, node: Node) -> None:
        """The extents that the results of a host op or a loop have told."""
        if not self.traced:
            return
        names = (name for type_ in node.types for extent in type_.dims for name in dims.symbols(extent))
        for name in dict.fromkeys(names):
            number = self.extents.bound(name) if name[0] == "h" and name[1:].isdigit() else None
            if number is not None and name not in self._noted:
                self._noted.add(name)
                self.b.raw(f"call void @sj_born(ptr {self.trace.ref}, i64 {name[1:]}, i64 {number.ref})")

    def _note(self, name: str) -> None:
        now = self.b.assign("call i64 @sj_clock()", dtypes.int64)
        self.b.raw(f"store i64 {now.ref}, ptr {self.pointer_at(self.trace, abi.TRACE[name]).ref}")
