"""Ops of a step that Python runs: their inputs become arrays, their results give extents to what follows."""

from __future__ import annotations

from stepjit_compiler.ir import Ref, born
from stepjit_compiler.lower import entry_text
from stepjit_compiler.lower.builder import Value
from stepjit_compiler.lower.entry_frame import POINTER
from stepjit_compiler.lower.entry_storage import Storage
from stepjit_compiler.lower.entry_text import ARRAY
from stepjit_compiler.plan import Buffer, Kernel


class Hosts(Storage):
    """Calls of the context's host callables, in the plan's order."""

    _hosts = 0

    def _host(self, kernel: Kernel) -> None:
        number, self._hosts = self._hosts, self._hosts + 1
        node = self.step.nodes[kernel.nodes[0]]
        inputs = self.b.assign(f"call ptr @PyTuple_New(i64 {len(node.inputs)})", None)
        # The tuple stands among the owned things until the call takes it over.
        self.lost_if_null(inputs)
        at = self.first_host + number
        self._own(at, inputs)
        for i, ref in enumerate(node.inputs):
            array = self._boxed(ref)
            self.b.raw(f"call i32 @PyTuple_SetItem(ptr {inputs.ref}, i64 {i}, ptr {array.ref})")
        self._own(at, Value("null", None))
        call = f"call ptr @sj_host(ptr %context, i64 {number}, ptr {inputs.ref}, i64 {len(node.types)})"
        results = self.b.assign(call, None)
        self.lost_if_null(results)
        self._own(at, results)
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
                array = self.field(self.context("constant_arrays"), POINTER * (self.plan.first_constant + k))
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
            return self.plan.host_results[buffer.number] == ref
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
