"""Threads that work together: `Coordinator` stops them all when one ends or fails, `LooperThread` is such a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from stepjit_runtime import forking
from stepjit_runtime.errors import OutOfRangeError

_LOG = logging.getLogger("tensorflow")
_POLL = 0.05
"""Seconds between looks at whether threads have ended of themselves."""


class Coordinator:
    """Asks a set of threads to stop, waits for them, and raises what went wrong in the first that failed.

    clean_stop_exception_types: exceptions that end the work without being errors; by default OutOfRangeError.
    """

    def __init__(self, clean_stop_exception_types: tuple[type[BaseException], ...] | None = None) -> None:
        self._clean = (OutOfRangeError,) if clean_stop_exception_types is None else tuple(clean_stop_exception_types)
        self._lock = forking.lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._joined = False
        self._registered: set[threading.Thread] = set()

    def request_stop(self, ex: Any = None) -> None:
        """Ask all to stop; `ex`, an exception or what `sys.exc_info` gives, is raised by `join` if it is the first.

        Once the threads were joined nobody would see it any more, so it is raised here.
        """
        error = ex[1] if isinstance(ex, tuple) else ex
        if error is not None and not isinstance(error, BaseException):
            raise TypeError(f"request_stop takes an exception or sys.exc_info(), not {error!r}")
        if isinstance(error, self._clean):
            error = None
        with self._lock:
            if self._joined:
                if error is not None:
                    raise error
                return
            if not self._stop.is_set():
                if error is not None:
                    _LOG.info("Error reported to Coordinator: %s, %s", type(error), error)
                    self._error = error
                self._stop.set()

    def clear_stop(self) -> None:
        """Forget that anyone asked to stop, and why."""
        with self._lock:
            self._joined, self._error = False, None
            self._stop.clear()

    def should_stop(self) -> bool:
        """Whether someone asked to stop."""
        return self._stop.is_set()

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Wait until someone asks to stop, at most `timeout` seconds; whether that happened."""
        return self._stop.wait(timeout)

    @contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """A block whose exceptions are reported to the coordinator instead of being raised."""
        try:
            yield
        except BaseException as error:
            self.request_stop(error)

    def register_thread(self, thread: threading.Thread) -> None:
        """A thread for `join` to wait for."""
        with self._lock:
            self._registered.add(thread)

    @property
    def joined(self) -> bool:
        return self._joined

    def raise_requested_exception(self) -> None:
        """Raise what `join` would raise, if it is there yet."""
        with self._lock:
            if self._error is not None:
                raise self._error

    def join(
        self,
        threads: Iterable[threading.Thread] | None = None,
        stop_grace_period_secs: float = 120,
        ignore_live_threads: bool = False,
    ) -> None:
        """Wait for the threads given and registered to end, after the first stop request no longer than the grace.

        Raises the exception of the first stop request; RuntimeError when threads are still running then, unless
        `ignore_live_threads`.
        """
        with self._lock:
            all_threads = self._registered.union(threads or ())
        while any(thread.is_alive() for thread in all_threads) and not self.wait_for_stop(_POLL):
            pass
        end = time.monotonic() + stop_grace_period_secs
        for thread in all_threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))
        alive = [thread.name for thread in all_threads if thread.is_alive()]
        with self._lock:
            self._joined = True
            self._registered.clear()
            self.raise_requested_exception()
        if alive:
            text = "Coordinator stopped with threads still running: " + " ".join(alive)
            if not ignore_live_threads:
                raise RuntimeError(text)
            _LOG.info(text)


class LooperThread(threading.Thread):
    """A daemon thread that calls `target` over and over, every `timer_interval_secs` (None: at once) until the stop.

    Subclasses may override `start_loop`, `run_loop` and `stop_loop`. What they raise is reported to the coordinator.
    """

    def __init__(
        self,
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., Any] | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(coord, Coordinator):
            raise ValueError(f"'coord' argument must be a Coordinator: {coord}")
        super().__init__(daemon=True)
        self._coord, self._interval = coord, timer_interval_secs
        self._call, self._call_args, self._call_kwargs = target, tuple(args or ()), dict(kwargs or {})
        coord.register_thread(self)

    @staticmethod
    def loop(
        coord: Coordinator, timer_interval_secs: float | None, target: Any, args: Any = None, kwargs: Any = None
    ) -> LooperThread:
        """Make such a thread and start it."""
        looper = LooperThread(coord, timer_interval_secs, target=target, args=args, kwargs=kwargs)
        looper.start()
        return looper

    def run(self) -> None:
        with self._coord.stop_on_exception():
            self.start_loop()
            if self._interval is None:
                while not self._coord.should_stop():
                    self.run_loop()
            else:
                due = time.monotonic()
                while not self._coord.wait_for_stop(max(0.0, due - time.monotonic())):
                    due += self._interval
                    self.run_loop()
            self.stop_loop()

    def start_loop(self) -> None:
        """Called when the thread begins."""

    def stop_loop(self) -> None:
        """Called when the loop has ended."""

    def run_loop(self) -> None:
        """Called in each round."""
        if self._call is not None:
            self._call(*self._call_args, **self._call_kwargs)
