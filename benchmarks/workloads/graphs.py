"""Large graphs: a thousand random ops, a chain of five thousand, and a step of twenty ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload
from benchmarks.workloads.networks import weights

LENGTH = 1000
"""Floats per tensor."""


class _Graph(Workload):
    """A function of numpy, jax.numpy or tf, timed from nothing to its first result as well."""

    cold = True

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return rng.uniform(-1, 1, LENGTH).astype(np.float32), rng.uniform(-1, 1, LENGTH).astype(np.float32)

    def body(self, xp: Any, *feeds: Any) -> Any:
        """The function."""
        raise NotImplementedError

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [self.body(tf, *placeholders)]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        # A function of its own each time, or jit would know it.
        return {"jit": (jax.jit(lambda *feeds: self.body(jnp, *feeds)), inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (lambda *feeds: self.body(np, *feeds), inputs)}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        return [self.body(np, *[each.astype(float) for each in inputs])]


class RandomGraph(_Graph):
    """Operands are drawn from all earlier values; everything stays within [-1, 1]."""

    def __init__(self, count: int) -> None:
        self.name, self._count = f"random_graph_{count}", count
        self.title = f"random graph of {count:,} elementwise ops on {LENGTH:,} floats"
        self.tolerance = 1e-4

    def body(self, xp: Any, *feeds: Any) -> Any:
        rng = np.random.default_rng(5)
        values, ops = list(feeds), 0
        unused: set[int] = set()
        while ops < self._count - len(unused) - 1:
            kind = int(rng.integers(0, 9))
            # Mostly near ones, as in programs, sometimes far.
            reach = len(values) if rng.random() < 0.1 else min(len(values), 25)
            i, j = (len(values) - 1 - int(k) for k in rng.integers(0, reach, 2))
            a, b = values[i], values[j]
            scale = 0.5 + 0.001 * (ops % 7) + 1e-6 * self.variation
            made, cost = _OPS[kind](xp, a, b, scale)
            ops += cost
            unused -= {i, j} if kind < 5 else {i}
            unused.add(len(values))
            values.append(made)
        total = values[min(unused)]
        for k in sorted(unused)[1:]:
            total = total + values[k]
        return total


_OPS: tuple[Any, ...] = (
    lambda xp, a, b, s: (xp.maximum(a, b), 1),
    lambda xp, a, b, s: (xp.minimum(a, b), 1),
    lambda xp, a, b, s: (a * b, 1),
    lambda xp, a, b, s: ((a + b) * s * 0.9, 3),
    lambda xp, a, b, s: ((a - b) * s * 0.9, 3),
    lambda xp, a, b, s: (xp.tanh(a), 1),
    lambda xp, a, b, s: (xp.abs(a), 1),
    lambda xp, a, b, s: (-a, 1),
    lambda xp, a, b, s: (xp.sqrt(a * a + s * 0.1), 3),
)


class LongChain(_Graph):
    """Each op takes the result of the one before."""

    def __init__(self, count: int) -> None:
        self.name, self._count = f"long_chain_{count}", count
        self.title = f"chain of {count:,} elementwise ops on {LENGTH:,} floats"
        self.tolerance = 2e-3

    def body(self, xp: Any, *feeds: Any) -> Any:
        x, u = feeds[0], feeds[1] * 1e-3
        for k in range(self._count // 5):
            x = xp.minimum(xp.maximum(x * (0.999 - 1e-6 * self.variation) + 0.0007 * (k % 5 - 2.5), -1.0) - u, 1.0)
        return x


class TwentyOps(Workload):
    """A small classifier's loss, about twenty ops."""

    name = "step_20_ops"
    title = "20-op step: cold compile and steady"
    cold = True

    def inputs(self, rng: np.random.Generator) -> Arrays:
        labels = np.eye(8, dtype=np.float32)[rng.integers(0, 8, 32)]
        return (rng.normal(size=(32, 16)).astype(np.float32), labels, *weights(rng, (16, 32, 8)))

    def body(self, xp: Any, total: Any, product: Any, x: Any, y: Any, params: Sequence[Any]) -> Any:
        """Twenty ops; `total(value, axis)` sums."""
        w1, b1, w2, b2 = params
        hidden = xp.tanh(product(x, w1) + b1) * (1.0 + self.variation * 1e-3)
        logits = product(hidden, w2) + b2
        powers = xp.exp(logits * 0.5)
        shares = powers / total(powers, 1)
        errors = shares - y
        loss = total(total(errors * errors, 1), 0) * 0.5
        weight = total(total(xp.abs(hidden), 1), 0) * 1e-3
        return [xp.sqrt(loss + weight), shares]

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:2]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        params = [tf.constant(each) for each in inputs[2:]]

        def total(value: Any, axis: int) -> Any:
            return tf.reduce_sum(value, axis, keep_dims=True)

        x, y = placeholders
        return self.body(tf, total, tf.matmul, x, y, params)

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def total(value: Any, axis: int) -> Any:
            return jnp.sum(value, axis, keepdims=True)

        params = [jnp.asarray(each) for each in inputs[2:]]
        return {"jit": (jax.jit(lambda x, y: self.body(jnp, total, jnp.matmul, x, y, params)), inputs[:2])}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        exact = [each.astype(float) for each in inputs]

        def total(value: Any, axis: int) -> Any:
            return np.sum(value, axis, keepdims=True)

        return self.body(np, total, np.matmul, exact[0], exact[1], exact[2:])


WORKLOADS = (TwentyOps(), RandomGraph(1000), LongChain(5000))
