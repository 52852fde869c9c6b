"""Steps that are computed in stages, as their feeds come in.

A `Plan` says, for a set of fetches, targets and feeds, which ops can run once which feeds are there. Every op runs in
the first stage in which it can, so that what has been done follows from what has been given: both are a bit mask.
A stage is a compiled step of its own. It takes the new feeds and what earlier stages left for it, and gives what was
asked for and what later stages need.

Not kept but made anew in each stage: constants and arithmetic on shapes (the compiler wants to see them) and handles
of variables and queues. What reads a variable runs once, like any op.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stepjit.session.steps import Binding, SessionStep
from stepjit_compiler import opdef
from stepjit_compiler.lowering import Update
from stepjit_compiler.passes.prune import VARIABLES
from stepjit_runtime import abi, dtypes, forking
from stepjit_runtime.executable import Layout

if TYPE_CHECKING:
    from stepjit.session.session import BaseSession

START = 1
"""The bit of every op: nothing runs before the first stage."""

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
_OF_SHAPES = ("Shape", "ShapeN", "Size", "Rank")
_IDLE = ("NoOp", "ControlTrigger")
_BLOCKING = ("QueueDequeue", "QueueEnqueue", "ReaderRead", "Barrier", "Stage", "Unstage", "IteratorGetNext")
"""How the types of ops begin that may wait for other threads: they run when they are asked for."""


class Stage:
    """What one call has to run: from `feeds` (tensors whose values are there) to the values of `outputs`."""

    __slots__ = ("call", "dead", "feeds", "outputs")

    def __init__(
        self, feeds: Sequence[Any], outputs: Sequence[Any], call: Callable[..., Any] | None, dead: Sequence[Any]
    ) -> None:
        self.feeds, self.outputs, self.call = tuple(feeds), tuple(outputs), call
        self.dead = tuple(dead)
        """Tensors whose values none needs any more."""


class _Done(Collection[Any]):
    """The ops that ran before a stage."""

    def __init__(self, plan: Plan, before: int) -> None:
        self._plan, self._before = plan, before

    def __contains__(self, op: object) -> bool:
        if op in self._plan.given:
            return True
        mask = self._plan.masks.get(op)
        return mask is not None and not mask & ~self._before and op not in self._plan.remade

    def __iter__(self) -> Iterator[Any]:
        return (op for op in self._plan.masks if op in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Plan:
    """In which stages the fetches and targets are computed; shared by all that compute the same."""

    def __init__(
        self, session: BaseSession, fetches: tuple[Any, ...], targets: tuple[Any, ...], feeds: tuple[Any, ...]
    ) -> None:
        self._session, self.fetches, self.targets = session, fetches, targets
        self.bits = {tensor: 2 << k for k, tensor in enumerate(feeds)}
        """By feed: the bit that is set once it is there."""
        self.given = {tensor.op: bit for tensor, bit in self.bits.items() if tensor.op.type in _PLACEHOLDERS}
        """By placeholder that is fed: what to wait for where an op comes after it."""
        self.all_feeds = sum(self.bits.values())
        self._gates = 2 << len(feeds)
        self.masks: dict[Any, int] = dict.fromkeys(self._ordered(), START)
        """By op: the feeds that it needs (and START, and the ops it needs that may block)."""
        self.blocking = self._spread_masks()
        self.remade = self._find_remade()
        """Ops that each stage makes anew for itself."""
        self.starts_alone = any(not self.masks[op] & self.all_feeds for op in targets)
        """Whether a target needs no feed."""
        self._stages: dict[tuple[int, int], Stage] = {}
        self._live: dict[int, frozenset[Any]] = {0: frozenset()}
        self._lock = forking.lock()

    def mask(self, tensor: Any) -> int:
        """What the tensor needs."""
        return self.bits.get(tensor) or self.masks[tensor.op]

    def goal(self, given: int, asked: Iterable[Any]) -> int:
        """How far to go when `given` is there: START, and the blocking ops that are asked for or needed by targets."""
        goal = given | START
        if self.blocking:
            needed = 0
            for mask in (*map(self.mask, asked), *(self.masks[op] for op in self.targets)):
                if not mask & self.all_feeds & ~given:
                    needed |= mask
            goal |= needed & self.blocking
        return goal

    def stage(self, before: int, after: int) -> Stage:
        """The stage that goes from one set of bits to a larger one."""
        found = self._stages.get((before, after))
        if found is None:
            with self._lock:
                found = self._stages.get((before, after))
                if found is None:
                    found = self._stages[before, after] = self._make(before, after)
        return found

    def live(self, at: int) -> frozenset[Any]:
        """The tensors whose values stages from there on need."""
        return self._live[at]

    # --- what needs what ---

    def _before(self, op: Any) -> Iterator[Any]:
        """The ops whose results or ends `op` waits for."""
        for tensor in op.inputs:
            if tensor not in self.bits:
                yield tensor.op
        for each in op.control_inputs:
            if each not in self.given:
                yield each

    def _ordered(self) -> list[Any]:
        """The ops to run, each after those that it needs (but for loops)."""
        found: list[Any] = []
        seen: set[Any] = set()
        for root in (*(tensor.op for tensor in self.fetches), *self.targets):
            if root in seen:
                continue
            seen.add(root)
            path = [(root, self._before(root))]
            while path:
                op, rest = path[-1]
                following = next((each for each in rest if each not in seen), None)
                if following is None:
                    found.append(op)
                    path.pop()
                else:
                    seen.add(following)
                    path.append((following, self._before(following)))
        return found

    def _spread_masks(self) -> int:
        """Work out the masks; gives the bits of the ops that may block."""
        masks, blocking = self.masks, 0
        for op in masks:
            if op.type.startswith(_BLOCKING):
                masks[op] |= self._gates << blocking.bit_count()
                blocking |= masks[op] & ~START
        changed = True
        while changed:  # a second time to see that nothing changes; more often for loops alone
            changed = False
            for op, mask in masks.items():
                wider = mask
                for tensor in op.inputs:
                    wider |= self.bits.get(tensor) or masks[tensor.op]
                for each in op.control_inputs:
                    wider |= self.given[each] if each in self.given else masks[each]
                if wider != mask:
                    masks[op], changed = wider, True
        return blocking

    def _find_remade(self) -> frozenset[Any]:
        found: set[Any] = set()
        for op in self.masks:
            if self._is_handle_op(op, found) or self._is_shape_arithmetic(op, found):
                found.add(op)
        return frozenset(found)

    def _is_handle_op(self, op: Any, remade: Collection[Any]) -> bool:
        if op.type in VARIABLES:
            return True
        if not op.outputs or not all(map(_is_handle, op.outputs)):
            return False
        return all(_is_handle(t) and t not in self.bits and t.op in remade for t in op.inputs) and not _updates(op)

    def _is_shape_arithmetic(self, op: Any, remade: Collection[Any]) -> bool:
        definition = opdef.lookup(op.type)
        if definition is None or definition.stateful or _updates(op) or op.type in _PLACEHOLDERS:
            return False
        if any(map(_is_handle, op.inputs)):
            return False
        if op.type in _OF_SHAPES:
            return True
        if op.type != "Const" and not (definition.symbolic and all(t.dtype.is_integer for t in op.outputs)):
            return False
        return all(t not in self.bits and t.op in remade for t in op.inputs)

    # --- stages ---

    def _make(self, before: int, after: int) -> Stage:
        new = [op for op, mask in self.masks.items() if not mask & ~after and mask & ~before]
        run = sorted((op for op in new if op not in self.remade), key=lambda op: op._id)
        live = self._live_after(after)
        fresh = [t for t in self.fetches if not self.mask(t) & ~after and self.mask(t) & ~before]
        kept = [t for op in run for t in op.outputs if t in live]
        outputs = list(dict.fromkeys(fresh + kept))
        feeds = list(self._sources([*run, *(t.op for t in fresh)], frozenset(run)))
        idle = not outputs and all(op.type in _IDLE for op in run)
        call = None if idle else self._step(before, run, outputs, feeds)
        had = {*self._live[before], *feeds, *outputs, *(t for t, bit in self.bits.items() if bit & after & ~before)}
        return Stage(feeds, outputs, call, [t for t in had if t not in live])

    def _step(self, before: int, run: Sequence[Any], outputs: Sequence[Any], feeds: Sequence[Any]) -> Any:
        step = SessionStep(self._session, tuple(outputs), tuple(run), tuple(feeds))
        step.done, step.refs = _Done(self, before), self._refs(run, before)
        self._session._steps[self, before, step.targets, step.fetches] = step
        binding = Binding(step, Layout(abi.PACK_LIST, tuple(range(len(outputs)))))
        return binding.callable

    def _live_after(self, after: int) -> frozenset[Any]:
        """The tensors that are there by then and that later ops want."""
        found = self._live.get(after)
        if found is None:
            later = [op for op, mask in self.masks.items() if mask & ~after and op not in self.remade]
            later += [t.op for t in self.fetches if self.mask(t) & ~after]
            found = frozenset(t for t in self._sources(later, frozenset()) if not self.mask(t) & ~after)
            self._live[after] = found
        return found

    def _sources(self, ops: Iterable[Any], inside: Collection[Any]) -> dict[Any, None]:
        """The values that the ops need from elsewhere, themselves or through what is made anew."""
        found: dict[Any, None] = {}
        pending = list(dict.fromkeys(ops))
        seen = set(pending)
        while pending:
            for tensor in pending.pop().inputs:
                op = tensor.op
                if tensor in self.bits:
                    found[tensor] = None
                elif op in self.remade:
                    if op not in seen:
                        seen.add(op)
                        pending.append(op)
                elif op not in inside and self._variable(tensor) is None:
                    found[tensor] = None
        return found

    def _variable(self, tensor: Any) -> Any:
        """The variable's op that a reference refers to, if it is one."""
        while tensor.dtype._is_ref_dtype and tensor not in self.bits:
            op = tensor.op
            if op.type in VARIABLES:
                return op
            definition = opdef.lookup(op.type)
            if definition is None or not isinstance(definition.lower, Update):
                return None
            tensor = op.inputs[definition.lower.slots[0]]
        return None

    def _refs(self, run: Iterable[Any], before: int) -> dict[Any, Any]:
        """What references from earlier stages refer to."""
        done = _Done(self, before)
        found = {}
        for op in run:
            for tensor in op.inputs:
                if tensor not in self.bits and tensor.op in done:
                    variable = self._variable(tensor)
                    if variable is not None:
                        found[tensor] = variable
        return found


def _is_handle(tensor: Any) -> bool:
    return tensor.dtype._is_ref_dtype or tensor.dtype is dtypes.resource


def _updates(op: Any) -> bool:
    definition = opdef.lookup(op.type)
    return definition is not None and isinstance(definition.lower, Update)
