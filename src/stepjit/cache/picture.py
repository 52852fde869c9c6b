"""A step's graph as text for Graphviz, and as a picture without it: ops in layers, data flowing down."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from stepjit.cache.step_names import parse_names

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 150, 34, 16, 36, 20
_LONGEST = 22
"""Characters of a label that fit a box."""


@dataclass(frozen=True)
class StepGraph:
    """Ops by name with their types, and edges from what makes a value to what reads it."""

    ops: dict[str, str]
    edges: tuple[tuple[str, str], ...]
    fetched: frozenset[str]


def graph_of(text: str, fetches: Sequence[str], feeds: Sequence[str] = ()) -> StepGraph:
    """The graph of a pruned step's text (with names); a branch or a loop is one box."""
    ops: dict[str, str] = {}
    edges: dict[tuple[str, str], None] = {}
    for name, group in parse_names(text, feeds).ops.items():
        if group[0].depth:
            continue
        for source in (ref for op in group for ref in op.inputs):
            start = source.rpartition(":")[0] if source not in feeds else source
            if not start or start not in ops:
                start = source
                ops.setdefault(start, "feed" if source in feeds else "variable")
            if start != name:
                edges[start, name] = None
        ops[name] = group[-1].op
    return StepGraph(ops, tuple(edges), frozenset(name.partition(":")[0] for name in fetches))


def dot(graph: StepGraph) -> str:
    """The graph in Graphviz's language."""
    lines = ["digraph step {", "  node [shape=box, fontname=sans, fontsize=10]"]
    for name, op in graph.ops.items():
        style = ", style=filled, fillcolor=lightgrey" if name in graph.fetched else ""
        lines.append(f"  {_quote(name)} [label={_quote(f'{name}{chr(10)}{op}')}{style}]")
    lines += [f"  {_quote(a)} -> {_quote(b)}" for a, b in graph.edges]
    return "\n".join([*lines, "}", ""])


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def svg(graph: StepGraph) -> str:
    """The graph as an SVG document."""
    places = _places(graph)
    width = 2 * _MARGIN + max((x for x, _ in places.values()), default=0) + _WIDTH
    height = 2 * _MARGIN + max((y for _, y in places.values()), default=0) + _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        '<defs><marker id="end" orient="auto" markerWidth="8" markerHeight="8" refX="7" refY="3">'
        '<path d="M0,0 L7,3 L0,6 z" fill="#777"/></marker></defs>',
    ]
    for a, b in graph.edges:
        (x1, y1), (x2, y2) = places[a], places[b]
        x1, y1, x2, y2 = (_MARGIN + v for v in (x1 + _WIDTH // 2, y1 + _HEIGHT, x2 + _WIDTH // 2, y2))
        bend = (y1 + y2) // 2
        parts.append(
            f'<path d="M{x1},{y1} C{x1},{bend} {x2},{bend} {x2},{y2}" fill="none" stroke="#777" '
            'marker-end="url(#end)"/>'
        )
    for name, (x, y) in places.items():
        fill = "#ffe9a8" if name in graph.fetched else "#eef3fa"
        parts.append(_box(name, graph.ops[name], x + _MARGIN, y + _MARGIN, fill))
    return "\n".join([*parts, "</svg>", ""])


def _box(name: str, op: str, x: int, y: int, fill: str) -> str:
    middle = x + _WIDTH // 2
    return (
        f'<g><title>{html.escape(name)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" '
        f'fill="{fill}" stroke="#888"/><text x="{middle}" y="{y + 14}" text-anchor="middle" font-weight="bold">'
        f'{html.escape(_cut(op))}</text><text x="{middle}" y="{y + 27}" text-anchor="middle">'
        f"{html.escape(_cut(name))}</text></g>"
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else "…" + text[1 - _LONGEST :]


def _places(graph: StepGraph) -> dict[str, tuple[int, int]]:
    """Each op below all that it reads, near the middle of them; ops stand in the order in which they run."""
    sources: dict[str, list[str]] = {name: [] for name in graph.ops}
    for a, b in graph.edges:
        sources[b].append(a)
    row: dict[str, int] = {}
    layers: dict[int, list[str]] = {}
    for name in graph.ops:
        row[name] = 1 + max((row[source] for source in sources[name]), default=-1)
        layers.setdefault(row[name], []).append(name)
    column: dict[str, float] = {}
    for _, layer in sorted(layers.items()):
        middle = {name: sum(column[s] for s in sources[name]) / max(1, len(sources[name])) for name in layer}
        free = 0.0
        for name in sorted(layer, key=lambda name: (middle[name], name)):
            column[name] = max(free, middle[name])
            free = column[name] + 1
    return {name: (round(column[name] * (_WIDTH + _GAP_X)), row[name] * (_HEIGHT + _GAP_Y)) for name in graph.ops}
