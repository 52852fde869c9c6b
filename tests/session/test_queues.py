"""Queues in sessions: order, blocking, closing, limits, shapes, state, and steps that hold several of their ops."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit_runtime.cancellation import Cancellation
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.errors import OpFailure
from stepjit_runtime.queues import FIFOQueue, PriorityQueue, RandomShuffleQueue


@pytest.fixture
def session() -> Iterator[tf.Session]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def started(function: Callable[[], Any], then_waits: bool = True) -> Future[Any]:
    """The future of a call in a thread of its own, once that has had the time to block."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    if then_waits:
        time.sleep(0.1)
        assert not future.done()
    return future


# --- shapes ---


def test_ranks_may_change_from_element_to_element(session: tf.Session) -> None:
    queue = tf.FIFOQueue(10, tf.float32)
    value = tf.placeholder(tf.float32)
    put, taken = queue.enqueue(value), queue.dequeue() * 2
    values = [np.float32(3), np.arange(3, dtype=np.float32), np.ones((2, 2), np.float32), np.float32(4)]
    for each in values:
        session.run(put, {value: each})
    for each in values:
        np.testing.assert_array_equal(session.run(taken), each * 2)
    assert session.run(queue.size()) == 0


def test_nothing_is_taken_twice_when_a_rank_was_guessed_wrong(session: tf.Session) -> None:
    queue, other = tf.FIFOQueue(10, tf.int32), tf.FIFOQueue(10, tf.int32)
    value = tf.placeholder(tf.int32)
    put = [queue.enqueue(value), other.enqueue(value)]
    counter = tf.Variable(0)
    session.run(counter.initializer)
    with tf.control_dependencies([counter.assign_add(1)]):
        both = [queue.dequeue() + 0, tf.reduce_sum(other.dequeue()), tf.random_uniform([2])]
    for each in (1, [1, 2], [[3]]):
        session.run(put, {value: each})
    assert [session.run(both)[1] for _ in range(3)] == [1, 3, 3]
    assert session.run([queue.size(), other.size(), counter]) == [0, 0, 3]


