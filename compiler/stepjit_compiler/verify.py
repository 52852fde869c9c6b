"""Checks that a Step is one. What holds of every Step, between any two passes:

Values
  - an input of a node is an output, which exists, of an earlier node; so is what a node comes `after`
  - a fetch, a write and a target name nodes and outputs that exist
Nodes
  - a node is one of the step's own kind (`_Feed`, `_Read`, `_Initialized`, `_Dims`) or of a registered op
  - it has every attr that the op's definition asks for and its inputs don't tell
  - its attrs are sorted by name and hashable
  - its types are those that the op's own rule derives from its inputs' types
  - it is marked `host` exactly when its op has no native form for these types and values
  - every node is needed by a fetch, a write or a target
State
  - a `_Feed` names a feed and a `_Read` a slot of the node's type
  - a slot is written once at most, with a value of its dtype and shape
Extents
  - a symbol is a feed's (`s<feed>_<axis>`), or born by an earlier node (`h<number>`), and born once
  - what a step assumes of extents when it begins is in its checks: every condition that a rule asks for, and only over
    feeds' symbols
Regions (the Steps inside nodes)
  - each is a Step by these rules, over the inputs of its node; it has no slots of its own and writes none
  - both branches have the same results; a loop's body gives its variables, and its condition one bool
"""

from __future__ import annotations

from collections.abc import Sequence

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Check, Node, Ref, Step, Type
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.regions import CONTROL, parameters, regions_of
from stepjit_compiler.step_builder import SOURCES, StepBuilder, UnsureShape
from stepjit_compiler.step_inference import NeedsStaticError, is_late
from stepjit_compiler.step_text import node_text
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import OpFailure

LINES_AROUND = 5


class VerifyError(Exception):
    """A Step breaks one of the rules above, by a fault of the pass that made it. `node` is its number, or -1."""

    def __init__(self, step: Step, node: int, message: str) -> None:
        super().__init__(message if node < 0 else f"%{node}: {message}\n{_excerpt(step, node)}")
        self.node = node


def verify(step: Step) -> None:
    """VerifyError when the step breaks an invariant; nothing otherwise."""
    _Verifier(step).run()


def _excerpt(step: Step, node: int) -> str:
    lines = []
    for i in range(max(node - LINES_AROUND, 0), min(node + LINES_AROUND + 1, len(step.nodes))):
        try:
            text = node_text(step, i)
        except TypeError as error:
            text = f"%{i} = {step.nodes[i].op} ({error})"
        lines.append(("> " if i == node else "  ") + text)
    return "\n".join(lines)


