"""Steps with RunOptions and RunMetadata, and the limits that a session's config sets to all of its steps.

Steps without options in sessions without limits never come here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepjit.session.callables import Made
from stepjit.session.config import is_message
from stepjit.session.failures import op_error
from stepjit.session.feeds import all_tensors
from stepjit.session.fetches import Fetches
from stepjit_runtime.cancellation import TimeLimit, check_time
from stepjit_runtime.errors import DeadlineExceededError, InvalidArgumentError, OpFailure, ResourceExhaustedError

if TYPE_CHECKING:
    from stepjit.explain import Explanation
    from stepjit.session.partitions import StepGraph
    from stepjit.session.session import BaseSession


@dataclass(frozen=True)
class StepOptions:
    """What a RunOptions asks for."""

    traced: bool = False
    time_limit: float | None = None
    """Seconds; None: the session's limit, if any."""
    thread_pool: int = 0
    partition_graphs: bool = False
    report_memory: bool = False


def read_options(options: Any) -> StepOptions:
    """The meaning of a RunOptions or None; TypeError for anything else."""
    if options is None:
        return StepOptions()
    if not is_message(options, "RunOptions"):
        raise TypeError(f"Argument `options` must be a tf.RunOptions, but got {type(options).__name__!r}")
    milliseconds = options.timeout_in_ms
    return StepOptions(
        traced=options.trace_level > 0,
        time_limit=milliseconds / 1e3 if milliseconds > 0 else None,
        thread_pool=options.inter_op_thread_pool,
        partition_graphs=options.output_partition_graphs,
        report_memory=options.report_tensor_allocations_upon_oom,
    )


def check_metadata(run_metadata: Any) -> None:
    """TypeError unless it is a RunMetadata or None."""
    if run_metadata is not None and not is_message(run_metadata, "RunMetadata"):
        raise TypeError(f"Argument `run_metadata` must be a tf.RunMetadata, but got {type(run_metadata).__name__!r}")


class _Current(threading.local):
    session: Any = None
    """The session whose step runs in this thread under options of its own."""


_current = _Current()


class Limit(TimeLimit):
    """After so many seconds what waits in a step ends, with a DeadlineExceededError, which blames no op.

    A step that nothing could end, and that comes out late, has failed too; what it did to variables stays.
    """

    __slots__ = ()

    def __exit__(self, kind: object = None, error: object = None, trace: object = None) -> None:
        try:
            if error is None:
                check_time()
        except OpFailure as failure:
            raise op_error(None, failure) from None
        finally:
            super().__exit__()
        if isinstance(error, DeadlineExceededError):
            raise DeadlineExceededError(None, None, error.message) from None


class _Wrapper(Made):
    """A callable around another one of a step."""

    def __init__(self, session: BaseSession, call: Callable[..., Any], fetches: Any, keys: Sequence[Any]) -> None:
        self._session, self._call, self._fetches, self._keys = session, call, fetches, tuple(keys)

    def explain(self) -> Explanation:
        """What was compiled for the step so far."""
        explanation: Explanation = self._call.explain()  # type: ignore[attr-defined]
        return explanation


# --- Sessions whose config concerns every step ---


def watched(session: BaseSession, call: Any, fetches: Any, keys: Sequence[Any]) -> Any:
    """The callable of a step as the session's config wants it: limited in time, counted for the cost model."""
    config = session._config
    if config.time_limit is None and not config.cost_model_every:
        return call
    return _Watched(session, call, fetches, keys)


class _Watched(_Wrapper):
    """A callable in a session whose config has a time limit or asks for costs."""

    def __init__(self, session: BaseSession, call: Callable[..., Any], fetches: Any, keys: Sequence[Any]) -> None:
        super().__init__(session, call, fetches, keys)
        self._identity = _identity(session, fetches, keys)
        self._seconds = session._config.time_limit

    def __call__(self, *args: Any) -> Any:
        """Run the step; one positional value for each feed."""
        _count(self._session, lambda: self._identity)
        if self._seconds is None or _current.session is self._session:
            return self._call(*args)
        with Limit(self._seconds):
            return self._call(*args)


def _identity(session: BaseSession, fetches: Any, keys: Sequence[Any]) -> Any:
    found = Fetches(session._graph, fetches)
    return found.tensors, found.targets, frozenset(all_tensors(session._graph, keys))


def _count(session: BaseSession, identity: Callable[[], Any]) -> None:
    if session._config.cost_model_every:
        key = identity()
        session._step_counts[key] = session._step_counts.get(key, 0) + 1


# --- Steps with options ---


def run_with_options(session: BaseSession, fetches: Any, feed_dict: Any, options: Any, run_metadata: Any) -> Any:
    """`Session.run` with options or metadata: TypeError for other kinds of objects."""
    asked = read_options(options)
    check_metadata(run_metadata)
    session._check_open()
    session._check_not_empty()
    if feed_dict and not isinstance(feed_dict, Mapping):
        return session.run(fetches, feed_dict)  # which says what is wrong
    return _Step(session, asked, run_metadata, fetches, feed_dict).run(lambda: session.run(fetches, feed_dict))