def test_static_shapes(session: tf.Session) -> None:
    queue = tf.FIFOQueue(5, [tf.int32, tf.float32], shapes=[[], [2]], name="q")
    n = tf.placeholder(tf.int32, [])
    assert [t.shape.as_list() for t in queue.dequeue()] == [[], [2]]
    assert [t.shape.as_list() for t in queue.dequeue_many(3)] == [[3], [3, 2]]
    assert [t.shape.as_list() for t in queue.dequeue_many(n)] == [[None], [None, 2]]
    assert [t.shape.as_list() for t in queue.dequeue_up_to(3)] == [[None], [None, 2]]
    assert queue.dequeue()[0].op.name == "q_Dequeue_1" and queue.enqueue([1, [2.0, 3.0]]).name == "q_enqueue"
    assert tf.FIFOQueue(5, tf.int32).dequeue().shape.ndims is None
    with pytest.raises(ValueError, match="must be >= 0"):
        queue.dequeue_many(-1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="requested -2 < 0 elements"):
        session.run(queue.dequeue_many(n), {n: -2})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[[1, 2, 3]], [1.0]], r"component 0. Expected \[1,2\], got \[1,3\]"),
        ([[[1, 2]], [1.0, 2.0]], r"component 1. Expected \[1\], got \[2\]"),
        ([[1, 2], [1.0, 2.0]], r"component 0. Expected \[2,2\], got \[2\]"),
    ],
)
def test_shapes_of_many_are_checked(session: tf.Session, values: Any, message: str) -> None:
    queue = tf.FIFOQueue(5, [tf.int32, tf.float32], shapes=[[2], []])
    a, b = tf.placeholder(tf.int32), tf.placeholder(tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run(queue.enqueue_many([a, b]), dict(zip((a, b), values)))


def test_rows_must_agree(session: tf.Session) -> None:
    queue = tf.FIFOQueue(5, [tf.int32, tf.float32])
    a, b = tf.placeholder(tf.int32), tf.placeholder(tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Component 1 has 2, and should have 1"):
        session.run(queue.enqueue_many([a, b]), {a: [1], b: [1.0, 2.0]})


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: tf.FIFOQueue(3, [tf.int32], shapes=[[1], [2]]), ValueError, "same length as dtypes"),
        (lambda: tf.FIFOQueue(3, [tf.int32], shapes=[[None]]), ValueError, "fully defined"),
        (lambda: tf.FIFOQueue(3, [tf.int32], shapes=2), TypeError, "Shapes must be"),
        (lambda: tf.FIFOQueue(3, [tf.int32], names=["a", "b"]), ValueError, "List of names"),
        (lambda: tf.PaddingFIFOQueue(3, [tf.int32], None), ValueError, "partial shapes"),
        (lambda: tf.PaddingFIFOQueue(3, [tf.int32], [[None], [1]]), ValueError, "1 dtypes and 2 shapes"),
        (lambda: tf.QueueBase.from_list(0, []), TypeError, "list of queues"),
        (lambda: tf.FIFOQueue(3, tf.int32).enqueue({"a": 1}), ValueError, "must have names"),
        (lambda: tf.FIFOQueue(3, tf.int32).enqueue("a"), TypeError, "int32"),
        (lambda: tf.FIFOQueue(3, tf.int32).enqueue_many(1), ValueError, "rank at least 1"),
    ],
)
def test_mistakes_at_build(session: tf.Session, make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


# --- kinds ---


def test_padding_of_an_empty_batch(session: tf.Session) -> None:
    queue = tf.PaddingFIFOQueue(3, [tf.int32], [[None, 2]])
    assert queue.dequeue_many(3).shape.as_list() == [3, None, 2]
    assert session.run(queue.dequeue_many(0)).shape == (0, 0, 2)
    value = tf.placeholder(tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected \[\?,2\], got \[1,3\]"):
        session.run(queue.enqueue([value]), {value: [[1, 2, 3]]})


def test_equal_priorities_leave_in_order(session: tf.Session) -> None:
    queue = tf.PriorityQueue(10, [tf.string], shapes=[[]])
    session.run(queue.enqueue_many([np.array([2, 1, 2, 1], np.int64), list("abcd")]))
    keys, values = session.run(queue.dequeue_many(4))
    assert keys.tolist() == [1, 1, 2, 2] and values.tolist() == [b"b", b"d", b"a", b"c"] and type(values[0]) is bytes


def test_shuffling_repeats_with_a_seed() -> None:
    def shuffled(seed: int | None) -> list[int]:
        with tf.Graph().as_default(), tf.Session() as session:
            queue = tf.RandomShuffleQueue(100, 0, tf.int32, shapes=[[]], seed=seed)
            session.run(queue.enqueue_many([np.arange(50, dtype=np.int32)]))
            return list(session.run(queue.dequeue_many(50)))

    assert shuffled(3) == shuffled(3) != shuffled(4)
    assert sorted(shuffled(None)) == list(range(50))


@pytest.mark.parametrize(("kept", "message"), [(3, "3 must be < capacity 3"), (-1, "-1 must be >= 0")])
def test_shuffle_queue_limits(session: tf.Session, kept: int, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run(tf.RandomShuffleQueue(3, kept, tf.int32).size())


def test_no_capacity_limit(session: tf.Session) -> None:
    queue = tf.FIFOQueue(-1, tf.int32, shapes=[[]])
    session.run(queue.enqueue_many([np.arange(1000, dtype=np.int32)]))
    assert session.run(queue.size()) == 1000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf.FIFOQueue(4, tf.int32, shared_name="z"), "capacity 3 but requested capacity was 4"),
        (lambda: tf.FIFOQueue(3, tf.float32, shared_name="z"), "component types"),
        (lambda: tf.FIFOQueue(3, tf.int32, shapes=[[]], shared_name="z"), "component shapes"),
        (lambda: tf.RandomShuffleQueue(3, 1, tf.int32, shared_name="z"), "Expected FIFOQueue, found Random"),
    ],
)
def test_sharers_must_agree(session: tf.Session, make: Callable[[], Any], message: str) -> None:
    session.run(tf.FIFOQueue(3, tf.int32, shared_name="z").enqueue(1))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run(make().size())


