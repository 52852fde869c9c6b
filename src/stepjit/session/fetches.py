"""What may be fetched: any nesting of tensors and ops, and how the results are put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.tensor import Operation, Tensor
from stepjit.session.handles import TensorHandle
from stepjit_runtime import abi
from stepjit_runtime.errors import InaccessibleTensorError
from stepjit_runtime.executable import Layout
from stepjit_runtime.tensor_store import TensorStore

if TYPE_CHECKING:
    from stepjit.framework.graph import Graph


class IndexedSlicesValue(NamedTuple):
    """Fetched IndexedSlices: rows `values` that belong at `indices`; `dense_shape` may be None."""

    values: Any
    indices: Any
    dense_shape: Any


_HANDLE_OPS = ("GetSessionHandle", "GetSessionHandleV2")

Rebuild = Callable[[Sequence[Any]], Any]
"""From the results by number to the structure that was asked for."""


class Fetches:
    """A fetch structure: the distinct tensors and ops in it, and how to rebuild it from the tensors' values."""

    def __init__(self, graph: Graph, structure: Any, tensors: TensorStore | None = None) -> None:
        """`tensors` are the session's that fetched handles stand for; without, handles are left as text."""
        self._graph, self._tensors = graph, tensors
        self._numbers: dict[Tensor, int] = {}
        self._targets: dict[Operation, None] = {}
        self._leaves: list[int] = []
        self._kind = abi.PACK_SINGLE
        self.rebuild = self._map(structure)
        self._handles = [] if tensors is None else [t for t in self._numbers if t.op.type in _HANDLE_OPS]
        if self._handles:
            self.rebuild = self._with_handles(self.rebuild)
        self._flat = self._is_flat(structure)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(self._numbers)

    @property
    def targets(self) -> tuple[Operation, ...]:
        return tuple(self._targets)

    def layout(self) -> Layout | None:
        """How native code packs the results by itself; None where the structure is more than a flat list or tuple."""
        return Layout(self._kind, tuple(self._leaves)) if self._flat and not self._handles else None

    def _with_handles(self, rebuild: Rebuild) -> Rebuild:
        def wrapped(values: Sequence[Any]) -> Any:
            values = list(values)
            for tensor in self._handles:
                number = self._numbers[tensor]
                assert self._tensors is not None
                dtype = tensor.op.inputs[0].dtype.base_dtype
                values[number] = TensorHandle(bytes(values[number]).decode(), dtype, self._tensors)
            return rebuild(values)

        return wrapped

    def _is_flat(self, structure: Any) -> bool:
        if type(structure) in (list, tuple):
            self._kind = abi.PACK_LIST if type(structure) is list else abi.PACK_TUPLE
            return len(self._leaves) == len(structure) and all(map(self.is_leaf, structure))
        return self.is_leaf(structure) and len(self._leaves) == 1

    @staticmethod
    def is_leaf(fetch: Any) -> bool:
        """Whether the fetch is one tensor, op, variable or name rather than a structure."""
        return isinstance(fetch, (Tensor, Operation, str, bytes)) or hasattr(fetch, "_as_graph_element")

    @staticmethod
    def is_fixed(fetch: Any) -> bool:
        """Whether the fetch stands for the same tensors as long as it lives."""
        return Fetches.is_leaf(fetch) or isinstance(fetch, IndexedSlices) or hasattr(fetch, "_fetch_components")

    def _map(self, fetch: Any) -> Rebuild:
        if fetch is None:
            raise TypeError("Argument `fetch` = None has invalid type \"NoneType\". Cannot be None")
        if isinstance(fetch, (list, tuple)):
            return self._map_sequence(fetch)
        if isinstance(fetch, Mapping):
            return self._map_mapping(fetch)
        if hasattr(type(fetch), "__attrs_attrs__"):
            fields = [getattr(fetch, field.name) for field in type(fetch).__attrs_attrs__]
            parts = [self._map(each) for each in fields]
            return lambda values: type(fetch)(*[part(values) for part in parts])
        if isinstance(fetch, IndexedSlices):
            return self._map_slices(fetch)
        if hasattr(fetch, "_fetch_components"):
            components, build = fetch._fetch_components()
            parts = [self._map(each) for each in components]
            return lambda values: build(*[part(values) for part in parts])
        return self._map_leaf(fetch)

    def _map_sequence(self, fetch: Sequence[Any]) -> Rebuild:
        parts = [self._map(each) for each in fetch]
        if isinstance(fetch, list):
            return lambda values: [part(values) for part in parts]
        if hasattr(fetch, "_fields"):
            return lambda values: type(fetch)(*[part(values) for part in parts])
        return lambda values: tuple(part(values) for part in parts)

    def _map_mapping(self, fetch: Mapping[Any, Any]) -> Rebuild:
        parts = {key: self._map(each) for key, each in fetch.items()}
        factory = getattr(fetch, "default_factory", None)
        if factory is not None:
            kind: Any = type(fetch)
            return lambda values: kind(factory, [(key, part(values)) for key, part in parts.items()])
        made: Any = type(fetch)
        return lambda values: made([(key, part(values)) for key, part in parts.items()])

    def _map_slices(self, fetch: IndexedSlices) -> Rebuild:
        parts = [self._map(fetch.values), self._map(fetch.indices)]
        shape = None if fetch.dense_shape is None else self._map(fetch.dense_shape)
        return lambda values: IndexedSlicesValue(
            parts[0](values), parts[1](values), None if shape is None else shape(values)
        )

    def _map_leaf(self, fetch: Any) -> Rebuild:
        try:
            found = self._graph.as_graph_element(fetch)
        except TypeError as error:
            raise TypeError(
                f"Argument `fetch` = {fetch} has invalid type \"{type(fetch).__name__}\" must be a string or Tensor. "
                f"({error})"
            ) from None
        except (ValueError, KeyError) as error:
            text = error.args[0] if error.args else ""
            raise ValueError(
                f"Argument `fetch` = {fetch} cannot be interpreted as a Tensor. ({text})"
            ) from None
        if not self._graph.is_fetchable(found):
            raise InaccessibleTensorError(f"{found!r} is not fetchable: it has been marked as not fetchable")
        if isinstance(found, Operation):
            self._targets[found] = None
            self._leaves.append(-1)
            return lambda values: None
        number = self._numbers.setdefault(found, len(self._numbers))
        self._leaves.append(number)
        return lambda values: values[number]
