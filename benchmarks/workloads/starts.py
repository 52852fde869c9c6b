"""A new process whose steps are in the disk cache already: what others' cold start is compared with."""

from __future__ import annotations

from benchmarks.workloads.graphs import RandomGraph
from benchmarks.workloads.training import Training


class WarmTraining(Training):
    """A training step that another process compiled."""

    cold = fresh = True

    def __init__(self) -> None:
        super().__init__(32)
        self.name = "warm_mlp_train"
        self.title = "MLP training step, batch 32, in a new process with a warm disk cache"


class WarmGraph(RandomGraph):
    """A thousand ops that another process compiled."""

    fresh = True

    def __init__(self) -> None:
        super().__init__(1000)
        self.name = "warm_dag_1000"
        self.title = "random graph of 1,000 ops, in a new process with a warm disk cache"


WORKLOADS = (WarmTraining(), WarmGraph())
