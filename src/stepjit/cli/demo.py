"""`stepjit demo`: a classifier of handwritten digits, trained and timed, and what its steps were compiled to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import stepjit.compat.v1 as tf
from stepjit.cli.report import ReportConsole, show_step
from stepjit.data import Digits, load_digits

BATCH = 32
LAYERS = (128, 64)
SIDE = 8
FILTERS = (32, 64)
UNITS = 64
CLASSES = 10
INFERENCES = 2000


@dataclass(frozen=True)
class Model:
    """The tensors and ops of the classifier's graph."""

    images: Any
    labels: Any
    prediction: Any
    """The likeliest class of each image."""
    loss: Any
    train: Any
    initialise: Any


def build_model(seed: int, kind: str = "mlp") -> Model:
    """A network of that kind with its loss and an Adam step, in the default graph."""
    tf.set_random_seed(seed)
    images = tf.placeholder(tf.float32, [None, SIDE * SIDE], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    network = NETWORKS[kind]
    logits = _dense(network.features(images), CLASSES, "logits")
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    train = tf.train.AdamOptimizer(network.rate).minimize(loss)
    return Model(images, labels, tf.argmax(logits, axis=1), loss, train, tf.global_variables_initializer())


def _perceptron(images: Any) -> Any:
    """64-128-64."""
    hidden = images
    for number, units in enumerate(LAYERS):
        hidden = tf.nn.relu(_dense(hidden, units, f"hidden{number}"))
    return hidden


def _convolutions(images: Any) -> Any:
    """LeNet for images of 8x8: 3x3x32 - pool - 3x3x64 - pool - 128."""
    hidden = tf.reshape(images, [-1, SIDE, SIDE, 1])
    for filters in FILTERS:
        hidden = tf.layers.conv2d(hidden, filters, 3, padding="same", activation=tf.nn.relu)
        hidden = tf.layers.max_pooling2d(hidden, 2, 2)
    return tf.layers.dense(tf.layers.flatten(hidden), LAYERS[0], activation=tf.nn.relu)


def _recurrence(images: Any) -> Any:
    """An LSTM of 64 units that reads an image row by row: its output after the last row."""
    rows = tf.reshape(images, [-1, SIDE, SIDE])
    _, state = tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(UNITS), rows, dtype=tf.float32)
    return state.h


@dataclass(frozen=True)
class Network:
    """What a kind of model puts before the last layer, and how fast it learns."""

    features: Callable[[Any], Any]
    """From images f32[n, 64] to f32[n, width]."""
    rate: float = 0.002
    """Adam's learning rate."""


NETWORKS = {"mlp": Network(_perceptron), "cnn": Network(_convolutions), "lstm": Network(_recurrence, rate=0.01)}


def _dense(x: Any, units: int, name: str) -> Any:
    with tf.variable_scope(name):
        weights = tf.get_variable("weights", [int(x.shape[1]), units], initializer=tf.glorot_uniform_initializer())
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
        return tf.matmul(x, weights) + bias


def batches(digits: Digits, epochs: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches (images f32[32, 64], labels i64[32]) of each epoch in a new order; the last of an epoch is shorter."""
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(len(digits.train_images))
        images, labels = digits.train_images[order], digits.train_labels[order]
        for start in range(0, len(order), BATCH):
            yield images[start : start + BATCH], labels[start : start + BATCH]


@dataclass(frozen=True)
class Timing:
    """Microseconds of many calls of a step."""

    median: float
    p99: float

    @classmethod
    def of(cls, nanoseconds: list[int]) -> Timing:
        median, p99 = np.percentile(nanoseconds, (50, 99)) / 1e3
        return cls(float(median), float(p99))

    def __str__(self) -> str:
        return f"median {self.median:7.1f} µs   p99 {self.p99:7.1f} µs"


def run(epochs: int, seed: int, kind: str = "mlp") -> int:
    """Train, measure and report; returns the exit code."""
    console = ReportConsole()
    digits = load_digits()
    console.print(
        f"UCI handwritten digits: {len(digits.train_images)} to learn from, {len(digits.test_images)} to be tested on"
    )
    with tf.Graph().as_default(), tf.Session() as session:
        model = build_model(seed, kind)
        session.run(model.initialise)
        train = session.make_callable([model.train, model.loss], [model.images, model.labels])
        infer = session.make_callable(model.prediction, [model.images])

        started = time.perf_counter()
        train_times, loss = _train(console, train, digits, epochs, seed)
        seconds = time.perf_counter() - started
        accuracy = float(np.mean(infer(digits.test_images) == digits.test_labels))
        infer_times = _infer(infer, digits)

        console.print(f"{epochs} epochs, {len(train_times)} steps in {seconds:.2f} s, last loss {loss:.4f}")
        console.print(f"[bold]test accuracy      {accuracy:.2%}[/bold]")
        console.print(f"training step, batch {BATCH}   {Timing.of(train_times)}")
        console.print(f"inference step, batch 1   {Timing.of(infer_times)}")
        stats = session.compile_stats()
        console.print(
            f"compiled {stats.compiled} programs for {stats.steps} steps in {stats.seconds * 1e3:.0f} ms", end="\n\n"
        )
        show_step(console, "training step", train.explain())
        show_step(console, "inference step", infer.explain())
    return 0


def _train(
    console: Console, step: Callable[..., Any], digits: Digits, epochs: int, seed: int
) -> tuple[list[int], float]:
    """Nanoseconds of each step after the first (which compiles), and the last loss."""
    per_epoch = -(-len(digits.train_images) // BATCH)
    columns = (
        TextColumn("training"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
        TextColumn("loss {task.fields[loss]}"), TimeElapsedColumn(),
    )  # fmt: skip
    times: list[int] = []
    loss = 0.0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=epochs, loss="-")
        for number, (images, labels) in enumerate(batches(digits, epochs, seed), 1):
            started = time.perf_counter_ns()
            _, loss = step(images, labels)
            times.append(time.perf_counter_ns() - started)
            if number % per_epoch == 0:
                progress.update(task, advance=1, loss=f"{loss:.4f}")
    return times[1:], float(loss)


def _infer(step: Callable[..., Any], digits: Digits) -> list[int]:
    """Nanoseconds of each inference of one image, after the first (which compiles)."""
    images = [digits.test_images[k : k + 1] for k in range(len(digits.test_images))]
    times = []
    for number in range(INFERENCES + 1):
        image = images[number % len(images)]
        started = time.perf_counter_ns()
        step(image)
        times.append(time.perf_counter_ns() - started)
    return times[1:]
