"""Threads that keep queues filled."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation
from stepjit.ops.queues import QueueBase
from stepjit.session.defaults import get_default_session
from stepjit.train.coordinator import Coordinator
from stepjit_runtime import forking
from stepjit_runtime.errors import OutOfRangeError, error_code_from_exception_type, exception_type_from_error_code

_LOG = logging.getLogger("tensorflow")


class QueueRunner:
    """Runs enqueue ops of one queue, each in a thread of its own, until the input ends or the coordinator stops.

    queue_closed_exception_types: exceptions that tell the end of the input, by default OutOfRangeError; the queue is
        closed when all threads have come to it. Others are reported to the coordinator.
    queue_runner_def: a QueueRunnerDef to take all from; its names have `import_scope` put before them.
    """

    def __init__(
        self,
        queue: QueueBase | None = None,
        enqueue_ops: Sequence[Any] | None = None,
        close_op: Operation | None = None,
        cancel_op: Operation | None = None,
        queue_closed_exception_types: tuple[type[Exception], ...] | None = None,
        queue_runner_def: Any = None,
        import_scope: str | None = None,
    ) -> None:
        self._lock = forking.lock()
        self._running: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        """By session: threads under way."""
        self._exceptions: list[Exception] = []
        if queue_runner_def is not None:
            if queue is not None or enqueue_ops is not None:
                raise ValueError("queue_runner_def and queue are mutually exclusive.")
            self._init_from_proto(queue_runner_def, import_scope)
            return
        if queue is None or not enqueue_ops:
            raise ValueError("Must provide queue and enqueue_ops.")
        self._queue: Any = queue
        self._enqueue_ops = list(enqueue_ops)
        self._close_op = close_op if close_op is not None else queue.close()
        self._cancel_op = cancel_op if cancel_op is not None else queue.close(cancel_pending_enqueues=True)
        kinds = (OutOfRangeError,) if queue_closed_exception_types is None else queue_closed_exception_types
        if not isinstance(kinds, tuple) or not kinds or not all(issubclass(kind, Exception) for kind in kinds):
            raise TypeError(f"queue_closed_exception_types must be a non-empty tuple of error types, not {kinds!r}")
        self._closed_types: tuple[type[Exception], ...] = kinds

    # --- what it is ---

    @property
    def queue(self) -> Any:
        return self._queue

    @property
    def enqueue_ops(self) -> list[Any]:
        return self._enqueue_ops

    @property
    def close_op(self) -> Any:
        return self._close_op

    @property
    def cancel_op(self) -> Any:
        return self._cancel_op

    @property
    def queue_closed_exception_types(self) -> tuple[type[Exception], ...]:
        return self._closed_types

    @property
    def exceptions_raised(self) -> list[Exception]:
        """What threads without a coordinator raised, since they were made last."""
        return self._exceptions

    @property
    def name(self) -> str:
        """The queue's name."""
        name: str = self._queue.name
        return name

    # --- running ---

    def create_threads(
        self, sess: Any, coord: Coordinator | None = None, daemon: bool = False, start: bool = False
    ) -> list[threading.Thread]:
        """Threads that run the enqueue ops in `sess`: none, while earlier ones are under way in that session.

        With a coordinator there is one more, which closes the queue when the stop is asked for.
        """
        with self._lock:
            if self._running.get(sess, 0) > 0:
                return []
            self._running[sess] = len(self._enqueue_ops)
            self._exceptions = []
        prefix = f"QueueRunnerThread-{self.name}"
        threads = [
            threading.Thread(target=self._run, args=(sess, op, coord), name=f"{prefix}-{op.name}", daemon=daemon)
            for op in self._enqueue_ops
        ]
        if coord is not None:
            closer = (sess, coord)
            threads.append(
                threading.Thread(target=self._stop, args=closer, name=f"{prefix}-close_on_stop", daemon=daemon)
            )
        for thread in threads:
            if coord is not None:
                coord.register_thread(thread)
            if start:
                thread.start()
        return threads

    def _run(self, sess: Any, enqueue_op: Any, coord: Coordinator | None) -> None:
        ended = False
        try:
            enqueue = sess.make_callable(enqueue_op)
            while coord is None or not coord.should_stop():
                enqueue()
        except self._closed_types:
            ended = True
        except Exception as error:
            if coord is not None:
                coord.request_stop(error)
            else:
                _LOG.error("Exception in QueueRunner: %s", error)
                with self._lock:
                    self._exceptions.append(error)
                raise
        finally:
            with self._lock:
                left = self._running[sess] = self._running.get(sess, 1) - 1
            if ended and left == 0:
                self._quietly(sess, self._close_op)

    def _stop(self, sess: Any, coord: Coordinator) -> None:
        coord.wait_for_stop()
        self._quietly(sess, self._cancel_op)

    @staticmethod
    def _quietly(sess: Any, op: Any) -> None:
        try:
            sess.run(op)
        except Exception as error:
            # The queue may be closed already, and so may the session.
            _LOG.info("Ignored exception: %s", error)

    # --- messages ---

    def to_proto(self, export_scope: str | None = None) -> Any:
        """A QueueRunnerDef with names relative to `export_scope`; None when the queue is not in that scope."""
        from stepjit.proto import MESSAGES

        if export_scope is not None and not self.name.startswith(export_scope):
            return None
        found = MESSAGES["QueueRunnerDef"]()
        found.queue_name = _stripped(self.name, export_scope)
        found.enqueue_op_name.extend(_stripped(op.name, export_scope) for op in self._enqueue_ops)
        found.close_op_name = _stripped(self._close_op.name, export_scope)
        found.cancel_op_name = _stripped(self._cancel_op.name, export_scope)
        found.queue_closed_exception_types.extend(map(error_code_from_exception_type, self._closed_types))
        return found

    @staticmethod
    def from_proto(queue_runner_def: Any, import_scope: str | None = None) -> QueueRunner:
        """The runner that a QueueRunnerDef describes, for ops of the default graph."""
        return QueueRunner(queue_runner_def=queue_runner_def, import_scope=import_scope)

    def _init_from_proto(self, described: Any, scope: str | None) -> None:
        element = get_default_graph().as_graph_element

        def found(name: str) -> Any:
            return element(f"{scope}/{name}" if scope else name)

        handle = found(described.queue_name)
        handle = handle.outputs[0] if isinstance(handle, Operation) else handle
        types = handle.op.attrs.get("component_types", ())
        self._queue = QueueBase(list(types), None, None, handle)
        self._enqueue_ops = [found(name) for name in described.enqueue_op_name]
        self._close_op, self._cancel_op = found(described.close_op_name), found(described.cancel_op_name)
        codes = list(described.queue_closed_exception_types)
        self._closed_types = tuple(map(exception_type_from_error_code, codes)) or (OutOfRangeError,)


