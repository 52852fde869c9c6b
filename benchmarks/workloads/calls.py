"""What a call costs when there is next to nothing to compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload


class ScalarStep(Workload):
    """x = 0.99 x + u, y = x x on 0-d arrays."""

    name = "scalar_step"
    title = "0-d float32 x, u -> x' = 0.99 x + u, y = x' x'"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return np.array(rng.random(), np.float32), np.array(rng.random(), np.float32)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        x, u = placeholders
        after = 0.99 * x + u
        return [after, after * after]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax

        def step(x: Any, u: Any) -> Any:
            after = 0.99 * x + u
            return after, after * after

        return {"jit": (jax.jit(step), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        keep = np.float32(0.99)

        @numba.njit
        def step(x: Any, u: Any) -> Any:
            after = keep * x + u
            return after, after * after

        @numba.njit
        def array_step(x: Any, u: Any) -> Any:
            after = keep * x[()] + u[()]
            return after, after * after

        return {"array": (array_step, inputs), "float": (step, [float(each) for each in inputs])}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        keep = np.float32(0.99)

        def step(x: Any, u: Any) -> Any:
            after = keep * x + u
            return after, after * after

        return {"numpy": (step, inputs)}

    def c(self, library: Any, inputs: Arrays) -> Mapping[str, Call]:
        return {"c": (library.scalar_step, inputs)}

    def expected(self, x: Any, u: Any) -> Sequence[np.ndarray]:
        after = 0.99 * x.astype(float) + u
        return [after, after * after]


class CallOverhead(Workload):
    """a b + a on two float32[8]."""

    name = "call_overhead"
    title = "two float32[8] -> a b + a; numpy: np.add alone"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return rng.random(8, np.float32), rng.random(8, np.float32)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        a, b = placeholders
        return [a * b + a]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax

        step = jax.jit(lambda a, b: a * b + a)
        return {"jit": (step, inputs), "numpy": (step, inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        return {"array": (numba.njit(lambda a, b: a * b + a), inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (lambda a, b: a * b + a, inputs)}

    def expected(self, a: Any, b: Any) -> Sequence[np.ndarray] | None:
        return [a.astype(float) * b + a]


class NumpyAdd(CallOverhead):
    """The same graph with a plain sum, beside np.add."""

    name = "call_add"
    title = "two float32[8] -> a + b; numpy: np.add"

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [placeholders[0] + placeholders[1]]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"add": (np.add, inputs)}

    def expected(self, a: Any, b: Any) -> Sequence[np.ndarray] | None:
        return [a.astype(float) + b]


class _Converted(CallOverhead):
    """Feeds that have to be converted."""

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}

    def placeholders(self, *inputs: Any) -> Sequence[tuple[Any, Sequence[int | None]]]:
        return [(each.dtype, each.shape) for each in inputs]


class CallLists(_Converted):
    """Lists of Python floats."""

    name = "call_lists"
    title = "the same fed with lists of 8 floats"

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return [each.tolist() for each in inputs]


class CallOtherDtype(_Converted):
    """float64 arrays for float32 placeholders."""

    name = "call_float64"
    title = "the same fed with float64[8]"

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return [each.astype(float) for each in inputs]


class CallScalars(_Converted):
    """Python floats for 0-d placeholders."""

    name = "call_scalars"
    title = "0-d a b + a fed with Python floats"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return np.array(rng.random(), np.float32), np.array(rng.random(), np.float32)

    def feeds(self, *inputs: Any) -> Sequence[Any]:
        return [float(each) for each in inputs]


WORKLOADS = (ScalarStep(), CallOverhead(), NumpyAdd(), CallScalars(), CallLists(), CallOtherDtype())
