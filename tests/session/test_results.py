"""Results belong to whoever holds them: objects are made again only where nobody can tell."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

LARGE = 100_000


@pytest.fixture
def plus_one() -> Callable[[Any], np.ndarray]:
    """x + 1 of any vector."""
    tf.reset_default_graph()
    x = tf.placeholder(tf.float32, [None])
    return tf.Session().make_callable(x + 1, [x])


def vector(value: float, size: int = 4) -> np.ndarray:
    return np.full(size, value, np.float32)


def test_held_results_never_change(plus_one: Callable[[Any], np.ndarray]) -> None:
    held = [plus_one(vector(k, 4 + k % 3)) for k in range(50)]
    assert len({each.ctypes.data for each in held}) == 50
    for k, each in enumerate(held):
        np.testing.assert_array_equal(each, vector(k + 1, 4 + k % 3))


def test_a_view_holds_its_result(plus_one: Callable[[Any], np.ndarray]) -> None:
    views = [plus_one(vector(k))[1:3] for k in range(10)]
    exported = [memoryview(plus_one(vector(k))) for k in range(10)]
    for k in range(10):
        assert views[k].tolist() == exported[k].tolist()[:2] == [k + 1, k + 1]


def reshape(result: np.ndarray) -> None:
    result.shape = (2, 2)


def retype(result: np.ndarray) -> None:
    result.dtype = np.int32


def freeze(result: np.ndarray) -> None:
    result.flags.writeable = False


def turn(result: np.ndarray) -> None:
    result.strides = (0,)


def shrink(result: np.ndarray) -> None:
    result.resize(2, refcheck=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", [reshape, retype, freeze, turn, shrink])
def test_what_users_did_to_results_is_not_seen_again(
    plus_one: Callable[[Any], np.ndarray], change: Callable[[np.ndarray], None]
) -> None:
    for k in range(6):
        result = plus_one(vector(k))
        assert (result.shape, result.dtype, result.strides) == ((4,), np.float32, (4,))
        assert result.flags.writeable and result.flags.owndata and result.base is None
        assert result.tolist() == [k + 1] * 4
        change(result)
        del result


def test_weakly_referenced_results_are_not_used_again(plus_one: Callable[[Any], np.ndarray]) -> None:
    reference = weakref.ref(plus_one(vector(0)))
    seen: list[Any] = []
    for k in range(1, 5):
        result = plus_one(vector(k))
        assert result is not reference()
        seen.append(result)
    assert reference() is None


def test_a_weak_reference_may_run_the_step_again(plus_one: Callable[[Any], np.ndarray]) -> None:
    inner: list[np.ndarray] = []
    reference = weakref.ref(plus_one(vector(0)), lambda _: inner.append(plus_one(vector(7))))
    outer = [plus_one(vector(k)) for k in range(4)]
    assert reference() is None
    assert [each[0] for each in inner] == [8]
    assert [each[0] for each in outer] == [1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32, tf.float64, tf.int8, tf.int64, tf.uint16, tf.bool])
def test_scalars(dtype: Any) -> None:
    tf.reset_default_graph()
    x = tf.placeholder(dtype, [])
    call = tf.Session().make_callable([tf.identity(x), tf.identity(x)], [x])
    held = [call(np.array(k % 2 if dtype is tf.bool else k, dtype.as_numpy_dtype)) for k in range(10)]
    for k, pair in enumerate(held):
        for each in pair:
            assert type(each) is dtype.as_numpy_dtype
            assert each == (k % 2 if dtype is tf.bool else k)
    named = {call(np.array(1, dtype.as_numpy_dtype))[0]: "one"}
    call(np.array(0, dtype.as_numpy_dtype))
    assert named[dtype.as_numpy_dtype(1)] == "one"


def test_an_update_in_place_of_a_result_reaches_no_other(plus_one: Callable[[Any], np.ndarray]) -> None:
    first = plus_one(vector(1))
    second = plus_one(vector(2))
    first += 10
    assert second.tolist() == [3] * 4
    assert plus_one(vector(1)).tolist() == [2] * 4


def test_threads_get_results_of_their_own(plus_one: Callable[[Any], np.ndarray]) -> None:
    wrong: list[Any] = []

    def work(value: float) -> None:
        feed = vector(value)
        for _ in range(2000):
            result = plus_one(feed)
            if result[0] != value + 1 or result[3] != value + 1:
                wrong.append((value, result))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_large_results_are_freed(plus_one: Callable[[Any], np.ndarray]) -> None:
    plus_one(vector(1, LARGE))
    tracemalloc.start()
    try:
        result = plus_one(vector(1, LARGE))
        assert tracemalloc.get_traced_memory()[0] > 4 * LARGE
        del result
        assert tracemalloc.get_traced_memory()[0] < LARGE
    finally:
        tracemalloc.stop()


def test_what_is_kept_goes_with_the_session() -> None:
    tf.reset_default_graph()
    x = tf.placeholder(tf.float32, [None])
    session = tf.Session()
    reference = weakref.ref(session.run(x + 1, {x: vector(1)}))
    assert reference() is not None
    session.close()
    del session
    tf.reset_default_graph()
    del x
    gc.collect()
    assert reference() is None
