"""Steps with several ops that may have to wait for queues: none may keep the others from starting.

One op after the other, a step that fills the queue which it also empties could wait for itself. So each such op is
parted: it starts as soon as its inputs are there, and is waited for when nothing else is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepjit_compiler import opdef
from stepjit_compiler.ir import Ref
from stepjit_compiler.passes.needed import StepError
from stepjit_runtime.errors import OpFailure

if TYPE_CHECKING:
    from stepjit_compiler.passes.prune import Translation


def _starts() -> Mapping[str, str]:
    # Whoever only imports stepjit shall not load the op families, which takes time.
    from stepjit_compiler.ops.queues import STARTS

    return STARTS


def waiting_ops(ops: Sequence[Any]) -> frozenset[Any]:
    """The ops to be parted; none where there is but one."""
    starts = _starts()
    found = frozenset(op for op in ops if op.type in starts)
    return found if len(found) > 1 else frozenset()


class Waits:
    """The parted ops of a step, while it is translated."""

    def __init__(self, ops: Sequence[Any], parted: frozenset[Any]) -> None:
        self.parted = parted
        self._left = [op for op in ops if op in parted]
        """Those that are not started yet."""
        self._all = frozenset(ops)
        self._tickets: dict[Any, Ref] = {}

    def translate(self, translation: Translation, op: Any, done: Mapping[Any, Any]) -> None:
        """Start all that can be, and wait for `op`; `done` holds the ops that were translated."""
        for other in list(self._left):
            before = (*(tensor.op for tensor in other.inputs if tensor not in translation.fed), *other.control_inputs)
            if all(each in done for each in before if each in self._all):
                self._left.remove(other)
                self._start(translation, other)
        attrs: dict[str, Any] = {}
        if op.outputs:
            attrs["component_types"] = op.attrs["component_types"]
            if op in translation.request.shapes:
                attrs["_shapes"] = translation.request.shapes[op]
        node = self._add(translation, op, "_QueueTaken" if op.outputs else "_QueueDone", [self._tickets[op]], attrs)
        translation._set(op, [Ref(node, k) for k in range(len(op.outputs))])

    def _start(self, translation: Translation, op: Any) -> None:
        kind = _starts()[op.type]
        definition = opdef.lookup(kind)
        assert definition is not None
        attrs = {name: value for name, value in op.attrs.items() if name in definition.attr}
        inputs = [translation._value(tensor) for tensor in op.inputs]
        self._tickets[op] = Ref(self._add(translation, op, kind, inputs, attrs), 0)

    @staticmethod
    def _add(translation: Translation, op: Any, kind: str, inputs: Sequence[Ref], attrs: Mapping[str, Any]) -> int:
        builder = translation.builder
        before, builder.origin = builder.origin, translation.number(op)
        try:
            node = builder.add(kind, inputs, attrs, translation.effects[-1:])
        except OpFailure as failure:
            raise StepError(op, failure) from None
        finally:
            builder.origin = before
        translation.effects.append(node)
        return node
