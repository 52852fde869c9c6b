"""`partial_run_setup` and `partial_run`: one step whose feeds come and whose fetches go in several calls.

What a call has to run is a `Stage` of the `Plan` for what was set up; the values that later calls need stay with the
handle. A handle ends when all its feeds are given and its fetches taken, when a call of it fails in mid-run, and with
its session.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepjit.framework.tensor import Tensor
from stepjit.session.feeds import check_feedable, convert_feed, feed_tensors, feed_values
from stepjit.session.fetches import Fetches
from stepjit.session.options import Limit
from stepjit.session.stages import Plan
from stepjit_runtime import forking
from stepjit_runtime.errors import InvalidArgumentError, OpError

if TYPE_CHECKING:
    from stepjit.session.session import BaseSession

_numbers = itertools.count()


def _invalid(message: str) -> OpError:
    return InvalidArgumentError(None, None, message)


class _Call:
    """What a call of `partial_run` asks for: the tensors behind its keys, and its fetches."""

    def __init__(self, session: BaseSession, structure: Any, keys: Sequence[Any]) -> None:
        self.feeds = [feed_tensors(session.graph, key) for key in keys]
        flat = [*itertools.chain(*self.feeds)]
        for tensor in flat:
            check_feedable(session.graph, tensor)
        self._single = len(flat) == len(keys) and not any(isinstance(key, tuple) for key in keys)
        self._flat, self._tensors = flat, session._resources.tensors
        self.fetches = Fetches(session.graph, structure, session._resources.tensors)
        if self.fetches.targets:
            raise RuntimeError(
                "partial_run() requires empty `target_list`: operations are named in partial_run_setup() and run as "
                "soon as they can."
            )
        self.asked = self.fetches.tensors

    def arrays(self, feed_dict: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
        """What is fed, by tensor."""
        values: Sequence[Any] = [*feed_dict.values()]
        if not self._single:
            items = zip(self.feeds, feed_dict.items(), strict=True)
            values = [each for tensors, (key, given) in items for each in feed_values(key, len(tensors), given)]
        tensors = self._tensors
        return {feed: convert_feed(feed, value, tensors) for feed, value in zip(self._flat, values)}


class _Run:
    """The state behind one handle."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.lock = plan, forking.lock()
        self.given = self.at = 0
        """Bits of the feeds given so far; bits up to which the plan has run."""
        self.values: dict[Any, Any] = {}
        """Values that are still needed."""
        self.waiting = set(plan.fetches)
        """Fetches not taken yet."""
        self.ended = False
        self.failure: BaseException | None = None
        """What went wrong before the first call."""

    @property
    def finished(self) -> bool:
        return not self.waiting and self.given == self.plan.all_feeds

    def check(self, feeds: Mapping[Any, Any], asked: Sequence[Any]) -> int:
        """The bits of the feeds, when the call is right."""
        plan, given = self.plan, 0
        for tensor in feeds:
            bit = plan.bits.get(tensor)
            if bit is None:
                raise _invalid(f"The feed {tensor.name} was not specified in partial_run_setup.")
            if bit & self.given:
                raise _invalid(f"The feed {tensor.name} has already been fed.")
            given |= bit
        for tensor in asked:
            if tensor not in self.waiting:
                if tensor in plan.fetches:
                    raise _invalid(f"The fetch {tensor.name} has already been fetched.")
                raise _invalid(f"The fetch {tensor.name} was not specified in partial_run_setup.")
        for tensor in asked:
            missing = plan.mask(tensor) & plan.all_feeds & ~(self.given | given)
            if missing:
                names = ", ".join(feed.name for feed, bit in plan.bits.items() if bit & missing)
                raise _invalid(
                    f"Fetch {tensor.name} can't be computed from the feeds that have been fed so far; missing: {names}."
                )
        return given

    def advance(self, arrays: Mapping[Any, Any], given: int, asked: Sequence[Any]) -> None:
        """Run what has become possible; `arrays` are the caller's own values."""
        self.given |= given
        self.values.update(arrays)
        after = self.plan.goal(self.given, asked)
        if after == self.at:
            return
        stage = self.plan.stage(self.at, after)
        if stage.call is not None:
            found = stage.call(*[self.values[tensor] for tensor in stage.feeds])
            self.values.update(zip(stage.outputs, found, strict=True))
        self.at = after
        for tensor in stage.dead:
            if tensor not in self.waiting:
                self.values.pop(tensor, None)
        for tensor in arrays:
            if tensor in self.values:
                self.values[tensor] = _own(arrays[tensor])

    def take(self, asked: Sequence[Any]) -> list[Any]:
        """The values of fetches, which become the caller's."""
        live = self.plan.live(self.at)
        found = []
        for tensor in asked:
            value = self.values[tensor]
            if tensor not in live:
                del self.values[tensor]
            elif isinstance(value, np.ndarray):
                value = value.copy()
            found.append(value)
        self.waiting.difference_update(asked)
        return found


