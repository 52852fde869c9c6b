"""One graph under many batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload
from benchmarks.workloads.networks import forward, relu, weights

SIZES = (64, 17, 100, 3, 250, 33, 48, 5, 128, 77, 12, 200, 9, 31, 160, 22, 2, 90, 55, 40)


class BatchSizes(Workload):
    """A small network fed with twenty batch sizes in turn; the timed call is the first of them."""

    name = "batch_sizes_20"
    title = "64-64-8 network, 20 batch sizes in turn (cold), one of them (steady)"
    cold = True
    turns: Sequence[Sequence[Any]] = ()

    def inputs(self, rng: np.random.Generator) -> Arrays:
        params = weights(rng, (64, 64, 8))
        batches = [rng.normal(size=(size, 64)).astype(np.float32) for size in SIZES]
        self.turns = [(batch,) for batch in batches]
        return (batches[0], *params)

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:1]

    def placeholders(self, *inputs: Any) -> Sequence[tuple[Any, Sequence[int | None]]]:
        return [(np.float32, [None, 64])]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        logits = forward(tf.matmul, tf.nn.relu, placeholders[0], [tf.constant(each) for each in inputs[1:]])
        return [tf.nn.softmax(logits * (1.0 + self.variation * 1e-3))]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        params, scale = [jnp.asarray(each) for each in inputs[1:]], 1.0 + self.variation * 1e-3

        def run(x: Any) -> Any:
            return jax.nn.softmax(forward(jnp.matmul, jax.nn.relu, x, params) * scale)

        return {"jit": (jax.jit(run), inputs[:1])}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        exact = [each.astype(float) for each in inputs]
        logits = forward(np.matmul, relu, exact[0], exact[1:])
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return [powers / powers.sum(1, keepdims=True)]


WORKLOADS = (BatchSizes(),)
