"""Elementwise chains, with and without a reduction; option prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload


def chain(xp: Any, x: Any) -> Any:
    """Twelve ops, two of them transcendental; `xp` is numpy, jax.numpy or tf."""
    b = x * 0.5 + 0.25
    f = x / xp.sqrt(b * b + 1.0)
    h = xp.tanh(f) * b
    return xp.maximum(xp.exp(xp.minimum(h, 3.0)) - x, 0.0)


class Chain(Workload):
    """`chain` of n floats."""

    def __init__(self, count: int, label: str) -> None:
        self.name, self._count = f"chain_{label}", count
        self.title = f"12 elementwise ops on {label} floats"

    def inputs(self, rng: np.random.Generator) -> Arrays:
        return (rng.normal(size=self._count).astype(np.float32),)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [chain(tf, placeholders[0])]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        return {"jit": (jax.jit(lambda x: chain(jnp, x)), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"array": (_numba_chain(False), inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (lambda x: chain(np, x), inputs)}

    def expected(self, x: Any) -> Sequence[np.ndarray] | None:
        return [chain(np, x.astype(float))]


def _numba_chain(reduce: bool) -> Any:
    import numba

    half, quarter, one, three, zero = (np.float32(each) for each in (0.5, 0.25, 1, 3, 0))

    @numba.njit
    def point(x: Any) -> Any:
        b = x * half + quarter
        f = x / np.sqrt(b * b + one)
        return max(np.exp(min(np.tanh(f) * b, three)) - x, zero)

    @numba.njit
    def points(x: Any) -> Any:
        out = np.empty_like(x)
        for i in range(x.size):
            out[i] = point(x[i])
        return out

    @numba.njit
    def total(x: Any) -> Any:
        found = 0.0
        for i in range(x.size):
            found += point(x[i])
        return np.float32(found)

    return total if reduce else points


class ChainReduce(Chain):
    """The chain and its sum."""

    def __init__(self, count: int, label: str) -> None:
        super().__init__(count, label)
        self.name, self.title = f"chain_sum_{label}", f"the chain and its sum on {label} floats"

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return [tf.reduce_sum(chain(tf, placeholders[0]))]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        return {"jit": (jax.jit(lambda x: jnp.sum(chain(jnp, x))), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"array": (_numba_chain(True), inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (lambda x: np.sum(chain(np, x)), inputs)}

    def expected(self, x: Any) -> Sequence[np.ndarray]:
        return [np.sum(chain(np, x.astype(float)))]


RATE, VOLATILITY = 0.03, 0.25


def prices(xp: Any, erf: Any, spot: Any, strike: Any, years: Any) -> Any:
    """Black-Scholes: prices of a call and a put."""
    root = VOLATILITY * xp.sqrt(years)
    d1 = (xp.log(spot / strike) + (RATE + 0.5 * VOLATILITY**2) * years) / root
    d2 = d1 - root
    n1, n2 = (0.5 * (1.0 + erf(d * 0.7071067811865476)) for d in (d1, d2))
    now = strike * xp.exp(-RATE * years)
    call = spot * n1 - now * n2
    return call, call - spot + now


class BlackScholes(Workload):
    """Prices of a million options."""

    name = "black_scholes"
    title = "Black-Scholes calls and puts, 1M options"
    # Prices near zero are differences of two numbers near 100.
    tolerance = 3e-6

    def inputs(self, rng: np.random.Generator) -> Arrays:
        ranges = ((50, 150), (50, 150), (0.1, 3))
        return tuple(rng.uniform(low, high, 1_000_000).astype(np.float32) for low, high in ranges)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        return prices(tf, tf.erf, *placeholders)

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        return {"jit": (jax.jit(lambda *feeds: prices(jnp, jax.scipy.special.erf, *feeds)), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import math

        import numba

        rate, drift, volatility, half, one, root_half = (
            np.float32(each) for each in (RATE, RATE + 0.5 * VOLATILITY**2, VOLATILITY, 0.5, 1, 0.7071067811865476)
        )

        @numba.njit
        def run(spot: Any, strike: Any, years: Any) -> Any:
            calls, puts = np.empty_like(spot), np.empty_like(spot)
            for i in range(spot.size):
                root = volatility * math.sqrt(years[i])
                d1 = (math.log(spot[i] / strike[i]) + drift * years[i]) / root
                d2 = d1 - root
                now = strike[i] * math.exp(-rate * years[i])
                n1, n2 = half * (one + math.erf(d1 * root_half)), half * (one + math.erf(d2 * root_half))
                found = spot[i] * n1 - now * n2
                calls[i], puts[i] = found, found - spot[i] + now
            return calls, puts

        return {"array": (run, inputs)}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray] | None:
        return prices(np, _erf, *[each.astype(float) for each in inputs])


def _erf(x: np.ndarray) -> np.ndarray:
    import math

    return np.fromiter(map(math.erf, x.ravel()), float, x.size).reshape(x.shape)


WORKLOADS = (
    Chain(1_000, "1k"), Chain(1_000_000, "1M"), Chain(10_000_000, "10M"), ChainReduce(1_000, "1k"),
    ChainReduce(1_000_000, "1M"), ChainReduce(10_000_000, "10M"), BlackScholes(),
)  # fmt: skip
