"""Times a workload's first step in a process of its own: `python -m benchmarks.fresh NAME`, seconds as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

SEED = 1


def start(name: str) -> dict[str, float]:
    """The figures of a new process that keeps its steps in the user's cache directory, as its predecessors did."""
    left_out = ("STEPJIT_CACHE", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    environment["PYTHONPYCACHEPREFIX"] = os.path.join(os.environ["XDG_CACHE_HOME"], "bytecode")
    command = [sys.executable, "-m", "benchmarks.fresh", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _measure(name: str) -> dict[str, Any]:
    before = time.perf_counter()
    import stepjit.compat.v1 as tf

    imported = time.perf_counter()
    import numpy as np

    from benchmarks.peers.session_peer import Built
    from benchmarks.workloads import by_name

    workload = by_name(name)
    inputs = workload.inputs(np.random.default_rng(SEED))
    started = time.perf_counter()
    built = Built(tf, workload, inputs)
    ready = time.perf_counter()
    built.session.make_callable(built.fetches, built.placeholders)(*built.values)
    first = time.perf_counter()
    return {
        "import": imported - before, "build": ready - started, "first": first - ready, "total": first - started,
        "compiles": built.session.compile_stats().compiled,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1])))
