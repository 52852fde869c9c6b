"""Callables as pickles: the graph, the variables' values and the signature; in this process and in others."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


class Pair(NamedTuple):
    """A structure to fetch."""

    first: Any
    second: Any


def again(made: Any) -> Any:
    """What comes back of pickled callables."""
    return pickle.loads(pickle.dumps(made))


def same(got: Any, want: Any) -> None:
    """Equal values in equal structures."""
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert list(got) == list(want)
        got, want = list(got.values()), list(want.values())
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            same(g, w)
    else:
        np.testing.assert_array_equal(got, want)


def test_a_callable_brings_its_graph_and_variables() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    v, w = tf.Variable(2.0), tf.Variable([1.0, 2.0], use_resource=True)
    words, empty = tf.Variable(["a", "b"]), tf.Variable(7.0)
    with tf.Session() as session:
        session.run([v.initializer, w.initializer, words.initializer])
        step = session.make_callable([x * v + w, words], [x])
        alone = session.make_callable(empty)
        want = step([1, 2])
        same(again(step)([1, 2]), want)
        session.run(v.assign(5.0))
        same(again(step)([1, 2])[0], np.float32([6, 12]))
        with pytest.raises(tf.errors.FailedPreconditionError):
            again(alone)()


STRUCTURES: dict[str, Any] = {
    "a tensor": lambda x, v, up: x,
    "a name": lambda x, v, up: x.name,
    "an op": lambda x, v, up: up.op,
    "a list with an op": lambda x, v, up: [x, up.op, v],
    "a tuple": lambda x, v, up: (x, v),
    "a dict": lambda x, v, up: {"b": x, "a": [v, (x,)]},
    "a named tuple": lambda x, v, up: Pair(x, {"v": v}),
    "nothing in a list": lambda x, v, up: [[], {}, x],
    "what is fed": lambda x, v, up: [x, "x:0"],
    "slices": lambda x, v, up: tf.IndexedSlices(x, tf.constant([0, 1])),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name: str) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    v = tf.Variable(2.0)
    up = v.assign_add(1.0)
    structure = STRUCTURES[name](x * 3.0, v, up)
    with tf.Session() as session:
        session.run(v.initializer)
        step = session.make_callable(structure, [x])
        copied = again(step)
        same(copied([1, 2]), step([1, 2]))
        assert repr(copied) == repr(step)


def test_feeds_in_groups_and_without_a_list() -> None:
    x, y = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [2])
    with tf.Session() as session:
        grouped = again(session.make_callable(x + y, [(x, y)]))
        same(grouped((1, np.array([1, 2]))), np.float32([2, 3]))
        none = again(session.make_callable(tf.constant(3.0)))
        assert none() == 3
        with pytest.raises(TypeError):
            none(1)


def test_callables_pickled_together_share_a_session() -> None:
    v = tf.Variable(1.0)
    up = v.assign_add(1.0)
    with tf.Session() as session:
        session.run(v.initializer)
        train, look = again((session.make_callable(up), session.make_callable({"v": v})))
        assert train() == 2 and train() == 3 and look()["v"] == 3
        assert session.run(v) == 1
        other, one = again(session.make_callable(up)), again(session.make_callable(up))
        assert other() == 2 and one() == 2


def test_copies() -> None:
    v = tf.Variable(1.0)
    with tf.Session() as session:
        session.run(v.initializer)
        for step in (session.make_callable(v.assign_add(1.0)), session.make_callable([[v.assign_add(1.0)]])):
            assert copy.copy(step) is step
            deep = copy.deepcopy(step)
            assert np.ravel([deep(), deep()]).tolist() == [2, 3]
        assert session.run(v) == 1


def test_the_second_of_a_kind_compiles_nothing() -> None:
    x = tf.placeholder(tf.float32, [3])
    with tf.Session() as session:
        step = session.make_callable(tf.reduce_sum(tf.exp(x) * 1.2345), [x])
        copied = again(step)
        copied([1, 2, 3])
        assert copied.recipe.session.compile_stats().compiled == 0
        assert copied.recipe.session is not session


IN_ANOTHER_PROCESS = """
import pickle, sys
train, look = pickle.load(open(sys.argv[1], "rb"))
print(train([1.0, 2.0]).tolist(), look()["v"].tolist(), repr(look))
session = look.recipe.session
print(session.compile_stats().compiled, sorted(op.name for op in session.graph.get_operations() if op.name == "other"))
"""


def test_in_another_process_through_the_disk_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable([1.0, 2.0])
    tf.constant(1.0, name="other")
    with tf.Session() as session:
        session.run(v.initializer)
        made = session.make_callable(v.assign_add(x), [x]), session.make_callable({"v": v})
        (tmp_path / "made").write_bytes(pickle.dumps(made))
    monkeypatch.setenv("STEPJIT_CACHE", str(tmp_path / "cache"))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "made")],
            capture_output=True, text=True, timeout=100, check=True,
        ).stdout.splitlines()
        for _ in range(2)
    ]  # fmt: skip
    text = "[2.0, 4.0] [2.0, 4.0] <stepjit callable () -> 'Variable:0'>"
    assert outputs[0] == [text, "2 ['other']"]
    assert outputs[1] == [text, "0 ['other']"]


def test_other_ops_of_the_graph_need_not_leave() -> None:
    x = tf.placeholder(tf.float32, [])
    y = tf.py_func(lambda value: value, [x], tf.float32) + 1.0
    with tf.Session() as session:
        assert again(session.make_callable(x + 2.0, [x]))(1.0) == 3
        with pytest.raises(TypeError, match=r"can't be pickled: PyFunc 'PyFunc' calls a Python function"):
            pickle.dumps(session.make_callable(y, [x]))


def test_what_holds_other_state_stays() -> None:
    queue = tf.FIFOQueue(3, tf.float32, shapes=[[]])
    with tf.Session() as session, pytest.raises(TypeError, match=r"holds state that stays with its session .made at"):
        pickle.dumps(session.make_callable(queue.dequeue()))


def test_closed_sessions() -> None:
    session = tf.Session()
    step = session.make_callable(tf.constant(1.0))
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        pickle.dumps(step)
    assert "closed" in repr(step)


def test_what_it_says_of_itself() -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    names = [tf.identity(x, name=f"y{k}") for k in range(6)]
    with tf.Session() as session:
        assert repr(session.make_callable(names[0], [x])) == "<stepjit callable ('x:0') -> 'y0:0'>"
        many = repr(session.make_callable({"all": names}, ["x:0"]))
        assert many == "<stepjit callable ('x:0') -> 'y0:0', 'y1:0', 'y2:0', 'y3:0', and 2 more>"


def test_a_list_may_change_after_it_was_given() -> None:
    x = tf.placeholder(tf.float32, [])
    fetches, feeds = [x + 1.0, {"a": [x + 2.0]}], [x]
    with tf.Session() as session:
        step = session.make_callable(fetches, feeds)
        want = step(1.0)
        fetches[1]["a"].clear()  # type: ignore[index]
        feeds.clear()
        same(again(step)(1.0), want)


def test_a_pickle_keeps_nothing_alive() -> None:
    x = tf.placeholder(tf.float32, [])
    session = tf.Session()
    step = session.make_callable([[x + 1.0]], [x])
    copied = again(step)
    gone = [weakref.ref(session), weakref.ref(copied.recipe.session)]
    assert copied(1.0) == [[2]]
    del step, copied, session
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_branches_loops_and_sparse_tensors() -> None:
    x = tf.placeholder(tf.float32, [])
    v = tf.Variable(2.0)
    branch = tf.cond(x > 0, lambda: x * v, lambda: -x)
    loop = tf.while_loop(lambda i: i < 5.0, lambda i: i + v, [x])
    mapped = tf.map_fn(lambda each: each * v, tf.stack([x, x + 1]))
    sparse = tf.sparse_placeholder(tf.float32, [2, 2])
    value = tf.SparseTensorValue([[0, 1]], [3.0], [2, 2])
    with tf.Session() as session:
        session.run(v.initializer)
        fetches = [branch, loop, tf.gradients(loop, [x])[0], mapped]
        same(again(session.make_callable(fetches, [x]))(3.0), session.run(fetches, {x: 3.0}))
        back = again(session.make_callable({"s": sparse}, [sparse]))(value)["s"]
        assert isinstance(back, tf.SparseTensorValue) and back.values.tolist() == [3]


def test_functions_inside_branches_stay() -> None:
    x = tf.placeholder(tf.float32, [])
    y = tf.cond(x > 0, lambda: tf.py_func(lambda value: value, [x], tf.float32), lambda: x)
    with tf.Session() as session, pytest.raises(TypeError, match=r"has inside PyFunc .* calls a Python function"):
        pickle.dumps(session.make_callable(y, [x]))


def test_options_are_still_accepted() -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session:
        step = again(session.make_callable(x + 1.0, [x], accept_options=True))
        assert step(1.0, options=tf.RunOptions()) == 2
