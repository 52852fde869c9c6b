"""Loops in the graph: of numbers, of short vectors, of matrix products, and a recurrent layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload


class Recurrence(Workload):
    """x <- 0.999 x + c, so many times."""

    def __init__(self, name: str, title: str, shape: tuple[int, ...], trips: int) -> None:
        self.name, self.title, self.shape, self.trips = name, title, shape, trips
        self.tolerance = 1e-3

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return (np.asarray(rng.normal(size=self.shape).astype(np.float32)),)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        (start,) = placeholders
        body = lambda i, x: (i + 1, x * 0.999 + start)  # noqa: E731
        return [tf.while_loop(lambda i, x: i < self.trips, body, [tf.constant(0), start])[1]]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax

        def run(start: Any) -> Any:
            return (jax.lax.fori_loop(0, self.trips, lambda i, x: x * 0.999 + start, start),)

        return {"jit": (jax.jit(run), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        trips, scale = self.trips, np.float32(0.999)

        @numba.njit
        def number(start: Any) -> Any:
            first = start[()]
            x = first
            for _ in range(trips):
                x = x * scale + first
            return (x,)

        @numba.njit
        def vector(start: Any) -> Any:
            x = start.copy()
            for _ in range(trips):
                for k in range(x.shape[0]):
                    x[k] = x[k] * scale + start[k]
            return (x,)

        return {"array": (vector if self.shape else number, inputs)}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray]:
        (start,) = (each.astype(float) for each in inputs)
        x = start
        for _ in range(self.trips):
            x = x * np.float32(0.999) + start
        return (x,)


class Products(Workload):
    """x <- x @ w, 50 times."""

    name = "loop_matmul"
    title = "while_loop: 50 products of 64x64"
    tolerance = 1e-3

    def inputs(self, rng: np.random.Generator) -> Arrays:
        orthogonal = np.linalg.qr(rng.normal(size=(64, 64)))[0]
        return rng.normal(size=(64, 64)).astype(np.float32), orthogonal.astype(np.float32)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        x, w = placeholders
        return [tf.while_loop(lambda i, x: i < 50, lambda i, x: (i + 1, tf.matmul(x, w)), [tf.constant(0), x])[1]]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax

        return {"jit": (jax.jit(lambda x, w: (jax.lax.fori_loop(0, 50, lambda i, x: x @ w, x),)), inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (lambda x, w: self.expected(x, w), inputs)}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray]:
        x, w = inputs
        for _ in range(50):
            x = x @ w
        return (x,)


class LSTM(Workload):
    """50 steps of an LSTM layer over one sequence, by `tf.scan`."""

    name = "lstm"
    title = "LSTM by tf.scan: 50 steps, 32 inputs, 64 units, batch 1"
    tolerance = 1e-4

    def inputs(self, rng: np.random.Generator) -> Arrays:
        w = rng.normal(size=(96, 256)) * 0.1
        return rng.normal(size=(50, 1, 32)).astype(np.float32), w.astype(np.float32)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        x, w = placeholders

        def step(state: Any, xt: Any) -> Any:
            c, h = state
            i, f, o, g = tf.split(tf.matmul(tf.concat([xt, h], 1), w), 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            return c, tf.sigmoid(o) * tf.tanh(c)

        return [tf.scan(step, x, (tf.zeros([1, 64]), tf.zeros([1, 64])))[1]]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def step(w: Any, state: Any, xt: Any) -> Any:
            c, h = state
            i, f, o, g = jnp.split(jnp.concatenate([xt, h], 1) @ w, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (c, h), h

        def run(x: Any, w: Any) -> Any:
            zero = jnp.zeros((1, 64), jnp.float32)
            return (jax.lax.scan(lambda state, xt: step(w, state, xt), (zero, zero), x)[1],)

        return {"jit": (jax.jit(run), inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (_lstm, inputs)}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray]:
        return _lstm(*(each.astype(float) for each in inputs))


def _lstm(x: Any, w: Any) -> Sequence[np.ndarray]:
    def sigmoid(v: Any) -> Any:
        return 1 / (1 + np.exp(-v))

    c = h = np.zeros((1, 64), x.dtype)
    found = []
    for xt in x:
        i, f, o, g = np.split(np.concatenate([xt, h], 1) @ w, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return (np.stack(found),)


WORKLOADS = (
    Recurrence("loop_scalar", "while_loop: 1,000 trips of a number", (), 1000),
    Recurrence("loop_vector", "while_loop: 10,000 trips of 4 numbers", (4,), 10_000),
    Products(),
    LSTM(),
)
