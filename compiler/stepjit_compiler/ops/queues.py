"""Queues: made, filled, emptied, counted and closed. In a step a handle is an array that holds the queue itself.

Each op also has the name under which older graphs know it, with a reference to a string as its handle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, no_outputs, scalar, show
from stepjit_compiler.ops.arguments import int_input, integer
from stepjit_runtime import dtypes
from stepjit_runtime.queues import FIFOQueue, PaddingFIFOQueue, PriorityQueue, Queue, RandomShuffleQueue
from stepjit_runtime.resources import Resources


def shared(call: Call, kind: str, make: Callable[[str], Any]) -> tuple[Any, bool]:
    """The session's object of that kind for a handle op, and whether it was there before; made by `make(name)`."""
    resources: Resources = call.attrs["_resources"]
    name = call.attrs["shared_name"].decode() or call.attrs["_name"]
    key = (call.attrs["container"].decode(), kind, name)
    found = resources.others.get(key)
    if found is not None:
        return found, True
    made = make(name)
    return resources.others.setdefault(key, made), False


def handle_value(call: Call, thing: Any) -> np.ndarray:
    """The value of a handle: the thing itself; in both elements of the older ops' handles."""
    old = call.dtypes[0] is dtypes.string
    value = np.empty((2,) if old else (), object)
    value[...] = thing
    return value


def held(handle: np.ndarray) -> Any:
    """The thing that a handle stands for."""
    return handle.item(0)


def handle_shape(x: Inference) -> list[ShapeLike]:
    return [() if x.op.endswith("V2") else (2,)]


def _queue(call: Call, handle: np.ndarray) -> Queue:
    queue = held(handle)
    if not isinstance(queue, Queue):
        call.fail("The input is no handle of a queue")
    return queue


# --- FIFOQueueV2, RandomShuffleQueueV2, PaddingFIFOQueueV2, PriorityQueueV2 ---


def _opened(make: Callable[..., Queue], keyed: bool = False) -> Callable[[Call], np.ndarray]:
    """The reference of a handle op: `make(name, capacity, dtypes, shapes, call)` makes its queue."""

    def reference(call: Call) -> np.ndarray:
        attrs = call.attrs
        key, no_shape = ((dtypes.int64,), ((),)) if keyed else ((), ())
        types, shapes = (*key, *attrs["component_types"]), (*no_shape, *attrs["shapes"])
        if len(shapes) not in (0, len(types)):
            call.fail(f"Queue has {len(types)} component types but {len(shapes)} shapes")
        queue, before = shared(call, "queue", lambda name: make(name, attrs["capacity"], types, shapes, call))
        if before:
            _check_same(call, queue, attrs["capacity"], types, shapes)
        return handle_value(call, queue)

    return reference


def _check_same(call: Call, queue: Queue, capacity: int, types: Any, shapes: Any) -> None:
    """A queue that another op made must be the one that this op describes."""
    kind = call.name.removesuffix("V2")
    if queue.kind != kind:
        call.fail(f"Expected {queue.kind}, found {kind}: shared queue '{queue.name}' is of another type")
    what = f"Shared queue '{queue.name}' has"
    if queue.capacity != capacity:
        call.fail(f"{what} capacity {queue.capacity} but requested capacity was {capacity}")
    if queue.dtypes != tuple(types):
        call.fail(f"{what} component types {_names(queue.dtypes)} but requested component types were {_names(types)}")
    if queue.shapes != tuple(shapes):
        call.fail(f"{what} component shapes {_list(queue.shapes)} but requested component shapes were {_list(shapes)}")
    kept_back = call.attrs.get("min_after_dequeue", 0)
    if queue.kept_back != kept_back:
        call.fail(f"{what} min_after_dequeue {queue.kept_back} but requested min_after_dequeue was {kept_back}")


def _names(types: Any) -> str:
    return "[" + ", ".join(dtype.name for dtype in types) + "]"


def _list(shapes: Any) -> str:
    return "[" + ", ".join(map(show, shapes)) + "]"


def _plain(kind: Callable[..., Queue]) -> Callable[..., Queue]:
    return lambda name, capacity, types, shapes, call: kind(name, capacity, types, shapes)


def _shuffled(name: str, capacity: int, types: Any, shapes: Any, call: Call) -> Queue:
    seeds = call.attrs["seed"], call.attrs["seed2"]
    seed = repr(seeds) if any(seeds) else None
    return RandomShuffleQueue(name, capacity, types, shapes, call.attrs["min_after_dequeue"], seed)


_TYPES = "component_types: list(type), shapes: list(shape) = [], capacity: int = -1, "
_KEYED = "component_types: list(type) = [], shapes: list(shape), capacity: int = -1, "
_NAMED = "container: string = '', shared_name: string = ''"
_SEEDS = "min_after_dequeue: int = 0, seed: int = 0, seed2: int = 0, "

for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    for _kind, _attrs, _make, _is_keyed in (
        ("FIFOQueue", _TYPES + _NAMED, _plain(FIFOQueue), False),
        ("PaddingFIFOQueue", _TYPES + _NAMED, _plain(PaddingFIFOQueue), False),
        ("RandomShuffleQueue", _TYPES + _SEEDS + _NAMED, _shuffled, False),
        ("PriorityQueue", _KEYED + _NAMED, _plain(PriorityQueue), True),
    ):
        define(
            _kind + _suffix, f"-> handle: {_handle}", _attrs, infer=handle_shape, reference=_opened(_make, _is_keyed),
            stateful=True, resources=True,
        )  # fmt: skip

