"""Queue runners and input pipelines: epochs, order, batches of every kind, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@contextmanager
def pipeline(make: Callable[[], Any]) -> Iterator[tuple[tf.Session, Any]]:
    """A session whose queue runners run, and what `make` made."""
    with tf.Graph().as_default(), tf.Session() as session:
        made = make()
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        coord = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(session, coord)
        yield session, made
        coord.request_stop()
        coord.join(threads, stop_grace_period_secs=10)
        assert not any(thread.is_alive() for thread in threads)


def drained(session: tf.Session, tensor: Any) -> list[Any]:
    """What all steps give until the input ends."""
    found = []
    while True:
        try:
            found.append(session.run(tensor))
        except tf.errors.OutOfRangeError:
            return found


def numbers(limit: int, epochs: int | None = 1, shuffle: bool = False) -> tf.Tensor:
    return tf.train.range_input_producer(limit, num_epochs=epochs, shuffle=shuffle).dequeue()


def test_epochs_in_order() -> None:
    with pipeline(lambda: numbers(3, 2)) as (session, number):
        assert drained(session, number) == [0, 1, 2, 0, 1, 2]


def test_each_epoch_is_shuffled_anew() -> None:
    make = lambda: tf.train.range_input_producer(20, num_epochs=3, seed=3, capacity=60).dequeue_many(20)  # noqa: E731
    with pipeline(make) as (session, rows):
        epochs = [row.tolist() for row in drained(session, rows)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_strings_and_slices() -> None:
    def make() -> Any:
        names = tf.train.string_input_producer(["a", "b"], num_epochs=1, shuffle=False, name="names")
        assert names.name == "names" and names.shapes == [tf.TensorShape([])]
        return names.dequeue(), tf.train.slice_input_producer([np.eye(3), [5, 6, 7]], num_epochs=1, shuffle=False)

    with pipeline(make) as (session, (name, rows)):
        assert drained(session, name) == [b"a", b"b"]
        assert [(row.tolist(), int(number)) for row, number in drained(session, rows)] == [
            ([1, 0, 0], 5), ([0, 1, 0], 6), ([0, 0, 1], 7),
        ]  # fmt: skip


def test_batches_of_dictionaries() -> None:
    def make() -> Any:
        n = numbers(5)
        return tf.train.batch({"n": n, "square": n * n}, 2, allow_smaller_final_batch=True)

    with pipeline(make) as (session, batch):
        assert sorted(batch) == ["n", "square"]
        found = drained(session, batch)
        assert [each["n"].tolist() for each in found] == [[0, 1], [2, 3], [4]]
        assert [each["square"].tolist() for each in found] == [[0, 1], [4, 9], [16]]


def test_incomplete_batches_are_dropped() -> None:
    with pipeline(lambda: tf.train.batch([numbers(5)], 2, name="pairs")) as (session, batch):
        assert batch.name == "pairs:0" and batch.shape.as_list() == [2]
        assert [each.tolist() for each in drained(session, batch)] == [[0, 1], [2, 3]]


def test_batches_are_padded() -> None:
    def make() -> Any:
        n = numbers(4)
        return tf.train.batch([tf.range(n)], 4, dynamic_pad=True)

    with pipeline(make) as (session, batch):
        assert session.run(batch).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 2]]


def test_batches_of_many() -> None:
    def make() -> Any:
        n = numbers(3)
        return tf.train.batch([tf.stack([n, n + 10])], 3, enqueue_many=True)

    with pipeline(make) as (session, batch):
        assert [each.tolist() for each in drained(session, batch)] == [[0, 10, 1], [11, 2, 12]]


@pytest.mark.parametrize("many", [False, True])
def test_only_what_is_kept(many: bool) -> None:
    def make() -> Any:
        n = numbers(8)
        if many:
            pair = tf.stack([n, n + 100])
            return tf.train.maybe_batch([pair], tf.equal(pair % 2, 0), 2, enqueue_many=True)
        return tf.train.maybe_batch([n], tf.equal(n % 2, 0), 2)

    with pipeline(make) as (session, batch):
        found = np.concatenate(drained(session, batch)).tolist()
    assert found == ([0, 100, 2, 102, 4, 104, 6, 106] if many else [0, 2, 4, 6])


def test_shuffled_and_joined() -> None:
    def make() -> Any:
        one, other = numbers(10), numbers(10) + 100
        joined = tf.train.shuffle_batch_join([[one], [other]], 20, capacity=40, min_after_dequeue=0, seed=1)
        return joined, tf.train.shuffle_batch([numbers(10)], 5, 20, 2, num_threads=2)

    with pipeline(make) as (session, (joined, shuffled)):
        assert sorted(session.run(joined).tolist()) == [*range(10), *range(100, 110)]
        assert sorted(np.concatenate(drained(session, shuffled)).tolist()) == list(range(10))


def test_joined() -> None:
    make = lambda: tf.train.batch_join([[numbers(4)], [numbers(4) + 100]], 8)  # noqa: E731
    with pipeline(make) as (session, batch):
        found = session.run(batch).tolist()
        assert [n for n in found if n < 100] == [0, 1, 2, 3]
        assert [n for n in found if n >= 100] == [100, 101, 102, 103]


@pytest.mark.parametrize("many", [False, True])
def test_sparse_tensors(many: bool) -> None:
    def make() -> Any:
        n = numbers(4)
        row = tf.SparseTensor(tf.expand_dims(tf.range(tf.cast(n, tf.int64)), 1), tf.range(n), [5])
        if many:
            row = tf.SparseTensor([[0, 1], [1, 0], [1, 4]], tf.stack([n, n + 10, n + 20]), [2, 5])
        return tf.train.batch({"n": tf.stack([n, n]) if many else n, "row": row}, 4, enqueue_many=many)

    with pipeline(make) as (session, batch):
        assert batch["row"].dense_shape.shape.as_list() == [2] and batch["row"].indices.shape.as_list() == [None, 2]
        found = session.run(batch)
        assert found["row"].dense_shape.tolist() == [4, 5]
        if many:
            assert found["row"].indices.tolist() == [[0, 1], [1, 0], [1, 4], [2, 1], [3, 0], [3, 4]]
            assert found["row"].values.tolist() == [0, 10, 20, 1, 11, 21]
        else:
            assert found["row"].indices.tolist() == [[1, 0], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2]]
            assert found["row"].values.tolist() == [0, 0, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf.train.batch([tf.placeholder(tf.int32)], 2), "Cannot infer Tensor's rank"),
        (lambda: tf.train.batch([tf.placeholder(tf.int32, [None])], 2), "fully defined"),
        (lambda: tf.train.batch([], 2), r"at least one tensor in batch\(\)"),
        (lambda: tf.train.batch_join([[[1]], [[1, 2]]], 4), "not compatible"),
        (lambda: tf.train.maybe_batch([1], [True], 2), "cannot be a vector"),
        (lambda: tf.train.maybe_batch([[1]], [[True]], 2, enqueue_many=True), "0 or 1 dimensions"),
        (lambda: tf.train.limit_epochs(1, 0), "num_epochs must be > 0 not 0"),
        (lambda: tf.train.input_producer(tf.placeholder(tf.int32, [None, None])), "element_shape"),
        (lambda: tf.train.string_input_producer([]), "non-null"),
        (lambda: tf.train.slice_input_producer([]), "at least one tensor"),
        (lambda: tf.train.QueueRunner(), "Must provide queue and enqueue_ops"),
        (lambda: tf.train.start_queue_runners(), "No default session"),
    ],
)
def test_mistakes(make: Callable[[], Any], message: str) -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        make()


# --- queue runners ---


def test_runners_start_once_per_session() -> None:
    with tf.Graph().as_default():
        queue = tf.FIFOQueue(2, tf.int32)
        runner = tf.train.QueueRunner(queue, [queue.enqueue(1)] * 2)
        with tf.Session() as one, tf.Session() as other:
            coord = tf.train.Coordinator()
            threads = runner.create_threads(one, coord, daemon=True, start=True)
            assert len(threads) == 3 and threads[0].name == "QueueRunnerThread-fifo_queue-fifo_queue_enqueue"
            assert runner.create_threads(one, coord) == []
            threads += runner.create_threads(other, coord, daemon=True, start=True)
            assert len(threads) == 6
            time.sleep(0.05)
            coord.request_stop()
            coord.join(threads, stop_grace_period_secs=10)


def test_runner_without_coordinator() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(9, tf.int32)
        epochs = tf.Variable(0)
        session.run(epochs.initializer)
        good = tf.train.QueueRunner(queue, [queue.enqueue(epochs.count_up_to(3))])
        for thread in good.create_threads(session, start=True):
            thread.join(10)
        assert session.run([queue.size(), queue.is_closed()]) == [3, True] and good.exceptions_raised == []


def test_runner_keeps_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda details: None)
    with tf.Graph().as_default(), tf.Session() as session:
        queue = tf.FIFOQueue(9, tf.int32)
        bad = tf.train.QueueRunner(queue, [queue.enqueue(tf.placeholder(tf.int32, []))])
        for thread in bad.create_threads(session, start=True):
            thread.join(10)
        assert [type(error) for error in bad.exceptions_raised] == [tf.errors.InvalidArgumentError]


def test_messages_of_runners() -> None:
    with tf.Graph().as_default(), tf.name_scope("s"):
        queue = tf.FIFOQueue(2, tf.int32, shapes=[[]])
        runner = tf.train.QueueRunner(queue, [queue.enqueue(1)])
        message = runner.to_proto()
        assert message.queue_name == "s/fifo_queue" and list(message.queue_closed_exception_types) == [11]
        assert runner.to_proto("s").enqueue_op_name == ["fifo_queue_enqueue"] and runner.to_proto("other") is None
        again = tf.train.QueueRunner.from_proto(runner.to_proto("s"), "s")
        assert again.name == runner.name and again.enqueue_ops == runner.enqueue_ops
        assert again.cancel_op is runner.cancel_op


def test_closing_a_session_under_its_runners() -> None:
    with tf.Graph().as_default():
        number = numbers(3, None)
        session = tf.Session()
        session.run(tf.local_variables_initializer())
        coord = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(session, coord)
        assert session.run(number) == 0
        session.close()
        assert coord.wait_for_stop(10)
        with pytest.raises((tf.errors.CancelledError, RuntimeError)):
            coord.join(threads, stop_grace_period_secs=10)
        assert not any(thread.is_alive() for thread in threads)
