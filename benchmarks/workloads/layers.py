"""Layer norm, and softmax cross-entropy with its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload


class LayerNorm(Workload):
    """Rows normalised, scaled and shifted."""

    name = "layer_norm"
    title = "layer norm, 128x768"
    # TensorFlow with oneDNN replaces the pattern by a kernel whose variance is not the one that was asked for.
    excused = {"tensorflow": 1e-2}

    def inputs(self, rng: np.random.Generator) -> Arrays:
        x, gamma, beta = rng.normal(size=(128, 768)), rng.normal(size=768), rng.normal(size=768)
        return x.astype(np.float32), gamma.astype(np.float32), beta.astype(np.float32)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        x, gamma, beta = placeholders
        mean, variance = tf.nn.moments(x, [1], keep_dims=True)
        return [(x - mean) * tf.rsqrt(variance + 1e-5) * gamma + beta]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def norm(x: Any, gamma: Any, beta: Any) -> Any:
            centred = x - jnp.mean(x, 1, keepdims=True)
            return centred * jax.lax.rsqrt(jnp.mean(centred * centred, 1, keepdims=True) + 1e-5) * gamma + beta

        return {"jit": (jax.jit(norm), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        @numba.njit(fastmath=True)
        def norm(x: Any, gamma: Any, beta: Any) -> Any:
            out = np.empty_like(x)
            for i in range(x.shape[0]):
                mean = np.float32(0)
                for j in range(x.shape[1]):
                    mean += x[i, j]
                mean /= np.float32(x.shape[1])
                squares = np.float32(0)
                for j in range(x.shape[1]):
                    squares += (x[i, j] - mean) * (x[i, j] - mean)
                scale = np.float32(1 / np.sqrt(squares / x.shape[1] + 1e-5))
                for j in range(x.shape[1]):
                    out[i, j] = (x[i, j] - mean) * scale * gamma[j] + beta[j]
            return out

        return {"array": (norm, inputs)}

    def c(self, library: Any, inputs: Arrays) -> Mapping[str, Call]:
        return {"c": (library.layer_norm, inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (_norm, inputs)}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        return [_norm(*[each.astype(float) for each in inputs])]


def _norm(x: Any, gamma: Any, beta: Any) -> Any:
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(1, keepdims=True) + x.dtype.type(1e-5)) * gamma + beta


class CrossEntropy(Workload):
    """Mean loss of integer labels, and the gradient by the logits."""

    name = "softmax_ce_grad"
    title = "softmax cross-entropy with gradient, 128x1000"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return (rng.normal(size=(128, 1000)) * 3).astype(np.float32), rng.integers(0, 1000, 128, np.int32)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        logits, labels = placeholders
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        return [loss, tf.gradients(loss, logits)[0]]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def loss(logits: Any, labels: Any) -> Any:
            logs = jax.nn.log_softmax(logits)
            return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], 1))

        return {"jit": (jax.jit(jax.value_and_grad(loss)), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        @numba.njit(fastmath=True)
        def run(logits: Any, labels: Any) -> Any:
            rows, columns = logits.shape
            gradient, total, share = np.empty_like(logits), np.float32(0), np.float32(1 / rows)
            for i in range(rows):
                largest, sum_ = logits[i, 0], np.float32(0)
                for j in range(columns):
                    largest = max(largest, logits[i, j])
                for j in range(columns):
                    gradient[i, j] = np.exp(logits[i, j] - largest)
                    sum_ += gradient[i, j]
                for j in range(columns):
                    gradient[i, j] *= share / sum_
                gradient[i, labels[i]] -= share
                total += np.log(sum_) + largest - logits[i, labels[i]]
            return total * share, gradient

        return {"array": (run, inputs)}

    def c(self, library: Any, inputs: Arrays) -> Mapping[str, Call]:
        return {"c": (library.cross_entropy, inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (_cross_entropy, inputs)}

    def expected(self, logits: Any, labels: Any) -> Sequence[np.ndarray] | None:
        return _cross_entropy(logits.astype(float), labels)


def _cross_entropy(logits: Any, labels: Any) -> Any:
    rows = np.arange(len(labels))
    largest = logits.max(1, keepdims=True)
    gradient = np.exp(logits - largest)
    total = gradient.sum(1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) + largest[:, 0] - logits[rows, labels])
    gradient /= total
    gradient[rows, labels] -= 1
    gradient /= len(labels)
    return loss, gradient


WORKLOADS = (LayerNorm(), CrossEntropy())
