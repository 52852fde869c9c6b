"""What variables do by rows and elements, as methods: read some, change some."""

from __future__ import annotations

from typing import Any

from stepjit.framework.tensor import Tensor
from stepjit.ops import state


class RowMethods:
    """Base of variables. `sparse_delta` is an IndexedSlices: values, and the rows that they are meant for."""

    def scatter_sub(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Subtract IndexedSlices."""
        return state.scatter_sub(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def scatter_add(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Add IndexedSlices."""
        return state.scatter_add(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def scatter_max(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Take the larger of rows and IndexedSlices."""
        return state.scatter_max(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def scatter_min(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Take the smaller of rows and IndexedSlices."""
        return state.scatter_min(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def scatter_mul(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Multiply rows by IndexedSlices."""
        return state.scatter_mul(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def scatter_div(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Divide rows by IndexedSlices."""
        return state.scatter_div(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def scatter_update(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Replace rows by IndexedSlices."""
        return state.scatter_update(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def batch_scatter_update(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Any:
        """Replace rows by IndexedSlices whose indices are told for each batch, see `tf.batch_scatter_update`."""
        return state.batch_scatter_update(self, sparse_delta.indices, sparse_delta.values, use_locking, name)

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Subtract `updates` at index tuples."""
        return state.scatter_nd_sub(self, indices, updates, name=name)

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Add `updates` at index tuples."""
        return state.scatter_nd_add(self, indices, updates, name=name)

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Any:
        """Replace what is at index tuples."""
        return state.scatter_nd_update(self, indices, updates, name=name)

    def count_up_to(self, limit: int) -> Tensor:
        """See `tf.count_up_to`."""
        return state.count_up_to(self, limit)

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """Rows `indices` of the value."""
        from stepjit.ops.indexing import gather

        return gather(self, indices, name=name)

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        """The elements or slices of the value at index tuples."""
        return state.gather_nd(self, indices, name)
