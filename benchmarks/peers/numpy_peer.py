"""numpy: plain calls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.peers.plain import PlainPeer
from benchmarks.workloads.base import Arrays, Call, Workload


class Peer(PlainPeer):
    """Workloads on numpy."""

    def __init__(self, name: str) -> None:
        pass

    def about(self) -> str:
        """Name and version."""
        return f"numpy {np.__version__}"

    def functions(self, workload: Workload, inputs: Arrays) -> Mapping[str, Call]:
        """See PlainPeer."""
        return workload.numpy(inputs)
