"""What goes wrong in sessions: TF's class, the op, its shapes and the user's line; and that all goes on afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

INVALID = tf.errors.InvalidArgumentError
FAILED = tf.errors.FailedPreconditionError


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as g:
        yield g


def here(offset: int = 0) -> str:
    """The caller's line as error texts name it."""
    return f"test_errors.py:{sys._getframe(1).f_lineno + offset}"


def told(error: Any, op: Any, line: str, *parts: str) -> None:
    """The error blames `op`, names the line that made it, and says all of the parts."""
    assert error.op is op
    assert error.node_def.name == op.name
    text = str(error)
    for part in (op.name, line, *parts):
        assert part in text, text
    assert error.message == text


# --- feeds ---


def test_missing_feed() -> None:
    x, line = tf.placeholder(tf.float32, [None, 3], name="rows"), here()
    y = tf.placeholder(tf.float32, [None, 3])
    out = x + y
    ones = np.ones((2, 3), np.float32)
    with tf.Session() as session:
        for run in (
            lambda: session.run(out, {y: ones}),
            lambda: session.make_callable(out, [y])(ones),
            lambda: session.make_callable([out, y], [y])(ones),
        ):
            with pytest.raises(INVALID) as error:
                run()
            told(error.value, x.op, line, "must feed a value for placeholder tensor 'rows' with dtype float", "[?,3]")
        assert session.run(out, {x: ones, y: ones})[0, 0] == 2


WRONG_SHAPES = [(2, 4), (3,), (), (1, 2, 3), (0, 2)]


@pytest.mark.parametrize("shape", WRONG_SHAPES)
def test_feeds_of_wrong_shapes(shape: tuple[int, ...]) -> None:
    x, line = tf.placeholder(tf.float32, [None, 3], name="rows"), here()
    out = x * 2.0
    with tf.Session() as session:
        run = session.make_callable(out, [x])
        for wrong in (lambda array: run(array), lambda array: session.run(out, {x: array})):
            with pytest.raises(ValueError, match="Cannot feed value of shape") as error:
                wrong(np.ones(shape, np.float32))
            for part in (str(shape), "rows:0", "(?, 3)", line):
                assert part in str(error.value)
            assert run(np.ones((2, 3), np.float32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("text", ValueError), ([["a", "b", "c"]], ValueError), (object(), TypeError), ([[1, 2], [3]], ValueError),
     ({"a": 1}, TypeError), (None, (TypeError, ValueError))],
)  # fmt: skip
def test_feeds_that_are_no_numbers(value: Any, kind: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    out = x * 2.0
    with tf.Session() as session:
        run = session.make_callable(out, [x])
        for _ in range(2):
            with pytest.raises(kind):
                run(value)
            with pytest.raises(kind):
                session.run(out, {x: value})
            assert run(np.ones((2, 3), np.float32)).shape == (2, 3)


def test_a_tensor_as_a_feed() -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session, pytest.raises(TypeError, match=r"feed cannot be a tf\.Tensor"):
        session.run(x * 2.0, {x: tf.constant(1.0)})


def test_an_integer_that_does_not_fit() -> None:
    x = tf.placeholder(tf.int32, [])
    with tf.Session() as session, pytest.raises(TypeError, match="not compatible with Tensor type"):
        session.run(x + 1, {x: 1 << 40})


def test_wrong_numbers_of_arguments() -> None:
    x, y = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.float32, [2])
    out = x + y
    ones = np.ones(2, np.float32)
    with tf.Session() as session:
        run = session.make_callable(out, [x, y])
        with pytest.raises(INVALID, match="must feed a value"):
            run(ones)
        with pytest.raises(INVALID, match="must feed a value"):
            run()
        with pytest.raises(TypeError, match="by position"):
            run(ones, y=ones)
        np.testing.assert_array_equal(run(ones, ones), [2, 2])


# --- names and graphs ---


def _foreign() -> Any:
    with tf.Graph().as_default():
        return tf.constant(1.0, name="foreign")


