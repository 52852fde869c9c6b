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
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.entry_frame import POINTER
from stepjit_compiler.lower.entry_module import module_text
from stepjit_compiler.lower.entry_regions import Regions
from stepjit_compiler.lower.entry_storage import born_later
from stepjit_compiler.lower.entry_text import ARRAY
from stepjit_compiler.lower.kernel_code import KernelCode, Stream
from stepjit_compiler.plan import Buffer, Kernel, Plan, births
from stepjit_runtime import abi, dtypes

_PLAIN_SCALARS = frozenset(
    dtype.code for dtype in dtypes.ALL if dtype.kind in "fiuc" and dtype.np.type.__module__ == "numpy"
)
"""Dtypes whose scalars are new objects that hold the value itself."""

_HEADER = f"""
define ptr @step(ptr %self, ptr %args, i64 %nargsf, ptr %names) {{
  %p = getelementptr i8, ptr %self, i64 {abi.INSTANCE_CONTEXT}
  %context = load ptr, ptr %p
  %result = tail call ptr @run(ptr %self, ptr %args, i64 %nargsf, ptr %names, ptr %context)
  ret ptr %result
}}
"""


def emit_entry(plan: Plan, kernels: Sequence[KernelCode], traced: bool = False) -> str:
    """The whole module's IR: kernels, helpers, and the exported functions `step` and `run`.

    `kernels` is the code of the plan's kernels in order; host kernels have none (or one without a symbol). A traced
    step writes down when its kernels run.
    """
    entry = Entry(plan, kernels, traced)
    body = entry.emit()
    return module_text(_HEADER + body, kernels, entry.b.intrinsics)


def failure_bases(kernels: Sequence[KernelCode]) -> list[int]:
    """By kernel: the number that its first failure has in the step."""
    bases, total = [], 0
    for kernel in kernels:
        bases.append(total)
        total += len(kernel.failures)
    return bases


