"""The queue classes: each makes a handle op, and ops that put elements in and take them out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.random_seed import get_seed
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import Dimension, TensorShape, as_shape, unknown_shape
from stepjit.framework.tensor import Operation, Tensor
from stepjit_runtime.dtypes import DType, as_dtype, int64

for _kind in ("Enqueue", "EnqueueMany", "Dequeue", "DequeueMany", "DequeueUpTo", "Close", "Size", "IsClosed"):
    for _suffix in ("", "V2"):
        NotDifferentiable(f"Queue{_kind}{_suffix}")


def _types(dtypes: Any) -> list[DType]:
    return [as_dtype(each) for each in (dtypes if isinstance(dtypes, (list, tuple)) else [dtypes])]


def _shapes(shapes: Any, dtypes: Sequence[DType]) -> list[TensorShape] | None:
    """Shapes by component, all of them fully known; a single shape may stand for the list of one."""
    if shapes is None:
        return None
    if isinstance(shapes, TensorShape):
        shapes = [shapes]
    if not isinstance(shapes, (list, tuple)):
        kind = type(shapes).__name__
        raise TypeError(f"Shapes must be a TensorShape or a list or tuple of TensorShapes, got {kind} instead.")
    if all(each is None or isinstance(each, int) for each in shapes):
        shapes = [shapes]
    found = [as_shape(each) for each in shapes]
    if not all(each.is_fully_defined() for each in found):
        raise ValueError(f"All shapes must be fully defined: {found}")
    _check_count(found, dtypes)
    return found


def _partial_shapes(shapes: Any, dtypes: Sequence[DType]) -> list[TensorShape]:
    """Shapes by component, with any of their extents unknown."""
    given = isinstance(shapes, (list, tuple)) and bool(shapes)
    if not given or any(each is None or isinstance(each, int) for each in shapes):
        raise ValueError("When providing partial shapes, a list of shapes must be provided.")
    found = [as_shape(each) for each in shapes]
    if any(each.dims is None for each in found):
        raise ValueError(f"All shapes must have a defined rank: {found}")
    if len(found) != len(dtypes):
        raise ValueError(
            f"Shapes must be provided for all components, but received {len(dtypes)} dtypes and {len(found)} shapes."
        )
    return found


def _check_count(shapes: Sequence[TensorShape], dtypes: Sequence[DType]) -> None:
    if len(shapes) != len(dtypes):
        raise ValueError(
            f"Queue shapes must have the same length as dtypes, received len(shapes)={len(shapes)}, "
            f"len(dtypes)={len(dtypes)}"
        )


def _names(names: Any, dtypes: Sequence[DType]) -> list[str] | None:
    if names is None:
        return None
    found = list(names) if isinstance(names, (list, tuple)) else [names]
    if len(found) != len(dtypes):
        raise ValueError(
            f"List of names must have the same length as the list of dtypes, received len(names)={len(found)},"
            f"len(dtypes)={len(dtypes)}"
        )
    return found


def _common(a: TensorShape, b: TensorShape) -> TensorShape:
    """What both shapes tell; unknown where they differ."""
    if a.dims is None or b.dims is None or len(a) != len(b):
        return unknown_shape()
    return TensorShape([one if one == other else None for one, other in zip(a.as_list(), b.as_list())])


class QueueBase:
    """A queue that keeps elements, each a tuple of tensors, between steps; its state belongs to the session.

    dtypes, shapes: by component; `shapes` None when elements may have any.
    names: by component, to enqueue and dequeue dictionaries; or None.
    queue_ref: the tensor that stands for the queue.
    """

    def __init__(self, dtypes: Any, shapes: Any, names: Any, queue_ref: Tensor) -> None:
        self._dtypes = _types(dtypes)
        if shapes is None:
            self._shapes = [unknown_shape() for _ in self._dtypes]
        else:
            self._shapes = [as_shape(each) for each in shapes]
            _check_count(self._shapes, self._dtypes)
        self._names = _names(names, self._dtypes)
        self._queue_ref = queue_ref
        self._name = queue_ref.op.name.split("/")[-1]

    @staticmethod
    def from_list(index: Any, queues: Any) -> QueueBase:
        """The queue of `queues` that `index`, a scalar int32 tensor, picks in each step.

        TypeError unless they are queues of the same dtypes and names.
        """
        if not queues or not isinstance(queues, list) or not all(isinstance(each, QueueBase) for each in queues):
            raise TypeError("A list of queues expected")
        first = queues[0]
        if any(each.dtypes != first.dtypes for each in queues):
            raise TypeError("Queues do not have matching component dtypes.")
        if any(each.names != first.names for each in queues):
            raise TypeError("Queues do not have matching component names.")
        shapes = [reduce(_common, each) for each in zip(*(queue.shapes for queue in queues))]
        refs = apply_op("Pack", "stack", values=[queue.queue_ref for queue in queues])
        picked = apply_op("GatherV2", params=refs, indices=index, axis=0)
        return QueueBase(first.dtypes, shapes, first.names, picked)

    @property
    def queue_ref(self) -> Tensor:
        """The tensor that stands for the queue."""
        return self._queue_ref

    @property
    def name(self) -> str:
        """The name of the op that makes the queue."""
        return self._queue_ref.op.name

    @property
    def dtypes(self) -> list[DType]:
        return self._dtypes

    @property
    def shapes(self) -> list[TensorShape]:
        return self._shapes

    @property
    def names(self) -> list[str] | None:
        return self._names

    # --- putting in ---

    def enqueue(self, vals: Any, name: str | None = None) -> Operation:
        """An op that puts in one element: a tensor, a list by component, or a dictionary when there are names.

        In a step it waits while the queue is full; CancelledError when the queue is closed. ValueError for shapes
        that can't fit.
        """
        with name_scope(name, f"{self._name}_enqueue", self._inputs(vals)) as scope:
            tensors = self._components(vals)
            for tensor, shape in zip(tensors, self._shapes):
                tensor.shape.assert_is_compatible_with(shape)
            return self._op("QueueEnqueue", scope, components=tensors)

    def enqueue_many(self, vals: Any, name: str | None = None) -> Operation:
        """An op that puts in an element per row of the components, as room appears."""
        with name_scope(name, f"{self._name}_EnqueueMany", self._inputs(vals)) as scope:
            tensors = self._components(vals)
            count: Any = tensors[0].shape.with_rank_at_least(1)[0]
            for tensor, shape in zip(tensors, self._shapes):
                given = tensor.shape.with_rank_at_least(1)
                count = count if given.dims is None else Dimension(count).merge_with(given[0])
                given[1:].assert_is_compatible_with(shape)
            return self._op("QueueEnqueueMany", scope, components=tensors)

    def _inputs(self, vals: Any) -> list[Any]:
        """The values from which the scope takes its graph."""
        if isinstance(vals, (list, tuple)):
            return list(vals)
        return list(vals.values()) if isinstance(vals, dict) else [vals]

    def _components(self, vals: Any) -> list[Tensor]:
        if isinstance(vals, dict):
            if self._names is None:
                raise ValueError("Queue must have names to enqueue a dictionary")
            if sorted(self._names, key=str) != sorted(vals, key=str):
                raise ValueError(
                    "Keys in dictionary to enqueue do not match names of Queue.  Dictionary: "
                    f"{sorted(vals, key=str)},Queue: {sorted(self._names, key=str)}"
                )
            vals = [vals[name] for name in self._names]
        elif self._names is not None:
            raise ValueError("You must enqueue a dictionary in a Queue with names")
        elif not isinstance(vals, (list, tuple)):
            vals = [vals]
        if len(vals) > len(self._dtypes):
            raise ValueError(f"An element of queue '{self.name}' has {len(self._dtypes)} components, not {len(vals)}")
        pairs = zip(vals, self._dtypes)
        return [convert_to_tensor(value, dtype, f"component_{k}") for k, (value, dtype) in enumerate(pairs)]

    # --- taking out ---

    def dequeue(self, name: str | None = None) -> Any:
        """One element: a tensor; a list when there are several components, a dictionary when they have names.

        In a step it waits for an element; OutOfRangeError when there is none and the queue is closed.
        """
        tensors = self._op("QueueDequeue", name or f"{self._name}_Dequeue", component_types=self._dtypes)
        return self._dequeued(tensors, self._shapes)

    def dequeue_many(self, n: Any, name: str | None = None) -> Any:
        """`n` elements stacked along a new first dimension, in the structure of `dequeue`.

        In a step it waits until it has them; OutOfRangeError when the queue is closed and has fewer.
        """
        name = name or f"{self._name}_DequeueMany"
        tensors = self._op("QueueDequeueMany", name, n=n, component_types=self._dtypes)
        rows = constant_value(tensors[0].op.inputs[1])
        return self._dequeued(tensors, self._batches(None if rows is None else int(rows)))

    def dequeue_up_to(self, n: Any, name: str | None = None) -> Any:
        """As `dequeue_many`; but when the queue is closed and has fewer elements, those, if there are any."""
        name = name or f"{self._name}_DequeueUpTo"
        tensors = self._op("QueueDequeueUpTo", name, n=n, component_types=self._dtypes)
        return self._dequeued(tensors, self._batches(None))

    def _batches(self, rows: int | None) -> list[TensorShape]:
        return [TensorShape([rows]).concatenate(shape) for shape in self._shapes]

    def _dequeued(self, tensors: Sequence[Tensor], shapes: Sequence[TensorShape]) -> Any:
        for tensor, shape in zip(tensors, shapes):
            tensor.set_shape(shape)
        if self._names is not None:
            return dict(zip(self._names, tensors))
        return tensors[0] if len(tensors) == 1 else list(tensors)

    # --- the rest ---

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Operation:
        """An op that closes the queue: what is in it can still be taken, nothing can be put in.

        Enqueues that wait are let through first, or cancelled.
        """
        name = name or f"{self._name}_Close"
        return self._op("QueueClose", name, cancel_pending_enqueues=cancel_pending_enqueues)

    def is_closed(self, name: str | None = None) -> Tensor:
        """Whether the queue is closed, a bool scalar."""
        return self._op("QueueIsClosed", name or f"{self._name}_Is_Closed")

    def size(self, name: str | None = None) -> Tensor:
        """How many elements the queue holds, an int32 scalar."""
        return self._op("QueueSize", name or f"{self._name}_Size")

    def _op(self, kind: str, name: str, **arguments: Any) -> Any:
        suffix = "" if self._queue_ref.dtype._is_ref_dtype else "V2"
        return apply_op(kind + suffix, name, handle=self._queue_ref, **arguments)


def _list(shapes: Sequence[TensorShape] | None) -> list[TensorShape]:
    return [] if shapes is None else list(shapes)


class FIFOQueue(QueueBase):
    """A queue whose elements leave in the order in which they came; a negative capacity means no limit."""

    def __init__(
        self, capacity: int, dtypes: Any, shapes: Any = None, names: Any = None, shared_name: str | None = None,
        name: str | None = "fifo_queue",
    ) -> None:  # fmt: skip
        types = _types(dtypes)
        if not types:
            raise ValueError("Attr 'component_types' of 'FIFOQueueV2' Op passed list of length 0 less than minimum 1.")
        given = _shapes(shapes, types)
        ref = apply_op(
            "FIFOQueueV2", name, component_types=types, shapes=_list(given), capacity=capacity, shared_name=shared_name
        )
        super().__init__(types, given, names, ref)


class PaddingFIFOQueue(QueueBase):
    """A FIFO queue with partial shapes: batches are padded with zeros or empty strings to the largest element."""

    def __init__(
        self, capacity: int, dtypes: Any, shapes: Any, names: Any = None, shared_name: str | None = None,
        name: str | None = "padding_fifo_queue",
    ) -> None:  # fmt: skip
        types = _types(dtypes)
        given = _partial_shapes(shapes, types)
        ref = apply_op(
            "PaddingFIFOQueueV2", name, component_types=types, shapes=given, capacity=capacity, shared_name=shared_name
        )
        super().__init__(types, given, names, ref)


class RandomShuffleQueue(QueueBase):
    """A queue whose elements leave in random order; while it is open, `min_after_dequeue` of them stay in it."""

    def __init__(
        self, capacity: int, min_after_dequeue: int, dtypes: Any, shapes: Any = None, names: Any = None,
        seed: int | None = None, shared_name: str | None = None, name: str | None = "random_shuffle_queue",
    ) -> None:  # fmt: skip
        types = _types(dtypes)
        given = _shapes(shapes, types)
        seed1, seed2 = get_seed(seed)
        if seed is None and seed1 is not None and shared_name is not None:
            # Ops that share the queue must agree, wherever they stand in their graphs.
            import hashlib

            seed2 = int(hashlib.md5(f"{seed1}{shared_name}".encode()).hexdigest()[:8], 16) & 0x7FFFFFFF
        ref = apply_op(
            "RandomShuffleQueueV2", name, component_types=types, shapes=_list(given), capacity=capacity,
            min_after_dequeue=min_after_dequeue, seed=seed1 or 0, seed2=seed2 or 0, shared_name=shared_name,
        )  # fmt: skip
        super().__init__(types, given, names, ref)


class PriorityQueue(QueueBase):
    """A queue with an int64 scalar ahead of the components `types`: the smallest leaves first."""

    def __init__(
        self, capacity: int, types: Any, shapes: Any = None, names: Any = None, shared_name: str | None = None,
        name: str | None = "priority_queue",
    ) -> None:  # fmt: skip
        further = _types(types)
        given = _shapes(shapes, further)
        if given is None:
            raise TypeError("Argument `shapes` of PriorityQueue must be a list of shapes, not None.")
        ref = apply_op(
            "PriorityQueueV2", name, component_types=further, shapes=given, capacity=capacity, shared_name=shared_name
        )
        super().__init__([int64, *further], [TensorShape([]), *given], names, ref)
