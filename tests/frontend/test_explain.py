"""What callables tell of the programs behind them."""

from __future__ import annotations

import numpy as np

import stepjit.compat.v1 as tf
from stepjit_runtime.manifest import Manifest


def test_programs_come_with_the_calls() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        y = tf.reduce_sum(tf.exp(x, name="power") * 2, axis=1, name="total")
        tf.zeros([3], name="unrelated")
        step = session.make_callable(y, [x])
        assert step.explain().programs == ()
        assert "nothing compiled yet" in str(step.explain())
        step(np.ones((3, 4), np.float32))
        step(np.ones((5, 4), np.float32))
        explanation = step.explain()
        (program,) = explanation.programs
        assert explanation.graph_ops == len(tf.get_default_graph().get_operations()) > program.pruned_ops
        assert program.feeds == ("float32[s0_0,4]",)
        assert program.kinds == {"loop": 1}
        assert program.host_ops == ()
        assert program.kernels[0].ops == ("Exp", "Mul", "Sum")
        assert program.graph_names(program.kernels[0]) == ("power", "mul", "total")
        assert "Exp Mul Sum" in str(explanation)


def test_host_ops_are_named() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float16, [3])
        step = session.make_callable(tf.exp(x, name="half"), [x])
        (program,) = step.explain().programs
        assert program.host_ops == ("half",)
        assert program.kinds == {"host": 1}


def test_nested_fetches_explain_as_well() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [3])
        step = session.make_callable({"a": [x, tf.exp(x)]}, [x])
        assert step.explain().programs[0].kernels[0].ops == ("Exp",)
        assert session.make_callable({"x": x}, [x]).explain().programs == ()


def test_kernels_survive_storage() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [3])
        manifest = session.make_callable(tf.exp(x), [x]).explain().programs[0].manifest
        stored = Manifest.from_json(manifest.to_json())
        assert stored == manifest
        assert stored.kernels == manifest.kernels
