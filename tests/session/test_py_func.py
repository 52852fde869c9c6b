"""Python functions in steps: values, dtypes, errors, nested steps, and how long they live."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


def run(fetches: Any, feed_dict: Any = None) -> Any:
    with tf.Session() as session:
        return session.run(fetches, feed_dict)


VALUES: dict[str, tuple[Any, Any, Any]] = {
    "a Python float": (lambda: 1.5, tf.float64, np.float64(1.5)),
    "a Python int": (lambda: 3, tf.int64, np.int64(3)),
    "a bool": (lambda: True, tf.bool, np.True_),
    "a complex": (lambda: 1j, tf.complex128, np.complex128(1j)),
    "text": (lambda: "abc", tf.string, b"abc"),
    "bytes with zeros": (lambda: b"ab\0", tf.string, b"ab\0"),
    "an array of text": (lambda: np.array(["a", "bcd"]), tf.string, [b"a", b"bcd"]),
    "an array of bytes": (lambda: np.array([b"a", b"bcd"]), tf.string, [b"a", b"bcd"]),
    "an array of objects": (lambda: np.array([b"a", "b"], object), tf.string, [b"a", b"b"]),
    "a list of one": (lambda: [[1.0, 2.0]], tf.float64, [1.0, 2.0]),
    "a strided array": (lambda: np.arange(6.0).reshape(2, 3).T, tf.float64, [[0, 3], [1, 4], [2, 5]]),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_a_function_may_return(name: str) -> None:
    function, dtype, want = VALUES[name]
    made = tf.py_func(function, [], dtype)
    assert made.dtype == dtype and made.shape.ndims is None
    got = run(made)
    if isinstance(want, list):
        np.testing.assert_array_equal(got, np.array(want, object if dtype == tf.string else None))
    else:
        assert got == want and type(got) is type(want)


def test_what_a_function_gets() -> None:
    seen: list[Any] = []

    def look(*values: Any) -> None:
        seen.extend(values)
        seen[0][0] = 9.0

    fed = np.array([1, 2], np.float32)
    x = tf.placeholder(tf.float32, [None])
    op = tf.py_func(look, [x, 2.0, tf.constant("s"), tf.constant(["a"])], [])
    assert isinstance(op, tf.Operation)
    assert run(op, {x: fed}) is None
    assert fed.tolist() == [1, 2], "what was fed is not the function's to change"
    array, number, text, texts = seen
    assert array.tolist() == [9, 2] and type(number) is np.float32 and text == b"s"
    assert type(text) is bytes and texts.dtype == object


def test_several_results_of_changing_ranks() -> None:
    calls: list[int] = []
    n = tf.placeholder(tf.int32, [])

    def make(n: Any) -> Any:
        calls.append(int(n))
        return np.ones([2] * n, np.float32), np.int32(n)

    ones, count = tf.py_func(make, [n], [tf.float32, tf.int32])
    total = tf.reduce_sum(ones * 2.0)
    with tf.Session() as session:
        for k in (0, 2, 3, 1, 2):
            got = session.run([ones, total, count], {n: k})
            assert got[0].shape == (2,) * k and got[1] == 2 * 2**k and got[2] == k
    assert calls == [0, 2, 3, 1, 2], "the function is called once a run"


def test_it_runs_only_when_needed() -> None:
    calls: list[float] = []
    x = tf.placeholder(tf.float32, [])
    y = tf.py_func(lambda value: calls.append(value) or value, [x], tf.float32)
    with tf.Session() as session:
        session.run([y + 1, y * 2], {x: 1})
        session.run(y.op, {x: 1})
        session.run(x + 1, {x: 1})
        assert session.run(y, {y: 5}) == 5
    assert len(calls) == 2


class Strange(Exception):
    """An exception of nobody's family."""


RAISED = [
    (ValueError("v"), tf.errors.InvalidArgumentError),
    (TypeError("t"), tf.errors.InvalidArgumentError),
    (StopIteration("s"), tf.errors.OutOfRangeError),
    (MemoryError("m"), tf.errors.ResourceExhaustedError),
    (NotImplementedError("n"), tf.errors.UnimplementedError),
    (ZeroDivisionError("z"), tf.errors.UnknownError),
    (Strange("own"), tf.errors.UnknownError),
    (tf.errors.NotFoundError(None, None, "nf"), tf.errors.UnknownError),
    (SystemExit(3), tf.errors.UnknownError),
]


@pytest.mark.parametrize(("raised", "kind"), RAISED, ids=lambda each: getattr(each, "__name__", type(each).__name__))
def test_what_it_raises(raised: BaseException, kind: Any) -> None:
    def fail() -> None:
        raise raised

    y = tf.py_func(fail, [], tf.float32, name="script")
    v = tf.Variable(1.0)
    with tf.control_dependencies([y]):
        update = v.assign(2.0)
    with tf.Session() as session:
        session.run(v.initializer)
        with pytest.raises(kind) as failure:
            session.run([y, update])
        assert type(failure.value) is kind and failure.value.op is y.op
        text = f"{type(raised).__name__}: {raised}"
        assert text in failure.value.message and "in fail" in failure.value.message
        assert "script" in failure.value.message
        assert failure.value.__cause__ is not None and failure.value.__cause__ is raised
        assert session.run(v) == 1


