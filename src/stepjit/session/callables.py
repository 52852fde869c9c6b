"""What `make_callable` gives beside native steps: callables for any structure, and how callables are pickled."""

from __future__ import annotations

import io
import pickle
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stepjit.explain import Explanation
from stepjit.framework.graph import Graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.session.feeds import convert_feed, feed_tensors, feed_values, fetchable
from stepjit.session.fetches import Fetches
from stepjit_runtime.dtypes import as_dtype

if TYPE_CHECKING:
    from stepjit.session.config import SessionConfig
    from stepjit.session.session import BaseSession
    from stepjit.session.steps import Binding

_STAY = ("Barrier", "Iterator", "Queue", "Reader", "Stage", "Table")
"""How types of ops end, versions aside, that hold state which does not leave its session."""


class Made:
    """What callables of `make_callable` have in common that are no native steps: their text, and how they pickle."""

    recipe: Recipe | None = None

    def __repr__(self) -> str:
        return object.__repr__(self) if self.recipe is None else self.recipe.describe()

    def __copy__(self) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.recipe is None:
            raise TypeError("only what make_callable gave can be pickled")
        return self.recipe.reduce()


class StructuredCallable(Made):
    """A callable for what native code does not pack or unpack: nested structures, grouped feeds, fed fetches."""

    def __init__(
        self,
        session: BaseSession,
        fetches: Fetches,
        keys: Sequence[Any],
        feeds: Sequence[Tensor],
        binding: Binding | None,
        exact: bool,
    ) -> None:
        """`binding` gives, as a list, the fetched tensors that are not fed, from the distinct `feeds` of `keys`."""
        self._session, self._fetches, self._keys, self._feeds = session, fetches, tuple(keys), tuple(feeds)
        self._binding, self._exact = binding, exact
        self._distinct = tuple(dict.fromkeys(feeds))
        self._computed = tuple(tensor for tensor in fetches.tensors if tensor not in self._distinct)
        self._counts = [len(feed_tensors(session.graph, key)) for key in keys]
        # Nothing fed twice or fetched: the native step converts and checks the feeds, and gives all that is fetched.
        self._direct = len(self._distinct) == len(feeds) and self._computed == fetches.tensors

    def __call__(self, *args: Any) -> Any:
        """Run the step; one positional value for each key."""
        self._session._check_open()
        if self._exact and len(args) != len(self._keys):
            raise TypeError(f"this step takes {len(self._keys)} positional arguments, but {len(args)} were given")
        flat = [
            value
            for key, count, arg in zip(self._keys, self._counts, args, strict=False)
            for value in feed_values(key, count, arg)
        ]
        if self._direct and self._binding is not None:
            return self._fetches.rebuild(self._binding.callable(*flat))
        tensors = self._session._resources.tensors
        arrays = {feed: convert_feed(feed, value, tensors) for feed, value in zip(self._feeds, flat, strict=False)}
        values: dict[Tensor, Any] = {feed: fetchable(array) for feed, array in arrays.items()}
        if self._binding is not None:
            given = [arrays[tensor] for tensor in self._distinct if tensor in arrays]
            values.update(zip(self._computed, self._binding.callable(*given), strict=True))
        return self._fetches.rebuild([values[tensor] for tensor in self._fetches.tensors])

    def explain(self) -> Explanation:
        """What was compiled for the step so far."""
        if self._binding is None:
            return Explanation(self._session.graph.version, ())
        return self._binding.explain()


class Recipe:
    """How a callable was made: what it says of itself, and what is pickled in its place."""

    def __init__(
        self, session: BaseSession, structure: Any, keys: Sequence[Any] | None, accept_options: bool = False
    ) -> None:
        self.session, self.structure, self.accept_options = session, _frozen(structure), accept_options
        self.keys = None if keys is None else list(keys)

    def describe(self) -> str:
        """The callable in one line: its feeds, and what it fetches."""
        graph = self.session.graph
        feeds = [tensor.name for key in self.keys or () for tensor in feed_tensors(graph, key)]
        fetches = Fetches(graph, self.structure)
        items: list[Any] = [*fetches.tensors, *fetches.targets]
        names = [item.name for item in items]
        closed = ", its session is closed" if self.session._closed else ""
        return f"<stepjit callable ({_few(feeds)}) -> {_few(names) or 'nothing'}{closed}>"

    def reduce(self) -> tuple[Any, ...]:
        """What `__reduce__` returns; TypeError when the step needs what can't leave this process."""
        self.session._check_open()
        home = self.session._home()
        graph = self.session.graph
        fetches = Fetches(graph, self.structure)
        feeds = [tensor for key in self.keys or () for tensor in feed_tensors(graph, key)]
        home.check_portable([*(tensor.op for tensor in (*fetches.tensors, *feeds)), *fetches.targets])
        return _remake, (home, _by_names((self.structure, self.keys)), self.accept_options)


