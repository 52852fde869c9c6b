"""Queues of a session: first in first out, shuffled, padded and by priority.

Operations that can't complete at once wait in line, enqueues and dequeues each in the order in which they came; those
at the head make as much progress as they can, so that a batch larger than the capacity goes through piece by piece.
Whoever changes a queue drives all that can go on; a thread only waits for its own operation.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stepjit_runtime import forking
from stepjit_runtime.cancellation import Cancellation
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import CANCELLED, INVALID_ARGUMENT, OUT_OF_RANGE, OpFailure

Element = tuple[np.ndarray, ...]
"""One element of a queue: an array per component."""
ShapeLike = tuple["int | None", ...]


class _Operation:
    """One operation in line; `advance` goes as far as the queue lets it."""

    __slots__ = ("condition", "done", "failure", "kind")

    kind: str

    def __init__(self, lock: threading.Lock) -> None:
        self.condition = threading.Condition(lock)
        self.done = False
        self.failure: OpFailure | None = None

    def advance(self, queue: Queue) -> bool:
        """Go on; whether anything changed. The queue's lock is held."""
        raise AssertionError

    def withdraw(self, queue: Queue) -> None:
        """Put back what was taken. The queue's lock is held."""

    def result(self, queue: Queue) -> tuple[np.ndarray, ...]:
        """What it took; OpFailure when it came to nothing."""
        if self.failure is not None:
            raise self.failure
        return ()

    def finish(self, failure: OpFailure | None = None) -> bool:
        self.done, self.failure = True, failure
        self.condition.notify_all()
        return True


class _Enqueue(_Operation):
    __slots__ = ("elements",)

    kind = "Enqueue"

    def __init__(self, lock: threading.Lock, elements: Iterable[Element]) -> None:
        super().__init__(lock)
        self.elements = deque(elements)

    def advance(self, queue: Queue) -> bool:
        if queue.closed:
            return self.finish(queue._is_closed())
        elements, changed = self.elements, False
        while elements and len(queue) < queue.room:
            queue._put(elements.popleft())
            changed = True
        return changed if elements else self.finish()


class _Dequeue(_Operation):
    __slots__ = ("count", "taken", "up_to")

    kind = "Dequeue"

    def __init__(self, lock: threading.Lock, count: int, up_to: bool) -> None:
        super().__init__(lock)
        self.count, self.up_to = count, up_to
        self.taken: list[Element] = []

    def advance(self, queue: Queue) -> bool:
        wanted, size = self.count - len(self.taken), len(queue)
        if queue.closed and size < wanted:
            self.withdraw(queue)
            if not (self.up_to and len(queue)):
                return self.finish(queue._too_few(wanted, size))
            self.count = wanted = size = len(queue)
        available = size if queue.closed else size - queue.kept_back
        for _ in range(min(wanted, available)):
            self.taken.append(queue._take())
        return self.finish() if len(self.taken) == self.count else available > 0

    def withdraw(self, queue: Queue) -> None:
        queue._put_back(self.taken)
        self.taken = []

    def result(self, queue: Queue) -> tuple[np.ndarray, ...]:
        super().result(queue)
        return self.taken[0]


class _DequeueMany(_Dequeue):
    __slots__ = ()

    def result(self, queue: Queue) -> tuple[np.ndarray, ...]:
        _Operation.result(self, queue)
        return tuple([queue._stack(k, [element[k] for element in self.taken]) for k in range(len(queue.dtypes))])


class _Close(_Operation):
    __slots__ = ()

    kind = "Close"

    def advance(self, queue: Queue) -> bool:
        if queue.closed:
            return self.finish(OpFailure(f"Queue '{queue.name}' is already closed.", CANCELLED))
        queue.closed = True
        return self.finish()


