"""Session: runs steps of a graph and owns their state."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepjit.framework.graph import Graph
from stepjit.framework.stack import Entered, default_graphs, get_default_graph
from stepjit.session.callables import Home, Recipe, StructuredCallable
from stepjit.session.config import as_target, check_target, read_config
from stepjit.session.defaults import default_sessions
from stepjit.session.devices import Device, Placement
from stepjit.session.feeds import all_tensors, convert_feed, feed_tensors, feed_values
from stepjit.session.fetches import Fetches
from stepjit.session.growth import Growth
from stepjit.session.live import enlist, reset
from stepjit.session.options import CallableWithOptions, run_with_options, watched
from stepjit.session.steps import Binding, SessionStep
from stepjit_runtime import abi
from stepjit_runtime.errors import CancelledError
from stepjit_runtime.executable import Layout
from stepjit_runtime.resources import Resources

if TYPE_CHECKING:
    from stepjit.cache.stats import CacheStats

if TYPE_CHECKING:
    from stepjit.session.partial import PartialRuns

_LOG = logging.getLogger("tensorflow")

MANY_VARIANTS = 8
"""Variants of one step from which on a warning says what varies."""


def _shape_text(signature: Any) -> str:
    """A feed's part of a variant's signature: `[?,4]`, where `?` is any extent but those that have variants."""
    if not isinstance(signature, tuple):
        return str(signature)
    return f"[{','.join('?' if extent is None else str(extent) for extent in signature)}]"


@dataclass(frozen=True)
class CompileStats:
    """What a session has asked of the compiler."""

    steps: int
    """Distinct sets of fetches and feeds."""
    variants: int
    """Programs bound, one per signature."""
    compiled: int
    """Programs compiled for this session; the others were found in the cache."""
    seconds: float
    """Time spent, lookups included."""


class BaseSession:
    """What Session and InteractiveSession share."""

    _partial: PartialRuns | None = None

    _pruned_placement = False
    """Whether ops that no step needs may ask for devices that don't exist, whatever the config says."""

    def __init__(self, target: Any = "", graph: Graph | None = None, config: Any = None) -> None:
        self._target = as_target(target)
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"Argument `graph` must be a tf.Graph, but got {type(graph).__name__!r}")
        self._config = read_config(config, self._pruned_placement)
        check_target(self._target)
        self._graph = graph or get_default_graph()
        self._placement = Placement(self._config)
        self._resources = Resources()
        self._closed = False
        self._steps: dict[Any, SessionStep] = {}
        self._traced_steps: dict[Any, Any] = {}
        self._runs: dict[Any, Callable[..., Any]] = {}
        self._step_counts: dict[Any, int] = {}
        self._pickled: Home | None = None
        self._growth = Growth(self._graph)
        self._variants = 0
        self._sources: Counter[str] = Counter()
        self._seconds = 0.0
        enlist(self)

    # --- what it is ---

    @property
    def graph(self) -> Graph:
        """The graph that the session runs steps of."""
        return self._graph

    @property
    def graph_def(self) -> Any:
        """A new GraphDef of the graph as it is now."""
        return self._graph.as_graph_def(add_shapes=self._config.shapes_in_graph_def)

    @property
    def sess_str(self) -> bytes | None:
        """The target, as bytes."""
        return self._target

    def list_devices(self) -> list[Device]:
        """The devices that ops may be placed on; RuntimeError when the session is closed."""
        self._check_open()
        return self._placement.devices()

    def compile_stats(self) -> CompileStats:
        """How much was compiled for this session so far."""
        return CompileStats(len(self._steps), self._variants, self._sources["compiler"], self._seconds)

    def cache_stats(self) -> CacheStats:
        """Where the session's programs came from, and what the caches of the process hold and did."""
        from stepjit.cache.stats import cache_stats

        return cache_stats(self._sources)

    # --- running ---

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """Run one step; returns the values in the structure of `fetches`.

        fetches: a tensor, an op, a name, a variable, or any nesting of lists, tuples, mappings and attrs classes.
        feed_dict: from tensors (names, variables, tuples) to values; a fed tensor is not computed.
        options: a RunOptions; run_metadata: a RunMetadata, overwritten with what the options ask to be told.
        Raises RuntimeError when the session is closed or the graph empty, TypeError or ValueError for what can't be
        fetched or fed, and a `tf.errors.OpError` for what fails while it runs.
        """
        if options is not None or run_metadata is not None:
            return run_with_options(self, fetches, feed_dict, options, run_metadata)
        try:
            kind = type(fetches)
            key: Any = (kind, *fetches) if kind is list or kind is tuple else fetches
            run = self._runs[(key, *feed_dict) if feed_dict else key]
        except (KeyError, TypeError):
            return self._run_new(fetches, feed_dict)
        return run(*feed_dict.values()) if feed_dict else run()

    def _run_new(self, fetches: Any, feed_dict: Any) -> Any:
        self._check_open()
        self._check_not_empty()
        self._growth.look()
        if feed_dict and not isinstance(feed_dict, Mapping):
            raise TypeError(f"feed_dict must be a mapping, not {type(feed_dict).__name__}")
        feed_dict = feed_dict or {}
        self._check_feeds(feed_dict)
        run = watched(self, self._callable(fetches, list(feed_dict), exact=True), fetches, list(feed_dict))
        kind = type(fetches)
        try:
            key: Any = (kind, *fetches) if kind is list or kind is tuple else fetches
            # Mutable structures hash by identity, if at all: only what is its own value may stand for a step.
            if kind in (list, tuple) or Fetches.is_fixed(fetches):
                self._runs[(key, *feed_dict) if feed_dict else key] = run
        except TypeError:
            pass  # nested structures are mapped at each run; their steps are kept all the same
        return run(*feed_dict.values())

    def _check_feeds(self, feed_dict: Mapping[Any, Any]) -> None:
        """Report a wrong feed before a wrong fetch."""
        for key, value in feed_dict.items():
            tensors = feed_tensors(self._graph, key)
            for tensor, each in zip(tensors, feed_values(key, len(tensors), value), strict=True):
                convert_feed(tensor, each, self._resources.tensors)
                all_tensors(self._graph, [tensor])

    def partial_run_setup(self, fetches: Any, feeds: Any = None) -> str:
        """A handle for a step whose feeds and fetches, all named here, come and go in several `partial_run`s.

        Operations among `fetches` run as soon as they can. Raises RuntimeError when the session is closed or the graph
        empty, TypeError or ValueError for what can't be fetched or fed, InvalidArgumentError for what is given twice.
        """
        self._check_open()
        self._check_not_empty()
        return self._partial_runs().setup(fetches, feeds)

    def partial_run(self, handle: Any, fetches: Any, feed_dict: Any = None) -> Any:
        """Give some feeds of a handle and take some fetches; each may be given or taken once. Handle None: a plain run.

        Every op runs once per handle, when the feeds that it needs are there. Raises as `run` does, and
        InvalidArgumentError for what was not set up, is given or taken again, or can't be computed yet. A call that
        fails while it runs ends its handle; one that is refused changes nothing.
        """
        if handle is None:
            return self.run(fetches, feed_dict)
        self._check_open()
        self._check_not_empty()
        return self._partial_runs().run(handle, fetches, feed_dict)

    def _partial_runs(self) -> PartialRuns:
        if self._partial is None:
            from stepjit.session.partial import PartialRuns

            return vars(self).setdefault("_partial", PartialRuns(self))  # of several threads one makes it
        return self._partial

    def make_callable(self, fetches: Any, feed_list: Any = None, accept_options: bool = False) -> Any:
        """A function of the feeds in `feed_list` that returns what `run` would: the fast path for loops.

        Steps of fully known shapes are compiled now, others at the first call. Raises TypeError or ValueError for
        what can't be fetched or fed.
        """
        self._check_open()
        self._check_not_empty()
        self._growth.look()
        if feed_list is not None and not isinstance(feed_list, (list, tuple)):
            raise TypeError(f"Argument `feed_list` must be a list or tuple, not {type(feed_list).__name__}.")
        keys, exact = list(feed_list or ()), feed_list is None
        made: Any = watched(self, self._callable(fetches, keys, exact), fetches, keys)
        if accept_options:
            made = CallableWithOptions(self, made, fetches, feed_list)
        made.recipe = Recipe(self, fetches, feed_list, accept_options)
        return made

    def _callable(self, structure: Any, keys: Sequence[Any], exact: bool, tracer: Any = None) -> Callable[..., Any]:
        """The step as a function; what it calls is bound by the `Tracer`, if one is given."""
        feeds = all_tensors(self._graph, keys)
        fetches = Fetches(self._graph, structure, self._resources.tensors)
        plain = all(not isinstance(key, tuple) and len(feed_tensors(self._graph, key)) == 1 for key in keys)
        fed = [tensor for tensor in fetches.tensors if tensor in feeds]
        distinct = tuple(dict.fromkeys(feeds))
        layout = fetches.layout()
        if plain and not fed and layout is not None and len(distinct) == len(feeds):
            return self._bind((fetches.tensors, fetches.targets, distinct), layout, exact, tracer).callable
        return self._structured(fetches, keys, feeds, exact, tracer)

    def _bind(self, key: tuple[Any, Any, Any], layout: Layout, exact: bool, tracer: Any = None) -> Any:
        """A callable of the step of (fetches, targets, feeds)."""
        if tracer is not None:
            return tracer.bind(self, key, layout, exact)
        # Of threads that ask at once, all get the same step.
        step = self._steps.get(key) or self._steps.setdefault(key, SessionStep(self, *key))
        binding = Binding(step, layout, exact)
        binding.prepare()
        return binding

    def _structured(
        self, fetches: Fetches, keys: Sequence[Any], feeds: Sequence[Any], exact: bool, tracer: Any
    ) -> StructuredCallable:
        distinct = tuple(dict.fromkeys(feeds))
        computed = tuple(tensor for tensor in fetches.tensors if tensor not in distinct)
        binding = None
        if computed or fetches.targets:
            layout = Layout(abi.PACK_LIST, tuple(range(len(computed))))
            binding = self._bind((computed, fetches.targets, distinct), layout, exact, tracer)
        return StructuredCallable(self, fetches, keys, feeds, binding, exact)

    def _home(self) -> Home:
        """What stands for the session in pickled callables."""
        if self._pickled is None:
            self._pickled = Home(self)
        return self._pickled

    def _count_compile(self, compiled: Any) -> None:
        self._variants += 1
        self._sources[compiled.source] += 1
        self._seconds += compiled.seconds

    def _count_variant(self, step: SessionStep) -> None:
        if len(step.variants) == MANY_VARIANTS:
            names = [t.name for t in step.fetches] or [op.name for op in step.targets]
            varying = [
                f"feed '{tensor.name}': {', '.join(dict.fromkeys(_shape_text(s[j]) for s in step.variants))}"
                for j, tensor in enumerate(step.feeds)
                if len({signature[j] for signature in step.variants}) > 1
            ]
            what = "; ".join(varying) or "the shapes of variables"
            _LOG.warning("%d variants of the step for %s were compiled; what varies: %s", MANY_VARIANTS, names, what)

    # --- life ---

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        if self._resources.closed:
            raise CancelledError(None, None, "Session has been closed.")

    def _check_not_empty(self) -> None:
        if not self._graph.version:
            raise RuntimeError(
                "The Session graph is empty. Add operations to the graph before calling run()."
            )

    def close(self) -> None:
        """Free the session's state; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        vars(self).pop("_partial", None)
        self._runs.clear()
        self._steps.clear()
        self._traced_steps.clear()
        self._resources.close()

    def __del__(self) -> None:
        # The interpreter may be shutting down, and __init__ may have failed.
        if getattr(self, "_resources", None) is not None and not self._closed:
            try:
                self.close()
            except Exception:
                _LOG.debug("closing a deleted session failed", exc_info=True)

    def as_default(self) -> AbstractContextManager[Any]:
        """A block in which this is the default session; the graph and the session's life are not touched."""
        return default_sessions.enter(self)


class Session(BaseSession):
    """Runs steps of a graph; a `with` block makes it the default session, its graph the default graph, and ends it."""

    def __init__(self, target: Any = "", graph: Graph | None = None, config: Any = None) -> None:
        super().__init__(target, graph, config)
        self._entered: list[Entered[Any]] = []

    @staticmethod
    def reset(target: Any, containers: Sequence[Any] | None = None, config: Any = None) -> None:
        """End the state of all sessions in this process: their steps raise CancelledError from now on.

        NotFoundError for other targets than ''.
        """
        reset(target, containers, config)

    def __enter__(self) -> Session:
        if self._entered:
            raise RuntimeError("Session context managers are not re-entrant; `Session.as_default()` is.")
        for block in (default_graphs.enter(self._graph), default_sessions.enter(self)):
            block.__enter__()
            self._entered.append(block)
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            while self._entered:
                self._entered.pop().__exit__(*error)
        finally:
            self._entered.clear()
            self.close()
