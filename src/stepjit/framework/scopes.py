"""The blocks that ops are made in: name scopes, control dependencies, devices, colocation, attrs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from stepjit.framework import device as devices
from stepjit.framework.stack import Entered, default_graphs, get_default_graph
from stepjit.framework.tensor import Operation, Tensor

if TYPE_CHECKING:
    from stepjit.framework.graph import Graph


class NameScope:
    """A block with a name prefix; entering gives `"prefix/"`, or `""` at the root."""

    __slots__ = ("graph", "name", "outer")

    def __init__(self, graph: Graph, name: str | None) -> None:
        self.graph, self.name = graph, name
        self.outer = ""

    def __enter__(self) -> str:
        local = self.graph.local
        scope = self.graph.open_scope(self.name)
        self.outer, local.scope = local.scope, scope
        return scope + "/" if scope else ""

    def __exit__(self, *error: Any) -> None:
        self.graph.local.scope = self.outer


class name_scope:  # noqa: N801 - the public name
    """A block with a name prefix in the graph of `values`, else the default one; gives `"prefix/"`.

    `default_name` serves when `name` is None; both None without values means the root. ValueError when values are
    given and no name is.
    """

    __slots__ = ("_default_name", "_entered", "_graph", "_outer", "_values", "name")

    def __init__(self, name: str | None, default_name: str | None = None, values: Any = None) -> None:
        for each in (name, default_name):
            if each is not None and not isinstance(each, str):
                raise TypeError(f"a scope's name must be a string or None, not {each!r}; pass values by keyword")
        self.name, self._default_name, self._values = name, default_name, values
        self._entered: Entered[Graph] | None = None

    def __enter__(self) -> str:
        name = self.name if self.name is not None else self._default_name
        values = self._values
        if name is None and values is not None:
            raise ValueError("At least one of name (None) and default_name (None) must be provided.")
        graph = get_default_graph()
        if values and not graph.is_function:
            found = graph_of(values)
            if found is not None and found is not graph and not found.is_function:
                graph = found
                self._entered = default_graphs.enter(graph)
                self._entered.__enter__()
        try:
            scope = graph.open_scope(name)
        except ValueError:
            if self._entered is not None:
                self._entered.__exit__()
            raise
        self._graph = graph
        local = graph.local
        self._outer, local.scope = local.scope, scope
        return scope + "/" if scope else ""

    def __exit__(self, *error: Any) -> None:
        self._graph.local.scope = self._outer
        if self._entered is not None:
            self._entered.__exit__()


def graph_of(values: Iterable[Any]) -> Graph | None:
    """The graph of the first tensor, op or such among `values`."""
    for value in values:
        if isinstance(value, Tensor):
            return value.op.graph
        if isinstance(value, Operation):
            return value.graph
        if isinstance(value, (list, tuple)):
            found = graph_of(value)
            if found is not None:
                return found
        elif hasattr(value, "_as_graph_element"):
            return value._as_graph_element().graph
    return None


def control_dependencies(control_inputs: Any) -> ControlScope:
    """A block of the default graph whose ops wait for all of `control_inputs` (None: clears the outer blocks)."""
    return get_default_graph().control_dependencies(control_inputs)


def device(device_name_or_function: Any) -> DeviceScope:
    """A block of the default graph whose ops go to a device (None: clears the outer blocks)."""
    return get_default_graph().device(device_name_or_function)


def colocate_with(op: Any, ignore_existing: bool = False) -> ColocateScope:
    """A block of the default graph whose ops go where `op` is."""
    return get_default_graph().colocate_with(op, ignore_existing)


def container(container_name: str) -> AttrScope:
    """A block of the default graph whose stateful ops use the resource container of that name."""
    return get_default_graph().container(container_name)


class ControlScope:
    """A block whose ops wait for `ops`; with None the outer blocks are forgotten inside."""

    __slots__ = ("clears", "graph", "ops", "outer", "seen")

    def __init__(self, graph: Graph, ops: Sequence[Operation] | None) -> None:
        self.graph = graph
        self.clears = ops is None
        self.ops: Sequence[Operation] = ops or ()
        self.seen: set[Operation] = set()
        """The ops made inside."""
        self.outer: tuple[ControlScope, ...] = ()

    def __enter__(self) -> ControlScope:
        local = self.graph.local
        self.outer = local.controls
        local.controls = () if self.clears else (*local.controls, self)
        self.graph._refresh_plain()
        return self

    def __exit__(self, *error: Any) -> None:
        self.graph.local.controls = self.outer
        self.graph._refresh_plain()


class DeviceScope:
    """A block whose ops go to a device."""

    __slots__ = ("device", "graph", "outer")

    def __init__(self, graph: Graph, device: Any) -> None:
        self.graph = graph
        if device is None or callable(device):
            self.device = device
        else:
            self.device = devices.canonical(devices.as_text(device))
        self.outer: tuple[Any, ...] = ()

    def __enter__(self) -> None:
        local = self.graph.local
        self.outer, local.devices = local.devices, (*local.devices, self.device)
        self.graph._refresh_plain()

    def __exit__(self, *error: Any) -> None:
        self.graph.local.devices = self.outer
        self.graph._refresh_plain()


class ColocateScope:
    """A block whose ops go where `op` is."""

    __slots__ = ("graph", "ignore_existing", "op", "outer")

    def __init__(self, graph: Graph, op: Any, ignore_existing: bool) -> None:
        self.graph, self.ignore_existing = graph, ignore_existing
        if op is None and not ignore_existing:
            raise ValueError("Trying to reset colocation (op is None) but ignore_existing is not True")
        found = None if op is None else graph.as_graph_element(op)
        self.op: Operation | None = getattr(found, "op", found)
        self.outer: tuple[Any, Any] = ((), ())

    def __enter__(self) -> None:
        local = self.graph.local
        self.outer = local.colocated, local.devices
        kept = () if self.ignore_existing else local.colocated
        local.colocated = kept if self.op is None else (*kept, self.op)
        if self.op is not None:
            # A device block outside has no say; one inside the colocation has.
            local.devices = ()
        self.graph._refresh_plain()

    def __exit__(self, *error: Any) -> None:
        self.graph.local.colocated, self.graph.local.devices = self.outer
        self.graph._refresh_plain()


class AttrScope:
    """A block whose ops get attrs: canonical values, or functions of the op that give one or None."""

    __slots__ = ("attrs", "graph", "outer", "overrides")

    def __init__(self, graph: Graph, attrs: dict[str, Any], overrides: dict[str, str] | None = None) -> None:
        self.graph, self.attrs, self.overrides = graph, attrs, overrides
        self.outer: tuple[Any, Any] = ({}, {})

    def __enter__(self) -> None:
        local = self.graph.local
        self.outer = local.attrs, getattr(local, "overrides", {})
        local.attrs = {name: value for name, value in {**local.attrs, **self.attrs}.items() if value is not None}
        if self.overrides is not None:
            local.overrides = self.overrides
        self.graph._refresh_plain()

    def __exit__(self, *error: Any) -> None:
        self.graph.local.attrs, self.graph.local.overrides = self.outer
        self.graph._refresh_plain()
