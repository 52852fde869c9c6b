"""Traced runs of a step: the same kernels compiled with clock reads between them, and what those tell.

    tracer = Tracer()
    run = session._callable(fetches, keys, True, tracer)
    run(*values)
    tracer.calls[-1]        # a TracedCall: which kernel ran when, and how large everything was

A traced step is a program of its own, so the steps that are not traced are as fast as ever. A tracer's callables write
to buffers of their own: any number of traced runs of a step may be under way, each with its tracer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from stepjit.session.failures import extents_of
from stepjit.session.steps import Binding, SessionStep, Variant
from stepjit_compiler import dims
from stepjit_runtime.executable import Layout
from stepjit_runtime.manifest import Manifest
from stepjit_runtime.trace import Clock, Event, TraceBuffer, clock

if TYPE_CHECKING:
    from stepjit.session.session import BaseSession
    from stepjit_compiler.dims import Extent
    from stepjit_compiler.passes.prune import Pruned


@dataclass(frozen=True)
class TracedCall:
    """One traced run of a step, from native code's first instruction to its last."""

    session: BaseSession
    step: SessionStep
    variant: Variant
    pruned: Pruned
    extents: dict[str, int]
    """Numbers of the program's symbols."""
    clock: Clock
    begin: int
    """In ticks of the clock, as are all times here."""
    end: int
    events: tuple[Event, ...]
    """Runs of kernels in the order of their ends."""
    totals: tuple[tuple[int, int], ...]
    """By kernel: how often it ran, and its ticks."""
    lost: int
    """Events that are in the totals only, since there were too many."""
    thread: int
    """The system's number of the thread that ran it."""

    @property
    def manifest(self) -> Manifest:
        """What the program says about itself."""
        return self.variant.executable.manifest

    @property
    def arena_bytes(self) -> int | None:
        """Bytes of the memory for temporary values."""
        return self.number(self.manifest.arena)

    def number(self, extent: str) -> int | None:
        """An extent of the manifest as it was in this run; None for one that changes within the run."""
        try:
            return dims.evaluate(parsed(extent), self.extents)
        except KeyError:
            return None


class Tracer:
    """Collects the runs of the callables that it binds."""

    def __init__(self) -> None:
        self.calls: list[TracedCall] = []

    def bind(
        self, session: BaseSession, key: tuple[Any, Any, Any], layout: Layout, exact: bool
    ) -> TracedBinding:
        """A callable of the step of (fetches, targets, feeds)."""
        step = session._traced_steps.get(key)
        if step is None:
            step = session._traced_steps.setdefault(key, TracedStep(session, *key))
        return TracedBinding(self, step, layout, exact)


class TracedStep(SessionStep):
    """A step whose variants are compiled with clock reads."""

    traced = True

    def __init__(self, session: BaseSession, fetches: Any, targets: Any, feeds: Any) -> None:
        super().__init__(session, fetches, targets, feeds)
        self.pruned: dict[int, Pruned] = {}
        """By id of a variant."""

    def _bind(self, pruned: Pruned, compiled: Any) -> Variant:
        variant = super()._bind(pruned, compiled)
        self.pruned[id(variant)] = pruned
        return variant


class TracedBinding:
    """What stands in a traced run for a `Binding`; for one thread at a time."""

    def __init__(self, tracer: Tracer, step: TracedStep, layout: Layout, exact: bool) -> None:
        self._tracer, self._step, self._layout, self._exact = tracer, step, layout, exact
        self._buffers: dict[int, tuple[Variant, TraceBuffer]] = {}
        self._binding = _Buffered(step, layout, exact, self._buffer)
        self._binding.prepare()
        self.explain = self._binding.explain

    def callable(self, *args: Any) -> Any:
        """Run the step, and note the run."""
        step = self._step
        count = len(step.feeds)
        if not self._exact and len(args) < count:
            fewer = (step.fetches, step.targets, step.feeds[: len(args)])
            return self._tracer.bind(step.session, fewer, self._layout, True).callable(*args)
        values = args if self._exact and len(args) != count else step.convert(args[:count])
        for _, buffer in self._buffers.values():
            buffer.clear()
        result = self._binding.callable(*values)
        self._note([array.shape for array in values])
        return result

    def _buffer(self, variant: Variant) -> TraceBuffer:
        buffer = TraceBuffer(len(variant.executable.manifest.kernels))
        self._buffers[id(variant)] = variant, buffer
        return buffer

    def _note(self, shapes: Sequence[tuple[int, ...]]) -> None:
        # A call may have been refused by other variants, which then have no end.
        variant, buffer = max(self._buffers.values(), key=lambda each: each[1].end)
        self._tracer.calls.append(
            TracedCall(
                session=self._step.session,
                step=self._step,
                variant=variant,
                pruned=self._step.pruned[id(variant)],
                extents=extents_of(shapes) | buffer.extents(),
                clock=clock(),
                begin=buffer.begin,
                end=buffer.end,
                events=tuple(buffer.events()),
                totals=tuple(buffer.totals()),
                lost=buffer.lost,
                thread=threading.get_native_id(),
            )
        )


class _Buffered(Binding):
    """A binding whose contexts have trace buffers."""

    def __init__(
        self, step: SessionStep, layout: Layout, exact: bool, buffer: Callable[[Variant], TraceBuffer]
    ) -> None:
        super().__init__(step, layout, exact)
        self._buffer = buffer

    def _context(self, variant: Variant) -> Any:
        buffer = self._buffer(variant)
        return variant.executable.context(self.slow, variant.fail, variant.hosts, self.layout, buffer)


def traced_run(session: BaseSession, fetches: Any, feed_dict: Any) -> tuple[Any, list[TracedCall]]:
    """What `session.run(fetches, feed_dict)` gives, and how it ran; no calls when there was nothing to compute."""
    tracer = Tracer()
    feeds = feed_dict or {}
    result = session._callable(fetches, list(feeds), True, tracer)(*feeds.values())
    return result, tracer.calls


@lru_cache(maxsize=4096)
def parsed(extent: str) -> Extent:
    """An extent of a manifest."""
    return dims.parse(extent)
