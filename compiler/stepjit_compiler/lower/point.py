"""The value of a step's node at one position: what loops of every kind evaluate in their bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stepjit_compiler import opdef
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Node, Ref, Type
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.kernel_code import Failure, Stream
from stepjit_compiler.lowering import Alias, Elementwise, Generate, Indexed
from stepjit_compiler.passes.fuse import root_of
from stepjit_compiler.plan import Buffer, Kernel, Plan
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_inference import StepCall
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

Position = tuple[Index, ...]


class Point:
    """Evaluates nodes of one kernel at positions, inside the function that `b` is writing.

    A value computed at a position is kept while the block that computed it dominates; loop-invariant values are left
    to LLVM to hoist.
    """

    def __init__(self, plan: Plan, kernel: Kernel, reader: StepBuilder) -> None:
        self.plan, self.step, self.kernel = plan, plan.step, kernel
        self.b = Builder()
        self.members = set(kernel.nodes)
        self.params: dict[Any, Value] = {}
        self.param_refs: list[Ref | Dim | Stream] = []
        self.allocas: list[str] = []
        self.failures: list[Failure] = []
        self.reader = reader
        self._calls: dict[int, StepCall] = {}
        self._memo: list[dict[Any, Value]] = [{}]
        self._node: list[int] = []

    # --- the kernel's parameters ---

    def pointer(self, ref: Ref) -> Value:
        """The buffer that holds `ref`."""
        root = root_of(self.step, ref)
        buffer = self.plan.buffers.get(root, root)  # what the entry itself provides has no buffer
        if buffer not in self.params:
            self.params[buffer] = Value(f"%p{len(self.params)}", None)
            self.param_refs.append(root)
        return self.params[buffer]

    def extent(self, extent: Extent) -> Value:
        """An extent as an i64."""
        if isinstance(extent, int):
            return self.b.int64(extent)
        if extent not in self.params:
            self.params[extent] = Value(f"%n{len(self.params)}", dtypes.int64)
            self.param_refs.append(extent)
        return self.params[extent]

    def stream(self, stream: Stream) -> Value:
        """The record of a stream of random numbers."""
        if stream not in self.params:
            self.params[stream] = Value(f"%s{len(self.params)}", None)
            self.param_refs.append(stream)
        return self.params[stream]

    # --- indices ---

    def var(self, loop_var: LoopVar) -> Index:
        return Index(self, 0, ((loop_var, 1),))

    def zero(self) -> Index:
        return Index(self)

    def add(self, a: Value | None, b: Value | None) -> Value | None:
        if a is None or b is None:
            return a or b
        a, b = self.same_lanes(a, b)
        return self.b.add(a, b)

    def scaled(self, value: Value, factor: Extent) -> Value:
        return self.b.mul(value, self.b.splat(self.extent(factor), value.lanes))

    def product(self, a: Index, b: Index) -> Index:
        x, y = self.same_lanes(self.value(a), self.value(b))
        return Index(self, 0, (), self.b.mul(x, y))

    def value(self, index: Index) -> Value:
        """The index as an i64: a scalar, or one per lane where it varies along the vector."""
        lanes = index.lanes
        total = self.extent(index.constant)
        started = index.constant != 0
        vector: Value | None = None
        for var, factor in index.terms:
            if var.lanes > 1:
                assert isinstance(factor, int) or vector is None
                steps = self.b.iota(lanes)
                if factor != 1:
                    steps = self.b.mul(steps, self.b.splat(self.extent(factor), lanes))
                vector = steps
            part = var.value if factor == 1 else self.b.mul(var.value, self.extent(factor))
            total = self.b.add(total, part) if started else part
            started = True
        if index.dynamic is not None and index.dynamic.lanes == 1:
            total = self.b.add(total, index.dynamic) if started else index.dynamic
        if lanes == 1:
            return total
        wide = self.b.splat(total, lanes)
        if vector is not None:
            wide = self.b.add(wide, vector)
        if index.dynamic is not None and index.dynamic.lanes > 1:
            wide = self.b.add(wide, index.dynamic)
        return wide

    def index(self, value: Value) -> Index:
        """An Index from an integer Value."""
        return Index(self, 0, (), self.b.convert(value, dtypes.int64))

    def clamp(self, index: Index, extent: Extent) -> Index:
        """The index kept within [0, extent - 1]."""
        value = self.value(index)
        last = self.b.splat(self.b.sub(self.extent(extent), self.b.int64(1)), value.lanes)
        low = self.b.maximum(self.b.minimum(value, last), self.b.like(0, value))
        return Index(self, 0, (), low)

    def const(self, value: Any, dtype: DType) -> Value:
        return self.b.const(value, dtype)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        condition, yes, no = self.same_lanes(condition, yes, no)
        return self.b.select(condition, yes, no)

    def same_lanes(self, *values: Value) -> tuple[Value, ...]:
        """All values with the lanes of the widest."""
        lanes = max(value.lanes for value in values)
        return tuple(self.b.splat(value, lanes) for value in values)

    # --- memory ---

    def linear(self, type_: Type, position: Sequence[Index]) -> Index:
        """The element number of a position in a tensor of that type."""
        total = self.zero()
        stride: Extent = 1
        for extent, index in zip(reversed(type_.dims), reversed(position), strict=True):
            total = total + index * stride
            stride = stride * extent
        return total

    def load_at(self, pointer: Value, dtype: DType, at: Index) -> Value:
        """The elements at an index: one, a run of them, or one per lane."""
        steps = [(var, factor) for var, factor in at.terms if var.lanes > 1]
        per_lane = at.dynamic is not None and at.dynamic.lanes > 1
        if not steps and not per_lane:
            return self.b.load(self.b.offset(pointer, dtype, self.value(at)), dtype)
        if not per_lane and len(steps) == 1 and steps[0][1] == 1:
            var = steps[0][0]
            return self.b.load(self.b.offset(pointer, dtype, self.first_lane(at)), dtype, var.lanes)
        return self.b.gather(pointer, dtype, self.value(at))

    def store_at(self, value: Value, pointer: Value, at: Index) -> None:
        assert value.dtype is not None
        lanes = at.lanes
        if lanes == 1:
            self.b.store(value, self.b.offset(pointer, value.dtype, self.value(at)))
            return
        value = self.b.splat(value, lanes)
        steps = [factor for var, factor in at.terms if var.lanes > 1]
        if steps == [1] and (at.dynamic is None or at.dynamic.lanes == 1):
            self.b.store(value, self.b.offset(pointer, value.dtype or dtypes.float32, self.first_lane(at)))
            return
        places = self.value(at)
        for k in range(lanes):
            where = self.b.offset(pointer, value.dtype or dtypes.float32, self.b.lane(places, k))
            self.b.store(self.b.lane(value, k), where)

    def store_all(self, refs: Sequence[Ref], where: Callable[[Ref], Position]) -> None:
        """Compute members at their positions and store them; what replaces a value that the kernel reads comes last."""
        read = {self.plan.buffers.get(root_of(self.step, ref)) for ref in self.kernel.inputs}
        replacing = [ref for ref in refs if self.plan.buffers[ref] in read]
        for ref in refs:
            if ref not in replacing:
                self.store(ref, self.at(ref, where(ref)), where(ref))
        values = [self.at(ref, where(ref)) for ref in replacing]
        for ref, value in zip(replacing, values, strict=True):
            self.store(ref, value, where(ref))

    def store(self, ref: Ref, value: Value, position: Position) -> None:
        self.store_at(value, self.pointer(ref), self.linear(self.step.type(ref), position))

    def first_lane(self, at: Index) -> Value:
        scalar = tuple((LoopVar(var.value), factor) for var, factor in at.terms)
        return self.value(Index(self, at.constant, scalar, at.dynamic))

    # --- nodes ---

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Values computed inside are forgotten after."""
        self._memo.append({})
        try:
            yield
        finally:
            self._memo.pop()

    def remember(self, ref: Ref, value: Value) -> None:
        """Take `value` for `ref` at whatever position it is asked for in this scope."""
        self._memo[-1][ref] = value

    def forget(self, ref: Ref) -> None:
        for memo in self._memo:
            memo.pop(ref, None)

    def call(self, i: int) -> StepCall:
        if i not in self._calls:
            self._calls[i] = self.reader.call(self.step.nodes[i])
        return self._calls[i]

    def load(self, i: int, position: Sequence[Index | int | Dim]) -> Value:
        """Input i of the op being evaluated, at a position in it."""
        ref = self.step.nodes[self._node[-1]].inputs[i]
        full = tuple(each if isinstance(each, Index) else self.zero() + each for each in position)
        return self.at(ref, full)

    def at(self, ref: Ref, position: Position) -> Value:
        """The value of `ref` at a position: computed, if it is a member of this kernel; else loaded."""
        for memo in reversed(self._memo):
            if ref in memo:
                return memo[ref]
        key = (ref, *(index.key for index in position))
        for memo in reversed(self._memo):
            if key in memo:
                return memo[key]
        value = self._evaluate(ref, position) if ref.node in self.members else self._load(ref, position)
        self._memo[-1][key] = value
        return value

    def _load(self, ref: Ref, position: Position) -> Value:
        node = self.step.nodes[ref.node]
        if node.op == "_Dims":
            return self._evaluate_dims(node, position)
        return self.element(ref, self.linear(self.step.type(ref), position))

    def element(self, ref: Ref, at: Index) -> Value:
        """Element number `at` of a stored value, whatever its shape."""
        dtype, root = self.step.type(ref).dtype, root_of(self.step, ref)
        node = self.step.nodes[root.node]
        if node.op == "Const" and self.step.type(ref).size == 1:
            return self.b.const(node.attr["value"].array.reshape(-1)[0], dtype)
        return self.load_at(self.pointer(ref), dtype, at)

    def _evaluate(self, ref: Ref, position: Position) -> Value:
        node = self.step.nodes[ref.node]
        if node.op == "_Dims":
            return self._evaluate_dims(node, position)
        op = opdef.lookup(node.op)
        assert op is not None
        self._node.append(ref.node)
        try:
            if isinstance(op.lower, Alias):
                return self._evaluate_alias(node, position)
            if isinstance(op.lower, Elementwise):
                values = [self._operand(node, k, position) for k in range(len(node.inputs))]
                if node.op == "Mul" and any(self._is_drawn(each) for each in node.inputs):
                    # Random numbers scaled and shifted have TensorFlow's bits: no multiply-add.
                    return self.b.exact_mul(*self.same_lanes(*values))
                found: Value = op.lower.emit(self.b, self.call(ref.node), *self.same_lanes(*values))
                return found
            assert isinstance(op.lower, Indexed), node.op
            result: Value = op.lower.emit(self, self.call(ref.node), ref.output, position)
            return result
        finally:
            self._node.pop()

    def _is_drawn(self, ref: Ref) -> bool:
        """Whether a value is floats of a random op."""
        op = opdef.lookup(self.step.nodes[root_of(self.step, ref).node].op)
        return op is not None and isinstance(op.lower, Generate) and self.step.type(ref).dtype.kind == "f"

    def _operand(self, node: Node, k: int, position: Position) -> Value:
        ref = node.inputs[k]
        own = self.step.type(ref).dims
        skip = len(position) - len(own)
        broadcast = node.types[0].dims
        where = tuple(
            self.zero() if extent == 1 and broadcast[a + skip] != 1 else position[a + skip]
            for a, extent in enumerate(own)
        )
        return self.at(ref, where)

    def _evaluate_alias(self, node: Node, position: Position) -> Value:
        ref = node.inputs[0]
        rest = iter(
            [index for index, extent in zip(position, node.types[0].dims, strict=True) if extent != 1]
        )
        where = tuple(self.zero() if extent == 1 else next(rest) for extent in self.step.type(ref).dims)
        return self.at(ref, where)

    def _evaluate_dims(self, node: Node, position: Position) -> Value:
        dtype = node.types[0].dtype
        extents = [self.b.convert(self.extent(extent), dtype) for extent in node.attr["dims"]]
        if not position:
            return extents[0]
        at = self.value(position[0])
        found = self.b.splat(extents[0], at.lanes)
        for k, extent in enumerate(extents[1:], 1):
            here = self.b.compare("eq", at, self.b.like(k, at))
            found = self.b.select(here, self.b.splat(extent, at.lanes), found)
        return found


def buffer_of(plan: Plan, ref: Ref) -> Buffer:
    return plan.buffers[root_of(plan.step, ref)]
