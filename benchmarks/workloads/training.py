"""Training steps: a multi-layer perceptron under Adam, an embedding under SGD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload
from benchmarks.workloads.layers import _cross_entropy
from benchmarks.workloads.networks import MLP, forward, weights

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


class Training(Workload):
    """784-256-256-10, softmax cross-entropy, Adam."""

    stateful = True
    steps = 4
    tolerance = 1e-4

    def __init__(self, batch: int) -> None:
        self.name, self._batch = f"mlp_train_{batch}", batch
        self.title = f"MLP 784-256-256-10 training with Adam, batch {batch}"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        x = rng.normal(size=(self._batch, MLP[0])).astype(np.float32)
        return (x, rng.integers(0, 10, self._batch, np.int32), *weights(rng, MLP))

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:2]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        x, labels = placeholders
        logits = forward(tf.matmul, tf.nn.relu, x, [tf.Variable(each) for each in inputs[2:]])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        return [loss, tf.train.AdamOptimizer(RATE, BETA1, BETA2, EPSILON).minimize(loss)]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def loss_of(params: Any, x: Any, labels: Any) -> Any:
            logs = jax.nn.log_softmax(forward(jnp.matmul, jax.nn.relu, x, params))
            return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], 1))

        def update(state: Any, x: Any, labels: Any) -> Any:
            params, m, v, t = state
            loss, grads = jax.value_and_grad(loss_of)(params, x, labels)
            t = t + 1
            rate = RATE * jnp.sqrt(1 - BETA2**t) / (1 - BETA1**t)
            m = [BETA1 * a + (1 - BETA1) * g for a, g in zip(m, grads, strict=True)]
            v = [BETA2 * a + (1 - BETA2) * g * g for a, g in zip(v, grads, strict=True)]
            params = [p - rate * a / (jnp.sqrt(b) + EPSILON) for p, a, b in zip(params, m, v, strict=True)]
            return (params, m, v, t), loss

        fast = jax.jit(update, donate_argnums=0)
        held: list[Any] = [
            ([jnp.array(each) for each in inputs[2:]], [jnp.zeros_like(each) for each in inputs[2:]],
             [jnp.zeros_like(each) for each in inputs[2:]], jnp.float32(0)),
        ]  # fmt: skip

        def step(x: Any, labels: Any) -> Any:
            held[0], loss = fast(held[0], x, labels)
            return loss

        return {"jit": (step, inputs[:2])}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        x, labels = inputs[0].astype(float), inputs[1]
        params = [each.astype(float) for each in inputs[2:]]
        m, v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
        for t in range(1, self.steps + 1):
            loss, grads = _backward(x, labels, params)
            rate = RATE * np.sqrt(1 - BETA2**t) / (1 - BETA1**t)
            for p, a, b, g in zip(params, m, v, grads, strict=True):
                a += (1 - BETA1) * (g - a)
                b += (1 - BETA2) * (g * g - b)
                p -= rate * a / (np.sqrt(b) + EPSILON)
        return [loss]


def _backward(x: Any, labels: Any, params: Sequence[Any]) -> tuple[Any, list[Any]]:
    layers = [x]
    for i in range(0, len(params), 2):
        out = layers[-1] @ params[i] + params[i + 1]
        layers.append(np.maximum(out, 0) if i + 2 < len(params) else out)
    loss, gradient = _cross_entropy(layers[-1], labels)
    grads: list[Any] = []
    for i in range(len(params) - 2, -1, -2):
        before = layers[i // 2]
        grads = [before.T @ gradient, gradient.sum(0), *grads]
        gradient = (gradient @ params[i].T) * (before > 0)
    return loss, grads


class Embedding(Workload):
    """Rows looked up, squared error of their sums, the same rows updated."""

    name = "embedding_train"
    title = "embedding 10,000x64, 32 lookups, SGD"
    stateful = True
    steps = 4

    def inputs(self, rng: np.random.Generator) -> Arrays:
        table = (rng.normal(size=(10_000, 64)) * 0.1).astype(np.float32)
        return rng.integers(0, 10_000, 32, np.int32), rng.normal(size=32).astype(np.float32), table

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:2]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        ids, target = placeholders
        rows = tf.nn.embedding_lookup(tf.Variable(inputs[2]), ids)
        loss = tf.reduce_mean(tf.square(tf.reduce_sum(rows, 1) - target))
        return [loss, tf.train.GradientDescentOptimizer(0.01).minimize(loss)]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def update(table: Any, ids: Any, target: Any) -> Any:
            loss, grads = jax.value_and_grad(lambda rows: jnp.mean((rows.sum(1) - target) ** 2))(table[ids])
            return table.at[ids].add(-0.01 * grads), loss

        fast = jax.jit(update, donate_argnums=0)
        held = [jnp.array(inputs[2])]

        def step(ids: Any, target: Any) -> Any:
            held[0], loss = fast(held[0], ids, target)
            return loss

        return {"jit": (step, inputs[:2])}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        @numba.njit
        def update(table: Any, ids: Any, target: Any) -> Any:
            errors = np.empty(ids.size, np.float32)
            loss = np.float32(0)
            for i in range(ids.size):
                total = np.float32(0)
                for j in range(table.shape[1]):
                    total += table[ids[i], j]
                errors[i] = total - target[i]
                loss += errors[i] * errors[i]
            for i in range(ids.size):
                change = np.float32(0.01 * 2 / ids.size) * errors[i]
                for j in range(table.shape[1]):
                    table[ids[i], j] -= change
            return loss / np.float32(ids.size)

        table = inputs[2].copy()

        def step(ids: Any, target: Any) -> Any:
            return update(table, ids, target)

        def reset() -> None:
            table[:] = inputs[2]

        step.reset = reset  # type: ignore[attr-defined]
        return {"array": (step, inputs[:2])}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        ids, target, table = inputs[0], inputs[1].astype(float), inputs[2].astype(float)
        for _ in range(self.steps):
            errors = table[ids].sum(1) - target
            loss = np.mean(errors * errors)
            np.subtract.at(table, ids, 0.01 * 2 / len(ids) * errors[:, None])
        return [loss]


class SparseAdagrad(Embedding):
    """As above, by Adagrad: gradients of rows looked up more than once are added up before the rows are updated."""

    name = "embedding_adagrad"
    title = "embedding 10,000x64, 128 lookups, Adagrad"
    tolerance = 1e-4

    def inputs(self, rng: np.random.Generator) -> Arrays:
        table = (rng.normal(size=(10_000, 64)) * 0.1).astype(np.float32)
        ids = np.minimum(rng.zipf(1.3, 128), 10_000) - 1
        return ids.astype(np.int32), rng.normal(size=128).astype(np.float32), table

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        ids, target = placeholders
        rows = tf.nn.embedding_lookup(tf.Variable(inputs[2]), ids)
        loss = tf.reduce_mean(tf.square(tf.reduce_sum(rows, 1) - target))
        return [loss, tf.train.AdagradOptimizer(0.01, 0.1).minimize(loss)]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def update(state: Any, ids: Any, target: Any) -> Any:
            table, total = state
            loss, grads = jax.value_and_grad(lambda rows: jnp.mean((rows.sum(1) - target) ** 2))(table[ids])
            distinct, places = jnp.unique(ids, return_inverse=True, size=ids.size, fill_value=table.shape[0])
            sums = jnp.zeros_like(grads).at[places].add(grads)
            total = total.at[distinct].add(sums * sums, mode="drop")
            step = 0.01 * sums * jax.lax.rsqrt(total[jnp.minimum(distinct, table.shape[0] - 1)])
            return (table.at[distinct].add(-step, mode="drop"), total), loss

        fast = jax.jit(update, donate_argnums=0)
        held = [(jnp.array(inputs[2]), jnp.full(inputs[2].shape, 0.1, jnp.float32))]

        def step(ids: Any, target: Any) -> Any:
            held[0], loss = fast(held[0], ids, target)
            return loss

        return {"jit": (step, inputs[:2])}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        ids, target, table = inputs[0], inputs[1].astype(float), inputs[2].astype(float)
        total = np.full_like(table, 0.1)
        for _ in range(self.steps):
            errors = table[ids].sum(1) - target
            loss = np.mean(errors * errors)
            sums = np.zeros_like(table)
            np.add.at(sums, ids, 2 / len(ids) * errors[:, None])
            total += sums * sums
            table -= 0.01 * sums / np.sqrt(total)
        return [loss]


WORKLOADS = (Training(32), Training(128), Embedding(), SparseAdagrad())
