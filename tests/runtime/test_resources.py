"""Session state: variables, waiting for steps under way, closing."""

from __future__ import annotations

import sys
import threading
import time

import ml_dtypes
import numpy as np
import pytest

from stepjit_runtime import dtypes
from stepjit_runtime.errors import FAILED_PRECONDITION, OpFailure
from stepjit_runtime.resources import Resources, Variable, aligned_buffer, layout_number


@pytest.fixture
def resources() -> Resources:
    return Resources()


def test_buffers_are_aligned() -> None:
    for size in (0, 1, 63, 64, 1000):
        buffer = aligned_buffer(size)
        assert buffer.nbytes == size
        assert not size or buffer.ctypes.data % 64 == 0
        assert not buffer.any()


def test_layout_numbers() -> None:
    first = layout_number(dtypes.float32, (2, 3))
    assert first > 0
    assert layout_number(dtypes.float32, (2, 3)) == first
    assert len({first, layout_number(dtypes.int32, (2, 3)), layout_number(dtypes.float32, (3, 2))}) == 3


def test_layout_numbers_are_told_apart_under_threads() -> None:
    found: dict[int, tuple[int, ...]] = {}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number: int) -> None:
        for k in range(300):
            shape = (number, k, 77)
            assert found.setdefault(layout_number(dtypes.float32, shape), shape) == shape

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert len(found) == 1800


def test_a_variable_holds_what_it_is_given(resources: Resources) -> None:
    variable = resources.variable("v", dtypes.float32, (2, 3))
    assert not variable.initialised
    with pytest.raises(OpFailure, match="uninitialized value v") as failure:
        variable.read()
    assert failure.value.code == FAILED_PRECONDITION
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    variable.assign(value)
    value[:] = 0
    read = variable.read()
    assert read.tolist() == [[0, 1, 2], [3, 4, 5]]
    read[:] = 9
    assert variable.read()[1, 2] == 5
    assert resources.variable("v", dtypes.float32, (2, 3)) is variable
    assert list(resources.variables()) == [variable]
    variable.clear()
    assert not variable.initialised


def test_equal_shape_keeps_the_buffer_and_another_shape_changes_it(resources: Resources) -> None:
    variable = resources.variable("v", dtypes.float32, (4,))
    variable.assign(np.ones(4))
    record = {name: variable.record[name] for name in ("data", "layout", "bytes")}
    variable.assign(np.zeros(4))
    assert {name: variable.record[name] for name in record} == record
    variable.assign(np.zeros((8, 2)))
    assert variable.shape == (8, 2)
    assert variable.record["layout"] != record["layout"]
    assert variable.record["bytes"] == 64
    assert variable.record["data"] % 64 == 0


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(dtypes.bfloat16, np.ones(3, ml_dtypes.bfloat16)), (dtypes.complex64, np.array([1j])), (dtypes.bool_, np.array(True)),
     (dtypes.string, np.array([b"a", b"bc"], object)), (dtypes.int64, np.zeros((0, 3), np.int64))],
)  # fmt: skip
def test_dtypes(resources: Resources, dtype: dtypes.DType, value: np.ndarray) -> None:
    variable = resources.variable("v", dtype, None)
    assert variable.shape is None
    variable.assign(value)
    assert variable.read().dtype == dtype.np
    assert variable.read().tolist() == value.tolist()


def test_old_buffers_outlive_suspended_steps(resources: Resources) -> None:
    variable = resources.variable("v", dtypes.float32, (4,))
    variable.assign(np.full(4, 7))
    old = variable._array
    assert old is not None
    count = sys.getrefcount(old)
    resources.record["pins"] = 1
    variable.assign(np.zeros(5))
    assert sys.getrefcount(old) == count
    resources.record["pins"] = 0
    variable.assign(np.zeros(6))
    assert sys.getrefcount(old) == count - 1


@pytest.mark.parametrize(
    ("field", "act", "waits"),
    [
        ("readers", Variable.read, False), ("writers", Variable.read, True),
        ("readers", lambda v: v.assign(np.zeros(4)), True), ("writers", lambda v: v.assign(np.zeros(3)), True),
        ("readers", Variable.clear, True), ("pins", lambda v: v.assign(np.zeros(3)), False),
        ("writers", lambda v: v._resources.close(), True),
    ],
)  # fmt: skip
def test_who_would_disturb_a_step_waits(resources: Resources, field: str, act: object, waits: bool) -> None:
    variable = resources.variable("v", dtypes.float32, (4,))
    variable.assign(np.ones(4))
    resources.record[field] = 1
    thread = threading.Thread(target=act, args=(variable,))  # type: ignore[arg-type]
    thread.start()
    thread.join(0.03)
    assert thread.is_alive() == waits
    resources.record[field] = 0
    thread.join(5)
    assert not thread.is_alive()
    assert [resources.record[name] for name in ("reading", "assigning")] == [0, 0]


def test_steps_wait_for_python(resources: Resources) -> None:
    done = []

    def step(write: bool) -> None:
        resources.wait(write)
        done.append(write)

    with resources.access("reading"):
        threads = [threading.Thread(target=step, args=(write,)) for write in (False, True)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        assert done == [False]
    for thread in threads:
        thread.join(5)
    assert done == [False, True]


def test_streams_are_made_once(resources: Resources) -> None:
    made: list[int] = []

    def make() -> list[int]:
        made.append(1)
        return made

    assert resources.stream("op", make) is resources.stream("op", make)
    assert made == [1]


class Queue:
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_containers_and_close(resources: Resources) -> None:
    a = resources.variable("v", dtypes.float32, (2,))
    b = resources.variable("v", dtypes.float32, (2,), container="other")
    a.assign(np.ones(2))
    b.assign(np.ones(2))
    queue = resources.others["other", "queue", "q"] = Queue()
    resources.reset(("other",))
    assert a.initialised
    assert not b.initialised
    assert queue.closed == 1
    assert resources.variable("v", dtypes.float32, (2,), container="other") is not b
    resources.close()
    resources.close()
    assert resources.closed
    assert not a.initialised
    assert a.record["data"] == 0
    assert list(resources.variables()) == []
