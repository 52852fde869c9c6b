"""What a step leaves behind: old values beside new ones, and nothing at all when it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

VALUES: dict[str, Any] = {
    "complex": ([1 + 1j], [2j], [-3j]),
    "float16": tuple(np.float16([k, 0.5]) for k in range(3)),
    "strings": ([b"a"], [b"bb"], [b""]),
    "bool": ([True], [False], [True]),
    "float32": ([1.0], [2.0], [3.0]),
}


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        yield made


def same(got: Any, want: Any) -> None:
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, np.array(w))


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_variables_take_turns(name: str, resource: bool) -> None:
    made = [tf.Variable(np.array(value), use_resource=resource) for value in VALUES[name]]
    old = [tf.identity(variable) for variable in made]
    with tf.control_dependencies(old):
        turn = tf.group(*[v.assign(value) for v, value in zip(made, old[1:] + old[:1], strict=True)])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        want = list(session.run(made))
        for _ in range(4):
            got, _ = session.run([old, turn])
            same(got, want)
            want = want[1:] + want[:1]
            same(session.run(made), want)


def test_an_old_value_beside_one_of_another_shape() -> None:
    v = tf.Variable(np.arange(3.0), validate_shape=False)
    x = tf.placeholder(tf.float64, [None])
    old = tf.identity(v)
    with tf.control_dependencies([old]):
        update = tf.assign(v, x, validate_shape=False)
    with tf.Session() as session:
        session.run(v.initializer)
        want = np.arange(3.0)
        for size in (3, 5, 5, 1, 0, 2):
            value = np.full(size, float(size))
            same(session.run([old, old * 2.0, update], {x: value}), [want, want * 2, value])
            want = value


def test_the_last_of_several_assignments_stays() -> None:
    v = tf.Variable(["start"])
    with tf.control_dependencies([v.assign(["first"])]):
        between = v.read_value()
        with tf.control_dependencies([between]):
            last = v.assign(["second"])
    with tf.Session() as session:
        session.run(v.initializer)
        same(session.run([between, last]), [[b"first"], [b"second"]])
        same(session.run(v), [b"second"])


FAILURES: dict[str, Callable[[Any, Any], Any]] = {
    "on the host": lambda x, i: tf.check_numerics(x, "bad").op,
    "an index": lambda x, i: tf.gather(tf.constant([1.0, 2.0, 3.0]) * x, i).op,
    "an assertion": lambda x, i: tf.Assert(tf.less(i, 3), [i]),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("name", VALUES)
def test_a_failed_step_changes_nothing(name: str, how: str, resource: bool, late: bool) -> None:
    first, second, third = VALUES[name]
    v, w = (tf.Variable(np.array(value), use_resource=resource) for value in (first, second))
    x, i = tf.placeholder(tf.float32, []), tf.placeholder(tf.int32, [])
    if late:
        bad = FAILURES[how](x, i)
        with tf.control_dependencies([bad]):
            changes = [v.assign(np.array(second)), w.assign(np.array(third))]
    else:
        changes = [v.assign(np.array(second)), w.assign(np.array(third))]
        with tf.control_dependencies(changes):
            bad = FAILURES[how](x, i)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run([*changes, bad], {x: np.nan, i: 7})
            same(session.run([v, w]), [first, second])
        session.run([*changes, bad], {x: 1.0, i: 1})
        same(session.run([v, w]), [second, third])


def test_an_op_that_is_only_to_run_may_fail() -> None:
    x, i = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int32, [])
    picked, pairs = tf.gather(x, i), tf.reshape(x, [-1, 2])
    with tf.Session() as session:
        assert session.run([tf.exp(x).op, picked.op], {x: [1, 2, 3], i: 1}) == [None, None]
        for op in (picked.op, pairs.op):
            with pytest.raises(tf.errors.InvalidArgumentError) as failure:
                session.run(op, {x: [1, 2, 3], i: 7})
            assert failure.value.op is op


def test_variables_that_change_to_and_fro_compile_nothing_more() -> None:
    x = tf.placeholder(tf.float64, [None])
    v = tf.Variable(np.zeros(3), validate_shape=False)
    update, twice = tf.assign(v, x, validate_shape=False), v * 2.0
    with tf.Session() as session:
        session.run(v.initializer)
        read = session.make_callable(twice)
        for _ in range(2):
            for size in (3, 4, 5):
                session.run(update.op, {x: np.full(size, float(size))})
                same(read(), np.full(size, 2.0 * size))
        before = session.compile_stats()
        for size in (3, 5, 4, 4, 3):
            session.run(update.op, {x: np.full(size, 1.0)})
            same(read(), np.full(size, 2.0))
        assert session.compile_stats() == before


class RandomProgram:
    """Ops in a chain that read and write variables of several dtypes, with one among them that may fail."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        starts = [np.float32([1, 2, 3]), np.float64([4, 5, 6]), np.complex64([1j, 2, 3]), np.int32([7, 8, 9])]
        starts += [np.array([b"a", b"b", b"c"], object), np.float16([1, 2, 3]), np.array([True, False, True])]
        self.variables = [tf.Variable(start, use_resource=bool(self.random.integers(2))) for start in starts * 2]
        self.values = [start.copy() for start in starts * 2]
        self.x, self.i = tf.placeholder(tf.float32, []), tf.placeholder(tf.int32, [])
        self.wanted: list[Any] = []
        self.fetches: list[Any] = []
        self.last: Any = None
        count = int(self.random.integers(3, 9))
        bad = int(self.random.integers(count))
        for k in range(count):
            with tf.control_dependencies([] if self.last is None else [self.last]):
                self.last = self.failing() if k == bad else self.change()

    def failing(self) -> Any:
        made = list(FAILURES.values())[self.random.integers(len(FAILURES))](self.x, self.i)
        if made.type == "GatherV2":
            # Nothing would run it but for its value.
            self.fetches.append(made.outputs[0])
            self.wanted.append(np.float32(2))
        return made

    def change(self) -> Any:
        """One op of the chain, as a graph's and on `values`."""
        j = int(self.random.integers(len(self.variables)))
        others = [k for k, value in enumerate(self.values) if value.dtype == self.values[j].dtype]
        k = others[self.random.integers(len(others))]
        v, other, kind = self.variables[j], self.variables[k], self.random.integers(4)
        numeric = self.values[j].dtype.kind in "fic"
        if kind == 0:
            self.fetches.append(other.read_value())
            self.wanted.append(self.values[k].copy())
            return self.fetches[-1].op
        if kind == 1 and numeric:
            self.values[j] = self.values[j] + self.values[k]
            return v.assign_add(other.read_value())
        if kind == 2 and numeric:
            self.values[j] = self.values[k] * 2
            return v.assign(other.read_value() * 2)
        self.values[j] = self.values[k].copy()
        return v.assign(other.read_value())


@pytest.mark.parametrize("seed", range(25))
def test_random_steps_change_all_or_nothing(seed: int) -> None:
    program = RandomProgram(seed)
    last = getattr(program.last, "op", program.last)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(program.variables)
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run([*program.fetches, last], {program.x: np.nan, program.i: 7})
            same(session.run(program.variables), before)
        got = session.run([*program.fetches, last], {program.x: 1.0, program.i: 1})
        same(got[:-1], program.wanted)
        same(session.run(program.variables), program.values)