class Entry(Regions):
    """Writes `@run`, top to bottom."""

    def __init__(self, plan: Plan, kernels: Sequence[KernelCode], traced: bool = False) -> None:
        codes = [code for code in kernels if code.symbol]
        super().__init__(plan, codes, traced)
        self.native = iter(zip(codes, failure_bases(codes), strict=True))
        self.failures: list[tuple[int, str]] = []

    def emit(self) -> str:
        """The function's text."""
        self.begun()
        self.guard()
        self._prepare()
        self._leave_python()
        for kernel in self.plan.kernels:
            self.run_kernel(kernel)
            self.note_born(self.step.nodes[kernel.nodes[0]])
        self._finish()
        self._exits()
        lines = "\n".join(["entry:", *self.allocas, *self.b.lines])
        # Internal linkage would let it be inlined into @step, and variants call it by its address.
        params = "ptr %self, ptr %args, i64 %nargsf, ptr %names, ptr %context"
        return f"define ptr @run({params}) noinline {{\n{lines}\n}}\n"

    def run_kernel(self, kernel: Kernel) -> None:
        """The code of one kernel, of the step or of a region."""
        with self.span(kernel):
            if kernel.kind == "host":
                self._host(kernel)
            elif kernel.kind == "if":
                self.branch(kernel)
            elif kernel.kind == "while":
                self.loop(kernel)
            else:
                for name, count, _ in births(self.step, kernel):
                    self.extents.bind(name, self.b.load(self.pointer(count), dtypes.int64))
                self._kernel(*next(self.native))

    def _leave_python(self) -> None:
        """Let go of the GIL around long native work; steps that touch variables count themselves in first."""
        cost: Extent = 0
        most = self.plan.most_born
        for code in self.codes:
            each = dims.substitute(code.cost, most)
            if not born_later((each,)):
                cost = cost + each
        if self.has_hosts or (isinstance(cost, int) and cost <= abi.RELEASE_NS and not self.has_loops):
            return
        if self.has_loops:
            self._count_flight(1)
            self.thread = self.b.assign("call ptr @PyEval_SaveThread()", None)
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
            if isinstance(param, (Dim, int)):
                args.append(repr(self.extents.number(param)))
            elif isinstance(param, Stream):
                args.append(f"ptr {self.field(self.context('slots'), POINTER * param.slot).ref}")
            else:
                args.append(f"ptr {self.pointer(Ref(*param)).ref}")
        if code.scratch != 0:
            late = born_later((code.scratch,))
            scratch = self._late(f"scratch {code.symbol}", code.scratch) if late else self.scratch
            assert scratch is not None
            args.append(f"ptr {scratch.ref}")
        call = f"@{code.symbol}({', '.join(args)})"
        if not code.failures:
            self.b.raw(f"call void {call}")
            return
        failed = self.b.assign(f"call i1 {call}", dtypes.bool_)
        self.failures.append((base, self.go_on(failed, "failed")))

    def _finish(self) -> None:
        copies = [(ref, buffer, self.step.type(ref)) for ref, buffer in self.plan.copies]
        # Objects are counted, and arrays of extents that came up in mid-step are made, with the GIL held.
        held = [type_.dtype.kind == "s" or born_later(type_.dims) for _, _, type_ in copies]
        for (ref, buffer, type_), later in zip(copies, held, strict=True):
            if not later:
                self._copy(self._place(buffer), self.pointer(ref), type_)
        self._return_to_python()
        for (ref, buffer, type_), later in zip(copies, held, strict=True):
            if later:
                self._copy(self._place(buffer), self.pointer(ref), type_)
        for slot in sorted(self.writes):
            self.b.raw(f"store i64 1, ptr {self.pointer_at(self.slot_records[slot], abi.SLOT['initialised']).ref}")
        for k, ref in enumerate(self.plan.outputs):
            self._hand_out(k, ref)
        single = self._single()
        packed = self.b.assign(f"call ptr @sj_pack(ptr %context, ptr {self.owned.ref})", None)
        self._release(0)
        self.ended()
        self.b.raw(f"ret ptr {packed.ref}")
        if single:
            self.b.start(single)
            first = self.b.assign(f"load ptr, ptr {self.owned.ref}", None)
            self._release(1)
            self.ended()
            self.b.raw(f"ret ptr {first.ref}")

    def _hand_out(self, k: int, ref: Ref) -> None:
        """Result k as a Python object: numpy scalars in place of arrays without dimensions."""
        type_ = self.step.type(ref)
        host = None if k in self.stored else self.plan.buffers.get(ref)
        if host is not None and host.kind == "host":
            array = self.host_arrays[host.number]
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
        descr = f"@descr_{type_.dtype.code}"
        if type_.dtype.code in _PLAIN_SCALARS:
            call = f"call ptr @sj_scalar(ptr {self._kept(k).ref}, ptr {data.ref}, ptr {descr}, i64 {type_.bytes})"
        else:
            call = f"call ptr @PyArray_Scalar(ptr {data.ref}, ptr {descr}, ptr null)"
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

    def _exits(self) -> None:
        if self.failures:
            self.b.start("failed")
            base = self.b.phi(dtypes.int64, 1, [(self.b.int64(number), block) for number, block in self.failures])
            self._return_to_python()
            self._release(0)
            assert self.status is not None
            args = f"ptr %context, {base!r}, ptr {self.status.ref}, i64 {self.status_words}"
            error = self.b.assign(f"call ptr @sj_failed({args})", None)
            self.b.raw(f"ret ptr {error.ref}")
        if self.interruptions:
            self.b.start("interrupted")
            self._return_to_python()
            self.b.branch("lost")
        if self.starved:
            self.b.start("starved")
            self._return_to_python()
            self.b.branch("nomemory")
        if self.no_memory:
            self.b.start("nomemory")
            self.b.raw("call ptr @PyErr_NoMemory()")
            self.b.branch("lost")
        if self.lost or self.no_memory or self.interruptions:
            self.b.start("lost")
            self._release(0)
            self.b.raw("call void @sj_lost(ptr %context)")
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
