"""The workloads, in the order in which they run."""

from __future__ import annotations

from benchmarks.workloads import (
    calls,
    convolution,
    elementwise,
    filtering,
    graphs,
    layers,
    loops,
    networks,
    random,
    recurrent,
    shapes,
    starts,
    training,
)
from benchmarks.workloads.base import Workload

WORKLOADS: tuple[Workload, ...] = (
    *calls.WORKLOADS,
    *filtering.WORKLOADS,
    *elementwise.WORKLOADS,
    *random.WORKLOADS,
    *layers.WORKLOADS,
    *networks.WORKLOADS,
    *loops.WORKLOADS,
    *training.WORKLOADS,
    *recurrent.WORKLOADS,
    *convolution.WORKLOADS,
    *shapes.WORKLOADS,
    *graphs.WORKLOADS,
    *starts.WORKLOADS,
)


def by_name(name: str) -> Workload:
    """The workload of that name."""
    return next(each for each in WORKLOADS if each.name == name)