class Queue:
    """A queue; subclasses tell in which order elements leave.

    capacity: most elements held; below 0 there is no limit.
    shapes: by component, the shape that all elements have; empty when they may have any.
    """

    kind = "Queue"
    kept_back = 0
    """As long as the queue is open, dequeues leave this many elements in it."""

    def __init__(self, name: str, capacity: int, dtypes: Sequence[DType], shapes: Sequence[Any]) -> None:
        self.name, self.capacity = name, capacity
        self.room = capacity if capacity >= 0 else float("inf")
        self.dtypes, self.shapes = tuple(dtypes), tuple(shapes)
        self.closed = False
        self._lock = forking.lock()
        self._enqueues: deque[_Operation] = deque()
        self._dequeues: deque[_Operation] = deque()
        self._given_up: deque[_Operation] = deque()
        self._driving = False

    # --- what a subclass says ---

    def __len__(self) -> int:
        raise AssertionError

    def _put(self, element: Element) -> None:
        raise AssertionError

    def _take(self) -> Element:
        raise AssertionError

    def _put_back(self, elements: Sequence[Element]) -> None:
        """Undo `_take`s."""
        raise AssertionError

    # --- operations: made, then run at once, or started and waited for; each raises OpFailure ---

    def enqueueing(self, components: Sequence[np.ndarray]) -> _Operation:
        """To put in one element, as soon as there is room. The arrays are copied."""
        self._check_components(components)
        for k, (array, shape) in enumerate(zip(components, self.shapes)):
            self._check_shape(k, shape, array)
        return _Enqueue(self._lock, (tuple([np.array(each) for each in components]),))

    def enqueueing_many(self, components: Sequence[np.ndarray]) -> _Operation:
        """To put in an element per row of the components, as room appears."""
        self._check_components(components)
        count = self._rows(components)
        # Elements are parts of one copy.
        copies = [np.array(each) for each in components]
        return _Enqueue(self._lock, [tuple([copy[row, ...] for copy in copies]) for row in range(count)])

    def dequeueing(self) -> _Operation:
        """To take one element."""
        return _Dequeue(self._lock, 1, False)

    def dequeueing_many(self, count: int, up_to: bool = False) -> _Operation:
        """To take `count` elements, stacked by component; `up_to`: those that are left, once the queue is closed."""
        if not self.shapes and self.dtypes:
            what = f"{self.kind}'s DequeueMany and DequeueUpTo"
            raise OpFailure(f"{what} require the components to have specified shapes.")
        if count < 0:
            raise OpFailure(f"Dequeue{'UpTo' if up_to else 'Many'}Op requested {count} < 0 elements", INVALID_ARGUMENT)
        return _DequeueMany(self._lock, count, up_to)

    def closing(self, cancel_pending: bool) -> _Operation:
        """To take no more elements once the enqueues in line are through; `cancel_pending` cancels those, now."""
        if cancel_pending:
            with self._lock:
                self._cancel(self._enqueues)
        return _Close(self._lock)

    def run(self, operation: _Operation, cancellation: Cancellation) -> tuple[np.ndarray, ...]:
        """Do what the operation is for, and give what it took; waits as long as need be."""
        with self._lock:
            try:
                self._line(operation).append(operation)
                self._drive()
                self._wait(operation, cancellation)
            finally:
                self._withdraw(operation)
        return operation.result(self)

    def start(self, operation: _Operation) -> Ticket:
        """Put the operation in line; it goes on whether anybody waits or not."""
        with self._lock:
            self._line(operation).append(operation)
            self._drive()
        return Ticket(self, operation)

    def finish(self, operation: _Operation, cancellation: Cancellation) -> tuple[np.ndarray, ...]:
        """Wait for what was started, and give what it took."""
        with self._lock:
            try:
                self._wait(operation, cancellation)
            finally:
                self._withdraw(operation)
        return operation.result(self)

    def give_up(self, operation: _Operation) -> None:
        """Nobody waits for what was started: undo it, where it has only taken."""
        self._given_up.append(operation)
        # This may be called in the middle of anything; whoever has the lock drives the queue sooner or later.
        if self._lock.acquire(blocking=False):
            try:
                self._drive()
            finally:
                self._lock.release()

    def forked(self) -> None:
        """In a child of the process: the threads that wait in line are not there."""
        self._driving = False
        for line in (self._enqueues, self._dequeues):
            for operation in line:
                operation.withdraw(self)
            line.clear()

    def size(self) -> int:
        """How many elements it holds."""
        with self._lock:
            return len(self)

    def close(self) -> None:
        """End with the session: what waits is cancelled."""
        with self._lock:
            self._cancel(self._enqueues)
            self._cancel(self._dequeues)
            self.closed = True

    # --- inside ---

    def _line(self, operation: _Operation) -> deque[_Operation]:
        return self._dequeues if isinstance(operation, _Dequeue) else self._enqueues

    @staticmethod
    def _wait(operation: _Operation, cancellation: Cancellation) -> None:
        text = f"{operation.kind} operation was cancelled"
        cancellation.wait(operation.condition, lambda: operation.done, text)

    def _withdraw(self, operation: _Operation) -> None:
        """Take the operation out of its line unless it is through."""
        if not operation.done and operation in self._line(operation):
            self._line(operation).remove(operation)
            operation.withdraw(self)
            self._drive()

    def _drive(self) -> None:
        """Let the operations at the heads of the lines go on until none can."""
        if self._driving:
            return  # a ticket was let go of in the middle of this; the loop below comes to it
        self._driving = changed = True
        try:
            while changed or self._given_up:
                changed = False
                self._undo_given_up()
                for line in (self._enqueues, self._dequeues):
                    while line and line[0].advance(self):
                        changed = True
                        if not line[0].done:
                            break
                        line.popleft()
        finally:
            self._driving = False

    def _undo_given_up(self) -> None:
        while self._given_up:
            operation = self._given_up.popleft()
            if not operation.done and operation in self._line(operation):
                self._line(operation).remove(operation)
            operation.withdraw(self)

    def _cancel(self, line: deque[_Operation]) -> None:
        while line:
            operation = line.popleft()
            operation.withdraw(self)
            operation.finish(OpFailure(f"{operation.kind} operation was cancelled", CANCELLED))

    def _is_closed(self) -> OpFailure:
        return OpFailure(f"{self.kind} '{self.name}' is closed.", CANCELLED)

    def _too_few(self, wanted: int, at_hand: int) -> OpFailure:
        text = f"is closed and has insufficient elements (requested {wanted}, current size {at_hand})"
        return OpFailure(f"{self.kind} '{self.name}' {text}", OUT_OF_RANGE)

    def _check_components(self, components: Sequence[np.ndarray]) -> None:
        if len(components) != len(self.dtypes):
            raise OpFailure(f"Expected {len(self.dtypes)} components in tuple but got {len(components)}")
        for k, (array, dtype) in enumerate(zip(components, self.dtypes)):
            if array.dtype != dtype.np:
                raise OpFailure(f"Type mismatch in tuple component {k}. Expected {dtype.name}, got {array.dtype}")

    def _rows(self, components: Sequence[np.ndarray]) -> int:
        """How many elements the components are; they must agree."""
        if not components[0].ndim:
            raise OpFailure("Input to enqueue_many must have at least one dimension: component 0 has shape []")
        count = len(components[0])
        for k, (array, shape) in enumerate(zip(components, self.shapes)):
            self._check_shape(k, (count, *shape), array)
        for k, array in enumerate(components):
            if not array.ndim or len(array) != count:
                size = len(array) if array.ndim else "none"
                raise OpFailure(
                    f"All input tensors must have the same size in the 0th dimension. Component {k} has {size}, and "
                    f"should have {count}"
                )
        return count

    @staticmethod
    def _check_shape(k: int, shape: ShapeLike, array: np.ndarray) -> None:
        given = array.shape
        if given == shape:
            return
        if len(given) != len(shape) or any(want is not None and want != have for want, have in zip(shape, given)):
            raise OpFailure(f"Shape mismatch in tuple component {k}. Expected {_show(shape)}, got {_show(given)}")

    def _stack(self, k: int, arrays: Sequence[np.ndarray]) -> np.ndarray:
        stacked = np.empty((len(arrays), *self.shapes[k]), self.dtypes[k].np)
        for row, array in enumerate(arrays):
            stacked[row, ...] = array
        return stacked


