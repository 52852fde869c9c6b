"""analyse: facts about a step, computed afresh from its graph. The one module that imports networkx."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from stepjit_compiler.ir import Ref, Step


@dataclass(frozen=True)
class Facts:
    """What fusion and memory planning ask about a step."""

    level: tuple[int, ...]
    """By node: the length of the longest way to it from a node without inputs."""
    ancestors: tuple[int, ...]
    """By node: a bit set of the nodes that it depends on, directly or not."""
    readers: tuple[tuple[int, ...], ...]
    """By node: the nodes that use a value of it, ascending."""
    wanted: frozenset[Ref]
    """Values that leave the step: fetched, or written to a slot."""
    slot_reads: dict[int, int]
    """By slot: its `_Read` node."""
    dominator: tuple[int, ...]
    """By node: the nearest node that every way from it to a root passes (-1: none)."""

    def depends(self, node: int, other: int) -> bool:
        """Whether `node` needs `other` to have run."""
        return bool(self.ancestors[node] >> other & 1)


def analyse(step: Step) -> Facts:
    """Facts of a step; ValueError when its nodes are no acyclic graph in the order given."""
    graph = _graph(step)
    level = [0] * len(step.nodes)
    ancestors = [0] * len(step.nodes)
    for generation, nodes in enumerate(nx.topological_generations(graph)):
        for node in nodes:
            level[node] = generation
            for before in graph.pred[node]:
                if before >= node:
                    raise ValueError(f"node {node} comes before its input {before}")
                ancestors[node] |= ancestors[before] | 1 << before
    wanted = frozenset((*step.fetches, *(ref for _, ref in step.writes)))
    reads = {node.attr["slot"]: i for i, node in enumerate(step.nodes) if node.op == "_Read"}
    return Facts(
        tuple(level), tuple(ancestors), step.consumers, wanted, reads, _dominators(graph, step)
    )  # fmt: skip


def _graph(step: Step) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(step.nodes)))
    for i, node in enumerate(step.nodes):
        graph.add_edges_from((ref.node, i) for ref in node.inputs)
        graph.add_edges_from((j, i) for j in node.after)
    return graph


def _dominators(graph: nx.DiGraph, step: Step) -> tuple[int, ...]:
    """Immediate dominators from the roots' side: what all uses of a node come together in."""
    sink = len(step.nodes)
    backwards = graph.reverse(copy=True)
    backwards.add_edges_from((sink, root) for root in step.roots())
    found = nx.immediate_dominators(backwards, sink)
    return tuple(-1 if found.get(i, sink) == sink else found[i] for i in range(sink))