def test_from_list_out_of_range(session: tf.Session) -> None:
    queue = tf.FIFOQueue(3, tf.int32)
    index = tf.placeholder(tf.int32, [])
    with pytest.raises(tf.errors.InvalidArgumentError, match="not in"):
        session.run(tf.QueueBase.from_list(index, [queue, queue]).size(), {index: 2})


def test_older_op_types(session: tf.Session) -> None:
    handle = tf.raw_ops.FIFOQueue(component_types=[tf.int32], shapes=[[]], capacity=3)
    queue = tf.QueueBase([tf.int32], [[]], None, handle)
    session.run(queue.enqueue_many([[1, 2]]))
    assert queue.dequeue().op.type == "QueueDequeue"
    assert session.run(queue.dequeue()) == 1 and session.run(queue.size()) == 1


# --- waiting ---


def test_time_limit_withdraws_what_waits(session: tf.Session) -> None:
    queue = tf.FIFOQueue(2, tf.int32, shapes=[[]])
    three, one, two = queue.dequeue_many(3), queue.dequeue(), queue.enqueue_many([[1, 2]])
    soon = tf.RunOptions(timeout_in_ms=50)
    session.run(two)
    with pytest.raises(tf.errors.DeadlineExceededError):
        session.run(three, options=soon)
    assert session.run(queue.size()) == 2
    with pytest.raises(tf.errors.DeadlineExceededError):
        session.run(two, options=soon)
    assert [session.run(one), session.run(one)] == [1, 2]
    assert session.run(queue.size()) == 0


def test_closing_returns_what_a_batch_took_in_part(session: tf.Session) -> None:
    queue = tf.FIFOQueue(10, tf.int32, shapes=[[]])
    five = queue.dequeue_many(5)
    close, two = queue.close(), queue.dequeue_up_to(5)
    session.run(queue.enqueue_many([[1, 2]]))
    waiting = started(lambda: session.run(five))
    session.run(close)
    with pytest.raises(tf.errors.OutOfRangeError, match="requested 3, current size 0"):
        waiting.result(5)
    assert session.run(two).tolist() == [1, 2]


def test_waiting_dequeues_are_served_in_order(session: tf.Session) -> None:
    queue = tf.FIFOQueue(10, tf.int32, shapes=[[]])
    many, one, value = queue.dequeue_many(2), queue.dequeue(), tf.placeholder(tf.int32, [])
    put = queue.enqueue(value)
    first = started(lambda: session.run(many))
    second = started(lambda: session.run(one))
    for k in range(3):
        session.run(put, {value: k})
    assert first.result(5).tolist() == [0, 1] and second.result(5) == 2


def test_what_waits_holds_up_nobody_else(session: tf.Session) -> None:
    queue, variable, x = tf.FIFOQueue(1, tf.int32), tf.Variable([1.0, 2.0]), tf.placeholder(tf.float32)
    session.run(variable.initializer)
    with tf.control_dependencies([variable.assign_add([1.0, 1.0])]):
        blocked = variable + tf.cast(queue.dequeue(), tf.float32)
    put, assign, doubled = queue.enqueue(5), variable.assign([10.0, 20.0]), x * 2
    other = tf.Variable([1.0], validate_shape=False)
    resized = [tf.assign(other, np.ones(n, np.float32), validate_shape=False) for n in (3, 4, 5)]
    waiting = started(lambda: session.run(blocked))
    session.run(assign)
    assert session.run(variable).tolist() == [10.0, 20.0]
    assert session.run(doubled, {x: np.ones((3, 3))}).sum() == 18
    for each in resized:
        session.run(each)
    session.run(put)
    assert waiting.result(5).tolist() in ([7.0, 8.0], [15.0, 25.0])


