"""Random graphs, fed and fetched in random stages: the same values as in one run, and every update once."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stepjit.compat.v1 as tf

BINARY = (tf.add, tf.subtract, tf.maximum, lambda x, y: x * tf.tanh(y))
UNARY = (tf.tanh, tf.square, tf.identity, lambda x: tf.reduce_sum(x) + x, lambda x: tf.reshape(x, tf.shape(x)[::-1]))


@st.composite
def programs(draw: st.DrawFn) -> dict[str, Any]:
    """How to build a graph, and in which stages to run it."""
    feeds = draw(st.integers(1, 4))
    ops: list[tuple[str, int, int, int]] = []
    for _ in range(draw(st.integers(2, 14))):
        kind = draw(st.sampled_from(["unary", "binary", "binary", "count", "draw", "after"]))
        have = feeds + len(ops)
        ops.append((kind, draw(st.integers(0, 9)), draw(st.integers(0, have - 1)), draw(st.integers(0, have - 1))))
    fetched = draw(st.lists(st.integers(0, len(ops) - 1), min_size=1, max_size=5, unique=True))
    return {
        "feeds": feeds,
        "ops": ops,
        "fetched": fetched,
        "order": draw(st.permutations(range(feeds))),
        "breaks": draw(st.lists(st.booleans(), min_size=feeds, max_size=feeds)),
        "late": draw(st.lists(st.booleans(), min_size=len(fetched), max_size=len(fetched))),
    }


def build(program: dict[str, Any]) -> tuple[list[Any], list[Any], list[Any], list[set[int]]]:
    """Placeholders, fetches, counters, and per fetch the placeholders that it needs."""
    values = [tf.placeholder(tf.float32, [None] if k % 2 else [2]) for k in range(program["feeds"])]
    needs = [{k} for k in range(program["feeds"])]
    counters = []
    for kind, choice, i, j in program["ops"]:
        x, y, need = values[i], values[j], needs[i] | needs[j]
        if kind == "unary":
            made, need = UNARY[choice % len(UNARY)](x), needs[i]
        elif kind == "binary":
            made = BINARY[choice % len(BINARY)](x, y)
        elif kind == "count":
            counter = tf.get_variable(f"v{len(counters)}", initializer=0.0, use_resource=choice % 2 == 0)
            counters.append(counter)
            made, need = tf.assign_add(counter, 1.0 + 0 * tf.reduce_sum(x)) + x, needs[i]
        elif kind == "draw":
            made, need = x + tf.random_uniform([2], seed=choice), needs[i]
        else:
            with tf.control_dependencies([y]):
                made = x + 1.0
        values.append(made)
        needs.append(need)
    chosen = [program["feeds"] + k for k in program["fetched"]]
    placeholders = values[: program["feeds"]]
    return placeholders, [values[k] for k in chosen], counters, [needs[k] for k in chosen]


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_stages_give_what_one_run_gives(program: dict[str, Any]) -> None:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        placeholders, fetches, counters, needs = build(program)
        init = tf.global_variables_initializer()
        fed = {p: np.array([0.25, 0.5], np.float32) * (k + 1) for k, p in enumerate(placeholders)}
        with tf.Session(graph=graph) as plain, tf.Session(graph=graph) as staged:
            plain.run(init)
            staged.run(init)
            want = plain.run(fetches, fed)
            found = in_stages(staged, program, placeholders, fetches, needs, fed)
            for one, other in zip(found, want, strict=True):
                np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)
            if counters:
                np.testing.assert_array_equal(staged.run(counters), plain.run(counters))
                assert set(staged.run(counters)) <= {0.0, 1.0}


def in_stages(
    session: Any, program: dict[str, Any], placeholders: list[Any], fetches: list[Any], needs: list[set[int]], fed: Any
) -> list[Any]:
    """The fetches' values: each as soon as it can be had or, where the program says so, at the end."""
    run = session.partial_run_setup(fetches, placeholders)
    found: dict[int, Any] = {}
    given: set[int] = set()
    waiting: dict[Any, Any] = {}
    for k, stop in zip(program["order"], program["breaks"]):
        given.add(k)
        waiting[placeholders[k]] = fed[placeholders[k]]
        last = len(given) == len(placeholders)
        if stop or last:
            ready = [
                i for i, need in enumerate(needs) if i not in found and need <= given and (last or not program["late"][i])
            ]
            found.update(zip(ready, session.partial_run(run, [fetches[i] for i in ready], waiting), strict=True))
            waiting = {}
    return [found[i] for i in range(len(fetches))]
