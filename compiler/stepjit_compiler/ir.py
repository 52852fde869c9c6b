"""Step IR: the frozen, functional form of a step.

A Step is a list of nodes in topological order; `Ref(node, output)` names a value. Nodes carry TF's op types, plus

    _Feed {index}        the value of a feed
    _Read {slot}         what a slot (a variable) holds when the step begins; attr `unsure`: it may hold nothing
    _Initialized {slot}  whether it holds anything
    _Dims {dims}         an integer vector, or scalar, of extents that are known when the step begins

State is functional: what a slot holds when the step ends is listed in `writes`, so nodes have no order but that of
their data; nodes with effects on the host keep theirs through `after`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent, Shape
from stepjit_runtime.cached_property import cached_property
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import OpFailure

INLINE_BYTES = 1024
"""Constants up to this size are part of the code; larger ones are data beside it."""


class Ref(NamedTuple):
    """Output number `output` of node number `node`."""

    node: int
    output: int


class Type(NamedTuple):
    """A dtype and a shape of known rank; extents are ints or Dims."""

    dtype: DType
    dims: Shape

    def __str__(self) -> str:
        return f"{self.dtype.code}[{','.join(map(str, self.dims))}]"

    @property
    def size(self) -> Extent:
        """How many elements."""
        return dims.product(self.dims)

    @property
    def bytes(self) -> Extent:
        return self.size * self.dtype.size

    def substitute(self, values: Mapping[str, Extent]) -> Type:
        if all(isinstance(extent, int) for extent in self.dims):
            return self
        return Type(self.dtype, tuple(dims.substitute(extent, values) for extent in self.dims))


class Literal:
    """A constant array as a hashable value."""

    __slots__ = ("_key", "array")

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.array(array, order="C", copy=array.flags.writeable or not array.flags.c_contiguous)
        self.array.flags.writeable = False
        self._key: tuple[Any, ...] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        if self._key is None:
            data: Any = tuple(self.array.ravel()) if self.array.dtype == object else self.array.tobytes()
            if len(data) > INLINE_BYTES and isinstance(data, bytes):
                data = hashlib.blake2b(data, digest_size=16).hexdigest()
            self._key = (self.array.dtype.str, self.array.dtype.name, self.array.shape, data)
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"Literal({self.array!r})"


def is_splat(array: np.ndarray) -> bool:
    """Whether all elements are the same bits."""
    if array.dtype == object or array.size == 0:
        return False
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, -1)
    return bool((data == data[0]).all())


Attrs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Node:
    """One op of the step; `origin` is the number of the graph op it comes from, `host` says that Python runs it."""

    op: str
    inputs: tuple[Ref, ...]
    attrs: Attrs
    types: tuple[Type, ...]
    after: tuple[int, ...] = ()
    origin: int = -1
    host: bool = False

    @cached_property
    def attr(self) -> dict[str, Any]:
        return dict(self.attrs)

    def changed(self, **fields: Any) -> Node:
        """The node with other values in some fields: `dataclasses.replace`, at a fifth of its cost."""
        node: Node = object.__new__(Node)
        mine = node.__dict__
        mine.update(self.__dict__)
        mine.update(fields)
        if "attrs" in fields:
            mine.pop("attr", None)
        return node


class StepFailure(Exception):
    """A step can't run, or did not: `origin` is the number of the graph op to blame, `failure` what is wrong."""

    def __init__(self, origin: int, failure: OpFailure) -> None:
        super().__init__(f"op @{origin}: {failure.message}")
        self.origin, self.failure = origin, failure


