"""Regions, the Steps inside nodes: finding them, and putting a region into other surroundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Node, Step, Type

CONTROL = ("_If", "_While")


def regions_of(node: Node) -> list[tuple[str, Step]]:
    """(attr, region) of a node, by name."""
    return [(name, value) for name, value in node.attrs if type(value) is Step] if node.op in CONTROL else []


def with_regions(node: Node, change: Callable[[str, Step], Step]) -> Node:
    """The node with every region as `change(attr, region)` gives it."""
    attrs = tuple((name, change(name, value) if type(value) is Step else value) for name, value in node.attrs)
    return replace(node, attrs=attrs)


def has_effect(node: Node) -> bool:
    """Whether running the node shows beyond its results: on the host, or in a stream of random numbers."""
    if node.op in CONTROL:
        return any(map(has_effects, (region for _, region in regions_of(node))))
    op = opdef.lookup(node.op)
    return op is not None and op.stateful


def has_effects(step: Step) -> bool:
    return any(map(has_effect, step.nodes))


def has_hosts(step: Step) -> bool:
    """Whether Python runs some of the step, or of its regions."""
    return any(node.host or any(has_hosts(region) for _, region in regions_of(node)) for node in step.nodes)


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows as one array; where their shapes differ, each in the corner of one with room for all."""
    if all(row.shape == rows[0].shape for row in rows):
        return np.stack(rows)
    found = np.zeros((len(rows), *np.max([row.shape for row in rows], axis=0)), rows[0].dtype)
    for place, row in zip(found, rows):
        place[tuple(map(slice, row.shape))] = row
    return found


def required(step: Step) -> set[int]:
    """The slots that must hold a value when the step begins."""
    return {node.attr["slot"] for node in step.nodes if node.op == "_Read" and not node.attr.get("unsure")}


def asked(region: Step) -> set[str]:
    """Symbols that the region uses beside values that have them."""
    extents = [extent for check in region.checks for extent in (check.a, check.b)]
    for node in region.nodes:
        extents += node.attr["dims"] if node.op == "_Dims" else ()
    names = {name for extent in extents for name in dims.symbols(extent)}
    return names.union(*(asked(inner) for node in region.nodes for _, inner in regions_of(node)))


def parameters(node: Node, old: Sequence[Type], new: Sequence[Type]) -> list[Type]:
    """What the feeds of the node's regions become when its inputs, of types `old`, are of types `new`."""
    if node.op == "_If":
        return list(new[1:])
    feeds = node.attr["body"].feeds
    taken = [name for type_ in new for extent in type_.dims for name in dims.symbols(extent)]
    number = max([_late_number(name) for name in taken], default=0)
    found = []
    for feed, before, after in zip(feeds, old, new, strict=True):
        extents: list[Extent] = []
        for own, was, now in zip(feed.dims, before.dims, after.dims, strict=True):
            if own != was:
                # It changes from trip to trip, so it has a name that only the region knows.
                number += 1
                now = dims.symbol(f"h{number}")
            extents.append(now)
        found.append(Type(after.dtype, tuple(extents)))
    return found


def first_born(feeds: Sequence[Type]) -> int:
    """How many late extents a region with these feeds has before its own."""
    names = (name for type_ in feeds for extent in type_.dims for name in dims.symbols(extent))
    return max(map(_late_number, names), default=0)


def _late_number(name: str) -> int:
    return int(name[1:]) if name[0] == "h" and name[1:].isdigit() else 0


def retyped(region: Step, feeds: Sequence[Type], names: Mapping[str, Extent]) -> Step:
    """The region over other feeds, with other extents for the symbols of its old ones; nodes' types are left as is."""
    known = {name for type_ in region.feeds for extent in type_.dims for name in dims.symbols(extent)}
    mine: dict[str, Extent] = {}
    for old, new in zip(region.feeds, feeds, strict=True):
        for was, now in zip(old.dims, new.dims, strict=True):
            if isinstance(was, Dim) and was is dims.symbol(str(was)):
                mine.setdefault(str(was), now)
    mine = {name: extent for name, extent in names.items() if name in known} | mine
    mine = {name: extent for name, extent in mine.items() if str(extent) != name}
    if not mine:
        return region if tuple(feeds) == region.feeds else replace(region, feeds=tuple(feeds))
    checks = tuple(check.substitute(mine) for check in region.checks)
    nodes = tuple(renamed(node, mine) for node in region.nodes)
    return replace(region, nodes=nodes, feeds=tuple(feeds), checks=checks)


def renamed(node: Node, names: Mapping[str, Extent]) -> Node:
    """The node with other extents for symbols, in its types, attrs and regions."""
    types = node.types
    if any(extent.__class__ is not int for type_ in types for extent in type_.dims):
        types = tuple(type_.substitute(names) for type_ in types)
    if node.op == "_Dims":
        flat = tuple(dims.substitute(extent, names) for extent in node.attr["dims"])
        return replace(node, attrs=(("dims", flat),), types=types)
    if node.op in CONTROL:
        names = {name: extent for name, extent in names.items() if name not in _own_symbols(node)}
        return replace(with_regions(node, lambda name, region: _inside(region, names)), types=types)
    return node if types == node.types else node.changed(types=types)


def _own_symbols(node: Node) -> set[str]:
    """The symbols of a loop's extents that change from trip to trip: others around it may have the same names."""
    if node.op != "_While":
        return set()
    pairs = zip(node.attr["body"].feeds, node.types)
    return {str(own) for feed, type_ in pairs for own, after in zip(feed.dims, type_.dims) if own != after}


def _inside(region: Step, names: Mapping[str, Extent]) -> Step:
    return retyped(region, [type_.substitute(names) for type_ in region.feeds], names)