def test_closing_the_session_ends_all_that_waits() -> None:
    with tf.Graph().as_default() as graph:
        queue = tf.FIFOQueue(1, tf.int32)
        take, put = queue.dequeue(), tf.FIFOQueue(0, tf.int32).enqueue(1)
    session = tf.Session(graph=graph)
    waiting = [started(lambda: session.run(take)), started(lambda: session.run(put))]
    session.close()
    for future, kind in zip(waiting, ("Dequeue", "Enqueue")):
        with pytest.raises(tf.errors.CancelledError, match=f"{kind} operation was cancelled|Session has been closed"):
            future.result(5)


def test_one_step_may_fill_what_it_empties(session: tf.Session) -> None:
    queue = tf.FIFOQueue(1, tf.int32)
    take, put = queue.dequeue(), queue.enqueue(3)
    assert session.run([take, put]) == [3, None]
    session.run(queue.enqueue(5))
    assert session.run([put, take]) == [None, 5] and session.run(take) == 3
    with pytest.raises(tf.errors.OutOfRangeError):
        session.run([queue.dequeue(), queue.close()])


def test_control_dependencies_hold_among_ops_that_wait(session: tf.Session) -> None:
    queue, other = tf.FIFOQueue(3, tf.int32), tf.FIFOQueue(3, tf.int32)
    with tf.control_dependencies([queue.enqueue(1)]):
        first = queue.dequeue()
    with tf.control_dependencies([other.enqueue(first + 10)]):
        second = other.dequeue()
        size = other.size()
    assert session.run([second, first]) == [11, 1]
    assert session.run(size) == 1


def test_what_was_started_is_given_up_with_the_step(session: tf.Session) -> None:
    full, empty, plenty = (tf.FIFOQueue(1, tf.int32) for _ in range(3))
    session.run([full.enqueue(1), plenty.enqueue(7)])
    all_of_it = [full.enqueue(2), empty.dequeue(), plenty.dequeue()]
    for _ in range(2):
        with pytest.raises(tf.errors.DeadlineExceededError):
            session.run(all_of_it, options=tf.RunOptions(timeout_in_ms=50))
        gc.collect()
        assert session.run([full.size(), empty.size(), plenty.size()]) == [1, 0, 1]
    session.run([empty.close(), full.dequeue()])
    with pytest.raises(tf.errors.OutOfRangeError):
        session.run([empty.dequeue(), plenty.dequeue()])
    gc.collect()
    assert session.run(plenty.size()) == 1


def test_arrays_are_copied(session: tf.Session) -> None:
    queue = tf.FIFOQueue(3, tf.float32)
    value = tf.placeholder(tf.float32, [3])
    array = np.ones(3, np.float32)
    session.run(queue.enqueue(value), {value: array})
    array[:] = 7
    taken = session.run(queue.dequeue())
    assert taken.tolist() == [1, 1, 1] and taken.flags.owndata and taken.flags.writeable


def test_queues_go_with_their_session() -> None:
    gc.collect()
    before = sum(isinstance(each, FIFOQueue) for each in gc.get_objects())
    with tf.Graph().as_default(), tf.Session() as session:
        session.run(tf.FIFOQueue(3, tf.int32).enqueue(1))
    del session
    gc.collect()
    assert sum(isinstance(each, FIFOQueue) for each in gc.get_objects()) <= before


# --- without sessions ---


