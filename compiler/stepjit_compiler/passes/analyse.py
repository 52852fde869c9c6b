"""analyse: facts about a step, computed afresh from its graph. The one module that imports networkx."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx

from stepjit_compiler.ir import Ref, Step
from stepjit_compiler.ops.step import ASSIGNS


@dataclass(frozen=True)
class Facts:
    """What fusion and memory planning ask about a step."""

    order: tuple[int, ...]
    """The nodes in the order in which they are fused: what only variables wait for comes last, so that every check of
    the step that can come before the first write does, and a variable is written after all that read it; variables that
    Python writes are the very last, since no step fails after that."""
    wanted: frozenset[Ref]
    """Values that leave the step: fetched, written to a slot, or asked for though nobody takes them (they may fail)."""
    updates: frozenset[int]
    """Nodes that only serve to write variables, in native code: it can't fail but for indices (see `early_checks`)."""


def analyse(step: Step) -> Facts:
    """Facts of a step; networkx.NetworkXUnfeasible when its nodes form a cycle."""
    graph = _graph(step)
    hosts = {i for i, node in enumerate(step.nodes) if node.host}
    first = {ref.node for ref in step.fetches} | set(step.targets) | hosts
    updates = frozenset(set(graph) - _before(graph, first))
    order = nx.lexicographical_topological_sort(
        graph, key=lambda node: (step.nodes[node].op in ASSIGNS, node in updates, node)
    )
    asked = (Ref(i, k) for i in step.targets if i not in hosts for k in range(len(step.nodes[i].types)))
    wanted = frozenset((*step.fetches, *(ref for _, ref in step.writes), *asked))
    return Facts(tuple(order), wanted, updates)


def in_order(before: Mapping[Any, Iterable[Any]], key: Callable[[Any], Any]) -> list[Any]:
    """The keys of `before`, each after those it names; of several that may come next, the one of the least `key`.

    ValueError when there is a cycle.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(before)
    graph.add_edges_from((each, node) for node, needed in before.items() for each in needed)
    try:
        return list(nx.lexicographical_topological_sort(graph, key=key))
    except nx.NetworkXUnfeasible:
        raise ValueError("there is a cycle") from None


def _before(graph: nx.DiGraph, nodes: set[int]) -> set[int]:
    """The nodes and all that they depend on."""
    sink = -1
    graph.add_node(sink)
    graph.add_edges_from((node, sink) for node in nodes)
    found: set[int] = nx.ancestors(graph, sink)
    graph.remove_node(sink)
    return found


def _graph(step: Step) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(step.nodes)))
    for i, node in enumerate(step.nodes):
        graph.add_edges_from((ref.node, i) for ref in node.inputs)
        graph.add_edges_from((j, i) for j in node.after)
    return graph
