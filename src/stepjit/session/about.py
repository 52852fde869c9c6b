"""A step in the user's words, for logs and for the entry of the compile cache: names, the line, why it was compiled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from stepjit import __version__
from stepjit.framework import source
from stepjit_compiler.store import About

if TYPE_CHECKING:
    from stepjit.session.steps import SessionStep


def about_step(step: SessionStep, ops: Sequence[Any], signature: Sequence[Any]) -> About:
    """What to say of a step that is being compiled for a signature; `ops` are those that it needs."""
    fetches = [*(tensor.name for tensor in step.fetches), *(op.name for op in step.targets)]
    return About(
        tuple(fetches),
        tuple(tensor.name for tensor in step.feeds),
        step.session.graph.version,
        len(ops),
        source.line(source.user_place()),
        __version__,
        _why(step, signature, list(step.variants)),
    )


def _why(step: SessionStep, signature: Sequence[Any], before: Sequence[Any]) -> str:
    if step.traced:
        return "traced"
    if not before:
        return "first of these fetches and feeds"
    # The variant that differs least tells most.
    candidates = [list(_differences(step, signature, old)) for old in before]
    differing = min(candidates, key=lambda found: (sum("rank" in each for each in found), len(found)))
    return "; ".join(differing) or "a variable has another shape now"


def _differences(step: SessionStep, new: Sequence[Any], old: Sequence[Any]) -> Iterable[str]:
    for tensor, here, there in zip(step.feeds, new, old):
        if len(here) != len(there):
            yield f"feed '{tensor.name}': rank {len(here)} now, {len(there)} before"
            continue
        for axis, (a, b) in enumerate(zip(here, there)):
            if a != b:
                yield f"feed '{tensor.name}': axis {axis} is {_extent(a)} now, {_extent(b)} before"


def _extent(extent: int | None) -> str:
    return "any" if extent is None else str(extent)