class Ticket:
    """An operation that was started. Who lets go of the ticket without having waited gives the operation up."""

    __slots__ = ("_operation", "_queue")

    def __init__(self, queue: Queue, operation: _Operation) -> None:
        self._queue = queue
        self._operation: _Operation | None = operation

    def wait(self, cancellation: Cancellation) -> tuple[np.ndarray, ...]:
        """What the operation took; to be called once."""
        operation, self._operation = self._operation, None
        assert operation is not None
        return self._queue.finish(operation, cancellation)

    def __del__(self) -> None:
        if self._operation is not None:
            self._queue.give_up(self._operation)


def _show(shape: ShapeLike) -> str:
    return "[" + ",".join("?" if extent is None else str(extent) for extent in shape) + "]"


class FIFOQueue(Queue):
    """Elements leave in the order in which they came."""

    kind = "FIFOQueue"

    def __init__(self, name: str, capacity: int, dtypes: Sequence[DType], shapes: Sequence[Any]) -> None:
        super().__init__(name, capacity, dtypes, shapes)
        self._elements: deque[Element] = deque()

    def __len__(self) -> int:
        return len(self._elements)

    def _put(self, element: Element) -> None:
        self._elements.append(element)

    def _take(self) -> Element:
        return self._elements.popleft()

    def _put_back(self, elements: Sequence[Element]) -> None:
        self._elements.extendleft(reversed(elements))


