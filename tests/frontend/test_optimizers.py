"""Optimisers: the ops and slots they make, and one step of each against its formula."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf

BOTH = pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def named(graph, prefix):
    return [op.name for op in graph.get_operations() if op.name.startswith(prefix)]


def test_gradient_descent_ops(graph):
    v = tf.Variable([1.0, 2.0], name="v")
    op = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(v * v))
    assert named(graph, "GradientDescent") == [
        "GradientDescent/learning_rate",
        "GradientDescent/update_v/ApplyGradientDescent",
        "GradientDescent",
    ]
    assert op.type == "NoOp"
    assert tf.get_collection(tf.GraphKeys.TRAIN_OP) == [op]


def test_adam_slots_and_global_step(graph):
    with tf.variable_scope("net"):
        v = tf.get_variable("v", [2])
    step = tf.train.get_or_create_global_step()
    optimizer = tf.train.AdamOptimizer(0.01)
    op = optimizer.minimize(tf.reduce_sum(v * v), global_step=step)
    assert (op.name, op.type) == ("Adam", "AssignAdd")
    assert [each.op.name for each in optimizer.variables()] == [
        "beta1_power",
        "beta2_power",
        "net/v/Adam",
        "net/v/Adam_1",
    ]
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(v, "m").op.name == "net/v/Adam"
    assert "Adam/update_net/v/ApplyAdam" in named(graph, "Adam/")
    assert graph.get_operation_by_name("Adam/update").control_inputs[-1].name == "Adam/Assign_1"
    assert optimizer.get_slot(v, "m") not in tf.trainable_variables()


def test_no_gradients():
    v = tf.Variable(1.0)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.minimize(tf.constant(1.0))
    with pytest.raises(ValueError, match="No variables to optimize"):
        optimizer.compute_gradients(v * v, var_list=[])
    with pytest.raises(TypeError, match="not a tf"):
        optimizer.compute_gradients(v * v, var_list=[3])
    with pytest.raises(ValueError, match="No variables provided"):
        optimizer.apply_gradients([])
    with pytest.raises(ValueError, match="gate_gradients"):
        optimizer.compute_gradients(v * v, gate_gradients=9)


def test_clipping_between_compute_and_apply():
    v = tf.Variable([3.0, 4.0])
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    pairs = [(tf.clip_by_norm(g, 5.0), w) for g, w in optimizer.compute_gradients(tf.reduce_sum(v * v))]
    op = optimizer.apply_gradients(pairs, name="step")
    assert op.name == "step"
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        s.run(op)
        np.testing.assert_allclose(s.run(v), [0.0, 0.0], atol=1e-6)


def expected_adam(x, grads, rate=0.1, b1=0.9, b2=0.999, eps=1e-8):
    m = v = np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
    return x


def expected_momentum(x, grads, nesterov, rate=0.1, mu=0.9):
    a = np.zeros_like(x)
    for g in grads:
        a = mu * a + g
        x = x - rate * (g + mu * a if nesterov else a)
    return x


def run(optimizer, resource, steps=3, sparse=False, global_step=None):
    start = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    weights = np.array([[1.0, -1.0], [0.5, 2.0], [0.0, 3.0]], np.float32)
    v = tf.Variable(start, use_resource=resource)
    loss = tf.reduce_sum(tf.gather(v, [0, 1, 0]) * weights[[0, 1, 0]]) if sparse else tf.reduce_sum(v * weights)
    op = optimizer.minimize(loss, global_step=global_step)
    grad = weights * np.array([[2.0], [1.0], [0.0]], np.float32) if sparse else weights
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(steps):
            s.run(op)
        return s.run(v), start, [grad] * steps


@BOTH
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_steps_follow_the_formulas(resource, sparse):
    got, start, grads = run(tf.train.GradientDescentOptimizer(0.1), resource, sparse=sparse)
    np.testing.assert_allclose(got, start - 0.1 * sum(grads), rtol=1e-5)


@BOTH
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_adam(resource, sparse):
    step = tf.train.get_or_create_global_step()
    got, start, grads = run(tf.train.AdamOptimizer(0.1), resource, sparse=sparse, global_step=step)
    np.testing.assert_allclose(got, expected_adam(start, grads), rtol=1e-5)


@BOTH
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(resource, nesterov):
    got, start, grads = run(tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=nesterov), resource)
    np.testing.assert_allclose(got, expected_momentum(start, grads, nesterov), rtol=1e-5)


@BOTH
def test_adagrad_and_rmsprop(resource):
    got, start, grads = run(tf.train.AdagradOptimizer(0.1), resource)
    x, total = start, np.full_like(start, 0.1)
    for g in grads:
        total = total + g * g
        x = x - 0.1 * g / np.sqrt(total)
    np.testing.assert_allclose(got, x, rtol=1e-5)
    got, start, grads = run(tf.train.RMSPropOptimizer(0.1), resource)
    x, mean = start, np.ones_like(start)
    for g in grads:
        mean = 0.9 * mean + 0.1 * g * g
        x = x - 0.1 * g / np.sqrt(mean + 1e-10)
    np.testing.assert_allclose(got, x, rtol=1e-5)


def test_hyper_parameters_are_float32():
    v = tf.Variable(np.float64(1.0))
    op = tf.train.GradientDescentOptimizer(0.3).minimize(v * 1.0)
    with tf.Session() as s:
        s.run(v.initializer)
        s.run(op)
        assert s.run(v) == 1.0 - float(np.float32(0.3))


def test_constraint_is_applied_after_the_update():
    v = tf.Variable([1.0, -1.0], constraint=lambda w: tf.maximum(w, 0.0))
    op = tf.train.GradientDescentOptimizer(0.5).minimize(tf.reduce_sum(v))
    with tf.Session() as s:
        s.run(v.initializer)
        s.run(op)
        assert s.run(v).tolist() == [0.5, 0.0]


def test_learning_rate_decay():
    step = tf.placeholder(tf.int64, [])
    rates = [
        tf.train.exponential_decay(0.1, step, 10, 0.5),
        tf.train.exponential_decay(0.1, step, 10, 0.5, staircase=True),
        tf.train.polynomial_decay(0.1, step, 10, 0.01),
        tf.train.inverse_time_decay(0.1, step, 10, 0.5),
        tf.train.natural_exp_decay(0.1, step, 10, 0.5),
        tf.train.cosine_decay(0.1, step, 10),
        tf.train.piecewise_constant(step, [5, 20], [1.0, 0.5, 0.1]),
    ]
    with tf.Session() as s:
        got = s.run(rates, {step: 15})
    want = [0.1 * 0.5**1.5, 0.05, 0.01, 0.1 / 1.75, 0.1 * np.exp(-0.75), 0.0, 0.5]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8)


def test_training_a_small_net_lowers_the_loss():
    rng = np.random.default_rng(0)
    x = tf.placeholder(tf.float32, [None, 4])
    y = tf.placeholder(tf.int32, [None])
    hidden = tf.layers.dense(x, 8, tf.nn.relu, kernel_initializer=tf.glorot_uniform_initializer(seed=1))
    logits = tf.layers.dense(hidden, 2, kernel_initializer=tf.glorot_uniform_initializer(seed=2))
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    op = tf.train.AdamOptimizer(0.05).minimize(loss)
    data = rng.standard_normal((32, 4)).astype(np.float32)
    feed = {x: data, y: (data.sum(1) > 0).astype(np.int32)}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        first = s.run(loss, feed)
        for _ in range(40):
            s.run(op, feed)
        assert s.run(loss, feed) < 0.3 * first