def _own(array: np.ndarray) -> np.ndarray:
    """A value that no one else can change."""
    return array.copy() if array.flags.writeable or array.base is not None else array


class PartialRuns:
    """The partial runs of a session."""

    def __init__(self, session: BaseSession) -> None:
        self._session = session
        self._plans: dict[Any, Plan] = {}
        self._runs: dict[str, _Run] = {}
        self._calls: dict[Any, _Call] = {}

    def setup(self, structure: Any, feeds: Any) -> str:
        """A new handle; InvalidArgumentError for a feed given twice or also fetched, and for nothing to do."""
        run = _Run(self._plan_for(structure, feeds))
        if run.plan.starts_alone:
            try:
                self._limited(run, {}, 0, ())
            except Exception as error:
                run.failure = error
        handle = f"partial_run/{next(_numbers)}"
        self._runs[handle] = run
        return handle

    def _plan_for(self, structure: Any, feeds: Any) -> Plan:
        keys = feeds if isinstance(feeds, (list, tuple)) else [] if feeds is None else [feeds]
        key = _leaves(structure, keys)
        found = self._plans.get(key) if key is not None else None
        if found is None:
            found = self._new_plan(structure, keys)
            if key is not None:
                self._plans[key] = found
        return found

    def _new_plan(self, structure: Any, keys: Sequence[Any]) -> Plan:
        graph = self._session.graph
        tensors = [tensor for key in keys for tensor in feed_tensors(graph, key)]
        fetches = Fetches(graph, structure)
        if not fetches.tensors and not fetches.targets:
            raise _invalid("Must specify at least one target to fetch or execute.")
        fed: set[Any] = set()
        for tensor in tensors:
            if tensor in fed:
                raise _invalid(f"{tensor.name} fed more than once")
            fed.add(tensor)
        for tensor in fetches.tensors:
            if tensor in fed:
                raise _invalid(f"{tensor.name} is both fed and fetched.")
        what = fetches.tensors, fetches.targets, tuple(tensors)
        return self._plans.get(what) or self._plans.setdefault(what, Plan(self._session, *what))

    def run(self, handle: Any, structure: Any, feed_dict: Any) -> Any:
        """The fetches of one call; errors as `BaseSession.partial_run` tells."""
        if feed_dict and not isinstance(feed_dict, Mapping):
            raise TypeError(f"feed_dict must be a mapping, not {type(feed_dict).__name__}")
        feed_dict = feed_dict or {}
        call = self._call(structure, feed_dict)
        arrays = call.arrays(feed_dict)
        if not arrays and not call.asked:
            return call.fetches.rebuild(())
        run = self._runs.get(handle) if isinstance(handle, str) else None
        if run is None:
            raise _invalid("Must run 'setup' before performing partial runs!")
        with run.lock:
            found = self._advance(handle, run, arrays, call.asked)
        return call.fetches.rebuild(found)

    def _advance(self, handle: str, run: _Run, arrays: Mapping[Any, Any], asked: Sequence[Any]) -> list[Any]:
        if run.ended:  # by another thread, while this one waited for it
            raise _invalid("Must run 'setup' before performing partial runs!")
        given = run.check(arrays, asked)
        try:
            if run.failure is not None:
                raise run.failure
            self._limited(run, arrays, given, asked)
        except BaseException:
            self._end(handle, run)
            raise
        found = run.take(asked)
        if run.finished:
            self._end(handle, run)
        return found

    def _limited(self, run: _Run, arrays: Mapping[Any, Any], given: int, asked: Sequence[Any]) -> None:
        seconds = self._session._config.time_limit
        if seconds is None:
            run.advance(arrays, given, asked)
            return
        with Limit(seconds):
            run.advance(arrays, given, asked)

    def _end(self, handle: str, run: _Run) -> None:
        run.ended = True
        run.values.clear()
        self._runs.pop(handle, None)

    def _call(self, structure: Any, feed_dict: Mapping[Any, Any]) -> _Call:
        key = _leaves(structure, feed_dict)
        found = self._calls.get(key) if key is not None else None
        if found is None:
            found = _Call(self._session, structure, list(feed_dict))
            if key is not None:
                self._calls[key] = found
        return found


def _leaves(structure: Any, keys: Iterable[Any]) -> Any:
    """What may stand for fetches and keys: all of them as leaves. Structures may change, though they hash the same."""
    kind = type(structure)
    fetched = structure if kind is list or kind is tuple else (structure,)
    for each in fetched:
        if type(each) is not Tensor and not Fetches.is_leaf(each):
            return None
    found = (kind if fetched is structure else None, *fetched, None, *keys)
    try:
        hash(found)
    except TypeError:
        return None
    return found