class CallableWithOptions(_Wrapper):
    """A callable that also takes `options` and `run_metadata`; by position too where there is no list of feeds."""

    def __init__(self, session: BaseSession, call: Callable[..., Any], fetches: Any, feed_list: Any) -> None:
        super().__init__(session, call, fetches, feed_list or ())
        self._fed = feed_list is not None

    def __call__(self, *args: Any, options: Any = None, run_metadata: Any = None) -> Any:
        """Run the step; TypeError for other kinds of options and metadata."""
        if args and not self._fed:
            return self._without_feeds(*args, options=options, run_metadata=run_metadata)
        if options is None and run_metadata is None:
            return self._call(*args)
        asked = read_options(options)
        check_metadata(run_metadata)
        self._session._check_open()
        feed_dict = dict(zip(self._keys, args))
        return _Step(self._session, asked, run_metadata, self._fetches, feed_dict).run(lambda: self._call(*args))

    def _without_feeds(self, *args: Any, **named: Any) -> Any:
        given = {name: value for name, value in named.items() if value is not None}
        names = ("options", "run_metadata")[: len(args)]
        if len(args) > len(names) or given.keys() & set(names):
            raise TypeError("this step takes no feeds: its arguments are `options` and `run_metadata`")
        return self(**dict(zip(names, args)), **given)


class _Step:
    """One step that is run under options; what it tells about itself goes into `metadata` once it has succeeded."""

    def __init__(self, session: BaseSession, asked: StepOptions, metadata: Any, fetches: Any, feed_dict: Any) -> None:
        self._session, self._asked, self._metadata = session, asked, metadata
        self._fetches, self._feed_dict = fetches, feed_dict

    def run(self, call: Callable[[], Any]) -> Any:
        """Run the step; `call` does it without options."""
        if not -1 <= self._asked.thread_pool < self._session._config.thread_pools:
            self._refuse_thread_pool()
        costs = self._metadata is not None and self._costs_are_due()
        outer, _current.session = _current.session, self._session
        try:
            with Limit(self._asked.time_limit or self._session._config.time_limit):
                result, step_stats = self._run_step(call, self._asked.traced or costs)
        except ResourceExhaustedError as error:
            if not self._asked.report_memory:
                raise
            raise ResourceExhaustedError(None, error.op, _memory_report(self._session, error)) from None
        finally:
            _current.session = outer
        if self._metadata is not None:
            self._tell(step_stats, costs)
        return result

    def _refuse_thread_pool(self) -> None:
        """InvalidArgumentError if there is anything to run."""
        if self._graph().ops:
            raise InvalidArgumentError(None, None, f"Invalid inter_op_thread_pool: {self._asked.thread_pool}")

    def _costs_are_due(self) -> bool:
        """Whether the step is one of those after which costs are told."""
        config = self._session._config
        if not config.cost_model_every:
            return False
        count = self._session._step_counts.get(self._identity(), 0) + 1 - config.cost_model_after
        return count > 0 and count % config.cost_model_every == 0

    def _identity(self) -> Any:
        return _identity(self._session, self._fetches, tuple(self._feed_dict or ()))

    def _graph(self) -> StepGraph:
        """The ops that run; none when all there is to do is to hand back feeds."""
        from stepjit.session.partitions import StepGraph

        feeds = all_tensors(self._session._graph, tuple(self._feed_dict or ()))
        found = Fetches(self._session._graph, self._fetches)
        computed = [tensor for tensor in found.tensors if tensor not in feeds]
        return StepGraph(self._session._placement, computed, found.targets, feeds)

    def _run_step(self, call: Callable[[], Any], traced: bool) -> tuple[Any, Any]:
        """The step's result, and its StepStats if it is to be traced."""
        if not traced:
            return call(), None
        from stepjit.proto import MESSAGES
        from stepjit.session.step_stats import fill_step_stats
        from stepjit.session.trace import traced_run

        _count(self._session, self._identity)
        result, calls = traced_run(self._session, self._fetches, self._feed_dict)
        if not calls:
            return result, None
        stats = MESSAGES["StepStats"]()
        for each in calls:
            fill_step_stats(stats, each)
        return result, stats

    def _tell(self, step_stats: Any, costs: bool) -> None:
        if step_stats is None and not self._asked.partition_graphs:
            self._metadata.Clear()
            return
        from stepjit.proto import MESSAGES

        found = MESSAGES["RunMetadata"]()
        if step_stats is not None:
            found.step_stats.CopyFrom(step_stats)
        if costs or self._asked.partition_graphs:
            graph = self._graph()
            if costs:
                graph.costs(found.cost_graph, found.step_stats)
            if self._asked.partition_graphs:
                found.partition_graphs.extend(graph.partitions())
        # By way of bytes, since the object may be of TensorFlow's own class.
        self._metadata.ParseFromString(found.SerializeToString())


def _memory_report(session: BaseSession, error: Any) -> str:
    """The error's text and what the session holds, the largest first."""
    held = [(variable.record["bytes"], variable.name) for variable in session._resources.variables()]
    lines = [f"  {count} bytes in variable {name}" for count, name in sorted(held, reverse=True)]
    return "\n".join([error.message, f"{sum(count for count, _ in held)} bytes are in variables:", *lines])
