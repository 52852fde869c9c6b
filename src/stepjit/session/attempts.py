"""Steps with results whose rank only the running step knows: a guess is compiled, and the step is run by it.

Where a host op gives another rank, the call stops there, the step is compiled for the rank found, and the call starts
again. What its ops with effects gave so far is on record: they are not run a second time, so that nothing is taken
from a queue twice. Where a step can't even be compiled by a guess (it takes an element of what was taken for a scalar),
a step is run that ends with the op in question.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from stepjit.session.failures import op_error
from stepjit_compiler import opdef
from stepjit_runtime.errors import OpFailure
from stepjit_runtime.manifest import HostOp

Shapes = tuple[tuple["int | None", ...], ...]
"""By output of an op: the shape to go by."""
Results = tuple[np.ndarray, ...]

MOST_CHANGES = 16
"""How often an op's results may turn out to have other ranks in one call."""


class ShapeFound(Exception):
    """A host op gave other ranks or extents than the step was compiled for; `shapes` are the ones to go by."""

    def __init__(self, op: Any, shapes: Shapes) -> None:
        super().__init__(f"'{op.name}' gave shapes {shapes}")
        self.op, self.shapes = op, shapes


class GuessFailed(Exception):
    """A step could not be compiled by the shapes in `told`, not all of which need be true; `error` says why."""

    def __init__(self, error: Exception, told: Sequence[tuple[Any, Shapes]]) -> None:
        super().__init__(str(error))
        self.error, self.told = error, told


class Record:
    """What the ops with effects gave during one call, over all its attempts."""

    def __init__(self) -> None:
        self.found: dict[Any, Shapes] = {}
        """By op: the shapes that its results have in this call."""
        self.changes: Counter[Any] = Counter()
        """By op: how often its results had other ranks than were found before."""
        self.probed: Any = None
        """The op whose results are to be found out: the attempt ends with it."""
        self._results: dict[Any, list[Results]] = {}
        self._next: dict[Any, int] = {}

    def note(self, found: ShapeFound) -> None:
        """Keep the shapes that an op's results have; InvalidArgumentError when they are others again and again."""
        self.changes[found.op] += 1
        if self.changes[found.op] > MOST_CHANGES:
            text = f"the rank of a result of '{found.op.name}' changes from trip to trip: {found.shapes} now"
            raise op_error(found.op, OpFailure(text))
        self.found[found.op] = found.shapes

    def rewind(self) -> None:
        """The next attempt begins."""
        self._next.clear()

    def result(self, key: Any, compute: Callable[[], Results]) -> Results:
        """What this run of the op gave in an earlier attempt, or gives now."""
        known = self._results.setdefault(key, [])
        at = self._next[key] = self._next.get(key, -1) + 1
        if at == len(known):
            known.append(compute())
        return known[at]


class _Current(threading.local):
    record: Record | None = None


_current = _Current()


def current_record() -> Record | None:
    """The record of the call that this thread is in the midst of, if there is one."""
    return _current.record


@contextmanager
def probing(record: Record, op: Any) -> Iterator[None]:
    """Attempts inside the block end with ShapeFound when `op` has run."""
    outer, record.probed = record.probed, op
    try:
        with recording(record):
            yield
    finally:
        record.probed = outer


@contextmanager
def recording(record: Record | None) -> Iterator[None]:
    """Host ops that this thread runs inside the block keep what they give in the record."""
    outer, _current.record = _current.record, record
    try:
        yield
    finally:
        _current.record = outer


def recorded(host: HostOp, op: Any, compute: Callable[..., Results]) -> Callable[..., Results]:
    """The function of a host op in a step that may be run again; ShapeFound when a result's shape was guessed wrong."""
    definition = opdef.lookup(host.op)
    key = (op, host.op) if definition is None or definition.stateful else None
    told: Shapes | None = host.attrs.get("_shapes")

    def run(*arrays: np.ndarray) -> Results:
        def once() -> Results:
            # A step inside this op is another call.
            with recording(None):
                return compute(*arrays)

        record = _current.record
        results = once() if key is None or record is None else record.result(key, once)
        if told is not None:
            probed = record is not None and record.probed is op
            if probed or not all(fits(out.dims, each) for out, each in zip(host.outputs, results)):
                raise ShapeFound(op, _of_all_outputs(host, better_shapes(told, results)))
        return results

    return run


def fits(dims: Sequence[str], array: np.ndarray) -> bool:
    """Whether the array has the rank and the static extents that a program counts on."""
    return len(dims) == array.ndim and all(
        not text.isdigit() or int(text) == extent for text, extent in zip(dims, array.shape)
    )


def better_shapes(told: Shapes, results: Sequence[np.ndarray]) -> Shapes:
    """Shapes that the results have; as general as their ranks where they were not as told."""
    return tuple(
        shape if fits([str(extent) for extent in shape], array) else (None,) * array.ndim
        for shape, array in zip(told, results, strict=True)
    )


def _of_all_outputs(host: HostOp, found: Shapes) -> Shapes:
    """Shapes of all outputs of the graph's op, of which the node may have but some as results."""
    if "_told" not in host.attrs:
        return found
    shapes = list(host.attrs["_told"])
    for number, shape in zip(host.attrs["_taken"], found, strict=True):
        if number >= 0:
            shapes[number] = shape
    return tuple(shapes)


def first_guess(op: Any) -> Shapes:
    """What the graph knows of the shapes of an op's outputs; elements of queues as they are put in."""
    return tuple(
        _enqueued(op, k) if tensor.dims is None else tensor.dims for k, tensor in enumerate(op.outputs)
    )


def is_guess(host: HostOp, op: Any) -> bool:
    """Whether the shapes told for a host op, that of the graph's `op`, or in its regions, may be wrong.

    Queues see to their own.
    """
    regions = [value for value in host.attrs.values() if isinstance(value, dict)]
    if any("_shapes=" in region["text"] for region in regions):
        return True
    if "_shapes" not in host.attrs:
        return False
    known = op is not None and op.type.startswith("QueueDequeue") and op.inputs[0].op.attrs.get("shapes")
    return not known or any(tensor.dims is None for tensor in op.outputs)


def _enqueued(op: Any, k: int) -> tuple[int | None, ...]:
    if op.type.startswith("QueueDequeue"):
        for other in op.inputs[0].consumers():
            many = other.type.startswith("QueueEnqueueMany")
            if other.type.startswith("QueueEnqueue") and other.inputs[1 + k].dims is not None:
                return (None,) * (len(other.inputs[1 + k].dims) - many)
    return ()
