"""What a workload is: seeded inputs, and one implementation per peer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, ...]
Call = tuple[Callable[..., Any], Sequence[Any]]
"""A function and the arguments it is timed with."""


class Workload:
    """One thing to measure; subclasses give the peers' implementations that make sense."""

    name = ""
    title = ""
    tolerance = 1e-5
    """Relative, and absolute in terms of the result's largest value."""
    excused: Mapping[str, float] = {}
    """By peer: a tolerance of its own, where the peer is known to be less exact."""
    steps = 1
    """Steps from the initial state after which results are compared."""
    stateful = False
    """Whether the graph holds variables that a step changes."""
    variables = False
    """Whether the graph holds variables at all."""
    cold = False
    """Whether to time the graph's building and compiling too."""
    fresh = False
    """Whether stepjit's cold figures are those of a new process that finds the steps on disk."""
    variation = 0
    """Changes constants, so that equal graphs were never compiled before."""

    def inputs(self, rng: np.random.Generator) -> Arrays:
        """The feeds and whatever else the implementations need."""
        raise NotImplementedError

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        """Those inputs that are fed, as they are passed in the timed call."""
        return inputs

    def placeholders(self, *inputs: Any) -> Sequence[tuple[Any, Sequence[int | None]]]:
        """(dtype, shape) of each feed."""
        return [(np.asarray(feed).dtype, np.shape(feed)) for feed in self.feeds(*inputs)]

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        """Build the graph with TF1's API and return the fetches: for stepjit and TensorFlow."""
        raise NotImplementedError

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        """By way: a function that returns jax arrays, blocked on by the caller."""
        return {}

    def onnx(self, inputs: Arrays) -> bytes | None:
        """A serialised ONNX model with the input `x`, which is the only feed; None: not for onnxruntime."""
        return None

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        """By way: a compiled function."""
        return {}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        """By way: a function of plain numpy."""
        return {}

    def c(self, library: Any, inputs: Arrays) -> Mapping[str, Call]:
        """By way: a function of the C extension (see baselines.c)."""
        return {}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        """What the last of `steps` steps returns, computed in float64; None: peers are compared with each other."""
        return None
