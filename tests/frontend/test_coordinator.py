"""Coordinators and looper threads: stopping, joining, and which exception is raised."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from stepjit.train.coordinator import Coordinator, LooperThread
from stepjit_runtime.errors import OutOfRangeError


def test_only_the_exception_of_the_first_stop_request_counts() -> None:
    coord = Coordinator()
    coord.request_stop(KeyError("first"))
    coord.request_stop(ValueError("second"))
    with pytest.raises(KeyError, match="first"):
        coord.join([])
    quiet = Coordinator()
    quiet.request_stop()
    quiet.request_stop(ValueError("after the stop"))
    quiet.join([])


def test_exceptions_after_the_join_are_raised_at_once() -> None:
    coord = Coordinator()
    coord.request_stop()
    coord.join()
    assert coord.joined
    coord.request_stop()
    with pytest.raises(ValueError, match="late"):
        coord.request_stop(ValueError("late"))
    coord.clear_stop()
    assert not coord.joined and not coord.should_stop()


def test_exc_info_and_clean_types() -> None:
    coord = Coordinator(clean_stop_exception_types=(ValueError,))
    try:
        raise ValueError("clean")
    except ValueError:
        coord.request_stop(sys.exc_info())
    coord.join()
    other = Coordinator()
    other.request_stop(OutOfRangeError(None, None, "end"))
    other.raise_requested_exception()
    other.join()
    with pytest.raises(TypeError):
        Coordinator().request_stop("text")


def test_exceptions_keep_the_place_they_came_from() -> None:
    coord = Coordinator()

    def work() -> None:
        with coord.stop_on_exception():
            raise ValueError("inside")

    thread = threading.Thread(target=work)
    coord.register_thread(thread)
    thread.start()
    with pytest.raises(ValueError, match="inside") as caught:
        coord.join()
    assert "work" in [entry.name for entry in caught.traceback]


def test_threads_that_go_on_after_the_grace() -> None:
    coord, release = Coordinator(), threading.Event()
    thread = threading.Thread(target=release.wait, args=(20,), daemon=True, name="stubborn")
    thread.start()
    coord.request_stop()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="still running: stubborn"):
        coord.join([thread], stop_grace_period_secs=0.1)
    assert time.monotonic() - began < 2
    coord.join([thread], stop_grace_period_secs=0.01, ignore_live_threads=True)
    release.set()


def test_join_returns_when_threads_end_of_themselves() -> None:
    coord = Coordinator()
    thread = threading.Thread(target=time.sleep, args=(0.02,))
    thread.start()
    coord.join([thread])
    assert not coord.should_stop()


@pytest.mark.parametrize("interval", [None, 0.001])
def test_looper_threads(interval: float | None) -> None:
    coord = Coordinator()
    rounds: list[tuple[int, int]] = []
    enough = threading.Event()

    def work(a: int, b: int) -> None:
        rounds.append((a, b))
        if len(rounds) == 5:
            enough.set()
        time.sleep(0.001)

    looper = LooperThread.loop(coord, interval, work, args=(1,), kwargs={"b": 2})
    assert looper.daemon and enough.wait(5)
    coord.request_stop()
    coord.join()
    assert not looper.is_alive() and set(rounds) == {(1, 2)}
    with pytest.raises(ValueError, match="Coordinator"):
        LooperThread(None, None)  # type: ignore[arg-type]


def test_looper_threads_report_their_errors() -> None:
    coord = Coordinator()

    class Failing(LooperThread):
        def start_loop(self) -> None:
            raise KeyError("start")

    Failing(coord, None).start()
    with pytest.raises(KeyError, match="start"):
        coord.join()