WRONG: dict[str, tuple[Any, Any, str]] = {
    "dtype": (lambda: 1.5, tf.float32, "0-th value returned by pyfunc_[0-9]+ is double, but expects float"),
    "width": (lambda: 3, tf.int32, "0-th value returned by pyfunc_[0-9]+ is int64, but expects int32"),
    "second": (lambda: (np.float32(1), 2), [tf.float32] * 2, "1-th value returned by pyfunc_[0-9]+ is int64"),
    "count": (lambda: [1.0, 2.0], tf.float64, "returns 2 values, but expects to see 1 values"),
    "nothing": (lambda: None, tf.float64, "returns 0 values, but expects to see 1 values"),
    "arguments": (lambda x: x, tf.float64, "missing 1 required positional argument"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_results(name: str) -> None:
    function, dtypes, text = WRONG[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        run(tf.py_func(function, [], dtypes))


def test_an_object_is_no_result() -> None:
    with pytest.raises(tf.errors.InternalError, match="Unsupported object type object"):
        run(tf.py_func(object, [], tf.float32))


def test_wrong_at_building() -> None:
    with pytest.raises(ValueError, match="Expected func to be callable"):
        tf.py_func(3, [], tf.float32)
    with pytest.raises(TypeError):
        tf.py_func(lambda: 1.0, [], None)


def test_its_gradient_is_none_unless_overridden(graph: tf.Graph) -> None:
    x = tf.constant(3.0)
    assert tf.gradients(tf.py_func(lambda v: v, [x], tf.float32), [x]) == [None]

    @tf.RegisterGradient("SquareOfPython")
    def gradient(op: Any, grad: Any) -> Any:
        return grad * 2.0 * op.inputs[0]

    with graph.gradient_override_map({"PyFunc": "SquareOfPython"}):
        y = tf.py_func(lambda v: v * v, [x], tf.float32)
    y.set_shape([])
    assert run([y, *tf.gradients(y, [x])]) == [9, 6]


def test_numpy_warns_inside() -> None:
    with pytest.warns(RuntimeWarning):
        run(tf.numpy_function(lambda: np.float32(1) / np.float32(0), [], tf.float32))


def test_steps_inside_steps() -> None:
    v = tf.Variable(1.0)
    bump = tf.assign_add(v, 1.0)
    big = tf.Variable(np.zeros(100_000))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        inner = tf.py_func(lambda: session.run(bump), [], tf.float32)
        with tf.control_dependencies([inner]):
            outer = tf.assign_add(big, np.ones(100_000)) + tf.cast(inner, tf.float64)
        for k in range(3):
            assert np.all(session.run(outer) == 2 * k + 3)
        wrong = tf.gather([1.0, 2.0], tf.cast(v, tf.int32))
        failing = tf.py_func(lambda: session.run(wrong), [], tf.float32)
        with pytest.raises(tf.errors.UnknownError, match=r"InvalidArgumentError: indices = 4 is not in \[0, 2\)"):
            session.run(failing)
        assert session.run(bump) == 5


def test_a_function_lives_as_long_as_its_graph() -> None:
    class Function:
        def __call__(self) -> np.float32:
            return np.float32(4)

    def build() -> Any:
        function = Function()
        with tf.Graph().as_default() as graph:
            y = tf.py_func(function, [], tf.float32)
            session = tf.Session()
            gone = weakref.ref(function)
            del function
            gc.collect()
            assert session.run(y) == 4
        return gone, graph.as_graph_def()

    gone, proto = build()
    gc.collect()
    assert gone() is None
    (y,) = tf.import_graph_def(proto, return_elements=["PyFunc:0"])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"callback pyfunc_[0-9]+ is not found"):
        run(y)


def test_callables_with_functions_are_not_pickled(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [])
    y = tf.py_func(lambda v: v, [x], tf.float32)
    with tf.Session() as session:
        step, plain = session.make_callable(y + 1, [x]), session.make_callable(x + 1, [x])
        with pytest.raises(TypeError, match=r"PyFunc 'PyFunc' calls a Python function of this process .made at"):
            pickle.dumps(step)
        assert pickle.loads(pickle.dumps(plain))(1.0) == 2


def test_models_that_differ_in_their_functions_share_a_program() -> None:
    x = tf.placeholder(tf.float32, [2])
    with tf.Session() as session:
        for k in range(5):
            y = tf.py_func(lambda value, k=k: value * np.float32(k), [x], tf.float32) - 0.625
            assert session.run(y, {x: [1, 1]}).tolist() == [k - 0.625] * 2
        assert session.compile_stats().compiled <= 2, "one for the guessed shape, one for the right one"


def test_many_threads() -> None:
    lock, calls = threading.Lock(), [0]

    def count(value: Any) -> Any:
        with lock:
            calls[0] += 1
        return value

    x = tf.placeholder(tf.float32, [None])
    y = tf.py_func(count, [x], tf.float32) * 2.0
    wrong: list[Any] = []
    with tf.Session() as session:

        def work(k: int) -> None:
            for _ in range(50):
                if session.run(y, {x: [k, k]}).tolist() != [2 * k, 2 * k]:
                    wrong.append(k)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong and calls == [200]
