"""The streams of random numbers that a program draws from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit_runtime.random_stream import RandomStream
from stepjit_runtime.resources import Resources


def streams_of(slots: Sequence[Any], owners: Sequence[Any], resources: Resources) -> dict[int, RandomStream]:
    """By slot of a manifest: the session's stream of the graph op that draws from it; `owners` are the slots' ops."""
    return {k: stream_of(owners[k], resources) for k, slot in enumerate(slots) if slot.kind == "stream"}


def stream_of(op: Any, resources: Resources) -> RandomStream:
    """The session's stream of a graph op, made at the first call."""
    seeds = op.attrs.get("seed", 0), op.attrs.get("seed2", 0)
    found: RandomStream = resources.stream(op, lambda: RandomStream(*seeds))
    return found
