"""JAX: jitted functions, arguments already on the device, blocked on before the clock is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.timing import Variant
from benchmarks.workloads.base import Arrays, Workload


class Peer:
    """Workloads on JAX."""

    def __init__(self, name: str) -> None:
        self._devices = jax.devices()

    def about(self) -> str:
        """Name and version."""
        return f"jax {jax.__version__} on {self._devices}"

    def variants(self, workload: Workload, inputs: Arrays) -> dict[str, Callable[[], Variant]]:
        """By way of running: what makes it."""
        return {way: lambda way=way: _variant(workload, inputs, way) for way in workload.jax(inputs)}  # type: ignore[misc]

    def cold(self, workload: Workload, inputs: Arrays, variation: int) -> dict[str, float]:
        """Seconds of tracing, compiling and the first result."""
        workload.variation = variation
        try:
            start = time.perf_counter()
            function, args = next(iter(workload.jax(inputs).values()))
            jax.block_until_ready(function(*args))
            total = time.perf_counter() - start
            parts = {"total": total}
            for feeds in getattr(workload, "turns", ()):
                jax.block_until_ready(function(*feeds))
                parts["sweep"] = time.perf_counter() - start
            if hasattr(function, "_cache_size"):
                parts["compiles"] = function._cache_size()
        finally:
            workload.variation = 0
        return parts

    def drop(self) -> None:
        """Forget compiled functions."""
        jax.clear_caches()


def _variant(workload: Workload, inputs: Arrays, way: str) -> Variant:
    """Stateful workloads are made anew by `reset`, since they hold their state."""
    function, args = workload.jax(inputs)[way]
    if way != "numpy":
        args = [jax.device_put(arg) for arg in args]
    holder: dict[str, Any] = {"function": function}
    first = function(*args)
    last = "[-1]" if isinstance(first, (tuple, list)) else ""

    def reset() -> None:
        if workload.stateful:
            holder["function"] = workload.jax(inputs)[way][0]

    names = {"f": function, **{f"a{i}": arg for i, arg in enumerate(args)}}
    called = "h['function']" if workload.stateful else "f"
    text = f"{called}({', '.join(list(names)[1:])})"
    text = f"asarray({text}{last})" if way == "numpy" else f"{text}{last}.block_until_ready()"

    import numpy as np

    names.update(h=holder, asarray=np.asarray)
    return Variant(text, names, results=lambda: holder["function"](*args), reset=reset)
