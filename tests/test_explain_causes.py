"""`stepjit cache explain` names the cause first: control flow, optimizers, constants, random seeds, state, Python ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit.cache.differences import differences
from stepjit.cache.entries import details, history
from stepjit_compiler.options import options
from stepjit_runtime import memory_cache
from stepjit_runtime.cache_folder import Folder

Build = Callable[[Any], Any]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    with options(cache=str(tmp_path / "c")):
        memory_cache.CACHE.clear()
        yield str(tmp_path / "c")
        memory_cache.CACHE.clear()


def run(build: Build, shape: tuple[int | None, ...] = (None, 4), fed: tuple[int, ...] = (2, 4), **how: Any) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, shape, name="x")
        fetches = build(x)
        session.run(tf.global_variables_initializer())
        session.run(fetches, {x: np.ones(fed)}, **how)


def explained(folder: str, before: Callable[[], None], now: Callable[[], None]) -> list[str]:
    opened, keys = Folder(folder), []
    for each in (before, now):
        each()
        keys.append(history(opened).last_misses[0])
    return list(map(str, differences(details(opened, keys[0]), details(opened, keys[1]))))


def network(scope: str = "net", rate: float = 2.0, make: Any = None, activation: Any = None) -> Build:
    def build(x: Any) -> Any:
        with tf.variable_scope(scope):
            w = tf.get_variable("w", [4, 3])
        hidden = tf.matmul(x, w)
        if activation is not None:
            hidden = activation(hidden)
        loss = tf.reduce_sum(tf.multiply(hidden, rate, name="scaled"), name="loss")
        return loss if make is None else [loss, make().minimize(loss, name="train")]

    return build


def loop(count: int, step: Any) -> Build:
    return lambda x: tf.while_loop(lambda i, v: i < count, lambda i, v: (i + 1, step(v)), [tf.constant(0), x])[1]


def branch(yes: Any) -> Build:
    return lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: yes(x), lambda: x * 3.0)


def table(last: float) -> Build:
    values = np.arange(1000, dtype=np.float32)
    values[-1] = last
    return lambda x: x[0, 0] + tf.constant(values, name="table")


def counting(writes: bool) -> Build:
    def build(x: Any) -> Any:
        v = tf.Variable(1.0, name="v")
        with tf.control_dependencies([tf.assign_add(v, 1.0)] if writes else []):
            return x + v

    return build


MOMENTUM = tf.train.MomentumOptimizer
CAUSES: dict[str, tuple[Build, Build, str]] = {
    "loop's bound": (loop(3, tf.tanh), loop(4, tf.tanh), "constant 'while/Less/y': 4 now, 3 before"),
    "loop's body": (
        loop(3, tf.tanh), loop(3, tf.sin), "op 'while/Sin' is in place of 'while/Tanh': Sin now, Tanh before"
    ),
    "branch": (
        branch(lambda x: x * 2.0), branch(lambda x: x + 2.0),
        "op 'cond/add' is in place of 'cond/mul': AddV2 now, Mul before",
    ),
    "optimizer": (
        network(make=lambda: tf.train.GradientDescentOptimizer(0.1)), network(make=lambda: MOMENTUM(0.1, 0.9)),
        "variable 'net/w/Momentum' is new: f32[4,3]",
    ),
    "an optimizer's way": (
        network(make=lambda: MOMENTUM(0.1, 0.9)), network(make=lambda: MOMENTUM(0.1, 0.9, use_nesterov=True)),
        "op 'train/update_net/w/ApplyMomentum': 7 steps (Mul AddV2 Mul Mul Mul AddV2 Sub) now, "
        "4 steps (Mul AddV2 Mul Sub) before",
    ),
    "learning rate": (
        network(make=lambda: tf.train.GradientDescentOptimizer(0.1)),
        network(make=lambda: tf.train.GradientDescentOptimizer(0.2)),
        "constant 'train/learning_rate': 0.2 now, 0.1 before",
    ),
    "training": (
        network(), network(make=lambda: tf.train.GradientDescentOptimizer(0.1)), "fetches: 'train' is new"
    ),
    "names do not count": (network("a"), network("b", rate=4.0), "constant 'scaled/y': 4.0 now, 2.0 before"),
    "an op removed": (network(activation=tf.nn.relu), network(), "op 'Relu' is gone: Relu"),
    "an op for another": (
        network(activation=tf.nn.relu), network(activation=tf.tanh),
        "op 'Tanh' is in place of 'Relu': Tanh now, Relu before",
    ),
    "a large constant": (table(1.0), table(2.0), "constant 'table': other values now (f32[1000])"),
    "seed": (
        lambda x: x + tf.random_normal([4], seed=1), lambda x: x + tf.random_normal([4], seed=2),
        "op 'random_normal/RandomStandardNormal': attr seed2: 2 now, 1 before",
    ),
    "what is written": (counting(False), counting(True), "variable 'v': written now, only read before"),
    "a string": (
        lambda x: tf.string_join([tf.as_string(x), "a"], name="j"),
        lambda x: tf.string_join([tf.as_string(x), "b"], name="j"),
        "constant 'j/inputs_1': b'b' now, b'a' before",
    ),
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
def test_the_cause_comes_first(cause: str, folder: str) -> None:
    before, now, want = CAUSES[cause]
    assert explained(folder, lambda: run(before), lambda: run(now))[0] == want


def test_causes_outside_of_the_graph(folder: str) -> None:
    def double(x: Any) -> Any:
        return tf.reduce_sum(x * 2.0)

    trace = {"options": tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), "run_metadata": tf.RunMetadata()}
    traced = explained(folder, lambda: run(double), lambda: run(double, **trace))
    assert traced[0] == "tracing: True now, False before"
    ranks = explained(folder, lambda: run(tf.sin, None, (2,)), lambda: run(tf.sin, None, (2, 3)))  # type: ignore[arg-type]
    assert ranks[0] == "feed 'x:0': rank 2 now, 1 before"
    skipped = explained(folder, lambda: run(tf.cos), lambda: _skipping(lambda: run(tf.cos)))
    assert skipped == ["skipped rules of simplify: add_zero now, none before"]


def _skipping(what: Callable[[], None]) -> None:
    with options(skip={"add_zero"}):
        what()