class PaddingFIFOQueue(FIFOQueue):
    """Extents may vary from element to element; a batch has the largest, filled up with zeros or empty strings."""

    kind = "PaddingFIFOQueue"

    def _stack(self, k: int, arrays: Sequence[np.ndarray]) -> np.ndarray:
        shape, dtype = self.shapes[k], self.dtypes[k]
        extents = [
            max((array.shape[axis] for array in arrays), default=0) if extent is None else extent
            for axis, extent in enumerate(shape)
        ]
        stacked = np.full((len(arrays), *extents), b"" if dtype.kind == "s" else 0, dtype.np)
        for row, array in enumerate(arrays):
            place: tuple[Any, ...] = (row, *map(slice, array.shape), ...)
            stacked[place] = array
        return stacked


class RandomShuffleQueue(Queue):
    """Elements leave in random order, drawn among those that are there; `seed` None: another order each time."""

    kind = "RandomShuffleQueue"

    def __init__(
        self, name: str, capacity: int, dtypes: Sequence[DType], shapes: Sequence[Any], kept_back: int, seed: Any
    ) -> None:
        super().__init__(name, capacity, dtypes, shapes)
        if kept_back < 0:
            raise OpFailure(f"min_after_dequeue {kept_back} must be >= 0")
        if kept_back >= self.room:
            raise OpFailure(f"min_after_dequeue {kept_back} must be < capacity {capacity}")
        self.kept_back = kept_back
        self._random = random.Random(seed)
        self._elements: list[Element] = []

    def __len__(self) -> int:
        return len(self._elements)

    def _put(self, element: Element) -> None:
        self._elements.append(element)

    def _take(self) -> Element:
        elements = self._elements
        at = self._random.randrange(len(elements))
        elements[at], elements[-1] = elements[-1], elements[at]
        return elements.pop()

    def _put_back(self, elements: Sequence[Element]) -> None:
        self._elements.extend(elements)


class PriorityQueue(Queue):
    """The element with the smallest first component leaves first; of equal ones, the one that came first."""

    kind = "PriorityQueue"

    def __init__(self, name: str, capacity: int, dtypes: Sequence[DType], shapes: Sequence[Any]) -> None:
        super().__init__(name, capacity, dtypes, shapes)
        self._heap: list[tuple[int, int, Element]] = []
        self._numbers = itertools.count()
        self._back = itertools.count(-1, -1)

    def __len__(self) -> int:
        return len(self._heap)

    def _put(self, element: Element) -> None:
        heapq.heappush(self._heap, (int(element[0]), next(self._numbers), element))

    def _take(self) -> Element:
        return heapq.heappop(self._heap)[2]

    def _put_back(self, elements: Sequence[Element]) -> None:
        for element in reversed(elements):
            heapq.heappush(self._heap, (int(element[0]), next(self._back), element))
