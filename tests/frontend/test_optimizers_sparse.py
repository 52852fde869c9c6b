"""Optimisers over several steps, dense and by rows with repeated indices, against the formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf

STEPS = 4
START = np.random.RandomState(0).randn(6, 3)
WEIGHTS = np.random.RandomState(1).randn(STEPS, 6, 3)
ROWS = ([1, 1, 3], [0, 5, 5, 5, 2], [4], [2, 2])


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def shrunk(x, by):
    return np.sign(x) * np.maximum(np.abs(x) - by, 0)


def momentum(nesterov):
    def step(s, x, g, t):
        s["a"] = 0.9 * s.get("a", 0) + g
        return x - 0.1 * (g + 0.9 * s["a"] if nesterov else s["a"])

    return step


def adam(s, x, g, t):
    s["m"], s["v"] = 0.9 * s.get("m", 0) + 0.1 * g, 0.999 * s.get("v", 0) + 0.001 * g * g
    return x - 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * s["m"] / (np.sqrt(s["v"]) + 1e-8)


def adagrad(s, x, g, t):
    s["a"] = s.get("a", 0.1) + g * g
    return x - 0.1 * g / np.sqrt(s["a"])


def adadelta(s, x, g, t):
    s["a"] = 0.95 * s.get("a", 0) + 0.05 * g * g
    update = np.sqrt(s.get("u", 0) + 1e-8) / np.sqrt(s["a"] + 1e-8) * g
    s["u"] = 0.95 * s.get("u", 0) + 0.05 * update**2
    return x - update


def rms(centred):
    def step(s, x, g, t):
        s["ms"] = s.get("ms", 1) + (g * g - s.get("ms", 1)) * 0.1
        s["mg"] = s.get("mg", 0) + (g - s.get("mg", 0)) * 0.1
        spread = s["ms"] - (s["mg"] ** 2 if centred else 0) + 1e-10
        s["mom"] = 0.5 * s.get("mom", 0) + 0.1 * g / np.sqrt(spread)
        return x - s["mom"]

    return step


def ftrl(s, x, g, t):
    old, s["n"] = s.get("n", 0.1), s.get("n", 0.1) + g * g
    s["z"] = s.get("z", 0) + g - (np.sqrt(s["n"]) - np.sqrt(old)) / 0.5 * x
    return -shrunk(s["z"], 0.01) / (np.sqrt(s["n"]) / 0.5 + 2 * 0.02)


def proximal_descent(s, x, g, t):
    return shrunk(x - 0.1 * g, 0.1 * 0.05) / (1 + 0.1 * 0.02)


def proximal_adagrad(s, x, g, t):
    s["a"] = s.get("a", 0.1) + g * g
    rate = 0.1 / np.sqrt(s["a"])
    return shrunk(x - rate * g, rate * 0.05) / (1 + rate * 0.02)


def adagrad_da(s, x, g, t):
    s["g"], s["s"] = s.get("g", 0) + g, s.get("s", 0.1) + g * g
    return -0.5 * shrunk(s["g"], 0.01 * t) / (0.02 * t * 0.5 + np.sqrt(s["s"]))


REGULARISED = {"l1_regularization_strength": 0.05, "l2_regularization_strength": 0.02}
CASES = {
    "sgd": (lambda step: tf.train.GradientDescentOptimizer(0.1), lambda s, x, g, t: x - 0.1 * g),
    "momentum": (lambda step: tf.train.MomentumOptimizer(0.1, 0.9), momentum(False)),
    "nesterov": (lambda step: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True), momentum(True)),
    "adam": (lambda step: tf.train.AdamOptimizer(0.1), adam),
    "adagrad": (lambda step: tf.train.AdagradOptimizer(0.1), adagrad),
    "adadelta": (lambda step: tf.train.AdadeltaOptimizer(1.0), adadelta),
    "rms": (lambda step: tf.train.RMSPropOptimizer(0.1, 0.9, 0.5), rms(False)),
    "centred rms": (lambda step: tf.train.RMSPropOptimizer(0.1, 0.9, 0.5, centered=True), rms(True)),
    "ftrl": (lambda step: tf.train.FtrlOptimizer(0.5, l1_regularization_strength=0.01, l2_regularization_strength=0.02),
             ftrl),
    "proximal descent": (lambda step: tf.train.ProximalGradientDescentOptimizer(0.1, **REGULARISED), proximal_descent),
    "proximal adagrad": (lambda step: tf.train.ProximalAdagradOptimizer(0.1, **REGULARISED), proximal_adagrad),
    "adagrad da": (lambda step: tf.train.AdagradDAOptimizer(0.5, step, l1_regularization_strength=0.01,
                                                            l2_regularization_strength=0.02), adagrad_da),
}  # fmt: skip
EVERYWHERE = ("sgd", "adam")
"""Whose rows without a gradient move (or stay) as with a gradient of zero; the others leave them alone."""


def wanted(rule, name, rows):
    """After each step: the dense update, or that of the touched rows alone."""
    x, state = START.copy(), {}
    for k in range(STEPS):
        counts = np.bincount(rows[k], minlength=6)[:, None] if rows else 1
        new_state = {key: np.array(value) for key, value in state.items()}
        new = rule(new_state, x, WEIGHTS[k] * counts, k + 1)
        touched = np.isin(np.arange(6), rows[k])[:, None] if rows and name not in EVERYWHERE else np.True_
        for key, value in new_state.items():
            before = state.get(key, initial(rule, key))
            new_state[key] = np.where(touched, value, before)
        x, state = np.where(touched, new, x), new_state
    return x


def initial(rule, key):
    return {"a": 0.1 if rule in (adagrad, proximal_adagrad) else 0, "n": 0.1, "s": 0.1, "ms": 1}.get(key, 0)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_several_steps(name, dtype, sparse):
    make, rule = CASES[name]
    found = []
    for resource in (False, True):
        with tf.Graph().as_default(), tf.Session() as s:
            v = tf.get_variable("v", initializer=START.astype(dtype), use_resource=resource)
            step = tf.train.get_or_create_global_step()
            w, rows = tf.placeholder(dtype, [6, 3]), tf.placeholder(tf.int32, [None])
            loss = tf.reduce_sum(tf.gather(v, rows) * tf.gather(w, rows)) if sparse else tf.reduce_sum(v * w)
            op = make(step).minimize(loss, global_step=step)
            s.run(tf.global_variables_initializer())
            for k in range(STEPS):
                s.run(op, {w: WEIGHTS[k], rows: ROWS[k]})
            found.append(s.run(v))
            assert s.run(step) == STEPS
    np.testing.assert_array_equal(found[0], found[1])
    tolerance = 1e-4 if dtype == "float32" else 1e-6  # hyper-parameters are float32 numbers
    np.testing.assert_allclose(found[0], wanted(rule, name, ROWS if sparse else None), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "ftrl"])
def test_bad_rows_change_nothing(name, resource):
    v = tf.get_variable("v", initializer=START.astype("float32"), use_resource=resource)
    step = tf.train.get_or_create_global_step()
    values, rows = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int32, [None])
    op = CASES[name][0](step).apply_gradients([(tf.IndexedSlices(values, rows), v)], global_step=step)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        before = s.run(tf.global_variables())
        for bad in ([0, 6], [-1, 2]):
            with pytest.raises(tf.errors.InvalidArgumentError):
                s.run(op, {values: np.ones((2, 3)), rows: bad})
        for old, new in zip(before, s.run(tf.global_variables())):
            np.testing.assert_array_equal(old, new)
        s.run(op, {values: np.ones((2, 3)), rows: [0, 5]})
        assert not np.array_equal(s.run(v), before[0])


def test_no_rows_at_all():
    v = tf.get_variable("v", initializer=START.astype("float32"))
    values, rows = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int64, [None])
    op = tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(tf.IndexedSlices(values, rows), v)])
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        s.run(op, {values: np.zeros((0, 3)), rows: np.zeros(0, np.int64)})
        np.testing.assert_array_equal(s.run(v), START.astype("float32"))


@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
def test_batches_of_rows(resource):
    start = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    v = tf.Variable(start, use_resource=resource)
    done = tf.batch_scatter_update(v, [[0, 3], [2, 1]], -np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    want = start.copy()
    want[0, [0, 3]], want[1, [2, 1]] = -np.arange(6).reshape(2, 3), -np.arange(6, 12).reshape(2, 3)
    with tf.Session() as s:
        s.run(v.initializer)
        np.testing.assert_array_equal(s.run(done), want)


def test_updates_that_do_not_fit_are_refused_as_they_are_made():
    for resource in (False, True):
        v = tf.get_variable(f"v{resource}", [5, 3], use_resource=resource)
        with pytest.raises(ValueError, match="must be equal"):
            tf.scatter_add(v, [0, 1], np.zeros((3, 3), np.float32))


def test_quotients_of_integers_are_cut_towards_zero():
    v = tf.Variable([[7, -7], [9, -9]])
    divided = tf.scatter_div(v, [0, 1], [[2, 2], [-2, -2]])
    with tf.Session() as s:
        s.run(v.initializer)
        assert s.run(divided).tolist() == [[3, -3], [-4, 4]]


@pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])
def test_elements_of_variables_and_their_gradients(resource):
    v = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3), use_resource=resource)
    single, rows = v.gather_nd([[1, 2], [0, 0]]), v.gather_nd([[1], [3]])
    (of_single,) = tf.gradients(single * single, v)
    of_rows = tf.convert_to_tensor(tf.gradients(rows, v)[0])
    with tf.Session() as s:
        s.run(v.initializer)
        assert s.run(single).tolist() == [5, 0]
        assert s.run(of_single).tolist() == [[0, 0, 0], [0, 0, 10], [0, 0, 0], [0, 0, 0]]
        assert s.run(of_rows).tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]]


def test_the_larger_or_smaller_by_index_and_gradients():
    x = tf.constant([[3.0, 4, 0], [-1, 2, -2]])
    updates = tf.constant([[3.0, 2, -9]])
    for scatter, want in ((tf.tensor_scatter_nd_max, [3, 2, -2]), (tf.tensor_scatter_nd_min, [-1, 2, -9])):
        found = scatter(x, [[1]], updates)
        of_x, of_updates = tf.gradients(found, [x, updates])
        with tf.Session() as s:
            assert s.run(found)[1].tolist() == want
            kept, taken = s.run([of_x, of_updates])
            np.testing.assert_array_equal(kept[1] + taken[0], [1, 1, 1])
            assert kept[1, 1] == taken[0, 1] == 0.5


@pytest.mark.parametrize("t_mul", [1.0, 2.0])
def test_cosine_restarts(t_mul):
    step = tf.placeholder(tf.int64, [])
    rate = tf.train.cosine_decay_restarts(0.1, step, 4, t_mul, 0.5, 0.1)

    def wanted(k):
        done, length, height = k, 4, 1.0
        while done >= length:
            done, length, height = done - length, length * t_mul, height * 0.5
        return 0.1 * (0.9 * height * 0.5 * (1 + np.cos(np.pi * done / length)) + 0.1)

    with tf.Session() as s:
        for k in (0, 1, 3, 5, 6, 9, 11, 14, 27):
            np.testing.assert_allclose(s.run(rate, {step: k}), wanted(k), rtol=1e-5)
