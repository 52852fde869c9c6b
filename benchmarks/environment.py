"""Which interpreter, variables and processor each peer's worker gets."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

PEERS = ("stepjit", "tensorflow", "jax", "onnxruntime", "numba", "numpy", "c")
"""In the order of the table's columns."""

ROOT = Path(__file__).resolve().parent.parent

_THREADS = "OMP OPENBLAS MKL NUMBA"
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in _THREADS.split()}
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
_XLA = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_XLA_FLAGS": "--tf_xla_cpu_global_jit",
}


@dataclass
class Setup:
    """How a run measures."""

    quick: bool = False
    rounds: int | None = None
    cpu: int | None = None
    pin: bool = True
    pythons: dict[str, str] = field(default_factory=dict)
    """By peer: its interpreter; else BENCH_PYTHON_<PEER>, BENCH_PYTHON, or the running one."""

    def python(self, peer: str) -> str:
        """The interpreter of a peer's worker."""
        variables = (f"BENCH_PYTHON_{peer.upper()}", *(() if peer in ("stepjit", "c") else ("BENCH_PYTHON",)))
        found = (os.environ[name] for name in variables if os.environ.get(name))
        return self.pythons.get(peer) or next(found, sys.executable)

    def processor(self) -> int | None:
        """What workers are pinned to, where the platform can."""
        if not self.pin or not hasattr(os, "sched_getaffinity"):
            return None
        return self.cpu if self.cpu is not None else max(os.sched_getaffinity(0))

    def count(self) -> int:
        """Rounds per workload."""
        return self.rounds or (3 if self.quick else 9)

    def budget(self) -> float:
        """Seconds that one round spends on one column."""
        return 0.012 if self.quick else 0.045


def variables(scratch: str) -> dict[str, str]:
    """The environment of a worker: cold compiles are cold, and caches on disk start empty in `scratch`."""
    folders = [ROOT, *(ROOT / name for name in ("src", "compiler", "runtime") if (ROOT / name).is_dir())]
    path = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
    caches = {"STEPJIT_CACHE": "off", "XDG_CACHE_HOME": f"{scratch}/cache"}
    return {**os.environ, **_ONE_THREAD, **_QUIET, **_XLA, **caches, "PYTHONPATH": path}