def test_operations_that_give_up_leave_no_trace() -> None:
    ended = Cancellation()
    ended.cancel()
    int32, shapes = as_dtype("int32"), ((),)
    zero, numbers = np.zeros((), np.int32), np.arange(2, dtype=np.int32)
    live = Cancellation()
    for queue in (
        FIFOQueue("f", 4, [int32], shapes),
        RandomShuffleQueue("r", 4, [int32], shapes, 0, 1),
        PriorityQueue("p", 4, [int32], shapes),
    ):
        queue.run(queue.enqueueing_many([numbers]), live)
        with pytest.raises(OpFailure, match="Dequeue operation was cancelled"):
            queue.run(queue.dequeueing_many(3), ended)
        assert queue.size() == 2
        queue.run(queue.enqueueing_many([numbers]), live)
        with pytest.raises(OpFailure, match="Enqueue operation was cancelled"):
            queue.run(queue.enqueueing([zero]), ended)
        assert sorted(queue.run(queue.dequeueing_many(4), live)[0].tolist()) == [0, 0, 1, 1]
        assert queue.size() == 0


def test_tickets_let_go_of_at_any_time() -> None:
    queue = FIFOQueue("f", 2, [as_dtype("int32")], ((),))
    live = Cancellation()
    one = [np.ones((), np.int32)]
    tickets = [queue.start(queue.enqueueing(one)) for _ in range(4)]
    takers = [queue.start(queue.dequeueing_many(3)), queue.start(queue.dequeueing())]
    assert queue.size() == 0
    del takers[0]
    # What was taken is back, beyond the capacity if need be.
    assert queue.size() == 3 and takers[0].wait(live)[0] == 1
    tickets[3].wait(live)
    del tickets, takers
    assert queue.size() == 3
    queue._driving = True  # as if in the middle of something
    waiting = queue.start(queue.enqueueing(one))
    del waiting
    queue._driving = False
    assert len(queue.run(queue.dequeueing_many(3), live)[0]) == 3 and queue.size() == 0


def test_many_threads_lose_nothing() -> None:
    queue = FIFOQueue("f", 3, [as_dtype("int64")], ((),))
    live = Cancellation()
    producers = [
        started(lambda k=k: [queue.run(queue.enqueueing([np.array(100 * k + i)]), live) for i in range(100)], False)  # type: ignore[misc]
        for k in range(4)
    ]
    consumers = [
        started(lambda: [int(x) for _ in range(20) for x in queue.run(queue.dequeueing_many(5), live)[0]], False) for _ in range(4)
    ]
    taken = [x for each in consumers for x in each.result(20)]
    for each in producers:
        each.result(5)
    assert sorted(taken) == list(range(400))


def test_what_waits_does_not_keep_old_buffers_of_variables(session: tf.Session) -> None:
    variable = tf.Variable([1.0], validate_shape=False)
    value = tf.placeholder(tf.float32, [None])
    resize = tf.assign(variable, value, validate_shape=False)
    take = tf.FIFOQueue(1, tf.int32).dequeue()
    session.run(variable.initializer)
    waiting = started(lambda: session.run(take))
    for size in range(2, 30):
        session.run(resize, {value: np.ones(size)})
    assert len(session._resources._retired) <= 1
    session.close()
    with pytest.raises(tf.errors.CancelledError):
        waiting.result(5)


def test_queues_of_imported_graphs() -> None:
    with tf.Graph().as_default() as graph:
        queue = tf.FIFOQueue(10, [tf.int32, tf.string], shapes=[[2], []], name="q")
        numbers, texts = tf.placeholder(tf.int32, [None, 2], name="x"), tf.placeholder(tf.string, [None], name="y")
        queue.enqueue_many([numbers, texts], name="put")
        tf.identity(queue.dequeue_many(2)[0] * 2, name="out")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(tf.GraphDef.FromString(graph.as_graph_def().SerializeToString()), name="")
        session.run("put", {"x:0": [[1, 2], [3, 4]], "y:0": ["a", "b"]})
        assert session.run("out:0").tolist() == [[2, 4], [6, 8]]
