"""Builds Steps node by node: derives types with the ops' own shape rules and merges equal nodes.

`prune`, `expand` and `simplify` all build through this, so every node of every Step had its types derived the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Attrs, Check, Literal, Node, Ref, Slot, Step, Type
from stepjit_compiler.lowering import Composite, Control, Indexed, always
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.regions import CONTROL, first_born, renamed
from stepjit_compiler.step_inference import (
    KNOWN_ELEMENTS,
    NeedsShapeError,
    NeedsStaticError,
    StepCall,
    StepInference,
    is_late,
    plain_attrs,
)
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import OpFailure

_OF_SHAPES = ("Shape", "ShapeN", "Size", "Rank")
"""Ops whose results are the extents of their inputs."""

SOURCES = frozenset(("_Feed", "_Read", "_Initialized", "_Dims"))
"""The ops that a Step has of its own (see `ir`): they have no inputs and no definition."""

UnsureShape = tuple[Extent | None, ...]

NATIVE_CONTROL = True
"""Whether branches and loops become native code where they can; else Python drives them all."""


class CompositeError(Exception):
    """A composite's expansion does not have the composite's own types."""


def _may_gain(node: Node) -> bool:
    """Whether a node may be better off by extents that later nodes make known."""
    if node.op in CONTROL:
        return True
    op = opdef.lookup(node.op) if node.host else None
    return op is not None and op.lower is not None


class StepBuilder:
    """Appends nodes; equal pure nodes become one."""

    def __init__(self, feeds: Sequence[Type] = (), slots: Sequence[Slot] = (), names: Sequence[str] = ()) -> None:
        self.nodes: list[Node] = []
        self.feeds, self.slots, self.names = list(feeds), list(slots), list(names)
        self.checks: list[Check] = []
        self.origin = -1
        self.after: tuple[int, ...] = ()
        """What nodes with effects that `op` adds come after."""
        self._same: dict[Any, int] = {}
        self._known: dict[Ref, np.ndarray | None] = {}
        self._equal: dict[str, Extent] = {}
        self._assumed = 0
        """How many symbols were known to equal others from the start."""
        self._born = first_born(self.feeds)
        self._births: dict[str, int] = {}
        """By extent that is born in mid-step: the node that brings it."""

    # --- what ops' `expand` functions use ---

    def op(self, name: str, *inputs: Ref, **attrs: Any) -> Any:
        """Add op `name`; type attrs follow from the inputs. Returns its ref, or a tuple of refs."""
        found = opdef.lookup(name)
        if found is None:
            raise KeyError(f"no op type {name!r}")
        refs = self.emit(name, inputs, self._with_types(found, inputs, attrs))
        return refs[0] if len(refs) == 1 else refs

    def const(self, value: Any, dtype: DType) -> Ref:
        array = np.asarray(value, dtype.np)
        return self.emit("Const", (), {"value": array, "dtype": dtype})[0]

    def dims(self, extents: Sequence[Extent] | Extent, dtype: DType = dtypes.int32) -> Ref:
        """The extents as an integer vector (a scalar for a single extent)."""
        shape = () if isinstance(extents, (int, Dim)) else (len(extents),)
        flat = (extents,) if isinstance(extents, (int, Dim)) else tuple(extents)
        if all(isinstance(extent, int) for extent in flat):
            return self.const(np.array(flat, dtype.np).reshape(shape), dtype)
        born = {self._births[name] for extent in flat for name in dims.symbols(extent) if name in self._births}
        after = tuple(sorted(born))
        node = Node("_Dims", (), (("dims", flat),), (Type(dtype, shape),), after, self.origin)
        return Ref(self._append(node, ("_Dims", flat, dtype, shape)), 0)

    def must_equal(self, a: Extent, b: Extent, message: str) -> bool:
        """Take two extents for equal, which a check of the step makes sure of; false if they surely are not.

        Of extents that come up in mid-step nothing is checked here.
        """
        a, b = self.resolve(a), self.resolve(b)
        if a == b or is_late(a) or is_late(b):
            return True
        if isinstance(a, int) and isinstance(b, int):
            return False
        self.checks.append(Check("eq", a, b, message, self.origin))
        self.unify(a, b)
        return True

    def born_by(self, extent: Extent) -> Node | None:
        """The node whose result tells the extent in mid-step; None for other extents."""
        index = self._births.get(str(extent))
        return None if index is None else self.nodes[index]

    def reduce(self, name: str, value: Ref, axes: Sequence[int], keep_dims: bool = False) -> Ref:
        found: Ref = self.op(name, value, self.const(list(axes), dtypes.int32), keep_dims=keep_dims)
        return found

    def type(self, ref: Ref) -> Type:
        return self.nodes[ref[0]].types[ref[1]]

    # --- what passes use ---

    def feed(self, index: int, origin: int = -1) -> Ref:
        found = self.feeds[index]
        node = Node("_Feed", (), (("index", index),), (self.resolved(found),), origin=origin)
        return Ref(self._append(node, ("_Feed", index)), 0)

    def read(self, slot: int, origin: int = -1, unsure: bool = False) -> Ref:
        """What a slot holds; `unsure`: it may hold nothing. One node reads a slot; it is sure if asked to be once."""
        known = self._same.get(("_Read", slot))
        if known is not None and (unsure or not self.nodes[known].attr.get("unsure")):
            return Ref(known, 0)
        attrs = (("slot", slot), ("unsure", True)) if unsure else (("slot", slot),)
        node = Node("_Read", (), attrs, (self.slots[slot].type,), origin=origin)
        if known is not None:
            self.nodes[known] = node
            return Ref(known, 0)
        return Ref(self._append(node, ("_Read", slot)), 0)

    def initialized(self, slot: int, origin: int = -1) -> Ref:
        node = Node("_Initialized", (), (("slot", slot),), (Type(dtypes.bool_, ()),), origin=origin)
        return Ref(self._append(node, ("_Initialized", slot)), 0)

    def copy(self, node: Node, inputs: Sequence[Ref], after: Sequence[int] = ()) -> int:
        """Add a node of another Step with new inputs; its types are derived anew."""
        self.origin = node.origin
        if node.op not in SOURCES:
            return self._add(node.op, tuple(inputs), node.attrs, tuple(after))
        if node.op == "_Feed":
            return self.feed(node.attr["index"], node.origin).node
        if node.op == "_Read":
            return self.read(node.attr["slot"], node.origin, node.attr.get("unsure", False)).node
        if node.op == "_Initialized":
            return self.initialized(node.attr["slot"], node.origin).node
        shape = node.types[0].dims
        flat = [self.resolve(extent) for extent in node.attr["dims"]]
        return self.dims(flat if shape else flat[0], node.types[0].dtype).node

    def region(self, region: Step) -> Step:
        """A step inside a node that is being copied, built again: for feeds that may have other types than before."""
        from stepjit_compiler.passes.rebuild import rebuild

        return rebuild(region, StepBuilder(region.feeds))

    def emit(self, name: str, inputs: Sequence[Ref], attrs: Mapping[str, Any]) -> tuple[Ref, ...]:
        """Add a node on behalf of the one that is being copied; returns what stands for its outputs."""
        after = self.after if self.after and opdef.registered()[name].stateful else ()
        return self.outputs(self.add(name, inputs, attrs, after))

    def outputs(self, index: int) -> tuple[Ref, ...]:
        """The outputs of a node that was added, or what stands for them in builders that rewrite as they build."""
        return tuple([Ref(index, k) for k in range(len(self.nodes[index].types))])

    def add(self, name: str, inputs: Sequence[Ref], attrs: Mapping[str, Any], after: Sequence[int] = ()) -> int:
        """Add a node of a registered op with all its attrs; returns its number."""
        canonical = tuple(sorted((key, _hashable(value)) for key, value in attrs.items()))
        return self._add(name, tuple(map(Ref._make, inputs)), canonical, tuple(after))

    def known(self, ref: Ref) -> np.ndarray | None:
        """An integer value as an object array of ints and Dims, where it follows from constants and extents."""
        known = self._known
        if ref in known:
            return known[ref]
        waiting = [ref]
        while waiting:
            top = waiting[-1]
            missing = [each for each in self._derived_from(top) if each not in known]
            if missing:
                waiting.extend(missing)
            else:
                known[top] = self._derive(top)
                waiting.pop()
        return known[ref]

    def call(self, node: Node) -> StepCall:
        return StepCall(node, [self.type(ref) for ref in node.inputs], [self.known(ref) for ref in node.inputs])

    def assume(self, checks: Sequence[Check]) -> None:
        """Take over another Step's checks and what follows from them."""
        for check in checks:
            if check.holds == "eq":
                self.unify(check.a, check.b)
        self.checks.extend(checks)
        self._assumed = len(self._equal)

    def unify(self, a: Extent, b: Extent) -> Extent:
        """Take a and b for equal from here on (a check says so); returns the one to go on with."""
        a, b = self.resolve(a), self.resolve(b)
        for one, other in ((a, b), (b, a)):
            name = str(one)
            if isinstance(one, Dim) and one is dims.symbol(name) and name not in dims.symbols(other):
                if isinstance(other, Dim) and other is dims.symbol(str(other)) and str(other) > name:
                    continue  # the symbol that comes first stays
                self._equal[name] = other
                return other
        return a if isinstance(a, int) else b

    def resolve(self, extent: Extent) -> Extent:
        while self._equal and isinstance(extent, Dim) and extent.symbols & self._equal.keys():
            extent = extent.substitute(self._equal)
        return extent

    def resolved(self, type_: Type) -> Type:
        return Type(type_.dtype, tuple(map(self.resolve, type_.dims)))

    def finish(
        self, fetches: Sequence[Ref], writes: Sequence[tuple[int, Ref]] = (), targets: Sequence[int] = ()
    ) -> Step:
        """The Step built so far, less what nothing needs."""
        names = {name: self.resolve(dims.symbol(name)) for name in self._equal}
        nodes = tuple(renamed(node, names) for node in self.nodes) if names else tuple(self.nodes)
        step = Step(
            nodes, tuple(self.feeds), tuple(fetches), tuple(writes), tuple(targets), tuple(self.slots),
            tuple(dict.fromkeys(self.checks)), tuple(self.names),
        ).without_dead()  # fmt: skip
        if len(names) > self._assumed and any(map(_may_gain, step.nodes)):
            # Branches whose shapes seemed to differ may be found to agree, and extents to be static.
            from stepjit_compiler.passes.rebuild import rebuild

            return rebuild(step, StepBuilder(self.feeds, self.slots, self.names))
        return step

    # --- inside ---

    def _append(self, node: Node, key: Any) -> int:
        if key is not None and key in self._same:
            return self._same[key]
        self.nodes.append(node)
        if key is not None:
            self._same[key] = len(self.nodes) - 1
        return len(self.nodes) - 1

    def _add(self, name: str, inputs: tuple[Ref, ...], attrs: Attrs, after: tuple[int, ...]) -> int:
        found = opdef.lookup(name)
        if found is None:
            raise OpFailure(f"Op type not registered '{name}'")
        key = None
        if not found.stateful:
            key = (name, inputs, attrs)
            index = self._same.get(key)
            if index is not None:
                return index
        shapes, late = self.infer(found, inputs, attrs)
        types = tuple([Type(dtype, tuple(map(self._extent, shape))) for dtype, shape in shapes])
        node = Node(name, inputs, attrs, types, after, self.origin)
        if late or not self.is_native(found, node):
            object.__setattr__(node, "host", True)
        for type_ in types:
            for extent in type_.dims:
                if extent.__class__ is not int:
                    self._note_births(extent)
        return self._append(node, key)

    def _note_births(self, extent: Extent) -> None:
        for name in dims.symbols(extent):
            if name.startswith("h"):
                self._births.setdefault(name, len(self.nodes))

    def infer(self, op: OpDef, inputs: Sequence[Ref], attrs: Attrs) -> tuple[list[tuple[DType, UnsureShape]], bool]:
        """(dtype, shape) of each output by the op's own rule, and whether only running the op shows if it fits."""
        plain = plain_attrs(attrs)
        out = output_dtypes(op, plain)
        if op.name == "Const":
            return [(out[0], plain["value"].shape)], False
        x = StepInference(self, op.name, plain, inputs, self.origin)
        shapes = op.infer(x)
        x.finish()
        told = plain.get("_shapes")
        found: list[tuple[DType, UnsureShape]] = []
        for k, (dtype, shape) in enumerate(zip(out, shapes, strict=True)):
            if shape is None and told is not None:
                shape, x.late = told[k], True
            if shape is None:
                self._needs_more(op, inputs)
            found.append((dtype, shape))
        return found, x.late

    def _needs_more(self, op: OpDef, inputs: Sequence[Ref]) -> NoReturn:
        text = f"the rank of a result of '{op.name}' depends on a value"
        lengths = {s for ref in inputs for extent in self.type(ref).dims for s in dims.symbols(extent)}
        fed = frozenset(name for name in lengths if not name.startswith("h"))
        if fed:
            raise NeedsStaticError(fed, text)
        raise NeedsShapeError(self.origin, text)

    def _extent(self, extent: Extent | None) -> Extent:
        if extent.__class__ is int:
            return extent  # type: ignore[return-value]
        if extent is None:
            self._born += 1
            return dims.symbol(f"h{self._born}")
        return self.resolve(extent)

    def is_native(self, op: OpDef, node: Node) -> bool:
        """Whether the node becomes native code (a composite: is expanded) rather than run by Python."""
        if op.name == "Const":
            return True
        lower = op.lower
        if lower is None:
            return False
        if isinstance(lower, Control):
            return NATIVE_CONTROL and lower.when(self.call(node))
        if not isinstance(lower, Composite):
            ins = [self.type(ref) for ref in node.inputs]
            if any(t.dtype not in opdef.NATIVE for t in (*ins, *node.types)):
                return False
            if any(is_late(e) for t in node.types for e in t.dims if e.__class__ is not int):
                own = {name for t in ins for extent in t.dims for name in dims.symbols(extent)}
                late = {s for t in node.types for e in t.dims for s in dims.symbols(e) if s.startswith("h")}
                told = isinstance(lower, Indexed) and lower.born is not None
                if not told and not late <= own and not self._extents_known(node):
                    return False
        return lower.when is always or bool(lower.when(self.call(node)))

    def _extents_known(self, node: Node) -> bool:
        """Whether extents of the result that are born in mid-step stand in a known input (`tf.zeros(tf.shape(h))`)."""
        inputs = {s for ref in node.inputs for e in self._known_dims(ref) for s in dims.symbols(e)}
        wanted = {s for t in node.types for e in t.dims for s in dims.symbols(e)}
        own = {s for ref in node.inputs for e in self.type(ref).dims for s in dims.symbols(e)}
        return wanted <= inputs | own

    def _known_dims(self, ref: Ref) -> list[Extent]:
        known = self.known(ref)
        return [] if known is None else list(known.ravel())

    def _derived_from(self, ref: Ref) -> tuple[Ref, ...]:
        """The values that `_derive` asks for."""
        node = self.nodes[ref[0]]
        if not node.inputs or not node.types[ref[1]].dtype.is_integer or node.op in _OF_SHAPES:
            return ()
        op = opdef.lookup(node.op)
        return node.inputs if op is not None and op.symbolic else ()

    def _derive(self, ref: Ref) -> np.ndarray | None:
        node = self.nodes[ref[0]]
        type_ = node.types[ref[1]]
        if not type_.dtype.is_integer or not isinstance(type_.size, int) or type_.size > KNOWN_ELEMENTS:
            return None
        if node.op == "Const":
            return _objects(node.attr["value"].array)
        if node.op == "_Dims":
            extents = np.empty(len(node.attr["dims"]), object)
            extents[:] = node.attr["dims"]
            return extents if type_.dims else extents.reshape(())
        op = opdef.lookup(node.op)
        if op is None or not op.symbolic or op.stateful:
            return None
        found = self._derive_symbolic(op, node, ref[1])
        if found is None or found.shape != type_.dims:
            return None
        limits = np.iinfo(type_.dtype.np)
        inside = all(isinstance(e, Dim) or limits.min <= e <= limits.max for e in found.ravel())
        return found if inside else None  # a number that wraps is for the op itself to find

    def _derive_symbolic(self, op: OpDef, node: Node, output: int) -> np.ndarray | None:
        if op.name in _OF_SHAPES:
            shape = self.type(node.inputs[output]).dims
            if op.name in ("Size", "Rank"):
                return _objects(np.array(dims.product(shape) if op.name == "Size" else len(shape), object))
            return _objects(np.array(shape, object))
        inputs = [self.known(input_) for input_ in node.inputs]
        if any(each is None for each in inputs):
            return None
        try:
            result = op.reference(StepCall(node, [], []), *inputs)  # type: ignore[misc]
        except (OpFailure, TypeError, ValueError, ZeroDivisionError, AttributeError):
            return None  # not expressible over extents; the op itself runs, or fails, in its place
        found = np.asarray(result[output] if isinstance(result, (tuple, list)) else result, object)
        ok = found.size <= KNOWN_ELEMENTS and all(isinstance(e, (int, np.integer, Dim)) for e in found.ravel())
        return _objects(found) if ok else None

    def _with_types(self, op: OpDef, inputs: Sequence[Ref], attrs: Mapping[str, Any]) -> dict[str, Any]:
        """The given attrs, those that the inputs decide, and the defaults."""
        full = {attr.name: attr.default for attr in op.attrs if attr.optional}
        at = 0
        for arg in op.inputs:
            if arg.count_attr:
                full[arg.count_attr] = count = len(inputs) - len(op.inputs) + 1
            elif arg.list_attr:
                count = len(inputs) - len(op.inputs) + 1
                full[arg.list_attr] = tuple(self.type(ref).dtype for ref in inputs[at : at + count])
            else:
                count = 1
            if arg.type_attr and count and at < len(inputs):
                full[arg.type_attr] = self.type(inputs[at]).dtype
            at += count
        full.update(attrs)
        return full


def output_dtypes(op: OpDef, attrs: Mapping[str, Any]) -> list[DType]:
    """The dtypes of an op's outputs, references as their base."""
    found: list[DType] = []
    for arg in op.outputs:
        if arg.list_attr:
            found.extend(attrs[arg.list_attr])
            continue
        dtype = arg.dtype or attrs[arg.type_attr or ""]
        found.extend([dtype.base_dtype] * (attrs[arg.count_attr] if arg.count_attr else 1))
    return found


def _objects(array: np.ndarray) -> np.ndarray:
    found = np.empty(array.shape, object)
    flat = found.reshape(-1) if array.shape else found
    for k, element in enumerate(array.ravel()):
        flat[k if array.shape else ()] = element if isinstance(element, Dim) else int(element)
    return found


def _hashable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return Literal(value)
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    hash(value)  # an attr that is no value can't be part of a step
    return value
