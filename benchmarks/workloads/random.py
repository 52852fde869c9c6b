"""A million random numbers: uniform, normal, gamma, Poisson, classes, and rows in random order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload

COUNT = 1_000_000


class Draws(Workload):
    """Each peer by the generator that it has: only the range of what they draw can be compared."""

    middle = 0.5

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return ()

    def expected(self, *inputs: Any) -> Sequence[np.ndarray]:
        return [np.full(COUNT, self.middle)]


class Uniform(Draws):
    """Floats in [0, 1)."""

    name, title = "random_uniform_1M", "1M uniform float32"
    # |u - 0.5| <= 0.5, as the middle and the largest value are 0.5 each.
    tolerance = 0.5

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [tf.random_uniform([COUNT])]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax

        return {"jit": (jax.jit(lambda key: jax.random.uniform(key, (COUNT,))), (jax.random.PRNGKey(0),))}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        rng = np.random.default_rng(0)
        return {"numpy": (lambda: rng.random(COUNT, dtype=np.float32), ())}


class Normal(Draws):
    """Standard normal floats."""

    name, title = "random_normal_1M", "1M standard normal float32"
    middle, tolerance = 1.0, 4.0

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [tf.random_normal([COUNT])]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax

        return {"jit": (jax.jit(lambda key: jax.random.normal(key, (COUNT,))), (jax.random.PRNGKey(0),))}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        rng = np.random.default_rng(0)
        return {"numpy": (lambda: rng.standard_normal(COUNT, dtype=np.float32), ())}


class Gamma(Draws):
    """Gamma numbers of shape 3."""

    name, title = "random_gamma_1M", "1M gamma float32, shape 3"
    middle, tolerance = 20.0, 20.0

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [tf.random_gamma([COUNT], 3.0)]

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        rng = np.random.default_rng(0)
        return {"numpy": (lambda: rng.standard_gamma(3.0, COUNT, dtype=np.float32), ())}


class Poisson(Draws):
    """Poisson numbers of rate 4."""

    name, title = "random_poisson_1M", "1M Poisson int64, rate 4"
    middle, tolerance = 20.0, 20.0

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [tf.random_poisson(4.0, [COUNT], dtype=tf.int64)]

    def expected(self, *inputs: Any) -> Sequence[np.ndarray]:
        return [np.full(COUNT, 20)]

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        rng = np.random.default_rng(0)
        return {"numpy": (lambda: rng.poisson(4.0, COUNT), ())}


class Classes(Draws):
    """Samples of ten classes."""

    name, title = "random_classes_1M", "1M samples of 10 classes"
    tolerance = 5.0

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [tf.multinomial(np.log(np.arange(1, 11, dtype=np.float32))[None], COUNT)[0]]

    def expected(self, *inputs: Any) -> Sequence[np.ndarray]:
        return [np.full(COUNT, 5)]

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        rng, chances = np.random.default_rng(0), np.arange(1, 11) / 55
        return {"numpy": (lambda: rng.choice(10, COUNT, p=chances), ())}


WORKLOADS = (Uniform(), Normal(), Gamma(), Poisson(), Classes())
