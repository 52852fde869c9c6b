"""cond, case, switch_case and while_loop: results, structures, static shapes, order of effects, errors."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

import stepjit.compat.v1 as tf

Pair = namedtuple("Pair", "a b")


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def run(fetches, feed=None):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feed)


def pred(value=True):
    return tf.placeholder_with_default(value, [])


# --- cond ---


@pytest.mark.parametrize("chosen", [True, False])
def test_cond_gives_what_the_chosen_branch_does(chosen):
    x = tf.placeholder_with_default(3.0, [])
    assert run(tf.cond(pred(chosen), lambda: x * 2, lambda: x + 10)) == (6.0 if chosen else 13.0)


@pytest.mark.parametrize(
    ("true", "false", "strict", "expected"),
    [
        ([1], [2], False, 1),
        ((1,), (2,), False, 1),
        ([1], [2], True, [1]),
        ([1, 2.5], [3, 4.5], False, [1, 2.5]),
        (Pair(1, 2), Pair(3, 4), False, Pair(1, 2)),
        ({"b": 1, "a": (2, [3])}, {"b": 4, "a": (5, [6])}, False, {"b": 1, "a": (2, [3])}),
    ],
)
def test_cond_keeps_structures(true, false, strict, expected):
    out = tf.cond(pred(), lambda: true, lambda: false, strict=strict)
    assert (run(out) == expected and type(run(out)) is type(expected)) or expected == 1


def test_cond_of_operations():
    v = tf.Variable(0)
    out = tf.cond(pred(), lambda: tf.assign_add(v, 1).op, lambda: tf.no_op())
    assert out.dtype == tf.bool
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run([out, v.read_value()])[0]
        assert session.run(v) == 1


def test_cond_merges_static_shapes():
    a, b, c = tf.cond(
        pred(),
        lambda: (tf.zeros([2, 3]), tf.zeros([2]), tf.zeros([4])),
        lambda: (tf.zeros([2, 4]), tf.zeros([2, 2]), tf.zeros([4])),
    )
    assert a.shape.as_list() == [2, None] and b.shape.ndims is None and c.shape.as_list() == [4]


def test_cond_of_composites():
    def sparse(value):
        return tf.SparseTensor([[0, 1]], [value], [2, 2])

    def slices(value):
        return tf.IndexedSlices(tf.constant([[value]]), tf.constant([1]))

    out = tf.cond(pred(), lambda: (sparse(1.0), slices(2.0)), lambda: (sparse(3.0), slices(4.0)))
    found = run(out)
    assert found[0].values.tolist() == [1.0] and found[1].values.tolist() == [[2.0]]


def test_cond_old_names():
    assert run(tf.cond(pred(False), fn1=lambda: 1, fn2=lambda: 2)) == 2


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tf.cond(True, lambda: 1, lambda: 2), TypeError, "must not be a Python bool"),
        (lambda: tf.cond(tf.constant(1), lambda: 1, lambda: 2), TypeError, "int32"),
        (lambda: tf.cond(tf.constant([True]), lambda: 1, lambda: 2), ValueError, "rank 0"),
        (lambda: tf.cond(None, lambda: 1, lambda: 2), ValueError, "None values"),
        (lambda: tf.cond(pred(), 1, lambda: 2), TypeError, "'true_fn' must be callable"),
        (lambda: tf.cond(pred(), lambda: 1, 2), TypeError, "'false_fn' must be callable"),
        (lambda: tf.cond(pred()), TypeError, "'true_fn' argument required"),
        (lambda: tf.cond(pred(), lambda: 1), TypeError, "'false_fn' argument required"),
        (lambda: tf.cond(pred(), lambda: 1, fn1=lambda: 1), TypeError, "simultaneously"),
        (lambda: tf.cond(pred(), lambda: None, lambda: 1), ValueError, "'true_fn' must have a return value"),
        (lambda: tf.cond(pred(), lambda: 1, lambda: None), ValueError, "'false_fn' must have a return value"),
        (lambda: tf.cond(pred(), list, list), ValueError, "at least one result"),
        (lambda: tf.cond(pred(), lambda: 1, lambda: 2.0), ValueError, "same type"),
        (lambda: tf.cond(pred(), lambda: (1, 2), lambda: (1,)), ValueError, "same nested structure"),
        (lambda: tf.cond(pred(), lambda: (1, 2), lambda: [1, 2]), TypeError, "same nested structure"),
        (lambda: tf.cond(pred(), lambda: {"a": 1}, lambda: {"b": 1}), ValueError, "same nested structure"),
    ],
)
def test_cond_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_only_the_taken_branch_has_effects():
    v = tf.Variable(0, use_resource=True)
    p = tf.placeholder(tf.bool, [])
    out = tf.cond(p, lambda: v.assign_add(1), lambda: v.assign_add(100))
    with tf.Session() as session:
        session.run(v.initializer)
        assert [session.run(out, {p: each}) for each in (True, False, True)] == [1, 101, 102]


def test_assert_in_a_branch():
    x = tf.placeholder(tf.int32, [])

    def branch():
        with tf.control_dependencies([tf.Assert(x > 0, ["x is", x])]):
            return tf.identity(x)

    out = tf.cond(tf.not_equal(x, -1), branch, lambda: 0)
    assert run(out, {x: 5}) == 5 and run(out, {x: -1}) == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="x is"):
        run(out, {x: -2})


def test_variable_that_the_other_branch_reads_may_be_empty():
    v, p = tf.Variable(1.0, use_resource=True), tf.placeholder(tf.bool, [])
    out = tf.cond(p, lambda: v.read_value(), lambda: 5.0)
    with tf.Session() as session:
        assert session.run(out, {p: False}) == 5.0
        with pytest.raises(tf.errors.FailedPreconditionError):
            session.run(out, {p: True})


# --- case, switch_case ---


def test_case():
    x = tf.placeholder(tf.int32, [])
    pairs = [(x < 1, lambda: tf.constant(1)), (x < 5, lambda: tf.constant(5))]
    out, open_ended = tf.case(pairs, default=lambda: tf.constant(9)), tf.case(pairs)
    assert [run(out, {x: k}) for k in (0, 3, 7)] == [1, 5, 9]
    assert [run(open_ended, {x: k}) for k in (0, 3, 7)] == [1, 5, 5]


def test_exclusive_case():
    x = tf.placeholder(tf.int32, [])
    out = tf.case([(x < 1, lambda: 1), (x < 5, lambda: 5)], default=lambda: 9, exclusive=True)
    assert run(out, {x: 3}) == 5 and run(out, {x: 8}) == 9
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 1 conditions"):
        run(out, {x: 0})


@pytest.mark.parametrize(
    ("pairs", "text"),
    [(3, "must be a list, tuple, or dict"), ([3], "2-tuple"), ([(1, lambda: 1)], "pred must be a Tensor")],
)
def test_case_errors(pairs, text):
    with pytest.raises(TypeError, match=text):
        tf.case(pairs)
    with pytest.raises(TypeError, match="must be callable"):
        tf.case([(pred(), 1)])
    with pytest.raises(ValueError):
        tf.case([])


@pytest.mark.parametrize(("index", "plain", "other"), [(0, 5, 5), (2, 7, 7), (3, 7, 9), (-1, 7, 9)])
def test_switch_case(index, plain, other):
    i = tf.placeholder_with_default(index, [])
    functions = [lambda k=k: tf.constant(k) for k in (5, 6, 7)]
    assert run(tf.switch_case(i, functions)) == plain
    assert run(tf.switch_case(i, dict(enumerate(functions)), default=lambda: tf.constant(9))) == other


@pytest.mark.parametrize(
    ("index", "functions", "error"),
    [
        (1, [lambda: 1], TypeError),
        (lambda: tf.constant(1.0), [lambda: 1], TypeError),
        (lambda: tf.constant(1), {0: lambda: 1, 4: lambda: 2}, ValueError),
        (lambda: tf.constant(1), [], ValueError),
        (lambda: tf.constant(1), [1, 2], TypeError),
    ],
)
def test_switch_case_errors(index, functions, error):
    with pytest.raises(error):
        tf.switch_case(index() if callable(index) else index, functions)


# --- while_loop ---


def test_loop_of_fed_length():
    n = tf.placeholder(tf.int32, [])
    out = tf.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a * 2), (0, 1))
    with tf.Session() as session:
        for trips in (0, 1, 10):
            assert session.run(out, {n: trips}) == (trips, 2**trips)


def test_nested_loops():
    def inner(i, a):
        return i + 1, tf.while_loop(lambda j, b: j < i, lambda j, b: (j + 1, b + i * j), [0, a])[1]

    expected = sum(i * j for i in range(5) for j in range(i))
    assert run(tf.while_loop(lambda i, a: i < 5, inner, [0, 0])[1]) == expected


def test_loop_of_growing_shape():
    out = tf.while_loop(
        lambda x: tf.size(x) < 6, lambda x: tf.concat([x, [tf.size(x)]], 0), [tf.constant([9])],
        shape_invariants=[tf.TensorShape([None])]
    )
    assert run(out).tolist() == [9, 1, 2, 3, 4, 5] and out.shape.as_list() == [None]


@pytest.mark.parametrize(("limit", "expected"), [(4, 4), (0, 0), (-1, 0), (100, 7)])
def test_maximum_iterations(limit, expected):
    assert run(tf.while_loop(lambda i: i < 7, lambda i: i + 1, [0], maximum_iterations=limit)) == expected
    two = tf.while_loop(lambda i, j: i < 7, lambda i, j: [i + 1, j], [0, 1], maximum_iterations=tf.constant(limit))
    assert run(two) == [expected, 1]


def test_loop_structures():
    def body(i, state):
        return i + 1, {"p": Pair(state["p"].a + 1, state["p"].b * 2.0), "q": [state["q"][0]]}

    i, state = tf.while_loop(lambda i, state: i < 3, body, (0, {"p": Pair(1, 1.0), "q": [7]}))
    assert run((i, state)) == (3, {"p": Pair(4, 8.0), "q": [7]})


def test_what_a_loop_returns():
    def loop(body, variables, **options):
        return tf.while_loop(lambda i, *rest: i < 3, body, variables, **options)

    assert isinstance(loop(lambda i: i + 1, [0]), tf.Tensor)
    assert isinstance(loop(lambda i: [i + 1], [0]), tf.Tensor)
    assert type(loop(lambda i: i + 1, [0], return_same_structure=True)) is list
    assert type(loop(lambda i, j: [i + 1, j], (0, 1))) is list
    assert type(loop(lambda i, j: (i + 1, j), [0, 1])) is tuple
    assert type(tf.while_loop(lambda a, b: a < 3, lambda a, b: Pair(a + 1, b), Pair(0, 1))) is Pair


def test_loop_of_sparse_tensors():
    start = tf.SparseTensor([[0, 1]], [1.0], [2, 2])
    out = tf.while_loop(
        lambda i, s: i < 3, lambda i, s: (i + 1, tf.SparseTensor(s.indices, s.values * 2.0, s.dense_shape)), (0, start)
    )[1]
    assert run(out).values.tolist() == [8.0]


def test_slices_may_come_to_have_more_rows():
    def body(i, s):
        return i + 1, tf.IndexedSlices(tf.concat([s.values, s.values], 0), tf.concat([s.indices, s.indices + 1], 0))

    start = tf.IndexedSlices(tf.constant([[1.0]]), tf.constant([0]))
    with pytest.raises(ValueError, match="shape_invariants"):
        tf.while_loop(lambda i, s: i < 2, body, (0, start))
    shapes = (tf.TensorShape([]), tf.TensorShape([None, 1]))
    found = tf.while_loop(lambda i, s: i < 2, body, (0, start), shape_invariants=shapes)[1]
    assert run(found).indices.tolist() == [0, 1, 1, 2]


def test_invariants_may_be_left_to_the_variables():
    start = (0, tf.constant([1.0]))
    i, q = tf.while_loop(lambda i, q: i < 3, lambda i, q: (i + 1, q * 2), start, shape_invariants=(None, None))
    assert (i.shape.as_list(), q.shape.as_list()) == ([], [1])


def test_names_of_results_of_a_counted_loop():
    found = tf.while_loop(lambda i, q: i < 3, lambda i, q: (i + 1, q * 2), (0, 1.0), maximum_iterations=2)
    assert [tensor.name for tensor in found] == ["while/Exit_1:0", "while/Exit_2:0"]


def test_variables_in_a_loop_are_written_in_order():
    v, r = tf.Variable(1.0), tf.Variable(1.0, use_resource=True)

    def body(i):
        with tf.control_dependencies([tf.assign_add(v, 2.0), tf.assign(r, r * 3.0)]):
            return i + 1

    out = tf.while_loop(lambda i: i < 3, body, [0])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(out) == 3
        assert session.run([v, r]) == [7.0, 27.0]


def test_switch_case_of_one_branch_and_of_another_dtype():
    assert run(tf.switch_case(tf.constant(4), [lambda: 7])) == 7
    with pytest.raises(TypeError, match="int64 that does not match expected type of int32"):
        tf.switch_case(tf.constant(4, tf.int64), [lambda: 7, lambda: 8])


def test_python_function_in_a_loop():
    seen = []
    out = tf.while_loop(lambda i: i < 4, lambda i: tf.py_func(lambda k: seen.append(int(k)) or k + np.int32(1), [i], tf.int32), [0], shape_invariants=[tf.TensorShape(None)])
    assert run(out) == 4 and seen == [0, 1, 2, 3]


def test_error_in_a_trip_names_its_op():
    x = tf.placeholder(tf.int32, [None])
    out = tf.while_loop(lambda i, a: i < 5, lambda i, a: (i + 1, a + tf.gather(x, i, name="look")), [0, 0])
    assert run(out, {x: [1] * 5}) == (5, 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="look"):
        run(out, {x: [1] * 3})


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda w: w(1, lambda i: i, [0]), TypeError, "'cond' must be callable"),
        (lambda w: w(lambda i: i < 3, 1, [0]), TypeError, "'body' must be callable"),
        (lambda w: w(lambda: True, lambda: (), []), ValueError, "must be provided"),
        (lambda w: w(lambda i: i < 3, lambda i: i, [0], parallel_iterations=0), TypeError, "positive integer"),
        (lambda w: w(lambda i: i < 3, lambda i: i, [0], maximum_iterations=[1]), ValueError, "must be a scalar"),
        (lambda w: w(lambda i: i, lambda i: i, [0]), TypeError, "LoopCond"),
        (lambda w: w(lambda i: tf.constant([True]), lambda i: i, [0]), ValueError, "rank 0"),
        (lambda w: w(lambda i, j: i < 3, lambda i, j: i + 1, [0, 0]), ValueError, "same nested structure"),
        (lambda w: w(lambda i, j: i < 3, lambda i, j: (i, (j[0], j[1])), [0, [1, 2]]), TypeError, "same nested structure"),
        (lambda w: w(lambda i: i < 3, lambda i: None, [0]), ValueError, "None values"),
        (lambda w: w(lambda i: i < 3, lambda i: tf.no_op(), [0]), TypeError, "Operation"),
        (lambda w: w(lambda i: i < 3, lambda i: tf.constant(1.5), [0]), TypeError, "float32"),
        (lambda w: w(lambda x: tf.size(x) < 9, lambda x: tf.concat([x, x], 0), [tf.constant([1])]), ValueError, "enters the loop with shape"),
        (lambda w: w(lambda x: tf.size(x) < 9, lambda x: x, [tf.constant([1])], shape_invariants=[tf.TensorShape([2])]), ValueError, "not compatible with the initial shape"),
        (lambda w: w(lambda i, j: i < 9, lambda i, j: (i, j), [0, 1], shape_invariants=[tf.TensorShape([])]), ValueError, "same nested structure"),
    ],
)
def test_loop_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(tf.while_loop)


def test_conditions_may_be_python_values():
    assert run(tf.while_loop(lambda i: False, lambda i: i + 1, [5])) == 5


def test_deep_bodies_are_no_recursion():
    def body(x):
        for _ in range(3000):
            x = x + 1.0
        return x

    out = tf.while_loop(lambda x: x < 5000.0, body, [0.0])
    (grad,) = tf.gradients(out, tf.get_default_graph().get_tensor_by_name("while/Const:0"))
    assert run(grad) == 1.0


def test_training_in_a_branch():
    w, step = tf.Variable(1.0), tf.Variable(0, trainable=False)
    optimizer, average = tf.train.MomentumOptimizer(0.1, 0.9), tf.train.ExponentialMovingAverage(0.5)

    def train():
        with tf.control_dependencies([optimizer.minimize(w * w, global_step=step)]):
            averaged = average.apply([w])
        with tf.control_dependencies([averaged]):
            return tf.identity(w.read_value())

    p = tf.placeholder(tf.bool, [])
    out = tf.cond(p, train, lambda: tf.identity(w))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert [session.run(out, {p: each}) for each in (False, True)] == [1.0, pytest.approx(0.8)]
        assert session.run(step) == 1
    assert {"Momentum", "ExponentialMovingAverage"} <= {v.op.name.rpartition("/")[2] for v in tf.global_variables()}


def test_layers_in_a_branch():
    out = tf.cond(pred(), lambda: tf.layers.dense(tf.ones([2, 3]), 4, name="d"), lambda: tf.zeros([2, 4]))
    assert run(out).shape == (2, 4) and [v.name for v in tf.trainable_variables()] == ["d/kernel:0", "d/bias:0"]


def test_feeds_reach_what_is_captured():
    c = tf.constant(5.0)
    y = tf.cond(pred(), lambda: c * 2.0, lambda: c)
    w = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a + c), [0, 0.0])[1]
    assert run([y, w], {c: 7.0}) == [14.0, 21.0]
    assert run(y + 1.0, {y: 1.0}) == 2.0
