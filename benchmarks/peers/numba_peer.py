"""numba: njit functions."""

from __future__ import annotations

from collections.abc import Mapping

import numba

from benchmarks.peers.plain import PlainPeer
from benchmarks.workloads.base import Arrays, Call, Workload


class Peer(PlainPeer):
    """Workloads on numba."""

    def __init__(self, name: str) -> None:
        pass

    def about(self) -> str:
        """Name and version."""
        return f"numba {numba.__version__}"

    def functions(self, workload: Workload, inputs: Arrays) -> Mapping[str, Call]:
        """See PlainPeer."""
        return workload.numba(inputs)
