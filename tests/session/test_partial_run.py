"""Partial runs: what runs in which stage, once, compiled once; and what goes wrong."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

IA = tf.errors.InvalidArgumentError


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def placeholders(count: int, shape: Any = ()) -> list[Any]:
    return [tf.placeholder(tf.float32, shape) for _ in range(count)]


def counter(session: tf.Session, name: str, initial: float = 0.0, **options: Any) -> Any:
    v = tf.get_variable(name, initializer=initial, **options)
    session.run(v.initializer)
    return v


# --- each op once ---


@pytest.mark.parametrize("use_resource", [False, True])
def test_updates_run_once(session: tf.Session, use_resource: bool) -> None:
    v = counter(session, "v", use_resource=use_resource)
    p, q = placeholders(2)
    added = tf.assign_add(v, p)
    results = [added * 1.0, added + q, tf.identity(added) * q]
    run = session.partial_run_setup(results, [p, q])
    assert session.partial_run(run, results[0], {p: 2}) == 2
    assert session.partial_run(run, results[1], {q: 10}) == 12
    assert session.partial_run(run, results[2]) == 20
    assert session.run(v) == 2


def test_reads_happen_in_the_first_stage(session: tf.Session) -> None:
    v = counter(session, "v", 1.0)
    w = counter(session, "w", 1.0, use_resource=True)
    p, q = placeholders(2)
    first, second = p * 1.0, q + v.read_value() + w.read_value() * 10.0
    run = session.partial_run_setup([first, second], [p, q])
    session.partial_run(run, first, {p: 0})
    session.run([tf.assign(v, 5.0), tf.assign(w, 5.0)])
    assert session.partial_run(run, second, {q: 100}) == 111


def test_random_numbers_are_drawn_once(session: tf.Session) -> None:
    p, q = placeholders(2)
    drawn = tf.random_uniform([3], seed=1)
    run = session.partial_run_setup([drawn + p, drawn + q], [p, q])
    one = session.partial_run(run, session.graph.get_tensor_by_name("add:0"), {p: 1})
    other = session.partial_run(run, session.graph.get_tensor_by_name("add_1:0"), {q: 1})
    np.testing.assert_array_equal(one, other)


def test_an_update_of_what_an_earlier_stage_returned(session: tf.Session) -> None:
    v = counter(session, "v", use_resource=False)
    p, q = placeholders(2)
    assigned = tf.assign(v, p)
    added = tf.assign_add(assigned, q)
    run = session.partial_run_setup([assigned, added], [p, q])
    assert session.partial_run(run, assigned, {p: 3}) == 3
    assert session.partial_run(run, added, {q: 4}) == 7
    assert session.run(v) == 7


def test_what_comes_after_by_control_edges_alone(session: tf.Session) -> None:
    v = counter(session, "v")
    p, q = placeholders(2)
    with tf.control_dependencies([tf.assign_add(v, p)]):
        late = tf.identity(q)
    with tf.control_dependencies([q]):
        fixed = tf.constant(5.0)
    run = session.partial_run_setup([late, fixed + 0.0, p * 2], [p, q])
    assert session.partial_run(run, session.graph.get_tensor_by_name("mul:0"), {p: 1}) == 2
    assert session.run(v) == 1
    assert session.partial_run(run, late, {q: 9}) == 9
    assert session.run(v) == 1


def test_operations_run_as_soon_as_they_can(session: tf.Session) -> None:
    v, w = counter(session, "v"), counter(session, "w")
    p, q = placeholders(2)
    now, later = tf.assign_add(v, 1.0).op, tf.assign_add(w, p).op
    run = session.partial_run_setup([now, later, q * 1], [p, q])
    assert session.run([v, w]) == [1, 0]
    assert session.partial_run(run, [], {p: 5}) == []
    assert session.run([v, w]) == [1, 5]
    session.partial_run(run, "mul:0", {q: 1})
    assert session.run([v, w]) == [1, 5]


def test_only_operations(session: tf.Session) -> None:
    v = counter(session, "v")
    p = tf.placeholder(tf.float32, [])
    run = session.partial_run_setup(tf.assign(v, p).op, p)
    session.partial_run(run, [], {p: 4})
    assert session.run(v) == 4
    with pytest.raises(IA, match="Must run 'setup'"):
        session.partial_run(run, [], {p: 4})


# --- values between the stages ---


def test_the_callers_arrays_stay_the_callers(session: tf.Session) -> None:
    p, q = placeholders(2, [2])
    first, second = p * 2, p + q
    run = session.partial_run_setup([first, second, tf.exp(first)], [p, q])
    given = np.array([1, 2], np.float32)
    out = session.partial_run(run, first, {p: given})
    given[:], out[:] = 100, 100
    np.testing.assert_array_equal(session.partial_run(run, second, {q: [0, 0]}), [1, 2])
    np.testing.assert_allclose(session.partial_run(run, "Exp:0"), np.exp([2, 4]), rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float32, tf.int64, tf.bool, tf.string, tf.float16, tf.complex64])
@pytest.mark.parametrize("shape", [[], [2], None])
def test_any_type_crosses(session: tf.Session, dtype: Any, shape: Any) -> None:
    p, q = tf.placeholder(dtype, shape), tf.placeholder(tf.float32, [])
    middle = tf.identity(p)
    with tf.control_dependencies([q]):
        last = tf.identity(middle)
    value = np.ones(shape or [], dtype.as_numpy_dtype) if dtype != tf.string else np.full(shape or [], b"x", object)
    run = session.partial_run_setup([middle, last], [p, q])
    one = session.partial_run(run, middle, {p: value})
    other = session.partial_run(run, last, {q: 0})
    assert type(one) is type(other)
    np.testing.assert_array_equal(one, value)
    np.testing.assert_array_equal(other, value)


def test_extents_cross(session: tf.Session) -> None:
    x, scale = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [])
    square = x * x
    back = tf.reshape(tf.reshape(square, [-1]) * scale, tf.shape(x))
    total = tf.reduce_mean(back, 0)
    compiled = []
    for rows in (2, 5, 7):
        run = session.partial_run_setup([square, total], [x, scale])
        value = np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3)
        np.testing.assert_array_equal(session.partial_run(run, square, {x: value}), value**2)
        np.testing.assert_allclose(session.partial_run(run, total, {scale: 2}), 2 * (value**2).mean(0), rtol=1e-6)
        compiled.append(session.compile_stats().variants)
    assert compiled == [2, 2, 2]
    hosts = [program.manifest.hosts for step in session._steps.values() for program in _programs(step)]
    assert hosts == [(), ()]


def _programs(step: Any) -> list[Any]:
    return [variant.executable for variant in step.variants.values()]


def test_structures_and_scalars(session: tf.Session) -> None:
    Pair = collections.namedtuple("Pair", "x y")
    p, q = placeholders(2)
    a, b, c = p + 1, p * q, p - q
    run = session.partial_run_setup({"a": a, "rest": [b, (c,)]}, (p, q))
    found = session.partial_run(run, Pair(a, [a.name]), {p: 1})
    assert found == Pair(2, [2]) and type(found) is Pair and type(found.x) is np.float32 and found.x is found.y[0]
    assert session.partial_run(run, {"k": (b, c)}, {q.name: 3}) == {"k": (3, -2)}


def test_grouped_keys(session: tf.Session) -> None:
    p, q = placeholders(2)
    run = session.partial_run_setup([p + q], [(p, q)])
    assert session.partial_run(run, "add:0", {(p, q): (1, 2)}) == 3


def test_intermediate_feeds_cut_the_graph(session: tf.Session) -> None:
    missing, p = placeholders(2)
    middle = missing * 2
    run = session.partial_run_setup([middle + 1, middle * p], [middle, p])
    assert session.partial_run(run, "add:0", {middle: 5}) == 6
    assert session.partial_run(run, "mul_1:0", {p: 3}) == 15


def test_gradients_in_the_second_stage(session: tf.Session) -> None:
    """The classic use: a forward pass, a reward worked out in Python, a backward pass."""
    x, reward = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [])
    w = tf.get_variable("w", initializer=np.ones((3, 2), np.float32))
    out = tf.nn.softmax(tf.matmul(x, w))
    loss = tf.reduce_sum(tf.log(out)[:, 0]) * reward
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    session.run(tf.global_variables_initializer())
    value = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    run = session.partial_run_setup([out, loss, train], [x, reward])
    np.testing.assert_allclose(session.partial_run(run, out, {x: value}), np.full((2, 2), 0.5))
    got = session.partial_run(run, loss, {reward: 2.0})
    after = session.run(w)
    session.run(w.initializer)
    want, _ = session.run([loss, train], {x: value, reward: 2.0})
    np.testing.assert_allclose([got, *after.ravel()], [want, *session.run(w).ravel()], rtol=1e-6)


# --- compiled once ---


def test_a_second_handle_compiles_nothing(session: tf.Session) -> None:
    ps = placeholders(4, [3])
    sums = [ps[0] * 1.0]
    for p in ps[1:]:
        sums.append(tf.tanh(sums[-1]) + p)
    counts = []
    for _ in range(3):
        run = session.partial_run_setup(sums, ps)
        for p, total in zip(ps, sums):
            session.partial_run(run, total, {p: np.ones(3, np.float32)})
        stats = session.compile_stats()
        counts.append((stats.variants, stats.steps))
    assert counts == [(4, 4)] * 3


def test_stages_do_not_repeat_the_graph(session: tf.Session) -> None:
    ps = placeholders(10)
    ops, outs, total = 0, [], tf.constant(0.0)
    for p in ps:
        for _ in range(5):
            total = tf.tanh(total + p)
        outs.append(total)
    run = session.partial_run_setup(outs, ps)
    for p, out in zip(ps, outs):
        session.partial_run(run, out, {p: 0.5})
    ops = [variant.pruned_ops for step in session._steps.values() for variant in step.variants.values()]
    assert len(ops) == 10 and max(ops) <= 11


def test_deep_graph(session: tf.Session) -> None:
    """5,000 ops in a chain; values that no stage needs are let go."""
    ps = placeholders(5)
    outs, total = [], ps[0]
    for k in range(5000):
        total = total + (ps[k // 1000] if k % 1000 == 0 else 1.0)
        if k % 1000 == 999:
            outs.append(total)
    run = session.partial_run_setup(outs, ps)
    for k, (p, out) in enumerate(zip(ps, outs)):
        assert session.partial_run(run, out, {p: 0}) == 999 * (k + 1)


def test_many_feeds_are_not_quadratic(session: tf.Session) -> None:
    ps = placeholders(400)
    sums = [ps[0]]
    for p in ps[1:]:
        sums.append(sums[-1] + p)
    run = session.partial_run_setup(sums[1:], ps)
    for p in ps[:200]:
        session.partial_run(run, [], {p: 1})
    assert session.partial_run(run, sums[199]) == 200
    values = session._partial_runs()._runs[run].values
    assert len(values) <= 199  # one for each fetch that is waiting, and what comes next


# --- refusals and failures ---


def test_a_refused_call_changes_nothing(session: tf.Session) -> None:
    p, q = placeholders(2)
    total, product = p + q, p * q
    run = session.partial_run_setup([total], [p, q])
    refused = [
        (total, {p: 1}, IA, "can't be computed from the feeds that have been fed so far; missing: Placeholder_1:0"),
        (product, {p: 1, q: 1}, IA, "The fetch mul:0 was not specified in partial_run_setup"),
        (total, {p: "x"}, ValueError, "could not convert"),
        (total, {p: [1, 2]}, ValueError, "Cannot feed value of shape"),
        (total, {p: 2**40, "nope:0": 1}, TypeError, "Cannot interpret feed_dict key"),
        (None, {p: 1}, TypeError, "Cannot be None"),
        (total.op, {p: 1, q: 1}, RuntimeError, "empty `target_list`"),
        (total, [p], TypeError, "mapping"),
        (total, {tf.constant(1.0, name="other"): 1, p: 1}, IA, "The feed other:0 was not specified"),
    ]
    for fetch, feeds, error, text in refused:
        with pytest.raises(error, match=text.replace("(", r"\(").replace(")", r"\)")):
            session.partial_run(run, fetch, feeds)
    session.partial_run(run, [], {p: 1})
    with pytest.raises(IA, match="The feed Placeholder:0 has already been fed"):
        session.partial_run(run, total, {p: 1, q: 1})
    assert session.partial_run(run, total, {q: 1}) == 2


@pytest.mark.parametrize("handle", ["", "x", "partial_run/999999", b"x", 3, ()])
def test_no_handle(session: tf.Session, handle: Any) -> None:
    t = tf.constant(1)
    with pytest.raises(IA, match="Must run 'setup' before performing partial runs!"):
        session.partial_run(handle, t)
    assert session.partial_run(handle, []) == []


def test_refused_setups(session: tf.Session) -> None:
    p, q = placeholders(2)
    total = p + q
    with tf.Graph().as_default():
        strange = tf.constant(1.0)
    cases: list[tuple[Any, Any, Any, str]] = [
        ([], [p], IA, "specify at least one target"),
        ([total], [p, p.name], IA, "Placeholder:0 fed more than once"),
        ([total, p], [p, q], IA, "Placeholder:0 is both fed and fetched"),
        ([strange], [p], ValueError, "not an element of this graph"),
        ([total], [strange], TypeError, "Cannot interpret feed_dict key"),
        ([total], [total.op], TypeError, "Can not convert a Operation into a Tensor"),
        ([None], [p], TypeError, "Cannot be None"),
    ]
    for fetches, feeds, error, text in cases:
        with pytest.raises(error, match=text):
            session.partial_run_setup(fetches, feeds)


def test_a_failure_ends_its_handle_alone(session: tf.Session) -> None:
    v = counter(session, "v")
    x, i = tf.placeholder(tf.float32, [3]), tf.placeholder(tf.int32, [])
    picked = tf.gather(x, i)
    with tf.control_dependencies([tf.assign_add(v, tf.reduce_sum(x))]):
        result = picked + 0.0
    double = x * 2
    runs = [session.partial_run_setup([result, double], [x, i]) for _ in range(2)]
    for run in runs:
        session.partial_run(run, double, {x: [1, 2, 3]})
    before = session.run(v)
    with pytest.raises(IA, match="is not in"):
        session.partial_run(runs[0], result, {i: 7})
    with pytest.raises(IA, match="Must run 'setup'"):
        session.partial_run(runs[0], result)
    assert session.run(v) == before
    assert session.partial_run(runs[1], result, {i: 1}) == 2
    assert session.run(x * 1.0, {x: [1, 1, 1]}).tolist() == [1, 1, 1]


def test_a_failure_before_the_first_call_is_told_by_it(session: tf.Session) -> None:
    p = tf.placeholder(tf.float32, [], name="p")
    left_out = tf.placeholder(tf.float32, [], name="left_out")
    v = tf.get_variable("v", initializer=1.0)
    same = p * 1.0
    run = session.partial_run_setup([same, tf.assign_add(v, left_out).op], [p])
    with pytest.raises(IA, match="must feed a value for placeholder tensor 'left_out'"):
        session.partial_run(run, same, {p: 1})
    run = session.partial_run_setup([same, tf.assign_add(v, 1.0).op], [p])
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
        session.partial_run(run, same, {p: 1})


def test_empty_graph_and_closed_session() -> None:
    with tf.Graph().as_default():
        session = tf.Session()
        with pytest.raises(RuntimeError, match="graph is empty"):
            session.partial_run_setup([], [])
        p = tf.placeholder(tf.float32, [])
        run = session.partial_run_setup(p * 2, p)
        session.close()
        for call in (lambda: session.partial_run(run, "mul:0", {p: 1}), lambda: session.partial_run_setup(p * 2, p)):
            with pytest.raises(RuntimeError, match="closed Session"):
                call()
