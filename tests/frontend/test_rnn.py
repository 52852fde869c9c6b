"""Recurrent cells against numpy, loops over time against their unrolling, names of variables, errors."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf

X = np.random.RandomState(0).randn(2, 5, 3).astype(np.float32)


@pytest.fixture(autouse=True)
def session():
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def basic(values, x, h):
    kernel, bias = values
    return np.tanh(np.concatenate([x, h], 1) @ kernel + bias)


def gru(values, x, h):
    gate_kernel, gate_bias, kernel, bias = values
    r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ gate_kernel + gate_bias), 2, 1)
    c = np.tanh(np.concatenate([x, r * h], 1) @ kernel + bias)
    return u * h + (1 - u) * c


@pytest.mark.parametrize(("kind", "step"), [("BasicRNNCell", basic), ("GRUCell", gru)])
def test_simple_cells(session, kind, step):
    cell = getattr(tf.nn.rnn_cell, kind)(4)
    outputs, state = tf.nn.dynamic_rnn(cell, tf.constant(X), dtype=tf.float32)
    session.run(tf.global_variables_initializer())
    values, found, last = session.run([cell.weights, outputs, state])
    h = np.zeros([2, 4], np.float32)
    for time in range(5):
        h = step(values, X[:, time], h)
        np.testing.assert_allclose(found[:, time], h, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(last, found[:, -1])
    assert outputs.shape.as_list() == [2, 5, 4]


@pytest.mark.parametrize("tuples", [True, False])
def test_lstm(session, tuples):
    cell = tf.nn.rnn_cell.BasicLSTMCell(4, forget_bias=0.5, state_is_tuple=tuples)
    outputs, state = tf.nn.dynamic_rnn(cell, tf.constant(X), dtype=tf.float32)
    session.run(tf.global_variables_initializer())
    (kernel, bias), found, last = session.run([cell.weights, outputs, state])
    c, h = np.zeros([2, 4]), np.zeros([2, 4])
    for time in range(5):
        i, j, f, o = np.split(np.concatenate([X[:, time], h], 1) @ kernel + bias, 4, 1)
        c = c * sigmoid(f + 0.5) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        np.testing.assert_allclose(found[:, time], h, rtol=1e-4, atol=1e-5)
    if tuples:
        assert isinstance(last, tf.nn.rnn_cell.LSTMStateTuple)
    np.testing.assert_allclose(np.concatenate(last, 1) if tuples else last, np.concatenate([c, h], 1), atol=1e-5)


def test_lstm_with_everything(session):
    cell = tf.nn.rnn_cell.LSTMCell(4, use_peepholes=True, num_proj=2, cell_clip=0.3, proj_clip=0.2)
    outputs, state = tf.nn.dynamic_rnn(cell, tf.constant(X * 3), dtype=tf.float32)
    session.run(tf.global_variables_initializer())
    assert [each.name.split("/", 2)[2] for each in cell.weights] == [
        "kernel:0", "bias:0", "w_f_diag:0", "w_i_diag:0", "w_o_diag:0", "projection/kernel:0",
    ]  # fmt: skip
    (kernel, bias, to_f, to_i, to_o, projection), found, last = session.run([cell.weights, outputs, state])
    c, h = np.zeros([2, 4]), np.zeros([2, 2])
    for time in range(5):
        i, j, f, o = np.split(np.concatenate([X[:, time] * 3, h], 1) @ kernel + bias, 4, 1)
        c = np.clip(sigmoid(f + 1 + to_f * c) * c + sigmoid(i + to_i * c) * np.tanh(j), -0.3, 0.3)
        h = np.clip((sigmoid(o + to_o * c) * np.tanh(c)) @ projection, -0.2, 0.2)
        np.testing.assert_allclose(found[:, time], h, rtol=1e-4, atol=1e-5)
    assert last.c.shape == (2, 4) and last.h.shape == (2, 2)


def cells():
    kinds = tf.nn.rnn_cell
    return {
        "stack": lambda: kinds.MultiRNNCell([kinds.GRUCell(4), kinds.LSTMCell(3)]),
        "joined": lambda: kinds.MultiRNNCell([kinds.BasicRNNCell(4), kinds.BasicRNNCell(3)], state_is_tuple=False),
        "residual": lambda: kinds.ResidualWrapper(kinds.GRUCell(3)),
        "device": lambda: kinds.DeviceWrapper(kinds.GRUCell(3), "/cpu:0"),
        "norm": lambda: tf.contrib.rnn.LayerNormBasicLSTMCell(4),
        "projection": lambda: tf.contrib.rnn.OutputProjectionWrapper(kinds.GRUCell(4), 2),
        "entry": lambda: tf.contrib.rnn.InputProjectionWrapper(kinds.GRUCell(4), 6),
    }


@pytest.mark.parametrize("kind", sorted(cells()))
def test_loop_and_unrolling_agree(session, kind):
    x, lengths = tf.placeholder(tf.float32, [None, 5, 3]), tf.placeholder(tf.int32, [None])
    cell = cells()[kind]()
    loop, last = tf.nn.dynamic_rnn(cell, x, sequence_length=lengths, dtype=tf.float32)
    tf.get_variable_scope().reuse_variables()
    rows, unrolled = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), sequence_length=lengths, dtype=tf.float32)
    weights = tf.trainable_variables()
    assert cell.weights
    of_loop, of_rows = (tf.gradients(tf.reduce_sum(y * y), weights) for y in (loop, tf.stack(rows, 1)))
    session.run(tf.global_variables_initializer())
    feed = {x: X, lengths: [5, 3]}
    a, b, state_a, state_b, grads_a, grads_b = session.run(
        [loop, tf.stack(rows, 1), last, unrolled, of_loop, of_rows], feed
    )
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not a[1, 3:].any(), "zero after the end"
    for mine, theirs in zip(tf.nest.flatten(state_a), tf.nest.flatten(state_b)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(grads_a, grads_b):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_names_of_variables():
    kinds = tf.nn.rnn_cell
    cell = kinds.MultiRNNCell([kinds.DropoutWrapper(kinds.BasicLSTMCell(4), 0.5), kinds.GRUCell(3, name="top")])
    tf.nn.dynamic_rnn(cell, tf.constant(X), dtype=tf.float32)
    with tf.variable_scope("outer"):
        tf.nn.static_rnn(kinds.BasicRNNCell(2), tf.unstack(tf.constant(X), axis=1), dtype=tf.float32, scope="mine")
    assert [each.name for each in tf.trainable_variables()] == [
        "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel:0",
        "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias:0",
        "rnn/multi_rnn_cell/cell_1/top/gates/kernel:0",
        "rnn/multi_rnn_cell/cell_1/top/gates/bias:0",
        "rnn/multi_rnn_cell/cell_1/top/candidate/kernel:0",
        "rnn/multi_rnn_cell/cell_1/top/candidate/bias:0",
        "outer/mine/basic_rnn_cell/kernel:0",
        "outer/mine/basic_rnn_cell/bias:0",
    ]


def test_a_cell_is_called_again_with_the_same_variables(session):
    cell = tf.nn.rnn_cell.GRUCell(4)
    x, state = tf.constant(X[:, 0]), cell.zero_state(2, tf.float32)
    (first, _), (second, _) = cell(x, state), cell(x, state)
    assert len(tf.trainable_variables()) == 4
    session.run(tf.global_variables_initializer())
    a, b = session.run([first, second])
    assert (a == b).all()


def test_cells_of_users(session):
    class Counter(tf.nn.rnn_cell.RNNCell):
        state_size = 1
        output_size = 1

        def call(self, inputs, state):
            scale = tf.get_variable("scale", [], initializer=tf.ones_initializer())
            new = state + scale * tf.reduce_sum(inputs, 1, keepdims=True)
            return new, new

    outputs, _ = tf.nn.dynamic_rnn(Counter(), tf.constant(X), dtype=tf.float32)
    session.run(tf.global_variables_initializer())
    np.testing.assert_allclose(session.run(outputs)[:, -1, 0], X.sum((1, 2)), rtol=1e-5)
    assert [each.name for each in tf.trainable_variables()] == ["rnn/counter/scale:0"]


def test_time_major_and_initial_state(session):
    cell = tf.nn.rnn_cell.GRUCell(4)
    start = tf.ones([2, 4])
    a, _ = tf.nn.dynamic_rnn(cell, tf.constant(X), initial_state=start)
    tf.get_variable_scope().reuse_variables()
    b, _ = tf.nn.dynamic_rnn(cell, tf.constant(X.transpose(1, 0, 2)), initial_state=start, time_major=True)
    session.run(tf.global_variables_initializer())
    one, other = session.run([a, b])
    np.testing.assert_array_equal(one, other.transpose(1, 0, 2))


def test_fed_times_and_batches(session):
    x = tf.placeholder(tf.float32, [None, None, 3])
    outputs, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.GRUCell(4), x, dtype=tf.float32)
    (grad,) = tf.gradients(outputs, x)
    session.run(tf.global_variables_initializer())
    whole = session.run(outputs, {x: X})
    np.testing.assert_allclose(session.run(outputs, {x: X[:1, :2]}), whole[:1, :2], rtol=1e-5, atol=1e-6)
    assert session.run(grad, {x: X[:1, :2]}).shape == (1, 2, 3)
    assert session.run(outputs, {x: X[:, :0]}).shape == (2, 0, 4)


def test_both_directions(session):
    lengths = tf.placeholder(tf.int32, [None])
    kinds = tf.nn.rnn_cell
    (fw, bw), (state_fw, state_bw) = tf.nn.bidirectional_dynamic_rnn(
        kinds.GRUCell(4), kinds.GRUCell(4), tf.constant(X), sequence_length=lengths, dtype=tf.float32
    )
    tf.get_variable_scope().reuse_variables()
    rows, *_ = tf.nn.static_bidirectional_rnn(
        kinds.GRUCell(4), kinds.GRUCell(4), tf.unstack(tf.constant(X), axis=1), sequence_length=lengths, dtype=tf.float32
    )
    session.run(tf.global_variables_initializer())
    a, b, ends, joined = session.run([fw, bw, (state_fw, state_bw), tf.stack(rows, 1)], {lengths: [5, 3]})
    np.testing.assert_allclose(np.concatenate([a, b], 2), joined, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ends[1], b[:, 0], rtol=1e-5, atol=1e-6)
    assert [each.name for each in tf.trainable_variables()][::4] == [
        "bidirectional_rnn/fw/gru_cell/gates/kernel:0", "bidirectional_rnn/bw/gru_cell/gates/kernel:0",
    ]  # fmt: skip


def test_raw_rnn(session):
    cell = tf.nn.rnn_cell.GRUCell(4)
    inputs = tf.TensorArray(tf.float32, 5, clear_after_read=False).unstack(tf.transpose(tf.constant(X), [1, 0, 2]))

    def steer(time, output, state, loop_state):
        following = cell.zero_state(2, tf.float32) if output is None else state
        finished = time >= tf.constant([5, 3])
        row = tf.cond(tf.reduce_all(finished), lambda: tf.zeros([2, 3]), lambda: inputs.read(time))
        return finished, row, following, output, None

    emitted, last, _ = tf.nn.raw_rnn(cell, steer, scope="r")
    tf.get_variable_scope().reuse_variables()
    outputs, expected = tf.nn.dynamic_rnn(cell, tf.constant(X), sequence_length=[5, 3], dtype=tf.float32)
    session.run(tf.global_variables_initializer())
    a, b, end, other = session.run([emitted.stack(), outputs, last, expected])
    np.testing.assert_allclose(a.transpose(1, 0, 2), b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(end, other, rtol=1e-5, atol=1e-6)


def test_dropout(session):
    kinds = tf.nn.rnn_cell
    with tf.variable_scope("plain"):
        cell = kinds.DropoutWrapper(kinds.LSTMCell(50), output_keep_prob=0.5, state_keep_prob=0.5, seed=1)
        outputs, state = tf.nn.dynamic_rnn(cell, tf.constant(X), dtype=tf.float32)
    with tf.variable_scope("variational"):
        cell = kinds.DropoutWrapper(
            kinds.GRUCell(50), 1.0, 0.5, variational_recurrent=True, dtype=tf.float32, seed=1
        )
        same, _ = tf.nn.dynamic_rnn(cell, tf.constant(X), dtype=tf.float32)
    session.run(tf.global_variables_initializer())
    found, last, kept = session.run([outputs, state, same])
    assert 0.3 < (found == 0).mean() < 0.7 and (last.h == 0).any() and not (last.c == 0).any()
    assert ((kept == 0) == (kept[:1, :1] == 0)).all(), "the same elements at all times"


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda k: tf.nn.dynamic_rnn(k.GRUCell(4), tf.constant(X)), ValueError, "must give a dtype"),
        (lambda k: tf.nn.dynamic_rnn("cell", tf.constant(X), dtype=tf.float32), TypeError, "is not an RNNCell"),
        (lambda k: tf.nn.dynamic_rnn(k.GRUCell(4), tf.zeros([3]), dtype=tf.float32), ValueError, "rank"),
        (lambda k: tf.nn.dynamic_rnn(k.GRUCell(4), tf.placeholder(tf.float32, [2, 3, None]), dtype=tf.float32), ValueError, "depth of inputs"),
        (lambda k: tf.nn.dynamic_rnn(k.GRUCell(4), tf.constant(X), sequence_length=[1], dtype=tf.float32), ValueError, "sequence_length"),
        (lambda k: tf.nn.static_rnn(k.GRUCell(4), tf.constant(X), dtype=tf.float32), TypeError, "must be a sequence"),
        (lambda k: tf.nn.static_rnn(k.GRUCell(4), [], dtype=tf.float32), ValueError, "must not be empty"),
        (lambda k: k.MultiRNNCell([]), ValueError, "at least one cell"),
        (lambda k: k.MultiRNNCell(k.GRUCell(4)), TypeError, "list or tuple"),
        (lambda k: k.DropoutWrapper(k.GRUCell(4), input_keep_prob=2.0), ValueError, "between 0 and 1"),
        (lambda k: k.DropoutWrapper(k.GRUCell(4), variational_recurrent=True), ValueError, "dtype must be provided"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(tf.nn.rnn_cell)
