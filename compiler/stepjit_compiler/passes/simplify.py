"""simplify: the same step with less to do.

Builds the step anew and replaces each node, as it is added, by the first of these that applies:

  fold     a pure op of constants is a constant
  known    an integer value that follows from extents is a constant or a `_Dims` node
  expand   a composite is its expansion
  rules    `rules.py` and its kin: one algebraic equation per function

Inputs are in their final form before a node is looked at, so one sweep in order suffices; only extents found equal on
the way ask for another. Equal nodes become one by the builder, and what nothing needs any more is left out at the end.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from stepjit_compiler import opdef
from stepjit_compiler.interpret import run_op
from stepjit_compiler.ir import INLINE_BYTES, Node, Ref, Step
from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.options import current
from stepjit_compiler.passes.expand import expand_node
from stepjit_compiler.passes.matching import rules_for
from stepjit_compiler.passes.rebuild import rebuild
from stepjit_compiler.step_builder import SOURCES, StepBuilder
from stepjit_compiler.step_inference import is_late
from stepjit_runtime.errors import OpFailure

FOLDED_BYTES = 64 * 1024
"""Results up to this size are computed at compile time."""

SPREADING = frozenset(("Fill", "BroadcastTo", "Tile", "OnesLike", "ZerosLike"))
"""Ops whose result says less than its size: not folded into data that the code would have to load."""

DEPTH = 60
"""How many replacements may be nested: more means that rules chase one another."""


class RuleLoopError(Exception):
    """Rules went on replacing each other's results; the text names the one that did so most."""


def simplify(step: Step) -> Step:
    """The step in simplest form; StepFailure names the op that is seen to fail, RuleLoopError a bad rule."""
    while True:
        builder = Simplifier(step)
        simple = rebuild(step, builder)
        if builder.equalities == builder.equalities_assumed:
            return simple
        step = simple


def _loop(applied: Counter[str]) -> RuleLoopError:
    ((name, times),) = applied.most_common(1)
    return RuleLoopError(f"simplify does not come to an end: rule '{name}' was applied {times} times")


class Simplifier(StepBuilder):
    """A builder in which `outputs`, and so `op`, gives a node's simplest form."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.feeds, step.slots, step.names)
        self.fuel = 1000 + 50 * len(step.nodes)
        self.fired: Counter[str] = Counter()
        self.equalities_assumed = 0
        self._simple: dict[int, tuple[Ref, ...]] = {}
        self._active: list[str] = []
        self._skip = current().skip

    @property
    def equalities(self) -> int:
        """How many symbols were found to equal something else."""
        return len(self._equal)

    def assume(self, checks: object) -> None:
        super().assume(checks)  # type: ignore[arg-type]
        self.equalities_assumed = self.equalities

    def region(self, region: Step) -> Step:
        return simplify(region)

    def outputs(self, index: int) -> tuple[Ref, ...]:
        found = self._simple.get(index)
        if found is None:
            own = super().outputs(index)
            # A rule that comes back to its own root meets this and so has changed nothing.
            self._simple[index] = own
            found = self._simple[index] = self._simplest(index, own)
        return found

    def _simplest(self, index: int, own: tuple[Ref, ...]) -> tuple[Ref, ...]:
        node = self.nodes[index]
        op = opdef.lookup(node.op)
        if node.op in SOURCES or op is None:
            return own
        if op.stateful:
            return self._expanded(op, node) or own
        if node.inputs:
            found = self._folded(op, node) or self._known_outputs(own) or self._expanded(op, node)
            if found is not None:
                return found
        for rule in rules_for(op):
            if rule.__name__ in self._skip:
                continue
            self._enter(rule.__name__)
            result = rule(self, node)
            self._active.pop()
            if result is None:
                continue
            refs = (result,) if isinstance(result, Ref) else result
            if refs != own and len(refs) == len(own) and all(map(self._same_type, refs, own)):
                self._burn(rule.__name__)
                return refs
        return own

    def _same_type(self, a: Ref, b: Ref) -> bool:
        have, want = self.type(a), self.type(b)
        return have == want or (
            have.dtype is want.dtype and tuple(map(self.resolve, have.dims)) == tuple(map(self.resolve, want.dims))
        )

    def _enter(self, name: str) -> None:
        self._active.append(name)
        if len(self._active) > DEPTH:
            raise _loop(Counter(self._active))

    def _burn(self, name: str) -> None:
        self.fired[name] += 1
        self.fuel -= 1
        if self.fuel < 0:
            raise _loop(self.fired)

    def _folded(self, op: OpDef, node: Node) -> tuple[Ref, ...] | None:
        """f(constants) -> constant"""
        sources = [self.nodes[ref.node] for ref in node.inputs]
        if op.reference is None or any(source.op != "Const" for source in sources):
            return None
        limit = INLINE_BYTES if op.name in SPREADING else FOLDED_BYTES
        sizes = [type_.bytes for type_ in node.types]
        if any(isinstance(size, int) and size > limit for size in sizes):
            return None
        arrays = [source.attr["value"].array for source in sources]
        if any(not isinstance(size, int) for size in sizes) and sum(array.nbytes for array in arrays) > limit:
            return None
        try:
            results = run_op(op, self.call(node), arrays)
        except OpFailure:
            return None  # it fails when it runs, as the user's op
        if sum(array.nbytes for array in results) > limit:
            return None
        return tuple(self.const(array, type_.dtype) for array, type_ in zip(results, node.types, strict=True))

    def _known_outputs(self, own: tuple[Ref, ...]) -> tuple[Ref, ...] | None:
        """An integer value that follows from extents -> _Dims"""
        if not own:
            return None
        values = []
        for ref in own:
            value = self.known(ref) if self.type(ref).dtype.is_integer else None
            if value is None or any(is_late(e) or (value.ndim > 1 and not isinstance(e, int)) for e in value.ravel()):
                return None
            values.append(value)
        return tuple([self._extents(value, ref) for value, ref in zip(values, own)])

    def _extents(self, value: np.ndarray, ref: Ref) -> Ref:
        dtype = self.type(ref).dtype
        if value.ndim > 1:
            return self.const(value.astype(dtype.np), dtype)
        return self.dims(tuple(value) if value.ndim else value.item(), dtype)

    def _expanded(self, op: OpDef, node: Node) -> tuple[Ref, ...] | None:
        """composite -> its expansion"""
        if not isinstance(op.lower, Composite) or node.host:
            return None
        self._enter(f"expansion of {op.name}")
        refs = expand_node(self, op, node)
        self._active.pop()
        self._burn(f"expansion of {op.name}")
        return refs
