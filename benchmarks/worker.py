"""A peer's process: `python -m benchmarks.worker PEER CPU`, commanded by lines of JSON on stdin."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback
from typing import Any

import numpy as np

from benchmarks.timing import Variant, best_per_call, calls_for
from benchmarks.workloads import by_name
from benchmarks.workloads.base import Workload

_MODULES = {"stepjit": "session", "tensorflow": "session"}


class _Worker:
    """The state between two commands: the workload at hand and the peer's ways of running it."""

    def __init__(self, peer: str) -> None:
        module = importlib.import_module(f"benchmarks.peers.{_MODULES.get(peer, peer)}_peer")
        self._peer = module.Peer(peer)
        self._variants: dict[str, Variant] = {}
        self._workload: Workload | None = None
        self._inputs: tuple[np.ndarray, ...] = ()
        self._calls: dict[str, int] = {}

    def about(self) -> Any:
        return self._peer.about()

    def prepare(self, workload: str) -> Any:
        """Build the workload; the names of the ways to run it, and those which failed with the reason."""
        self.drop()
        self._workload = by_name(workload)
        self._inputs = self._workload.inputs(np.random.default_rng(7))
        failed: dict[str, str] = {}
        for name, make in self._peer.variants(self._workload, self._inputs).items():
            try:
                self._variants[name] = make()
            except Exception as error:
                failed[name] = _short(error)
        return {"variants": list(self._variants), "failed": failed}

    def check(self, variant: str, file: str) -> Any:
        """Run the workload's number of steps from the start and save the last step's results."""
        assert self._workload is not None
        each = self._variants[variant]
        each.reset()
        for _ in range(self._workload.steps):
            values = each.results()
        np.savez(file, *[np.asarray(value) for value in values])
        return len(values)

    def expected(self, file: str) -> Any:
        """Save the reference's results."""
        assert self._workload is not None
        values = self._workload.expected(*self._inputs)
        if values is None:
            return 0
        np.savez(file, *[np.asarray(value) for value in values])
        return len(values)

    def measure(self, variant: str, budget: float) -> Any:
        """Microseconds per call."""
        each = self._variants[variant]
        each.reset()
        if variant not in self._calls:
            # Batches shorter than a time slice: on a busy machine some of them run undisturbed.
            self._calls[variant] = calls_for(each, min(budget / 3, 0.002))
            each.reset()
        return best_per_call(each, self._calls[variant], budget) * 1e6

    def cold(self, variation: int) -> Any:
        """Seconds of one build from nothing, by part; `variation` changes constants so that no cache knows it."""
        assert self._workload is not None
        gc.collect()
        return self._peer.cold(self._workload, self._inputs, variation)

    def drop(self) -> Any:
        """Forget the workload."""
        self._variants, self._calls, self._workload, self._inputs = {}, {}, None, ()
        self._peer.drop()
        gc.collect()
        return None


def _short(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]} ({os.path.basename(last.filename)}:{last.lineno})"


def main() -> None:
    """Answer commands until stdin ends; what libraries print goes to stderr."""
    peer, cpu = sys.argv[1:3]
    if cpu != "-":
        os.sched_setaffinity(0, {int(cpu)})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: _Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            worker = worker or _Worker(peer)
            answer = {"value": getattr(worker, request.pop("do"))(**request)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": _short(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