class _Verifier:
    def __init__(self, step: Step) -> None:
        self.step = step
        self.at = -1
        self.builder = StepBuilder(step.feeds, step.slots)
        self.symbols = {name for type_ in step.feeds for extent in type_.dims for name in dims.symbols(extent)}

    def fail(self, message: str) -> None:
        raise VerifyError(self.step, self.at, message)

    def run(self) -> None:
        for check in self.step.checks:
            self.known_symbols((check.a, check.b), "a check")
        self.builder.assume(self.step.checks)
        for i, node in enumerate(self.step.nodes):
            self.at = i
            self.references(i, node)
            if node.op in SOURCES:
                self.source(node)
            else:
                self.op(node)
            self.builder.nodes.append(node)
        self.at = -1
        self.ends()
        self.conditions()
        self.dead_nodes()

    def references(self, i: int, node: Node) -> None:
        for number, output in node.inputs:
            if not 0 <= number < i:
                self.fail(f"input %{number} does not come before it")
            if not 0 <= output < len(self.step.nodes[number].types):
                self.fail(f"input %{number}:{output}: there is no such output")
        for number in node.after:
            if not 0 <= number < i:
                self.fail(f"comes after %{number}, which does not come before it")

    def source(self, node: Node) -> None:
        if node.inputs or (node.after and node.op != "_Dims") or node.host:
            self.fail("has no inputs, comes after nothing and is not run by Python")
        if node.op == "_Dims":
            flat: Sequence[Extent] = node.attr.get("dims", ())
            self.known_symbols(flat, "_Dims")
            before = [type_ for j in node.after for type_ in self.step.nodes[j].types]
            there = {name for type_ in (*before, *self.step.feeds) for e in type_.dims for name in dims.symbols(e)}
            if any(name.startswith("h") and name not in there for extent in flat for name in dims.symbols(extent)):
                self.fail("holds an extent that is born in mid-step, and does not come after what brings it")
            ((dtype, shape),) = node.types
            if not dtype.is_integer or shape not in ((len(flat),), ()) or (not shape and len(flat) != 1):
                self.fail(f"{len(flat)} extents are no {node.types[0]}")
            return
        table, key = (self.step.feeds, "index") if node.op == "_Feed" else (self.step.slots, "slot")
        index = node.attr.get(key, -1)
        if not 0 <= index < len(table):
            self.fail(f"there is no {key} {index}")
        if node.op == "_Initialized":
            return
        type_ = self.step.feeds[index] if node.op == "_Feed" else self.step.slots[index].type
        if not self.agrees(node.types[0], type_.dtype, type_.dims):
            self.fail(f"is {node.types[0]}, but {key} {index} is {type_}")

    def op(self, node: Node) -> None:
        op = opdef.lookup(node.op)
        if op is None:
            self.fail(f"there is no op type '{node.op}'")
            return
        self.attrs(op, node)
        if node.op in CONTROL:
            self.regions(node)
        try:
            shapes, late = self.builder.infer(op, node.inputs, node.attrs)
        except (OpFailure, NeedsStaticError, KeyError) as error:
            self.fail(f"its rule refuses it: {type(error).__name__} {error}")
            return
        if len(shapes) != len(node.types):
            self.fail(f"has {len(node.types)} outputs, but '{node.op}' has {len(shapes)}")
        for k, (type_, (dtype, shape)) in enumerate(zip(node.types, shapes)):
            if not self.agrees(type_, dtype, shape):
                want = ",".join("?" if extent is None else str(extent) for extent in shape)
                self.fail(f"output {k} is {type_}, but by its rule {dtype.code}[{want}]")
        host = late or not self.builder.is_native(op, node)
        if host != node.host:
            self.fail("is run by Python, so must be marked `host`" if host else "is native, but marked `host`")

    def regions(self, node: Node) -> None:
        inputs = [self.step.type(ref) for ref in node.inputs]
        wanted = parameters(node, inputs, inputs)
        for name, region in regions_of(node):
            have = [(type_.dtype, len(type_.dims)) for type_ in region.feeds]
            if have != [(type_.dtype, len(type_.dims)) for type_ in wanted]:
                self.fail(f"the feeds of '{name}' are not the node's inputs")
            if region.slots or region.writes:
                self.fail(f"'{name}' has slots of its own")
            try:
                verify(region)
            except VerifyError as error:
                self.fail(f"in '{name}': {error}")
        first, second = (region.results() for _, region in regions_of(node))
        if node.op == "_If" and [t.dtype for t in first] != [t.dtype for t in second]:
            self.fail("the branches have different results")
        if node.op == "_While":
            if [(t.dtype, t.dims) for t in second] != [(dtypes.bool_, ())]:
                self.fail("the condition is no bool")
            variables = [t.dtype for t in first[: len(inputs)]]
            if variables != [t.dtype for t in inputs] or len(first) != len(inputs) + node.attr["stacked"]:
                self.fail("the body does not give the loop's variables")

    def attrs(self, op: OpDef, node: Node) -> None:
        names = [name for name, _ in node.attrs]
        if names != sorted(set(names)):
            self.fail("its attrs are not sorted by name")
        try:
            hash(node.attrs)
        except TypeError as error:
            self.fail(f"its attrs are no values: {error}")
        told = {name for arg in op.inputs for name in (arg.type_attr, arg.count_attr, arg.list_attr)}
        for attr in op.attrs:
            if not attr.optional and attr.name not in node.attr and attr.name not in told:
                self.fail(f"lacks attr '{attr.name}'")

    def agrees(self, type_: Type, dtype: DType, shape: UnsureShape) -> bool:
        """Whether a type is what was derived; extents that only running tells are noted as born here."""
        if type_.dtype is not dtype or len(type_.dims) != len(shape):
            return False
        for extent, derived in zip(type_.dims, shape):
            if derived is not None:
                if self.builder.resolve(extent) != self.builder.resolve(derived):
                    return False
            elif not self.is_newborn(extent):
                return False
        return True

    def is_newborn(self, extent: Extent) -> bool:
        name = str(extent)
        if not isinstance(extent, Dim) or extent is not dims.symbol(name) or not is_late(extent):
            return False
        if name in self.symbols:
            self.fail(f"{name} is born a second time")
        self.symbols.add(name)
        return True

    def known_symbols(self, extents: Sequence[Extent], where: str) -> None:
        for extent in extents:
            for name in sorted(dims.symbols(extent) - self.symbols):
                self.fail(f"{where} has symbol {name}, which no feed and no earlier node has")

    def ends(self) -> None:
        nodes = self.step.nodes
        for what, refs in (("fetch", self.step.fetches), ("write", [ref for _, ref in self.step.writes])):
            for number, output in refs:
                if not (0 <= number < len(nodes) and 0 <= output < len(nodes[number].types)):
                    self.fail(f"{what} of %{number}:{output}, which does not exist")
        for number in self.step.targets:
            if not 0 <= number < len(nodes):
                self.fail(f"target %{number} does not exist")
        if len({slot for slot, _ in self.step.writes}) < len(self.step.writes):
            self.fail("a slot is written twice")
        for slot, ref in self.step.writes:
            self.write(slot, ref)

    def write(self, slot: int, ref: Ref) -> None:
        if not 0 <= slot < len(self.step.slots):
            self.fail(f"write to slot {slot}, which does not exist")
        held, value = self.step.slots[slot].type, self.step.type(ref)
        if not self.agrees(value, held.dtype, held.dims):
            self.at = ref.node
            self.fail(f"{value} is written to slot {slot}, which is {held}")

    def conditions(self) -> None:
        have = {self.condition(check) for check in self.step.checks}
        for check in self.builder.checks[len(self.step.checks) :]:
            if self.condition(check) not in have:
                self.fail(f"nothing checks that {check.holds}({check.a}, {check.b}): {check.message}")

    def condition(self, check: Check) -> tuple[str, str, str]:
        # A check is compared as it was made: an equality is trivial once it is taken for granted.
        a, b = (check.a, check.b) if check.holds == "eq" else map(self.builder.resolve, (check.a, check.b))
        return check.holds, str(a), str(b)

    def dead_nodes(self) -> None:
        if self.step.without_dead() is not self.step:
            live = self.live()
            self.at = next(i for i in range(len(self.step.nodes)) if i not in live)
            self.fail("nothing needs it")

    def live(self) -> set[int]:
        found = set(self.step.roots())
        for i in range(len(self.step.nodes) - 1, -1, -1):
            if i in found:
                found.update(ref.node for ref in self.step.nodes[i].inputs)
                found.update(self.step.nodes[i].after)
        return found
