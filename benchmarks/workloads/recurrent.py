"""Training of a recurrent layer: gradients through the trips of a loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload

TRIPS, BATCH, INPUTS, UNITS, RATE = 50, 32, 32, 64, 5.0


class LSTMTraining(Workload):
    """The mean square of the last state of an LSTM, its gradients by weights and bias, SGD."""

    name = "lstm_train"
    title = f"LSTM training by SGD: {TRIPS} steps, {INPUTS} inputs, {UNITS} units, batch {BATCH}"
    stateful = True
    steps = 4
    tolerance = 1e-4

    def inputs(self, rng: np.random.Generator) -> Arrays:
        x = rng.normal(size=(TRIPS, BATCH, INPUTS)).astype(np.float32)
        w = (rng.normal(size=(INPUTS + UNITS, 4 * UNITS)) * 0.1).astype(np.float32)
        return x, w, np.repeat(np.array([0, 1, 0, 0], np.float32), UNITS)

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:1]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        (x,) = placeholders
        w, b = (tf.Variable(each) for each in inputs[1:])

        def step(state: Any, xt: Any) -> Any:
            c, h = state
            i, f, o, g = tf.split(tf.matmul(tf.concat([xt, h], 1), w) + b, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            return c, tf.sigmoid(o) * tf.tanh(c)

        zero = tf.zeros([BATCH, UNITS])
        loss = tf.reduce_mean(tf.square(tf.foldl(step, x, (zero, zero))[1]))
        return [loss, tf.train.GradientDescentOptimizer(RATE).minimize(loss)]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def loss_of(params: Any, x: Any) -> Any:
            w, b = params

            def step(state: Any, xt: Any) -> Any:
                c, h = state
                i, f, o, g = jnp.split(jnp.concatenate([xt, h], 1) @ w + b, 4, 1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                return (c, jax.nn.sigmoid(o) * jnp.tanh(c)), None

            zero = jnp.zeros((BATCH, UNITS), jnp.float32)
            return jnp.mean(jax.lax.scan(step, (zero, zero), x)[0][1] ** 2)

        def update(params: Any, x: Any) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(params, x)
            return [p - RATE * g for p, g in zip(params, grads, strict=True)], loss

        fast = jax.jit(update, donate_argnums=0)
        held = [[jnp.array(each) for each in inputs[1:]]]

        def step(x: Any) -> Any:
            held[0], loss = fast(held[0], x)
            return loss

        return {"jit": (step, inputs[:1])}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        held = [each.copy() for each in inputs[1:]]

        def step(x: Any) -> Any:
            loss, grads = _backward(x, *held)
            for p, g in zip(held, grads, strict=True):
                p -= RATE * g
            return [loss]

        def reset() -> None:
            for p, first in zip(held, inputs[1:], strict=True):
                p[:] = first

        step.reset = reset  # type: ignore[attr-defined]
        return {"numpy": (step, inputs[:1])}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        x, w, b = (each.astype(float) for each in inputs)
        for _ in range(self.steps):
            loss, (dw, db) = _backward(x, w, b)
            w, b = w - RATE * dw, b - RATE * db
        return [loss]


def _sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


def _backward(x: Any, w: Any, b: Any) -> tuple[Any, tuple[Any, Any]]:
    c = h = np.zeros((BATCH, UNITS), x.dtype)
    trips = []
    for xt in x:
        both, before = np.concatenate([xt, h], 1), c
        i, f, o, g = np.split(both @ w + b, 4, 1)
        i, f, o, g = _sigmoid(i), _sigmoid(f), _sigmoid(o), np.tanh(g)
        c = f * c + i * g
        t = np.tanh(c)
        h = o * t
        trips.append((both, before, i, f, o, g, t))
    dw, db, dc, dh = np.zeros_like(w), np.zeros_like(b), np.zeros_like(c), h * x.dtype.type(2 / h.size)
    for both, before, i, f, o, g, t in reversed(trips):
        dc = dc + dh * o * (1 - t * t)
        gates = (dc * g * i * (1 - i), dc * before * f * (1 - f), dh * t * o * (1 - o), dc * i * (1 - g * g))
        d = np.concatenate(gates, 1)
        dw += both.T @ d
        db += d.sum(0)
        dc, dh = dc * f, (d @ w.T)[:, INPUTS:]
    return np.mean(h * h), (dw, db)


WORKLOADS = (LSTMTraining(),)