KEYS: dict[str, tuple[Callable[[], Any], str]] = {
    "of another graph": (_foreign, "not an element of this graph"),
    "no such op": (lambda: "nobody:0", "does not exist"),
    "no such output": (lambda: "out:3", "only has 1 outputs"),
    "an op's name": (lambda: "out", "Cannot interpret feed_dict key"),
    "a number": (lambda: 3, "Cannot interpret feed_dict key"),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_are_no_tensors(name: str) -> None:
    out = tf.constant(1.0, name="out")
    make, text = KEYS[name]
    with tf.Session() as session:
        with pytest.raises(TypeError, match="Cannot interpret feed_dict key as Tensor") as error:
            session.run(out, {make(): 1.0})
        assert text in str(error.value)
        assert session.run(out) == 1.0


FETCHES: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "of another graph": (_foreign, ValueError, "not an element of this graph"),
    "no such op": (lambda: "nobody", ValueError, "refers to an Operation not in the graph"),
    "no such tensor": (lambda: "nobody:0", ValueError, "does not exist"),
    "no such output": (lambda: "out:1", ValueError, "only has 1 outputs"),
    "a number": (lambda: 3, TypeError, "has invalid type"),
    "None": (lambda: None, TypeError, "None"),
    "None inside": (lambda: {"a": [None]}, TypeError, "None"),
    "an array": (lambda: np.ones(2), TypeError, "has invalid type"),
}


@pytest.mark.parametrize("name", FETCHES)
def test_fetches_that_are_none(name: str) -> None:
    out = tf.constant(1.0, name="out")
    make, kind, text = FETCHES[name]
    with tf.Session() as session:
        for run in (session.run, session.make_callable):
            with pytest.raises(kind, match=text):
                run(make())
        assert session.run([out, "out:0"]) == [1.0, 1.0]


def test_feed_dict_that_is_no_mapping() -> None:
    x = tf.placeholder(tf.float32, [])
    out = x + 1.0
    with tf.Session() as session:
        assert session.run(out, {x: 1.0}) == 2.0
        with pytest.raises((TypeError, AttributeError)):
            session.run(out, [x])
        with pytest.raises((TypeError, AttributeError)):
            session.run(out, [(x, 1.0)])


def test_a_closed_session() -> None:
    out = tf.constant(1.0) + 1.0
    session = tf.Session()
    run = session.make_callable(out)
    assert run() == 2.0
    session.close()
    for call in (run, lambda: session.run(out), lambda: session.make_callable(out)):
        with pytest.raises(RuntimeError, match="closed Session"):
            call()


# --- state ---


@pytest.mark.parametrize("resource", [False, True])
def test_uninitialised_variables(resource: bool) -> None:
    v, line = tf.Variable([1.0, 2.0], name="weights", use_resource=resource), here()
    steps = {"read": v * 2.0, "add": v.assign_add([1.0, 1.0]), "fetch": v}
    with tf.Session() as session:
        for step in steps.values():
            with pytest.raises(FAILED) as error:
                session.run(step)
            assert "weights" in str(error.value)
            assert line in str(error.value)
            assert error.value.op.name == "weights"
        session.run(v.initializer)
        np.testing.assert_array_equal(session.run(steps["add"]), [2, 3])


def test_an_uninitialised_variable_leaves_the_others_alone() -> None:
    a, b = tf.Variable(1.0), tf.Variable(2.0)
    step = tf.group(a.assign_add(1.0), b.assign_add(1.0))
    with tf.Session() as session:
        session.run(a.initializer)
        with pytest.raises(FAILED):
            session.run(step)
        assert session.run(a) == 1.0
        session.run(b.initializer)
        session.run(step)
        assert session.run([a, b]) == [2.0, 3.0]


# --- while it runs ---

ONES = np.ones((2, 3), np.float32)
RUNTIME: dict[str, tuple[Callable[[Any, Any, Any], Any], Any, tuple[str, ...]]] = {
    "matmul": (lambda x, y, i: tf.matmul(x, y, name="bad"), ONES, ("Matrix size-incompatible", "[2,3]")),
    "add": (lambda x, y, i: tf.add(x, y[:, :2], name="bad"), ONES, ("Incompatible shapes: [2,3] vs. [2,2]",)),
    "concat": (lambda x, y, i: tf.concat([x, y[:, :2]], 0, name="bad"), ONES, ("ConcatOp", "[2,3]", "[2,2]")),
    "gather": (lambda x, y, i: tf.gather(x, i, name="bad"), ONES, ("indices[1] = 7 is not in [0, 2)",)),
    "gather late": (lambda x, y, i: tf.gather(x, i * 2, name="bad"), ONES, ("indices[1] = 14 is not in [0, 2)",)),
    "reshape": (lambda x, y, i: tf.reshape(x, [4, -1], name="bad"), ONES, ("reshape", "6 values", "multiple of 4")),
    "split": (lambda x, y, i: tf.split(x, 2, 1, name="bad")[0], ONES, ("evenly divide",)),
    "division": (lambda x, y, i: tf.floordiv(i, i - i, name="bad"), ONES, ("Integer division by zero",)),
    "numerics": (lambda x, y, i: tf.check_numerics(tf.log(x - 2.0), "log of x", name="bad"), ONES, ("log of x", "NaN")),
}


