"""What the peers share whose workloads are plain functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.timing import Variant, call
from benchmarks.workloads.base import Arrays, Call, Workload


class PlainPeer:
    """Workloads as functions that are called with arrays."""

    def functions(self, workload: Workload, inputs: Arrays) -> Mapping[str, Call]:
        """By way of running: function and arguments."""
        raise NotImplementedError

    def variants(self, workload: Workload, inputs: Arrays) -> dict[str, Callable[[], Variant]]:
        """By way of running: what makes it."""
        made = self.functions(workload, inputs)

        def maker(way: str) -> Callable[[], Variant]:
            def make() -> Variant:
                # One call first, so that a compiler's failure is reported now.
                function, args = made[way]
                function(*args)
                return call(function, args, reset=getattr(function, "reset", None))

            return make

        return {way: maker(way) for way in made}

    def cold(self, workload: Workload, inputs: Arrays, variation: int) -> dict[str, float]:
        """Nothing is measured."""
        return {}

    def drop(self) -> None:
        """Nothing is kept."""
