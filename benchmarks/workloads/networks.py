"""Inference: a multi-layer perceptron and a small policy network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.workloads import onnx_graphs
from benchmarks.workloads.base import Arrays, Call, Workload

MLP = (784, 256, 256, 10)


def weights(rng: np.random.Generator, sizes: Sequence[int]) -> Arrays:
    """w1, b1, w2, b2, ...: scaled normal matrices and small biases."""
    made: list[np.ndarray] = []
    for before, after in pairwise(sizes):
        made.append((rng.normal(size=(before, after)) / np.sqrt(before)).astype(np.float32))
        made.append((rng.normal(size=after) * 0.1).astype(np.float32))
    return tuple(made)


def forward(product: Any, activation: Any, x: Any, params: Sequence[Any], last: Any = None) -> Any:
    """The network's result; the last layer is linear unless `last` is given."""
    for i in range(0, len(params), 2):
        x = product(x, params[i]) + params[i + 1]
        step = activation if i + 2 < len(params) else last
        x = step(x) if step is not None else x
    return x


def relu(x: Any) -> Any:
    """numpy's."""
    return np.maximum(x, x.dtype.type(0))


class Inference(Workload):
    """784-256-256-10 with relu."""

    variables = True
    sizes: Sequence[int] = MLP

    def __init__(self, batch: int) -> None:
        self.name, self._batch = f"mlp_infer_{batch}", batch
        self.title = f"MLP 784-256-256-10 inference, batch {batch}"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return (rng.normal(size=(self._batch, self.sizes[0])).astype(np.float32), *weights(rng, self.sizes))

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:1]

    def activation(self, kind: str) -> tuple[Any, Any]:
        """(hidden, last) for "tf", "jax" or "numpy", the module imported there."""
        if kind == "jax":
            import jax

            return jax.nn.relu, None
        return relu, None

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [forward(tf.matmul, tf.nn.relu, placeholders[0], [tf.Variable(each) for each in inputs[1:]])]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        hidden, last = self.activation("jax")
        params = [jnp.asarray(each) for each in inputs[1:]]
        run = jax.jit(lambda x, *params: forward(jnp.matmul, hidden, x, params, last))
        closed = jax.jit(lambda x: forward(jnp.matmul, hidden, x, params, last))
        return {"jit": (run, inputs), "closed": (closed, inputs[:1])}

    def onnx(self, inputs: Arrays) -> bytes | None:
        return onnx_graphs.perceptron(inputs[1:], "Relu")

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        hidden, last = self.activation("numpy")
        return {"numpy": (lambda x: forward(np.matmul, hidden, x, inputs[1:], last), inputs[:1])}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        exact = [each.astype(float) for each in inputs]
        return [forward(np.matmul, self.activation("numpy")[0], exact[0], exact[1:], self.activation("numpy")[1])]


class Policy(Inference):
    """17-64-64-6 with tanh everywhere, batch 1."""

    sizes = (17, 64, 64, 6)

    def __init__(self) -> None:
        super().__init__(1)
        self.name, self.title = "policy", "policy network 17-64-64-6, tanh, batch 1"

    def activation(self, kind: str) -> tuple[Any, Any]:
        if kind == "jax":
            import jax.numpy as jnp

            return jnp.tanh, jnp.tanh
        return np.tanh, np.tanh

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        params = [tf.Variable(each) for each in inputs[1:]]
        return [forward(tf.matmul, tf.tanh, placeholders[0], params, tf.tanh)]

    def onnx(self, inputs: Arrays) -> bytes | None:
        return onnx_graphs.perceptron(inputs[1:], "Tanh", "Tanh")

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        w1, b1, w2, b2, w3, b3 = inputs[1:]

        @numba.njit(fastmath=True)
        def dense(x: Any, w: Any, b: Any) -> Any:
            out = b.copy()
            for i in range(w.shape[0]):
                for j in range(w.shape[1]):
                    out[j] += x[i] * w[i, j]
            for j in range(out.size):
                out[j] = np.tanh(out[j])
            return out

        @numba.njit
        def run(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
            return dense(dense(dense(x[0], w1, b1), w2, b2), w3, b3).reshape((1, -1))

        @numba.njit
        def closed(x: Any) -> Any:
            return dense(dense(dense(x[0], w1, b1), w2, b2), w3, b3).reshape((1, -1))

        return {"array": (run, inputs), "closed": (closed, inputs[:1])}

    def c(self, library: Any, inputs: Arrays) -> Mapping[str, Call]:
        return {"c": (library.policy, inputs)}


WORKLOADS = (Inference(1), Inference(128), Policy())
