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
from stepjit_runtime.errors import INVALID_ARGUMENT, OpFailure
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

# --- QueueEnqueueV2, QueueEnqueueManyV2, QueueDequeueV2, QueueDequeueManyV2, QueueDequeueUpToV2 ---


def _enqueue(call: Call, handle: np.ndarray, *components: np.ndarray) -> tuple[()]:
    _queue(call, handle).enqueue(components, call.attrs["_resources"].cancellation)
    return ()


def _enqueue_many(call: Call, handle: np.ndarray, *components: np.ndarray) -> tuple[()]:
    _queue(call, handle).enqueue_many(components, call.attrs["_resources"].cancellation)
    return ()


def _check_types(call: Call, queue: Queue) -> None:
    if queue.dtypes != call.dtypes:
        have, want = _names(queue.dtypes), _names(call.dtypes)
        raise OpFailure(f"Queue '{queue.name}' has component types {have} but {want} were asked for", INVALID_ARGUMENT)


def _dequeue(call: Call, handle: np.ndarray) -> tuple[np.ndarray, ...]:
    queue = _queue(call, handle)
    _check_types(call, queue)
    return queue.dequeue(call.attrs["_resources"].cancellation)


def _dequeue_many(up_to: bool) -> Callable[..., tuple[np.ndarray, ...]]:
    def reference(call: Call, handle: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, ...]:
        queue = _queue(call, handle)
        _check_types(call, queue)
        return queue.dequeue_many(integer(n), call.attrs["_resources"].cancellation, up_to)

    return reference


def _any_shape(x: Inference) -> list[ShapeLike]:
    return [None] * len(x.attrs["component_types"])


def _any_batch(x: Inference) -> list[ShapeLike]:
    count = int_input(x, 1)
    if count is not None and count < 0:
        x.fail(f"Input 'n' must be >= 0, but is {count}")
    return _any_shape(x)


_WAIT = "timeout_ms: int = -1"
for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    for _many, _put in (("", _enqueue), ("Many", _enqueue_many)):
        define(
            f"QueueEnqueue{_many}{_suffix}", f"handle: {_handle}, components: Tcomponents ->",
            f"Tcomponents: list(type), {_WAIT}", infer=no_outputs, reference=_put, stateful=True, resources=True,
        )  # fmt: skip
    define(
        f"QueueDequeue{_suffix}", f"handle: {_handle} -> components: component_types",
        f"component_types: list(type), {_WAIT}", infer=_any_shape, reference=_dequeue, stateful=True, resources=True,
    )  # fmt: skip
    for _many in ("Many", "UpTo"):
        define(
            f"QueueDequeue{_many}{_suffix}", f"handle: {_handle}, n: int32 -> components: component_types",
            f"component_types: list(type), {_WAIT}", infer=_any_batch, reference=_dequeue_many(_many == "UpTo"),
            stateful=True, resources=True,
        )  # fmt: skip

# --- QueueCloseV2, QueueSizeV2, QueueIsClosedV2 ---


def _close(call: Call, handle: np.ndarray) -> tuple[()]:
    _queue(call, handle).shut(call.attrs["cancel_pending_enqueues"], call.attrs["_resources"].cancellation)
    return ()


for _suffix, _handle in (("V2", "resource"), ("", "Ref(string)")):
    define(
        f"QueueClose{_suffix}", f"handle: {_handle} ->", "cancel_pending_enqueues: bool = False",
        infer=no_outputs, reference=_close, stateful=True, resources=True,
    )  # fmt: skip
    define(
        f"QueueSize{_suffix}", f"handle: {_handle} -> size: int32", infer=scalar,
        reference=lambda call, handle: np.int32(_queue(call, handle).size()), stateful=True,
    )  # fmt: skip
    define(
        f"QueueIsClosed{_suffix}", f"handle: {_handle} -> is_closed: bool", infer=scalar,
        reference=lambda call, handle: np.bool_(_queue(call, handle).closed), stateful=True,
    )  # fmt: skip
