"""Values that consist of several tensors, as branches and loops take them apart and put them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Split = Callable[[Any], list[Any]]
Join = Callable[[Any, Sequence[Any]], Any]

_KINDS: dict[type, tuple[Split, Join, Callable[[Any], int]]] = {}


def register_composite(kind: type, split: Split, join: Join, count: Callable[[Any], int] | None = None) -> None:
    """Let values of a type consist of `split(value)`; `join(value, tensors)` is one like `value` of other tensors.

    count: how many tensors there are, where splitting is more than a look.
    """
    _KINDS[kind] = split, join, count or (lambda value: len(split(value)))


def is_composite(value: Any) -> bool:
    """Whether a value consists of several tensors."""
    return type(value) in _KINDS


def split(value: Any) -> list[Any]:
    """The tensors that a composite value consists of."""
    return _KINDS[type(value)][0](value)


def count(value: Any) -> int:
    """How many tensors a composite value consists of."""
    return _KINDS[type(value)][2](value)


def join(value: Any, tensors: Sequence[Any]) -> Any:
    """A composite like `value` that consists of other tensors."""
    return _KINDS[type(value)][1](value, tensors)
