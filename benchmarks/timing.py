"""Timing loops: the call is compiled into the loop as text, so that no wrapper of ours is measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any


class Variant:
    """One way of running a workload: an expression over names, timed as written."""

    def __init__(
        self,
        call: str,
        names: dict[str, Any],
        results: Callable[[], Any] | None = None,
        reset: Callable[[], Any] | None = None,
    ) -> None:
        space: dict[str, Any] = dict(names)
        parameters = ", ".join(f"{name}={name}" for name in names)
        text = (
            f"def loop(n, clock, repeat, {parameters}):\n"
            f"    start = clock()\n"
            f"    for _ in repeat(None, n):\n"
            f"        {call}\n"
            f"    return clock() - start\n"
            f"def once({parameters}):\n"
            f"    return {call}\n"
        )
        exec(text, space)
        self.loop: Callable[..., float] = space["loop"]
        self._once: Callable[[], Any] = space["once"]
        self._results, self._reset = results, reset

    def reset(self) -> None:
        """Start from the workload's initial state."""
        if self._reset is not None:
            self._reset()

    def results(self) -> Sequence[Any]:
        """What one more step returns, as a sequence of arrays."""
        values = self._results() if self._results is not None else self._once()
        if not isinstance(values, (tuple, list)):
            values = (values,)
        return [value for value in values if value is not None]


def call(function: Any, args: Sequence[Any], after: str = "", **more: Any) -> Variant:
    """A variant that calls `function` with `args`, then what `after` appends to the call."""
    names = {"f": function, **{f"a{i}": arg for i, arg in enumerate(args)}}
    return Variant(f"f({', '.join(list(names)[1:])}){after}", names, **more)


def seconds(variant: Variant, calls: int) -> float:
    """What `calls` calls take, with the collector off."""
    from itertools import repeat

    enabled = gc.isenabled()
    gc.disable()
    try:
        return variant.loop(calls, time.perf_counter, repeat)
    finally:
        if enabled:
            gc.enable()


def calls_for(variant: Variant, budget: float) -> int:
    """How many calls fill `budget` seconds, after a warm-up."""
    seconds(variant, 2)
    calls = 1
    while True:
        spent = seconds(variant, calls)
        if spent > budget / 4 or spent > 0.5:
            return max(1, round(calls * budget / spent))
        calls = max(calls * 2, min(calls * 20, round(calls * budget / max(spent, 1e-7) / 3)))


def best_per_call(variant: Variant, calls: int, budget: float) -> float:
    """Seconds per call of the best of the batches that fit into `budget`, three at least: interruptions only add."""
    seconds(variant, 1)
    spent = [seconds(variant, calls) for _ in range(3)]
    while sum(spent) < budget:
        spent.append(seconds(variant, calls))
    return min(spent) / calls