@pytest.mark.parametrize("name", RUNTIME)
def test_failures_while_running(name: str) -> None:
    x = tf.placeholder(tf.float32, [None, None])
    y = tf.placeholder(tf.float32, [None, None])
    i = tf.placeholder(tf.int32, [None])
    build, value, parts = RUNTIME[name]
    line = f"test_errors.py:{build.__code__.co_firstlineno}"
    bad = build(x, y, i)
    out = bad + 1 if bad.dtype is tf.int32 else bad + 1.0
    op = bad.graph.get_operation_by_name("bad")
    fine = x * 2.0
    feed = {x: value, y: value, i: np.array([0, 7], np.int32)}
    with tf.Session() as session:
        run = session.make_callable([out, fine], [x, y, i])
        for call in (lambda: session.run(out, feed), lambda: run(*feed.values())):
            for _ in range(2):
                with pytest.raises(INVALID) as error:
                    call()
                told(error.value, op, line, *parts)
                np.testing.assert_array_equal(session.run(fine, feed), value * 2)


def test_shapes_that_only_the_running_step_knows() -> None:
    keep = tf.placeholder(tf.bool, [None])
    x = tf.placeholder(tf.float32, [None])
    rows = tf.boolean_mask(x, keep)
    bad, line = tf.add(rows, x, name="bad"), here()
    values = np.arange(4, dtype=np.float32)
    with tf.Session() as session:
        run = session.make_callable(bad, [keep, x])
        with pytest.raises(INVALID) as error:
            run(np.array([True, True, False, True]), values)
        told(error.value, bad.op, line, "Incompatible shapes: [3] vs. [4]")
        np.testing.assert_array_equal(run(np.ones(4, bool), values), values * 2)
        np.testing.assert_array_equal(run(values == 2, values), values + 2)


# --- a step that fails changes no variable ---


def _step(name: str, a: Any, b: Any, c: Any, i: Any, x: Any) -> Any:
    add = a.assign_add([1.0, 1.0, 1.0])
    rows = tf.gather(x, [0, 1])
    steps: dict[str, Callable[[], Any]] = {
        "gather after": lambda: tf.group(add, c.assign(tf.reduce_sum(tf.gather(x, i), 0))),
        "scatter after": lambda: tf.group(add, b.scatter_sub(tf.IndexedSlices(rows, i))),
        "scatter of the new value": lambda: tf.group(add, b.scatter_add(tf.IndexedSlices(add + rows, i))),
        "two scatters": lambda: tf.group(
            b.scatter_sub(tf.IndexedSlices(rows, i - i)), b.scatter_sub(tf.IndexedSlices(rows, i))
        ),
        "computed indices": lambda: tf.group(add, c.assign(tf.reduce_sum(tf.gather(x, tf.cast(add * 90.0, tf.int32)), 0))),
        "a check by Python": lambda: tf.group(add, c.assign(tf.check_numerics(tf.log(x[0] - 5.0), "x"))),
        "an assertion": lambda: tf.group(add, tf.Assert(tf.reduce_all(x > 3.0), [x])),
        "a fetch": lambda: [add, tf.gather(x, i)],
        "extents": lambda: [add, tf.matmul(x, x)],
    }
    return steps[name]()


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize(
    "name",
    ["gather after", "scatter after", "scatter of the new value", "two scatters", "computed indices",
     "a check by Python", "an assertion", "a fetch", "extents"],
)  # fmt: skip
def test_no_variable_is_half_updated(name: str, resource: bool) -> None:
    i, x = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.float32, [5, None])
    start = (np.zeros(3, np.float32), np.zeros((5, 3), np.float32), np.zeros(3, np.float32))
    a, b, c = (tf.Variable(value, use_resource=resource) for value in start)
    step = _step(name, a, b, c, i, x)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            with pytest.raises(INVALID):
                session.run(step, {i: [0, 9], x: np.ones((5, 3))})
            for got, want in zip(session.run([a, b, c]), start, strict=True):
                np.testing.assert_array_equal(got, want)


