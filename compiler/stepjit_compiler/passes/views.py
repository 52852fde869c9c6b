"""Views of variables: tensors like `v/read` that have no memory of their own.

What reads a view gets what the variable holds by then: the value of the last write that the reader comes after, by
data or by control dependencies. A reader that no order binds to a write gets what the variable held when the view
was made. A fetched view is what the variable holds in the end, unless an op was told to wait for the view: that asks
for the value from before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepjit_compiler.ir import Ref

PASSING = ("Identity", "StopGradient", "PreventGradient")
"""Ops whose result is their input's memory."""

Write = tuple[int, Ref]
"""(number, value); of two writes to a variable the one of the larger number comes after the other."""

_NONE: Mapping[int, Write] = {}


class Views:
    """The views of a step and the writes that each op comes after, while the step is translated op by op."""

    def __init__(self) -> None:
        self.slots: dict[Any, int] = {}
        """By view: the slot of its variable."""
        self._since: dict[Any, int] = {}
        """By view: the write that its value was."""
        self._count = 0
        self._last: dict[int, Write] = {}
        self._before: dict[Any, Mapping[int, Write]] = {}
        """By op that comes after writes, or makes one: by slot the last of them."""
        self._seen, self._made = _NONE, dict[int, Write]()
        self._waited_for: set[Any] = set()
        """Ops that others wait for though they take nothing from them."""

    def begin(self, op: Any) -> None:
        """From here on `op` is translated."""
        self._waited_for.update(op.control_inputs)
        if not self._before:
            return
        found = [self._before[each] for each in self._sources(op) if each in self._before]
        self._seen = found[0] if found else _NONE
        if any(each is not found[0] for each in found):
            merged: dict[int, Write] = {}
            for each in found:
                for slot, write in each.items():
                    if slot not in merged or merged[slot][0] < write[0]:
                        merged[slot] = write
            self._seen = merged

    @staticmethod
    def _sources(op: Any) -> list[Any]:
        return [*(tensor.op for tensor in op.inputs), *op.control_inputs]

    def end(self, op: Any) -> None:
        """The op is translated."""
        if self._made:
            self._before[op], self._made = {**self._seen, **self._made}, {}
        elif self._seen:
            self._before[op] = self._seen

    def write(self, slot: int, value: Ref) -> None:
        """The op gives a variable that value."""
        self._count += 1
        self._last[slot] = self._made[slot] = (self._count, value)

    def add(self, view: Any, slot: int, newest: bool) -> None:
        """A view is made, of what the variable holds after all writes so far (`newest`), or after those before it."""
        self.slots[view] = slot
        self._since[view] = (self._last if newest else self._seen).get(slot, (0,))[0]

    def value(self, view: Any, value: Ref) -> Ref:
        """What the op that is translated reads from a view whose value was `value` when it was made."""
        number, written = self._seen.get(self.slots[view], (0, value))
        return written if number > self._since[view] else value

    def is_outdated(self, view: Any) -> bool:
        """Whether a fetch of the view is to give what was written to the variable since the view was made."""
        return view.op not in self._waited_for and self._last.get(self.slots[view], (0,))[0] > self._since[view]