def _stripped(name: str, scope: str | None) -> str:
    return name.removeprefix(f"{scope}/") if scope else name


def add_queue_runner(qr: QueueRunner, collection: str = GraphKeys.QUEUE_RUNNERS) -> None:
    """Add to a collection of the default graph, from which `start_queue_runners` takes it."""
    get_default_graph().add_to_collection(collection, qr)


def start_queue_runners(
    sess: Any = None,
    coord: Coordinator | None = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = GraphKeys.QUEUE_RUNNERS,
) -> list[threading.Thread]:
    """Make, and start, the threads of all queue runners in a collection of the session's graph.

    ValueError when no session is given and none is the default; TypeError for what is no session.
    """
    if sess is None:
        sess = get_default_session()
        if sess is None:
            raise ValueError(
                "Cannot start queue runners: No default session is registered. Use `with sess.as_default()` or pass an "
                "explicit session to tf.start_queue_runners(sess=sess)"
            )
    if not hasattr(sess, "make_callable"):
        raise TypeError(f"sess must be a `tf.Session` object. Given class: {type(sess)}")
    runners = sess.graph.get_collection(collection)
    if not runners:
        _LOG.warning("`tf.train.start_queue_runners()` was called when no queue runners were defined.")
    return [
        thread
        for runner in runners
        for thread in runner.create_threads(sess, coord=coord, daemon=daemon, start=start)
    ]