# --- QueueEnqueueV2, QueueEnqueueManyV2, QueueDequeueV2, QueueDequeueManyV2, QueueDequeueUpToV2, QueueCloseV2 ---
#
# Where a step has several of them, `passes/prune_waits` parts them into the start, under the name in `STARTS`, and the
# wait for it: _QueueDone, or _QueueTaken.

_Make = Callable[..., Any]
"""`make(call, queue, *inputs)` makes the operation of an op."""


def _enqueueing(call: Call, queue: Queue, *components: np.ndarray) -> Any:
    return queue.enqueueing(components)


def _enqueueing_many(call: Call, queue: Queue, *components: np.ndarray) -> Any:
    return queue.enqueueing_many(components)


def _dequeueing(call: Call, queue: Queue) -> Any:
    _check_types(call, queue)
    return queue.dequeueing()


def _dequeueing_many(call: Call, queue: Queue, n: np.ndarray) -> Any:
    _check_types(call, queue)
    return queue.dequeueing_many(integer(n))


def _dequeueing_up_to(call: Call, queue: Queue, n: np.ndarray) -> Any:
    _check_types(call, queue)
    return queue.dequeueing_many(integer(n), up_to=True)


def _closing(call: Call, queue: Queue) -> Any:
    return queue.closing(call.attrs["cancel_pending_enqueues"])


def _check_types(call: Call, queue: Queue) -> None:
    types = tuple(call.attrs["component_types"])
    if queue.dtypes != types:
        have, want = _names(queue.dtypes), _names(types)
        call.fail(f"Queue '{queue.name}' has component types {have} but {want} were asked for")


def _run(make: _Make) -> Callable[..., tuple[np.ndarray, ...]]:
    def reference(call: Call, handle: np.ndarray, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        queue = _queue(call, handle)
        return queue.run(make(call, queue, *inputs), call.attrs["_resources"].cancellation)

    return reference


def _start(make: _Make) -> Callable[..., np.ndarray]:
    def reference(call: Call, handle: np.ndarray, *inputs: np.ndarray) -> np.ndarray:
        queue = _queue(call, handle)
        ticket = np.empty((), object)
        ticket[()] = queue.start(make(call, queue, *inputs))
        return ticket

    return reference


def _wait(call: Call, ticket: np.ndarray) -> tuple[np.ndarray, ...]:
    found: tuple[np.ndarray, ...] = held(ticket).wait(call.attrs["_resources"].cancellation)
    return found


def _any_shape(x: Inference) -> list[ShapeLike]:
    return [None] * len(x.attrs["component_types"])


def _any_batch(x: Inference) -> list[ShapeLike]:
    count = int_input(x, 1)
    if count is not None and count < 0:
        x.fail(f"Input 'n' must be >= 0, but is {count}")
    return _any_shape(x)


_PUT, _TYPED = "Tcomponents: list(type), timeout_ms: int = -1", "component_types: list(type), timeout_ms: int = -1"
_WAITING: tuple[tuple[str, str, str, str, Any, _Make], ...] = (
    ("Enqueue", ", components: Tcomponents", "", _PUT, no_outputs, _enqueueing),
    ("EnqueueMany", ", components: Tcomponents", "", _PUT, no_outputs, _enqueueing_many),
    ("Dequeue", "", "components: component_types", _TYPED, _any_shape, _dequeueing),
    ("DequeueMany", ", n: int32", "components: component_types", _TYPED, _any_batch, _dequeueing_many),
    ("DequeueUpTo", ", n: int32", "components: component_types", _TYPED, _any_batch, _dequeueing_up_to),
    ("Close", "", "", "cancel_pending_enqueues: bool = False", no_outputs, _closing),
)
STARTS: dict[str, str] = {}
"""By op type that may have to wait: the op type that starts it."""
for _name, _inputs, _outputs, _attrs, _infer, _make in _WAITING:
    for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
        define(
            f"Queue{_name}{_suffix}", f"handle: {_handle}{_inputs} -> {_outputs}", _attrs, infer=_infer,
            reference=_run(_make), stateful=True, resources=True,
        )  # fmt: skip
        define(
            f"_QueueStart{_name}{_suffix}", f"handle: {_handle}{_inputs} -> ticket: resource", _attrs, infer=scalar,
            reference=_start(_make), stateful=True, resources=True,
        )  # fmt: skip
        STARTS[f"Queue{_name}{_suffix}"] = f"_QueueStart{_name}{_suffix}"

# --- _QueueDone, _QueueTaken ---
define("_QueueDone", "ticket: resource ->", infer=no_outputs, reference=_wait, stateful=True, resources=True)
define(
    "_QueueTaken", "ticket: resource -> components: component_types", "component_types: list(type)", infer=_any_shape,
    reference=_wait, stateful=True, resources=True,
)  # fmt: skip

# --- QueueSizeV2, QueueIsClosedV2 ---
for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    define(
        f"QueueSize{_suffix}", f"handle: {_handle} -> size: int32", infer=scalar,
        reference=lambda call, handle: np.int32(_queue(call, handle).size()), stateful=True,
    )  # fmt: skip
    define(
        f"QueueIsClosed{_suffix}", f"handle: {_handle} -> is_closed: bool", infer=scalar,
        reference=lambda call, handle: np.bool_(_queue(call, handle).closed), stateful=True,
    )  # fmt: skip
