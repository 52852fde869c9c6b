"""A convolutional network of LeNet's kind: inference of one image and of a batch, and a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads import onnx_graphs
from benchmarks.workloads.base import Arrays, Call, Workload

SHAPES = ((5, 5, 1, 32), (5, 5, 32, 64), (7 * 7 * 64, 1024), (1024, 10))
RATE = 0.01


def weights(rng: np.random.Generator) -> Arrays:
    """w1, b1, w2, b2, ...: scaled normal filters and matrices, small biases."""
    made: list[np.ndarray] = []
    for shape in SHAPES:
        made.append((rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32))
        made.append((rng.normal(size=shape[-1]) * 0.1).astype(np.float32))
    return tuple(made)


def logits_of(tf: Any, x: Any, params: Sequence[Any]) -> Any:
    """Two convolutions with pooling, a hidden layer, ten logits."""
    for kernel, bias in (params[:2], params[2:4]):
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"), bias))
        x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    x = tf.reshape(x, [-1, SHAPES[2][0]])
    x = tf.nn.relu(tf.matmul(x, params[4]) + params[5])
    return tf.matmul(x, params[6]) + params[7]


def _jax_logits(x: Any, params: Sequence[Any]) -> Any:
    import jax
    import jax.numpy as jnp
    from jax import lax

    for kernel, bias in (params[:2], params[2:4]):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    x = jax.nn.relu(x.reshape(x.shape[0], -1) @ params[4] + params[5])
    return x @ params[6] + params[7]


class LeNetInference(Workload):
    """28x28 - conv 5x5x32 - pool - conv 5x5x64 - pool - 1024 - 10."""

    variables = True

    def __init__(self, batch: int) -> None:
        self.name, self._batch = f"lenet_infer_{batch}", batch
        self.title = f"LeNet-style network, 28x28, inference, batch {batch}"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return (rng.uniform(size=(self._batch, 28, 28, 1)).astype(np.float32), *weights(rng))

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:1]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [logits_of(tf, placeholders[0], [tf.Variable(each) for each in inputs[1:]])]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        params = [jnp.asarray(each) for each in inputs[1:]]
        run = jax.jit(lambda x, *params: _jax_logits(x, params))
        return {"jit": (run, (inputs[0], *params)), "closed": (jax.jit(lambda x: _jax_logits(x, params)), inputs[:1])}

    def onnx(self, inputs: Arrays) -> bytes | None:
        return onnx_graphs.lenet(inputs[1:], inputs[0].shape[1])


class LeNetTraining(Workload):
    """The same network with softmax cross-entropy, under SGD."""

    name = "lenet_train_32"
    title = "LeNet-style network, 28x28, training with SGD, batch 32"
    stateful = True
    steps = 4
    tolerance = 1e-4

    def inputs(self, rng: np.random.Generator) -> Arrays:
        images = rng.uniform(size=(32, 28, 28, 1)).astype(np.float32)
        return (images, rng.integers(0, 10, 32, np.int32), *weights(rng))

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return inputs[:2]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        images, labels = placeholders
        logits = logits_of(tf, images, [tf.Variable(each) for each in inputs[2:]])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        return [loss, tf.train.GradientDescentOptimizer(RATE).minimize(loss)]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def loss_of(params: Any, images: Any, labels: Any) -> Any:
            logs = jax.nn.log_softmax(_jax_logits(images, params))
            return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], 1))

        def update(params: Any, images: Any, labels: Any) -> Any:
            loss, grads = jax.value_and_grad(loss_of)(params, images, labels)
            return [p - RATE * g for p, g in zip(params, grads, strict=True)], loss

        fast = jax.jit(update, donate_argnums=0)
        held: list[Any] = [[jnp.array(each) for each in inputs[2:]]]

        def step(images: Any, labels: Any) -> Any:
            held[0], loss = fast(held[0], images, labels)
            return loss

        return {"jit": (step, inputs[:2])}


WORKLOADS = (LeNetInference(1), LeNetInference(32), LeNetTraining())
