"""Loop kernels: elementwise chains, reductions with what feeds and follows them, and what is indexed.

The space's axes that every value runs along together are merged into one loop. Then
- without reductions: the last loop is vectorised;
- with the last axis reduced: for each row, one vectorised pass per stage (the maximum, then the sum of exponentials,
  then the quotient), while the row is in cache; costly values that several passes need are kept in a row of scratch;
- with the last axis kept: it is vectorised, and the reduced loops turn inside, a vector of accumulators at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Ref
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_compiler.lower.index import Index, LoopVar
from stepjit_compiler.lower.point import Point, Position
from stepjit_compiler.lower.sweep import in_blocks, is_long, serial, totals_in_blocks, vectorised
from stepjit_compiler.lowering import Alias, Elementwise, Indexed, Reduction
from stepjit_compiler.passes.fuse import AxisMap
from stepjit_runtime import dtypes

VECTOR_BYTES = 32
EXPENSIVE = 15.0
"""From this cost per element on, a value is kept rather than computed again."""
SMALL_STEP, LARGE_STEP = 128, 512
"""Nodes of a step up to which loops take four, and two, registers of each value at a time."""
SHORT_LOOP = 64
"""Up to this static extent, one register at a time will do."""
HEAVY = 60.0
"""From this cost per element on, a body is not written out for every width."""
SCRATCH_ALLOCA = 16384


class LoopNest:
    """Emits one loop kernel into a Point's function."""

    def __init__(self, point: Point) -> None:
        kernel = point.kernel
        self.p, self.b, self.step = point, point.b, point.step
        self.space, self.axes = kernel.space, kernel.axes or ()
        self.maps: dict[int, AxisMap] = dict(kernel.maps)
        self.outputs = kernel.outputs
        self.nodes = kernel.nodes
        self.reductions = [i for i in self.nodes if self._is_reduction(i)]
        self.stage = self._stages()
        self.loops = self._merge()
        self.cost = sum(self._node_cost(i) for i in self.nodes)
        self.scratch: Extent = 0
        self._spills: dict[int, Value] = {}

    # --- what is known before anything is emitted ---

    def _is_reduction(self, i: int) -> bool:
        op = opdef.lookup(self.step.nodes[i].op)
        return op is not None and isinstance(op.lower, Reduction)

    def _node_cost(self, i: int) -> float:
        op = opdef.lookup(self.step.nodes[i].op)
        lower = op.lower if op else None
        return lower.cost if isinstance(lower, (Elementwise, Indexed)) else 0.0 if isinstance(lower, Alias) else 1.0

    def _stages(self) -> dict[int, int]:
        """By node: how many reductions lie on the longest way to it, itself included."""
        stage: dict[int, int] = {}
        for i in self.nodes:
            before = max((stage.get(ref.node, 0) for ref in self.step.nodes[i].inputs), default=0)
            stage[i] = before + self._is_reduction(i)
        return stage

    def _is_full(self, i: int) -> bool:
        return self.maps[i] == tuple(range(len(self.space)))

    def _merge(self) -> list[tuple[int, ...]]:
        """Runs of axes that become one loop, outermost first; axes of extent 1 are left out."""
        spans = self._spans()
        runs: list[tuple[int, ...]] = []
        for axis in (a for a, extent in enumerate(self.space) if extent != 1):
            if runs and spans is not None:
                last = runs[-1][-1]
                if all((last in span) == (axis in span) for span in spans):
                    runs[-1] += (axis,)
                    continue
            runs.append((axis,))
        return runs

    def _spans(self) -> list[set[int]] | None:
        """For every value in play: the axes it runs along; None when positions are taken apart."""
        spans: list[set[int]] = [set(self.axes)] if self.axes else []
        for i in self.nodes:
            node, mapped = self.step.nodes[i], self.maps[i]
            op = opdef.lookup(node.op)
            if op is not None and isinstance(op.lower, Indexed) and node.inputs:
                return None
            if node.op == "_Dims" or (op is not None and isinstance(op.lower, Indexed) and len(self.space) > 1):
                return None
            for type_ in node.types:
                spans.append({a for a, e in zip(mapped, type_.dims, strict=True) if a is not None and e != 1})
            if op is None or not isinstance(op.lower, (Elementwise, Alias)):
                continue
            for ref in node.inputs:
                own = self.step.type(ref).dims
                skip = len(mapped) - len(own)
                if skip >= 0 and not isinstance(op.lower, Alias):
                    at = [(mapped[a + skip], e) for a, e in enumerate(own)]
                    spans.append({a for a, e in at if a is not None and e != 1})
        return spans

    def _extent(self, run: Sequence[int]) -> Extent:
        return dims.product(tuple(self.space[a] for a in run))

    def _lanes(self, extent: Extent) -> int:
        """Vector lanes: enough for the widest dtype to fill registers, more where there is little to compute."""
        widths = [t.dtype.itemsize for i in self.nodes for t in self.step.nodes[i].types]
        widths += [self.step.type(ref).dtype.itemsize for i in self.nodes for ref in self.step.nodes[i].inputs]
        lanes = VECTOR_BYTES // max(4, max(widths, default=4))
        lanes *= self._registers(extent)
        if isinstance(extent, int):
            while lanes > max(extent, 1):
                lanes //= 2
            # A body without a rest is written once.
            if self.cost >= HEAVY and extent % lanes and extent % (lanes // 2) == 0 and lanes > 4:
                lanes //= 2
        return lanes

    # --- the nest ---

    def _registers(self, extent: Extent) -> int:
        """Registers per value: several hide latency, but in steps of many nodes and in short loops code size counts."""
        nodes = len(self.step.nodes)
        most = 4 if nodes <= SMALL_STEP else 2 if nodes <= LARGE_STEP or self.reductions else 1
        return min(most, 1 if isinstance(extent, int) and extent <= SHORT_LOOP else 4)

    def emit(self) -> None:
        if not self.reductions:
            self._emit_elementwise()
        elif self._rows():
            self._emit_rows()
        else:
            self._emit_columns()

    def _rows(self) -> bool:
        kept = [run for run in self.loops if run[-1] not in self.axes]
        return not kept or not self.loops or self.loops[-1][-1] in self.axes

    def _emit_elementwise(self) -> None:
        outer, inner = self.loops[:-1], self.loops[-1:]

        def body(variables: dict[int, Index]) -> None:
            self.p.store_all(self.outputs, lambda ref: self._position(self.maps[ref.node], variables))

        def innermost(variables: dict[int, Index]) -> None:
            if not inner:
                body(variables)
                return
            extent = self._extent(inner[0])

            def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
                body({**variables, inner[0][-1]: self.p.var(var)})
                return carried

            vectorised(self.p, extent, self._lanes(extent), turn, heavy=self.cost >= HEAVY)

        self._nest(outer, {}, innermost)

    def _nest(
        self, runs: Sequence[tuple[int, ...]], variables: dict[int, Index], body: Callable[[dict[int, Index]], None]
    ) -> None:
        """Serial loops over the runs, outermost first."""
        if not runs:
            body(variables)
            return

        def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
            self._nest(runs[1:], {**variables, runs[0][-1]: self.p.var(var)}, body)
            return carried

        serial(self.p, self._extent(runs[0]), turn)

    def _position(self, mapped: AxisMap, variables: dict[int, Index]) -> Position:
        zero = self.p.zero()
        return tuple(zero if a is None else variables.get(a, zero) for a in mapped)

    def _full_position(self, variables: dict[int, Index]) -> Position:
        return self._position(tuple(range(len(self.space))), variables)

    def _store(self, ref: Ref, variables: dict[int, Index]) -> None:
        position = self._position(self.maps[ref.node], variables)
        value = self.p.at(ref, position)
        self.p.store_at(value, self.p.pointer(ref), self.p.linear(self.step.type(ref), position))

    # --- rows: the last axis is reduced ---

    def _emit_rows(self) -> None:
        kept = [run for run in self.loops if run[-1] not in self.axes]
        reduced = [run for run in self.loops if run[-1] in self.axes]
        passes = self._passes()
        self._prepare_spills(passes, reduced)

        def row(variables: dict[int, Index]) -> None:
            for number, (reductions, stores) in enumerate(passes):
                self._pass(number, reductions, stores, reduced, variables)
            for ref in self.outputs:
                if not self._is_full(ref.node) or not self.space:
                    self._store(ref, variables)

        self._nest(kept, {}, row)

    def _passes(self) -> list[tuple[list[int], list[Ref]]]:
        """(reductions, full outputs) of each pass over the row, in order."""
        full = [ref for ref in self.outputs if self._is_full(ref.node) and self.space]
        last = max([self.stage[i] for i in self.reductions] + [self.stage[ref.node] + 1 for ref in full])
        return [
            (
                [i for i in self.reductions if self.stage[i] == number + 1],
                [ref for ref in full if self.stage[ref.node] == number],
            )
            for number in range(last)
        ]

    def _prepare_spills(
        self, passes: Sequence[tuple[list[int], list[Ref]]], reduced: Sequence[tuple[int, ...]]
    ) -> None:
        """Find costly full values that a later pass needs again, and give each a row of scratch."""
        first: dict[int, int] = {}
        self._spilled: dict[int, int] = {}
        stored: dict[int, int] = {}
        for number, (reductions, stores) in enumerate(passes):
            pending = [ref.node for i in reductions for ref in self.step.nodes[i].inputs] + [r.node for r in stores]
            seen: set[int] = set()
            while pending:
                i = pending.pop()
                if i in seen or i not in self.maps or not self._is_full(i) or self._is_reduction(i):
                    continue
                seen.add(i)
                if first.setdefault(i, number) < number and self._node_cost(i) >= EXPENSIVE:
                    self._spilled[i] = first[i]
                    continue
                pending.extend(ref.node for ref in self.step.nodes[i].inputs)
            stored.update({ref.node: number for ref in stores})
        row = dims.product(tuple(self._extent(run) for run in reduced))
        for i in self._spilled:
            self._spills[i] = self._row_of_scratch(self.step.nodes[i].types[0].dtype.itemsize * row)

    def _row_of_scratch(self, size: Extent) -> Value:
        if isinstance(size, int) and size <= SCRATCH_ALLOCA:
            name = f"%row{len(self.p.allocas)}"
            self.p.allocas.append(f"  {name} = alloca [{size} x i8], align 64")
            return Value(name, None)
        base = Value("%scratch", None)
        where = self.b.assign(f"getelementptr i8, ptr {base.ref}, i64 {self.p.extent(self.scratch).ref}", None)
        self.scratch = self.scratch + (size + 63) // 64 * 64
        return where

    def _pass(
        self, number: int, reductions: list[int], stores: list[Ref], reduced: Sequence[tuple[int, ...]],
        variables: dict[int, Index],
    ) -> None:  # fmt: skip
        inner = reduced[-1:]
        extent = self._extent(inner[0]) if inner else 1
        lanes = self._lanes(extent)

        def sweep(outer: dict[int, Index]) -> list[Value]:
            def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
                here = {**outer, inner[0][-1]: self.p.var(var)} if inner else outer
                return self._element(number, reductions, stores, here, reduced, carried, var.lanes)

            if reductions and is_long(extent):
                return totals_in_blocks(
                    self.p, extent, lanes, turn, self._identities(reductions, 1),
                    lambda width: self._identities(reductions, width),
                    lambda a, c: self._combine(reductions, a, c), self._narrow(reductions),
                )  # fmt: skip
            start = self._identities(reductions, lanes)
            return vectorised(self.p, extent, lanes, turn, start, self._narrow(reductions), self.cost >= HEAVY)

        totals = self._nested_totals(reduced[:-1], variables, reductions, sweep)
        self._finish(reductions, totals, reduced)

    def _nested_totals(
        self, runs: Sequence[tuple[int, ...]], variables: dict[int, Index], reductions: list[int],
        sweep: Callable[[dict[int, Index]], list[Value]],
    ) -> list[Value]:  # fmt: skip
        """Serial loops around the vectorised one, joining its totals."""
        if not runs:
            return sweep(variables)

        def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
            here = {**variables, runs[0][-1]: self.p.var(var)}
            return self._combine(reductions, carried, self._nested_totals(runs[1:], here, reductions, sweep))

        return serial(self.p, self._extent(runs[0]), turn, self._identities(reductions, 1))

    def _element(
        self, number: int, reductions: list[int], stores: list[Ref], variables: dict[int, Index],
        reduced: Sequence[tuple[int, ...]], carried: list[Value], lanes: int,
    ) -> list[Value]:  # fmt: skip
        """One vector of a row in one pass: spill or reload, store, accumulate."""
        where = self._row_position(reduced, variables)
        for i, since in self._spilled.items():
            dtype = self.step.nodes[i].types[0].dtype
            if since < number:
                self.p.remember(Ref(i, 0), self.p.load_at(self._spills[i], dtype, where))
            elif since == number:
                value = self.p.at(Ref(i, 0), self._full_position(variables))
                self.p.store_at(self.b.splat(value, lanes), self._spills[i], where)
        self.p.store_all(stores, lambda ref: self._position(self.maps[ref.node], variables))
        return self._accumulate(reductions, variables, carried, lanes)

    def _row_position(self, reduced: Sequence[tuple[int, ...]], variables: dict[int, Index]) -> Index:
        total = self.p.zero()
        stride: Extent = 1
        for run in reversed(reduced):
            total = total + variables.get(run[-1], self.p.zero()) * stride
            stride = stride * self._extent(run)
        return total

    # --- columns: the last axis is kept ---

    def _emit_columns(self) -> None:
        kept = [run for run in self.loops if run[-1] not in self.axes]
        reduced = [run for run in self.loops if run[-1] in self.axes]
        stores = [ref for ref in self.outputs if self._is_full(ref.node)]
        rows = [ref for ref in self.outputs if not self._is_full(ref.node)]
        extent = self._extent(kept[-1])

        def column(variables: dict[int, Index]) -> None:
            def turn(var: LoopVar, carried: list[Value]) -> list[Value]:
                here = {**variables, kept[-1][-1]: self.p.var(var)}
                totals = self._column(reduced, here, self._identities(self.reductions, var.lanes), stores, var.lanes)
                self._finish(self.reductions, totals, reduced)
                for ref in rows:
                    self._store(ref, here)
                return carried

            vectorised(self.p, extent, self._lanes(extent), turn, heavy=self.cost >= HEAVY)

        self._spilled = {}
        self._nest(kept[:-1], {}, column)

    def _column(
        self, runs: Sequence[tuple[int, ...]], variables: dict[int, Index], carried: list[Value], stores: list[Ref],
        lanes: int,
    ) -> list[Value]:  # fmt: skip
        if not runs:
            for ref in stores:
                self._store(ref, variables)
            return self._accumulate(self.reductions, variables, carried, lanes)

        def turn(var: LoopVar, inner: list[Value]) -> list[Value]:
            return self._column(runs[1:], {**variables, runs[0][-1]: self.p.var(var)}, inner, stores, lanes)

        extent = self._extent(runs[0])
        if len(runs) == 1 and is_long(extent):
            return in_blocks(
                self.p, self.p.extent(extent), 1, turn, carried, lambda: self._identities(self.reductions, lanes),
                lambda a, c: self._combine(self.reductions, a, c),
            )  # fmt: skip
        return serial(self.p, extent, turn, carried)

    # --- accumulators ---

    def _lower(self, i: int) -> Reduction:
        op = opdef.lookup(self.step.nodes[i].op)
        assert op is not None and isinstance(op.lower, Reduction)
        return op.lower

    def _identities(self, reductions: Sequence[int], lanes: int) -> list[Value]:
        """The accumulators' first values; their dtypes are those of what `item` gives."""
        found = []
        for i in reductions:
            lower, dtype = self._lower(i), self.step.type(self.step.nodes[i].inputs[0]).dtype
            trial = Builder()
            items = lower.item(trial, self.p.call(i), Value("undef", dtype), Value("undef", dtypes.int64))
            for number, item in zip(lower.identity(dtype), items, strict=True):
                assert item.dtype is not None
                found.append(self.b.const(number, item.dtype, lanes))
        return found

    def _split(self, reductions: Sequence[int], flat: Sequence[Value]) -> list[tuple[Value, ...]]:
        """Accumulators by reduction."""
        parts, at = [], 0
        for i in reductions:
            count = len(self._lower(i).identity(self.step.type(self.step.nodes[i].inputs[0]).dtype))
            parts.append(tuple(flat[at : at + count]))
            at += count
        return parts

    def _accumulate(
        self, reductions: Sequence[int], variables: dict[int, Index], carried: Sequence[Value], lanes: int
    ) -> list[Value]:
        items: list[Value] = []
        for i in reductions:
            ref = self.step.nodes[i].inputs[0]
            x = self.b.splat(self.p.at(ref, self._full_position(variables)), lanes)
            at = variables.get(self.axes[-1], self.p.zero())
            position = self.b.splat(self.p.value(at), lanes)
            items.extend(self._lower(i).item(self.b, self.p.call(i), x, position))
        return self._combine(reductions, carried, items)

    def _combine(self, reductions: Sequence[int], left: Sequence[Value], right: Sequence[Value]) -> list[Value]:
        found: list[Value] = []
        for i, a, c in zip(reductions, self._split(reductions, left), self._split(reductions, right), strict=True):
            found.extend(self._lower(i).combine(self.b, self.p.call(i), a, c))
        return found

    def _narrow(self, reductions: Sequence[int]) -> Callable[[Sequence[Value]], list[Value]]:
        def narrow(state: Sequence[Value]) -> list[Value]:
            lower = [self.b.half_of(value, False) for value in state]
            return self._combine(reductions, lower, [self.b.half_of(value, True) for value in state])

        return narrow

    def _finish(self, reductions: Sequence[int], totals: Sequence[Value], reduced: Sequence[tuple[int, ...]]) -> None:
        """The reductions' results, for the rest of the row."""
        count = self.p.extent(dims.product(tuple(self._extent(run) for run in reduced)))
        for i, acc in zip(reductions, self._split(reductions, totals), strict=True):
            self.p.remember(Ref(i, 0), self._lower(i).result(self.b, self.p.call(i), acc, count))