@dataclass(frozen=True, slots=True)
class Slot:
    """A piece of session state: `kind` is `variable` or `stream` (of random numbers); `origin` the op that names it."""

    kind: str
    type: Type
    origin: int


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold when the step begins: `a == b` (`eq`), `a >= b` (`ge`) or `a % b == 0` (`divides`)."""

    holds: str
    a: Extent
    b: Extent
    message: str
    origin: int

    def substitute(self, values: Mapping[str, Extent]) -> Check:
        """The check with other extents for symbols, in its message (where they stand in braces) too."""

        def told(match: re.Match[str]) -> str:
            return f"{{{dims.substitute(dims.parse(match[1]), values)}}}"

        message = re.sub(r"\{([^{}]+)\}", told, self.message)
        a, b = dims.substitute(self.a, values), dims.substitute(self.b, values)
        return Check(self.holds, a, b, message, self.origin)

    def fails(self, values: Mapping[str, int]) -> bool:
        a, b = dims.evaluate(self.a, values), dims.evaluate(self.b, values)
        return not (a == b if self.holds == "eq" else a >= b if self.holds == "ge" else b != 0 and a % b == 0)


@dataclass(frozen=True)
class Step:
    """A pruned step; see the module's docstring."""

    nodes: tuple[Node, ...]
    feeds: tuple[Type, ...]
    """Types of the feeds; each unknown extent of each feed is a symbol of its own, `s<feed>_<axis>`."""
    fetches: tuple[Ref, ...]
    writes: tuple[tuple[int, Ref], ...] = ()
    """(slot, value): what slots hold after the step."""
    targets: tuple[int, ...] = ()
    """Nodes that run for their effect alone."""
    slots: tuple[Slot, ...] = ()
    checks: tuple[Check, ...] = ()
    names: tuple[str, ...] = field(default=(), compare=False)
    """Names of the graph ops by origin: a side table, no part of the step's meaning."""

    def type(self, ref: Ref) -> Type:
        return self.nodes[ref[0]].types[ref[1]]

    def results(self) -> list[Type]:
        """The types of the fetches."""
        return [self.type(ref) for ref in self.fetches]

    def refs(self) -> Iterator[tuple[Ref, Type]]:
        """All values with their types, in order."""
        for i, node in enumerate(self.nodes):
            for k, type_ in enumerate(node.types):
                yield Ref(i, k), type_

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """By node: the nodes that read one of its outputs, ascending."""
        found: list[dict[int, None]] = [{} for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for ref in node.inputs:
                found[ref.node][i] = None
        return tuple(tuple(each) for each in found)

    def roots(self) -> list[int]:
        """The nodes that the step exists for."""
        wanted = [ref.node for ref in self.fetches] + [ref.node for _, ref in self.writes] + list(self.targets)
        return list(dict.fromkeys(wanted))

    def without_dead(self) -> Step:
        """The step less the nodes that nothing needs; renumbered."""
        live = [False] * len(self.nodes)
        for root in self.roots():
            live[root] = True
        for i in range(len(self.nodes) - 1, -1, -1):
            if live[i]:
                for ref in self.nodes[i].inputs:
                    live[ref.node] = True
                for j in self.nodes[i].after:
                    live[j] = True
        if all(live):
            return self
        place: dict[int, int] = {}
        nodes: list[Node] = []
        first = live.index(False)
        for i, node in enumerate(self.nodes):
            if live[i]:
                place[i] = len(nodes)
                if i > first:
                    inputs = tuple([Ref(place[n], k) for n, k in node.inputs])
                    node = node.changed(inputs=inputs, after=tuple([place[j] for j in node.after]))
                nodes.append(node)
        return self.over(nodes, lambda ref: Ref(place[ref[0]], ref[1]), [place[n] for n in self.targets])

    def over(self, nodes: Iterable[Node], moved: Callable[[Ref], Ref], targets: Iterable[int]) -> Step:
        """The step with other nodes: `moved` tells what stands for a value of its own, `targets` are the new ones."""
        return replace(
            self,
            nodes=tuple(nodes),
            fetches=tuple(map(moved, self.fetches)),
            writes=tuple((slot, moved(ref)) for slot, ref in self.writes),
            targets=tuple(targets),
        )


def born(node: Node) -> list[tuple[str, int, int]]:
    """(symbol, output, axis) for each extent that only the host op's result will tell."""
    if not node.host:
        return []
    return [
        (str(extent), k, axis)
        for k, type_ in enumerate(node.types)
        for axis, extent in enumerate(type_.dims)
        if isinstance(extent, Dim) and str(extent).startswith("h") and str(extent)[1:].isdigit()
    ]
