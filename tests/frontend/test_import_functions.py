"""GraphDefs that TensorFlow 2.21 wrote, with branches, loops, calls and lists of tensors in functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stepjit.compat.v1 as tf

DATA = Path(__file__).parent / "data"
ROWS = np.random.RandomState(1).randn(2, 4, 3).astype(np.float32)


def recurrent(x):
    w = np.random.RandomState(0).randn(5, 2).astype(np.float32)
    h, rows = np.zeros([len(x), 2], np.float32), []
    for time in range(x.shape[1]):
        h = np.tanh(np.concatenate([x[:, time], h], 1) @ w)
        rows.append(h)
    return np.stack(rows)


CASES = [
    ("cond", {"x:0": 2.0, "p:0": True}, 4.0),
    ("cond", {"x:0": 2.0, "p:0": False}, 8.0),
    ("while", {"n:0": 3, "x:0": [1.0, 2.0]}, [4.0, 20.0]),
    ("while", {"n:0": 0, "x:0": [3.0]}, [3.0]),
    ("call", {"x:0": [[1.0, 2.0], [3.0, 4.0]]}, [20.0, 28.0]),
    *(("case", {"i:0": i, "x:0": 5.0}, value) for i, value in [(0, 5.0), (1, 10.0), (2, 15.0), (7, 15.0), (-1, 15.0)]),
    ("map", {"x:0": [1.0, 2.0, 3.0]}, [1.0, 4.0, 9.0]),
    ("rnn", {"x:0": ROWS}, recurrent(ROWS)),
    ("rnn", {"x:0": ROWS[:1]}, recurrent(ROWS[:1])),
    ("scan", {"x:0": [1.0, 2.0, 3.0]}, [1.0, 2.5, 4.25]),
    ("foldl", {"x:0": [[1.0, 2.0], [2.0, 3.0]]}, [2.5, 4.0]),
    ("grow", {"x:0": [1.0]}, [1.0] * 5),
]


def read(name):
    return tf.GraphDef.FromString((DATA / f"tf2_{name}.pb").read_bytes())


@pytest.mark.parametrize(("name", "feed", "expected"), CASES)
def test_results(name, feed, expected):
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(read(name), name="")
        written = graph.as_graph_def()
        with tf.Session() as session:
            np.testing.assert_allclose(session.run("out:0", feed), expected, rtol=1e-5)
    with tf.Graph().as_default():
        tf.import_graph_def(written, name="once_more")
        with tf.Session() as session:
            found = session.run("once_more/out:0", {f"once_more/{key}": value for key, value in feed.items()})
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_of_what_was_imported():
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(read("map"), name="")
        x = graph.get_tensor_by_name("x:0")
        (grad,) = tf.gradients(graph.get_tensor_by_name("out:0"), x)
        assert session.run(grad, {x: [1.0, 2.0, 3.0]}).tolist() == [2, 4, 6]


def test_the_message_itself_stays_as_it_is():
    proto = read("rnn")
    before = proto.SerializeToString(deterministic=True)
    with tf.Graph().as_default():
        tf.import_graph_def(proto, name="")
    assert proto.SerializeToString(deterministic=True) == before


def test_ops_of_lists_that_do_not_exist_here_are_named():
    proto = read("map")
    proto.node.add(name="grow", op="TensorListPushBack")
    with tf.Graph().as_default(), pytest.raises(ValueError, match="TensorListPushBack"):
        tf.import_graph_def(proto, name="")