OPTIMIZERS = {
    "gradient_descent": lambda: tf.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
    "adagrad": lambda: tf.train.AdagradOptimizer(0.1),
    "adam": lambda: tf.train.AdamOptimizer(0.1),
    "rms": lambda: tf.train.RMSPropOptimizer(0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_step_with_a_bad_index(name: str) -> None:
    i = tf.placeholder(tf.int32, [None])
    table, line = tf.Variable(np.ones((5, 3), np.float32)), None
    other = tf.Variable(np.ones(3, np.float32))
    rows, line = tf.nn.embedding_lookup(table, i), here()
    loss = tf.reduce_mean((rows * other - 2.0) ** 2.0)
    step = tf.train.Optimizer.minimize(OPTIMIZERS[name](), loss, global_step=tf.train.get_or_create_global_step())
    everything = tf.global_variables()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(step, {i: [1, 1, 4]})
        before = session.run(everything)
        with pytest.raises(INVALID, match=r"indices\[1\] = 9 is not in \[0, 5\)") as error:
            session.run(step, {i: [0, 9]})
        assert line in str(error.value)
        for was, now in zip(before, session.run(everything), strict=True):
            np.testing.assert_array_equal(was, now)
        losses = [session.run([loss, step], {i: [1, 3, 3]})[0] for _ in range(20)]
    assert losses[-1] < losses[0]


# --- wrong when built ---

BUILD: dict[str, tuple[Callable[[], Any], Any, tuple[str, ...]]] = {
    "matmul": (
        lambda: tf.matmul(tf.ones([2, 3]), tf.ones([2, 3]), name="bad"),
        ValueError,
        ("Dimensions must be equal, but are 3 and 2", "'bad' (op: 'MatMul')", "[2,3], [2,3]"),
    ),
    "add": (
        lambda: tf.add(tf.placeholder(tf.float32, [None, 3]), tf.ones([4]), name="bad"),
        ValueError,
        ("Dimensions must be equal, but are 3 and 4", "'bad'", "[?,3], [4]"),
    ),
    "dtypes": (lambda: tf.add(tf.ones([2]), tf.ones([2], tf.int32)), TypeError, ("float32", "int32", "match")),
    "reshape": (lambda: tf.reshape(tf.ones([3]), [2, 2]), ValueError, ("Cannot reshape", "3", "[2,2]")),
    "concat": (lambda: tf.concat([tf.ones([2, 3]), tf.ones([2, 4])], 0), ValueError, ("Dimension 1 in both shapes must be equal", "[2,3]", "[2,4]")),
    "graphs": (lambda: tf.add(_foreign(), 1.0) + tf.ones([]), ValueError, ("same graph",)),
}


@pytest.mark.parametrize("name", BUILD)
def test_wrong_graphs(name: str, graph: tf.Graph) -> None:
    build, kind, parts = BUILD[name]
    with pytest.raises(kind) as error:
        build()
    for part in parts:
        assert part in str(error.value)
    assert not [op for op in graph.get_operations() if op.name == "bad"]
    with tf.Session() as session:
        assert session.run(tf.ones([])) == 1.0


# --- deep graphs ---


def test_chains_of_5000_ops() -> None:
    x = tf.placeholder(tf.float32, [None])
    out = x
    for k in range(5000):
        out = out + 1.0 if k % 2 else -out
    gradient = tf.gradients(out, x)[0]
    with tf.Session() as session:
        got, slope = session.run([out, gradient], {x: [0.0, 3.0]})
    np.testing.assert_array_equal(got, [0.0, 3.0])
    np.testing.assert_array_equal(slope, [1.0, 1.0])


def test_chains_of_control_dependencies_and_shapes() -> None:
    n = tf.placeholder(tf.int32, [])
    size = n
    for _ in range(5000):
        with tf.control_dependencies([size]):
            size = tf.identity(size + 1)
    with tf.Session() as session:
        assert session.run(size, {n: 2}) == 5002


def test_chains_of_updates() -> None:
    v = tf.Variable(0.0, use_resource=True)
    step = v.assign_add(1.0)
    for _ in range(2000):
        with tf.control_dependencies([step]):
            step = v.assign_add(1.0)
    with tf.Session() as session:
        session.run(v.initializer)
        session.run(step)
        assert session.run(v) == 2001.0


@pytest.mark.parametrize("kind", [ValueError, INVALID])
@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.reshape(x, [4, -1, 0]),
        lambda x: tf.reshape(x, [-1, -1]),
        lambda x: tf.transpose(x, [0, 0]),
        lambda x: tf.cumsum(x, 2),
        lambda x: tf.slice(x, [0, 0], [3, 1]),
        lambda x: tf.argmax(x[:0], 0),
    ],
)
def test_what_can_not_be_right_is_an_error_of_the_graph(build: Callable[[Any], Any], kind: Any) -> None:
    # TF reports some of these when the graph is built, some in the step: both ways to catch them work.
    with pytest.raises(kind):
        build(tf.constant([[1, 2, 3], [4, 5, 6]]))


def test_a_transpose_by_negative_axes() -> None:
    x = tf.placeholder(tf.int32, [None, None, None])
    given = np.arange(24).reshape(2, 3, 4)
    with tf.Session() as session:
        np.testing.assert_array_equal(session.run(tf.transpose(x, [-1, 0, 1]), {x: given}), given.transpose(2, 0, 1))