class Home:
    """A session as callables are pickled with it: the graph, less what can't leave the process, and the variables.

    Callables pickled together come back with one session, since they share this object.
    """

    def __init__(self, session: BaseSession) -> None:
        self._session = weakref.ref(session)

    def check_portable(self, ops: Sequence[Operation]) -> None:
        """TypeError when one of the ops, or one that it needs, can't leave the process."""
        for op in _ancestors(ops):
            reason = _reason_to_stay(op)
            if reason is not None:
                raise TypeError(f"this callable can't be pickled: {op.type} '{op.name}' {reason}{_made_at(op)}")

    def __reduce__(self) -> tuple[Any, ...]:
        session = self._session()
        if session is None:
            raise TypeError("the session is gone")
        resources = session._resources
        with resources.access("reading"):
            values = [
                (container, name, variable.dtype.name, variable.read())
                for (container, name), variable in resources.variables_by_key()
                if variable.initialised
            ]
        return _open_session, (_portable(session.graph), values, session._config)


def _remake(session: BaseSession, signature: bytes, accept_options: bool) -> Any:
    structure, keys = _Names(session.graph).load(signature)
    return session.make_callable(structure, keys, accept_options)


def _open_session(graph_def: bytes, values: Sequence[tuple[Any, ...]], config: SessionConfig) -> BaseSession:
    from stepjit.framework.importer import import_graph_def
    from stepjit.proto import MESSAGES
    from stepjit.session.session import Session

    graph = Graph()
    with graph.as_default():
        import_graph_def(MESSAGES["GraphDef"].FromString(graph_def), name="")
    session = Session(graph=graph, config=config)
    for container, name, dtype, value in values:
        session._resources.variable(name, as_dtype(dtype), value.shape, container).assign(value)
    return session


def _portable(graph: Graph) -> bytes:
    """The GraphDef of the ops that can leave the process, and need only such."""
    from stepjit.framework.graph_io import graph_def_of

    ops = graph.get_operations()
    gone, before = {op for op in ops if _cannot_be_written(op)}, 0
    while len(gone) > before:
        before = len(gone)
        # Once, but for ops that wait for later ones.
        for op in ops:
            if op not in gone and not gone.isdisjoint(_needs(op)):
                gone.add(op)
    found: bytes = graph_def_of([op for op in ops if op not in gone]).SerializeToString()
    return found


def _reason_to_stay(op: Operation) -> str | None:
    if op.type.removesuffix("V2").endswith(_STAY):
        return "holds state that stays with its session"
    return _cannot_be_written(op)


def _cannot_be_written(op: Operation) -> str | None:
    from stepjit.framework.function_io import functions_of, needed_ops

    if op.type in ("PyFunc", "PyFuncStateless"):
        return "calls a Python function of this process"
    for region in functions_of([op]):
        for inner in needed_ops(region):
            reason = _reason_to_stay(inner)
            if reason is not None:
                return f"has inside {inner.type} '{inner.name}', which {reason}"
    return None


def _needs(op: Operation) -> Iterator[Operation]:
    yield from (tensor.op for tensor in op.inputs)
    yield from op.control_inputs


def _ancestors(ops: Sequence[Operation]) -> Iterator[Operation]:
    """The ops and all that they need, each once."""
    pending, seen = list(ops), set(ops)
    while pending:
        op = pending.pop()
        yield op
        for each in _needs(op):
            if each not in seen:
                seen.add(each)
                pending.append(each)


def _made_at(op: Operation) -> str:
    line = op.traceback_line
    return f" (made at {line})" if line else ""


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:4]))
    return f"{shown}, and {len(names) - 4} more" if len(names) > 4 else shown


def _frozen(structure: Any) -> Any:
    """The structure with lists and dicts of its own, so that the caller may go on changing his."""
    if type(structure) in (list, tuple):
        return type(structure)(map(_frozen, structure))
    if type(structure) is dict:
        return {key: _frozen(value) for key, value in structure.items()}
    return structure


# --- structures with tensors and ops in them, by their names ---


def _by_names(structure: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(structure)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if hasattr(obj, "_as_graph_element") and not isinstance(obj, type):
            obj = obj._as_graph_element()
        return obj.name if isinstance(obj, (Tensor, Operation)) else None


class _Names:
    """Reads structures back, with the tensors and ops of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def load(self, data: bytes) -> Any:
        reader = pickle.Unpickler(io.BytesIO(data))
        reader.persistent_load = self._graph.as_graph_element  # type: ignore[method-assign]
        return reader.load()
