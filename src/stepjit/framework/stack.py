"""Stacks of defaults (graphs, sessions), one per thread, with TF's rule that blocks end in the order they began."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from stepjit.framework.graph import Graph

T = TypeVar("T")


class DefaultStack(threading.local, Generic[T]):
    """The objects that are the default of this thread, innermost last."""

    def __init__(self) -> None:
        self.items: list[T] = []

    def top(self) -> T | None:
        return self.items[-1] if self.items else None

    def is_cleared(self) -> bool:
        return not self.items

    def enter(self, item: T) -> Entered[T]:
        """A block in which `item` is the default; AssertionError when blocks end out of order."""
        return Entered(self, item)


class Entered(Generic[T]):
    """One use of a default: a context manager that gives the object."""

    __slots__ = ("_items", "enforce_nesting", "item", "stack")

    def __init__(self, stack: DefaultStack[T], item: T) -> None:
        self.stack, self.item, self.enforce_nesting = stack, item, True
        self._items = stack.items

    def __enter__(self) -> T:
        self._items = self.stack.items
        self._items.append(self.item)
        return self.item

    def __exit__(self, *error: Any) -> None:
        # Those of the thread that entered: sessions for shells may be closed by another one.
        items = self._items
        if not items:
            return
        if items[-1] is self.item:
            items.pop()
        elif self.enforce_nesting:
            raise AssertionError(f"Nesting violated for default stack of {type(self.item)} objects")
        elif self.item in items:
            # The innermost entry of the object is the one that this block made.
            del items[len(items) - 1 - items[::-1].index(self.item)]


class _Root(threading.local):
    graph: Graph | None = None


default_graphs: DefaultStack[Graph] = DefaultStack()
_root = _Root()


def get_default_graph() -> Graph:
    """The graph of the innermost block, or the thread's own."""
    items = default_graphs.items
    if items:
        return items[-1]
    graph = _root.graph
    if graph is None:
        reset_default_graph()
        graph = _root.graph
        assert graph is not None
    return graph


def reset_default_graph() -> None:
    """Replace the thread's default graph by an empty one; AssertionError inside a graph or session block."""
    from stepjit.framework.graph import Graph

    if default_graphs.items:
        raise AssertionError("tf.reset_default_graph() can't clear nested graphs: leave the blocks first")
    _root.graph = Graph()
